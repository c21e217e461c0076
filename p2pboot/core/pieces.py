"""Pieces: how an artifact is cut, the table that names every piece, and the sets of those that somebody holds.

An artifact is cut into pieces of one power-of-two length, the last possibly shorter. The *piece table* is
the concatenation of the pieces' 32-byte BLAKE3 digests; the signed manifest states the BLAKE3 digest of the
table. So any piece from any stranger is checked against the publisher's word before it is written or passed
on, and one bad piece costs one piece, not the artifact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec
from blake3 import blake3

from p2pboot.core.dataclass import dataclass
from p2pboot.core.digests import DIGEST_BYTES
from p2pboot.errors import Malformed

KIB: Final = 1024
MIB: Final = 1024 * KIB

MIN_PIECE: Final = 64 * KIB
MAX_PIECE: Final = 16 * MIB
USUAL_PIECES: Final = 2048
"""Into how many pieces new content is cut at most, where their length allows it. Clients that start together pass on
what each got first, and lose about two pieces a client at the start and the end: so there have to be many. A table of
so many takes 64 KiB."""
USUAL_MAX_PIECE: Final = MIB
MAX_PIECES: Final = 65_536
"""A table is at most 2 MiB: what a client must take before it can check anything."""

_WORD: Final = 256


def check_piece_length(piece_length: int) -> int:
    """Return ``piece_length`` (bytes) if it is a power of two from 64 KiB to 16 MiB.

    Raises:
        ValueError: it is not.
    """
    if not MIN_PIECE <= piece_length <= MAX_PIECE or piece_length & (piece_length - 1):
        raise ValueError(f"piece length {piece_length} is not a power of two from 64 KiB to 16 MiB")
    return piece_length


def piece_count(size: int, piece_length: int) -> int:
    """Return into how many pieces ``size`` bytes are cut: 1 to :data:`MAX_PIECES`.

    Raises:
        ValueError: size below 1, a piece length that is not allowed, or too many pieces.
    """
    check_piece_length(piece_length)
    if size < 1:
        raise ValueError(f"size {size} is below 1 byte")
    count = -(-size // piece_length)
    if count > MAX_PIECES:
        raise ValueError(f"{size} bytes in pieces of {piece_length} are more than {MAX_PIECES} pieces")
    return count


def is_cut(size: int, piece_length: object) -> bool:
    """Whether ``size`` bytes can be cut into pieces of this length (bytes)."""
    try:
        return isinstance(piece_length, int) and piece_count(size, piece_length) > 0
    except ValueError:
        return False


def piece_length_for(size: int, wanted: int | None = None) -> int:
    """Return the piece length for new content: a power of two from 64 KiB to 1 MiB that gives at most 2,048 pieces.

    Above 2 GiB there are more pieces, and above 64 GiB longer ones, as 65,536 are the most.

    Args:
        size: bytes.
        wanted: another length (bytes), which only is made longer where there would be more than 65,536 pieces.

    Raises:
        ValueError: size below 1 or above 1 TiB (65,536 pieces of 16 MiB), or a length that is not allowed.
    """
    if wanted is None:
        length = MIN_PIECE
        while length < USUAL_MAX_PIECE and size > length * USUAL_PIECES:
            length *= 2
    else:
        length = check_piece_length(wanted)
    while length < MAX_PIECE and size > length * MAX_PIECES:
        length *= 2
    piece_count(size, length)
    return length


@lru_cache(maxsize=16)
def _zeros_digest(length: int) -> bytes:
    """The digest of a piece of `length` zeros."""
    return blake3(bytes(length)).digest()


class PieceSet(msgspec.Struct, frozen=True):
    """Some of an artifact's pieces: a value, compared and combined like a set at about a microsecond each.

    On the wire and for people a *bitmap*: ceil(count / 8) bytes, most significant bit first, padding zero.

    Args:
        count: how many pieces there are, in the set or not.
        bits: piece i is bit `count - 1 - i`: the first piece is the highest bit.
    """

    count: int
    bits: int = 0

    @classmethod
    def full(cls, count: int) -> PieceSet:
        """All `count` pieces."""
        return cls(count, (1 << count) - 1)

    @classmethod
    def of(cls, count: int, indices: Iterable[int]) -> PieceSet:
        """The pieces with these indices, each from 0 to `count` - 1."""
        if isinstance(indices, range) and indices.step == 1:
            return cls(count, ((1 << len(indices)) - 1) << (count - indices.stop))
        raw = bytearray(-(-count // 8))
        for index in indices:
            raw[index >> 3] |= 0x80 >> (index & 7)
        return cls(count, int.from_bytes(raw, "big") >> (-count & 7))

    @classmethod
    def from_bytes(cls, raw: bytes, count: int) -> PieceSet:
        """Read a bitmap of `count` pieces (0 to :data:`MAX_PIECES`).

        Raises:
            ValueError: wrong count or length, or a padding bit is set (so that one state has one form).
        """
        if not 0 <= count <= MAX_PIECES:
            raise ValueError(f"a bitmap is of 0 to {MAX_PIECES} pieces, not {count}")
        length, padding = -(-count // 8), -count & 7
        if len(raw) != length:
            raise ValueError(f"a bitmap of {count} pieces is {length} bytes, not {len(raw)}")
        bits = int.from_bytes(raw, "big")
        if bits & ((1 << padding) - 1):
            raise ValueError("a padding bit of the bitmap is set")
        return cls(count, bits >> padding)

    def to_bytes(self) -> bytes:
        """Return the bitmap that :meth:`from_bytes` reads."""
        return (self.bits << (-self.count & 7)).to_bytes(-(-self.count // 8), "big")

    def __and__(self, other: PieceSet) -> PieceSet:
        return PieceSet(self.count, self.bits & other.bits)

    def __or__(self, other: PieceSet) -> PieceSet:
        return PieceSet(self.count, self.bits | other.bits)

    def __sub__(self, other: PieceSet) -> PieceSet:
        return PieceSet(self.count, self.bits & ~other.bits)

    def with_piece(self, index: int) -> PieceSet:
        """The set with this piece in it, from 0 to `count` - 1."""
        return PieceSet(self.count, self.bits | 1 << (self.count - 1 - index))

    def part(self, pieces: range) -> PieceSet:
        """What is in it of consecutive pieces, the first of which is piece 0 of the part."""
        return PieceSet(len(pieces), self.bits >> (self.count - pieces.stop) & ((1 << len(pieces)) - 1))

    def missing(self) -> PieceSet:
        """The pieces that are not in it."""
        return PieceSet.full(self.count) - self

    def __contains__(self, index: int) -> bool:
        return 0 <= index < self.count and bool(self.bits >> (self.count - 1 - index) & 1)

    def __len__(self) -> int:
        return self.bits.bit_count()

    def __bool__(self) -> bool:
        return self.bits != 0

    def __iter__(self) -> Iterator[int]:
        """The indices, ascending."""
        # By words, for a small integer's bits are found quicker; the first word is the cheapest to cut off.
        for start in range(self.count - self.bits.bit_length(), self.count, _WORD):
            below = max(self.count - start - _WORD, 0)
            word = self.bits >> below & ((1 << self.count - start - below) - 1)
            while word:
                top = word.bit_length() - 1
                yield self.count - 1 - below - top
                word ^= 1 << top

    def runs(self) -> Iterator[range]:
        """The same, neighbours together."""
        start = stop = -1
        for index in self:
            if index != stop:
                if stop > start:
                    yield range(start, stop)
                start = index
            stop = index + 1
        if stop > start:
            yield range(start, stop)

    @property
    def complete(self) -> bool:
        """Whether all pieces are in it."""
        return self.bits.bit_count() == self.count

    def __repr__(self) -> str:
        return f"PieceSet({len(self)} of {self.count})"


class _Named:
    """What is named by a digest that is computed once."""

    __slots__ = ("_digest",)

    if TYPE_CHECKING:
        _digest: str


@dataclass(frozen=True, slots=True)
class PieceTable(_Named):
    """The digests of all pieces of one artifact; an inconsistent table can not exist.

    Args:
        size: of the artifact, bytes.
        piece_length: of every piece but the last, bytes.
        raw: the table itself as it is sent: the concatenated digests, 32 bytes a piece.

    Raises:
        ValueError: size, piece length and length of the table do not fit together.
    """

    size: int
    piece_length: int
    raw: bytes = field(repr=False)

    def __post_init__(self) -> None:
        count = piece_count(self.size, self.piece_length)
        if len(self.raw) != count * DIGEST_BYTES:
            raise ValueError(
                f"a table of {count} pieces is {count * DIGEST_BYTES} bytes, not {len(self.raw)}"
            )

    @classmethod
    def parse(cls, raw: bytes, *, size: int, piece_length: int, digest_hex: str) -> PieceTable:
        """Take a table from a stranger, checked against what the signed manifest says of it.

        Raises:
            Malformed: wrong length, or its BLAKE3 digest is not ``digest_hex``.
        """
        try:
            table = cls(size, piece_length, bytes(raw))
        except ValueError as error:
            raise Malformed(f"piece table: {error}") from None
        if table.digest != digest_hex:
            raise Malformed(
                f"piece table should have digest blake3:{digest_hex} but has blake3:{table.digest}"
            )
        return table

    @property
    def digest(self) -> str:
        """BLAKE3 of the table, 64 lowercase hex digits: what the manifest states."""
        try:
            return self._digest
        except AttributeError:
            digest = blake3(self.raw).hexdigest()
            object.__setattr__(self, "_digest", digest)
            return digest

    @property
    def count(self) -> int:
        """Number of pieces."""
        return len(self.raw) // DIGEST_BYTES

    def span(self, index: int) -> tuple[int, int]:
        """Return (offset, length) of a piece in the artifact, bytes.

        Raises:
            IndexError: no such piece.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"piece {index} of {self.count}")
        offset = index * self.piece_length
        return offset, min(self.piece_length, self.size - offset)

    def digest_of(self, index: int) -> bytes:
        """Return the BLAKE3 digest of a piece, 32 bytes; empty for one that there is not."""
        return self.raw[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]

    def zeros(self) -> PieceSet:
        """Return the pieces of which the digest says that they are nothing but zeros."""
        starts = range(0, len(self.raw), DIGEST_BYTES)
        return PieceSet.of(
            self.count,
            (
                index
                for index, start in enumerate(starts)
                if self.raw[start : start + DIGEST_BYTES] == _zeros_digest(self.span(index)[1])
            ),
        )

    def extents(self, pieces: PieceSet) -> list[tuple[int, int]]:
        """Return (offset, length) in bytes of what these pieces cover, neighbours together."""
        extents = []
        for run in pieces.runs():
            offset = run.start * self.piece_length
            extents.append((offset, min(run.stop * self.piece_length, self.size) - offset))
        return extents

    def matches(self, index: int, data: bytes | bytearray | memoryview) -> bool:
        """Whether ``data`` is the whole of piece ``index``: right length and right digest.

        Raises:
            IndexError: no such piece.
        """
        _, length = self.span(index)
        return len(data) == length and blake3(data).digest() == self.digest_of(index)
