"""What one peer, and all of them together, may make a connection hold."""

from __future__ import annotations

from p2pboot.core.dataclass import dataclass
from p2pboot.wire.yamux.scheduler import MAX_FRAME_BODY

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one connection.

    Args:
        inbound_streams: that the peer may have open; further ones are reset.
        outbound_streams: that we open. rust ends a connection that has 513 streams or 257 unacknowledged ones, js
            resets above 1,000; a bound of 128 keeps clear of all of them without waiting for an ACK.
        window: bytes of a stream that the peer may send ahead of its reader; 256 KiB at least. With 2 MiB updates are
            half as many as with 1 MiB, and a round trip of 60 ms bounds a stream at 35 MB/s instead of 17.
        extra_windows: bytes by which all streams' windows together may exceed the 256 KiB that each begins with;
            where they are used up, further streams keep to 256 KiB.
        unread: bytes that wait for readers, all streams together. A stream that would exceed it is reset.
        unsent: bytes of a stream that wait to be sent; in full frames, so that bulk is not cut into scraps.
    """

    inbound_streams: int = 128
    outbound_streams: int = 128
    window: int = 2 * MIB
    extra_windows: int = 8 * MIB
    unread: int = 16 * MIB
    unsent: int = 8 * MAX_FRAME_BODY


class Budget:
    """Bytes that many connections share.

    Args:
        limit: of all of them together.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    def take(self, count: int) -> bool:
        """Take `count` bytes if so many are left; whether they were."""
        if self.used + count > self._limit:
            return False
        self.used += count
        return True

    def give_back(self, count: int) -> None:
        """Return bytes taken before."""
        self.used -= count
