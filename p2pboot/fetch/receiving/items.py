"""What a fetch brings, and how peers are asked for it: the same work for artifacts and snapshots.

`schedule`, `downloads`, `session` and `swarm` know these two and nothing else of what they fetch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from p2pboot.core.dataclass import dataclass
from p2pboot.core.pieces import PieceSet, PieceTable, piece_count
from p2pboot.errors import BlobCorrupt, P2PBootError
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.fetch.receiving.missing import Assignment


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something to be fetched in pieces, as somebody signed it.

    Args:
        key: what people call it.
        blob: the digest of the whole, in hex: the name under which peers and the store know it.
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

    def length_of(self, first: int, count: int) -> int:
        """How long so many pieces are together, bytes; IndexError where there are not so many."""
        if first + count > self.count:
            raise IndexError(first + count)
        return min(self.size, (first + count) * self.piece_length) - first * self.piece_length


class Dialect(Protocol):
    """How peers are asked, over their streams of one protocol."""

    protocol: ClassVar[str]
    piece: ClassVar[str]
    """What the protocol calls a piece."""
    pieces_at_once: ClassVar[int]
    """How many pieces one request may ask for."""

    counts_uncut: ClassVar[bool]
    """Whether a whole that is here is what is wanted also where it has not the pieces that were signed."""

    swarms: ClassVar[bool]
    """Whether peers may be asked over `/p2pboot/swarm/1` instead, by what was signed alone."""

    async def table(self, requests: RequestStream, wanted: Wanted) -> PieceTable:
        """Ask for the piece table, checked against what was signed."""

    async def holdings(self, requests: RequestStream, wanted: Wanted) -> PieceSet:
        """Ask which pieces the peer has."""

    async def read(
        self, requests: RequestStream, assignment: Assignment, memory: Callable[[int], bytearray]
    ) -> bytearray:
        """Ask for the pieces of a request, unchecked; they come into what `memory` returns for their length."""

    def contradiction(self, wanted: Wanted, error: BlobCorrupt) -> P2PBootError:
        """Say that every piece is what was signed and the whole is not: no peer's fault that gave pieces."""
