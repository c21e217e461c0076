"""Artifacts as something to be received: `/p2pboot/artifact/1` is their dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from typing_extensions import override

from p2pboot.core.manifest import Artifact
from p2pboot.core.pieces import MAX_PIECES, PieceSet, PieceTable
from p2pboot.errors import BlobCorrupt, Contradiction, P2PBootError
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.fetch.receiving.items import Dialect, Wanted
from p2pboot.fetch.receiving.missing import Assignment
from p2pboot.fetch.receiving.swarm import Network, fetch_wanted
from p2pboot.protocol.client import ask_have, ask_pieces, ask_read
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL
from p2pboot.store.blobs import BlobStore
from p2pboot.store.room import Yielding


class ArtifactDialect(Dialect):
    """A `Dialect`: `/p2pboot/artifact/1`."""

    protocol = ARTIFACT_PROTOCOL
    piece = "piece"
    pieces_at_once = MAX_PIECES
    counts_uncut = False
    swarms = True

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
        return await requests.ask(ask_have(wanted.blob, wanted.count, wanted.table_digest))

    @override
    async def read(
        self, requests: RequestStream, assignment: Assignment, memory: Callable[[int], bytearray]
    ) -> bytearray:
        return await requests.ask(ask_read(assignment.blob, assignment.offset, assignment.length, memory))

    @override
    def contradiction(self, wanted: Wanted, error: BlobCorrupt) -> P2PBootError:
        return Contradiction(
            f"artifact {wanted.key}: every piece is what the manifest says, but the whole file"
            f" has sha256:{error.actual} instead of sha256:{error.expected}"
        )


async def fetch_artifacts(
    artifacts: Iterable[Artifact], blobs: BlobStore, network: Network, yielding: Yielding | None = None
) -> None:
    """Have all these artifacts in the store, whole and verified, when it returns.

    Args:
        artifacts: of a manifest that was verified and put into the catalogue; fetched in this order.
        blobs: takes the artifacts; what it holds already is not fetched.
        network: who is asked.
        yielding: what may be given up for them.

    Raises:
        P2PBootError: as `fetch_wanted`.
    """
    wanted = [Wanted(one.key, one.sha256, one.size, one.piece_length, one.table_digest) for one in artifacts]
    await fetch_wanted(wanted, blobs, ArtifactDialect(), network, yielding)


def of_each_content(artifacts: Iterable[Artifact]) -> Sequence[Artifact]:
    """The artifacts without those whose content another one before has: it is fetched once."""
    return list({one.sha256: one for one in reversed(tuple(artifacts))}.values())[::-1]
