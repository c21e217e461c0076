"""With whom a node is connected, and how it finds them: named, remembered, near, told of by others, or hashed to.

Owns that these ways know each other and run; each is a part of its own. What is said on the connections is not.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Sequence

import trio

from p2pboot.config.network import NetworkSettings
from p2pboot.core.trust import Pair
from p2pboot.dht.addresses import AddressPolicy
from p2pboot.fetch.asking.acquainting import Acquainting
from p2pboot.fetch.asking.remembering import Remembering
from p2pboot.node.contact import Contact
from p2pboot.node.hashtable import HashTable
from p2pboot.node.interests import Interests
from p2pboot.node.peering import Peering
from p2pboot.node.reconciling import Changes
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.peers import Peers
from p2pboot.transport.interface import Gossip
from p2pboot.transport.nearness import Nearness


class Neighbourhood:
    """See above.

    Args:
        network: of the settings; a running node takes no other.
        transport: the network.
        catalogue: what the hash table is told of, and whom a newer root names.
        interests: what is followed.
        book: the address book of this mesh.
        wall: the machine's clock, unix seconds; any thread.
        hints: addresses that discovery finds, None without discovery.
        urls: the beginnings of the HTTP URLs under which this node's artifacts can be had now.
    """

    def __init__(
        self,
        network: NetworkSettings,
        transport: Gossip,
        catalogue: Catalogue,
        interests: Interests,
        *,
        book: Peers,
        wall: Callable[[], float],
        hints: AsyncIterable[str] | None,
        urls: Callable[[], Sequence[str]],
    ) -> None:
        self._network = network
        self._interests = interests
        self.hints = hints
        self.nearness = Nearness(network.site)
        self.peering = Peering(transport, network.bootstrap)
        self.peering.prefer(catalogue.trust.configured.publishers)
        self._remembering = Remembering(transport, book, wall, usable=network.allowed.heeds)
        self.contact = Contact(
            transport,
            expects_peers=interests.expects_peers,
            addressed=lambda: self.peering.addressed,
            syncs=network.sync,
            followed=interests.followed,
            wall=wall,
        )
        self._acquainting = Acquainting(transport, self.nearness, usable=network.allowed.heeds)
        self._acquainting.look_for(None)
        self.hash_table: HashTable | None = None
        if network.dht != "off":
            self.hash_table = HashTable(
                transport,
                catalogue,
                urls,
                serves=network.dht == "server",
                policy=AddressPolicy(public=network.dht_public, allowed=network.allowed),
                is_trusted=self.is_preferred,
                follows=lambda: interests.topics(set()),
            )

    def is_preferred(self, peer_id: str) -> bool:
        """Whether the operator named a peer, by a key or an address."""
        return peer_id in self.peering.preferred

    def counts(self, pair: Pair, peer_id: str) -> bool:
        """Whether the operator wants to know what a peer offers that no trusted key has signed.

        Where no peer is configured, whoever is on the local network may have been meant.
        """
        if self._network.bootstrap:
            return peer_id in self.peering.configured
        return pair in self._interests.followed()

    async def run(self, changes: Changes) -> None:
        """Find whom there is to find, and stay connected, until cancelled.

        Args:
            changes: tells that the hash table is to be told something else.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.peering.run, self.hints)
            nursery.start_soon(self._remembering.run)
            nursery.start_soon(self.contact.run)
            if self.hash_table is not None:
                nursery.start_soon(self.hash_table.run)
                nursery.start_soon(changes.follow, self.hash_table.reconcile, "the hash table is not told")
            if self._network.sync:
                nursery.start_soon(self._acquainting.run)
