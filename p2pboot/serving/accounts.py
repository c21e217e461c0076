"""What all inbound streams of a node share: who has how many, what they hold, whose turn it is, counters.

Applies `serving.limits` to parties: origins first, which a stranger has one of, and their peers second. The life of one
stream is `serving.conversation`'s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Final

import trio
from cachetools import LRUCache

from p2pboot.core.dataclass import dataclass
from p2pboot.core.origins import Party, party_of
from p2pboot.core.shares import Shares
from p2pboot.core.token_bucket import TokenBucket
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, SYNC_PROTOCOL, ReadRequest
from p2pboot.protocol.snapshots import SNAPSHOT_PROTOCOL, ChunkRequest
from p2pboot.protocol.swarm import SWARM_PROTOCOL, DealRequest, SomePiecesRequest
from p2pboot.serving.limits import BURST_S, Limits, ServingCounters, request_cost
from p2pboot.serving.memory import ReplyMemory
from p2pboot.serving.threads import Turns
from p2pboot.transport.interface import Connection

KNOWN_PEERS: Final = 1024
"""Peers without a stream whose accounts are kept, so that a new stream is no new allowance."""

TURNS: Final = 4
"""Requests of each protocol that are worked on at the same time: enough to keep a disk busy, few enough that hashing
leaves the processor to others. A slow disk holds up only who reads from it."""


_OF_PIECES: Final = frozenset(
    {
        (ARTIFACT_PROTOCOL, ReadRequest.op),
        (SNAPSHOT_PROTOCOL, ChunkRequest.op),
        (SWARM_PROTOCOL, DealRequest.op),
        (SWARM_PROTOCOL, SomePiecesRequest.op),
    }
)
"""Which requests count by the bytes that they gave, by protocol and operation."""


class Admission(Enum):
    """What becomes of a stream."""

    SERVED = auto()
    REFUSED = auto()  # it is told that this node is busy
    DROPPED = auto()  # there are too many even to tell them


@dataclass(slots=True, eq=False)
class PeerAccount:
    """What one peer has used and may use, over all its streams."""

    requests: dict[str, TokenBucket]
    streams: int = 0
    refused: int = 0

    def note_given(self, protocol: str, op: str, given_bytes: int) -> None:
        """One of its requests, which counted 1 when it came, was answered with so many bytes that the peer took."""
        if (protocol, op) not in _OF_PIECES:
            return
        more = request_cost(given_bytes) - 1.0
        if more > 0:
            self.requests[protocol].take(more, trio.current_time())
        else:
            self.requests[protocol].give_back(-more, trio.current_time())


class StreamAccount:
    """One stream among all.

    Args:
        party: whose it is.
        peer: that party's account.
        give_way: ends the stream, for another one; must not block.
    """

    def __init__(self, party: Party, peer: PeerAccount, give_way: Callable[[], None]) -> None:
        self.party = party
        self.peer = peer
        self.give_way = give_way
        self.admission = Admission.SERVED
        self.is_busy = False
        """Whether it is owed a reply."""
        self.active_at = trio.current_time()
        """When a request came, or the peer took something, for the last time."""


class Serving:
    """What all inbound streams of a node share.

    Args:
        limits: how much they may cost.
        is_trusted: whether a peer, by its id, is one whom the operator named: it may use what is held in reserve.
        given: told what the peer at the other end of a connection was given, once it was handed over: the digest of
            the artifact or snapshot, and how many bytes of it. It neither waits nor raises.
        whole: told which artifact or snapshot a peer says that it has all of; again and again, likewise.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        is_trusted: Callable[[str], bool] = lambda _peer_id: False,
        given: Callable[[Connection, str, int], None] = lambda _connection, _digest, _size: None,
        whole: Callable[[Connection, str], None] = lambda _connection, _digest: None,
    ) -> None:
        self.limits = limits or Limits()
        self.counters = ServingCounters()
        self.memory = ReplyMemory(self.limits.body_memory, self.limits.body_memory // 4)
        self.turns: defaultdict[str, Turns] = defaultdict(lambda: Turns(TURNS))
        """By protocol."""
        self.given = given
        self.whole = whole
        self._is_trusted = is_trusted
        self._peers: dict[str, PeerAccount] = {}
        self._bad: LRUCache[str, TokenBucket] = LRUCache(KNOWN_PEERS)  # by origin
        self._served: dict[StreamAccount, None] = {}
        self._slots = Shares(self.limits.streams, self.limits.streams // 8)
        refusals = max(1, self.limits.streams // 4)
        self._refusals = Shares(refusals, refusals // 4)

    @contextmanager
    def stream_of(self, connection: Connection, give_way: Callable[[], None]) -> Iterator[StreamAccount]:
        """Count one stream while it lives, and say what becomes of it.

        Args:
            connection: that it is on.
            give_way: is called if it is to end because others, who have less, want to be served; must not block.
        """
        party = party_of(connection.address, connection.peer_id)
        peer = self._peers.pop(party.peer_id, None) or PeerAccount(self._request_buckets())
        self._peers[party.peer_id] = peer  # last in order: recently seen
        stream = StreamAccount(party, peer, give_way)
        stream.admission = self._admit(stream)
        try:
            yield stream
        finally:
            self._leave(stream)
            self._forget_oldest()

    def wait_after_bad(self, party: Party) -> float:
        """Take down a request that could not be read, and return the seconds to wait before the next one is.

        No honest client sends one, and reading it costs more than most replies: so all of an origin have one rate.
        """
        now = trio.current_time()
        bucket = self._bad.get(party.origin)
        if bucket is None:
            rate = self.limits.bad_requests_per_s
            bucket = self._bad[party.origin] = TokenBucket(rate, rate * BURST_S, now)
        return bucket.take(1, now)

    def _admit(self, stream: StreamAccount) -> Admission:
        party, peer, limits = stream.party, stream.peer, self.limits
        if peer.streams < limits.streams_per_peer and (
            self._slots.fits(party, trusted=self._is_trusted(party.peer_id)) or self._make_room(stream)
        ):
            self._slots.take(party)
            peer.streams += 1
            self._served[stream] = None
            return Admission.SERVED
        if peer.refused < limits.streams_per_peer and self._refusals.fits(party):
            self._refusals.take(party)
            peer.refused += 1
            return Admission.REFUSED
        return Admission.DROPPED

    def _make_room(self, newcomer: StreamAccount) -> bool:
        """End the idlest stream of those who have more than the newcomer would have; whether there was one."""
        origin = self._slots.gives_way(newcomer.party)
        rivals = [each for each in self._served if each.party.origin == origin]
        if not rivals:
            return False
        most = max(each.peer.streams for each in rivals)
        goes = min(
            (each for each in rivals if each.peer.streams == most),
            key=lambda each: (each.is_busy, each.active_at),
        )
        if origin == newcomer.party.origin:  # where all have the same, who asks goes before who does not
            share = newcomer.peer.streams + 1
            if most < share or (most == share and goes.is_busy):
                return False
        self._leave(goes)
        goes.give_way()
        return True

    def _leave(self, stream: StreamAccount) -> None:
        if stream.admission is Admission.SERVED and stream in self._served:
            del self._served[stream]
            self._slots.give_back(stream.party)
            stream.peer.streams -= 1
        elif stream.admission is Admission.REFUSED:
            self._refusals.give_back(stream.party)
            stream.peer.refused -= 1

    def _request_buckets(self) -> dict[str, TokenBucket]:
        now = trio.current_time()
        rates = {
            ARTIFACT_PROTOCOL: self.limits.artifact_requests_per_s,
            SYNC_PROTOCOL: self.limits.sync_requests_per_s,
            SNAPSHOT_PROTOCOL: self.limits.artifact_requests_per_s,
            SWARM_PROTOCOL: self.limits.artifact_requests_per_s,
        }
        return {protocol: TokenBucket(rate, rate * BURST_S, now) for protocol, rate in rates.items()}

    def _forget_oldest(self) -> None:
        if len(self._peers) > KNOWN_PEERS:
            idle = next(
                (peer_id for peer_id, peer in self._peers.items() if not (peer.streams or peer.refused)), None
            )
            if idle is not None:
                del self._peers[idle]
