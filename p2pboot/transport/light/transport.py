"""A client's side of the network: dial, streams, who is connected."""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from p2pboot.core.identity import PublicKey, SecretKey
from p2pboot.transport.addresses import Address, parse_address
from p2pboot.transport.events import PeerRegister
from p2pboot.transport.interface import DialError, PeerEvent, StreamHandler, StreamReset
from p2pboot.transport.light.stream import LightStream
from p2pboot.transport.tcp.connection import TcpConnection, Workspace
from p2pboot.transport.tcp.stream import MuxedStream
from p2pboot.wire.connection import Connection, Keys
from p2pboot.wire.identify import IDENTIFY_PROTOCOL, IdentifyReader, Identity, encode_identify
from p2pboot.wire.ping import PING_BYTES, PING_PROTOCOL
from p2pboot.wire.yamux.session import Session

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
        self._static = secrets.token_bytes(32)
        self._nursery = nursery
        self._register = PeerRegister(nursery)
        self._workspace = Workspace()
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
        parsed = parse_address(address)
        connection = await self._connect(parsed)
        await self._nursery.start(self._run, connection)
        if connection.failure is not None:
            raise DialError(f"{parsed} answers, but: {connection.failure}")
        return connection.peer.peer_id

    async def _connect(self, address: Address) -> TcpConnection:
        try:
            stream = await trio.open_tcp_stream(address.host, address.port)
        except OSError as error:
            raise DialError(f"cannot reach {address}: {error}") from error
        # A descriptor of our own: trio's object ends with `detach`.
        sock = socket.socket(fileno=stream.socket.detach())
        sock.setblocking(False)
        core = Connection(
            initiator=True,
            keys=Keys(self._secret_key, self._static, secrets.token_bytes(32)),
            session=Session(initiator=True),
            expected=None if address.peer_id is None else PublicKey.from_peer_id(address.peer_id),
            scratch=self._workspace.scratch,
        )
        return TcpConnection(sock, core, self._workspace, self._serve)

    async def _run(self, connection: TcpConnection, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run)
            await connection.secured.wait()
            if connection.failure is not None:
                task_status.started()
                return
            peer_id = connection.peer.peer_id
            self._connections.setdefault(peer_id, []).append(connection)
            self._register.came(peer_id)
            task_status.started()
        self._connections[peer_id].remove(connection)
        if not self._connections[peer_id]:
            del self._connections[peer_id]
            self._register.went(peer_id)

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
