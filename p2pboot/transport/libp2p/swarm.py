"""The connections of one node: accepted within bounds, dialled knowing the peer or not, ended for sure.

A subclass of libp2p's `Swarm` that replaces how connections come up (stock: slots of inbound ones are never
given back; dialling goes through a cache of failures, retries and filters) and leaves the rest alone. Connections are
`transport.tcp`'s; libp2p gets them when they are secured and multiplexed.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import trio
from libp2p.abc import INetConn
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore, PeerStoreError
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from p2pboot.core.addressbook import OF_A_PROCESS, AddressBook
from p2pboot.core.identity import SecretKey
from p2pboot.core.origins import origin_of
from p2pboot.core.swarmkey import SwarmKey
from p2pboot.transport.addresses import Address, known_dialable, of_peer
from p2pboot.transport.allowlist import EVERYBODY, AllowList
from p2pboot.transport.events import ConnectionRegister
from p2pboot.transport.interface import Connection, DialError, NoRoom
from p2pboot.transport.libp2p.muxed import MuxedConnection, Streams
from p2pboot.transport.libp2p.options import Libp2pOptions
from p2pboot.transport.libp2p.peerstore import BoundedPeerStore
from p2pboot.transport.limits import Admission, Refused
from p2pboot.transport.records import MAX_ADDRESSES
from p2pboot.transport.tcp.accepting import accepted
from p2pboot.transport.tcp.connection import TcpConnection
from p2pboot.transport.tcp.crossing import same_process, settle
from p2pboot.transport.tcp.endpoint import Endpoint
from p2pboot.transport.tcp.sockets import release
from p2pboot.transport.tcp.stream import MuxedStream
from p2pboot.wire.yamux.frames import NO_ROOM, NORMAL
from p2pboot.wire.yamux.limits import Limits

log = logging.getLogger("p2pboot.transport.libp2p")


class BoundedSwarm(Swarm):
    """libp2p's swarm over our own connections.

    Args:
        secret_key: the node's identity.
        options: the limits.
        register: told of every connection that comes up and ends.
        nursery: owns the connections.
        swarm_key: of the private mesh that the node is in, if it is.
        allowed: whom it lets in.
    """

    def __init__(
        self,
        secret_key: SecretKey,
        options: Libp2pOptions,
        register: ConnectionRegister,
        nursery: trio.Nursery,
        *,
        swarm_key: SwarmKey | None = None,
        allowed: AllowList = EVERYBODY,
    ) -> None:
        key_pair = create_new_key_pair(secret_key.seed)
        peer_id = ID.from_pubkey(key_pair.public_key)
        peerstore: PeerStore = BoundedPeerStore()
        peerstore.add_key_pair(peer_id, key_pair)
        super().__init__(
            peer_id,
            peerstore,
            TransportUpgrader({}, {}),  # libp2p upgrades nothing
            transports=[],
            retry_config=RetryConfig(max_retries=0),
            connection_config=ConnectionConfig(
                max_connections=options.max_inbound + options.max_outbound,
                high_watermark=options.max_inbound + options.max_outbound,
                min_connections=0,
                low_watermark=0,  # no dialling of its own
                max_connections_per_peer=options.max_connections_per_peer,
            ),
        )
        limits = Limits(inbound_streams=options.max_inbound_streams)
        self._endpoint = Endpoint(secret_key, limits, swarm_key, allowed)
        self._admission = Admission(options, self._make_way)
        self._register = register
        self._nursery = nursery
        self._numbers = itertools.count()
        self._ends: dict[TcpConnection, MuxedConnection] = {}
        self.addresses_of = AddressBook(OF_A_PROCESS)

    @property
    def mesh(self) -> str | None:
        """As `transport.interface.Transport` has it."""
        return self._endpoint.mesh

    async def look_after(self) -> None:
        """Look after the connections, for ever: has to run as long as there are any."""
        await self._endpoint.run()

    def find(self, connection: Connection) -> SwarmConn | None:
        """The connection that goes by this name, if it is up."""
        for one in self.get_connections(ID.from_base58(connection.peer_id)):
            if cast(MuxedConnection, one.muxed_conn).name == connection:
                return cast(SwarmConn, one)
        return None

    async def serve_tcp(self, stream: trio.SocketStream) -> None:
        """Serve one accepted connection until it ends. Raises nothing but Cancelled."""
        streams = _new_streams()
        sock = release(stream)
        try:
            async with accepted(
                self._endpoint, self._admission, sock, streams[0].send_nowait, self._nursery
            ) as tcp:
                leaving, stays = self._settle(tcp)
                if stays is not tcp:
                    await tcp.hang_up()
                    return
                with self._end_of(tcp, streams) as muxed:
                    await self.hang_up(self._admission.surplus(self.get_connections(muxed.peer_id)))
                    await self.add_conn(muxed, direction="inbound")
                    self._end_surplus(leaving, muxed.name)
                    await tcp.closed.wait()
        except Exception as error:
            log.debug("a connection was not taken, or ended: %r", error)

    def _settle(self, tcp: TcpConnection) -> tuple[list[TcpConnection], TcpConnection]:
        return settle(str(self.get_peer_id()), tcp, self._healthy())

    def _healthy(self) -> list[TcpConnection]:
        return [tcp for tcp in self._ends if tcp.failure is None]

    def _other_with(self, tcp: TcpConnection) -> MuxedConnection | None:
        """Another connection with the same process of a peer."""
        return next((self._ends[other] for other in same_process(tcp, self._healthy())), None)

    def _end_surplus(self, leaving: Iterable[TcpConnection], stays: Connection) -> None:
        """End connections in whose place another one with the same process stays."""
        for tcp in leaving:
            log.debug("one connection with %s is enough", tcp.peer_id)
            if tcp in self._ends:
                self._register.went(self._ends[tcp].name, heir=stays)
            self._nursery.start_soon(self._end, tcp, NORMAL)

    async def _end(self, tcp: TcpConnection, code: int) -> None:
        await tcp.hang_up(code)
        await self.hang_up(
            [one for one in self.get_connections() if cast(MuxedConnection, one.muxed_conn).tcp is tcp]
        )

    def _make_way(self, tcp: TcpConnection) -> None:
        log.debug("the connection with %s gives way to others", tcp.party)
        self._nursery.start_soon(self._end, tcp, NO_ROOM)

    def prefer(self, peer_ids: Collection[str]) -> None:
        """Take these in whoever else is there."""
        self._admission.prefer(peer_ids)

    async def dial(self, address: Address) -> Connection:
        """Make a new connection. The caller sets the timeout.

        Raises:
            UsageError: the peer id in the address cannot be one of a node's.
            DialError: nobody answers, or somebody else than is named, or there are enough connections.
        """
        connection: Connection = await self._nursery.start(self._keep_dialled, address)
        return connection

    async def _keep_dialled(self, address: Address, task_status: Any) -> None:
        """Dial, and count the connection until it ends."""
        try:
            with self._admission.outbound():
                streams = _new_streams()
                tcp = await self._endpoint.dial(address, streams[0].send_nowait, self._nursery)
                try:
                    leaving, stays = self._settle(tcp)
                    if stays is not tcp:
                        other = self._ends[stays]
                        await other.settled.wait()
                        task_status.started(other.name)
                        await tcp.hang_up()
                        return
                    with self._end_of(tcp, streams) as muxed:
                        task_status.started(await self._add_dialled(muxed))
                        self._end_surplus(leaving, muxed.name)
                        await tcp.closed.wait()
                finally:
                    tcp.abort()
        except Refused as error:
            raise DialError(f"cannot dial {address}: {error.message}") from error

    async def _add_dialled(self, muxed: MuxedConnection) -> Connection:
        """Have libp2p know of it; returns it, or the one for which the peer has ended it meanwhile."""
        try:
            await self.add_conn(muxed, direction="outbound")
            return muxed.name
        except Exception as error:
            if (other := self._other_with(muxed.tcp)) is not None:
                return other.name
            failure = muxed.tcp.failure
            if isinstance(failure, NoRoom):
                raise DialError(f"{muxed.name.address}: {failure.message}", remedy=failure.remedy) from error
            raise DialError(f"{muxed.name.address} was connected, and ended at once") from error

    @contextmanager
    def _end_of(self, tcp: TcpConnection, streams: Streams) -> Iterator[MuxedConnection]:
        """Our end of a connection as libp2p knows it, while the block runs."""
        address = tcp.remote_address.with_peer(tcp.peer_id)
        name = Connection(tcp.peer_id, str(address), next(self._numbers))
        muxed = self._ends[tcp] = MuxedConnection(tcp, name, streams)
        try:
            yield muxed
        finally:
            del self._ends[tcp]
            muxed.settled.set()

    async def hang_up(self, connections: Iterable[INetConn]) -> None:
        """End connections: with a goodbye where the peer takes it at once, without otherwise. Bounded.

        They are off the books then.
        """
        ending = list(connections)
        async with trio.open_nursery() as nursery:
            for one in ending:
                nursery.start_soon(one.muxed_conn.close)
        for one in ending:
            self.remove_conn(cast(SwarmConn, one))
        await trio.lowlevel.checkpoint()  # who counts connections has just seen the end of these

    async def notify_connected(self, conn: INetConn) -> None:
        """Tell the register before libp2p's own listeners."""
        muxed = cast(MuxedConnection, conn.muxed_conn)
        if conn.is_closed:
            self.remove_conn(cast(SwarmConn, conn))  # it died while it was being registered
            return
        self._register.came(muxed.name)
        muxed.settled.set()
        await super().notify_connected(conn)

    def remove_conn(self, swarm_conn: SwarmConn) -> None:
        """Forget a connection; with the last one goes all that its peer made us remember."""
        super().remove_conn(swarm_conn)
        muxed = cast(MuxedConnection, swarm_conn.muxed_conn)
        other = self._other_with(muxed.tcp)
        self._register.went(muxed.name, heir=None if other is None else other.name)
        peer_id = swarm_conn.muxed_conn.peer_id
        if peer_id in self.connections:
            return
        text = str(peer_id)
        said = known_dialable(of_peer(map(str, self.known_addresses(peer_id)), text), limit=MAX_ADDRESSES)
        self.addresses_of.said(text, said, origin_of(muxed.name.address))
        if self.peerstore.has_peer(peer_id):
            self.peerstore.clear_peerdata(peer_id)

    def known_addresses(self, peer_id: ID) -> list[Multiaddr]:
        """Where a connected peer says that it listens; empty when it has said nothing."""
        try:
            return self.peerstore.addrs(peer_id)
        except PeerStoreError:
            return []


def _new_streams() -> Streams:
    # Not bounded here: Yamux bounds how many a peer may have open.
    return trio.open_memory_channel[MuxedStream](math.inf)
