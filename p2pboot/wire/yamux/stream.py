"""One Yamux stream as whoever drives the session uses it.

Reading and writing never wait: they say how far they came, and an event says when to go on. What is read is granted
to the peer again by itself; so a reader that stops pushes back for as long as it likes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from p2pboot.errors import LocalProtocolError, ProtocolError
from p2pboot.wire.yamux.frames import INITIAL_WINDOW
from p2pboot.wire.yamux.states import RECEIVING, SENDING, Cause, Receiving, Sending

if TYPE_CHECKING:
    from p2pboot.wire.yamux.session import Session


_SHORT_PART: Final = 1024
_JOINED_PART: Final = 4096
_DROPPED_BYTES: Final = 256  # that take as long as a frame, and carried nothing


class StreamWasReset(ProtocolError):
    """The stream ended at once, by the peer or here; what was on its way is lost."""


class Stream:
    """A stream; made by `Session.open`, or by the peer (`StreamOpened`).

    Whoever is done with one ends both directions: reads to the end and calls `close_write`, or calls `reset`. Until
    then it counts against the session's limits.
    """

    __slots__ = (
        "_armed",
        "_at_least",
        "_buffer",
        "_filled",
        "_ignores_input",
        "_queue",
        "_session",
        "_target",
        "_unreported",
        "_unsent_limit",
        "_write_was_short",
        "credit",
        "extra",
        "id",
        "owed_flags",
        "received",
        "receiving",
        "send_window",
        "sending",
        "sent",
        "unsent",
        "window",
    )

    def __init__(self, session: Session, stream_id: int, flag: int, extra: int) -> None:
        self.id = stream_id
        self.sending = Sending.OPEN
        self.receiving = Receiving.OPEN
        # What the session keeps of it.
        self._session = session
        self.owed_flags = flag  # SYN or ACK, until it went out
        self.extra = extra  # by which our window exceeds the initial one
        self.credit = extra  # granted, and not told to the peer yet
        self.window = INITIAL_WINDOW + extra  # what the peer may still send
        self.send_window = INITIAL_WINDOW  # what we may still send
        # Our direction.
        self._queue: deque[memoryview | bytearray] = deque()
        self._unsent_limit = session.limits.unsent
        self.unsent = 0
        """Bytes that were taken by `write` and have not left; their buffers must not change."""
        self.sent = 0
        """Bytes that ever left."""
        self._write_was_short = False
        # The peer's direction.
        self.received = 0
        """Bytes that ever came, read or not."""
        self._buffer = bytearray()
        self._target: memoryview | None = None
        self._filled = self._at_least = 0
        self._armed = False  # somebody waits for a Readable
        self._ignores_input = False
        self._unreported = 0  # read since the last grant

    @property
    def unread(self) -> int:
        """Bytes that wait to be read."""
        return len(self._buffer)

    @property
    def waiting(self) -> bool:
        """Whether a read waits; no longer once it is `Readable`, or the stream was reset."""
        return self._armed

    @property
    def room(self) -> int:
        """Bytes that `write` would take now."""
        least = max(0, self._session.limits.least_unsent - self.unsent)
        return max(0, min(self._unsent_limit - self.unsent, max(self._session.allowance.unsent(), least)))

    def keep_unsent(self, max_bytes: int) -> None:
        """Let `write` take bytes only while fewer than so many wait to be sent; never more than the session's limit."""
        self._unsent_limit = min(max_bytes, self._session.limits.unsent)

    @property
    def blocked(self) -> bool:
        """Whether the peer's window keeps us from sending. `sent` says whether that lasts."""
        return self.unsent > 0 and self.send_window == 0

    def read(self, max_bytes: int) -> bytes | None:
        """Take what has come: 1 to `max_bytes` bytes, b"" at the orderly end.

        Returns:
            None when there is nothing yet; `Readable` follows.

        Raises:
            StreamWasReset: nothing more comes.
        """
        self._check_no_target()
        if self._buffer:
            with memoryview(self._buffer) as waiting:
                data = bytes(waiting[:max_bytes])
            self._consume(len(data))
            return data
        if self._is_over():
            return b""
        self._armed = True
        return None

    def read_into(self, target: memoryview, at_least: int = 1) -> int | None:
        """Fill a buffer: with what has come, and directly with what comes.

        Args:
            target: where to. Until `finish_read` it belongs to the stream.
            at_least: how many bytes are worth waking the reader for; at most `len(target)`.

        Returns:
            The bytes filled in, if they are enough or the stream has ended in order. Otherwise None: `Readable`
            follows when enough have come, or no more will; then, or to give up earlier, call `finish_read`.

        Raises:
            StreamWasReset: nothing more comes.
        """
        self._check_no_target()
        count = min(len(self._buffer), len(target))
        if count:
            with memoryview(self._buffer) as waiting:
                target[:count] = waiting[:count]
            self._consume(count)
        if count >= at_least or self._is_over():
            return count
        self._target, self._filled, self._at_least = target, count, at_least
        self._armed = True
        return None

    def finish_read(self) -> int:
        """Take a buffer back from `read_into`; return how many bytes are in it.

        Fewer than `at_least` after `Readable` are the last ones of the stream.

        Raises:
            StreamWasReset: fewer than `at_least` came before the reset.
        """
        filled, self._filled = self._filled, 0
        self._target, self._armed = None, False
        if filled < self._at_least and self.receiving is Receiving.RESET:
            raise StreamWasReset("the stream was reset")
        return filled

    def write(self, data: bytes | memoryview) -> int:
        """Queue bytes to be sent, without copying what is long: it must not change until `unsent` is 0.

        Returns:
            How many were taken; if not all, `Writable` follows when there is room.

        Raises:
            StreamWasReset: nothing more can be sent.
            LocalProtocolError: after `close_write`.
        """
        self._move_sending(Cause.DATA, "write to")
        taken = min(len(data), self.room)
        if taken:
            self._enqueue(data, taken)
            self.unsent += taken
            self._session.unsent += taken
            self._session.schedule(self)
        self._write_was_short = taken < len(data)
        return taken

    def _enqueue(self, data: bytes | memoryview, count: int) -> None:
        """Append to what waits. What is short is put together: each part costs 200 bytes, and pongs have 32."""
        if count > _SHORT_PART:
            self._queue.append(memoryview(data)[:count])
        elif self._queue and isinstance(last := self._queue[-1], bytearray) and len(last) < _JOINED_PART:
            last += memoryview(data)[:count]
        else:
            self._queue.append(bytearray(memoryview(data)[:count]))

    def close_write(self) -> None:
        """Half-close: what was written goes out, then the peer learns that nothing follows. Idempotent.

        Raises:
            StreamWasReset: nothing more can be sent.
        """
        self._move_sending(Cause.CLOSE, "close")
        self._session.schedule(self)

    def reset(self) -> None:
        """End both directions at once; what waits to be sent or read is dropped. Idempotent."""
        self._session.reset(self)

    def ignore_input(self) -> None:
        """Drop what waits to be read and whatever still comes, without granting the peer more.

        For a reader that is done while its last bytes still go out: a reset would take them along.
        """
        self._ignores_input = True
        self._target, self._armed = None, False
        self._drop_unread()

    # From here on: for the session.

    def deliver(self, chunk: memoryview) -> bool:
        """Take bytes of the peer, which its window has allowed; whether there was room for them."""
        if self._ignores_input or self.receiving is not Receiving.OPEN:
            return True
        self.received += len(chunk)
        self._session.moved += len(chunk)
        if self._target is not None:
            chunk = self._fill_target(self._target, chunk)
        elif self._armed:
            self._tell_reader()
        if chunk:
            if not self._session.charge_unread(len(chunk)):
                return False
            self._buffer += chunk
        return True

    def _fill_target(self, target: memoryview, chunk: memoryview) -> memoryview:
        """Copy what fits; return the rest."""
        count = min(len(target) - self._filled, len(chunk))
        target[self._filled : self._filled + count] = chunk[:count]
        self._filled += count
        self._report(count)
        if self._armed and self._filled >= self._at_least:
            self._tell_reader()
        return chunk[count:]

    def take_for_frame(self, count: int, parts: list[bytes | bytearray | memoryview]) -> None:
        """Move `count` of the unsent bytes to `parts`."""
        self.unsent -= count
        self._session.unsent -= count
        self.sent += count
        self._session.moved += count
        self.send_window -= count
        while count:
            part = self._queue[0]
            if len(part) > count:
                parts.append(part[:count])
                self._queue[0] = part[count:]
                break
            parts.append(self._queue.popleft())
            count -= len(part)

    def wants_writer(self) -> bool:
        """Whether to tell the writer, once, that there is room again: half of it, so that few turns do much."""
        if self._write_was_short and self.unsent <= self._unsent_limit // 2:
            self._write_was_short = False
            return True
        return False

    def receive_fin(self) -> None:
        """Note that the peer sends nothing more."""
        self.receiving = RECEIVING[self.receiving, Cause.FIN]
        if self._armed:
            self._tell_reader()

    def fall(self, *, drop_unread: bool) -> None:
        """Note that the stream was reset. What came before an orderly end can still be read if the peer did it."""
        if drop_unread or self.receiving is Receiving.OPEN:
            self._drop_unread()
        self.sending = SENDING[self.sending, Cause.RST]
        self.receiving = RECEIVING[self.receiving, Cause.RST]
        self._queue.clear()
        self._session.unsent -= self.unsent
        self.unsent = 0
        self._armed = False

    def report_all(self) -> None:
        """Grant what was read and not yet granted, however little."""
        if self._unreported:
            self._session.grant(self, self._unreported)
            self._unreported = 0

    def _consume(self, count: int) -> None:
        del self._buffer[:count]
        self._session.uncharge_unread(count)
        self._report(count)

    def _report(self, count: int) -> None:
        # Half of the window, as go and rust do it: each update costs both sides a system call and a turn, over
        # loopback 0.15 ms.
        self._unreported += count
        if self._unreported >= (INITIAL_WINDOW + self.extra) // 2 and self.receiving is Receiving.OPEN:
            self.report_all()

    def _drop_unread(self) -> None:
        self._session.uncharge_unread(len(self._buffer))
        self._session.labour += len(self._buffer) // _DROPPED_BYTES  # it was taken for nothing
        self._buffer = bytearray()

    def _tell_reader(self) -> None:
        self._armed = False
        self._session.readable(self)

    def _is_over(self) -> bool:
        if self.receiving is Receiving.RESET:
            raise StreamWasReset("the stream was reset")
        return self.receiving is Receiving.ENDED

    def _check_no_target(self) -> None:
        if self._target is not None:
            raise LocalProtocolError("the stream is being read already")

    def _move_sending(self, cause: Cause, what: str) -> None:
        if self.sending is Sending.RESET:
            raise StreamWasReset("the stream was reset")
        state = SENDING.get((self.sending, cause))
        if state is None:
            raise LocalProtocolError(f"cannot {what} a stream that is closed for writing")
        self.sending = state
