"""The connections of one node: accepted within bounds, dialled knowing the peer or not, ended for sure.

A subclass of libp2p's `Swarm` that replaces how connections come up (stock: slots of inbound ones are never
given back; dialling goes through a cache of failures, retries and filters) and leaves the rest alone.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterable
from typing import Final, cast
from weakref import WeakKeyDictionary

import trio
from libp2p.abc import IMuxedConn, INetConn
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore, PeerStoreError
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_PROTOCOL
from multiaddr import Multiaddr

from p2pboot.transport.addressbook import AddressBook
from p2pboot.transport.addresses import Address
from p2pboot.transport.cleanup import shielded_for
from p2pboot.transport.events import ConnectionRegister
from p2pboot.transport.interface import Connection, DialError
from p2pboot.transport.libp2p.muxer import HardenedYamux, NoiseYamuxUpgrader
from p2pboot.transport.libp2p.options import Libp2pOptions
from p2pboot.transport.libp2p.peerstore import BoundedPeerStore
from p2pboot.transport.libp2p.tcp import TcpConnection, TcpStream, dial_tcp

log = logging.getLogger("p2pboot.transport.libp2p")

_NEGOTIATION_S: Final = 10  # for Noise and Yamux together; a stranger holds a slot no longer without a key
_GOODBYE_S: Final = 0.3


class BoundedSwarm(Swarm):
    """libp2p's swarm over our TCP, Noise and Yamux.

    Args:
        key_pair: the node's identity.
        options: the limits.
        register: told of every connection that comes up and ends.
    """

    def __init__(self, key_pair: KeyPair, options: Libp2pOptions, register: ConnectionRegister) -> None:
        peer_id = ID.from_pubkey(key_pair.public_key)
        peerstore: PeerStore = BoundedPeerStore()
        peerstore.add_key_pair(peer_id, key_pair)
        noise = NoiseTransport(key_pair, noise_privkey=create_noise_key_pair().private_key)
        super().__init__(
            peer_id,
            peerstore,
            # Noise and Yamux only: the stock host also takes plaintext, secio, TLS and mplex.
            NoiseYamuxUpgrader(
                {NOISE_PROTOCOL: noise}, {TProtocol(YAMUX_PROTOCOL): HardenedYamux}, _NEGOTIATION_S
            ),
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
        self._options = options
        self._register = register
        self.addresses_of = AddressBook()
        self._numbers = itertools.count()
        self._named: WeakKeyDictionary[IMuxedConn, Connection] = WeakKeyDictionary()
        self._inbound_by_ip: Counter[str] = Counter()
        self._outbound = 0

    def name(self, muxed: IMuxedConn) -> Connection:
        """What the rest of the program knows a connection as."""
        if muxed not in self._named:
            peer_id, (host, port) = str(muxed.peer_id), cast(HardenedYamux, muxed).tcp.get_remote_address()
            address = Address("ip6" if ":" in host else "ip4", host.partition("%")[0], port, peer_id)
            self._named[muxed] = Connection(peer_id, str(address), next(self._numbers))
        return self._named[muxed]

    def find(self, connection: Connection) -> SwarmConn | None:
        """The connection that goes by this name, if it is up."""
        for one in self.get_connections(ID.from_base58(connection.peer_id)):
            if self.name(one.muxed_conn) == connection:
                return cast(SwarmConn, one)
        return None

    async def serve_tcp(self, stream: trio.SocketStream) -> None:
        """Serve one accepted connection until it ends. Raises nothing but Cancelled."""
        try:
            tcp = TcpStream(stream.socket)
        except OSError:
            return  # it hung up before it was accepted
        ip = tcp.get_remote_address()[0]
        if self._inbound_by_ip.total() >= self._options.max_inbound:
            log.debug("connection from %s refused: %d inbound are enough", ip, self._options.max_inbound)
            return
        if self._inbound_by_ip[ip] >= self._options.max_inbound_per_ip:
            log.debug("connection from %s refused: it has %d already", ip, self._options.max_inbound_per_ip)
            return
        self._inbound_by_ip[ip] += 1
        try:
            await self._serve_inbound(TcpConnection(tcp, initiator=False))
        except Exception as error:
            log.debug("connection from %s failed: %r", ip, error)
        finally:
            tcp.abort()
            self._inbound_by_ip[ip] -= 1
            if not self._inbound_by_ip[ip]:
                del self._inbound_by_ip[ip]

    async def _serve_inbound(self, raw: TcpConnection) -> None:
        with trio.fail_after(_NEGOTIATION_S):
            secured = await self.upgrader.upgrade_security(raw, False)
            peer_id = secured.get_remote_peer()
            if peer_id == self.self_id:
                return
            await self._make_room(peer_id)
            muxed = await self.upgrader.upgrade_connection(secured, peer_id)
        await self.add_conn(muxed, direction="inbound")
        await cast(HardenedYamux, muxed).event_closed.wait()

    async def _make_room(self, peer_id: ID) -> None:
        """End the oldest connections of a peer that has too many.

        One that comes back is not to be kept out by its own former connections, which may take a moment to end.
        It can only cost itself.
        """
        connections = self.get_connections(peer_id)
        surplus = len(connections) + 1 - self._options.max_connections_per_peer
        if surplus > 0:
            log.debug("peer %s has %d connections; the oldest are ended", peer_id, len(connections))
            await self.hang_up(connections[:surplus])

    async def dial(self, address: Address) -> Connection:
        """Make a new connection. The caller sets the timeout.

        Raises:
            DialError: nobody answers, or somebody else than is named, or there are enough connections.
        """
        if self._outbound >= self._options.max_outbound:
            raise DialError(f"cannot dial {address}: {self._outbound} dialled connections are the limit")
        self._outbound += 1
        connection = None
        try:
            connection = await self._dial(address)
            return self.name(connection)
        finally:
            if connection is None:
                self._outbound -= 1
            else:
                self.manager.run_task(self._count_until_closed, connection)

    async def _count_until_closed(self, connection: HardenedYamux) -> None:
        await connection.event_closed.wait()
        self._outbound -= 1

    async def _dial(self, address: Address) -> HardenedYamux:
        expected = None if address.peer_id is None else ID.from_base58(address.peer_id)
        raw = await dial_tcp(address)
        try:
            # Noise authenticates whoever answers; `None` only leaves out the comparison.
            secured = await self.upgrader.security_multistream.secure_outbound(raw, cast(ID, expected))
            peer_id = secured.get_remote_peer()
            if expected is not None and peer_id != expected:
                raise DialError(f"{address} answers as {peer_id}")
            if peer_id == self.self_id:
                raise DialError(f"{address} is this node itself")
            muxed = cast(HardenedYamux, await self.upgrader.upgrade_connection(secured, peer_id))
            await self.add_conn(muxed, direction="outbound")
        except DialError:
            raw.tcp.abort()
            raise
        except Exception as error:
            raw.tcp.abort()
            raise DialError(
                f"{address} answers, but not as {'the peer named in it' if expected else 'a libp2p node'}"
                " with Noise and Yamux",
                remedy="check the port and the peer id",
            ) from error
        except BaseException:
            raw.tcp.abort()
            raise
        return muxed

    async def hang_up(self, connections: Iterable[INetConn]) -> None:
        """End connections: with a goodbye where the peer takes it at once, without otherwise. Bounded."""
        muxed = [cast(HardenedYamux, connection.muxed_conn) for connection in connections]
        with shielded_for(_GOODBYE_S):
            async with trio.open_nursery() as nursery:
                for one in muxed:
                    nursery.start_soon(self._say_goodbye, one)
        for one in muxed:
            one.tcp.abort()  # wakes whoever reads or writes it; the rest follows from there
        with trio.move_on_after(_GOODBYE_S):
            for one in muxed:
                await one.event_closed.wait()

    async def _say_goodbye(self, muxed: HardenedYamux) -> None:
        try:
            await muxed.send_go_away()
        except Exception as error:
            log.debug("no goodbye to %s: %r", muxed.peer_id, error)

    async def notify_connected(self, conn: INetConn) -> None:
        """Tell the register before libp2p's own listeners."""
        if conn.is_closed:
            self.remove_conn(cast(SwarmConn, conn))  # it died while it was being registered
            return
        self._register.came(self.name(conn.muxed_conn))
        await super().notify_connected(conn)

    def remove_conn(self, swarm_conn: SwarmConn) -> None:
        """Forget a connection; with the last one goes all that its peer made us remember."""
        super().remove_conn(swarm_conn)
        self._register.went(self.name(swarm_conn.muxed_conn))
        peer_id = swarm_conn.muxed_conn.peer_id
        if peer_id in self.connections:
            return
        text = str(peer_id)
        self.addresses_of.remember(text, map(str, self.known_addresses(peer_id)))
        if self.peerstore.has_peer(peer_id):
            self.peerstore.clear_peerdata(peer_id)

    def known_addresses(self, peer_id: ID) -> list[Multiaddr]:
        """Where a connected peer says that it listens; empty when it has said nothing."""
        try:
            return self.peerstore.addrs(peer_id)
        except PeerStoreError:
            return []
