"""Which connections the gateway keeps when there are more than it has slots for.

A slot costs a socket and a task, so their number is bounded; and as machines boot in crowds, whoever holds one without
using it has to make room, and whoever holds many has to for one that holds few. Who finds no slot waits for one, which
costs less than asking again, and firmware does not ask again. Pure bookkeeping: the time is an argument, and what the
kernel knows of a connection is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.origins import Party
from p2pboot.core.shares import Shares

SLOTS: Final = 512  # connections at the same time; one costs some 10 KiB, whatever is read on it
RESERVE_PART: Final = 8  # an eighth is for addresses that hold few
WAIT_S: Final = 15.0  # for a slot: a little longer than it takes to find out who is slow
REST_S: Final = 1.0  # that every connection has for its request, unless its address holds too many
SLOW_BYTES_PER_S: Final = 32_000  # a quarter of what a machine at 1 Mbit/s takes
SLOW_AFTER_S: Final = 10.0
# A client that has not confirmed a byte for so long is gone, whether slots are short or not.
STALL_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Progress:
    """What the kernel knows of a connection since it began.

    Args:
        taken: bytes that the client's side confirmed.
        busy_s: time in which bytes were on their way to it.
        closed_s: of this, the time in which it had no room for more: it was not reading, or not as quickly as it came.
    """

    taken: int = 0
    busy_s: float = 0.0
    closed_s: float = 0.0


class Slot:
    """One connection.

    Args:
        party: whose it is.
        cut: ends the connection at once; must not block.
        look: asks the kernel.
        now: when it was accepted, seconds on a clock that does not jump.
    """

    def __init__(
        self, party: Party, cut: Callable[[], None], look: Callable[[], Progress], now: float
    ) -> None:
        self.party = party
        self.cut = cut
        self._look = look
        self.since = now
        """Since when it is in its present state: waiting for a request, or being answered."""
        self.answering = False
        self.is_slow = False
        """Whether the client chooses to read less than 32 kB/s: its own window kept us waiting most of the time.

        Where the network is slow, or we are, that is no choice of the client's.
        """
        self.rate = 0.0
        """What it reads, bytes per second."""
        self.is_stalled = False
        """Whether nothing arrives at the client any more."""
        self._mark = (now, Progress())
        self._moved = Progress()

    def answer(self, now: float) -> None:
        """A request is complete: from now on the client's reading counts."""
        self.answering, self.since = True, now
        self._moved = self._look()
        self._begin(now, self._moved)

    def rest(self, now: float) -> None:
        """The reply is out: the client may ask again."""
        self.answering, self.since, self.rate, self.is_slow, self.is_stalled = False, now, 0.0, False, False

    def is_idle(self, now: float) -> bool:
        """Whether the client could have asked for something, and has not."""
        return not self.answering and now - self.since >= REST_S

    def claim(self, now: float) -> tuple[bool, bool, bool, float, float]:
        """How good the claim to this slot is, for comparing."""
        return (not self.is_idle(now), not self.is_slow, self.answering, self.rate, self.since)

    def measure(self, now: float) -> None:
        """See how the client reads; to be called every few seconds.

        Time in which it was quick enough is not remembered: who stops reading afterwards is slow a little later.
        """
        if not self.answering:
            return
        progress = self._look()
        if progress.taken != self._moved.taken:
            self._moved = progress
        self.is_stalled = progress.busy_s - self._moved.busy_s >= STALL_S
        began, before = self._mark
        elapsed_s = now - began
        if elapsed_s < SLOW_AFTER_S:
            return
        self.rate = (progress.taken - before.taken) / elapsed_s
        self.is_slow = self.rate < SLOW_BYTES_PER_S and progress.closed_s - before.closed_s > elapsed_s / 2
        if not self.is_slow:
            self._mark = (now, progress)

    def _begin(self, now: float, progress: Progress) -> None:
        self._mark, self.rate, self.is_slow, self.is_stalled = (now, progress), 0.0, False, False


