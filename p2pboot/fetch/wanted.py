"""What a fetch brings, where it goes, and how peers are asked for it: the same work for artifacts and snapshots.

`schedule`, `downloads`, `session` and `swarm` know these three and nothing else of what they fetch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from p2pboot.core.manifest import Artifact
from p2pboot.core.pieces import MAX_PIECES, Bitmap, PieceTable, piece_count
from p2pboot.errors import BlobCorrupt, ManifestError, P2PBootError
from p2pboot.fetch.demand import Request
from p2pboot.fetch.requests import RequestStream
from p2pboot.protocol.client import ask_pieces
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL
from p2pboot.store.blobs import BlobStore
from p2pboot.store.partials import PartialBlob


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something to be fetched in pieces, as somebody signed it.

    Args:
        key: what people call it.
        blob: the digest of the whole, in hex: the name under which peers and the shelf know it.
        size: bytes.
        piece_length: of every piece but the last, bytes.
        table_digest: BLAKE3 of the piece table, hex.
    """

    key: str
    blob: str
    size: int
    piece_length: int
    table_digest: str

    @property
    def count(self) -> int:
        """How many pieces it has."""
        return piece_count(self.size, self.piece_length)


class Shelf(Protocol):
    """Where what is fetched goes; blocking, safe to be called from threads."""

    @property
    def owner(self) -> object:
        """What the fetched belongs to: two jobs with one owner do not fetch the same thing at the same time."""

    def holds(self, blob: str) -> bool:
        """Whether it is there, whole."""

    def table(self, blob: str) -> PieceTable | None:
        """Its piece table, where an earlier fetch left it."""

    def begin(self, wanted: Wanted, table: PieceTable) -> PartialBlob | None:
        """Start or resume it; None when it is there."""

    def contradiction(self, wanted: Wanted, error: BlobCorrupt) -> P2PBootError:
        """Say that every piece is right and the whole is not: the signer's fault."""


class Dialect(Protocol):
    """How peers are asked, over their streams of one protocol."""

    @property
    def protocol(self) -> str:
        """The protocol of the streams."""

    @property
    def piece(self) -> str:
        """What the protocol calls a piece."""

    @property
    def pieces_at_once(self) -> int:
        """How many pieces one request may ask for."""

    async def table(self, requests: RequestStream, wanted: Wanted) -> PieceTable:
        """Ask for the piece table, checked against what was signed."""

    async def holdings(self, requests: RequestStream, wanted: Wanted) -> Bitmap:
        """Ask which pieces the peer has."""

    async def read(self, requests: RequestStream, request: Request) -> bytearray:
        """Ask for the pieces of a request, unchecked."""


class ArtifactShelf:
    """A `Shelf` of artifacts.

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
        """See `Shelf`."""
        return self._blobs.holds(blob)

    def table(self, blob: str) -> PieceTable | None:
        """See `Shelf`."""
        return self._blobs.table(blob)

    def begin(self, wanted: Wanted, table: PieceTable) -> PartialBlob | None:
        """See `Shelf`."""
        return self._blobs.begin(self._artifacts[wanted.blob], table)

    def contradiction(self, wanted: Wanted, error: BlobCorrupt) -> P2PBootError:
        """See `Shelf`."""
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

    async def holdings(self, requests: RequestStream, wanted: Wanted) -> Bitmap:
        """See `Dialect`."""
        return await requests.have(wanted.blob, wanted.count)

    async def read(self, requests: RequestStream, request: Request) -> bytearray:
        """See `Dialect`."""
        return await requests.read(request.blob, request.offset, request.length)


def wanted_artifact(artifact: Artifact) -> Wanted:
    """An artifact of a manifest as something to be fetched."""
    return Wanted(artifact.key, artifact.sha256, artifact.size, artifact.piece_length, artifact.table_digest)
