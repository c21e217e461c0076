"""A node on the real network: `open_libp2p` puts the parts together and takes them down again.

Every task has an owner here: the accept loop and libp2p's services run in nurseries inside `open_libp2p`;
nothing is left behind when it returns, within a second or so also when a peer is frozen.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final, cast

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from multiaddr import Multiaddr
from typing_extensions import override

from p2pboot.core.identity import SecretKey
from p2pboot.core.swarmkey import SwarmKey
from p2pboot.errors import first_error
from p2pboot.transport import interface
from p2pboot.transport.addresses import (
    Address,
    known_dialable,
    of_peer,
    parse_address,
    parse_listen_address,
)
from p2pboot.transport.allowlist import EVERYBODY, AllowList
from p2pboot.transport.bandwidth import Bandwidth
from p2pboot.transport.cleanup import run_handler, shielded_for
from p2pboot.transport.events import ConnectionRegister
from p2pboot.transport.interface import (
    Connection,
    ConnectionEvent,
    PeerRecord,
    PeerSource,
    Stream,
    StreamHandler,
    StreamReset,
    Validator,
)
from p2pboot.transport.interfaces import Interfaces, reachable
from p2pboot.transport.libp2p import hardening
from p2pboot.transport.libp2p.gossip import Gossip
from p2pboot.transport.libp2p.muxed import HostStream, MuxedConnection
from p2pboot.transport.libp2p.options import Libp2pOptions
from p2pboot.transport.libp2p.peerstore import BoundedPeerStore
from p2pboot.transport.libp2p.swarm import BoundedSwarm
from p2pboot.transport.metering import MeteredStream
from p2pboot.transport.records import MAX_ADDRESSES, MAX_RECORD_BYTES, OwnRecord, is_node, read_record
from p2pboot.transport.tcp.negotiated import NegotiatedStream
from p2pboot.transport.tcp.pings import answer_pings
from p2pboot.transport.tcp.sockets import bound_address, open_listeners
from p2pboot.transport.traffic import Traffic
from p2pboot.wire.ping import PING_PROTOCOL

log = logging.getLogger("p2pboot.transport.libp2p")

_NEGOTIATION_S: Final = 10  # of a stream
_SHUTDOWN_S: Final = 0.5


class HardenedHost(BasicHost):
    """libp2p's host, which a stranger's stream does not end.

    Args:
        swarm: its connections.
        nursery: owns the tasks that stock libp2p would give to trio's system nursery.
        reached_at: tells where the node can be reached now, the best first; asked whenever a peer asks (identify), so
            that a new address is told to whoever connects next, in a new signed record.
    """

    def __init__(
        self,
        swarm: BoundedSwarm,
        nursery: trio.Nursery,
        reached_at: Callable[[], Sequence[Address]],
    ) -> None:
        self._nursery = nursery
        self._reached_at = reached_at
        self._announced: tuple[Sequence[Address], list[Multiaddr]] = ((), [])
        super().__init__(
            swarm,
            negotiate_timeout=_NEGOTIATION_S,
            addrs_factory=self._announce,
            disable_identify_address_discovery=True,
        )
        # A peer that pushes again and again would be parsed again and again; addresses come by identify.
        self.remove_stream_handler(ID_PUSH)
        self.set_stream_handler(TProtocol(PING_PROTOCOL), _answer_pings)

    def _announce(self, _listening: Sequence[Multiaddr]) -> list[Multiaddr]:
        """Where the node is, for identify and for every message of gossip; so made again only when it changed."""
        reached_at = self._reached_at()[:MAX_ADDRESSES]
        if self._announced[0] != reached_at:
            self._announced = (reached_at, [Multiaddr(str(address)) for address in reached_at])
        return list(self._announced[1])

    async def _swarm_stream_handler(self, net_stream: INetStream) -> None:
        """Serve one inbound stream; an exception out of any handler would end the whole host."""
        try:
            await super()._swarm_stream_handler(net_stream)
        except Exception as error:
            log.debug("stream from %s ended: %r", net_stream.muxed_conn.peer_id, error)
            await net_stream.reset()

    def _schedule_identify(self, peer_id: ID, *, reason: str) -> None:
        if peer_id != self.get_id() and peer_id not in self._identify_inflight:
            self._identify_inflight.add(peer_id)
            self._nursery.start_soon(self._identify, peer_id, reason)

    async def _identify(self, peer_id: ID, reason: str) -> None:
        try:
            await self._identify_peer(peer_id, reason=reason)
        except Exception as error:
            log.debug("identify with %s failed: %r", peer_id, error)
        finally:
            self._identify_inflight.discard(peer_id)


class Libp2pTransport(interface.Gossip):
    """`transport.interface.Gossip` on a running host."""

    def __init__(
        self,
        host: HardenedHost,
        swarm: BoundedSwarm,
        gossip: Gossip,
        register: ConnectionRegister,
        reached_at: Callable[[], Sequence[Address]],
        *,
        bound: Sequence[Address],
        own: OwnRecord,
        bandwidth: Bandwidth,
    ) -> None:
        self._host = host
        self._bound = tuple(map(str, bound))
        self._own = own
        self._swarm = swarm
        self._gossip = gossip
        self._register = register
        self._reached_at = reached_at
        self._bandwidth = bandwidth

    @property
    @override
    def peer_id(self) -> str:
        return str(self._host.get_id())

    @property
    @override
    def traffic(self) -> Traffic:
        return self._bandwidth.traffic

    @property
    @override
    def mesh(self) -> str | None:
        return self._swarm.mesh

    @override
    def addresses(self) -> tuple[str, ...]:
        return tuple(str(address.with_peer(self.peer_id)) for address in self._reached_at())

    @override
    def listens_on(self) -> tuple[str, ...]:
        return self._bound

    @override
    def leads_here(self, address: str) -> bool:
        parsed = parse_address(address).with_peer(None)
        return parsed in [own.with_peer(None) for own in self._reached_at()]

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
        said = map(str, self._swarm.known_addresses(ID.from_base58(peer_id)))
        known = of_peer((*self._swarm.addresses_of.get(peer_id), *said), peer_id)
        return known_dialable(known, limit=MAX_ADDRESSES)

    @override
    def peer_records(self) -> tuple[bytes, ...]:
        store = cast(BoundedPeerStore, self._swarm.peerstore)
        known = (ID.from_base58(peer_id) for peer_id in sorted(self.peers()))
        nodes = (peer_id for peer_id in known if is_node(store.spoken_by(peer_id)))
        found = (store.get_peer_record(peer_id) for peer_id in nodes)
        records = (envelope.marshal_envelope() for envelope in found if envelope is not None)
        return tuple(record for record in records if len(record) <= MAX_RECORD_BYTES)

    @override
    def is_node(self, peer_id: str) -> bool:
        return is_node(cast(BoundedPeerStore, self._swarm.peerstore).spoken_by(ID.from_base58(peer_id)))

    @override
    def read_peer_record(self, record: bytes) -> PeerRecord | None:
        return read_record(record)

    @override
    def own_record(self) -> bytes:
        return self._own.of(self._reached_at()[:MAX_ADDRESSES])

    @override
    async def dial(self, address: str, source: PeerSource | None = None) -> Connection:
        parsed = parse_address(address)
        known = self._register.dialled_at(parsed)
        if known is not None:
            self._register.note_dialled(parsed, known, source)
            return known
        connection = await self._swarm.dial(parsed)
        self._register.note_dialled(parsed, connection, source)
        peer_id = connection.peer_id
        for one in {connection.address, *known_dialable([str(parsed.with_peer(peer_id))], limit=1)}:
            self._swarm.addresses_of.reached(peer_id, one)
        return connection

    @override
    async def hang_up(self, connection: Connection) -> None:
        found = self._swarm.find(connection)
        if found is not None:
            await self._swarm.hang_up([found])

    @override
    def prefer(self, peer_ids: Collection[str]) -> None:
        self._swarm.prefer(peer_ids)

    @override
    async def open_stream(self, connection: Connection, protocol: str) -> Stream:
        found = self._swarm.find(connection)
        if found is None:
            raise StreamReset(f"not connected with {connection.peer_id} any more")
        stream = NegotiatedStream(cast(MuxedConnection, found.muxed_conn).tcp.open(), connection)
        try:
            with trio.fail_after(_NEGOTIATION_S):
                await stream.propose(protocol)
                await stream.agreed()
        except trio.TooSlowError as error:
            await stream.reset()
            raise StreamReset(f"{connection.peer_id} does not say whether it speaks {protocol}") from error
        except BaseException:
            await stream.reset()
            raise
        return MeteredStream(stream, protocol, self._bandwidth)

    @override
    def handle(self, protocol: str, handler: StreamHandler) -> None:
        async def serve(net_stream: INetStream) -> None:
            stream = MeteredStream(_taken_out(net_stream), protocol, self._bandwidth)
            await run_handler(protocol, handler, stream, log)

        self._host.set_stream_handler(TProtocol(protocol), serve)

    @override
    def connection_events(self) -> trio.MemoryReceiveChannel[ConnectionEvent]:
        return self._register.follow()

    @override
    async def wait_ended(self, connection: Connection) -> None:
        await self._register.wait_ended(connection)

    @override
    async def subscribe(self, topic: str, validator: Validator) -> None:
        await self._gossip.join(topic, self._bandwidth.of_messages(validator))

    @override
    async def unsubscribe(self, topic: str) -> None:
        await self._gossip.leave(topic)

    @override
    async def publish(self, topic: str, payload: bytes) -> None:
        self._bandwidth.published(len(payload))
        await self._gossip.publish(topic, payload)

    @override
    def forget_seen(self) -> None:
        self._gossip.forget_seen()


def _taken_out(net_stream: INetStream) -> NegotiatedStream:
    """Take one of the connection's streams out of libp2p's layers; these see its end when the handler returns."""
    stream = cast(HostStream, cast(NetStream, net_stream).muxed_stream)
    name = cast(MuxedConnection, stream.muxed_conn).name
    return NegotiatedStream(stream.muxed, name)


async def _answer_pings(net_stream: INetStream) -> None:
    connection = cast(MuxedConnection, net_stream.muxed_conn).tcp
    await answer_pings(_taken_out(net_stream), connection)
    await net_stream.close()


@asynccontextmanager
async def open_libp2p(
    secret_key: SecretKey,
    listen: Sequence[str],
    options: Libp2pOptions | None = None,
    interfaces: Interfaces | None = None,
    bandwidth: Bandwidth | None = None,
    *,
    swarm_key: SwarmKey | None = None,
    allowed: AllowList = EVERYBODY,
) -> AsyncIterator[interface.Gossip]:
    """Run a node.

    Args:
        secret_key: its identity.
        listen: multiaddrs to listen on, as `/ip4/0.0.0.0/tcp/4001`; none for a mere client.
        options: its limits.
        interfaces: tells which addresses a wildcard stands for.
        bandwidth: what all transports and gateways of the process may use together; a new one without limits else.
        swarm_key: of the private mesh that it is in; None for the network of all.
        allowed: whom it lets in.

    Raises:
        UsageError: an address to listen on is malformed.
        MachineError: a port is taken, an address is not this machine's, or libp2p is not the version needed.
    """
    options = options or Libp2pOptions()
    addresses = [parse_listen_address(text) for text in listen]
    hardening.apply()
    listeners = open_listeners(addresses)
    failure: BaseException | None = None
    try:
        async with AsyncExitStack() as stack:
            transport = await _start(
                stack,
                secret_key,
                listeners,
                options,
                interfaces or Interfaces(),
                bandwidth=bandwidth or Bandwidth(),
                swarm_key=swarm_key,
                allowed=allowed,
            )
            try:
                yield transport
            except trio.Cancelled:
                raise
            except BaseException as error:  # libp2p's services swallow what passes through them
                failure = error
        if failure is not None:
            raise failure
    except BaseExceptionGroup as group:
        raise first_error(group) from None
    finally:
        for listener in listeners:
            listener.socket.close()


async def _start(
    stack: AsyncExitStack,
    secret_key: SecretKey,
    listeners: Sequence[trio.SocketListener],
    options: Libp2pOptions,
    interfaces: Interfaces,
    *,
    bandwidth: Bandwidth,
    swarm_key: SwarmKey | None,
    allowed: AllowList,
) -> Libp2pTransport:
    """Start the parts; `stack` ends them the other way round: goodbyes, accepting, gossip, libp2p's services.

    Goodbyes come first because, with a frozen peer, nothing else ends while its socket is open.
    """
    nursery = await stack.enter_async_context(_cancelled_at_end())
    register = ConnectionRegister(nursery)
    swarm = BoundedSwarm(secret_key, options, register, nursery, swarm_key=swarm_key, allowed=allowed)
    nursery.start_soon(swarm.look_after)
    bound = [bound_address(listener) for listener in listeners]
    reached_at = partial(reachable, bound, interfaces)
    host = HardenedHost(swarm, nursery, reached_at)
    gossip = Gossip(host, options, allowed)
    await stack.enter_async_context(host.run(()))
    stack.push_async_callback(_close, host)
    await stack.enter_async_context(gossip.run())
    accepting = await stack.enter_async_context(_cancelled_at_end())
    if listeners:
        serve = partial(trio.serve_listeners, swarm.serve_tcp, list(listeners), handler_nursery=accepting)
        accepting.start_soon(serve)
    stack.push_async_callback(_say_goodbye, swarm)
    return Libp2pTransport(
        host,
        swarm,
        gossip,
        register,
        reached_at,
        bound=bound,
        own=OwnRecord(secret_key),
        bandwidth=bandwidth,
    )


@asynccontextmanager
async def _cancelled_at_end() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        finally:
            nursery.cancel_scope.cancel()


async def _say_goodbye(swarm: BoundedSwarm) -> None:
    with shielded_for(_SHUTDOWN_S):
        await swarm.hang_up(swarm.get_connections())


async def _close(host: HardenedHost) -> None:
    with shielded_for(_SHUTDOWN_S):
        await host.close()
