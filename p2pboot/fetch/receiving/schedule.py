"""Which piece is asked of which peer: the decisions of a fetch, without any input or output.

The shell (`swarm`) tells what happens (a peer came, holds these pieces, delivered, fell silent) and does
what `assign` says. `demand` keeps what is wanted, `load` what each peer owes.

A piece that arrives is *claimed* by the first copy, so it is checked and written once; when the check fails
it is wanted again. A silent peer's pieces become free at once, but what it was asked for still counts if it
arrives first.

Pieces are taken in order, because the SHA-256 of the whole file can only advance in order, except that
within the next few dozen the rarest goes first: so mirrors and clients that fetch at the same time end up
with different pieces and can serve each other, instead of all waiting for the one peer that has everything.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable

from p2pboot.core.pieces import MAX_PIECES, MIB, PieceSet
from p2pboot.fetch.receiving.backlog import PeerLoad
from p2pboot.fetch.receiving.missing import Assignment, Demand
from p2pboot.fetch.receiving.rates import RateMeter

BUDGET_BYTES = 32 * MIB
"""Asked for or being checked, over all peers: what a fetch takes in memory. Two of the largest pieces fit."""

LOOKAHEAD_PIECES = 64
"""How far from the order the rarest piece may be taken."""


class Schedule:
    """Decides who is asked for what.

    Args:
        budget_bytes: asked for or being checked at most, over all peers; at least one largest piece.
        pieces_at_once: that one request may ask for.
    """

    def __init__(self, budget_bytes: int = BUDGET_BYTES, *, pieces_at_once: int = MAX_PIECES) -> None:
        self._budget = budget_bytes
        self._pieces_at_once = pieces_at_once
        self._demands: dict[str, Demand] = {}
        self._peers: dict[Hashable, PeerLoad] = {}
        self._checking: dict[int, tuple[int, ...]] = {}  # what each request's arrival claimed
        self._numbers = itertools.count()
        self.live_bytes = 0
        """Asked of live peers or being checked; never above the budget, but for a silent peer that woke."""
        self.silent_bytes = 0
        """Asked of silent peers: takes memory only if they wake, so the shell bounds it by giving them up."""

    # What is to be fetched

    def add_blob(self, blob: str, *, size: int, piece_length: int, missing: PieceSet, rank: int = 0) -> None:
        """Fetch these pieces of an artifact; those of a lower rank first, then in the order of adding."""
        self._demands[blob] = Demand(size, piece_length, rank, wanted=missing, free=missing)
        self._demands = dict(sorted(self._demands.items(), key=lambda item: item[1].rank))

    def remove_blob(self, blob: str) -> None:
        """Forget an artifact; what still arrives of it is not wanted."""
        del self._demands[blob]
        for peer in self._peers.values():
            peer.holds.pop(blob, None)

    def complete(self, blob: str) -> bool:
        """Whether every piece of an artifact that is being fetched was stored."""
        demand = self._demands.get(blob)
        return demand is not None and demand.complete

    # Who delivers

    def add_peer(self, source: Hashable, now: float) -> None:
        """A peer can be asked; it holds nothing until `set_holdings`."""
        self._peers[source] = PeerLoad(RateMeter(now))

    def remove_peer(self, source: Hashable) -> None:
        """A peer is gone: its pieces are free for others at once."""
        peer = self._peers[source]
        for assignment in tuple(peer.assignments.values()):
            self._forget(peer, assignment)
        del self._peers[source]

    def set_holdings(self, source: Hashable, blob: str, holds: PieceSet) -> None:
        """Take a peer's word for which pieces it has; of an artifact that is not fetched it is ignored."""
        if blob in self._demands:
            self._peers[source].holds[blob] = holds

    def useful(self, source: Hashable, blob: str) -> bool:
        """Whether the peer has anything of the artifact that is still wanted."""
        demand, holds = self._demands.get(blob), self._peers[source].holds.get(blob)
        return demand is not None and holds is not None and bool(holds & demand.wanted)

    def pause(self, source: Hashable, until: float) -> None:
        """Ask the peer for nothing until then (clock of `now`): it said that it is busy."""
        self._peers[source].paused_until = until

    def silence(self, source: Hashable) -> None:
        """A peer stopped delivering: others may have its pieces, and it is asked for nothing more."""
        peer = self._peers[source]
        if not peer.silent:
            peer.silent = True
            self.live_bytes -= peer.asked_bytes
            self.silent_bytes += peer.asked_bytes
            self._for_all(peer, Demand.given_up)

    def wake(self, source: Hashable) -> None:
        """A silent peer delivers again, and is counted on for what it had been asked for."""
        peer = self._peers[source]
        if peer.silent:
            peer.silent = False
            self.silent_bytes -= peer.asked_bytes
            self.live_bytes += peer.asked_bytes
            self._for_all(peer, Demand.asked)

    def asked_bytes(self, source: Hashable) -> int:
        """How much the peer still owes."""
        return self._peers[source].asked_bytes

    # What happens to requests

    def assign(self, source: Hashable, now: float) -> list[Assignment]:
        """Decide what to ask of a peer now; the caller sends all of it."""
        peer = self._peers[source]
        if not peer.assignments:
            peer.meter.start(now)
        assigned: list[Assignment] = []
        if peer.silent or now < peer.paused_until:
            return assigned
        while self._fits(peer, 1):  # asked first, for a choice costs more than this question
            choice = self._next_free(peer) or self._slowest_of_another(peer, now)
            if choice is None:
                break
            blob, pieces = choice
            offset, length = self._demands[blob].span(pieces)
            if not self._fits(peer, length):
                break
            assignment = Assignment(next(self._numbers), source, blob, pieces, offset, length)
            peer.add(assignment)
            self.live_bytes += length
            self._demands[blob].asked(pieces)
            assigned.append(assignment)
        return assigned

    def arrived(self, assignment: Assignment, now: float) -> tuple[int, ...]:
        """The data of a request is in memory.

        Returns:
            The pieces to check and write now, maybe none; `settle` must follow in any case.
        """
        peer = self._peers.get(assignment.source)
        if peer is None or assignment.number not in peer.assignments:
            return ()  # the peer was removed with all that it was asked for
        self.wake(assignment.source)
        peer.meter.delivered(assignment.length, now)
        self._forget(peer, assignment)
        self.live_bytes += assignment.length
        demand = self._demands.get(assignment.blob)
        self._checking[assignment.number] = () if demand is None else demand.claim(assignment.pieces)
        return self._checking[assignment.number]

    def settle(self, assignment: Assignment, stored: Iterable[int]) -> None:
        """What was claimed has been checked; what is not in `stored` is wanted again."""
        claimed = self._checking.pop(assignment.number, None)
        if claimed is not None:
            self.live_bytes -= assignment.length
            if assignment.blob in self._demands:
                self._demands[assignment.blob].settle(claimed, stored)

    def failed(self, assignment: Assignment) -> None:
        """A request will bring nothing: its pieces are free for others."""
        peer = self._peers.get(assignment.source)
        if peer is not None and assignment.number in peer.assignments:
            self._forget(peer, assignment)

    def lacks(self, assignment: Assignment) -> None:
        """The peer does not have what it was asked for, whatever it said before."""
        self.failed(assignment)
        peer = self._peers.get(assignment.source)
        if peer is not None and (holds := peer.holds.get(assignment.blob)) is not None:
            peer.holds[assignment.blob] = holds - PieceSet.of(holds.count, assignment.pieces)

    def _forget(self, peer: PeerLoad, assignment: Assignment) -> None:
        peer.remove(assignment)
        if peer.silent:
            self.silent_bytes -= assignment.length
        else:
            self.live_bytes -= assignment.length
            if assignment.blob in self._demands:
                self._demands[assignment.blob].given_up(assignment.pieces)

    def _for_all(self, peer: PeerLoad, change: Callable[[Demand, range], None]) -> None:
        for assignment in peer.assignments.values():
            if assignment.blob in self._demands:
                change(self._demands[assignment.blob], assignment.pieces)

    # Choices

    def _fits(self, peer: PeerLoad, length: int) -> bool:
        return self.live_bytes + length <= self._budget and peer.has_room(length)

    def _next_free(self, peer: PeerLoad) -> tuple[str, range] | None:
        for blob, demand in self._demands.items():
            holds = peer.holds.get(blob)
            if holds is not None and (available := demand.free & holds):
                first = self._rarest(blob, available)
                most = min(peer.group_bytes() // demand.piece_length, self._pieces_at_once)
                return blob, _run(available, first, most)
        return None

    def _rarest(self, blob: str, available: PieceSet) -> int:
        partial = [
            holds
            for peer in self._peers.values()
            if not peer.silent and (holds := peer.holds.get(blob)) is not None and not holds.complete
        ]
        nearest = list(itertools.islice(available, LOOKAHEAD_PIECES if partial else 1))
        window = range(nearest[0], nearest[-1] + 1)
        near = [holds.part(window) for holds in partial]  # small sets, which are quicker to look into
        return min(nearest, key=lambda index: sum(index - window.start in part for part in near))

    def _slowest_of_another(self, peer: PeerLoad, now: float) -> tuple[str, range] | None:
        """Nothing is free: a second copy of what would arrive last, where this peer can be quicker."""
        slowest_s, choice = 0.0, None
        for other in self._peers.values():
            ahead = 0
            for assignment in () if other is peer or other.silent else other.assignments.values():
                ahead += assignment.length
                expected_s = other.meter.expected_s(ahead, now)
                if expected_s > slowest_s and self._is_worth_copying(peer, assignment, expected_s):
                    slowest_s, choice = expected_s, (assignment.blob, assignment.pieces)
        return choice

    def _is_worth_copying(self, peer: PeerLoad, assignment: Assignment, expected_s: float) -> bool:
        demand = self._demands.get(assignment.blob)
        return (
            demand is not None
            and peer.has_all(assignment.blob, assignment.pieces)
            and demand.is_asked_once(assignment.pieces)
            and peer.meter.best_case_s(peer.asked_bytes + assignment.length) < expected_s
        )


def _run(available: PieceSet, first: int, most: int) -> range:
    """The pieces from `first` on that are available without a gap, at least one."""
    stop = first + 1
    while stop < available.count and stop - first < most and stop in available:
        stop += 1
    return range(first, stop)
