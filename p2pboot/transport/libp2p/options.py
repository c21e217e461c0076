"""Limits of a node on the network: plain numbers, so that a configuration can name them without libp2p."""

from __future__ import annotations

from p2pboot.core.dataclass import dataclass
from p2pboot.transport.limits import ConnectionLimits


@dataclass(frozen=True, slots=True)
class Libp2pOptions(ConnectionLimits):
    """What one node allows its peers, of gossip too.

    Args:
        gossip_messages_per_second: new gossip messages taken from one peer; what is above is dropped unread.
        gossip_burst: how many at once.
        gossip_seen_s: how long a message counts as seen; re-announcing it faster than that reaches nobody.
    """

    gossip_messages_per_second: float = 20.0
    gossip_burst: int = 50
    gossip_seen_s: float = 120.0
