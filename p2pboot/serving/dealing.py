"""Which piece a holder of everything gives to which client: the decisions of dealing, without input, output or clock.

All clients ask at once, and each reply is chosen when it begins to be sent. First goes what is *undealt*, so that each
piece leaves this node about once and the clients pass it on among themselves; then, to those whom the others do not
supply well, what fewest have. A piece is undealt unless it was dealt to a client that is still connected, or clients of
two origins report it. A dealt piece that nobody else reports in good time is undealt again.

What clients report orders what they get; it denies nobody anything. Whoever keeps to himself what he was dealt comes
after the others, and what one origin alone claims to have is still given to whoever wants it.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Hashable, Iterable
from dataclasses import field
from heapq import heappop, heappush
from random import Random
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.pieces import PieceSet
from p2pboot.core.tally import Tally, bits_of, bits_of_all, first_run, from_on

REPORTED_S: Final = 5.0
"""After so long, or twice the time that its transfer took, a dealt piece that nobody else reports is undealt again."""

PASSED_ON_S: Final = 1.0
"""So long at least nobody gets a second copy of what was dealt: it will soon be had elsewhere, and reported."""

CREDIT: Final = 4
"""Deals that nobody else reports a piece of although there was time; a client with so many comes after the others."""

OWED: Final = 64
"""Deals of one client of which it is kept in mind at a time whether others report them: whoever reports nothing, and
takes what he can for a day, is not to be remembered by all of it."""

SUPPLY_S: Final = 2.0
"""Over so long it is looked at what a client gets from others…"""

WELL_SUPPLIED: Final = 4
"""…and with so many times its share of this node's uplink it gets no second copies while anything is on its way."""

ENOUGH: Final = 0.3
"""So much of this node's uplink is enough from others, however few clients there are…"""

ENOUGH_OF_OWN: Final = 0.7
"""…and so much of the most that the client ever had from all together: its own link or processor is short then."""

NEW_S: Final = 1.0
"""One that has just come may still be supplied well."""

GROUP_S: Final = 0.3
"""Where there are several clients, one deal takes about so long at most."""

RETRY_S: Final = 0.3
"""When to ask again where there is nothing to give now."""

ASKED: Final = 8
"""Other clients that are named to one that waits."""

_RATE_S: Final = 2.0  # the uplink is measured over so long


