"""Follows the publishers that the node trusts: takes what gossip and sync bring, and keeps what they name whole.

The way of a manifest: `hear` or `take` → `judging` → `mirroring` → the artifacts are in the store → the head moves and
`whole` is called. What a damaged disk lost is fetched again the same way.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from p2pboot.core.manifest import Manifest, check_detached
from p2pboot.errors import P2PBootError, SignatureError
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.progress import NoProgress
from p2pboot.fetch.requests import Head
from p2pboot.fetch.swarm import fetch_artifacts
from p2pboot.node.judging import Judge, Judgement, Opinion, Pair
from p2pboot.node.mirroring import Mirror
from p2pboot.node.syncing import fetch_detached
from p2pboot.store.store import Store
from p2pboot.transport.interface import Transport

log = logging.getLogger(__name__)

_DETACHED_TIMEOUT_S = 10.0
_REMEMBERED_LIARS = 256
_TAKEN = (Opinion.NEWER, Opinion.CURRENT)


@dataclass(frozen=True, slots=True)
class OwnManifests:
    """How the publisher's part of the node is told of its own manifests when they come back from the mesh."""

    includes: Callable[[Manifest], bool]
    saw: Callable[[Manifest], None]


class Follower:
    """Takes over what trusted publishers announce.

    Args:
        store: where everything goes.
        transport: whom it is fetched from.
        judge: decides what is taken.
        own: what this node publishes itself is not mirrored.
        whole: called when a manifest and all its artifacts are here and it has become the head.
        max_artifact_bytes: a manifest with a larger artifact is not mirrored.
        ask_detached: whether peers are asked for the detached signature of what gossip brought.
    """

    def __init__(
        self,
        store: Store,
        transport: Transport,
        judge: Judge,
        *,
        own: OwnManifests,
        whole: Callable[[Manifest], Awaitable[None]],
        max_artifact_bytes: int,
        ask_detached: bool,
    ) -> None:
        self._store = store
        self._transport = transport
        self._judge = judge
        self._own = own
        self._whole = whole
        self._ask_detached = ask_detached
        self.mirror = Mirror(
            fetch=self._fetch, whole=self._became_whole, max_artifact_bytes=max_artifact_bytes
        )
        self.dropped: dict[str, str] = {}  # peers that lied lately, and about what
        self.refused_pieces: Counter[str] = Counter()  # how often each of them did

    async def run(self) -> None:
        """Fetch what is wanted until cancelled, beginning with what the last run left unfinished."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.mirror.run)
            nursery.start_soon(self._retry_on_connect)
            await self._resume()

    async def hear(self, pair: Pair, peer_id: str, raw: bytes) -> Judgement:
        """Judge a gossip message of the topic of `pair`, and follow it."""
        try:
            judgement = await self._judge.judge(raw, source=peer_id, topic=pair)
        except P2PBootError as error:  # our disk, not the sender's fault; sync tries again
            log.error("manifest from %s: %s", peer_id, error)
            return Judgement(Opinion.UNTRUSTED, error.message)
        self._act_on(judgement)
        return judgement

    async def take(self, raw: bytes, detached: str | None, peer_id: str) -> None:
        """Judge what sync brought, and follow it."""
        judgement = await self._judge.judge(raw, source=peer_id)
        if judgement.manifest is not None and judgement.opinion in _TAKEN and detached is not None:
            await self._keep_detached(judgement.manifest, detached, peer_id)
        self._act_on(judgement)

    def wants(self, head: Head) -> bool:
        """Whether a head that a peer offers is worth fetching: by its own word it is trusted, and news or evidence."""
        publisher = self._judge.policy.publisher_for(head.channel, head.arch)
        if publisher is None or len(publisher.trusted_among(head.signers)) < publisher.threshold:
            return False
        accepted = self._store.trust.head(head.channel, head.arch)
        if accepted is None or not accepted.binds(publisher.keys):
            return True
        if head.digest == accepted.digest:
            return not self._store.manifests.is_whole(head.digest)
        return (
            head.manifest_version >= accepted.manifest_version
        )  # the same version twice is evidence worth having

    async def repair(self) -> None:
        """Fetch again what was held and was found damaged."""
        for manifest in await trio.to_thread.run_sync(self._damaged):
            if not self._own.includes(manifest):
                self.mirror.want_again(manifest)

    def _damaged(self) -> list[Manifest]:
        catalogue = self._store.manifests
        stored = [
            catalogue.get(row.digest) for row in catalogue.current() if not catalogue.is_whole(row.digest)
        ]
        return [Manifest.parse(manifest.raw) for manifest in stored if manifest is not None]

    def _act_on(self, judgement: Judgement) -> None:
        manifest = judgement.manifest
        if manifest is None:
            return
        if self._own.includes(manifest):
            if judgement.opinion is not Opinion.OLDER:
                self._own.saw(manifest)
        elif judgement.opinion in _TAKEN:
            self.mirror.want(manifest)

    async def _resume(self) -> None:
        for row in await trio.to_thread.run_sync(self._store.manifests.pending):
            stored = await trio.to_thread.run_sync(self._store.manifests.get, row.digest)
            if stored is not None:
                self._act_on(await self._judge.judge(stored.raw, source="this store"))

    async def _retry_on_connect(self) -> None:
        with self._transport.peer_events() as events:
            async for event in events:
                if event.connected:
                    self.mirror.retry()

    async def _fetch(self, manifest: Manifest) -> None:
        ledger = Ledger(
            NoProgress()
        )  # of this job alone: who lied once is asked again, at the cost of one piece
        try:
            await fetch_artifacts(
                tuple(manifest.artifacts.values()),
                transport=self._transport,
                store=self._store,
                ledger=ledger,
                progress=NoProgress(),
            )
        finally:
            for peer_id, reason in ledger.dropped.items():
                log.warning("peer %s was dropped: %s", peer_id, reason)
                self.dropped[peer_id] = reason
                self.refused_pieces[peer_id] += 1
            while len(self.dropped) > _REMEMBERED_LIARS:
                oldest = next(iter(self.dropped))
                del self.dropped[oldest], self.refused_pieces[oldest]

    async def _became_whole(self, manifest: Manifest) -> None:
        stored = await trio.to_thread.run_sync(self._store.manifests.get, manifest.digest)
        if self._ask_detached and (stored is None or stored.detached is None):
            for peer_id, text in await fetch_detached(self._transport, manifest.digest, _DETACHED_TIMEOUT_S):
                if await self._keep_detached(manifest, text, peer_id):
                    break
        await trio.to_thread.run_sync(self._move_head, manifest)
        log.info(
            "%s/%s: holding version %s (manifest_version %d)",
            manifest.channel,
            manifest.arch,
            manifest.version,
            manifest.manifest_version,
        )
        await self._whole(manifest)

    def _move_head(self, manifest: Manifest) -> None:
        self._store.manifests.put(manifest, None)
        self._store.manifests.set_head(manifest.digest)
        self._store.manifests.retain()

    async def _keep_detached(self, manifest: Manifest, detached: str, peer_id: str) -> bool:
        try:
            check_detached(manifest.raw, detached, manifest.signers)
        except SignatureError as error:
            log.warning("detached signature from %s for %s is dropped: %s", peer_id, manifest.digest, error)
            return False
        await trio.to_thread.run_sync(self._store.manifests.put, manifest, detached)
        return True
