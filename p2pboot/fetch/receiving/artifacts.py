"""Artifacts as something to be received: `/p2pboot/artifact/1` is their dialect."""

from __future__ import annotations

from typing_extensions import override

from p2pboot.core.manifest import Artifact
from p2pboot.core.pieces import MAX_PIECES, PieceSet, PieceTable
from p2pboot.errors import BlobCorrupt, Contradiction, P2PBootError
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.fetch.receiving.items import Dialect, Wanted
from p2pboot.fetch.receiving.missing import Assignment
from p2pboot.protocol.client import ask_have, ask_pieces, ask_read
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL


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

    @override
    def contradiction(self, wanted: Wanted, error: BlobCorrupt) -> P2PBootError:
        return Contradiction(
            f"artifact {wanted.key}: every piece is what the manifest says, but the whole file"
            f" has sha256:{error.actual} instead of sha256:{error.expected}"
        )


def wanted_artifact(artifact: Artifact) -> Wanted:
    """An artifact of a manifest as something to be fetched."""
    return Wanted(artifact.key, artifact.sha256, artifact.size, artifact.piece_length, artifact.table_digest)
