"""An announced snapshot as something that is fetched in pieces: where it goes, and how peers are asked."""

from __future__ import annotations

from p2pboot.core.pieces import PieceSet, PieceTable
from p2pboot.core.timetoke.announcement import SnapshotFacts
from p2pboot.core.timetoke.errors import RootMismatch
from p2pboot.errors import BlobCorrupt, P2PBootError, RemoteProtocolError
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.fetch.receiving.items import Wanted
from p2pboot.fetch.receiving.missing import Assignment
from p2pboot.protocol.client import PeerRefused
from p2pboot.protocol.snapshot_client import ask_chunk, ask_chunk_table, ask_info
from p2pboot.protocol.snapshots import SNAPSHOT_PROTOCOL
from p2pboot.store.partials import PartialBlob
from p2pboot.store.snapshots.arriving import ArrivingSnapshots


def wanted_snapshot(facts: SnapshotFacts) -> Wanted:
    """An announced snapshot as something to be fetched."""
    return Wanted(f"snapshot {facts.root}", facts.root, facts.size, facts.chunk_length, facts.chunk_table)


class SnapshotDestination:
    """A `Destination` for one snapshot.

    Args:
        arriving: where it goes.
    """

    def __init__(self, arriving: ArrivingSnapshots) -> None:
        self._arriving = arriving

    @property
    def owner(self) -> object:
        """See `Destination`."""
        return self._arriving

    def holds(self, blob: str) -> bool:
        """Whether it is complete; a snapshot that is visible is not fetched in the first place."""
        return self._arriving.is_complete(blob)

    def table(self, blob: str) -> PieceTable | None:
        """Ask peers for it each time: it is small, and checked."""
        return None

    def begin(self, wanted: Wanted, table: PieceTable) -> PartialBlob:
        """See `Destination`."""
        return self._arriving.begin(wanted.blob, table)

    def contradiction(self, wanted: Wanted, error: BlobCorrupt) -> P2PBootError:
        """See `Destination`."""
        return RootMismatch(error.expected, error.actual)


class SnapshotDialect:
    """A `Dialect`: `/p2pboot/snapshot/1`, for one announced snapshot.

    Args:
        facts: what was announced.
    """

    protocol = SNAPSHOT_PROTOCOL
    piece = "chunk"
    pieces_at_once = 1

    def __init__(self, facts: SnapshotFacts) -> None:
        self._facts = facts
        self.signature_texts: dict[str, str] = {}
        """What peers say that stands in the `.sig` file, by peer id; unchecked."""
        self.refusals: dict[str, str] = {}
        """Why peers do not give the snapshot, by peer id, where they say so."""

    async def table(self, requests: RequestStream, wanted: Wanted) -> PieceTable:
        """See `Dialect`."""
        return await requests.ask(ask_chunk_table(self._facts))

    async def holdings(self, requests: RequestStream, wanted: Wanted) -> PieceSet:
        """Whoever has a snapshot has all of it, possibly cut into other chunks than we ask for."""
        try:
            info = await requests.ask(ask_info(wanted.blob))
        except PeerRefused as error:
            if error.reason:
                self.refusals[requests.peer_id] = error.reason
            raise
        self.refusals.pop(requests.peer_id, None)
        if info.signature is not None:
            self.signature_texts[requests.peer_id] = info.signature
        if info.size != wanted.size:
            raise RemoteProtocolError(
                f"{wanted.key}: the peer says {info.size} bytes in {info.total} chunks,"
                f" announced are {wanted.size} bytes in {wanted.count}"
            )
        fits = info.chunk_length == wanted.piece_length
        return PieceSet.full(wanted.count) if fits else PieceSet(wanted.count)

    async def read(self, requests: RequestStream, assignment: Assignment) -> bytearray:
        """See `Dialect`."""
        return await requests.ask(
            ask_chunk(
                assignment.blob,
                assignment.pieces.start,
                total=self._facts.total_chunks,
                length=assignment.length,
            )
        )
