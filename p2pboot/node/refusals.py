"""What the node is offered for the channels it follows and does not take, so that its operator sees why.

A stranger must be able neither to fill this list nor to move it: only pairs that the node follows count, and only what
a configured peer offers (any peer, where none is configured) or what a trusted key has signed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.core.policy import Publisher
from p2pboot.core.problems import Code, Problem
from p2pboot.core.trust import Pair
from p2pboot.protocol.messages import Head

MAX_REFUSALS: Final = 128  # (pair, peer); more peers than these say nothing that others do not
STALE_S: Final = 1000.0  # what gossip brought and did not bring again: announcements come every 300 s
PATIENCE_S: Final = 60.0  # before an older version is a problem: who is just behind catches up
_NAMED_KEYS: Final = 4

_SILENT: Final = frozenset({"equivocation", "wrong_topic"})  # what has a problem of its own, and what is none
_OF_A_TRUSTED_KEY: Final = frozenset({"expired", "not_yet_valid", "rollback", "too_many"})


@dataclass(slots=True)
class _Refusal:
    """One pair of which one peer offers what is not taken; times of trio's clock."""

    text: str
    remedy: str | None
    since: float
    at: float
    patience_s: float


class Refusals:
    """What is offered and not taken, by pair and peer; for the event loop's thread.

    Args:
        follows: whether the node follows a pair, and does not publish it itself.
        counts: whether it counts what a peer offers for a pair, though no trusted key has signed it.
        report: is told of everything that is refused now.
    """

    def __init__(
        self,
        *,
        follows: Callable[[Pair], bool],
        counts: Callable[[Pair, str], bool],
        report: Callable[[list[Problem]], None],
    ) -> None:
        self._follows = follows
        self._counts = counts
        self._report = report
        self._refusals: dict[tuple[Pair, str], _Refusal] = {}
        self._heard_at: dict[str, float] = {}  # when each peer said last what it has

    def hear_of(self, peer_id: str, heads: Iterable[Head]) -> None:
        """A peer said which heads it has now: what it offers no more, or was not refused since last time, is over."""
        offered = {(head.channel, head.arch) for head in heads}
        before, self._heard_at[peer_id] = self._heard_at.get(peer_id, 0.0), trio.current_time()
        for (pair, other), refusal in tuple(self._refusals.items()):
            if other == peer_id and (pair not in offered or refusal.at < before):
                del self._refusals[pair, other]
        self._tell()

    def taken(self, pair: Pair, peer_id: str) -> None:
        """What a peer offers for a pair was taken."""
        self._refusals.pop((pair, peer_id), None)
        self._tell()

    def refuse_head(self, peer_id: str, head: Head, reason: str, why: str, remedy: str) -> None:
        """A peer offers what is not even fetched; arguments as for `refuse`."""
        self.refuse(
            (head.channel, head.arch), peer_id, reason, f"version {head.manifest_version}, {why}", remedy
        )

    def refuse(self, pair: Pair, peer_id: str, reason: str, what: str, remedy: str | None) -> None:
        """What a peer offers was judged, and is not taken.

        Args:
            pair: that it is offered for.
            peer_id: of the peer.
            reason: a stable word of `core.verdict`.
            what: is offered, and why it is not taken; for people.
            remedy: what to do about it.
        """
        is_meant = reason in _OF_A_TRUSTED_KEY or self._counts(pair, peer_id)
        if reason in _SILENT or not self._follows(pair) or not is_meant:
            return
        now, key = trio.current_time(), (pair, peer_id)
        before = self._refusals.get(key)
        if before is None and len(self._refusals) >= MAX_REFUSALS:
            return
        self._refusals[key] = _Refusal(
            text=f"peer {peer_id} offers {what}",
            remedy=remedy,
            since=now if before is None else before.since,
            at=now,
            patience_s=PATIENCE_S if reason == "rollback" else 0.0,
        )
        self._tell()

    def tick(self, connected: Iterable[str]) -> None:
        """Forget what nobody offers any more."""
        peers, now = set(connected), trio.current_time()
        self._refusals = {
            key: refusal
            for key, refusal in self._refusals.items()
            if key[1] in peers and self._follows(key[0]) and now - refusal.at < STALE_S
        }
        self._heard_at = {peer_id: at for peer_id, at in self._heard_at.items() if peer_id in peers}
        self._tell()

    def _tell(self) -> None:
        now = trio.current_time()
        problems: dict[Pair, Problem] = {}  # one for each pair: the first that was refused
        for (pair, _), refusal in self._refusals.items():
            if pair not in problems and now - refusal.since >= refusal.patience_s:
                problems[pair] = Problem(Code.REFUSED, "/".join(pair), refusal.text, refusal.remedy)
        self._report(list(problems.values()))


def untrusted(signers: Sequence[str], publisher: Publisher) -> str:
    """Say by whom something is signed, and whom this node trusts instead."""
    return f"signed by {_some(signers)}; {trusted(publisher)}"


def trusted(publisher: Publisher) -> str:
    """Say whom this node trusts."""
    return f"trusted: {_some(publisher.keys)}, of which {publisher.threshold} must have signed"


UNTRUSTED_REMEDY: Final = (
    "if these signers are to be believed, trust their keys (--trust, [[trust]]); otherwise connect to the publisher"
    " that is trusted"
)
TOO_MANY_REMEDY: Final = (
    "name the channels that it may publish (channels in its [[trust]] entry), or raise max_pairs there"
)
OLDER_REMEDY: Final = (
    "the peer is behind, or its publisher lost its counter and must go above what was accepted"
)


def _some(keyids: Sequence[str]) -> str:
    more = f" and {len(keyids) - _NAMED_KEYS} more" if len(keyids) > _NAMED_KEYS else ""
    return ", ".join(keyids[:_NAMED_KEYS]) + more
