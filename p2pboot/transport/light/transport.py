"""A client's network: connections over `transport.tcp`, streams with protocols, what peers say of themselves."""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, WeakValueDictionary

import trio
from typing_extensions import override

from p2pboot.core.identity import SecretKey
from p2pboot.errors import ProtocolError, first_error
from p2pboot.transport.addresses import Address, parse_address, parse_listen_address
from p2pboot.transport.bandwidth import Bandwidth
from p2pboot.transport.cleanup import run_handler, shielded_for
from p2pboot.transport.events import ConnectionRegister
from p2pboot.transport.interface import (
    Connection,
    ConnectionEvent,
    DialError,
    PeerRecord,
    PeerSource,
    Stream,
    StreamHandler,
    StreamReset,
    Transport,
)
from p2pboot.transport.light.identifying import Identifying
from p2pboot.transport.limits import Admission, ConnectionLimits, Refused
from p2pboot.transport.metering import MeteredStream
from p2pboot.transport.records import read_record
from p2pboot.transport.tcp.accepting import accepted
from p2pboot.transport.tcp.connection import TcpConnection
from p2pboot.transport.tcp.crossing import same_process, settle
from p2pboot.transport.tcp.endpoint import Endpoint
from p2pboot.transport.tcp.negotiated import NegotiatedStream
from p2pboot.transport.tcp.pings import answer_pings
from p2pboot.transport.tcp.sockets import bound_address, open_listeners, release
from p2pboot.transport.tcp.stream import MuxedStream
from p2pboot.transport.traffic import Traffic
from p2pboot.wire.identify import IDENTIFY_PROTOCOL
from p2pboot.wire.ping import PING_PROTOCOL
from p2pboot.wire.yamux.frames import NO_ROOM
from p2pboot.wire.yamux.limits import Limits

if TYPE_CHECKING:
    from p2pboot.core.swarmkey import SwarmKey
    from p2pboot.transport.interfaces import Interfaces

log = logging.getLogger("p2pboot.transport.light")

_NEGOTIATION_S: Final = 10  # that a stranger holds a stream without a protocol
_SHUTDOWN_S: Final = 0.5


