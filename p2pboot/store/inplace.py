"""The publisher's own files, served where they lie: others may touch, replace and remove them at any time.

What was verified is offered on as long as it *may* be what it was: a regular file of the same size. Every piece is
checked when it is read, so nothing wrong is ever passed on. A file whose metadata changed (a hard link, `touch`, a
copy of the same content renamed over it) is *suspect*: it is offered on while it is read once and compared. Only other
content ends that; a file that is away for a moment is offered again when it is back.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from pathlib import Path

from p2pboot.store.hashes import FileIdentity
from p2pboot.store.hashing import HashedPath


class InPlaceFiles:
    """The files served where they lie: several may have one content. Not locked; its owner is."""

    def __init__(self) -> None:
        self._by_digest: dict[str, dict[Path, HashedPath]] = {}
        self._at: dict[Path, HashedPath] = {}
        self._away: set[Path] = set()  # what was told to be away, so that it is told once

    def of(self, digest: str) -> list[HashedPath]:
        """The files with this content."""
        return list(self._by_digest.get(digest, {}).values())

    def all(self) -> list[HashedPath]:
        """Every file."""
        return list(self._at.values())

    def at(self, path: Path) -> HashedPath | None:
        """The file that is registered at a path."""
        return self._at.get(path)

    def add(self, file: HashedPath) -> None:
        """Register a file, in place of what was registered at its path."""
        if file.path in self._at:
            self.remove(self._at[file.path])
        self._put(file)

    def confirm(self, file: HashedPath, identity: FileIdentity) -> None:
        """It has the same content under another identity, unless its path was registered again meanwhile."""
        if self._at.get(file.path) == file:
            self._put(replace(file, identity=identity))

    def note_away(self, file: HashedPath) -> bool:
        """It is not there at the moment; returns whether that is news."""
        if file.path not in self._at or file.path in self._away:
            return False
        self._away.add(file.path)
        return True

    def note_back(self, file: HashedPath) -> None:
        """It is there."""
        self._away.discard(file.path)

    def forget_away(self, referenced: Set[str]) -> None:
        """Forget what is away and nobody needs: the names of former releases would pile up."""
        for file in self.all():
            if file.path in self._away and file.digest not in referenced:
                self.remove(file)

    def remove(self, file: HashedPath) -> None:
        """Remove just this registration, not a newer one of the same path."""
        if self._at.get(file.path) == file:
            del self._at[file.path]
            self._away.discard(file.path)
            files = self._by_digest[file.digest]
            del files[file.path]
            if not files:
                del self._by_digest[file.digest]

    def _put(self, file: HashedPath) -> None:
        self._at[file.path] = file
        self._by_digest.setdefault(file.digest, {})[file.path] = file
