"""Artifacts as something to be received: the store is their destination, `/p2pboot/artifact/1` their dialect."""

from __future__ import annotations

from collections.abc import Iterable

from typing_extensions import override

from p2pboot.core.manifest import Artifact
from p2pboot.core.pieces import MAX_PIECES, PieceSet, PieceTable
from p2pboot.errors import BlobCorrupt, ManifestError, P2PBootError
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.fetch.receiving.items import Destination, Dialect, Wanted
from p2pboot.fetch.receiving.missing import Assignment
from p2pboot.protocol.client import ask_have, ask_pieces, ask_read
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL
from p2pboot.store.blobs import BlobStore
from p2pboot.store.partials import PartialBlob


class ArtifactDestination(Destination):
    """A `Destination` of artifacts.

    Args:
        blobs: where they go.
        artifacts: those that may be asked for.
    """

    def __init__(self, blobs: BlobStore, artifacts: Iterable[Artifact]) -> None:
        self._blobs = blobs
        self._artifacts = {artifact.sha256: artifact for artifact in artifacts}

    @property
    @override
    def owner(self) -> object:
        return self._blobs

    @override
    def holds(self, blob: str) -> bool:
        return self._blobs.holds(blob)

    @override
    def table(self, blob: str) -> PieceTable | None:
        return self._blobs.table(blob)

    @override
    def begin(self, wanted: Wanted, table: PieceTable) -> PartialBlob | None:
        return self._blobs.begin(self._artifacts[wanted.blob], table)

    @override
    def contradiction(self, wanted: Wanted, error: BlobCorrupt) -> P2PBootError:
        return ManifestError(
            f"artifact {wanted.key}: every piece is what the manifest says, but the whole file"
            f" has sha256:{error.actual} instead of sha256:{error.expected}",
            remedy="tell the publisher: its manifest contradicts itself, fetching again does not help",
        )


class ArtifactDialect(Dialect):
    """A `Dialect`: `/p2pboot/artifact/1`."""

    protocol = ARTIFACT_PROTOCOL
    piece = "piece"
    pieces_at_once = MAX_PIECES

    @override
    async def table(self, requests: RequestStream, wanted: Wanted) -> PieceTable:
        return await requests.ask(
            ask_pieces(
                wanted.blob,
                size=wanted.size,
                piece_length=wanted.piece_length,
                table_digest=wanted.table_digest,
            )
        )

    @override
    async def holdings(self, requests: RequestStream, wanted: Wanted) -> PieceSet:
        return await requests.ask(ask_have(wanted.blob, wanted.count))

    @override
    async def read(self, requests: RequestStream, assignment: Assignment) -> bytearray:
        return await requests.ask(ask_read(assignment.blob, assignment.offset, assignment.length))


def wanted_artifact(artifact: Artifact) -> Wanted:
    """An artifact of a manifest as something to be fetched."""
    return Wanted(artifact.key, artifact.sha256, artifact.size, artifact.piece_length, artifact.table_digest)
