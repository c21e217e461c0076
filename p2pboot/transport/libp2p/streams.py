"""`transport.interface.BareStream` on one of libp2p's streams."""

from __future__ import annotations

import contextlib
from typing import Final

import trio
from libp2p.abc import INetStream
from libp2p.io.exceptions import IOException
from libp2p.network.stream.exceptions import StreamError
from libp2p.network.stream.net_stream import NetStream
from libp2p.stream_muxer.exceptions import MuxedConnError, MuxedStreamEOF, MuxedStreamError
from typing_extensions import override

from p2pboot.transport.cleanup import shielded_for
from p2pboot.transport.interface import BareStream, Connection, StreamReset
from p2pboot.transport.libp2p.muxer import HardenedYamuxStream

# A frozen peer's socket takes no more bytes; saying goodbye to it must not hold anybody up.
_GOODBYE_S: Final = 0.3
# What a dying stream or connection raises on its way through libp2p's layers.
_BROKEN: Final = (
    MuxedStreamError,
    MuxedConnError,
    StreamError,
    IOException,
    OSError,
    trio.ClosedResourceError,
)


class Libp2pStream(BareStream):
    """A stream, already negotiated.

    Args:
        connection: that it is on.
        net_stream: libp2p's own, which keeps account of its connection. Bytes are read from and written to the Yamux
            stream under it directly.
    """

    def __init__(self, connection: Connection, net_stream: INetStream) -> None:
        if not isinstance(net_stream, NetStream) or not isinstance(
            net_stream.muxed_stream, HardenedYamuxStream
        ):
            raise TypeError("not a stream of our muxer")
        self._net = net_stream
        self._muxed = net_stream.muxed_stream
        self._connection = connection
        self._taken = 0
        self._done = False

    @property
    def siblings(self) -> int:
        """Streams that are open on the same connection, this one included."""
        return len(self._muxed.conn.streams)

    @property
    @override
    def connection(self) -> Connection:
        return self._connection

    @property
    @override
    def received(self) -> int:
        return self._taken + len(self._muxed.conn.stream_buffers.get(self._muxed.stream_id, b""))

    @override
    async def read(self, max_bytes: int) -> bytes:
        try:
            data = await self._muxed.read(max_bytes)
        except MuxedStreamEOF as error:
            # Stock libp2p also says EOF for a reset that finds a reader waiting, and for a lost connection.
            if self._muxed.ended_in_order and not self._done:
                return b""
            raise self._reset_error() from error
        except _BROKEN as error:
            raise self._reset_error() from error
        self._taken += len(data)
        return data

    @override
    async def read_into(self, target: memoryview, at_least: int = 1) -> int:
        filled = 0
        while filled < at_least:
            data = await self.read(len(target) - filled)
            if not data:
                break
            target[filled : filled + len(data)] = data
            filled += len(data)
        return filled

    @override
    async def write(self, data: bytes | memoryview) -> None:
        try:
            await self._muxed.write(data)
        except _BROKEN as error:
            raise self._reset_error() from error

    @override
    async def close_write(self) -> None:
        try:
            await self._muxed.close()
        except _BROKEN as error:
            raise self._reset_error() from error

    @override
    async def close(self) -> None:
        if self._done:
            return
        self._done = True
        muxed = self._muxed
        buffered = muxed.conn.stream_buffers.get(muxed.stream_id)
        if buffered:
            buffered.clear()  # nobody will read it; unread bytes keep a stream accounted for
        if not muxed.recv_closed:
            muxed.abandoned_at = trio.current_time()
        await self._say_goodbye(reset=False)

    @override
    async def reset(self) -> None:
        if self._done:
            return
        self._done = True
        await self._say_goodbye(reset=True)
        self._muxed.forget()

    async def _say_goodbye(self, *, reset: bool) -> None:
        with shielded_for(_GOODBYE_S) as scope, contextlib.suppress(*_BROKEN):
            await (self._net.reset() if reset else self._net.close())
        if scope.cancelled_caught:
            self._muxed.forget()
            with shielded_for(_GOODBYE_S):
                await self._net.remove()

    def _reset_error(self) -> StreamReset:
        return StreamReset(f"the stream with {self._connection.peer_id} ended unexpectedly")
