"""What a Yamux session tells its driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pboot.core.dataclass import dataclass

if TYPE_CHECKING:
    from p2pboot.wire.yamux.stream import Stream


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The peer opened a stream."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Readable:
    """A read that found too little will find enough now, or the stream's end, or its reset."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Writable:
    """A write that was cut short can go on, or will learn that the stream was reset."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class StreamReset:
    """A stream ended at once.

    Args:
        stream: which one.
        reason: why, where it was not the peer who reset it; one line for the log.
    """

    stream: Stream
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Pong:
    """The peer answered our ping."""

    value: int


@dataclass(frozen=True, slots=True)
class WentAway:
    """The peer opens and takes no more streams, and is about to end the connection.

    Args:
        code: 0 in order, 1 because of our protocol error, 2 because of one of its own, 0x1001 because it has no room
            for another connection; others exist.
    """

    code: int


Event = StreamOpened | Readable | Writable | StreamReset | Pong | WentAway
