"""Follows the publishers that the node trusts: takes what gossip and sync bring, and keeps what they name whole.

The way of a manifest: `hear` or `take` → `judging` → `mirroring` → the artifacts are in the store → the head moves and
`whole` is called. What a damaged disk lost is fetched again the same way.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import trio

from p2pboot.core.manifest import Manifest, check_detached
from p2pboot.core.problems import Problem
from p2pboot.errors import P2PBootError, SignatureError
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.progress import NoProgress
from p2pboot.fetch.receiving.swarm import fetch_artifacts
from p2pboot.node.judging import Judge, Judgement, Opinion
from p2pboot.node.mirroring import Mirror
from p2pboot.node.refusals import OLDER_REMEDY, UNTRUSTED_REMEDY, Refusals, untrusted
from p2pboot.node.syncing import find_detached
from p2pboot.node.trust import Offered, Pair
from p2pboot.protocol.messages import Head
from p2pboot.store.manifests import HeadRow
from p2pboot.store.store import Store
from p2pboot.transport.interface import Transport

log = logging.getLogger(__name__)

_DETACHED_TIMEOUT_S: Final = 3.0  # the head waits for it: a mute peer must not hold it back for long
_REMEMBERED: Final = 256  # liars, and manifests that equivocate
_TAKEN: Final = (Opinion.NEWER, Opinion.CURRENT)


@dataclass(frozen=True, slots=True)
class OwnManifests:
    """How the publisher's part of the node is told of its own manifests when they come back from the mesh."""

    includes: Callable[[Offered], bool]
    saw: Callable[[Manifest, bool], Awaitable[None]]  # (manifest, whether it is in date)


class _Stalls(NoProgress):
    """Tells the mirror why nothing comes in: nobody waits for its fetches, which go on for ever."""

    def __init__(self, mirror: Mirror, pair: Pair) -> None:
        self._mirror = mirror
        self._pair = pair

    def stalled(self, why: str | None) -> None:
        """Pass it on."""
        self._mirror.stalled(self._pair, why)


