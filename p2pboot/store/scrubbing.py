"""Reading all that is held, a piece at a time, and comparing it with what was verified: one pass.

A node does it over and over, slowly (`node.scrubbing`), and a command at once and at full speed (`store.checking`).
What becomes of damage is its keeper's: a store that may be changed takes it out of service, one that is only looked at
leaves it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from p2pboot.core.dataclass import dataclass
from p2pboot.core.pieces import PieceTable


class Scrubbed(Protocol):
    """What is read: artifacts, or snapshots. All block, and raise StoreError or MachineError."""

    def whole(self) -> list[str]:
        """The digests of all that is wholly here, sorted."""

    def table(self, digest: str, /) -> PieceTable | None:
        """How one is cut; None where it is not here any more."""

    def scrub(self, digest: str, index: int, /) -> bool:
        """Read one piece; whether it is intact. Of what is not, its keeper takes care."""


@dataclass(frozen=True, slots=True)
class PieceRead:
    """One piece that was read.

    Args:
        digest: of the artifact.
        index: of the piece.
        count: of the artifact's pieces.
        length: of the piece, bytes.
        is_intact: whether it is what was verified, wherever it lies.
    """

    digest: str
    index: int
    count: int
    length: int
    is_intact: bool


def read_all(
    scrubbed: Scrubbed, digest: str = "", index: int = 0, *, every_piece: bool = False
) -> Iterator[PieceRead]:
    """Read everything from there on, in the order of the digests; each step reads one piece.

    Args:
        scrubbed: what is read.
        digest: of the artifact to begin with, or what comes after that.
        index: of the first piece of that artifact.
        every_piece: go on with an artifact of which a piece is damaged, where it is not taken out of service.
    """
    for one in scrubbed.whole():
        if one < digest:
            continue
        table = scrubbed.table(one)
        if table is None:
            continue
        for at in range(index if one == digest else 0, table.count):
            is_intact = scrubbed.scrub(one, at)
            yield PieceRead(one, at, table.count, table.span(at)[1], is_intact)
            if not (is_intact or every_piece):
                break


def total_bytes(scrubbed: Scrubbed) -> int:
    """How much a pass will read."""
    tables = map(scrubbed.table, scrubbed.whole())
    return sum(table.size for table in tables if table is not None)
