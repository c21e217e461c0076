"""Sets of pieces of one artifact, as one integer each: the scheduler's arithmetic on up to 65,536 pieces.

Unlike a bitmap on the wire or in the store these are values: immutable, comparable, with set operators that
cost about a microsecond whatever is in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from p2pboot.core.pieces import Bitmap


@dataclass(frozen=True, slots=True)
class PieceSet:
    """Some of `count` pieces. Piece i is bit `count - 1 - i`: the first piece is the highest bit set."""

    count: int
    bits: int = 0

    @classmethod
    def full(cls, count: int) -> PieceSet:
        """All `count` pieces."""
        return cls(count, (1 << count) - 1)

    @classmethod
    def of(cls, count: int, indices: Iterable[int]) -> PieceSet:
        """The pieces with these indices, each from 0 to `count` - 1."""
        bits = 0
        for index in indices:
            bits |= 1 << (count - 1 - index)
        return cls(count, bits)

    @classmethod
    def from_bitmap(cls, bitmap: Bitmap) -> PieceSet:
        """The pieces that are set in a bitmap, which has the same order and up to 7 bits of padding."""
        raw = bitmap.to_bytes()
        return cls(len(bitmap), int.from_bytes(raw, "big") >> (8 * len(raw) - len(bitmap)))

    def __and__(self, other: PieceSet) -> PieceSet:
        return PieceSet(self.count, self.bits & other.bits)

    def __or__(self, other: PieceSet) -> PieceSet:
        return PieceSet(self.count, self.bits | other.bits)

    def __sub__(self, other: PieceSet) -> PieceSet:
        return PieceSet(self.count, self.bits & ~other.bits)

    def __contains__(self, index: int) -> bool:
        return bool(self.bits >> (self.count - 1 - index) & 1)

    def __len__(self) -> int:
        return self.bits.bit_count()

    def __bool__(self) -> bool:
        return self.bits != 0

    def __iter__(self) -> Iterator[int]:
        """The indices, ascending."""
        rest = self.bits
        while rest:
            top = rest.bit_length() - 1
            yield self.count - 1 - top
            rest ^= 1 << top

    @property
    def complete(self) -> bool:
        """Whether all pieces are in it."""
        return self.bits.bit_count() == self.count
