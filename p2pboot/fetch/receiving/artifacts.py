"""Artifacts as something to be received: the store is their destination, `/p2pboot/artifact/1` their dialect."""

from __future__ import annotations

from collections.abc import Iterable

from p2pboot.core.manifest import Artifact
from p2pboot.core.pieces import MAX_PIECES, PieceSet, PieceTable
from p2pboot.errors import BlobCorrupt, ManifestError, P2PBootError
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.fetch.receiving.items import Wanted
from p2pboot.fetch.receiving.missing import Assignment
from p2pboot.protocol.client import ask_have, ask_pieces, ask_read
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL
from p2pboot.store.blobs import BlobStore
from p2pboot.store.partials import PartialBlob


class ArtifactDestination:
    """A `Destination` of artifacts.

    Args:
        blobs: where they go.
        artifacts: those that may be asked for.
    """

    def __init__(self, blobs: BlobStore, artifacts: Iterable[Artifact]) -> None:
        self._blobs = blobs
        self._artifacts = {artifact.sha256: artifact for artifact in artifacts}

    @property
    def owner(self) -> object:
        """The store: whichever jobs use it."""
        return self._blobs

    def holds(self, blob: str) -> bool:
        """See `Destination`."""
        return self._blobs.holds(blob)

    def table(self, blob: str) -> PieceTable | None:
        """See `Destination`."""
        return self._blobs.table(blob)

    def begin(self, wanted: Wanted, table: PieceTable) -> PartialBlob | None:
        """See `Destination`."""
        return self._blobs.begin(self._artifacts[wanted.blob], table)

    def contradiction(self, wanted: Wanted, error: BlobCorrupt) -> P2PBootError:
        """See `Destination`."""
        return ManifestError(
            f"artifact {wanted.key}: every piece is what the manifest says, but the whole file"
            f" has sha256:{error.actual} instead of sha256:{error.expected}",
            remedy="tell the publisher: its manifest contradicts itself, fetching again does not help",
        )


class ArtifactDialect:
    """A `Dialect`: `/p2pboot/artifact/1`."""

    protocol = ARTIFACT_PROTOCOL
    piece = "piece"
    pieces_at_once = MAX_PIECES

    async def table(self, requests: RequestStream, wanted: Wanted) -> PieceTable:
        """See `Dialect`."""
        return await requests.ask(
            ask_pieces(
                wanted.blob,
                size=wanted.size,
                piece_length=wanted.piece_length,
                table_digest=wanted.table_digest,
            )
        )

    async def holdings(self, requests: RequestStream, wanted: Wanted) -> PieceSet:
        """See `Dialect`."""
        return await requests.ask(ask_have(wanted.blob, wanted.count))

    async def read(self, requests: RequestStream, assignment: Assignment) -> bytearray:
        """See `Dialect`."""
        return await requests.ask(ask_read(assignment.blob, assignment.offset, assignment.length))


def wanted_artifact(artifact: Artifact) -> Wanted:
    """An artifact of a manifest as something to be fetched."""
    return Wanted(artifact.key, artifact.sha256, artifact.size, artifact.piece_length, artifact.table_digest)
