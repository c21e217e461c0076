"""Where an artifact can lie: in the publisher's directory, in the store, or half there while it comes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from p2pboot.core.pieces import PieceSet, PieceTable
from p2pboot.store.inplace import InPlaceFile
from p2pboot.store.partials import PartialBlob
from p2pboot.store.reading import open_regular


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A whole artifact in the store. Nobody but the store should write there, yet disks rot."""

    path: Path
    table: PieceTable
    whole: ClassVar[bool] = True

    def fits(self) -> bool:
        """Whether it has the right size, as far as can be told without reading it."""
        try:
            return self.path.stat().st_size == self.table.size
        except OSError:
            return True  # removed meanwhile or not accessible, which `open` says better and is not damage

    def held(self) -> PieceSet:
        """The pieces held."""
        return PieceSet.full(self.table.count)

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

    def held(self) -> PieceSet:
        """The pieces held."""
        return self.partial.held

    def has(self, first: int, last: int) -> bool:
        """Whether the pieces from first to last are held."""
        return all(self.partial.has(index) for index in range(first, last + 1))

    def open(self) -> int:
        """Open the file for reading; OSError when that fails."""
        return open_regular(self.path)


Holding = InPlaceFile | StoredFile | PartialFile
