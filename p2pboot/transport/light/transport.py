"""A client's side of the network: dial, streams, who is connected."""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from p2pboot.core.identity import SecretKey
from p2pboot.transport.addresses import Address, parse_address
from p2pboot.transport.events import ConnectionRegister
from p2pboot.transport.interface import Connection, ConnectionEvent, StreamHandler, StreamReset
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
        self._register = ConnectionRegister(nursery)
        self._endpoint = Endpoint(secret_key)
        nursery.start_soon(self._endpoint.run)
        self._numbers = itertools.count()
        self._connections: dict[TcpConnection, Connection] = {}
        self._handlers: dict[str, StreamHandler] = {
            IDENTIFY_PROTOCOL: self._answer_identify,
            PING_PROTOCOL: _echo,
        }

    @property
    def peer_id(self) -> str:
        """This node's own id."""
        return self._secret_key.public.peer_id

    def connections(self) -> frozenset[Connection]:
        """Connections that are up now."""
        return self._register.present

    def peers(self) -> frozenset[str]:
        """Peer ids that are connected now."""
        return self._register.peers

    def connection_events(self) -> trio.MemoryReceiveChannel[ConnectionEvent]:
        """A channel of its own for the caller; starts with the connections that are up already."""
        return self._register.follow()

    def handle(self, protocol: str, handler: StreamHandler) -> None:
        """Serve `protocol`: every inbound stream runs `handler`."""
        self._handlers[protocol] = handler

    async def dial(self, address: str) -> Connection:
        """Connect to a multiaddr; see `transport.interface`. The caller sets the timeout. Raises DialError."""
        parsed = parse_address(address)
        known = self._register.dialled_at(parsed)
        if known is not None:
            return known
        connection = await self._endpoint.dial(parsed, self._accept, self._nursery)
        named = self._name(connection)
        self._register.came(named)
        self._register.note_dialled(parsed, named)
        self._nursery.start_soon(self._forget_when_closed, connection)
        return named

    async def _forget_when_closed(self, connection: TcpConnection) -> None:
        await connection.closed.wait()
        self._register.went(self._connections.pop(connection))

    def _accept(self, muxed: MuxedStream) -> None:
        self._nursery.start_soon(self._serve, LightStream(muxed, self._name(muxed.connection)))

    def _name(self, connection: TcpConnection) -> Connection:
        """What the rest of the program knows a secured connection as."""
        if connection not in self._connections:
            peer_id, (host, port) = connection.peer.peer_id, connection.remote
            address = Address("ip6" if ":" in host else "ip4", host, port, peer_id)
            self._connections[connection] = Connection(peer_id, str(address), next(self._numbers))
        return self._connections[connection]

    def _find(self, connection: Connection) -> TcpConnection | None:
        return next((tcp for tcp, named in self._connections.items() if named == connection), None)

    async def hang_up(self, connection: Connection) -> None:
        """End one connection; nothing happens when it has ended already. Bounded, raises nothing."""
        tcp = self._find(connection)
        if tcp is not None:
            await tcp.hang_up()

    async def open_stream(self, connection: Connection, protocol: str) -> LightStream:
        """Open a stream on a connection; StreamReset when it has ended or the peer does not speak `protocol`."""
        tcp = self._find(connection)
        if tcp is None:
            raise StreamReset(f"not connected with {connection.peer_id} any more")
        stream = await LightStream.propose(tcp.open(), connection, protocol)
        await stream.agreed()
        return stream

    async def identify(self, connection: Connection) -> Identity:
        """Ask a peer what it says of itself. Raises StreamReset, RemoteProtocolError."""
        stream = await self.open_stream(connection, IDENTIFY_PROTOCOL)
        reader = IdentifyReader()
        try:
            while data := await stream.read(4096):
                reader.receive(data)
            return reader.receive_eof()
        finally:
            await stream.close()

    async def _serve(self, stream: LightStream) -> None:
        try:
            with trio.fail_after(_NEGOTIATION_S):
                protocol = await stream.negotiate(self._handlers)
            await self._handlers[protocol](stream)
        except Exception as error:
            log.debug("stream from %s ended: %r", stream.connection.peer_id, error)
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
            for connection in transport.connections():
                await transport.hang_up(connection)
            nursery.cancel_scope.cancel()
