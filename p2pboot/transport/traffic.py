"""How many bytes a node exchanged with its peers: counted where they pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

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
        self._peers: dict[str, Counts] = {}  # the latest; the oldest first
        self._others: Counts = Counter()  # of those that fell out

    def count(self, peer: str, kind: str, direction: str, size: int) -> None:
        """Note bytes exchanged with a peer."""
        what = kind, direction
        self[what] += size
        counts = self._peers.pop(peer, None)
        if counts is None:
            counts = Counter()
            if len(self._peers) >= REMEMBERED_PEERS:
                oldest = next(iter(self._peers))
                self._others.update(self._peers.pop(oldest))
        self._peers[peer] = counts  # last in order: seen now
        counts[what] += size

    def by_peer(self) -> Mapping[str, Counts]:
        """The same of each peer: those with which bytes were exchanged last, and all others in one sum, OTHERS."""
        others = {OTHERS: self._others} if self._others else {}
        return {peer: Counter(counts) for peer, counts in (*self._peers.items(), *others.items())}

    def of_peers(self) -> dict[str, tuple[int, int]]:
        """Bytes received from and sent to each peer that is remembered; not those of HTTP clients."""
        return {peer: _both(counts) for peer, counts in self._peers.items() if not _is_http(counts)}


def _is_http(counts: Counts) -> bool:
    return any(kind == HTTP for kind, _ in counts)


def _both(counts: Counts) -> tuple[int, int]:
    received = sent = 0
    for (_, direction), size in counts.items():
        if direction == RECEIVED:
            received += size
        else:
            sent += size
    return received, sent