class Slots:
    """The connections that are open.

    One address alone may have all of them but the reserve. When others come it gives way to them, until all have the
    same; among connections of equal claims only those give way that are not in use.
    """

    def __init__(self, limit: int = SLOTS) -> None:
        self.limit = limit
        self.cut = 0
        """Connections that had to make room, or stalled, since the start."""
        self.refused = 0
        """Connections that found no slot."""
        self._open: dict[Slot, None] = {}  # the oldest first
        self._shares = Shares(limit, limit // RESERVE_PART)
        self._waiting: dict[Slot, Callable[[], None]] = {}  # the oldest first
        self._queued = Shares(limit, limit // RESERVE_PART)

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, slot: Slot, now: float) -> bool:
        """Take a new connection in, if need be in the place of one that has less of a claim.

        That is one of the address that holds most, if the new one's holds less than its share: a resting one, the
        longest rest before all; else a slow reader, the slowest first; else the one that has got least. Where no
        address has too much, it is a resting connection or a slow reader, or none.
        """
        if not self._shares.fits(slot.party) and not self._make_room(slot.party, now):
            return False
        slot.since = now
        self._open[slot] = None
        self._shares.take(slot.party)
        return True

    def wait(self, slot: Slot, admitted: Callable[[], None]) -> bool:
        """Have a connection that was not admitted wait for a slot.

        Args:
            slot: of the connection.
            admitted: called when it has got one; must not block.

        Returns:
            Whether there was room to wait: for as many as there are slots, in the same shares.
        """
        if not self._queued.fits(slot.party):
            self.refused += 1
            return False
        self._waiting[slot] = admitted
        self._queued.take(slot.party)
        return True

    def give_up(self, slot: Slot) -> None:
        """A connection has waited long enough."""
        if self._leave(slot) is not None:
            self.refused += 1

    def release(self, slot: Slot, now: float) -> None:
        """The connection is over; further calls do nothing."""
        if self._close(slot):
            self._admit_waiting(now)

    def measure(self, now: float) -> None:
        """See how all clients read, and end what has not moved for minutes; to be called every few seconds."""
        for slot in tuple(self._open):
            slot.measure(now)
            if slot.is_stalled:
                self._end(slot)
        self._admit_waiting(now)

    def _admit_waiting(self, now: float) -> None:
        """Give slots to those who wait, as far as there are any to give."""
        full: set[str] = set()  # addresses of which nobody more fits in
        for slot in tuple(self._waiting):
            if slot.party.origin in full:
                continue
            if self.admit(slot, now):
                admitted = self._leave(slot)
                assert admitted is not None  # noqa: S101 - it was waiting
                admitted()
            else:
                full.add(slot.party.origin)

    def _leave(self, slot: Slot) -> Callable[[], None] | None:
        admitted = self._waiting.pop(slot, None)
        if admitted is not None:
            self._queued.give_back(slot.party)
        return admitted

    def _make_room(self, party: Party, now: float) -> bool:
        """End one connection, so that one of this party can take its place."""
        held = self._shares.held(party.origin)
        origin = party.origin
        if held < self._shares.even_share(origin):
            origin = self._shares.gives_way(party)
        if origin != party.origin:
            candidates = [slot for slot in self._open if slot.party.origin == origin]
        else:
            # It has its share, or all have the same.
            candidates = [
                slot
                for slot in self._open
                if (slot.is_slow or slot.is_idle(now)) and self._shares.held(slot.party.origin) >= held
            ]
        if not candidates:
            return False
        self._end(min(candidates, key=lambda slot: slot.claim(now)))
        return True

    def _close(self, slot: Slot) -> bool:
        if slot not in self._open:
            return False
        del self._open[slot]
        self._shares.give_back(slot.party)
        return True

    def _end(self, slot: Slot) -> None:
        self._close(slot)
        self.cut += 1
        slot.cut()
