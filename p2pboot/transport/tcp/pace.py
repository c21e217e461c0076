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
_FRAMES: Final = (4096, 8192, 16_384, 32_768, MAX_FRAME_BODY)
# Before anything is known. A slow link has 0.16 s of these at 1.6 Mbit/s; a fast one is known after a millisecond.
_FIRST: Final = 32_768
_AT_ONCE: Final = 4  # full frames to a system call, on links where they take no longer than a frame may
_MEMORY: Final = 0.75  # of what was measured, at each new measurement


class Pace:
    """The measure of one connection's link.

    It takes bytes and seconds over times in which the socket was full at the beginning and at the end. Their sums fade
    together, so that one long stall weighs what it took.
    """

    def __init__(self) -> None:
        self._bytes = self._seconds = 0.0
        self.frame_body = _FIRST
        """The longest body of a frame, in bytes."""

    @property
    def message_bytes(self) -> int:
        """Bytes of such a frame on the wire."""
        return self.frame_body + HEADER_BYTES + OVERHEAD

    @property
    def batch_bytes(self) -> int:
        """What to hand to the socket at a time: several frames where the link is too fast to notice."""
        return self.message_bytes * (_AT_ONCE if self.frame_body == MAX_FRAME_BODY else 1)

    def note(self, count: int, seconds: float) -> bool:
        """Take a measurement; whether the frame's length is another one now."""
        self._bytes = self._bytes * _MEMORY + count
        self._seconds = self._seconds * _MEMORY + seconds
        within = self._bytes * _FRAME_S / self._seconds if self._seconds else MAX_FRAME_BODY
        length = max((each for each in _FRAMES if each <= within), default=_FRAMES[0])
        changed, self.frame_body = length != self.frame_body, length
        return changed
