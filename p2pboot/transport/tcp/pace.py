"""How much is handed to the socket at a time, by what the link drains.

What is in the socket can no longer be overtaken. On a fast link that is nothing to wait for, and each call should do
much; at 1.6 Mbit/s a full frame keeps a ping waiting for a third of a second.
"""

from __future__ import annotations

from typing import Final

from p2pboot.wire.noise.transport import OVERHEAD
from p2pboot.wire.yamux.frames import HEADER_BYTES
from p2pboot.wire.yamux.scheduler import MAX_FRAME_BODY

_FRAME_S: Final = 0.05  # that a frame may take
_MANY_S: Final = 0.01  # that many of them may
_FRAMES: Final = (4096, 8192, 16_384, 32_768, MAX_FRAME_BODY)
_MANY: Final = 4  # full frames at a time, where the link is that fast
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
        self.frame_body = _FIRST
        """The longest body of a frame, in bytes."""
        self.is_fast = False
        """Whether the socket may be given as much as it takes."""

    @property
    def message_bytes(self) -> int:
        """Bytes of such a frame on the wire."""
        return self.frame_body + HEADER_BYTES + OVERHEAD

    @property
    def batch_bytes(self) -> int:
        """What to hand to the socket at a time, and have it hold of what the network does not take yet."""
        return self.message_bytes * (_MANY if self.is_fast else 1)

    def note(self, count: int, seconds: float) -> bool:
        """Take a measurement; whether `batch_bytes` has changed."""
        before = self.batch_bytes
        memory = _MEMORY / (1 + seconds / _MEMORY_S)
        self._bytes = self._bytes * memory + count
        self._seconds = self._seconds * memory + seconds
        within = self._bytes * _FRAME_S
        self.frame_body = max(
            (each for each in _FRAMES if each * self._seconds <= within), default=_FRAMES[0]
        )
        self.is_fast = _MANY * MAX_FRAME_BODY * self._seconds <= self._bytes * _MANY_S
        return self.batch_bytes != before
