"""What the node hears of manifests, by gossip and by sync: through the gate, and on to whoever has to know of it.

What passes the gate is the catalogue's from then on. Here it is counted what does not, said to the operator what is
offered and refused, and told to the publisher what its own key signed elsewhere.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, Protocol

import trio
from cachetools import LRUCache

from p2pboot.core.events import Event
from p2pboot.core.manifest import Manifest
from p2pboot.core.trust import Pair
from p2pboot.core.verify import Verdict
from p2pboot.errors import P2PBootError
from p2pboot.node.images import keep_detached
from p2pboot.node.refusals import (
    OLDER_REMEDY,
    TOO_MANY_REMEDY,
    UNTRUSTED_REMEDY,
    Refusals,
    trusted,
    untrusted,
)
from p2pboot.protocol.messages import Head
from p2pboot.store.errors import NotRecorded
from p2pboot.store.gate import Gate
from p2pboot.transport.interface import Forwarding

log = logging.getLogger(__name__)

_REMEMBERED: Final = 256  # manifests that equivocate

TAKEN: Final = "taken"
# Beside the reasons of `core.verdict`, with which they label the same counter:
WRONG_TOPIC: Final = "wrong_topic"
NOT_RECORDED: Final = "not_recorded"  # it may be used, but this node's disk did not take it down
TOO_MANY: Final = "too_many"  # its publisher signs for more channels than this node takes up of it
UNDECIDED: Final = "undecided"  # this node's disk does not say what was accepted before

_OF_THIS_NODE: Final = frozenset({NOT_RECORDED, UNDECIDED})  # its disk's fault, and no refusal

# REJECT only what no honest node sends; another policy or another clock is no offence.
_REJECTED: Final = {
    "malformed": "a manifest that is none",
    "signature": "a manifest with a signature that is none",
    WRONG_TOPIC: "a manifest of another channel than it was announced for",
}
_FORWARDED: Final = frozenset(
    {
        TAKEN,  # also the same again, or re-announcements die at the first hop
        NOT_RECORDED,  # the others' disks may well have room
    }
)


class OwnManifests(Protocol):
    """Who is told when manifests of the keys that sign here come back from the mesh."""

    async def saw_own(self, manifest: Manifest, *, usable: bool) -> None:
        """A verified one came; `usable` unless it is out of date."""


class Intake:
    """Judges what peers say and send.

    Args:
        gate: by which manifests get in; its catalogue knows what is news.
        refusals: is told of what is offered and not taken.
        own: whoever publishes here; None on a mirror.
        syncs: whether heads are compared with peers, too.
        is_named: whether the operator named a channel and arch, so that it counts whatever else its publisher signs.
        offered: is told the digests of what peers say they hold, also what is not taken.
        poisoned: is told who sent what no honest node sends, and what it was.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        refusals: Refusals,
        own: OwnManifests | None,
        syncs: bool,
        is_named: Callable[[Pair], bool] = lambda _pair: False,
        offered: Callable[[Iterable[str]], None] = lambda _digests: None,
        poisoned: Callable[[str, str], None] = lambda _peer_id, _what: None,
    ) -> None:
        self._gate = gate
        self._catalogue = gate.catalogue
        self._audit = gate.audit
        self._refusals = refusals
        self._own = own
        self._syncs = syncs
        self._is_named = is_named
        self._offered = offered
        self._poisoned = poisoned
        self._equivocating: LRUCache[str, None] = LRUCache(_REMEMBERED)  # and was looked at already
        self.refused: Counter[str] = Counter()

    async def hear(self, pair: Pair, peer_id: str, raw: bytes) -> Forwarding:
        """Take a gossip message of the topic of `pair`, and say what becomes of it."""
        reason, verdict = await self._consider(raw, peer_id, pair)
        if verdict is not None and (verdict.manifest is not None or not self._syncs):
            self._note(pair, peer_id, reason, verdict)  # else sync says it again, with more to it
        if reason in _REJECTED:
            return Forwarding.REJECT
        return Forwarding.ACCEPT if reason in _FORWARDED else Forwarding.IGNORE

    async def choose(self, heads: Sequence[Head], peer_id: str) -> list[Head]:
        """Which of the heads that a peer offers are worth fetching: by its word trusted, and news or evidence."""
        self._refusals.hear_of(peer_id, heads)
        self._offered(head.digest for head in heads)
        try:
            chosen, older = await trio.to_thread.run_sync(self._catalogue.choose, heads)
            chosen, beyond = await trio.to_thread.run_sync(self._divide, chosen)
        except P2PBootError as error:
            log.error("heads can not be compared: %s", error, extra=Event.TASK_FAILED(task="compare heads"))
            return []
        await self._note_untrusted(heads, peer_id)
        for head in older:
            why = "which is older than what was accepted"
            self._refusals.refuse_head(peer_id, head, "rollback", why, OLDER_REMEDY)
            await self._take_down_head("rollback", peer_id, head)
        if beyond:  # one stands for all: they would leave no place for what else is refused
            why = "of one more channel than this node takes up of its publisher"
            self._refusals.refuse_head(peer_id, beyond[0], TOO_MANY, why, TOO_MANY_REMEDY)
            await self._take_down_head(TOO_MANY, peer_id, beyond[0])
        return [head for head in chosen if head.digest not in self._equivocating]

    def _admits(self, pair: Pair) -> bool:
        return pair in self._catalogue.admitted([pair], self._is_named)

    def _divide(self, heads: Sequence[Head]) -> tuple[list[Head], list[Head]]:
        """What is taken up, and what is beyond what its publisher may make this node follow; blocking."""
        admitted = self._catalogue.admitted({(head.channel, head.arch) for head in heads}, self._is_named)
        taken = [head for head in heads if (head.channel, head.arch) in admitted]
        return taken, [head for head in heads if (head.channel, head.arch) not in admitted]

    async def take(self, head: Head, raw: bytes, detached: str | None, peer_id: str) -> None:
        """Take what sync brought."""
        reason, verdict = await self._consider(raw, peer_id)
        if verdict is not None:
            self._note((head.channel, head.arch), peer_id, reason, verdict)
            if reason == TAKEN and verdict.manifest is not None and detached is not None:
                await trio.to_thread.run_sync(
                    keep_detached, self._catalogue, verdict.manifest, detached, peer_id
                )

    async def _consider(
        self, raw: bytes, peer_id: str, topic: Pair | None = None
    ) -> tuple[str, Verdict | None]:
        """Why a manifest is not taken, or TAKEN; and the verdict, where the disk allowed one."""
        reason, verdict = await self._enter(raw, peer_id, topic)
        if reason != TAKEN:
            self.refused[reason] += 1
            log.debug("manifest from %s is refused: %s", peer_id, reason)
            await self._take_down(reason, peer_id, verdict)
        elif verdict is not None and verdict.manifest is not None:
            self._offered([verdict.manifest.digest])
        if reason in _REJECTED:
            self._poisoned(peer_id, _REJECTED[reason])
        if verdict is not None and verdict.manifest is not None:
            await self._tell_publisher(reason, verdict.manifest)
        return reason, verdict

    async def _take_down(self, reason: str, peer_id: str, verdict: Verdict | None) -> None:
        """Have the audit log say what was refused, where it does not say that much."""
        if self._audit is None or reason in _OF_THIS_NODE:
            return
        manifest = None if verdict is None else verdict.manifest
        detail = None if verdict is None or verdict.failed is None else verdict.failed.detail
        entry = self._audit.refusal(reason, peer_id, manifest=manifest, detail=detail)
        if entry is not None:
            await trio.to_thread.run_sync(self._audit.write_refusal, entry)

    async def _take_down_head(self, reason: str, peer_id: str, head: Head) -> None:
        """The same for what is not even fetched: what it is, by the peer's word."""
        if self._audit is None:
            return
        entry = self._audit.refusal(
            reason,
            peer_id,
            channel=head.channel,
            arch=head.arch,
            manifest_version=head.manifest_version,
            digest=head.digest,
            signers=list(head.signers),
        )
        if entry is not None:
            await trio.to_thread.run_sync(self._audit.write_refusal, entry)

    async def _enter(self, raw: bytes, peer_id: str, topic: Pair | None) -> tuple[str, Verdict | None]:
        read = self._gate.read(raw, *(topic or (None, None)))
        if isinstance(read, Verdict):
            return _reason(read), read
        try:
            if not await trio.to_thread.run_sync(self._admits, (read.channel, read.arch)):
                return TOO_MANY, None
            verdict = await trio.to_thread.run_sync(partial(self._gate.enter, read, source=peer_id))
        except NotRecorded as error:  # sync and the next announcement try again
            log.error(
                "a manifest can not be taken down: %s",
                error,
                extra=Event.NOT_KEPT(what="a manifest", peer=peer_id),
            )
            return NOT_RECORDED, None
        except P2PBootError as error:
            log.error(
                "a manifest can not be judged: %s",
                error,
                extra=Event.TASK_FAILED(task="judge a manifest", peer=peer_id),
            )
            return UNDECIDED, None
        return _reason(verdict), verdict

    async def _tell_publisher(self, reason: str, manifest: Manifest) -> None:
        if reason == "equivocation":
            self._equivocating[manifest.digest] = None
        if self._own is not None and reason != "rollback" and self._catalogue.trust.is_own(manifest):
            await self._own.saw_own(manifest, usable=reason in (TAKEN, "equivocation"))

    def _note(self, pair: Pair, peer_id: str, reason: str, verdict: Verdict) -> None:
        failed, manifest = verdict.failed, verdict.manifest
        if failed is None:
            self._refusals.taken(pair, peer_id)
            return
        detail, remedy = failed.detail, failed.remedy
        publisher = self._catalogue.trust.publisher_for(*pair)
        if reason == "untrusted" and publisher is not None:
            detail, remedy = f"{detail}; {trusted(publisher)}", UNTRUSTED_REMEDY
        what = "a manifest" if manifest is None else f"version {manifest.manifest_version}"
        self._refusals.refuse(pair, peer_id, reason, f"{what} ({reason}): {detail}", remedy)

    async def _note_untrusted(self, heads: Sequence[Head], peer_id: str) -> None:
        trust = self._catalogue.trust
        good = {(head.channel, head.arch) for head in heads if trust.takes(head)}
        for head in heads:
            publisher = trust.publisher_for(head.channel, head.arch)
            if publisher is not None and (head.channel, head.arch) not in good:
                why = untrusted(head.signers, publisher)
                self._refusals.refuse_head(peer_id, head, "untrusted", why, UNTRUSTED_REMEDY)
                await self._take_down_head("untrusted", peer_id, head)


def _reason(verdict: Verdict) -> str:
    failed = verdict.failed
    if failed is None:
        return TAKEN
    return WRONG_TOPIC if failed.name in ("channel", "arch") else verdict.reason or ""
