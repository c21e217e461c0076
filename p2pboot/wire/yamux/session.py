"""A Yamux session: takes the peer's bytes and keeps its streams; `scheduler` decides what is sent next.

Receiving never waits for sending: what a peer makes us send is bounded, however long it does not read. So two peers
that send in bulk at the same time cannot lock each other up.
"""

from __future__ import annotations

from typing import Final

from p2pboot.errors import LocalProtocolError, RemoteProtocolError
from p2pboot.wire.yamux.events import Event, Pong, Readable, StreamOpened, StreamReset, WentAway, Writable
from p2pboot.wire.yamux.frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    HEADER_BYTES,
    INITIAL_WINDOW,
    MAX_STREAM_ID,
    NORMAL,
    PING,
    PROTOCOL_ERROR,
    RST,
    SESSION,
    SYN,
    WINDOW_UPDATE,
    header,
)
from p2pboot.wire.yamux.limits import Allowance, Limits
from p2pboot.wire.yamux.scheduler import Scheduler
from p2pboot.wire.yamux.states import RECEIVING, Cause, Receiving, Sending
from p2pboot.wire.yamux.stream import Stream

YAMUX_PROTOCOL: Final = "/yamux/1.0.0"
STREAM_LABOUR: Final = 250
"""Frames that take as long as opening a stream, with the task that serves it."""
_MAX_WINDOW: Final = (1 << 32) - 1
# What an honest peer is far from, however slowly we send and however much comes at once.
_MAX_PINGS: Final = 32  # unanswered; everybody waits for a pong before the next ping
_MAX_REFUSED: Final = 256  # streams in a row that were beyond the limit
_MAX_RESETS: Final = 512  # that wait until it reads
_MAX_EVENTS: Final = 1024  # of one call to `receive`: streams that are opened and reset at once