class LightTransport(Transport):
    """`transport.interface.Transport` without libp2p.

    Args:
        secret_key: its identity.
        nursery: owns its connections and handlers.
        limits: how many there may be.
        bandwidth: that its streams may use.
        bound: where it listens, with real ports; may be empty.
        interfaces: tells which addresses a wildcard stands for, where somebody wants to know.
        swarm_key: of the private mesh that it is in.
    """

    def __init__(
        self,
        secret_key: SecretKey,
        nursery: trio.Nursery,
        limits: ConnectionLimits,
        bandwidth: Bandwidth,
        *,
        bound: Sequence[Address] = (),
        interfaces: Interfaces | None = None,
        swarm_key: SwarmKey | None = None,
    ) -> None:
        self._peer_id = secret_key.public.peer_id
        self._nursery = nursery
        self._admission = Admission(limits, self._make_way)
        self._bound = bound
        self._interfaces = interfaces
        self._register = ConnectionRegister(nursery)
        streams = Limits(inbound_streams=limits.max_inbound_streams)
        self._endpoint = Endpoint(secret_key, streams, swarm_key)
        self._numbers = itertools.count()
        # Also of those that get no place: what they were called is forgotten with them.
        self._names: WeakKeyDictionary[TcpConnection, Connection] = WeakKeyDictionary()
        self._named: WeakValueDictionary[Connection, TcpConnection] = WeakValueDictionary()
        self._live: dict[Connection, TcpConnection] = {}  # the oldest first
        self._bandwidth = bandwidth
        self._uncounted = Bandwidth()
        self._handlers: dict[str, StreamHandler] = {}
        self._identifying = Identifying(secret_key, self._dialable_at, self._handlers)
        # Neither counted nor limited: nobody asked for it.
        self._own: dict[str, StreamHandler] = {
            IDENTIFY_PROTOCOL: self._identifying.answer,
            PING_PROTOCOL: self._answer_pings,
        }
        self._handlers |= self._own

    @property
    @override
    def peer_id(self) -> str:
        return self._peer_id

    @property
    @override
    def traffic(self) -> Traffic:
        return self._bandwidth.traffic

    @property
    @override
    def mesh(self) -> str | None:
        return self._endpoint.mesh

    @override
    def addresses(self) -> tuple[str, ...]:
        if not self._bound:
            return ()
        from p2pboot.transport.interfaces import Interfaces, reachable  # 3 ms that clients need not pay

        self._interfaces = self._interfaces or Interfaces()
        found = reachable(self._bound, self._interfaces)
        return tuple(str(address.with_peer(self._peer_id)) for address in found)

    @override
    def listens_on(self) -> tuple[str, ...]:
        return tuple(map(str, self._bound))

    @override
    def leads_here(self, address: str) -> bool:
        parsed = parse_address(address).with_peer(None)
        if all(bound.port != parsed.port for bound in self._bound):
            return False  # without a look at the interfaces
        return parsed in [parse_address(own).with_peer(None) for own in self.addresses()]

    def _dialable_at(self, connection: Connection | None) -> tuple[Address, ...]:
        """Where peers can dial this end: a wildcard stands for the addresses at which it is connected.

        So nobody has to look at the interfaces, and nobody is told of the bridges of this machine's containers.

        Args:
            connection: to whom it is told; None: to anybody. Loopback is for who is connected by it, or where there is
                nothing else.
        """
        asking = self._named.get(connection) if connection else None
        own = "" if asking is None else asking.local_host
        hosts = dict.fromkeys(filter(None, (own, *(tcp.local_host for tcp in self._live.values()))))
        found = [address for address in self._bound if not address.is_wildcard]
        found += [
            replace(wildcard, host=host)
            for host in hosts
            for wildcard in self._bound
            if wildcard.is_wildcard and (wildcard.kind == "ip6") is (":" in host)
        ]
        told = tuple(dict.fromkeys(address for address in found if address.is_dialable))
        if any(address.host == own and address.is_loopback for address in told):
            return told
        return tuple(address for address in told if not address.is_loopback) or told

    @override
    def connections(self) -> frozenset[Connection]:
        return self._register.present

    @override
    def was_dialled(self, connection: Connection) -> bool:
        return self._register.was_dialled(connection)

    @override
    def sources(self, peer_id: str) -> tuple[PeerSource, ...]:
        return self._register.sources(peer_id)

    @override
    def note_source(self, peer_id: str, source: PeerSource) -> None:
        self._register.note_source(peer_id, source)

    @override
    def peers(self) -> frozenset[str]:
        return self._register.peers

    @override
    def peer_addresses(self, peer_id: str) -> tuple[str, ...]:
        return self._identifying.addresses.get(peer_id)

    @override
    def peer_records(self) -> tuple[bytes, ...]:
        return self._identifying.records

    @override
    def read_peer_record(self, record: bytes) -> PeerRecord | None:
        return read_record(record)

    @override
    def own_record(self) -> bytes:
        return self._identifying.own_record()

    @override
    def handle(self, protocol: str, handler: StreamHandler) -> None:
        self._handlers[protocol] = handler

    @override
    def connection_events(self) -> trio.MemoryReceiveChannel[ConnectionEvent]:
        return self._register.follow()

    @override
    async def wait_ended(self, connection: Connection) -> None:
        await self._register.wait_ended(connection)

    # Connections.

    @override
    async def dial(self, address: str, source: PeerSource | None = None) -> Connection:
        parsed = parse_address(address)
        known = self._register.dialled_at(parsed)
        if known is not None and self._up(known) is not None:
            self._register.note_dialled(parsed, known, source)
            await trio.lowlevel.checkpoint()
            return known
        connection: Connection = await self._nursery.start(self._keep_dialled, parsed, source)
        return connection

    async def _keep_dialled(
        self, address: Address, source: PeerSource | None, task_status: Any = trio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            with self._admission.outbound():
                tcp = await self._endpoint.dial(address, self._accept, self._nursery)
                leaving, stays = settle(self._peer_id, tcp, self._healthy())
                named = self._come(stays)
                self._register.note_dialled(address, named, source)
                self._identifying.addresses.reached(named.peer_id, str(address.with_peer(named.peer_id)))
                task_status.started(named)
                if stays is not tcp:
                    await tcp.hang_up()
                    return
                self._end(leaving, named)
                await self._keep(tcp, named)
        except Refused as error:
            raise DialError(f"cannot dial {address}: {error}") from error

    async def accept(self, stream: trio.SocketStream) -> None:
        """Serve one accepted socket until its connection ends. Raises nothing but Cancelled."""
        sock = release(stream)
        try:
            async with accepted(self._endpoint, self._admission, sock, self._accept, self._nursery) as tcp:
                peer_id = tcp.peer.peer_id
                leaving, stays = settle(self._peer_id, tcp, self._healthy())
                if stays is not tcp:
                    await tcp.hang_up()
                    return
                for old in self._admission.surplus([one for one in self._live if one.peer_id == peer_id]):
                    log.debug("peer %s has too many connections; the oldest is ended", peer_id)
                    await self.hang_up(old)
                named = self._come(tcp)
                self._end(leaving, named)
                await self._keep(tcp, named)
        except (OSError, ProtocolError) as error:
            log.debug("a connection was not taken: %s", error)

    def _healthy(self) -> list[TcpConnection]:
        return [tcp for tcp in self._live.values() if tcp.failure is None]

    def _end(self, leaving: Sequence[TcpConnection], stays: Connection) -> None:
        """End connections in whose place another one with the same process stays."""
        for tcp in leaving:
            log.debug("one connection with %s is enough", tcp.peer_id)
            self._register.went(self._name(tcp), heir=stays)
            self._nursery.start_soon(tcp.hang_up)

    def _make_way(self, tcp: TcpConnection) -> None:
        log.debug("the connection with %s gives way to others", tcp.party)
        self._nursery.start_soon(tcp.hang_up, NO_ROOM)

    @override
    def prefer(self, peer_ids: Collection[str]) -> None:
        self._admission.prefer(peer_ids)

    def _come(self, tcp: TcpConnection) -> Connection:
        named = self._name(tcp)
        if named not in self._live:
            self._live[named] = tcp
            self._register.came(named)
            self._nursery.start_soon(self._ask, named)
        return named

    async def _keep(self, tcp: TcpConnection, named: Connection) -> None:
        try:
            await tcp.closed.wait()
        finally:
            del self._live[named]
            heir = next(map(self._name, same_process(tcp, self._healthy())), None)
            self._register.went(named, heir)
            self._identifying.forget(named)

    def _name(self, tcp: TcpConnection) -> Connection:
        """The connection as the rest of the program knows it; streams may come before it is told of."""
        if tcp not in self._names:
            address = tcp.remote_address.with_peer(tcp.peer.peer_id)
            named = Connection(tcp.peer.peer_id, str(address), next(self._numbers))
            self._names[tcp], self._named[named] = named, tcp
        return self._names[tcp]

    def _up(self, connection: Connection) -> TcpConnection | None:
        """The connection under a name, unless it has ended; whoever looks after it may not have been told yet."""
        tcp = self._live.get(connection)
        return tcp if tcp is not None and tcp.failure is None else None

    @override
    async def hang_up(self, connection: Connection) -> None:
        tcp = self._live.get(connection)
        if tcp is not None:
            self._register.went(connection)  # it is not to be found any more, however long the goodbye takes
            await tcp.hang_up()

    async def close(self) -> None:
        """End all connections. Bounded, raises nothing."""
        with shielded_for(_SHUTDOWN_S):
            async with trio.open_nursery() as nursery:
                for connection in self._live:
                    nursery.start_soon(self.hang_up, connection)

    async def look_after(self) -> None:
        """Has to run as long as there are connections."""
        await self._endpoint.run()

    # Streams.

    @override
    async def open_stream(self, connection: Connection, protocol: str) -> Stream:
        return MeteredStream(await self._open(connection, protocol), protocol, self._bandwidth)

    async def _open(self, connection: Connection, protocol: str) -> NegotiatedStream:
        tcp, missing = self._live.get(connection), f"not connected with {connection.peer_id}"
        if tcp is None:
            raise StreamReset(missing)
        if tcp.failure is not None:
            raise tcp.reset_error(missing)
        stream = NegotiatedStream(tcp.open(), connection)
        try:
            await stream.propose(protocol)
            if not self._identifying.speaks(connection, protocol):  # otherwise the answer can only be yes
                await stream.agreed()
        except BaseException:
            await stream.reset()
            raise
        return stream

    async def _ask(self, connection: Connection) -> None:
        """Have the peer say who it is. What it does not say is not known."""
        try:
            with trio.fail_after(_NEGOTIATION_S):
                stream = await self._open(connection, IDENTIFY_PROTOCOL)
                try:
                    await self._identifying.listen(stream)
                finally:
                    await stream.close()
        except (ProtocolError, trio.TooSlowError) as error:
            log.debug("identify with %s failed: %r", connection.peer_id, error)

    async def _answer_pings(self, stream: Stream) -> None:
        tcp = self._live.get(stream.connection)
        if tcp is not None:
            await answer_pings(stream, tcp)

    def _accept(self, muxed: MuxedStream) -> None:
        self._nursery.start_soon(self._serve, muxed)

    async def _serve(self, muxed: MuxedStream) -> None:
        stream = NegotiatedStream(muxed, self._name(muxed.connection))
        try:
            with trio.fail_after(_NEGOTIATION_S):
                protocol = await stream.negotiate(self._handlers)
        except (ProtocolError, trio.TooSlowError) as error:
            log.debug("stream from %s ended: %r", stream.connection.peer_id, error)
            await stream.reset()
            return
        except BaseException:
            await stream.reset()
            raise
        bandwidth = self._uncounted if protocol in self._own else self._bandwidth
        metered = MeteredStream(stream, protocol, bandwidth)
        await run_handler(protocol, self._handlers[protocol], metered, log)


@asynccontextmanager
async def open_light(
    secret_key: SecretKey,
    listen: Sequence[str] = (),
    limits: ConnectionLimits | None = None,
    interfaces: Interfaces | None = None,
    bandwidth: Bandwidth | None = None,
    *,
    swarm_key: SwarmKey | None = None,
) -> AsyncIterator[Transport]:
    """Run a client.

    Args:
        secret_key: its identity.
        listen: multiaddrs to listen on, as `/ip4/0.0.0.0/tcp/4001`; none for who only asks.
        limits: how many connections it has.
        interfaces: tells which addresses a wildcard stands for.
        bandwidth: what all transports and gateways of the process may use together; a new one without limits else.
        swarm_key: of the private mesh that it is in; None for the network of all.

    Raises:
        UsageError: an address to listen on is malformed.
        MachineError: a port is taken, or an address is not this machine's.
    """
    listeners = open_listeners([parse_listen_address(text) for text in listen])
    bound = [bound_address(listener) for listener in listeners]
    try:
        async with trio.open_nursery() as nursery:
            transport = LightTransport(
                secret_key,
                nursery,
                limits or ConnectionLimits(),
                bandwidth or Bandwidth(),
                bound=bound,
                interfaces=interfaces,
                swarm_key=swarm_key,
            )
            nursery.start_soon(transport.look_after)
            if listeners:
                nursery.start_soon(trio.serve_listeners, transport.accept, listeners)
            try:
                yield transport
            finally:
                await transport.close()
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise first_error(group) from None
    finally:
        for listener in listeners:
            listener.socket.close()
