"""Artifacts of made-up content, the same in every run: their bytes, their piece tables, their files."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Artifact
from p2pboot.core.pieces import MIB, MIN_PIECE, PieceTable

PIECE: Final = MIN_PIECE
# The smallest artifact; around the edge of a piece one short of it, exact, one over; several with a rest.
SIZES: Final = (1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 17)


def content(name: str, size: int) -> bytes:
    """Make `size` bytes that look random and are the same everywhere for one name."""
    return hashlib.shake_256(name.encode()).digest(size)


def write_content(path: Path, name: str, size: int) -> None:
    """Write a file like `content` (other bytes) of any size, in little memory."""
    with path.open("wb") as file:
        for offset in range(0, size, MIB):
            file.write(content(f"{name} {offset}", min(MIB, size - offset)))


def write_image(leaf: Path, sizes: Mapping[str, int], *, seed: object = "") -> Path:
    """Make a directory with files of these names and sizes; another seed gives other content."""
    leaf.mkdir(parents=True, exist_ok=True)
    for name, size in sizes.items():
        write_content(leaf / name, f"{seed}/{name}", size)
    return leaf


def table_of(data: bytes, piece_length: int = PIECE) -> PieceTable:
    """Hash the pieces of an artifact."""
    pieces = (data[start : start + piece_length] for start in range(0, len(data), piece_length))
    return PieceTable(len(data), piece_length, b"".join(blake3(piece).digest() for piece in pieces))


def artifact_of(
    key: str,
    data: bytes | None = None,
    *,
    channel: str = "stable",
    arch: str = "x86_64",
    piece_length: int = PIECE,
    **said: Any,
) -> Artifact:
    """Describe an artifact with this content (1,000 bytes that nobody needs), but for what is `said` otherwise."""
    data = content(key, 1000) if data is None else data
    facts: dict[str, Any] = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "table_digest": table_of(data, piece_length).digest,
    }
    return Artifact.describe(key, channel=channel, arch=arch, piece_length=piece_length, **(facts | said))


@dataclass(frozen=True)
class Sample:
    """An artifact together with its content."""

    data: bytes
    artifact: Artifact
    table: PieceTable

    @property
    def sha256(self) -> str:
        """Which the manifest states; not the content's where a test wants a lie."""
        return self.artifact.sha256

    def piece(self, index: int) -> bytes:
        """Return the content of one piece."""
        offset, length = self.table.span(index)
        return self.data[offset : offset + length]


def sample(size: int, seed: int = 0, *, key: str = "kernel", **said: Any) -> Sample:
    """Make an artifact of `size` bytes."""
    return sample_of(random.Random(seed).randbytes(size), key=key, **said)  # noqa: S311 - no secret


def sample_of(data: bytes, *, key: str = "kernel", piece_length: int = PIECE, **said: Any) -> Sample:
    """Make an artifact of given content."""
    artifact = artifact_of(key, data, piece_length=piece_length, **said)
    return Sample(data, artifact, table_of(data, piece_length))
