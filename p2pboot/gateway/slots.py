"""Which connections the gateway keeps when there are more than it has slots for.

A slot costs a socket, a task and a piece of an artifact in memory, so their number is bounded; and as machines
boot in crowds, whoever holds one without using it has to make room. Pure bookkeeping: the time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from p2pboot.core.dataclass import dataclass

SLOTS: Final = 512  # connections at the same time; at rest one costs 8 KiB
SLOW_BYTES_PER_S: Final = 10_000
SLOW_AFTER_S: Final = 60.0
# A reader that takes nothing at all for so long is gone, whether slots are short or not.
STALL_S: Final = 300.0


@dataclass(slots=True, eq=False)
class Slot:
    """One connection.

    Args:
        cut: ends the connection at once; must not block.
        now: when it was accepted, seconds on a clock that does not jump.
    """

    cut: Callable[[], None]
    since: float
    """Since when it is in its present state: waiting for a request, or being answered."""
    answering: bool = False
    taken: int = 0
    """Bytes that the client took since `since`."""
    moved_at: float = 0.0
    held_since: float | None = None
    """Since when a limit of ours keeps the next bytes back: time in which nothing is asked of the client."""

    def answer(self, now: float) -> None:
        """A request is complete: from now on the client's reading counts."""
        self.answering, self.since, self.taken, self.moved_at = True, now, 0, now

    def rest(self, now: float) -> None:
        """The reply is out: the client may ask again."""
        self.answering, self.since, self.taken = False, now, 0

    def moved(self, size: int, now: float) -> None:
        """The client took `size` bytes.

        A minute that was quick enough is not remembered: who stops reading afterwards is slow a minute later.
        """
        if now - self.since >= SLOW_AFTER_S and not self.is_slow(now):
            self.since, self.taken = now, 0
        self.taken += size
        self.moved_at = now

    def hold(self, now: float) -> None:
        """A limit of ours keeps the next bytes back."""
        self.held_since = now

    def let_go(self, now: float) -> None:
        """They may go: the client's time goes on where it was."""
        if self.held_since is not None:
            self.since += now - self.held_since
            self.moved_at += now - self.held_since
            self.held_since = None

    def is_slow(self, now: float) -> bool:
        """Whether the client took less than 10 kB/s for a minute or longer."""
        elapsed_s = (now if self.held_since is None else self.held_since) - self.since
        return self.answering and elapsed_s >= SLOW_AFTER_S and self.taken < SLOW_BYTES_PER_S * elapsed_s

    def is_stalled(self, now: float) -> bool:
        """Whether the client has taken nothing for minutes."""
        return self.answering and self.held_since is None and now - self.moved_at >= STALL_S


class Slots:
    """The connections that are open."""

    def __init__(self, limit: int = SLOTS) -> None:
        self.limit = limit
        self.cut = 0
        """Connections that had to make room, or stalled, since the start."""
        self.refused = 0
        """Connections that found no slot."""
        self._open: dict[Slot, None] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, slot: Slot, now: float) -> bool:
        """Take a new connection in, if need be in the place of one that has not earned its own.

        Whoever rests between requests goes first, the longest rest before all; then slow readers, the slowest
        first. A client that is being served at a sensible rate is never cut for another.
        """
        if len(self._open) >= self.limit and not self._make_room(now):
            self.refused += 1
            return False
        self._open[slot] = None
        return True

    def release(self, slot: Slot) -> None:
        """The connection is over; further calls do nothing."""
        self._open.pop(slot, None)

    def cut_stalled(self, now: float) -> None:
        """End what has not moved for minutes; to be called now and then."""
        for slot in tuple(self._open):
            if slot.is_stalled(now):
                self._end(slot)

    def _make_room(self, now: float) -> bool:
        resting = [slot for slot in self._open if not slot.answering]
        slow = [slot for slot in self._open if slot.is_slow(now)]
        if resting:
            self._end(min(resting, key=lambda slot: slot.since))
        elif slow:
            self._end(min(slow, key=lambda slot: slot.taken / (now - slot.since)))
        return len(self._open) < self.limit

    def _end(self, slot: Slot) -> None:
        self.release(slot)
        self.cut += 1
        slot.cut()
