"""Our connections and their streams as py-libp2p's host wants them: thin, for its own protocols.

The host hears of a connection when it is secured and multiplexed: `transport.tcp` and `wire` have done that in one go,
so libp2p upgrades nothing. What p2pboot speaks itself goes past all of this, see `streams`.
"""

from __future__ import annotations

from typing import Final

import trio
from libp2p.abc import IMuxedConn, IMuxedStream
from libp2p.connection_types import ConnectionType
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamEOF, MuxedStreamReset
from multiaddr import Multiaddr

from p2pboot.transport.interface import Connection, StreamReset
from p2pboot.transport.tcp.connection import TcpConnection
from p2pboot.transport.tcp.stream import MuxedStream
from p2pboot.wire.yamux.session import YAMUX_PROTOCOL

Streams = tuple[trio.MemorySendChannel[MuxedStream], trio.MemoryReceiveChannel[MuxedStream]]
# What a reader gets that does not say how much it wants: more than any message of libp2p's own protocols.
_ANY: Final = 64 * 1024


class MuxedConnection(IMuxedConn):
    """One connection.

    Args:
        tcp: the connection, secured.
        name: what the rest of the program knows it as.
        streams: the channel into which it puts those that the peer opens.
    """

    negotiated_muxer_protocol = YAMUX_PROTOCOL

    def __init__(
        self,
        tcp: TcpConnection,
        name: Connection,
        streams: Streams,
    ) -> None:
        self.tcp = tcp
        self.name = name
        self._opened, self._accepted = streams
        self.peer_id = ID.from_base58(name.peer_id)
        self.event_started = trio.Event()
        self.settled = trio.Event()
        """Set when the rest of the program knows of it, or it is over."""

    async def start(self) -> None:
        """Let `accept_stream` know of the connection's end, from which the host learns it."""
        self.event_started.set()
        await self.tcp.closed.wait()
        self._opened.close()

    async def close(self) -> None:
        """End it: with a goodbye where the peer takes it soon. Bounded, idempotent, raises nothing."""
        await self.tcp.hang_up()
        await self.tcp.closed.wait()

    @property
    def is_initiator(self) -> bool:
        """Whether this side dialled."""
        return self.tcp.dialled

    @property
    def is_established(self) -> bool:
        """Whether it takes streams."""
        return self.tcp.failure is None

    @property
    def is_closed(self) -> bool:
        """Whether it is over."""
        return self.tcp.failure is not None

    async def open_stream(self) -> HostStream:
        """Open a stream.

        Raises:
            MuxedConnUnavailable: the connection is over, or has enough streams.
        """
        try:
            return HostStream(self.tcp.open(), self)
        except StreamReset as error:
            raise MuxedConnUnavailable(error.message) from error

    async def accept_stream(self) -> HostStream:
        """Wait for a stream that the peer opens.

        Raises:
            MuxedConnUnavailable: the connection is over.
        """
        try:
            return HostStream(await self._accepted.receive(), self)
        except trio.EndOfChannel:
            raise MuxedConnUnavailable("the connection has ended") from None

    def get_transport_addresses(self) -> list[Multiaddr]:
        """Return the peer's end of the connection."""
        host, port = self.tcp.remote
        return [Multiaddr(f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}")]

    def get_connection_type(self) -> ConnectionType:
        """No relays here."""
        return ConnectionType.DIRECT


class HostStream(IMuxedStream):
    """One stream.

    Args:
        muxed: the connection's.
        conn: that it is on.
    """

    def __init__(self, muxed: MuxedStream, conn: MuxedConnection) -> None:
        self.muxed = muxed
        self.muxed_conn = conn
        self._writing = trio.Lock()  # libp2p's pubsub writes to one stream from several tasks

    async def read(self, n: int | None = None) -> bytes:
        """Return 1 to `n` bytes as soon as there are any.

        Raises:
            MuxedStreamEOF: the orderly end.
            MuxedStreamReset: it ended otherwise.
        """
        try:
            data = await self.muxed.read(_ANY if n is None else n)
        except StreamReset as error:
            raise MuxedStreamReset(error.message) from error
        if not data:
            raise MuxedStreamEOF("the peer has closed the stream")
        return data

    async def write(self, data: bytes) -> None:
        """Hand over all of `data`; waits while the peer's window is full.

        Raises:
            MuxedStreamReset: it is gone.
        """
        async with self._writing:
            try:
                await self.muxed.write(data)
            except StreamReset as error:
                raise MuxedStreamReset(error.message) from error

    async def close_write(self) -> None:
        """Half-close; reading goes on.

        Raises:
            MuxedStreamReset: it is gone.
        """
        try:
            await self.muxed.close_write()
        except StreamReset as error:
            raise MuxedStreamReset(error.message) from error

    async def close(self) -> None:
        """Close both directions in order. Raises nothing."""
        await self.muxed.close()

    async def reset(self) -> None:
        """Abort both directions. Raises nothing."""
        await self.muxed.reset()

    def set_deadline(self, ttl: int) -> None:
        """Nobody here sets one: trio's scopes do."""
        raise NotImplementedError

    def get_remote_address(self) -> tuple[str, int]:
        """IP address and port of the peer; identify tells it what we see."""
        return self.muxed.connection.remote

    async def __aenter__(self) -> HostStream:
        """Close it at the end of a block."""
        return self
