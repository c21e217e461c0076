"""What all inbound streams of a node share: the peers' accounts, memory, upload and counters.

Applies `serving.limits` to peers: how many streams, how many requests, whose turn it is to be sent to. The life
of one stream is `serving.conversation`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import trio

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
    upload: TokenBucket | None
    memory: ByteBudget
    turn: trio.Lock  # one of its streams at a time competes with other peers for upload
    streams: int = 0


class Serving:
    """What all inbound streams of a node share: limits, the peers' accounts, memory, upload, counters.

    Args:
        limits: can be replaced while running, see `reconfigure`.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.counters = ServingCounters()
        self.memory = BodyMemory(self.limits.body_memory, self.limits.patience_s)
        self._peers: dict[str, PeerAccount] = {}
        self._streams = 0
        self._turn = trio.Lock()
        self._upload: TokenBucket | None = None
        self._upload_is_of: Limits | None = None

    def reconfigure(self, limits: Limits) -> None:
        """Apply other rates and times, at once and to open streams too; the memory's size stays."""
        self.limits = limits
        for peer_id, peer in tuple(self._peers.items()):
            if peer.streams == 0:
                del self._peers[peer_id]
            else:
                peer.requests = self._request_buckets()
                peer.upload = self._upload_bucket(limits.peer_upload_bytes_per_s)

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

    async def pace(self, peer: PeerAccount, size: int) -> None:
        """Wait until `size` bytes may be sent to a peer.

        First among the peer's own streams, then among peers, each time in the order of coming. So however
        many streams a peer opens, it gets one turn a round.
        """
        limits = self.limits
        if limits.upload_bytes_per_s is None and limits.peer_upload_bytes_per_s is None:
            return
        async with peer.turn:
            await _pay(peer.upload, size)
            async with self._turn:
                await _pay(self._total_upload(), size)

    def _new_peer(self) -> PeerAccount:
        return PeerAccount(
            requests=self._request_buckets(),
            upload=self._upload_bucket(self.limits.peer_upload_bytes_per_s),
            memory=ByteBudget(self.limits.peer_body_memory),
            turn=trio.Lock(),
        )

    def _request_buckets(self) -> dict[str, TokenBucket]:
        now = trio.current_time()
        rates = {
            ARTIFACT_PROTOCOL: self.limits.artifact_requests_per_s,
            SYNC_PROTOCOL: self.limits.sync_requests_per_s,
            SNAPSHOT_PROTOCOL: self.limits.artifact_requests_per_s,
        }
        return {protocol: TokenBucket(rate, rate * BURST_S, now) for protocol, rate in rates.items()}

    def _total_upload(self) -> TokenBucket | None:
        if self._upload_is_of is not self.limits:
            self._upload = self._upload_bucket(self.limits.upload_bytes_per_s)
            self._upload_is_of = self.limits
        return self._upload

    def _upload_bucket(self, rate: int | None) -> TokenBucket | None:
        # The burst is one slice: a cap is kept within the first second already.
        return None if rate is None else TokenBucket(rate, self.limits.slice_bytes, trio.current_time())

    def _forget_oldest(self) -> None:
        if len(self._peers) > KNOWN_PEERS:
            idle = next((peer_id for peer_id, peer in self._peers.items() if peer.streams == 0), None)
            if idle is not None:
                del self._peers[idle]


async def _pay(bucket: TokenBucket | None, size: int) -> None:
    if bucket is not None:
        await trio.sleep(bucket.take(size, trio.current_time()))
