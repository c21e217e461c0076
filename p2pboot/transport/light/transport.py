"""A client's side of the network: dial, streams, who is connected."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from p2pboot.core.identity import SecretKey
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.events import PeerRegister
from p2pboot.transport.interface import PeerEvent, StreamHandler, StreamReset
from p2pboot.transport.light.stream import LightStream
from p2pboot.transport.tcp.connection import TcpConnection
from p2pboot.transport.tcp.endpoint import Endpoint
from p2pboot.transport.tcp.stream import MuxedStream
from p2pboot.wire.identify import IDENTIFY_PROTOCOL, IdentifyReader, Identity, encode_identify
from p2pboot.wire.ping import PING_BYTES, PING_PROTOCOL

log = logging.getLogger("p2pboot.transport.light")

_NEGOTIATION_S: Final = 10


class LightTransport:
    """A client on the network.

    Args:
        secret_key: its identity.
        nursery: owns its connections.
    """

    def __init__(self, secret_key: SecretKey, nursery: trio.Nursery) -> None:
        self._secret_key = secret_key
        self._nursery = nursery
        self._register = PeerRegister(nursery)
        self._endpoint = Endpoint(secret_key)
        nursery.start_soon(self._endpoint.run)
        self._connections: dict[str, list[TcpConnection]] = {}
        self._handlers: dict[str, StreamHandler] = {
            IDENTIFY_PROTOCOL: self._answer_identify,
            PING_PROTOCOL: _echo,
        }

    @property
    def peer_id(self) -> str:
        """This node's own id."""
        return self._secret_key.public.peer_id

    def peers(self) -> frozenset[str]:
        """Peer ids that are connected now."""
        return self._register.present

    def peer_events(self) -> trio.MemoryReceiveChannel[PeerEvent]:
        """A channel of its own for the caller; starts with the peers that are connected already."""
        return self._register.follow()

    def handle(self, protocol: str, handler: StreamHandler) -> None:
        """Serve `protocol`: every inbound stream runs `handler`."""
        self._handlers[protocol] = handler

    async def dial(self, address: str) -> str:
        """Connect to a multiaddr and return the peer's id. The caller sets the timeout. Raises DialError."""
        connection = await self._endpoint.dial(parse_address(address), self._accept, self._nursery)
        peer_id = connection.peer.peer_id
        self._connections.setdefault(peer_id, []).append(connection)
        self._register.came(peer_id)
        self._nursery.start_soon(self._forget_when_closed, connection)
        return peer_id

    async def _forget_when_closed(self, connection: TcpConnection) -> None:
        await connection.closed.wait()
        peer_id = connection.peer.peer_id
        self._connections[peer_id].remove(connection)
        if not self._connections[peer_id]:
            del self._connections[peer_id]
            self._register.went(peer_id)

    def _accept(self, muxed: MuxedStream) -> None:
        self._nursery.start_soon(self._serve, muxed)

    async def hang_up(self, peer_id: str) -> None:
        """Close all connections with a peer. Bounded, raises nothing."""
        for connection in tuple(self._connections.get(peer_id, ())):
            await connection.hang_up()

    async def open_stream(self, peer_id: str, protocol: str) -> LightStream:
        """Open a stream; StreamReset when the peer is gone or does not speak `protocol`."""
        for connection in self._connections.get(peer_id, ()):
            stream = await LightStream.propose(connection.open(), protocol)
            await stream.agreed()
            return stream
        raise StreamReset(f"not connected with {peer_id}")

    async def identify(self, peer_id: str) -> Identity:
        """Ask a peer what it says of itself. Raises StreamReset, RemoteProtocolError."""
        stream = await self.open_stream(peer_id, IDENTIFY_PROTOCOL)
        reader = IdentifyReader()
        try:
            while data := await stream.read(4096):
                reader.receive(data)
            return reader.receive_eof()
        finally:
            await stream.close()

    async def _serve(self, muxed: MuxedStream) -> None:
        stream = LightStream(muxed)
        try:
            with trio.fail_after(_NEGOTIATION_S):
                protocol = await stream.negotiate(self._handlers)
            await self._handlers[protocol](stream)
        except Exception as error:
            log.debug("stream from %s ended: %r", stream.peer_id, error)
            await stream.reset()
        except BaseException:
            await stream.reset()
            raise
        else:
            await stream.close()

    async def _answer_identify(self, stream: object) -> None:
        assert isinstance(stream, LightStream)  # noqa: S101
        said = Identity(
            public_key=self._secret_key.public, protocols=tuple(self._handlers), agent_version="p2pboot"
        )
        await stream.write(encode_identify(said))


async def _echo(stream: object) -> None:
    assert isinstance(stream, LightStream)  # noqa: S101
    while data := await stream.read(PING_BYTES):
        await stream.write(data)


@asynccontextmanager
async def open_light(secret_key: SecretKey) -> AsyncIterator[LightTransport]:
    """Run a client.

    Args:
        secret_key: its identity.
    """
    async with trio.open_nursery() as nursery:
        transport = LightTransport(secret_key, nursery)
        try:
            yield transport
        finally:
            for peer_id in transport.peers():
                await transport.hang_up(peer_id)
            nursery.cancel_scope.cancel()
