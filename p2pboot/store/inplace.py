"""The publisher's own files, served where they lie: others may touch, replace and remove them at any time.

What was verified is offered on as long as it *may* be what it was: a regular file of the same size. Every piece is
checked when it is read, so nothing wrong is ever passed on. A file whose metadata changed (a hard link, `touch`, a
copy of the same content renamed over it) is *suspect*: it is offered on while it is read once and compared. Only other
content ends that; a file that is away for a moment is offered again when it is back.
"""

from __future__ import annotations

import enum
import errno
import os
import stat
from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from pathlib import Path

from p2pboot.core.pieces import PieceTable
from p2pboot.store.hashes import FileIdentity
from p2pboot.store.reading import PieceMismatch, open_regular, pread_exactly


class Content(enum.Enum):
    """What reading a suspect file gave."""

    SAME = "same"
    OTHER = "other"
    CHANGING = "changing"  # it was touched meanwhile: look again


@dataclass(frozen=True, slots=True)
class InPlaceFile:
    """A whole artifact outside the store.

    Args:
        path: where it lies.
        table: of the artifact.
        identity: of the file when it had that content for certain.
    """

    path: Path
    table: PieceTable
    identity: FileIdentity

    def look(self) -> FileIdentity | None:
        """What the file system says of it now; None when it can not be the artifact, whatever it contains."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        fits = stat.S_ISREG(status.st_mode) and status.st_size == self.table.size
        return FileIdentity.of(status) if fits and os.access(self.path, os.R_OK) else None

    def open(self) -> int:
        """Open it for reading.

        Raises:
            FileNotFoundError: it is away, or something else by now.
        """
        try:
            fd = open_regular(self.path)
        except OSError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path)) from None
        if os.fstat(fd).st_size != self.table.size:
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, "it has another size", str(self.path))
        return fd

    def examine(self, identity: FileIdentity, go_on: Callable[[], None]) -> Content:
        """Read all of it and compare it with the table, up to the first difference.

        Args:
            identity: what `look` said.
            go_on: called before each piece; what it raises ends the work.

        Raises:
            OSError: the disk fails.
        """
        try:
            fd = self.open()
        except FileNotFoundError:
            return Content.CHANGING
        try:
            if FileIdentity.of(os.fstat(fd)) != identity:
                return Content.CHANGING
            for index in range(self.table.count):
                go_on()
                offset, length = self.table.span(index)
                if not self.table.matches(index, pread_exactly(fd, length, offset, index)):
                    return Content.OTHER
        except PieceMismatch:
            return Content.OTHER
        finally:
            os.close(fd)
        return Content.SAME if self.look() == identity else Content.CHANGING


class InPlaceFiles:
    """The files served where they lie: several may have one content. Not locked; its owner is."""

    def __init__(self) -> None:
        self._by_digest: dict[str, dict[Path, InPlaceFile]] = {}
        self._digest_at: dict[Path, str] = {}
        self._away: set[Path] = set()  # what was told to be away, so that it is told once

    def of(self, digest: str) -> list[InPlaceFile]:
        """The files with this content."""
        return list(self._by_digest.get(digest, {}).values())

    def all(self) -> list[tuple[str, InPlaceFile]]:
        """Every file, with the digest of its content."""
        return [(digest, file) for digest, files in self._by_digest.items() for file in files.values()]

    def add(self, digest: str, file: InPlaceFile) -> None:
        """Register a file, in place of what was registered at its path."""
        before = self._digest_at.pop(file.path, None)
        if before is not None:
            self._drop(before, file.path)
        self._digest_at[file.path] = digest
        self._by_digest.setdefault(digest, {})[file.path] = file

    def confirm(self, digest: str, file: InPlaceFile, identity: FileIdentity) -> None:
        """It has the same content under another identity, unless its path was registered again meanwhile."""
        if self._by_digest.get(digest, {}).get(file.path) == file:
            self._by_digest[digest][file.path] = replace(file, identity=identity)

    def note_away(self, file: InPlaceFile) -> bool:
        """It is not there at the moment; returns whether that is news."""
        if self._digest_at.get(file.path) is None or file.path in self._away:
            return False
        self._away.add(file.path)
        return True

    def note_back(self, file: InPlaceFile) -> None:
        """It is there."""
        self._away.discard(file.path)

    def forget_away(self, referenced: Set[str]) -> None:
        """Forget what is away and nobody needs: the names of former releases would pile up."""
        for digest, file in self.all():
            if file.path in self._away and digest not in referenced:
                self.remove(digest, file)

    def remove(self, digest: str, file: InPlaceFile) -> None:
        """Remove just this registration, not a newer one of the same path."""
        if self._by_digest.get(digest, {}).get(file.path) == file:
            del self._digest_at[file.path]
            self._drop(digest, file.path)

    def _drop(self, digest: str, path: Path) -> None:
        files = self._by_digest[digest]
        del files[path]
        self._away.discard(path)
        if not files:
            del self._by_digest[digest]
