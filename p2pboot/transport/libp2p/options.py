"""Limits of a node on the network: plain numbers, so that a configuration can name them without libp2p."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Libp2pOptions:
    """What one node allows its peers.

    Args:
        max_inbound: connections accepted at a time.
        max_outbound: connections dialled at a time.
        max_inbound_per_ip: of the inbound ones, from one IP address (a site behind NAT is one address).
        max_connections_per_peer: with one peer id, in both directions together.
        max_streams_per_connection: open streams that one connection may have; each may hold a receive window.
        gossip_messages_per_second: new gossip messages taken from one peer; what is above is dropped unread.
        gossip_burst: how many at once.
        gossip_seen_s: how long a message counts as seen; re-announcing it faster than that reaches nobody.
    """

    max_inbound: int = 256
    max_outbound: int = 128
    max_inbound_per_ip: int = 64
    max_connections_per_peer: int = 4
    max_streams_per_connection: int = 256
    gossip_messages_per_second: float = 20.0
    gossip_burst: int = 50
    gossip_seen_s: float = 120.0
