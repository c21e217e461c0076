"""Pieces: how an artifact is cut, the table that names every piece, and the bitmap of who holds which.

An artifact is cut into pieces of one power-of-two length, the last possibly shorter. The *piece table* is
the concatenation of the pieces' 32-byte BLAKE3 digests; the signed manifest states the BLAKE3 digest of the
table. So any piece from any stranger is checked against the publisher's word before it is written or passed
on, and one bad piece costs one piece, not the artifact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import Final

from blake3 import blake3

from p2pboot.core.digests import DIGEST_BYTES
from p2pboot.errors import Malformed

KIB: Final = 1024
MIB: Final = 1024 * KIB

MIN_PIECE: Final = 64 * KIB
MAX_PIECE: Final = 16 * MIB
DEFAULT_PIECE: Final = MIB
MAX_PIECES: Final = 65_536
"""A table is at most 2 MiB: what a client must take before it can check anything."""


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


def piece_length_for(size: int) -> int:
    """Return the default piece length for ``size`` bytes: 1 MiB, doubled until the table is small enough.

    Raises:
        ValueError: size below 1 or above 1 TiB (65,536 pieces of 16 MiB).
    """
    piece_length = DEFAULT_PIECE
    while size > piece_length * MAX_PIECES and piece_length < MAX_PIECE:
        piece_length *= 2
    piece_count(size, piece_length)
    return piece_length


@lru_cache(maxsize=16)
def _zeros_digest(length: int) -> bytes:
    """The digest of a piece of `length` zeros."""
    return blake3(bytes(length)).digest()


@dataclass(frozen=True, slots=True)
class PieceTable:
    """The digests of all pieces of one artifact; an inconsistent table can not exist.

    Args:
        size: of the artifact, bytes.
        piece_length: of every piece but the last, bytes.
        digests: the table itself, 32 bytes a piece.

    Raises:
        ValueError: size, piece length and length of the table do not fit together.
    """

    size: int
    piece_length: int
    digests: bytes = field(repr=False)

    def __post_init__(self) -> None:
        count = piece_count(self.size, self.piece_length)
        if len(self.digests) != count * DIGEST_BYTES:
            raise ValueError(
                f"a table of {count} pieces is {count * DIGEST_BYTES} bytes, not {len(self.digests)}"
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
    def raw(self) -> bytes:
        """The table as it is sent: the concatenated digests."""
        return self.digests

    @property
    def digest(self) -> str:
        """BLAKE3 of the table, 64 lowercase hex digits: what the manifest states."""
        return blake3(self.digests).hexdigest()

    @property
    def count(self) -> int:
        """Number of pieces."""
        return len(self.digests) // DIGEST_BYTES

    def span(self, index: int) -> tuple[int, int]:
        """Return (offset, length) of a piece in the artifact, bytes.

        Raises:
            IndexError: no such piece.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"piece {index} of {self.count}")
        offset = index * self.piece_length
        return offset, min(self.piece_length, self.size - offset)

    def zeros(self) -> Bitmap:
        """Return the pieces of which the digest says that they are nothing but zeros."""
        found = Bitmap(self.count)
        for index in range(self.count):
            start = index * DIGEST_BYTES
            if self.digests[start : start + DIGEST_BYTES] == _zeros_digest(self.span(index)[1]):
                found.set(index)
        return found

    def runs(self, pieces: Bitmap, *, held: bool) -> list[tuple[int, int]]:
        """Return (offset, length) in bytes of what neighbouring pieces cover that are held, or that are not."""
        runs = []
        for state, indices in groupby(range(self.count), pieces.test):
            if state is held:
                offset, length = self.span(next(indices))
                for index in indices:
                    length += self.span(index)[1]
                runs.append((offset, length))
        return runs

    def matches(self, index: int, data: bytes | bytearray | memoryview) -> bool:
        """Whether ``data`` is the whole of piece ``index``: right length and right digest.

        Raises:
            IndexError: no such piece.
        """
        _, length = self.span(index)
        if len(data) != length:
            return False
        start = index * DIGEST_BYTES
        return blake3(data).digest() == self.digests[start : start + DIGEST_BYTES]


class Bitmap:
    """Which pieces are held. As bytes: ceil(count / 8), most significant bit first, padding zero.

    Mutable, and not locked: its owner decides who may call :meth:`set`; :meth:`copy` gives others their own.
    """

    __slots__ = ("_bits", "_count", "_held")

    def __init__(self, count: int) -> None:
        """Make an empty bitmap of ``count`` pieces (0 to :data:`MAX_PIECES`)."""
        if not 0 <= count <= MAX_PIECES:
            raise ValueError(f"a bitmap is of 0 to {MAX_PIECES} pieces, not {count}")
        self._count = count
        self._bits = bytearray(-(-count // 8))
        self._held = 0

    @classmethod
    def full(cls, count: int) -> Bitmap:
        """Make a bitmap in which every piece is held."""
        bitmap = cls(count)
        bitmap._bits[:] = b"\xff" * len(bitmap._bits)
        if count % 8:
            bitmap._bits[-1] = (0xFF00 >> (count % 8)) & 0xFF
        bitmap._held = count
        return bitmap

    @classmethod
    def from_bytes(cls, raw: bytes, count: int) -> Bitmap:
        """Read a bitmap of ``count`` pieces.

        Raises:
            ValueError: wrong length, or a padding bit is set (so that one state has one form).
        """
        bitmap = cls(count)
        if len(raw) != len(bitmap._bits):
            raise ValueError(f"a bitmap of {count} pieces is {len(bitmap._bits)} bytes, not {len(raw)}")
        if count % 8 and raw[-1] & (0xFF >> (count % 8)):
            raise ValueError("a padding bit of the bitmap is set")
        bitmap._bits[:] = raw
        bitmap._held = int.from_bytes(raw, "big").bit_count()
        return bitmap

    def to_bytes(self) -> bytes:
        """Return the bytes that :meth:`from_bytes` reads."""
        return bytes(self._bits)

    def copy(self) -> Bitmap:
        """Return an independent bitmap of the same state."""
        return Bitmap.from_bytes(self.to_bytes(), self._count)

    def set(self, index: int) -> None:
        """Mark a piece as held.

        Raises:
            IndexError: no such piece.
        """
        if not self.test(index):
            self._bits[index >> 3] |= 0x80 >> (index & 7)
            self._held += 1

    def clear(self, index: int) -> None:
        """Mark a piece as not held.

        Raises:
            IndexError: no such piece.
        """
        if self.test(index):
            self._bits[index >> 3] &= ~(0x80 >> (index & 7))
            self._held -= 1

    def test(self, index: int) -> bool:
        """Whether a piece is held.

        Raises:
            IndexError: no such piece.
        """
        if not 0 <= index < self._count:
            raise IndexError(f"piece {index} of {self._count}")
        return bool(self._bits[index >> 3] & (0x80 >> (index & 7)))

    def missing(self) -> Iterator[int]:
        """Yield the pieces not held, ascending; whole held bytes are skipped."""
        for position, bits in enumerate(self._bits):
            if bits != 0xFF:
                for index in range(position * 8, min(position * 8 + 8, self._count)):
                    if not bits & (0x80 >> (index & 7)):
                        yield index

    @property
    def held(self) -> int:
        """How many pieces are held."""
        return self._held

    @property
    def complete(self) -> bool:
        """Whether every piece is held."""
        return self._held == self._count

    def __len__(self) -> int:
        """How many pieces there are, held or not."""
        return self._count

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bitmap):
            return NotImplemented
        return self._count == other._count and self._bits == other._bits

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Bitmap({self._held} of {self._count})"