@dataclass(frozen=True, slots=True)
class Deal:
    """Pieces to send now.

    Args:
        first: index of the first.
        count: how many, at least one.
    """

    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to send now.

    Args:
        retry_s: when to ask again, seconds.
        ask: clients that have something of what is wanted.
    """

    retry_s: float
    ask: tuple[Hashable, ...]


@dataclass(slots=True)
class _Client:
    origin: Hashable
    joined_at: float
    held: int = 0
    dealt: int = 0  # while it counts as dealt
    sending: dict[int, float] = field(default_factory=dict)  # since when, by the first piece
    waiting: deque[tuple[float, int]] = field(
        default_factory=deque
    )  # what nobody else reported, and when it is late
    gained: deque[tuple[float, int, int]] = field(
        default_factory=deque
    )  # when how many came from others, and of all
    quickest: float = 0.0  # bytes per second that it had from all together
    bytes_per_s: float | None = None
    asked_at: float = -math.inf

    def forget_gains(self, now: float) -> None:
        """Forget what is not looked at any more of what it gained."""
        while self.gained and self.gained[0][0] < now - SUPPLY_S:
            self.gained.popleft()


class Dealing:
    """Deals one artifact, cut in one way.

    Args:
        count: of pieces.
        piece_length: bytes.
        rng: where to begin with what was not asked for, so that several holders differ.
    """

    def __init__(self, count: int, piece_length: int, rng: Random) -> None:
        self._rng = rng
        self._count = count
        self._piece_length = piece_length
        self._everything = (1 << count) - 1
        self._clients: dict[Hashable, _Client] = {}
        self._origins: Counter[Hashable] = Counter()
        self._reported: dict[Hashable, int] = {}  # by origin
        self._origins_of = Tally()  # how many origins report a piece
        self._holders = Tally()  # how many clients do
        self._dealt = Tally()
        self._claimed = 0  # reported, or said to be on its way from another holder of everything, at any time
        self._fresh = 0  # likewise for the first time not long ago: two origins will report it soon
        self._ever = 0  # dealt, if not to somebody who is gone: goes after what never was
        self._pending = 0  # dealt so short ago that whoever got it may soon have it for others
        self._deadlines: list[tuple[float, int, Hashable, int]] = []  # until when others have to report what
        self._number = 0
        self._busy_since = 0.0
        self._busy_s = 0.0
        self._sent_bytes = 0
        self._uplink = 0.0
        self._sending = 0

    # Who is there, and what they report

    def join(self, client: Hashable, origin: Hashable, now: float) -> None:
        """A client is connected that wants pieces; it holds none until it is heard.

        Args:
            client: its connection or peer id.
            origin: where it comes from, as `core.origins.origin_of` names it.
            now: seconds.
        """
        self._clients[client] = _Client(origin, now)
        self._origins[origin] += 1
        self._reported.setdefault(origin, 0)

    def leave(self, client: Hashable) -> None:
        """A client is gone, and with it what it holds: its deals never happened."""
        gone = self._clients.pop(client)
        self._dealt.remove(gone.dealt)
        self._ever &= ~gone.dealt | self._dealt.some
        self._pending &= ~gone.dealt
        self._holders.remove(gone.held)
        self._sending -= len(gone.sending)
        self._origins[gone.origin] -= 1
        left = 0
        for other in self._clients.values():
            if other.origin == gone.origin:
                left |= other.held
        self._origins_of.remove(self._reported[gone.origin] & ~left)
        self._reported[gone.origin] = left
        if not self._origins[gone.origin]:
            del self._origins[gone.origin], self._reported[gone.origin]

    def hear(
        self,
        client: Hashable,
        held: Iterable[range],
        fetching: Iterable[range],
        now: float,
    ) -> None:
        """Take a client's word for what changed; all runs lie within the artifact.

        Args:
            client: who says it.
            held: what it has verified since.
            fetching: what is on its way to it from a holder of everything.
            now: seconds.
        """
        about = self._clients[client]
        new = bits_of_all(self._count, held) & ~about.held
        about.forget_gains(now)
        if new:
            about.gained.append((now, (new & ~about.dealt).bit_count(), new.bit_count()))
        self._hold(about, about.held | new)
        self._claim(new | bits_of_all(self._count, fetching), now)
        self._expire(now)

    def hear_bitmap(self, client: Hashable, held: PieceSet, now: float) -> None:
        """Take a client's word for all that it has."""
        about = self._clients[client]
        self._claim(held.bits & ~about.held, now)
        self._hold(about, held.bits)
        self._expire(now)

    def has_all(self, client: Hashable) -> bool:
        """Whether a client says that it has everything."""
        return self._clients[client].held.bit_count() == self._count

    def _claim(self, bits: int, now: float) -> None:
        """Wait for a second report of what one client claims, but once: a claim denies nobody anything."""
        bits &= ~self._claimed & ~self._dealt.some
        if bits:
            self._claimed |= bits
            self._fresh |= bits
            self._expect(bits, None, now + REPORTED_S)

    def _expect(self, bits: int, client: Hashable, until: float) -> None:
        self._number += 1
        heappush(self._deadlines, (until, self._number, client, bits))

    @property
    def _passing_on_s(self) -> float:
        """How long it takes at most until a client has what it is dealt, and others may have heard of it."""
        if not self._uplink:
            return PASSED_ON_S
        return min(max(PASSED_ON_S, 4 * len(self._clients) * self._piece_length / self._uplink), REPORTED_S)

    def _hold(self, about: _Client, held: int) -> None:
        self._holders.add(held & ~about.held)
        self._holders.remove(about.held & ~held)
        lost = about.held & ~held
        about.held = held
        before = self._reported[about.origin]
        after = before | held
        if lost:
            after = 0
            for other in self._clients.values():
                if other.origin == about.origin:
                    after |= other.held
        self._origins_of.add(after & ~before)
        self._origins_of.remove(before & ~after)
        self._reported[about.origin] = after

    # What is dealt

    def choose(self, client: Hashable, want: PieceSet, max_pieces: int, now: float) -> Deal | Wait:
        """Decide what to send to a client that asked for a deal, at the moment when its turn has come.

        Args:
            client: who asked.
            want: what it wants; maybe not all of it.
            max_pieces: that it takes at once.
            now: seconds.

        Returns:
            What to send, to be followed by `sent` or `failed`; or when to ask again.
        """
        self._expire(now)
        about = self._clients[client]
        about.asked_at = now
        lacks = self._everything & ~about.held & ~about.dealt
        wanted = want.bits & lacks
        several = self._several
        undealt = ~self._dealt.some & ~several
        undealt &= ~self._fresh
        nobody = undealt & ~self._holders.some
        if not (self._owes(about, now) and self._others_first(about, now)):
            unasked = from_on(self._count, lacks & nobody, self._rng.randrange(self._count))
            for choice in (wanted & nobody & ~self._ever, wanted & nobody, unasked):
                if choice:
                    return self._deal(about, choice, max_pieces, now)
        elif lacks & nobody:
            return Wait(RETRY_S, self._ask(about, want.bits))
        spread = wanted & ~(self._pending & ~self._holders.some)
        if not spread or self._is_well_supplied(about, lacks, want.bits, now):
            return Wait(RETRY_S, self._ask(about, want.bits))
        return self._deal(about, self._dealt.fewest(self._holders.fewest(spread)), max_pieces, now)

    def sent(self, client: Hashable, first: int, count: int, now: float) -> None:
        """A deal was sent whole."""
        about = self._clients.get(client)
        if about is None or first not in about.sending:
            return
        took_s = now - about.sending.pop(first)
        bits = bits_of(self._count, range(first, first + count))
        size = count * self._piece_length
        self._sent_bytes += size
        self._count_busy(now, -1)
        rate = size / max(took_s, 0.001)
        about.bytes_per_s = rate if about.bytes_per_s is None else (about.bytes_per_s + rate) / 2
        if len(about.waiting) < OWED:
            about.waiting.append((now + self._passing_on_s, bits))
        self._expect(bits, client, now + max(REPORTED_S, 2 * took_s))

    def failed(self, client: Hashable, first: int, count: int, now: float) -> None:
        """A deal was not sent whole: it never happened."""
        about = self._clients.get(client)
        if about is None or first not in about.sending:
            return
        del about.sending[first]
        self._count_busy(now, -1)
        self._undeal(about, bits_of(self._count, range(first, first + count)))
        self._ever &= ~bits_of(self._count, range(first, first + count)) | self._dealt.some

    def _deal(self, about: _Client, choice: int, max_pieces: int, now: float) -> Deal:
        run = first_run(self._count, choice, self._longest(about, max_pieces, choice))
        bits = bits_of(self._count, run)
        self._ever |= bits
        about.dealt |= bits
        self._dealt.add(bits)
        self._pending |= bits
        self._expect(bits, None, now + self._passing_on_s)
        about.sending[run.start] = now
        self._count_busy(now, 1)
        return Deal(run.start, len(run))

    def _longest(self, about: _Client, max_pieces: int, choice: int) -> int:
        clients = len(self._clients)
        if clients == 1:
            return max(1, max_pieces)
        fair = choice.bit_count() // (2 * clients)
        by_rate = int((about.bytes_per_s or 0.0) * GROUP_S) // self._piece_length
        return max(1, min(max_pieces, by_rate, fair))

    @property
    def _several(self) -> int:
        """What is reported twice: by two origins, or by two clients where all come from one."""
        return (self._origins_of if len(self._origins) > 1 else self._holders).several

    def _elsewhere(self, about: _Client) -> int:
        """What others report than this client, or its origin where there are several."""
        if len(self._origins) > 1:
            return self._origins_of.several | self._origins_of.some & ~self._reported[about.origin]
        return self._holders.several | self._holders.some & ~about.held

    def _owes(self, about: _Client, now: float) -> bool:
        """Whether so many of its deals are late to be reported by others that it comes after them."""
        if not self._is_late(about, now):
            return False
        elsewhere = self._elsewhere(about)
        owed: list[tuple[float, int]] = []
        while about.waiting and len(owed) < CREDIT:
            deal = about.waiting.popleft()
            if not deal[1] & elsewhere:
                owed.append(deal)
        about.waiting.extendleft(reversed(owed))
        return self._is_late(about, now)

    def _is_late(self, about: _Client, now: float) -> bool:
        return len(about.waiting) >= CREDIT and about.waiting[CREDIT - 1][0] <= now

    def _others_first(self, about: _Client, now: float) -> bool:
        """Whether others ask who owe nothing; then of those who do only one is dealt anything at a time."""
        if not any(other.sending and self._is_late(other, now) for other in self._clients.values()):
            return False
        return any(
            now - other.asked_at < SUPPLY_S and not self._owes(other, now)
            for other in self._clients.values()
            if other is not about
        )

    def _is_well_supplied(self, about: _Client, lacks: int, want: int, now: float) -> bool:
        if not lacks & ~want and not about.sending:
            return False  # nothing is on its way to it
        about.forget_gains(now)
        fetching = sum(client.held != self._everything for client in self._clients.values())
        if now - about.joined_at < NEW_S:
            return fetching > 1
        per_s = self._piece_length / SUPPLY_S
        from_others = sum(gained for _, gained, _ in about.gained) * per_s
        about.quickest = max(about.quickest, sum(gained for _, _, gained in about.gained) * per_s)
        if fetching < 2:  # nobody else is to be spared for: who has everything already is one more holder
            return 0 < WELL_SUPPLIED * self._uplink <= from_others
        enough = min(WELL_SUPPLIED / fetching, ENOUGH) * self._uplink
        return 0 < min(enough, ENOUGH_OF_OWN * about.quickest) <= from_others

    def holders_of(self, want: PieceSet, client: Hashable) -> tuple[Hashable, ...]:
        """A few clients, other than one, that say that they have something of this."""
        return self._ask(self._clients.get(client), want.bits)

    def _ask(self, about: _Client | None, want: int) -> tuple[Hashable, ...]:
        ask: list[Hashable] = []
        for name, other in self._clients.items():
            if other is not about and other.held & want:
                ask.append(name)
                if len(ask) == ASKED:
                    break
        return tuple(ask)

    def _expire(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, client, bits = heappop(self._deadlines)
            about = self._clients.get(client)
            if client is None:
                self._fresh &= ~bits
                self._pending &= ~bits
            elif about is not None:
                self._undeal(about, bits & ~self._elsewhere(about))

    def _undeal(self, about: _Client, bits: int) -> None:
        self._pending &= ~bits
        bits &= about.dealt
        about.dealt ^= bits
        self._dealt.remove(bits)

    def _count_busy(self, now: float, change: int) -> None:
        """Measure what this node sends while it sends anything."""
        if self._sending:
            self._busy_s += now - self._busy_since
        self._busy_since = now
        self._sending += change
        if self._busy_s >= _RATE_S or not self._uplink:
            self._uplink = self._sent_bytes / max(self._busy_s, 0.001)
        if self._busy_s >= _RATE_S:
            self._busy_s = 0.0
            self._sent_bytes = 0
