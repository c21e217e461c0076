"""What all inbound streams of a node share: the peers' accounts, memory and counters.

Applies `serving.limits` to peers: how many streams, how many requests. The life of one stream is
`serving.conversation`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.core.token_bucket import TokenBucket
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, SYNC_PROTOCOL
from p2pboot.protocol.snapshots import SNAPSHOT_PROTOCOL
from p2pboot.serving.limits import BURST_S, Limits, ServingCounters
from p2pboot.serving.memory import BodyMemory, ByteBudget

KNOWN_PEERS: Final = 1024
"""Peers without a stream whose accounts are kept, so that a new stream is no new allowance."""


@dataclass(slots=True, eq=False)
class PeerAccount:
    """What one peer has used and may use, over all its streams."""

    requests: dict[str, TokenBucket]
    memory: ByteBudget
    streams: int = 0


class Serving:
    """What all inbound streams of a node share: limits, the peers' accounts, memory, counters."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.counters = ServingCounters()
        self.memory = BodyMemory(self.limits.body_memory, self.limits.patience_s)
        self._peers: dict[str, PeerAccount] = {}
        self._streams = 0

    @contextmanager
    def stream_of(self, peer_id: str) -> Iterator[PeerAccount]:
        """Count one stream of a peer while it lives."""
        peer = self._peers.pop(peer_id, None) or self._new_peer()
        self._peers[peer_id] = peer  # last in order: recently seen
        peer.streams += 1
        self._streams += 1
        try:
            yield peer
        finally:
            peer.streams -= 1
            self._streams -= 1
            self._forget_oldest()

    def is_crowded(self, peer: PeerAccount, *, factor: int = 1) -> bool:
        """Whether there are more streams than are served; with a factor: than are even answered."""
        limits = self.limits
        return peer.streams > limits.streams_per_peer * factor or self._streams > limits.streams * factor

    def _new_peer(self) -> PeerAccount:
        return PeerAccount(
            requests=self._request_buckets(),
            memory=ByteBudget(self.limits.peer_body_memory),
        )

    def _request_buckets(self) -> dict[str, TokenBucket]:
        now = trio.current_time()
        rates = {
            ARTIFACT_PROTOCOL: self.limits.artifact_requests_per_s,
            SYNC_PROTOCOL: self.limits.sync_requests_per_s,
            SNAPSHOT_PROTOCOL: self.limits.artifact_requests_per_s,
        }
        return {protocol: TokenBucket(rate, rate * BURST_S, now) for protocol, rate in rates.items()}

    def _forget_oldest(self) -> None:
        if len(self._peers) > KNOWN_PEERS:
            idle = next((peer_id for peer_id, peer in self._peers.items() if peer.streams == 0), None)
            if idle is not None:
                del self._peers[idle]
