"""A stream of a connection, before anybody has agreed what is spoken on it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import trio

from p2pboot.errors import ProtocolError
from p2pboot.transport.interface import StreamReset
from p2pboot.wire.yamux.stream import Stream

if TYPE_CHECKING:
    from p2pboot.transport.tcp.connection import TcpConnection

_IN_A_ROW: Final = 256 * 1024  # bytes that may be written without letting others have their turn
_A_WRITE: Final = 16 * 1024  # that each write counts for beside its bytes


class MuxedStream:
    """A stream. One task may read while another writes.

    Args:
        core: the state machine's.
        connection: that it is on.
    """

    def __init__(self, core: Stream, connection: TcpConnection) -> None:
        self.connection = connection
        self._core = core
        self._reader: trio.Event | None = None
        self._writer: trio.Event | None = None
        self._in_a_row = 0
        self._done = False

    @property
    def id(self) -> int:
        """Its number on the connection."""
        return self._core.id

    @property
    def received(self) -> int:
        """Bytes that have come from the peer, read or not."""
        return self._core.received

    @property
    def sent(self) -> int:
        """Bytes that have left."""
        return self._core.sent

    def keep_unsent(self, max_bytes: int) -> None:
        """Bound what was written and has not left; never more than the connection allows a stream."""
        self._core.keep_unsent(max_bytes)

    def wake(self) -> None:
        """Have whoever waits look again. Never waits."""
        for event in (self._reader, self._writer):
            if event is not None:
                event.set()

    def wake_reader(self) -> None:
        """Have the one who waits to read look again. Never waits."""
        if self._reader is not None:
            self._reader.set()

    def wake_writer(self) -> None:
        """Have the one who waits to write look again. Never waits."""
        if self._writer is not None:
            self._writer.set()

    async def _readable(self) -> None:
        self._reader = trio.Event()
        await self._reader.wait()

    async def _writable(self) -> None:
        self._writer = trio.Event()
        await self._writer.wait()

    async def read(self, max_bytes: int) -> bytes:
        """Return 1 to `max_bytes` bytes as soon as there are any, b"" at the orderly end.

        Raises:
            StreamReset: it ended otherwise.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            try:
                data = self._core.read(max_bytes)
            except ProtocolError as error:
                raise self._reset_error() from error
            if data is not None:
                self.connection.flush()  # what it was granted
                return data
            await self._readable()

    async def read_into(self, target: memoryview, at_least: int = 1) -> int:
        """Fill `target` straight from the decrypted messages; the reader wakes once.

        Args:
            target: where to. What is in it after a cancelled call is lost.
            at_least: how many bytes to wait for, at most `len(target)`.

        Returns:
            How many bytes came: fewer than `at_least` only at the orderly end.

        Raises:
            StreamReset: it ended otherwise.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            count = self._core.read_into(target, at_least)
            if count is None:
                count = await self._filled()
        except ProtocolError as error:
            raise self._reset_error() from error
        self.connection.flush()
        return count

    async def _filled(self) -> int:
        self.connection.flush()
        try:
            while self._core.waiting:
                await self._readable()
        except trio.Cancelled:
            with contextlib.suppress(ProtocolError):
                self._core.finish_read()  # the buffer is the caller's again
            raise
        return self._core.finish_read()

    async def write(self, data: bytes | memoryview) -> None:
        """Hand over all of `data`; waits while the peer's window is full.

        Raises:
            StreamReset: it is gone.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        rest = memoryview(data)
        # What is queued must not change; the buffer is the caller's again when this returns.
        may_change = not isinstance(rest.obj, bytes)
        waited = False
        try:
            while rest:
                part = bytes(rest[: self._core.room or 1]) if may_change else rest
                taken = self._core.write(part)
                rest = rest[taken:]
                self.connection.flush()
                if not taken and not self._core.room:
                    await self._writable()
                    waited = True
        except ProtocolError as error:
            raise self._reset_error() from error
        self._in_a_row = 0 if waited else self._in_a_row + _A_WRITE + len(data)
        if (
            self._in_a_row > _IN_A_ROW
        ):  # others get their turn; at each small write it would cost more than that
            self._in_a_row = 0
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def close_write(self) -> None:
        """Half-close: nothing more will be written; reading goes on.

        Raises:
            StreamReset: the peer is gone.
        """
        try:
            self._core.close_write()
        except ProtocolError as error:
            raise self._reset_error() from error
        self.connection.flush()
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """Close both directions in order. Bounded, idempotent, raises nothing."""
        if not self._done:
            try:
                self._core.close_write()
                self._core.ignore_input()
            except ProtocolError:
                self._core.reset()
            self._finish()

    async def reset(self) -> None:
        """Abort both directions. Bounded, idempotent, raises nothing."""
        if not self._done:
            self._core.reset()
            self._finish()

    def _finish(self) -> None:
        self._done = True
        self.connection.flush()
        self.connection.forget(self._core)
        self.wake()

    def _reset_error(self) -> StreamReset:
        return self.connection.reset_error(
            f"the stream with {self.connection.peer.peer_id} ended unexpectedly"
        )
