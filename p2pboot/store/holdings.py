"""Where an artifact can lie: in the publisher's directory, in the store, or half there while it comes."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from p2pboot.core.pieces import Bitmap, PieceTable
from p2pboot.store.hashes import FileIdentity
from p2pboot.store.partials import PartialBlob
from p2pboot.store.reading import PieceMismatch


def open_regular(path: Path) -> int:
    """Open a file for reading without ever waiting (as for a pipe that somebody put there).

    Raises:
        OSError: not there, not readable, or not a regular file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return fd


@dataclass(frozen=True, slots=True)
class InPlaceFile:
    """A whole artifact outside the store, unchanged as long as its identity is."""

    path: Path
    table: PieceTable
    identity: FileIdentity
    whole: ClassVar[bool] = True

    def unchanged(self) -> bool:
        """Whether it looks as it did, without reading it."""
        try:
            return FileIdentity.of(self.path.stat()) == self.identity
        except OSError:
            return False

    def bitmap(self) -> Bitmap:
        """The pieces held."""
        return Bitmap.full(self.table.count)

    def has(self, _first: int, _last: int) -> bool:
        """Whether all these pieces are held: a whole artifact has all."""
        return True

    def open(self) -> int:
        """Open exactly the file that was hashed.

        Raises:
            PieceMismatch: it is another file by now, or was changed.
        """
        try:
            fd = open_regular(self.path)
        except OSError:
            raise PieceMismatch(0) from None
        if FileIdentity.of(os.fstat(fd)) != self.identity:
            os.close(fd)
            raise PieceMismatch(0)
        return fd


class InPlaceFiles:
    """The files served where they lie: several may have one content. Not locked; its owner is."""

    def __init__(self) -> None:
        self._by_digest: dict[str, dict[Path, InPlaceFile]] = {}
        self._digest_at: dict[Path, str] = {}

    def of(self, sha256: str) -> list[InPlaceFile]:
        """The files with this content."""
        return list(self._by_digest.get(sha256, {}).values())

    def add(self, sha256: str, file: InPlaceFile) -> None:
        """Register a file, in place of what was registered at its path."""
        before = self._digest_at.pop(file.path, None)
        if before is not None:
            self._drop(before, file.path)
        self._digest_at[file.path] = sha256
        self._by_digest.setdefault(sha256, {})[file.path] = file

    def remove(self, sha256: str, file: InPlaceFile) -> None:
        """Remove just this registration, not a newer one of the same path."""
        if self._by_digest.get(sha256, {}).get(file.path) == file:
            del self._digest_at[file.path]
            self._drop(sha256, file.path)

    def forget(self, sha256: str) -> None:
        """Remove every registration of this content."""
        for path in self._by_digest.pop(sha256, {}):
            del self._digest_at[path]

    def _drop(self, sha256: str, path: Path) -> None:
        files = self._by_digest[sha256]
        del files[path]
        if not files:
            del self._by_digest[sha256]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A whole artifact in the store. Nobody but the store should write there, yet disks rot."""

    path: Path
    table: PieceTable
    whole: ClassVar[bool] = True

    def unchanged(self) -> bool:
        """Whether it looks as it did, without reading it."""
        try:
            return self.path.stat().st_size == self.table.size
        except OSError:
            return True  # removed meanwhile or not accessible, which `open` says better and is not damage

    def bitmap(self) -> Bitmap:
        """The pieces held."""
        return Bitmap.full(self.table.count)

    def has(self, _first: int, _last: int) -> bool:
        """Whether all these pieces are held: a whole artifact has all."""
        return True

    def open(self) -> int:
        """Open the file for reading; OSError when that fails."""
        return open_regular(self.path)


@dataclass(frozen=True, slots=True)
class PartialFile:
    """An artifact that this process is fetching: its pieces are served as soon as they are there."""

    partial: PartialBlob
    whole: ClassVar[bool] = False

    @property
    def path(self) -> Path:
        """Where it lies now."""
        return self.partial.path

    @property
    def table(self) -> PieceTable:
        """Of the artifact."""
        return self.partial.table

    def bitmap(self) -> Bitmap:
        """The pieces held."""
        return self.partial.bitmap

    def has(self, first: int, last: int) -> bool:
        """Whether the pieces from first to last are held."""
        return all(self.partial.has(index) for index in range(first, last + 1))

    def open(self) -> int:
        """Open the file for reading; OSError when that fails."""
        return open_regular(self.path)


Holding = InPlaceFile | StoredFile | PartialFile
