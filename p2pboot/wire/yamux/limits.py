"""What one peer, and all of them together, may make a connection hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from p2pboot.core.dataclass import dataclass
from p2pboot.wire.yamux.scheduler import MAX_FRAME_BODY

if TYPE_CHECKING:
    from p2pboot.wire.yamux.stream import Stream

MIB = 1024 * 1024
_ENOUGH: Final = 1 << 62


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
        unread: bytes that wait for readers, all streams together. A stream that would exceed it is reset; a driver that
            does not read from a peer while its readers do not, never gets there.
        unsent: bytes of a stream that wait to be sent; in full frames, so that bulk is not cut into scraps.
        least_unsent: bytes that every stream may have waiting, however little memory there is; so each goes on.
    """

    inbound_streams: int = 128
    outbound_streams: int = 128
    window: int = 2 * MIB
    extra_windows: int = 8 * MIB
    unread: int = 16 * MIB
    unsent: int = 8 * MAX_FRAME_BODY
    least_unsent: int = 16 * 1024


class Allowance:
    """What a session shares with others, as whoever drives them says; this one is alone and may have everything."""

    def unsent(self) -> int:
        """Bytes more that may wait to be sent, all streams together."""
        return _ENOUGH

    def take_stream(self) -> bool:
        """Count a stream that the peer opens; whether there is a place for it."""
        return True

    def note_over(self, stream: Stream) -> None:
        """Note that both directions of a stream that the peer opened are over."""
