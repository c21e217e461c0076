"""Which piece is asked of which peer: the decisions of a fetch, without input, output or a clock.

The shell tells what happens (a peer came, holds these pieces, delivered, fell silent) and does what `assign` and
`deals` say. `books` keeps what is known: `missing` what is wanted, `backlog` what each peer owes; `racks` says whose
turn it is to ask from afar.

A peer that speaks the swarm's protocol and has everything is sent *orders*: it chooses which pieces it gives, for it
alone knows what it has given to whom, and so each piece leaves it about once. Any other is *assigned* particular
pieces: the rarest of those that it has, so that what a few have spreads first; where several are as rare, what was
heard of first, and of that each client begins elsewhere. Whoever delivers soonest is asked next. A piece that somebody
was asked for is asked of nobody else, except at the very end, when what would come last is asked for a second time.

A peer that only speaks `/p2pboot/artifact/1` is asked for runs, more or less in order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator
from operator import attrgetter
from random import Random
from typing import Final

from p2pboot.core.pieces import MAX_PIECES, MIB
from p2pboot.core.tally import bits_of, first_run, from_on, last_of, runs_of
from p2pboot.fetch.receiving.backlog import PeerLoad
from p2pboot.fetch.receiving.books import LATE_S, Books
from p2pboot.fetch.receiving.missing import Assignment, Demand, Order

BUDGET_BYTES: Final = 32 * MIB
"""Asked for or being checked, over all peers: what a fetch takes in memory. Two of the largest pieces fit."""

LOOKAHEAD_PIECES: Final = 64
"""How far from the order the rarest piece may be taken, of a peer that is asked for runs."""

FEW_PIECES: Final = 16
"""Where fewer are left, those are not asked for that are about to be dealt. With 64 the last of eight clients is done
half a percent later in a simulation."""

MAX_RUNS: Final = 64
"""That an order may want."""

ANSWERED_S: Final = 0.5
"""So long a peer's orders are expected to bring what is left, and no other is sent one for it."""

STARVED_S: Final = 5.0
"""When nothing came from anybody for so long, a holder of everything that refuses deals is asked for particular pieces:
it may deal to others only, and be the only one that is honest."""

MAX_USELESS: Final = 8
"""Deals in a row of which nothing is wanted: who gives that is asked for particular pieces instead. Two that cross with
what came from others are nobody's fault."""

MAX_COPIES: Final = 8
"""Second copies on their way at a time."""

LOOK_AGAIN_S: Final = 0.25
"""How often it is looked at the end whether a second copy would be quicker."""

SCARCE_S: Final = 1.0
"""So much earlier a peer must be able to send a second copy if it is far or has everything: all need its link."""


