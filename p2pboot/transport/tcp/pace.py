"""How much is handed to the socket at a time, by what the link drains.

What is in the socket can no longer be overtaken. On a fast link that is nothing to wait for, and each call should do
much; at 1.6 Mbit/s a full frame keeps a ping waiting for a third of a second. On the other hand each message wakes
both ends, and on slow links that is most of what a byte costs. So frames are short while several streams want to send,
longer while there is one, as in a fetch, when only a ping or a new request can wait for it, and longest on a machine
that has no time to spare.
"""

from __future__ import annotations

from typing import Final

from p2pboot.wire.noise.transport import OVERHEAD
from p2pboot.wire.yamux.frames import HEADER_BYTES
from p2pboot.wire.yamux.scheduler import MAX_FRAME_BODY

# That a frame may take while others wait; while none does, twice that. With four clients that have time to spare the
# last is done in 1.18 to 1.22 times what the link needs (six runs), with 0.1 s in 1.19 to 1.36 (five): what they tell
# each other, and ask each other for, waits for a frame each time.
_LEAST_TURN_S: Final = 0.03
# But a frame costs both ends half a millisecond. So it grows where the link often has nothing to do before we come: 3
# of 100 times where half of two cores is idle, 9 where a tenth is, 20 where eight clients have no time to spare.
_MOST_TURN_S: Final = 0.1
_LATE: Final = 1.15
_IN_TIME: Final = 0.97
_FRAMES: Final = (4096, 8192, 16_384, 32_768, MAX_FRAME_BODY)
_MANY: Final = 4  # full frames at a time, where the link is so fast
_MANY_S: Final = 0.01  # that they take no longer
# Before anything is known: as if it were a link of 8 Mbit/s. A fast one has shown that it is after ten messages.
_FIRST: Final = 32_768
_FIRST_S: Final = 0.03
# What was measured fades by a quarter with each new measurement, and faster with those that took long.
_MEMORY: Final = 0.75
_MEMORY_S: Final = 0.1


class Pace:
    """The measure of one connection's link.

    It takes bytes and seconds over times in which the socket was full at the beginning and at the end. Their sums fade
    together, so that one long stall weighs what it took.
    """

    def __init__(self) -> None:
        self._bytes, self._seconds = float(_FIRST), _FIRST_S
        self._turn_s = _LEAST_TURN_S
        self.frame_body = _FIRST
        """The longest body of a frame, in bytes."""
        self.turn_body = _FIRST
        """The longest while several streams wait for their turns."""
        self.is_fast = False
        """Whether the socket may be given as much as it takes."""

    @property
    def low_water(self) -> int:
        """What the socket is to hold, about, of bytes that the network does not take yet."""
        return self.batch_bytes(crowded=True)

    def batch_bytes(self, *, crowded: bool) -> int:
        """What to hand to the socket at a time.

        Args:
            crowded: whether several streams wait for their turns.
        """
        if self.is_fast:
            return _MANY * _message(MAX_FRAME_BODY)
        return _message(self.turn_body if crowded else self.frame_body)

    def note(self, count: int, seconds: float, *, ran_dry: bool = False) -> bool:
        """Take a measurement; whether anything has changed.

        Args:
            count: bytes that the socket took.
            seconds: how long that was.
            ran_dry: whether we came so late that the link had nothing to do for a while. Then it drains at least that
                much, and what is slow is this machine: it has longer frames, if that comes often.
        """
        before = self.frame_body, self.turn_body, self.is_fast
        late = _LATE if ran_dry else _IN_TIME
        self._turn_s = min(max(self._turn_s * late, _LEAST_TURN_S), _MOST_TURN_S)
        if not ran_dry or count * self._seconds >= self._bytes * seconds:
            memory = _MEMORY / (1 + seconds / _MEMORY_S)
            self._bytes = self._bytes * memory + count
            self._seconds = self._seconds * memory + seconds
        self.frame_body, self.turn_body = self._longest(2 * self._turn_s), self._longest(self._turn_s)
        self.is_fast = _MANY * MAX_FRAME_BODY * self._seconds <= self._bytes * _MANY_S
        return before != (self.frame_body, self.turn_body, self.is_fast)

    def _longest(self, seconds: float) -> int:
        within = self._bytes * seconds
        return max((each for each in _FRAMES if each * self._seconds <= within), default=_FRAMES[0])


def _message(body: int) -> int:
    """Bytes of such a frame on the wire."""
    return body + HEADER_BYTES + OVERHEAD
