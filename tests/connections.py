"""Connections as tests name them: by who is at the other end."""

from __future__ import annotations

from p2pboot.transport.interface import Connection, Transport


def connection_with(node: Transport, peer: Transport | str) -> Connection:
    """The one connection of a node with a peer."""
    peer_id = peer if isinstance(peer, str) else peer.peer_id
    (connection,) = (each for each in node.connections() if each.peer_id == peer_id)
    return connection