class Session:
    """One side of a session.

    Args:
        initiator: whether this side dialled; it decides which stream ids are ours.
        limits: what the peer may make us hold.
        allowance: what it shares with others; by default nothing.
    """

    def __init__(
        self, *, initiator: bool, limits: Limits | None = None, allowance: Allowance | None = None
    ) -> None:
        self.limits = limits or Limits()
        self.allowance = allowance or Allowance()
        self.unread = 0
        """Bytes that wait to be read, all streams together."""
        self.unsent = 0
        """Bytes that were written and have not left, all streams together."""
        self.labour = 0
        """What the peer made us do: frames, and `STREAM_LABOUR` for each stream that it opened."""
        self.moved = 0
        """Bytes that streams ever received and sent: whether it grows tells a connection in use from an idle one."""
        self._parity = 1 if initiator else 0
        self._next_id = 1 if initiator else 2
        self._streams: dict[int, Stream] = {}
        self._outbound = 0
        self._extra = 0  # by which all windows exceed the initial ones
        self._events: list[Event] = []
        self._failure = ""
        # Being received: a header in pieces, and a body.
        self._partial = b""
        self._body = 0
        self._body_of: Stream | None = None
        self._body_is_last = False
        # Bytes that may still come for streams which were reset here and are no longer in the books.
        self._stray = 0
        self._refused = 0
        self._awaited_pong: int | None = None
        self._peer_left = False
        self._scheduler = Scheduler(self._writable, self._forget_if_over)
        self._handlers = {
            DATA: self._on_data,
            WINDOW_UPDATE: self._on_window_update,
            PING: self._on_ping,
            GO_AWAY: self._on_go_away,
        }

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Those of which at least one direction is open."""
        return tuple(self._streams.values())

    @property
    def frame_body(self) -> int:
        """The longest body of a frame that is sent, 1 to 65,507 bytes.

        Short ones let small messages pass sooner on a slow link; each costs both sides time.
        """
        return self._scheduler.frame_body

    @frame_body.setter
    def frame_body(self, length: int) -> None:
        self._scheduler.frame_body = length

    def open(self) -> Stream:
        """Open a stream; it can be written to at once.

        Raises:
            LocalProtocolError: there are too many already, or one side has said GO_AWAY.
        """
        if self._scheduler.leaving or self._peer_left:
            raise LocalProtocolError("the connection takes no further streams")
        if self._outbound >= self.limits.outbound_streams or self._next_id > MAX_STREAM_ID:
            raise LocalProtocolError(f"{self._outbound} streams to one peer are enough")
        stream = self._new_stream(self._next_id, SYN)
        self._next_id += 2
        self._outbound += 1
        return stream

    @property
    def awaits_pong(self) -> bool:
        """Whether the last ping is not answered yet."""
        return self._awaited_pong is not None

    def ping(self, value: int) -> None:
        """Ask the peer for a sign of life; `Pong` follows.

        Args:
            value: 0 to 2³² − 1.

        Raises:
            LocalProtocolError: it has not answered the last one.
        """
        if self._awaited_pong is not None:
            raise LocalProtocolError("the last ping is not answered yet")
        self._awaited_pong = value
        self._scheduler.add_ping(header(PING, SYN, SESSION, value))

    def go_away(self, code: int = NORMAL) -> None:
        """Say goodbye, once everything that can be sent has been. Idempotent."""
        if not self._scheduler.leaving:
            self._scheduler.leave(code)

    def end(self, reason: str) -> None:
        """Give the session up: every stream that has not ended in order is reset, and only a GO_AWAY goes out.

        Args:
            reason: what `receive` raises from now on.
        """
        self._failure = reason
        for stream in self.streams:
            self._fall(stream, drop_unread=False)
        self._scheduler.drop_all()
        self._scheduler.leave(PROTOCOL_ERROR)

    def grant_reads(self) -> None:
        """Grant the peers of slow readers what was read, however little it is.

        Grants are made by the half of a window. Call this now and then (every ten seconds) while streams are being
        read: others take a window that stays shut for 30 s for a stream that is dead.
        """
        for stream in self._streams.values():
            if stream.receiving is Receiving.OPEN:
                stream.report_all()

    def events(self) -> list[Event]:
        """Return what happened since the last call; to be asked for after `receive` and after `data_to_send`."""
        events, self._events = self._events, []
        return events

    # What the peer sends.

    def receive(self, data: bytes | memoryview) -> None:
        """Take bytes of the peer; they are not needed any more when it returns.

        Raises:
            RemoteProtocolError: it did what it may not; the session is over, and only a GO_AWAY goes out.
        """
        if self._failure:
            raise RemoteProtocolError(self._failure)
        try:
            self._receive(memoryview(data))
        except RemoteProtocolError as error:
            self.end(error.message)
            raise

    def _receive(self, data: memoryview) -> None:
        at, end = 0, len(data)
        while at < end:
            if self._body:
                count = min(self._body, end - at)
                self._take_body(data[at : at + count])
                at += count
            elif not self._partial and end - at >= HEADER_BYTES:
                self._take_header(*HEADER.unpack_from(data, at))
                at += HEADER_BYTES
            else:
                count = min(HEADER_BYTES - len(self._partial), end - at)
                self._partial += data[at : at + count]
                at += count
                if len(self._partial) == HEADER_BYTES:
                    fields, self._partial = HEADER.unpack(self._partial), b""
                    self._take_header(*fields)

    def _take_header(self, version: int, kind: int, flags: int, stream_id: int, length: int) -> None:
        if version:
            raise RemoteProtocolError(f"yamux: version {version}")
        handler = self._handlers.get(kind)
        if handler is None:
            raise RemoteProtocolError(f"yamux: a frame of type {kind}")
        self.labour += 1
        handler(flags, stream_id, length)
        if len(self._events) > _MAX_EVENTS:
            raise RemoteProtocolError("yamux: the peer opens and resets streams without end")

    def _on_data(self, flags: int, stream_id: int, length: int) -> None:
        stream = self._stream_of(flags, stream_id)
        self._body, self._body_of = length, stream
        if stream is None:
            self._stray -= length
            if self._stray < 0:
                raise RemoteProtocolError(f"yamux: {length} bytes for stream {stream_id}, which is not open")
            return
        if length and (stream.receiving, Cause.DATA) not in RECEIVING:
            raise RemoteProtocolError(f"yamux: data on stream {stream_id} after its end")
        stream.window -= length
        if stream.window < 0:
            raise RemoteProtocolError(f"yamux: more data on stream {stream_id} than its window allows")
        self._body_is_last = flags & FIN != 0
        if not length and self._body_is_last:
            self._end_receiving(stream)

    def _take_body(self, chunk: memoryview) -> None:
        self._body -= len(chunk)
        stream = self._body_of
        if stream is None:
            return
        if not stream.deliver(chunk):
            self.reset(stream, "too much is unread")
        elif not self._body and self._body_is_last and stream.receiving is Receiving.OPEN:
            self._end_receiving(stream)

    def _on_window_update(self, flags: int, stream_id: int, length: int) -> None:
        stream = self._stream_of(flags, stream_id)
        if stream is None:
            return
        stream.send_window = min(stream.send_window + length, _MAX_WINDOW)
        if flags & FIN:
            self._end_receiving(stream)
        self.schedule(stream)

    def _on_ping(self, flags: int, stream_id: int, value: int) -> None:
        _require_session(stream_id)
        if flags & SYN:
            if self._scheduler.pings >= _MAX_PINGS:
                raise RemoteProtocolError(f"yamux: more than {_MAX_PINGS} pings at once")
            self._scheduler.add_ping(header(PING, ACK, SESSION, value))
        elif value == self._awaited_pong:
            self._awaited_pong = None
            self._events.append(Pong(value))
        else:
            raise RemoteProtocolError("yamux: an answer to a ping that was not sent")

    def _on_go_away(self, _flags: int, stream_id: int, code: int) -> None:
        _require_session(stream_id)
        self._peer_left = True
        self._events.append(WentAway(code))

    def _stream_of(self, flags: int, stream_id: int) -> Stream | None:
        """Find, open or end the stream of a frame; None if the frame means no stream that is open."""
        if stream_id == SESSION:
            raise RemoteProtocolError("yamux: a stream with id 0")
        stream = self._streams.get(stream_id)
        if flags & RST:  # before any length: go writes an error code there
            if stream is not None:
                self._fall(stream, drop_unread=False)
                self._events.append(StreamReset(stream))
            return None
        if flags & SYN:
            return self._accept(stream_id)
        if stream is None and self.is_ours(stream_id) and stream_id >= self._next_id:
            raise RemoteProtocolError(f"yamux: stream {stream_id} was never opened")
        return stream

    def is_ours(self, stream_id: int) -> bool:
        """Whether a number is one of those that this side opens streams under."""
        return stream_id % 2 == self._parity

    def _accept(self, stream_id: int) -> Stream | None:
        if self.is_ours(stream_id):
            raise RemoteProtocolError(f"yamux: the peer opens stream {stream_id}, which is ours to open")
        if stream_id in self._streams:
            raise RemoteProtocolError(f"yamux: stream {stream_id} is opened twice")
        if self._scheduler.resets > _MAX_RESETS:
            raise RemoteProtocolError("yamux: the peer opens streams and does not read that they are reset")
        if (
            len(self._streams) - self._outbound >= self.limits.inbound_streams
            or self._scheduler.leaving
            or not self.allowance.take_stream()
        ):
            self._refuse(stream_id)
            return None
        self._refused = 0
        self.labour += STREAM_LABOUR
        stream = self._new_stream(stream_id, ACK)
        self._events.append(StreamOpened(stream))
        return stream

    def _refuse(self, stream_id: int) -> None:
        self._refused += 1
        if self._refused > _MAX_REFUSED:
            raise RemoteProtocolError("yamux: the peer opens streams without end")
        self._stray += INITIAL_WINDOW
        self._scheduler.add_reset(stream_id)

    # The life of streams.

    def _new_stream(self, stream_id: int, flag: int) -> Stream:
        extra = min(self.limits.window - INITIAL_WINDOW, self.limits.extra_windows - self._extra)
        stream = Stream(self, stream_id, flag, max(extra, 0))
        self._extra += stream.extra
        self._streams[stream_id] = stream
        self._scheduler.add_control(stream)
        return stream

    def _end_receiving(self, stream: Stream) -> None:
        stream.receive_fin()
        self._forget_if_over(stream)

    def reset(self, stream: Stream, reason: str = "") -> None:
        """End a stream at once and tell the peer; with a `reason`, if it is not the stream's user who wants it."""
        if self._streams.get(stream.id) is not stream:
            stream.ignore_input()
            return
        if stream.owed_flags != SYN:  # otherwise the peer has not heard of it
            self._scheduler.add_reset(stream.id)
            if stream.receiving is Receiving.OPEN:
                self._stray += stream.window
        self._fall(stream, drop_unread=True)
        if reason:
            self._events.append(StreamReset(stream, reason))

    def _fall(self, stream: Stream, *, drop_unread: bool) -> None:
        stream.fall(drop_unread=drop_unread)
        self._scheduler.remove(stream)
        self._forget_if_over(stream)

    def _forget_if_over(self, stream: Stream) -> None:
        if stream.receiving is Receiving.OPEN or stream.sending in (Sending.OPEN, Sending.CLOSING):
            return
        if self._streams.get(stream.id) is stream:  # and not one that a peer opened under its number since
            del self._streams[stream.id]
            self._extra -= stream.extra
            if self.is_ours(stream.id):
                self._outbound -= 1
            else:
                self.allowance.note_over(stream)

    # What streams tell the session.

    def grant(self, stream: Stream, count: int) -> None:
        """Let the peer send `count` bytes more."""
        stream.window += count
        stream.credit += count
        self._scheduler.add_control(stream)

    def charge_unread(self, count: int) -> bool:
        """Account for bytes that wait to be read; whether there is room for them."""
        if self.unread + count > self.limits.unread:
            return False
        self.unread += count
        return True

    def uncharge_unread(self, count: int) -> None:
        """Account for bytes that were read or dropped."""
        self.unread -= count

    def readable(self, stream: Stream) -> None:
        """Have the stream's reader woken."""
        self._events.append(Readable(stream))

    def schedule(self, stream: Stream) -> None:
        """Give the stream a turn to send if it can use one."""
        self._scheduler.add_sender(stream)

    def _writable(self, stream: Stream) -> None:
        self._events.append(Writable(stream))

    # What is sent.

    @property
    def is_crowded(self) -> bool:
        """Whether several streams wait for their turns to send."""
        return self._scheduler.is_crowded

    @property
    def has_data_to_send(self) -> bool:
        """Whether `data_to_send` would return something."""
        return self._scheduler.has_data

    def data_to_send(self, max_bytes: int) -> bytes:
        """Return whole frames that are to go out next, which count as sent from then on; b"" for nothing.

        Args:
            max_bytes: how many at most; with 65,519 a full frame fits. Fewer than 13 carry no data.
        """
        return self._scheduler.next_frames(max_bytes)


def _require_session(stream_id: int) -> None:
    if stream_id != SESSION:
        raise RemoteProtocolError(f"yamux: a frame of the session on stream {stream_id}")