class Follower:
    """Takes over what trusted publishers announce.

    Args:
        store: where everything goes.
        transport: whom it is fetched from.
        judge: decides what is taken.
        own: what this node publishes itself is not mirrored.
        whole: called when a manifest and all its artifacts are here and it has become the head.
        max_artifact_bytes: a manifest with a larger artifact is not mirrored.
        syncs: whether heads are compared with peers, too, and peers asked for the detached signature of what gossip
            brought.
        refusals: is told of what is offered and not taken.
        report: is told of what is to be mirrored and can not be had.
    """

    def __init__(  # noqa: PLR0913 - one argument for each part that it connects
        self,
        store: Store,
        transport: Transport,
        judge: Judge,
        *,
        own: OwnManifests,
        whole: Callable[[Manifest], Awaitable[None]],
        max_artifact_bytes: int,
        syncs: bool,
        refusals: Refusals,
        report: Callable[[list[Problem]], None],
    ) -> None:
        self._store = store
        self._transport = transport
        self._judge = judge
        self._own = own
        self._whole = whole
        self._syncs = syncs
        self._refusals = refusals
        self.mirror = Mirror(
            fetch=self._fetch, whole=self._became_whole, max_artifact_bytes=max_artifact_bytes, report=report
        )
        self.dropped: dict[str, str] = {}  # peers that lied lately, and about what
        self.refused_pieces: Counter[str] = Counter()  # how often each of them did
        self._twins: OrderedDict[str, None] = OrderedDict()  # what equivocates and was looked at already

    async def run(self) -> None:
        """Fetch what is wanted until cancelled, beginning with what the last run left unfinished."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.mirror.run)
            nursery.start_soon(self._retry_on_connect)
            await self._resume()

    async def hear(self, pair: Pair, peer_id: str, raw: bytes) -> Judgement:
        """Judge a gossip message of the topic of `pair`, and follow it."""
        judgement = await self._judge.judge(raw, source=peer_id, topic=pair)
        if judgement.manifest is not None or not self._syncs:  # else sync says it again, with more to it
            self._refusals.judged(pair, peer_id, self._explained(pair, judgement))
        await self._act_on(judgement)
        return judgement

    async def take(self, head: Head, raw: bytes, detached: str | None, peer_id: str) -> None:
        """Judge what sync brought, and follow it."""
        judgement = await self._judge.judge(raw, source=peer_id)
        self._refusals.judged((head.channel, head.arch), peer_id, judgement)
        await self._act_on(judgement)
        if judgement.manifest is not None and judgement.opinion in _TAKEN and detached is not None:
            await self._keep_detached(judgement.manifest, detached, peer_id)

    async def choose(self, heads: Sequence[Head], peer_id: str) -> list[Head]:
        """Which of the heads that a peer offers are worth fetching: by its word trusted, and news or evidence."""
        self._refusals.hear_of(peer_id, heads)
        try:
            chosen, older = await trio.to_thread.run_sync(self._choose, heads)
        except P2PBootError as error:
            log.error("heads can not be compared: %s", error)
            return []
        self._note_untrusted(heads, peer_id)
        for head in older:
            why = "which is older than what was accepted"
            self._refusals.refuse_head(peer_id, head, Opinion.OLDER, why, OLDER_REMEDY)
        return chosen

    def _choose(self, heads: Sequence[Head]) -> tuple[list[Head], list[Head]]:
        """What is worth fetching, and what comes after it was superseded here and was never held here."""
        chosen = [head for head in heads if head.digest not in self._twins and self._is_news(head)]
        return chosen, [head for head in heads if self._is_behind(head)]

    def _is_behind(self, head: Head) -> bool:
        publisher = self._judge.trust.publisher_for(head.channel, head.arch)
        accepted = self._store.trust.head(head.channel, head.arch)
        return (
            publisher is not None
            and self._judge.trust.takes(head)
            and accepted is not None
            and accepted.binds(publisher.keys)
            and head.manifest_version < accepted.manifest_version
            and self._store.manifests.get(head.digest) is None
        )

    def _note_untrusted(self, heads: Sequence[Head], peer_id: str) -> None:
        takes = self._judge.trust.takes
        good = {(head.channel, head.arch) for head in heads if takes(head)}
        for head in heads:
            publisher = self._judge.trust.publisher_for(head.channel, head.arch)
            if publisher is not None and (head.channel, head.arch) not in good:
                why = untrusted(head.signers, publisher)
                self._refusals.refuse_head(peer_id, head, Opinion.UNTRUSTED, why, UNTRUSTED_REMEDY)

    def _explained(self, pair: Pair, judgement: Judgement) -> Judgement:
        publisher = self._judge.trust.publisher_for(*pair)
        if judgement.opinion is not Opinion.UNTRUSTED or publisher is None:
            return judgement
        why = untrusted(judgement.detail.split(", "), publisher)
        return replace(judgement, detail=why, remedy=UNTRUSTED_REMEDY)

    def _is_news(self, head: Head) -> bool:
        publisher = self._judge.trust.publisher_for(head.channel, head.arch)
        if publisher is None or not self._judge.trust.takes(head):
            return False
        accepted = self._store.trust.head(head.channel, head.arch)
        if accepted is None or not accepted.binds(publisher.keys):
            return True
        if head.digest == accepted.digest:
            return not self._store.manifests.is_whole(head.digest)
        # The same version with another digest is evidence worth having.
        return head.manifest_version >= accepted.manifest_version

    async def repair(self) -> None:
        """Fetch again what was held and was found damaged."""
        for manifest in await trio.to_thread.run_sync(self._damaged):
            if not self._own.includes(manifest):
                self.mirror.want_again(manifest)

    async def trust_changed(self) -> None:
        """Give up what the judge's trust does not take any more."""
        await self.mirror.forget(lambda manifest: not self._judge.trust.takes(manifest))
        self.mirror.retry()

    def _damaged(self) -> list[Manifest]:
        catalogue = self._store.manifests
        stored = [
            catalogue.get(row.digest) for row in catalogue.current() if not catalogue.is_whole(row.digest)
        ]
        return [Manifest.parse(manifest.raw) for manifest in stored if manifest is not None]

    async def _act_on(self, judgement: Judgement) -> None:
        manifest = judgement.manifest
        if manifest is None:
            return
        if judgement.opinion is Opinion.EQUIVOCATION:
            self._twins[manifest.digest] = None
            if len(self._twins) > _REMEMBERED:
                self._twins.popitem(last=False)
        if self._own.includes(manifest):
            if judgement.opinion is not Opinion.OLDER:
                await self._own.saw(manifest, judgement.opinion in (*_TAKEN, Opinion.EQUIVOCATION))
        elif judgement.opinion in _TAKEN:
            self.mirror.want(manifest)

    async def _resume(self) -> None:
        """Go on with what was on its way, and mend what was damaged, when the last run ended."""
        try:
            for raw in await trio.to_thread.run_sync(self._unfinished):
                await self._act_on(await self._judge.judge(raw, source="this store"))
        except P2PBootError as error:
            log.error("what the last run left unfinished is not resumed: %s", error)

    def _unfinished(self) -> list[bytes]:
        catalogue = self._store.manifests
        rows = [
            *catalogue.pending(),
            *(row for row in catalogue.current() if not catalogue.is_whole(row.digest)),
        ]
        stored = [catalogue.get(row.digest) for row in rows]
        return [manifest.raw for manifest in stored if manifest is not None]

    async def _retry_on_connect(self) -> None:
        with self._transport.peer_events() as events:
            async for event in events:
                if event.connected:
                    self.mirror.retry()

    async def _fetch(self, manifest: Manifest) -> None:
        await trio.to_thread.run_sync(self._make_room, manifest)
        ledger = Ledger(
            NoProgress()
        )  # of this job alone: who lied is asked again in the next, a second later

        def only_liars_are_left() -> bool:
            peers = self._transport.peers()
            return bool(peers) and not any(ledger.usable(peer_id) for peer_id in peers)

        try:
            await fetch_artifacts(
                tuple(manifest.artifacts.values()),
                transport=self._transport,
                store=self._store,
                ledger=ledger,
                progress=_Stalls(self.mirror, (manifest.channel, manifest.arch)),
                hopeless=only_liars_are_left,
            )
        finally:
            for peer_id, reason in ledger.dropped.items():
                log.warning("peer %s was dropped: %s", peer_id, reason)
                self.dropped[peer_id] = reason
                self.refused_pieces[peer_id] += 1
            while len(self.dropped) > _REMEMBERED:
                oldest = next(iter(self.dropped))
                del self.dropped[oldest], self.refused_pieces[oldest]

    def _make_room(self, manifest: Manifest) -> None:
        """What this manifest superseded before it was whole will never be wanted, and may fill the quota."""
        stale = {
            row.digest
            for row in self._store.manifests.pending()
            if _is_of_pair(row, manifest) and row.manifest_version < manifest.manifest_version
        }
        self._store.manifests.drop(lambda row: row.digest in stale)
        self._store.manifests.retain()

    async def _became_whole(self, manifest: Manifest) -> None:
        stored = await trio.to_thread.run_sync(self._store.manifests.get, manifest.digest)
        if self._syncs and (stored is None or stored.detached is None):

            async def keep(peer_id: str, text: str) -> bool:
                return await self._keep_detached(manifest, text, peer_id)

            await find_detached(self._transport, manifest.digest, keep, timeout_s=_DETACHED_TIMEOUT_S)
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
        catalogue = self._store.manifests
        others = [row for row in catalogue.current() if _is_of_pair(row, manifest)]
        catalogue.put(manifest, None)
        catalogue.set_head(manifest.digest)
        # A publisher may change the set of its keys. What other sets signed is kept only until there is a previous
        # version of this one, or every change would leave two versions behind for ever.
        kept = {manifest.signers}
        if others and manifest.signers not in {row.signers for row in others}:
            kept.add(max(others, key=lambda row: row.manifest_version).signers)
        catalogue.drop(
            lambda row: (
                _is_of_pair(row, manifest)
                and row.signers not in kept
                and row.manifest_version < manifest.manifest_version
                and not self._own.includes(row)
            )
        )
        catalogue.retain()

    async def _keep_detached(self, manifest: Manifest, detached: str, peer_id: str) -> bool:
        digest = manifest.digest
        try:
            check_detached(manifest.raw, detached, manifest.signers)
            catalogue = self._store.manifests
            if self._own.includes(manifest) and await trio.to_thread.run_sync(catalogue.get, digest) is None:
                return False  # taken out of the directory: mirrors do not bring it back
            await trio.to_thread.run_sync(catalogue.put, manifest, detached)
        except SignatureError as error:
            log.warning("detached signature from %s for %s is dropped: %s", peer_id, digest, error)
            return False
        except P2PBootError as error:
            log.error("a detached signature can not be kept: %s", error)
            return False
        return True


def _is_of_pair(row: HeadRow, manifest: Manifest) -> bool:
    return (row.channel, row.arch) == (manifest.channel, manifest.arch)
