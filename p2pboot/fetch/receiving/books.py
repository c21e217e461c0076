"""What a fetch knows: what is wanted, who has what, who was asked for what, and what became of it.

The lower half of the schedule, which decides by it. The shell tells what happens; nothing here chooses anything.

A piece that arrives is *claimed* by the first copy, so it is checked and written once; when the check fails it is
wanted again. A silent peer's pieces become free at once, but what it was asked for still counts if it arrives first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterable
from typing import Final

from p2pboot.core.pieces import PieceSet
from p2pboot.core.tally import bits_of, bits_of_all
from p2pboot.fetch.receiving.backlog import PeerLoad
from p2pboot.fetch.receiving.missing import Assignment, Demand, Order
from p2pboot.fetch.receiving.racks import Turns
from p2pboot.fetch.receiving.rates import RateMeter

LATE_S: Final = 5.0
"""What comes so much later than it should is not waited for where others are wanted in its place."""


class Books:
    """Keeps the books of a fetch.

    Args:
        budget_bytes: asked for or being checked at most, over all peers.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._peer_id = ""
        self._demands: dict[str, Demand] = {}
        self._turns: dict[str, Turns] = {}
        self._peers: dict[Hashable, PeerLoad] = {}
        self._checking: dict[int, tuple[int, ...]] = {}  # what each request's arrival claimed
        self._copies = 0
        self._liars: set[str] = set()  # origins of which a peer lied
        self._arrived_at = -math.inf
        self._alone: bool | None = None  # see `_is_alone`; None when that may have changed
        self.live_bytes = 0
        """Asked of live peers or being checked; never above the budget, but for a silent peer that woke."""
        self.silent_bytes = 0
        """Asked of silent peers: takes memory only if they wake, so the shell bounds it by giving them up."""

    def set_self(self, peer_id: str) -> None:
        """Say under which peer id others know this client; needed where some peers are far, before they are added."""
        self._peer_id = peer_id

    # What is to be fetched

    def add_blob(
        self,
        blob: str,
        *,
        size: int,
        piece_length: int,
        missing: PieceSet,
        rank: int = 0,
        table: str = "",
    ) -> None:
        """Fetch these pieces of an artifact; those of a lower rank first, then in the order of adding.

        Args:
            blob: SHA-256 of the artifact.
            size: bytes.
            piece_length: bytes.
            missing: what is to be fetched.
            rank: among artifacts.
            table: BLAKE3 of the piece table, by which near clients agree whose turn it is to ask from afar.
        """
        self._demands[blob] = Demand(size, piece_length, missing.count, rank, table or blob, missing.bits)
        self._demands = dict(sorted(self._demands.items(), key=lambda item: item[1].rank))
        self._turns[blob] = Turns(self._peer_id)

    def remove_blob(self, blob: str) -> None:
        """Forget an artifact; what still arrives of it is not wanted."""
        del self._demands[blob]
        del self._turns[blob]
        for peer in self._peers.values():
            peer.holds.pop(blob, None)
            peer.whole.discard(blob)
            peer.news.pop(blob, None)
            peer.fetching.pop(blob, None)
        self._alone = None

    def complete(self, blob: str) -> bool:
        """Whether every piece of an artifact that is being fetched was stored."""
        demand = self._demands.get(blob)
        return demand is not None and demand.complete

    def fetching(self, blob: str) -> PieceSet:
        """Return what is on its way from peers that have everything, and from afar: others need not fetch it there."""
        demand = self._demands.get(blob)
        if demand is None:
            return PieceSet(0)
        bits = 0
        for peer in self._peers.values():
            if peer.assignments and not peer.silent and (not peer.near or self._is_whole(peer, blob)):
                for assignment in peer.assignments.values():
                    if assignment.blob == blob:
                        bits |= bits_of(demand.count, assignment.pieces)
        return PieceSet(demand.count, bits & demand.wanted)

    # Who delivers

    def add_peer(
        self,
        source: Hashable,
        now: float,
        *,
        swarm: bool,
        near: bool = True,
        peer_id: str = "",
        origin: str = "",
    ) -> None:
        """A peer can be asked; it holds nothing until `set_holdings`.

        Args:
            source: the connection.
            now: seconds.
            swarm: whether it speaks `/p2pboot/swarm/1`.
            near: whether nothing that is scarce lies between.
            peer_id: its peer id.
            origin: its address, as `core.origins` names it; by default one of its own.
        """
        self._peers[source] = PeerLoad(
            RateMeter(now), swarm=swarm, near=near, peer_id=peer_id, origin=origin or peer_id
        )
        self._alone = None

    def place(self, source: Hashable, *, near: bool) -> None:
        """Say whether a peer is near; whoever is not placed is."""
        self._peers[source].near = near

    def remove_peer(self, source: Hashable) -> None:
        """A peer is gone: its pieces are free for others at once."""
        peer = self._peers[source]
        self._free_all(peer)
        for blob, holds in peer.holds.items():
            self._demands[blob].holders.remove(holds)
        del self._peers[source]
        self._alone = None

    def drop(self, source: Hashable) -> None:
        """A peer lied: it is asked for nothing more, and what it owes is free for others; `remove_peer` must follow."""
        peer = self._peers[source]
        peer.dropped = True
        self._liars.add(peer.origin)
        self._alone = None
        self._free_all(peer)

    def set_holdings(self, source: Hashable, blob: str, holds: PieceSet) -> None:
        """Take a peer's word for which pieces it has; of an artifact that is not fetched it is ignored."""
        if blob in self._demands:
            peer = self._peers[source]
            if not holds.complete:
                peer.whole.discard(blob)
            elif blob not in peer.holds and peer.swarm:
                peer.whole.add(blob)
            self._hold(peer, blob, holds.bits)

    def note_changes(
        self,
        source: Hashable,
        blob: str,
        held: Iterable[range],
        fetching: Iterable[range],
        not_fetching: Iterable[range],
    ) -> None:
        """Take a peer's word for what changed; all runs lie within the artifact.

        Args:
            source: the connection.
            blob: of what; ignored if it is not fetched.
            held: what it has since.
            fetching: what is on its way to it from a peer that has everything.
            not_fetching: what is not any more.
        """
        demand = self._demands.get(blob)
        if demand is None:
            return
        peer = self._peers[source]
        now_held = bits_of_all(demand.count, held)
        on_its_way = peer.fetching.get(blob, 0) | bits_of_all(demand.count, fetching)
        peer.fetching[blob] = on_its_way & ~now_held & ~bits_of_all(demand.count, not_fetching)
        self._hold(peer, blob, peer.holds.get(blob, 0) | now_held)

    def useful(self, source: Hashable, blob: str) -> bool:
        """Whether the peer has anything of the artifact that is still wanted."""
        demand = self._demands.get(blob)
        return demand is not None and bool(self._peers[source].holds.get(blob, 0) & demand.wanted)

    def no_deals(self, source: Hashable) -> None:
        """A peer deals nothing: it is asked for particular pieces, whatever it has."""
        self._peers[source].deals = False

    def pause(self, source: Hashable, until: float) -> None:
        """Ask the peer for nothing until then (clock of `now`): it said that it is busy."""
        self._peers[source].paused_until = until

    def is_late(self, source: Hashable, now: float) -> bool:
        """Whether what a peer owes should have come long ago."""
        peer = self._peers[source]
        return peer.asked_bytes > 0 and peer.meter.late_s(peer.asked_bytes, now) > LATE_S

    def silence(self, source: Hashable) -> None:
        """A peer stopped delivering: others may have its pieces, and it is asked for nothing more."""
        peer = self._peers[source]
        if not peer.silent:
            peer.silent = True
            self._alone = None
            self.live_bytes -= peer.asked_bytes
            self.silent_bytes += peer.asked_bytes
            self._for_all(peer, Demand.given_up)

    def wake(self, source: Hashable) -> None:
        """A silent peer delivers again, and is counted on for what it had been asked for."""
        peer = self._peers[source]
        if peer.silent:
            peer.silent = False
            self._alone = None
            self.silent_bytes -= peer.asked_bytes
            self.live_bytes += peer.asked_bytes
            self._for_all(peer, Demand.asked)

    def asked_bytes(self, source: Hashable) -> int:
        """How much the peer still owes."""
        return self._peers[source].asked_bytes

    # What becomes of requests

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
        peer.checking.add(assignment.number)
        self.live_bytes += assignment.length
        demand = self._demands.get(assignment.blob)
        claimed = () if demand is None else demand.claim(assignment.pieces)
        if claimed:
            self._arrived_at = now
        self._checking[assignment.number] = claimed
        return claimed

    def settle(self, assignment: Assignment, stored: Iterable[int]) -> None:
        """What was claimed has been checked; what is not in `stored` is wanted again."""
        claimed = self._checking.pop(assignment.number, None)
        if claimed is not None:
            stored = tuple(stored)
            peer = self._peers.get(assignment.source)
            if peer is not None:
                peer.checking.discard(assignment.number)
                if stored:
                    peer.proved = max(peer.proved, assignment.length)
                    peer.given += len(stored)
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
        peer, demand = self._peers.get(assignment.source), self._demands.get(assignment.blob)
        if peer is not None and demand is not None:
            missing = bits_of(demand.count, assignment.pieces)
            peer.whole.discard(assignment.blob)
            self._hold(peer, assignment.blob, peer.holds.get(assignment.blob, 0) & ~missing)

    # Book-keeping

    def _hold(self, peer: PeerLoad, blob: str, holds: int) -> None:
        demand, before = self._demands[blob], peer.holds.get(blob, 0)
        demand.holders.add(holds & ~before)
        demand.holders.remove(before & ~holds)
        if new := holds & ~before & demand.wanted:
            peer.note_news(blob, new)
        peer.holds[blob] = holds
        if not before or not holds:
            self._alone = None

    def _free_all(self, peer: PeerLoad) -> None:
        for assignment in tuple(peer.assignments.values()):
            self._forget(peer, assignment)
        for order in tuple(peer.orders.values()):
            self._forget(peer, order)

    def _close(self, order: Order) -> PeerLoad | None:
        peer = self._peers.get(order.source)
        if peer is None or order.number not in peer.orders:
            return None
        self._forget(peer, order)
        return peer

    def _forget(self, peer: PeerLoad, request: Assignment | Order) -> None:
        peer.remove(request)
        if isinstance(request, Assignment):
            self._copies -= request.copy
        if peer.silent:
            self.silent_bytes -= request.length
            return
        self.live_bytes -= request.length
        if isinstance(request, Assignment) and request.blob in self._demands:
            self._demands[request.blob].given_up(request.pieces)

    def _for_all(self, peer: PeerLoad, change: Callable[[Demand, range], None]) -> None:
        for assignment in peer.assignments.values():
            if assignment.blob in self._demands:
                change(self._demands[assignment.blob], assignment.pieces)

    def _is_alone(self) -> bool:
        """Whether one peer at most has anything; it is asked for as much as it takes."""
        if self._alone is None:
            givers = (peer for peer in self._peers.values() if peer.live and any(peer.holds.values()))
            self._alone = len(list(itertools.islice(givers, 2))) < 2
        return self._alone

    def _is_suspect(self, peer: PeerLoad) -> bool:
        """Whether it has yet to give something good, and another peer of its address lied: peer ids are free."""
        return not peer.given and peer.origin in self._liars

    def _is_whole(self, peer: PeerLoad, blob: str) -> bool:
        """Whether it is sent orders: it has everything, and did when it was first heard."""
        return peer.deals and blob in peer.whole
