"""Which piece is asked of which peer: the decisions of a fetch, without input, output or a clock.

The shell tells what happens (a peer came, holds these pieces, delivered, fell silent) and does what `assign` and
`deals` say. `missing` keeps what is wanted, `backlog` what each peer owes, `racks` whose turn it is to ask from afar.

A peer that speaks the swarm's protocol and has everything is sent *orders*: it chooses which pieces it gives, for it
alone knows what it has given to whom, and so each piece leaves it about once. Any other is *assigned* particular
pieces: the rarest of those that it has, so that what a few have spreads first; where several are as rare, each client
begins elsewhere. Whoever delivers soonest is asked next. A piece that somebody was asked for is asked of nobody else,
except at the very end, when what would come last is asked for a second time.

A peer that only speaks `/p2pboot/artifact/1` is asked for runs, more or less in order.

A piece that arrives is *claimed* by the first copy, so it is checked and written once; when the check fails it is
wanted again. A silent peer's pieces become free at once, but what it was asked for still counts if it arrives first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator
from operator import attrgetter
from random import Random
from typing import Final

from p2pboot.core.pieces import MAX_PIECES, MIB, PieceSet
from p2pboot.core.tally import bits_of, bits_of_all, first_run, from_on, runs_of
from p2pboot.fetch.receiving.backlog import PeerLoad
from p2pboot.fetch.receiving.missing import Assignment, Demand, Order
from p2pboot.fetch.receiving.racks import Turns
from p2pboot.fetch.receiving.rates import RateMeter

BUDGET_BYTES: Final = 32 * MIB
"""Asked for or being checked, over all peers: what a fetch takes in memory. Two of the largest pieces fit."""

LOOKAHEAD_PIECES: Final = 64
"""How far from the order the rarest piece may be taken, of a peer that is asked for runs."""

MAX_RUNS: Final = 64
"""That an order may want."""

MAX_COPIES: Final = 8
"""Second copies on their way at a time."""

LOOK_AGAIN_S: Final = 0.25
"""How often it is looked at the end whether a second copy would be quicker."""

SCARCE_S: Final = 1.0
"""So much earlier a peer must be able to send a second copy if it is far or has everything: all need its link."""


class Schedule:
    """Decides who is asked for what.

    Args:
        rng: where each client begins, so that they differ.
        budget_bytes: asked for or being checked at most, over all peers; at least one largest piece.
        pieces_at_once: that one request may ask for.
    """

    def __init__(
        self, rng: Random, budget_bytes: int = BUDGET_BYTES, *, pieces_at_once: int = MAX_PIECES
    ) -> None:
        self._rng = rng
        self._budget = budget_bytes
        self._pieces_at_once = pieces_at_once
        self._peer_id = ""
        self._demands: dict[str, Demand] = {}
        self._turns: dict[str, Turns] = {}
        self._peers: dict[Hashable, PeerLoad] = {}
        self._checking: dict[int, tuple[int, ...]] = {}  # what each request's arrival claimed
        self._numbers = itertools.count()
        self._copies = 0
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
        self, source: Hashable, now: float, *, swarm: bool, near: bool = True, peer_id: str = ""
    ) -> None:
        """A peer can be asked; it holds nothing until `set_holdings`.

        Args:
            source: the connection.
            now: seconds.
            swarm: whether it speaks `/p2pboot/swarm/1`.
            near: whether nothing that is scarce lies between.
            peer_id: its peer id.
        """
        self._peers[source] = PeerLoad(RateMeter(now), swarm=swarm, near=near, peer_id=peer_id)
        self._alone = None

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

    # What to ask for

    def assign(self, source: Hashable, now: float) -> list[Assignment]:
        """Decide which pieces to ask of a peer now; the caller sends all of it."""
        peer = self._ready(source, now)
        assigned: list[Assignment] = []
        alone = self._is_alone()
        while peer is not None and self._fits(
            peer, 1, alone=alone
        ):  # first, for a choice costs more than this
            choice, copy = self._next_free(peer, now, alone=alone), False
            if choice is None:
                choice, copy = self._slowest_of_another(peer, now), True
            if choice is None:
                break
            blob, pieces = choice
            demand = self._demands[blob]
            offset, length = demand.span(pieces)
            if not self._fits(peer, length, alone=alone):
                break
            assignment = Assignment(next(self._numbers), source, blob, pieces, offset, length, copy)
            peer.add(assignment)
            self._copies += copy
            self.live_bytes += length
            demand.asked(pieces)
            assigned.append(assignment)
        return assigned

    def deals(self, source: Hashable, now: float) -> list[Order]:
        """Decide which deals to ask of a peer that has everything now; the caller sends all of them."""
        peer = self._ready(source, now)
        orders: list[Order] = []
        if peer is None or not peer.swarm or now < peer.no_deals_until:
            return orders
        alone = self._is_alone()
        for blob, demand in self._demands.items():
            if not self._is_whole(peer, blob):
                continue
            most = min(peer.group_pieces(demand.piece_length, alone=alone), self._pieces_at_once)
            length = min(most * demand.piece_length, demand.size)
            while self._fits(peer, length, alone=alone):
                ordered = sum(order.max_pieces for order in self._orders(blob))
                if ordered >= demand.free.bit_count():
                    break
                want = self._want(peer, blob, now)
                order = Order(next(self._numbers), source, blob, want, most, length)
                peer.add(order)
                self.live_bytes += length
                orders.append(order)
        return orders

    def dealt(self, order: Order, first: int, count: int, now: float) -> Assignment | None:
        """A peer begins to send what it chose.

        Args:
            order: which is answered.
            first: index of the first piece; it and the others lie within the artifact.
            count: of pieces, at most as many as the order allows.
            now: seconds.

        Returns:
            What arrives, to be dealt with like what was assigned; None if nothing of it is wanted any more: then the
            caller reads past it.
        """
        peer = self._close(order)
        demand = self._demands.get(order.blob)
        pieces = range(first, first + count)
        if peer is None or demand is None or not bits_of(demand.count, pieces) & demand.wanted:
            return None
        offset, length = demand.span(pieces)
        assignment = Assignment(next(self._numbers), order.source, order.blob, pieces, offset, length)
        if not peer.asked_bytes:
            peer.meter.start(now)
        peer.add(assignment)
        if peer.silent:
            self.silent_bytes += length
        else:
            self.live_bytes += length
            demand.asked(pieces)
        return assignment

    def deal_refused(self, order: Order, retry_s: float, now: float) -> None:
        """A peer gives nothing now and wants to be asked again later."""
        peer = self._close(order)
        if peer is not None:
            peer.no_deals_until = now + retry_s

    def next_time(self, now: float) -> float:
        """Return when to look again although nothing happened, on the clock of `now`; infinite for never."""
        times = [
            time
            for peer in self._peers.values()
            for time in (peer.paused_until, peer.no_deals_until)
            if time > now
        ]
        times += [turns.next_change for turns in self._turns.values() if turns.next_change > now]
        if self._is_end() and any(demand.wanted for demand in self._demands.values()):
            times.append(now + LOOK_AGAIN_S)
        return min(times, default=math.inf)

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
        peer, demand = self._peers.get(assignment.source), self._demands.get(assignment.blob)
        if peer is not None and demand is not None:
            missing = bits_of(demand.count, assignment.pieces)
            peer.whole.discard(assignment.blob)
            self._hold(peer, assignment.blob, peer.holds.get(assignment.blob, 0) & ~missing)

    # Book-keeping

    def _hold(self, peer: PeerLoad, blob: str, holds: int) -> None:
        holders, before = self._demands[blob].holders, peer.holds.get(blob, 0)
        holders.add(holds & ~before)
        holders.remove(before & ~holds)
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

    # Choices

    def _ready(self, source: Hashable, now: float) -> PeerLoad | None:
        """The peer, if it may be asked for something."""
        peer = self._peers[source]
        if not peer.asked_bytes:
            peer.meter.start(now)
        return None if not peer.live or now < peer.paused_until else peer

    def _is_alone(self) -> bool:
        """Whether one peer at most has anything; it is asked for as much as it takes."""
        if self._alone is None:
            givers = (peer for peer in self._peers.values() if peer.live and any(peer.holds.values()))
            self._alone = len(list(itertools.islice(givers, 2))) < 2
        return self._alone

    def _is_whole(self, peer: PeerLoad, blob: str) -> bool:
        """Whether it is sent orders: it has everything, and did when it was first heard."""
        return peer.deals and blob in peer.whole

    def _is_end(self) -> bool:
        return not any(demand.free for demand in self._demands.values())

    def _orders(self, blob: str) -> Iterator[Order]:
        for peer in self._peers.values():
            for order in peer.orders.values():
                if order.blob == blob and not peer.silent:
                    yield order

    def _fits(self, peer: PeerLoad, length: int, *, alone: bool) -> bool:
        return self.live_bytes + length <= self._budget and peer.has_room(length, alone=alone)

    def _next_free(self, peer: PeerLoad, now: float, *, alone: bool) -> tuple[str, range] | None:
        for blob, demand in self._demands.items():
            available = demand.free & peer.holds.get(blob, 0)
            if not available or self._is_whole(peer, blob):
                continue
            if not peer.near:
                available &= self._allowed_from_afar(peer, blob, now)
                if not available:
                    continue
            most = min(peer.group_pieces(demand.piece_length, alone=alone), self._pieces_at_once)
            if peer.swarm:
                begin = self._rng.randrange(demand.count)
                rarest = from_on(demand.count, demand.holders.fewest(available), begin - begin % most)
            else:
                near_by = bits_of(demand.count, range(min(LOOKAHEAD_PIECES, available.bit_length())))
                near_by >>= demand.count - available.bit_length()
                rarest = demand.holders.fewest(available & near_by)
            first = demand.count - rarest.bit_length()
            return blob, first_run(demand.count, from_on(demand.count, available, first), most)
        return None

    def _want(self, peer: PeerLoad, blob: str, now: float) -> tuple[range, ...]:
        """What to order from a peer that has everything: rather what no other has or gives."""
        demand = self._demands[blob]
        free = demand.free
        if not peer.near:
            free &= self._allowed_from_afar(peer, blob, now)
        dealers, coming = [], 0
        for other in self._peers.values():
            if other.live and self._is_whole(other, blob):
                dealers.append(other)
            coming |= other.fetching.get(blob, 0)
        dealers.sort(key=attrgetter("peer_id"))
        place = next(place for place, other in enumerate(dealers) if other is peer)
        part = range(demand.count * place // len(dealers), demand.count * (place + 1) // len(dealers))
        own = free & bits_of(demand.count, part)
        free = own & ~coming or own or free & ~coming or free
        nobody = free & demand.holders.at_most(len(dealers))
        runs = runs_of(demand.count, nobody, MAX_RUNS)
        others = from_on(demand.count, free & ~nobody, self._rng.randrange(demand.count))
        return (*runs, *runs_of(demand.count, others, MAX_RUNS - len(runs)))

    def _allowed_from_afar(self, peer: PeerLoad, blob: str, now: float) -> int:
        near = [
            other
            for other in self._peers.values()
            if other.near and other.swarm and other.live and blob in other.holds
        ]
        return self._turns[blob].allowed(self._demands[blob], peer.holds[blob], near, blob, now)

    def _slowest_of_another(self, peer: PeerLoad, now: float) -> tuple[str, range] | None:
        """Nothing is free: a second copy of what would arrive last, where this peer can be quicker."""
        if self._copies >= MAX_COPIES or now < peer.no_copies_until or not self._is_end():
            return None
        peer.no_copies_until = now + LOOK_AGAIN_S  # if it finds none, for it looks at all that is on its way
        slowest_s, choice = 0.0, None
        for other in self._peers.values():
            ahead = 0
            for assignment in other.assignments.values() if other.live and other is not peer else ():
                ahead += assignment.length
                expected_s = other.meter.expected_s(ahead, now)
                if expected_s > slowest_s and self._is_worth_copying(peer, assignment, expected_s):
                    slowest_s, choice = expected_s, (assignment.blob, assignment.pieces)
        if choice is not None:
            peer.no_copies_until = now
        return choice

    def _is_worth_copying(self, peer: PeerLoad, assignment: Assignment, expected_s: float) -> bool:
        demand = self._demands.get(assignment.blob)
        return (
            demand is not None
            and peer.has_all(assignment.blob, demand.count, assignment.pieces)
            and demand.is_asked_once(assignment.pieces)
            and peer.meter.best_case_s(peer.asked_bytes + assignment.length)
            + (SCARCE_S if self._is_whole(peer, assignment.blob) or not peer.near else 0.0)
            < expected_s
        )
