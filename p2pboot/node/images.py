"""Images as something that the node follows: what the catalogue wants is fetched whole, and then put into force."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import trio
from typing_extensions import override

from p2pboot.core.events import Event
from p2pboot.core.identity import PublicKey
from p2pboot.core.manifest import Manifest
from p2pboot.core.problems import Code, Problem
from p2pboot.errors import Contradiction, MachineError, P2PBootError, SignatureError
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.receiving.artifacts import fetch_artifacts, of_each_content
from p2pboot.fetch.receiving.swarm import Network
from p2pboot.fetch.receiving.view import ArtifactOnItsWay, FetchView
from p2pboot.node.bringing import LoggedProgress, Watch, nobody_watches
from p2pboot.node.mirroring import Followed, Item, check_sizes, patient_network
from p2pboot.node.syncing import find_detached
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.errors import StoreFull
from p2pboot.store.former import FormerVersions
from p2pboot.store.manifests import HeadRow
from p2pboot.store.room import AUTO
from p2pboot.store.store import Store
from p2pboot.transport.interface import Transport

log = logging.getLogger(__name__)

_DETACHED_TIMEOUT_S: Final = 3.0  # the head waits for it: a mute peer must not hold it back for long
_REMEMBERED: Final = 256  # liars; manifests


class Images(Followed[HeadRow]):
    """The manifests that the catalogue wants, each with its artifacts.

    Args:
        store: where the artifacts go.
        catalogue: of the same store.
        transport: whom they are fetched from.
        syncs: whether peers are asked for the detached signature of what gossip brought.
        max_artifact_bytes: a manifest with a larger artifact is not mirrored.
        poisoned: is told who was dropped, and why.
    """

    blamable: tuple[type[P2PBootError], ...] = (Contradiction,)

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        transport: Transport,
        *,
        syncs: bool,
        max_artifact_bytes: int,
        poisoned: Callable[[str, str], None] = lambda _peer_id, _what: None,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._transport = transport
        self._syncs = syncs
        self.max_artifact_bytes = max_artifact_bytes
        self.watch: Watch = nobody_watches
        """Who is shown how a release gets here; by default the log."""
        self._poisoned = poisoned
        self.dropped: dict[str, str] = {}  # peers that lied lately, and about what
        self.refused_pieces: Counter[str] = Counter()  # how often each of them did
        self._views: dict[str, FetchView] = {}  # by digest of the manifest
        self._given: dict[str, dict[str, int]] = {}

    def on_their_way(self, now: float) -> dict[str, ArtifactOnItsWay]:
        """The artifacts that are asked for at this moment, by SHA-256; of two jobs, as the one has it that is farther.

        Args:
            now: of trio's clock, seconds.
        """
        seen = [one for view in self._views.values() for one in view.artifacts(now)]
        return {one.sha256: one for one in sorted(seen, key=lambda one: one.done_bytes)}

    @override
    def wanted(self) -> list[Item[HeadRow]]:
        return [Item("/".join(row.pair), row.digest, row) for row in self._catalogue.wanted()]

    @override
    def faults(self) -> list[Problem]:
        return [
            Problem(
                Code.NOT_MIRRORED,
                "/".join(row.pair),
                f"version {row.manifest_version} can not be had: {row.fault}",
                "tell the publisher; a higher version resumes",
            )
            for row in self._catalogue.faults()
        ]

    @override
    async def bring(self, item: Item[HeadRow], stalled: Callable[[str | None], None]) -> None:
        manifest = await trio.to_thread.run_sync(self._prepare, item.version)
        former = self._catalogue.former(item.version)
        try:
            await self._fetch(manifest, former, stalled)
        except StoreFull as error:
            raise await trio.to_thread.run_sync(self._explained, error, manifest, former) from None
        if self._syncs:
            await self._find_detached(manifest)

    @override
    def completed(self, item: Item[HeadRow]) -> None:
        self._catalogue.completed(item.version)
        log.info(
            "%s: holding manifest_version %d",
            item.subject,
            item.content.manifest_version,
            extra=Event.HELD(
                channel=item.content.channel,
                arch=item.content.arch,
                manifest_version=item.content.manifest_version,
                digest=item.version,
            ),
        )

    @override
    def blame(self, item: Item[HeadRow], error: P2PBootError) -> None:
        self._catalogue.blame(item.version, error)

    @override
    def tidy(self) -> None:
        self._catalogue.tidy()

    def _prepare(self, digest: str) -> Manifest:
        self._catalogue.tidy()  # what this one supersedes may fill the quota
        manifest = self._catalogue.manifest(digest)
        check_sizes({one.key: one.size for one in manifest.artifacts.values()}, self.max_artifact_bytes)
        self._catalogue.check_tables(manifest)
        return manifest

    def _explained(self, error: StoreFull, manifest: Manifest, former: FormerVersions) -> MachineError:
        """With what the former version has to do with it, and what can be done; blocking."""
        version, in_force = manifest.manifest_version, former.in_force()
        enough = error.used + error.needed
        raised = f"raise store.quota (--quota) to {enough} bytes or more"
        if self._store.blobs.quota_bytes == AUTO:
            raised = "free some space on the disk, or say how much the store may hold: store.quota (--quota)"
        why, remedy = f"no room for version {version}", f"{raised}; or follow fewer channels"
        if in_force is not None and self._catalogue.keep > 1:
            why += f" beside version {in_force.manifest_version}, which is offered until it is whole"
            remedy = (
                f"{raised}; or keep one version only (--keep 1, or keep = 1 in [store]): version"
                f" {in_force.manifest_version} then makes room, and nothing is offered until version {version} is whole"
            )
        return MachineError(f"{why}: {error.message}", remedy=remedy)

    async def _fetch(
        self, manifest: Manifest, former: FormerVersions, stalled: Callable[[str | None], None]
    ) -> None:
        view = self._views[manifest.digest] = FetchView()
        channel, arch = manifest.channel, manifest.arch
        with self.watch(f"{channel}/{arch}") as watched:
            shown = watched or LoggedProgress(channel, arch, manifest.manifest_version)
            shown.plan({one.key: one.size for one in of_each_content(manifest.artifacts.values())})
            network = patient_network(
                self._transport, stalled, view, self._note_liar, shown=shown, publishers=_publishers(manifest)
            )
            await self._fetch_over(network, manifest, former)

    async def _fetch_over(self, network: Network, manifest: Manifest, former: FormerVersions) -> None:
        try:
            await fetch_artifacts(manifest.artifacts.values(), self._store.blobs, network, former)
        finally:
            self._views.pop(manifest.digest, None)
            self._note_given(manifest.digest, network.ledger)

    def given(self, digest: str) -> Mapping[str, int]:
        """How many bytes each peer gave when a manifest was last brought in, by peer id; any thread."""
        return self._given.get(digest, {})

    def _note_given(self, digest: str, ledger: Ledger) -> None:
        self._given.pop(digest, None)
        self._given[digest] = {peer_id: count for peer_id, count in ledger.received.items() if count}
        if len(self._given) > _REMEMBERED:
            del self._given[next(iter(self._given))]

    def _note_liar(self, peer_id: str, reason: str) -> None:
        log.warning(
            "peer %s was dropped: %s",
            peer_id,
            reason,
            extra=Event.PEER_DROPPED(peer=peer_id, reason=reason),
        )
        self.dropped[peer_id] = reason
        self.refused_pieces[peer_id] += 1
        self._poisoned(peer_id, reason)
        if len(self.dropped) > _REMEMBERED:
            oldest = next(iter(self.dropped))
            del self.dropped[oldest], self.refused_pieces[oldest]

    async def _find_detached(self, manifest: Manifest) -> None:
        """Gossip brings manifests without it."""
        if await trio.to_thread.run_sync(self._catalogue.has_detached, manifest.digest):
            return

        async def keep(peer_id: str, text: str) -> bool:
            return await trio.to_thread.run_sync(keep_detached, self._catalogue, manifest, text, peer_id)

        await find_detached(self._transport, manifest.digest, keep, timeout_s=_DETACHED_TIMEOUT_S)


def keep_detached(catalogue: Catalogue, manifest: Manifest, text: str, peer_id: str) -> bool:
    """Keep a detached signature that a peer sent; blocking. A bad one is its sender's fault alone.

    Returns:
        Whether it is good and kept.
    """
    try:
        catalogue.add_detached(manifest, text)
    except SignatureError as error:
        log.warning(
            "detached signature from %s for %s is dropped: %s",
            peer_id,
            manifest.digest,
            error,
            extra=Event.SIGNATURE_DROPPED(peer=peer_id, digest=manifest.digest),
        )
        return False
    except P2PBootError as error:
        log.error(
            "a detached signature can not be kept: %s",
            error,
            extra=Event.NOT_KEPT(what="a detached signature"),
        )
        return False
    return True


def _publishers(manifest: Manifest) -> frozenset[str]:
    """Peer ids of who built it and who signed it."""
    signers = (PublicKey.from_keyid(keyid).peer_id for keyid in manifest.signers)
    return frozenset((manifest.provider_peer_id, *signers))
