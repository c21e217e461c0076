"""What each peer gave during one job, and who is not asked any more, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Set
from typing import Any, Final, get_args

from p2pboot.core.headway import Source, source_of
from p2pboot.errors import ProtocolError
from p2pboot.fetch.asking.reasons import PeerWord
from p2pboot.fetch.asking.requests import NoAnswer, NoStream
from p2pboot.fetch.progress import Progress
from p2pboot.protocol.client import PeerBusy, PeerRefused
from p2pboot.transport.interface import NoRoom, NotAllowed, StreamReset

LOST: Final = "connection lost"

# A mirror's job may last for weeks, and so may a watch; peers come under ever new names.
_MAX_FAILURES: Final = 256
_MAX_DROPPED: Final = 4096


class Ledger:
    """The record of one job; the same for finding the manifest and for fetching the artifacts.

    Only what can not happen to an honest peer gets one dropped: bytes that do not match a signed digest, or
    a broken protocol. Being slow, gone, silent or without what we look for does not.

    Args:
        progress: told what is noted here.
        publishers: peer ids of those whose manifests are looked for.
        told: is given at once who is dropped, and why; for whoever does not wait for the end of the job.
    """

    def __init__(
        self,
        progress: Progress,
        publishers: Set[str] = frozenset(),
        told: Callable[[str, str], None] = lambda _peer_id, _reason: None,
    ) -> None:
        self.progress = progress
        self._told = told
        self.publishers = set(publishers)
        """Peer ids of those whose manifests are looked for."""
        self.received: Counter[str] = Counter()
        """Artifact bytes by peer id, useful or not."""
        self.sources: Counter[Source] = Counter()
        """The same by where the peer is."""
        self.dropped: dict[str, str] = {}
        """Why a peer is not asked any more, by peer id; of very many the last."""
        self.stopped: dict[str, str] = {}
        """Peers that closed a stream and owed a reply, and which one; that is no offence."""
        self.failures: dict[str, str] = {}
        """What went wrong last with each peer that did not give what it was asked for, for people; bounded."""
        self.busy: set[str] = set()
        """Peers that had no room for us when they were asked last; they may have what we look for."""
        self.words: dict[str, PeerWord] = {}
        """What each peer said of what it does not offer, when it was asked for manifests; hearsay."""
        self.resumed_bytes = 0
        """Verified bytes that were on the disk from an earlier run; without pieces of zeros, which nobody sends."""
        self.stored_bytes = 0
        """Bytes that were received, verified and written."""
        self.zero_bytes = 0
        """Bytes of pieces of zeros, which nobody sends and nobody writes."""

    @property
    def downloaded_bytes(self) -> int:
        """All artifact bytes received."""
        return self.received.total()

    @property
    def wasted_bytes(self) -> int:
        """Received for nothing: second copies, and what did not match its digest."""
        return self.downloaded_bytes - self.stored_bytes

    def to_json(self) -> dict[str, Any]:
        """What was received and from whom, and who was dropped, as plain values for a JSON document."""
        return {
            "peers": {peer: {"received_bytes": count} for peer, count in sorted(self.received.items())},
            "dropped_peers": dict(sorted(self.dropped.items())),
            "downloaded_bytes": self.downloaded_bytes,
            "sources": {source: self.sources[source] for source in get_args(Source)},
            "resumed_bytes": self.resumed_bytes,
            "wasted_bytes": self.wasted_bytes,
        }

    def note_arrival(self, peer_id: str, size_bytes: int, near: Callable[[], bool]) -> None:
        """So much of an artifact came from a peer, useful or not.

        Args:
            peer_id: the peer.
            size_bytes: of what came.
            near: whether nothing that is scarce lies between; asked only where that is to be known.
        """
        source = source_of(is_publisher=peer_id in self.publishers, near=near)
        self.received[peer_id] += size_bytes
        self.sources[source] += size_bytes
        self.progress.arrived(peer_id, source, size_bytes)

    def usable(self, peer_id: str) -> bool:
        """Whether the peer may still be asked."""
        return peer_id not in self.dropped

    def drop(self, peer_id: str, reason: str) -> None:
        """Ask this peer for nothing more during this job; the first reason is kept."""
        if peer_id not in self.dropped:
            self.dropped[peer_id] = reason
            if len(self.dropped) > _MAX_DROPPED:
                del self.dropped[next(iter(self.dropped))]
            self._told(peer_id, reason)
            self.note_failure(peer_id, f"dropped: {reason}")
            self.progress.peer(peer_id, f"dropped: {reason}")

    def note_error(self, peer_id: str, error: ProtocolError) -> None:
        """A peer could not be asked to the end: note why, and drop it where it broke the protocol."""
        match error:
            case PeerBusy():
                self.note_failure(peer_id, "is busy" + (f" ({error.reason})" if error.reason else ""))
                self.busy.add(peer_id)
            case NotAllowed():
                self.note_failure(peer_id, error.message)
            case NoRoom():
                self.note_failure(peer_id, error.message)
                self.busy.add(peer_id)
            case PeerRefused():
                reason = f": {error.reason}" if error.reason else ""
                self.note_failure(peer_id, f"answers {error.status.value}{reason}")
            case NoAnswer() | NoStream():
                self.note_failure(peer_id, error.message)
            case StreamReset():
                self.note_failure(peer_id, "the stream broke off")
            case _:
                self.drop(peer_id, error.message)

    def note_stop(self, peer_id: str, reason: str) -> None:
        """A peer stopped in the middle; it may be asked again."""
        self.stopped[peer_id] = reason
        self.note_failure(peer_id, "closed the stream in the middle")

    def note_failure(self, peer_id: str, reason: str) -> None:
        """What went wrong with a peer, in place of what did before; why it was dropped stays."""
        if peer_id in self.dropped:
            reason = f"dropped: {self.dropped[peer_id]}"
        self.busy.discard(peer_id)
        self.failures.pop(peer_id, None)
        self.failures[peer_id] = reason
        if len(self.failures) > _MAX_FAILURES:
            oldest = next(iter(self.failures))
            del self.failures[oldest]
            self.busy.discard(oldest)

    def note_recovery(self, peer_id: str) -> None:
        """Whatever went wrong with a peer does not any more."""
        self.busy.discard(peer_id)
        if self.usable(peer_id):
            self.failures.pop(peer_id, None)
