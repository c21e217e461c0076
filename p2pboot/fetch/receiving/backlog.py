"""What one peer has, owes and can take: how much is asked of it ahead."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import field

from p2pboot.core.dataclass import dataclass
from p2pboot.core.pieces import MIB
from p2pboot.core.tally import bits_of
from p2pboot.fetch.receiving.missing import Assignment, Order
from p2pboot.fetch.receiving.rates import RateMeter

WINDOW_S = 1.5
"""Seconds of its own data that a peer is asked for ahead when it is the only one, or chooses nothing itself: covers any
round trip, and is lost with it."""

SWARM_WINDOW_S = 0.6
"""The same where there are several: two requests are enough to keep a peer busy, and what is asked for early is asked
for before it is known what is rare."""

MAX_WINDOW = 8 * MIB
"""Bytes; enough for 5 MiB/s over a second and a half, or for 130 MB/s over a round trip of 60 ms."""

MAX_ASSIGNMENTS = 16
"""In flight per peer; a server leaves further ones unread."""

GROUP_BYTES = 2 * MIB
"""Pieces are asked for in runs up to this. What a request costs, however long it is: with 1 MiB client and server take
0.5 CPU s/GB more each (measured over loopback), with 4 MiB hardly less, and a server then holds 12 MiB for a peer."""

FIRST_GROUP_BYTES = MIB
"""Likewise of a peer whose rate is not known yet."""

GROUP_S = 0.5
"""A slow peer's runs are shorter, for the end of a fetch waits for whole requests."""

SWARM_GROUP_S = 0.5
"""The same where there are several: a piece that is part of a long run is not passed on meanwhile, and each request
wakes both ends. With eight clients at 50 Mbit/s and 1,024 pieces 0.1 s means single pieces and 1.5 % more than the
bound in a simulation, 0.3 s 2.5 %, 0.5 s 4 %; but on two cores the last client is done at 1.39 with 0.5 s, and at 1.47
with 0.3."""

MAX_NEWS = 256
"""That are told apart by when they came; the latest ones are one."""

SLOW_ASSIGNMENT_S = 4.0
"""A peer that takes longer for one request gets one at a time instead of two."""


@dataclass(slots=True)
class PeerLoad:
    """One peer in the schedule.

    Args:
        meter: of its rate.
        swarm: whether it is asked for deals and particular pieces; else only for runs, more or less in order.
        near: whether nothing that is scarce lies between.
        peer_id: its peer id.
        origin: its address, as `core.origins` names it.
    """

    meter: RateMeter
    swarm: bool = False
    near: bool = True
    peer_id: str = ""
    origin: str = ""
    holds: dict[str, int] = field(default_factory=dict)
    """What it says that it has, by artifact."""
    news: dict[str, deque[int]] = field(default_factory=dict)
    """The same in the order in which it was heard, without what nobody wants any more."""
    fetching: dict[str, int] = field(default_factory=dict)
    """What it says that it fetches from a peer that has everything."""
    assignments: dict[int, Assignment] = field(default_factory=dict)
    """What it owes, oldest first."""
    whole: set[str] = field(default_factory=set)
    """Artifacts that it had all of when it was first heard: it deals them, if it deals at all."""
    deals: bool = True
    useless: int = 0
    """Deals in a row of which nothing was wanted."""
    orders: dict[int, Order] = field(default_factory=dict)
    """Deals that it has not begun to answer."""
    asked_bytes: int = 0
    given: int = 0
    """Good pieces that came from it."""
    checking: set[int] = field(default_factory=set)
    """Requests whose reply is being checked."""
    proved: int = 0
    """Bytes of the longest request that it answered with something good."""
    silent: bool = False
    dropped: bool = False
    paused_until: float = 0.0
    ordered_at: float = -math.inf
    no_deals_until: float = 0.0
    refuses_since: float = math.inf
    """When it refused an order and had dealt something before; infinite where it dealt something since."""
    no_copies_until: float = 0.0

    @property
    def live(self) -> bool:
        """Whether it is counted on."""
        return not self.silent and not self.dropped

    def has_room(self, length: int, *, alone: bool) -> bool:
        """Whether so many bytes more may be asked of it, which may be the only peer."""
        outstanding = len(self.assignments) + len(self.orders)
        if not self.proved:
            # Who lies costs one piece, also where two replies would arrive before the first is checked.
            return not outstanding and not self.checking
        if outstanding >= MAX_ASSIGNMENTS:
            return False
        rate = self.meter.bytes_per_s
        if not outstanding:
            return True
        if outstanding == 1 and (self.swarm or rate is None or length <= rate * SLOW_ASSIGNMENT_S):
            return True  # with two it stays busy while the next request is on its way
        window_s = WINDOW_S if alone or not self.swarm else SWARM_WINDOW_S
        return self.asked_bytes + length <= min(MAX_WINDOW, (rate or 0.0) * window_s)

    def group_pieces(self, piece_length: int, *, alone: bool) -> int:
        """How many pieces one request may ask for."""
        if not self.proved:
            return 1
        if not self.swarm:
            rate = self.meter.bytes_per_s
            most = FIRST_GROUP_BYTES if rate is None else min(GROUP_BYTES, rate * GROUP_S)
        else:
            # A rate that was measured over a burst is believed step by step, for a request that ends in the middle
            # brings nothing.
            rate = self.meter.guess or 0.0
            most = min(GROUP_BYTES, 2 * self.proved, rate * (GROUP_S if alone else SWARM_GROUP_S))
        return max(1, int(most) // piece_length)

    def add(self, request: Assignment | Order) -> None:
        """It owes this as well."""
        if isinstance(request, Order):
            self.orders[request.number] = request
        else:
            self.assignments[request.number] = request
        self.asked_bytes += request.length

    def remove(self, request: Assignment | Order) -> None:
        """It does not owe this any more."""
        if isinstance(request, Order):
            del self.orders[request.number]
        else:
            del self.assignments[request.number]
        self.asked_bytes -= request.length

    def note_news(self, blob: str, bits: int) -> None:
        """It says that it has these as well."""
        news = self.news.setdefault(blob, deque())
        if len(news) == MAX_NEWS:
            bits |= news.pop()
        news.append(bits)

    def oldest(self, blob: str, among: int, wanted: int) -> int:
        """Return those of a set of which it was heard first that they are there.

        Whoever deals a piece to somebody counts on others to fetch it there soon; where a link is full, and so what is
        not fetched yet never becomes less, a choice at random leaves some of it for long.
        """
        news = self.news.get(blob, ())
        while news and not news[0] & wanted:
            news.popleft()
        return next((found for bits in news if (found := bits & among)), among)

    def has_all(self, blob: str, count: int, pieces: range) -> bool:
        """Whether it says that it has all of these."""
        bits = bits_of(count, pieces)
        return self.holds.get(blob, 0) & bits == bits
