"""How many bytes a node exchanged with its peers: counted where they pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from cachetools import LRUCache
from typing_extensions import override

SENT: Final = "sent"
RECEIVED: Final = "received"
GOSSIP: Final = "gossip"  # payloads of messages; how often they were forwarded only the network knows
HTTP: Final = "http"  # of the gateway, heads and bodies
OTHERS: Final = "others"
"""Stands for all peers that are not remembered singly."""

REMEMBERED_PEERS: Final = 256

Counts = Counter[tuple[str, str]]


class Traffic(Counts):
    """Bytes by (kind, SENT or RECEIVED). Kinds are protocols of this program, GOSSIP and HTTP: never a peer's words."""

    def __init__(self) -> None:
        super().__init__()
        self._peers = _RecentPeers(REMEMBERED_PEERS)

    def count(self, peer: str, kind: str, direction: str, size: int) -> None:
        """Note bytes exchanged with a peer."""
        self[kind, direction] += size
        counts = self._peers.get(peer)
        if counts is None:
            counts = self._peers[peer] = Counter()
        counts[kind, direction] += size

    def by_peer(self) -> Mapping[str, Counts]:
        """The same of each peer: those with which bytes were exchanged last, and all others in one sum, OTHERS."""
        others = {OTHERS: self._peers.others} if self._peers.others else {}
        return {peer: Counter(counts) for peer, counts in (*self._peers.items(), *others.items())}


class _RecentPeers(LRUCache[str, Counts]):
    """Counts of the latest peers; those of whoever falls out are summed up."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.others: Counts = Counter()

    @override
    def popitem(self) -> tuple[str, Counts]:
        peer, counts = super().popitem()
        self.others.update(counts)
        return peer, counts
