"""What is still wanted of one artifact, and what was asked for: the scheduler's book-keeping.

Three sets hold the truth::

    wanted   neither stored nor being checked right now
    free     wanted, and no live peer has been asked for it
    copies   how many live peers have been asked for a piece
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import field

from p2pboot.core.dataclass import dataclass
from p2pboot.core.pieces import PieceSet


@dataclass(frozen=True, slots=True)
class Assignment:
    """One `read` to send: a run of whole pieces of one artifact.

    Args:
        number: unlike any other's.
        source: whom to ask.
        blob: SHA-256 of the artifact.
        pieces: consecutive indices.
        offset: of the first piece in the artifact, bytes.
        length: of all pieces together, bytes.
    """

    number: int
    source: Hashable
    blob: str
    pieces: range
    offset: int
    length: int


@dataclass(slots=True)
class Demand:
    """One artifact's missing pieces.

    Args:
        size: of the artifact, bytes.
        piece_length: bytes.
        rank: lower ones go first.
        wanted: what is missing.
        free: the same at the beginning.
    """

    size: int
    piece_length: int
    rank: int
    wanted: PieceSet
    free: PieceSet
    copies: Counter[int] = field(default_factory=Counter)
    checking: int = 0
    """How many pieces are being checked."""

    def span(self, pieces: range) -> tuple[int, int]:
        """Return (offset, length) in bytes of a run of pieces."""
        offset = pieces.start * self.piece_length
        return offset, min(self.size, pieces.stop * self.piece_length) - offset

    def asked(self, pieces: range) -> None:
        """A live peer has been asked for these."""
        for index in pieces:
            self.copies[index] += 1
        self.free -= self._set(pieces)

    def given_up(self, pieces: range) -> None:
        """A live peer is not counted on for these any more."""
        for index in pieces:
            self.copies[index] -= 1
            if self.copies[index] == 0:
                del self.copies[index]
        self._release(pieces)

    def claim(self, pieces: range) -> tuple[int, ...]:
        """These arrived: return which of them are to be checked now, because no other copy was earlier."""
        claimed = tuple(index for index in pieces if index in self.wanted)
        taken = self._set(claimed)
        self.wanted -= taken
        self.free -= taken
        self.checking += len(claimed)
        return claimed

    def settle(self, claimed: tuple[int, ...], stored: Iterable[int]) -> None:
        """What was claimed has been checked; what is not stored is wanted again."""
        self.checking -= len(claimed)
        back = self._set(claimed) - self._set(stored)
        self.wanted |= back
        self._release(back)

    @property
    def complete(self) -> bool:
        """Whether everything is stored."""
        return not self.wanted and self.checking == 0

    def is_asked_once(self, pieces: range) -> bool:
        """Whether exactly one live peer has been asked for each of these, and any is still wanted."""
        return all(self.copies[index] == 1 for index in pieces) and bool(self._set(pieces) & self.wanted)

    def _release(self, indices: Iterable[int]) -> None:
        self.free |= self._set(index for index in indices if not self.copies[index]) & self.wanted

    def _set(self, indices: Iterable[int]) -> PieceSet:
        return PieceSet.of(self.wanted.count, indices)
