"""What a Yamux session sends next.

In this order: pings and their answers (go's and rust's windows grow only with a measured round trip), resets, new
streams and windows, then data: streams with little to say in turn with those in bulk, each of them one frame at a
time. A GO_AWAY is last, since go and js drop every stream when they see it.

All that waits here is bounded by the number of streams, and by what the session takes of pings and resets.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from p2pboot.errors import LocalProtocolError
from p2pboot.wire.yamux.frames import DATA, FIN, GO_AWAY, HEADER_BYTES, RST, SESSION, WINDOW_UPDATE, header
from p2pboot.wire.yamux.states import SENDING, Cause, Receiving, Sending
from p2pboot.wire.yamux.stream import Stream

MAX_FRAME_BODY: Final = 65_507
"""With its header exactly one Noise message. rust ends a connection on more than 1 MiB."""
# A stream with no more than this to say goes before those in bulk.
_SHORT: Final = 4096

_Parts = list[bytes | bytearray | memoryview]


class Scheduler:
    """The frames that wait, and the streams that wait for their turn.

    Args:
        writable: is called when a stream that was written too much takes more again.
        ended: is called when a stream's FIN has gone out.
    """

    def __init__(self, writable: Callable[[Stream], None], ended: Callable[[Stream], None]) -> None:
        self._writable = writable
        self._ended = ended
        self._frame_body = MAX_FRAME_BODY
        self._pings: deque[bytes] = deque()
        self._resets: deque[int] = deque()
        self._control: OrderedDict[Stream, None] = OrderedDict()
        self._short: OrderedDict[Stream, None] = OrderedDict()
        self._bulk: OrderedDict[Stream, None] = OrderedDict()
        self._short_is_next = True
        self._farewell: int | None = None
        self._said_farewell = False

    @property
    def frame_body(self) -> int:
        """The longest body of a frame, 1 to 65,507 bytes."""
        return self._frame_body

    @frame_body.setter
    def frame_body(self, length: int) -> None:
        if not 1 <= length <= MAX_FRAME_BODY:
            raise LocalProtocolError(f"a frame of {length} bytes is not from 1 to {MAX_FRAME_BODY}")
        self._frame_body = length

    @property
    def pings(self) -> int:
        """How many pings and answers wait."""
        return len(self._pings)

    @property
    def resets(self) -> int:
        """How many resets wait."""
        return len(self._resets)

    @property
    def leaving(self) -> bool:
        """Whether a GO_AWAY waits or has gone out."""
        return self._farewell is not None

    @property
    def is_crowded(self) -> bool:
        """Whether several streams wait for their turns that each could fill what is sent next."""
        return len(self._bulk) > 1

    @property
    def has_data(self) -> bool:
        """Whether `next_frames` would return something."""
        waits = self._pings or self._resets or self._control or self._short or self._bulk or self.leaving
        return bool(waits) and not self._said_farewell

    def add_ping(self, frame: bytes) -> None:
        """Send a ping or an answer to one."""
        self._pings.append(frame)

    def add_reset(self, stream_id: int) -> None:
        """Send a reset."""
        self._resets.append(stream_id)

    def add_control(self, stream: Stream) -> None:
        """Send the flags and the credit that the stream owes; one frame, however often they grow until then."""
        self._control[stream] = None

    def add_sender(self, stream: Stream) -> None:
        """Give the stream a turn if it can use one."""
        if stream in self._bulk or not _can_send(stream):
            return
        if stream.unsent <= _SHORT:
            self._short[stream] = None
        else:
            self._short.pop(stream, None)
            self._bulk[stream] = None

    def remove(self, stream: Stream) -> None:
        """Send nothing more of the stream."""
        for queue in (self._control, self._short, self._bulk):
            queue.pop(stream, None)

    def leave(self, code: int) -> None:
        """Send a GO_AWAY behind all the rest, and nothing behind it."""
        self._farewell = code

    def drop_all(self) -> None:
        """Send nothing of what waits, except a GO_AWAY."""
        for queue in (self._pings, self._resets, self._control, self._short, self._bulk):
            queue.clear()

    def next_frames(self, max_bytes: int) -> bytes:
        """Return whole frames, which count as sent from then on; b"" for nothing.

        Args:
            max_bytes: how many at most.
        """
        parts: _Parts = []
        if self._said_farewell:
            return b""
        room = max_bytes - self._take_control(parts, max_bytes)
        while room > HEADER_BYTES and (stream := self._next_sender()) is not None:
            room -= self._take_data(stream, parts, room)
        if self._farewell is not None and room >= HEADER_BYTES and not (self._short or self._bulk):
            parts.append(header(GO_AWAY, 0, SESSION, self._farewell))
            self._said_farewell = True
        return b"".join(parts)

    def _take_control(self, parts: _Parts, room: int) -> int:
        """Add frames without a body as far as they fit; return the bytes they take."""
        frames = room // HEADER_BYTES
        while self._pings and len(parts) < frames:
            parts.append(self._pings.popleft())
        while self._resets and len(parts) < frames:
            parts.append(header(WINDOW_UPDATE, RST, self._resets.popleft(), 0))
        while self._control and len(parts) < frames:
            stream, _ = self._control.popitem(last=False)
            if stream.owed_flags or stream.receiving is Receiving.OPEN:
                parts.append(header(WINDOW_UPDATE, stream.owed_flags, stream.id, stream.credit))
            stream.owed_flags = stream.credit = 0
        return len(parts) * HEADER_BYTES

    def _next_sender(self) -> Stream | None:
        """Streams with little to say and streams in bulk by turns, each kind in its order."""
        self._short_is_next = not self._short_is_next or not self._bulk
        queue = self._short if self._short and self._short_is_next else self._bulk or self._short
        return queue.popitem(last=False)[0] if queue else None

    def _take_data(self, stream: Stream, parts: _Parts, room: int) -> int:
        """Add one frame of the stream, and its FIN if it was the last one; return the bytes they take."""
        used = 0
        count = min(stream.unsent, stream.send_window, self._frame_body, room - HEADER_BYTES)
        if count:
            parts.append(header(DATA, 0, stream.id, count))
            stream.take_for_frame(count, parts)
            used = HEADER_BYTES + count
            if stream.wants_writer():
                self._writable(stream)
        if stream.sending is Sending.CLOSING and not stream.unsent and room - used >= HEADER_BYTES:
            # A frame of its own: go looks at FIN before the body, and a reader that is quick misses the body.
            parts.append(header(DATA, FIN, stream.id, 0))
            used += HEADER_BYTES
            stream.sending = SENDING[stream.sending, Cause.FIN]
            self._ended(stream)
        self.add_sender(stream)
        return used


def _can_send(stream: Stream) -> bool:
    if stream.unsent:
        return stream.send_window > 0
    return stream.sending is Sending.CLOSING
