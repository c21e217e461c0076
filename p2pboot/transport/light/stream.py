"""`transport.interface.Stream` on one of `wire`'s streams, with the negotiation of its protocol inside."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

from p2pboot.errors import ProtocolError
from p2pboot.transport.interface import StreamReset
from p2pboot.wire.multistream import Dialler, Listener
from p2pboot.wire.yamux.stream import Stream as WireStream

if TYPE_CHECKING:
    from collections.abc import Collection

    from p2pboot.transport.light.connection import LightConnection

_LINE_BYTES = 1024


class LightStream:
    """A stream.

    Args:
        core: the state machine's.
        connection: that it is on.
        dialler: proposes the protocol, for a stream that we open; the peer's answer is awaited by the first `read`.
    """

    def __init__(self, core: WireStream, connection: LightConnection, dialler: Dialler | None = None) -> None:
        self._core = core
        self._connection = connection
        self._dialler = dialler
        self._early = b""  # read together with the end of the negotiation
        self._woken = trio.Event()
        self._done = False
        if dialler is not None:
            core.write(dialler.data_to_send())

    @property
    def id(self) -> int:
        """Its number on the connection."""
        return self._core.id

    @property
    def peer_id(self) -> str:
        """The peer at the other end."""
        return self._connection.peer.peer_id

    def wake(self) -> None:
        """Have whoever waits look again. Never waits."""
        self._woken.set()
        self._woken = trio.Event()

    async def negotiate(self, protocols: Collection[str]) -> str:
        """Agree on the protocol of a stream that the peer has opened.

        Raises:
            StreamReset: it ended before that.
            ProtocolError: there is none in common, or it speaks nonsense.
        """
        listener = Listener(protocols)
        while listener.selected is None:
            data = await self._read(_LINE_BYTES)
            if not data:
                raise StreamReset("the stream ended before a protocol was agreed on")
            listener.receive(data)
            await self.write(listener.data_to_send())
        self._early = listener.trailing_data
        return listener.selected

    async def agreed(self) -> None:
        """Wait until the peer has taken the protocol that was proposed.

        Raises:
            StreamReset: it does not speak it, or is gone.
        """
        while self._dialler is not None and self._dialler.selected is None:
            self._connection.flush()
            data = await self._read(_LINE_BYTES)
            try:
                if not data:
                    raise StreamReset("the stream ended before a protocol was agreed on")
                self._dialler.receive(data)
            except ProtocolError as error:
                raise StreamReset(error.message) from error
        if self._dialler is not None:
            self._early, self._dialler = self._dialler.trailing_data, None

    async def read(self, max_bytes: int) -> bytes:
        """1 to `max_bytes` bytes as soon as there are any, b"" at the orderly end; StreamReset otherwise."""
        await self.agreed()
        if self._early:
            data, self._early = self._early[:max_bytes], self._early[max_bytes:]
            return data
        return await self._read(max_bytes)

    async def _read(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            try:
                data = self._core.read(max_bytes)
            except ProtocolError as error:
                raise self._reset_error() from error
            if data is not None:
                self._connection.flush()  # what it was granted
                return data
            await self._woken.wait()

    async def read_exactly_into(self, target: memoryview) -> None:
        """Fill `target`: bytes go straight from the decrypted message into it, and the reader wakes once.

        Raises:
            StreamReset: the stream ended before it was full.
        """
        await self.agreed()
        head = len(self._early[: len(target)])
        target[:head], self._early = self._early[:head], self._early[head:]
        rest = target[head:]
        try:
            count = self._core.read_into(rest, at_least=len(rest)) if rest else 0
            if count is None:
                count = await self._filled()
        except ProtocolError as error:
            raise self._reset_error() from error
        self._connection.flush()
        if count < len(rest):
            raise StreamReset(f"the stream ended {len(rest) - count} bytes early")

    async def _filled(self) -> int:
        self._connection.flush()
        try:
            while self._core.waiting:
                await self._woken.wait()
        except trio.Cancelled:
            with contextlib.suppress(ProtocolError):
                self._core.finish_read()  # the buffer is the caller's again; what is in it is lost
            raise
        return self._core.finish_read()

    async def write(self, data: bytes | memoryview) -> None:
        """Hand over all of `data`; waits while the peer's window is full. StreamReset when it is gone."""
        await trio.lowlevel.checkpoint()
        rest = memoryview(data)
        # What is queued must not change; the buffer is the caller's again when this returns.
        may_change = not isinstance(rest.obj, bytes)
        try:
            while rest:
                part = bytes(rest[: self._core.room or 1]) if may_change else rest
                taken = self._core.write(part)
                rest = rest[taken:]
                self._connection.flush()
                if not taken and not self._core.room:
                    await self._woken.wait()
        except ProtocolError as error:
            raise self._reset_error() from error

    async def close_write(self) -> None:
        """Half-close: nothing more will be written; reading goes on. StreamReset when the peer is gone."""
        try:
            self._core.close_write()
        except ProtocolError as error:
            raise self._reset_error() from error
        self._connection.flush()
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
        self._connection.flush()
        self._connection.forget(self.id)
        self.wake()

    def _reset_error(self) -> StreamReset:
        return StreamReset(f"the stream with {self.peer_id} ended unexpectedly")
