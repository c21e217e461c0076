"""Collects what only the running node knows: its peers and what is known of them, bytes, machines that boot.

Counting goes on all the time, at one look every five seconds; everything else is done when somebody wants to know.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Final

import trio
from cachetools import LRUCache

from p2pboot.core.headway import source_of
from p2pboot.node.status.acquaintance import MAX_NAME, Acquaintance, readable
from p2pboot.node.status.boots import Boot, Boots
from p2pboot.node.status.flows import LAN, MESH, PUBLISHER, Flows, FlowsFacts
from p2pboot.node.status.known import Known
from p2pboot.node.status.running import MAX_PEERS, PeerFacts
from p2pboot.transport.interface import Connection, Gossip
from p2pboot.transport.nearness import Nearness
from p2pboot.transport.traffic import Traffic

ADDRESSES_AT_ONCE: Final = 32
"""Peers whose addresses are looked at in one turn of the event loop: py-libp2p takes 0.1 to 0.2 ms for each."""


SETTLE_S: Final = 0.3
"""For so long who looks once waits for what peers say of themselves."""

REMEMBERED: Final = 1024
"""Peers that are gone of which it is known whether they were near."""


class Collector:
    """What is counted for the status of one node.

    Args:
        transport: its network.
        traffic: of all that shares its bandwidth.
        nearness: tells who is near.
        known: what its manifests say; the caller keeps it up to date.
        wall: the machine's clock, unix seconds.
    """

    def __init__(
        self,
        transport: Gossip,
        traffic: Traffic,
        nearness: Nearness,
        known: Known,
        wall: Callable[[], float],
    ) -> None:
        self._transport = transport
        self._nearness = nearness
        self._known = known
        self._connections: Mapping[str, list[Connection]] = {}  # as of the last look
        self._met: LRUCache[str, bool] = LRUCache(
            REMEMBERED
        )  # of peers that were connected, whether they were near
        self._addresses: Mapping[str, tuple[str, ...]] = {}  # what was looked at last is the last
        self._flows = Flows(traffic, self._class_of, trio.current_time())
        self.acquaintance = Acquaintance(transport, self._shown)
        self.boots = Boots(known.releases_of, wall)

    async def run(self) -> None:
        """Count until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.acquaintance.run)
            nursery.start_soon(self._meet)
            while True:
                await trio.sleep_until(self._flows.ends_at)
                self.look_at_bytes()

    def somebody_looks(self) -> None:
        """A person, or a program of one, is shown the peers: what they say of themselves is asked for."""
        self.acquaintance.look()

    async def settle(self) -> None:
        """Somebody looks once: what is not known of peers yet is asked for now, if that is quick."""
        self._look()
        await self.acquaintance.settle(SETTLE_S)

    def look_at_bytes(self) -> None:
        """An interval of the flows is over."""
        self._look()
        self._flows.end_interval(trio.current_time())

    def given(self, connection: Connection, digest: str, size_bytes: int) -> None:
        """A peer was given bytes of what has this digest. Nodes do not boot: what they take, they pass on."""
        self._met[connection.peer_id] = self._nearness.near(connection)
        if not self._transport.is_node(connection.peer_id):
            self.boots.took_p2p(connection.peer_id, connection.address, digest, size_bytes)

    def whole(self, connection: Connection, digest: str) -> None:
        """A peer says that it has all of what has this digest."""
        self.boots.has_p2p(connection.peer_id, connection.address, digest)

    def booted(self) -> list[Boot]:
        """The machines that booted lately, the latest first."""
        self.boots.forget(filter(self._transport.is_node, self.boots.peers))
        return self.boots.lately()

    def flows(self) -> FlowsFacts:
        """Bytes by class of who is at the other end."""
        return self._flows.facts(trio.current_time())

    def peers(self) -> tuple[dict[str, tuple[str, ...]], list[PeerFacts]]:
        """The connected peers; nobody is asked anything for it.

        Returns:
            The addresses of all by peer id, of those that are not shown none; and what is known of those that are.
        """
        self._look()
        sizes, rates = self._flows.rates(trio.current_time())
        chosen = self._shown()
        self._look_at_addresses(chosen)
        shown = [
            self._facts(peer_id, sizes.get(peer_id, (0, 0)), rates.get(peer_id, (0.0, 0.0)))
            for peer_id in chosen
        ]
        addresses: dict[str, tuple[str, ...]] = dict.fromkeys(self._connections, ())
        addresses.update({one.peer_id: tuple(one.addresses) for one in shown})
        return addresses, shown

    def _look(self) -> None:
        connections = defaultdict(list)
        for connection in self._transport.connections():
            connections[connection.peer_id].append(connection)
        self._connections = connections

    def _look_at_addresses(self, shown: Collection[str]) -> None:
        """Look at those of a few peers, in turns."""
        unknown = [peer_id for peer_id in shown if peer_id not in self._addresses]
        is_shown = set(shown)
        known = [peer_id for peer_id in self._addresses if peer_id in is_shown]
        stale = [*unknown, *known][:ADDRESSES_AT_ONCE]
        found = {peer_id: tuple(self._transport.peer_addresses(peer_id)) for peer_id in stale}
        self._addresses = {
            peer_id: self._addresses[peer_id] for peer_id in known if peer_id not in found
        } | found

    def _shown(self) -> Collection[str]:
        """The peers of which more is told: where there are too many, those that say most."""
        if len(self._connections) <= MAX_PEERS:
            return self._connections.keys()
        sizes, _ = self._flows.rates(trio.current_time())
        of_interest = {PUBLISHER: 2, LAN: 1, MESH: 0}

        def interest(peer_id: str) -> tuple[int, int]:
            return of_interest[self._class_of(peer_id)], sum(sizes.get(peer_id, (0, 0)))

        return heapq.nlargest(MAX_PEERS, self._connections, key=interest)

    def _facts(self, peer_id: str, size: tuple[int, int], rate: tuple[float, float]) -> PeerFacts:
        name = self._known.providers.get(peer_id)
        return PeerFacts(
            peer_id=peer_id,
            addresses=self._addresses.get(peer_id, ()),
            sources=self._transport.sources(peer_id),
            name=self.acquaintance.agent(peer_id) if name is None else readable(name, MAX_NAME) or None,
            near=self._is_near(peer_id),
            is_publisher=peer_id in self._known.publishers,
            rtt_s=self.acquaintance.rtt_s(peer_id),
            received=size[0],
            sent=size[1],
            rate_received=rate[0],
            rate_sent=rate[1],
            holds=self.acquaintance.holds(peer_id),
            numbers=self.acquaintance.numbers(peer_id),
        )

    def _class_of(self, peer_id: str) -> str:
        return source_of(is_publisher=peer_id in self._known.publishers, near=lambda: self._is_near(peer_id))

    def _is_near(self, peer_id: str) -> bool:
        connections = self._connections.get(peer_id)
        if connections is None:
            return self._met.get(peer_id, False)
        return any(map(self._nearness.near, connections))

    async def _meet(self) -> None:
        """Who is gone before the interval is over was near, or not, all the same."""
        with self._transport.connection_events() as events:
            async for event in events:
                if event.connected:
                    self._met[event.connection.peer_id] = self._nearness.near(event.connection)
