"""How a store names what it holds: artifacts by their SHA-256, snapshots by their BLAKE3 root."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from blake3 import blake3

from p2pboot.core.pieces import PieceTable
from p2pboot.core.timetoke.chunks import ChunkTableBuilder


class RunningHash(Protocol):
    """A digest of a whole file while it is computed: of hashlib, or blake3's."""

    def update(self, data: bytes, /) -> Any:
        """Take the next bytes."""

    def hexdigest(self) -> str:
        """The digest of all that came."""


class FileHasher(Protocol):
    """Computes the digests of a file, of the whole and of its pieces, in one pass."""

    def update(self, data: memoryview, /) -> Any:
        """Take the next bytes: whole pieces, but for the last time."""

    def finish(self) -> tuple[str, PieceTable]:
        """The digest of the whole in hex, and the piece table, of all that came."""


class ArtifactHasher:
    """SHA-256 of the whole and BLAKE3 of every piece.

    Args:
        piece_length: bytes.
    """

    def __init__(self, piece_length: int) -> None:
        self._piece_length = piece_length
        self._whole = hashlib.sha256()
        self._pieces = bytearray()
        self._size = 0

    def update(self, data: memoryview) -> None:
        """Take the next bytes."""
        self._whole.update(data)
        self._size += len(data)
        for start in range(0, len(data), self._piece_length):
            self._pieces += blake3(data[start : start + self._piece_length]).digest()

    def finish(self) -> tuple[str, PieceTable]:
        """The SHA-256 and the piece table of all that came."""
        table = PieceTable(self._size, self._piece_length, bytes(self._pieces))
        return self._whole.hexdigest(), table


@dataclass(frozen=True, slots=True)
class Algorithm:
    """The digest that is a content's name.

    Args:
        what: stands before a digest in messages.
        begin: a running digest.
        hasher: of a file that is cut into pieces of so many bytes.
    """

    what: str
    begin: Callable[[], RunningHash]
    hasher: Callable[[int], FileHasher]


SHA256: Final = Algorithm("artifact sha256:", hashlib.sha256, ArtifactHasher)
BLAKE3: Final = Algorithm("snapshot ", blake3, ChunkTableBuilder)