class Schedule(Books):
    """Decides who is asked for what.

    Args:
        rng: where each client begins, so that they differ.
        budget_bytes: asked for or being checked at most, over all peers; at least one largest piece.
        pieces_at_once: that one request may ask for.
    """

    def __init__(
        self, rng: Random, budget_bytes: int = BUDGET_BYTES, *, pieces_at_once: int = MAX_PIECES
    ) -> None:
        super().__init__(budget_bytes)
        self._rng = rng
        self._pieces_at_once = pieces_at_once
        self._numbers = itertools.count()

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
            if not peer.near:
                self._turns[blob].fetches(bits_of(demand.count, pieces))
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
            most = self._most(peer, demand, alone=alone)
            length = min(most * demand.piece_length, demand.size)
            while self._fits(peer, length, alone=alone):
                ordered = sum(order.max_pieces for order in self._orders(peer, blob, now))
                if ordered >= demand.free.bit_count():
                    break
                want = self._want(peer, blob, now)
                order = Order(next(self._numbers), source, blob, want, most, length)
                peer.add(order)
                peer.ordered_at = now
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
        if peer is not None:
            peer.refuses_since = math.inf
        demand = self._demands.get(order.blob)
        pieces = range(first, first + count)
        if peer is None or demand is None:
            return None
        if not bits_of(demand.count, pieces) & demand.wanted:
            peer.useless += 1
            peer.deals = peer.deals and peer.useless < MAX_USELESS
            return None
        peer.useless = 0
        if not peer.near:
            self._turns[order.blob].fetches(bits_of(demand.count, pieces))
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
            peer.refuses_since = min(peer.refuses_since, now)

    def supply_s(self, source: Hashable, blob: str) -> float:
        """Return for how many seconds a peer has enough that nobody was asked for yet; 0 while its rate is unknown."""
        peer, demand = self._peers[source], self._demands.get(blob)
        rate = peer.meter.guess
        if demand is None or not rate:
            return 0.0
        return (demand.free & peer.holds.get(blob, 0)).bit_count() * demand.piece_length / rate

    def is_missed(self, source: Hashable) -> bool:
        """Whether others could give what a peer owes: nothing else is left to ask for, or no more may be on its way."""
        return self._is_end() or self.live_bytes + self._peers[source].asked_bytes > self._budget

    # Choices

    def _ready(self, source: Hashable, now: float) -> PeerLoad | None:
        """The peer, if it may be asked for something."""
        peer = self._peers[source]
        if not peer.asked_bytes:
            peer.meter.start(now)
        if not peer.live or now < peer.paused_until:
            return None
        return peer if not self._is_suspect(peer) or self._is_next(peer, now) else None

    def _is_next(self, peer: PeerLoad, now: float) -> bool:
        """Whether nothing is on its way from others of its address of whom it is as doubtful what they give."""
        return not any(
            (other.assignments or other.orders) and other.meter.late_s(other.asked_bytes, now) < LATE_S
            for other in self._peers.values()
            if other.live and other is not peer and other.origin == peer.origin and not other.given
        )

    def _is_end(self) -> bool:
        return not any(demand.free for demand in self._demands.values())

    def _orders(self, peer: PeerLoad, blob: str, now: float) -> Iterator[Order]:
        """What one was ordered, and what will bring something soon of what others were.

        That is not expected of who has refused lately; and who has waited for an answer counts on others as well.
        """
        for other in self._peers.values():
            answers = other.refuses_since == math.inf and now - other.ordered_at < ANSWERED_S
            if other is peer or (other.live and answers):
                yield from (order for order in other.orders.values() if order.blob == blob)

    def _starves(self, peer: PeerLoad, now: float) -> bool:
        return now - max(peer.refuses_since, self._arrived_at) >= STARVED_S

    def _most(self, peer: PeerLoad, demand: Demand, *, alone: bool) -> int:
        """How many pieces one request may ask for."""
        left = (self._budget - self.live_bytes) // demand.piece_length
        return max(1, min(peer.group_pieces(demand.piece_length, alone=alone), self._pieces_at_once, left))

    def _fits(self, peer: PeerLoad, length: int, *, alone: bool) -> bool:
        if self.live_bytes + length > self._budget or not peer.has_room(length, alone=alone):
            return False
        return not (peer.assignments or peer.orders) or not self._is_suspect(peer)

    def _next_free(self, peer: PeerLoad, now: float, *, alone: bool) -> tuple[str, range] | None:
        for blob, demand in self._demands.items():
            available = demand.free & peer.holds.get(blob, 0)
            if not available or (self._is_whole(peer, blob) and not self._starves(peer, now)):
                continue
            if not peer.swarm or demand.free.bit_count() < FEW_PIECES:
                available &= self._not_ordered(peer, blob, demand, now)
            if not peer.near:
                available &= self._allowed_from_afar(peer, blob, now)
            if not available:
                continue
            most = self._most(peer, demand, alone=alone)
            if peer.swarm:
                rarest = peer.oldest(blob, demand.holders.fewest(available), demand.wanted)
                begin = self._rng.randrange((rarest & -rarest).bit_length() - 1, rarest.bit_length())
                begin = demand.count - 1 - begin
                rarest = from_on(demand.count, rarest, begin - begin % most)
            else:
                near_by = bits_of(demand.count, range(min(LOOKAHEAD_PIECES, available.bit_length())))
                near_by >>= demand.count - available.bit_length()
                rarest = demand.holders.fewest(available & near_by)
            first = demand.count - rarest.bit_length()
            return blob, first_run(demand.count, from_on(demand.count, available, first), most)
        return None

    def _not_ordered(self, peer: PeerLoad, blob: str, demand: Demand, now: float) -> int:
        """What holders of everything will not choose next, if no others are there: they begin with the first pieces."""
        others = (order for order in self._orders(peer, blob, now) if order.number not in peer.orders)
        ordered = sum(order.max_pieces for order in others)
        return last_of(demand.free, max(demand.free.bit_count() - ordered, 0)) if ordered else demand.free

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
        free = _part(demand.count, free & ~coming or free, place, len(dealers))
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


def _part(count: int, free: int, place: int, dealers: int) -> int:
    """Return what one of several who have everything is to choose from.

    Each begins with the first of a part of its own. Who is done with that helps whoever has most left, at the end:
    from two that begin at the same place all would come twice.
    """
    parts = [
        free & bits_of(count, range(count * each // dealers, count * (each + 1) // dealers))
        for each in range(dealers)
    ]
    if parts[place] or not free:
        return parts[place]
    helpers = [each for each in range(dealers) if not parts[each]]
    most = max(parts, key=int.bit_count)
    size, after = most.bit_count(), len(helpers) - 1 - helpers.index(place)
    end = size * after // (len(helpers) + 1)
    begin = max(size * (after + 1) // (len(helpers) + 1), end + 1)
    return last_of(most, begin) ^ last_of(most, end)
