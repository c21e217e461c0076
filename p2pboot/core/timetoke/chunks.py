"""A payload in chunks: its root and chunk table in one pass, and single chunks as they travel.

A chunk table is a piece table (:mod:`p2pboot.core.pieces`): the same lengths, limits and digests. In one process
chunks may be of any other length, too, as in the source system; what is announced and sent keeps to the rules.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any, Final, Protocol

from blake3 import blake3

from p2pboot.core.dataclass import dataclass
from p2pboot.core.digests import DIGEST_BYTES
from p2pboot.core.pieces import MAX_PIECE, MAX_PIECES, MIB, PieceTable, check_piece_length

if TYPE_CHECKING:
    from p2pboot.core.timetoke.reader import Payload

DEFAULT_CHUNK: Final = MIB
"""Bytes of a chunk where nobody says otherwise, as in the source system: who has a snapshot announces it alike."""

MAX_TOTAL: Final = MAX_PIECES
"""Chunks of one snapshot; what a peer declares beyond it is refused before anything is allocated."""

_HASH_STEP: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """One chunk, as it travels.

    Args:
        root: of the snapshot that it says it belongs to.
        index: its place, from 0.
        total: how many chunks the snapshot is said to have.
        data: its bytes.
    """

    root: str
    index: int
    total: int
    data: bytes = field(repr=False)


def check_chunk_length(chunk_length: int) -> int:
    """Return `chunk_length` (bytes) if payloads can be cut so in one process: 1 byte to 16 MiB.

    Raises:
        ValueError: they can not.
    """
    if not 1 <= chunk_length <= MAX_PIECE:
        raise ValueError(f"chunk length {chunk_length} is not from 1 byte to 16 MiB")
    return chunk_length


class OddChunkTable(PieceTable):
    """A table of chunks of a length that has no place in an announcement, for use in one process."""

    __slots__ = ()

    def __post_init__(self) -> None:
        count = -(-self.size // check_chunk_length(self.piece_length))
        if self.size < 1:
            raise ValueError(f"size {self.size} is below 1 byte")
        if count > MAX_TOTAL:
            raise ValueError(f"{self.size} bytes in chunks of {self.piece_length} are more than {MAX_TOTAL}")
        if len(self.raw) != count * DIGEST_BYTES:
            raise ValueError(f"a table of {count} chunks is not {len(self.raw)} bytes")


def _table(size: int, chunk_length: int, digests: bytes) -> PieceTable:
    try:
        check_piece_length(chunk_length)
    except ValueError:
        return OddChunkTable(size, chunk_length, digests)
    return PieceTable(size, chunk_length, digests)


class RunningHash(Protocol):
    """A digest while it is computed: of hashlib, or blake3's."""

    def update(self, data: Payload | memoryview, /) -> Any:
        """Take the next bytes."""

    def hexdigest(self) -> str:
        """The digest of all that came."""


class ChunkTableBuilder:
    """Computes root and chunk table of a payload that comes in parts of any size.

    Args:
        chunk_length: bytes of every chunk but the last, 1 to 16 MiB; a power of two from 64 KiB up where it is to
            be announced.
        whole: a running digest of the whole; by default BLAKE3, which gives the root.

    Raises:
        ValueError: another chunk length.
    """

    def __init__(self, chunk_length: int = DEFAULT_CHUNK, whole: RunningHash | None = None) -> None:
        self._chunk_length = check_chunk_length(chunk_length)
        self._whole = blake3() if whole is None else whole
        self._chunk = blake3()
        self._filled = 0
        self._digests = bytearray()
        self.size = 0

    def update(self, data: Payload | memoryview) -> None:
        """Take the next bytes of the payload."""
        self._whole.update(data)
        self.size += len(data)
        with memoryview(data) as rest:
            start = 0
            while start < len(rest):
                end = min(len(rest), start + self._chunk_length - self._filled)
                with rest[start:end] as part:
                    self._chunk.update(part)
                self._filled += end - start
                start = end
                if self._filled == self._chunk_length:
                    self._end_chunk()

    def finish(self) -> tuple[str, PieceTable]:
        """Return the root and the chunk table of everything that came.

        Raises:
            ValueError: nothing came, or more than the table can name.
        """
        digests = self._digests + (self._chunk.digest() if self._filled else b"")
        return self.digest, _table(self.size, self._chunk_length, bytes(digests))

    @property
    def digest(self) -> str:
        """The digest of all that came."""
        return self._whole.hexdigest()

    def _end_chunk(self) -> None:
        self._digests += self._chunk.digest()
        self._chunk = blake3()
        self._filled = 0


def payload_root(payload: Payload) -> str:
    """Return the root of a payload: 64 hex digits."""
    whole = blake3()
    with memoryview(payload) as view:
        for start in range(0, len(view), _HASH_STEP):
            with view[start : start + _HASH_STEP] as part:
                whole.update(part)
    return whole.hexdigest()
