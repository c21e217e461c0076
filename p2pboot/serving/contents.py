"""What is held, by the piece table that cuts it: artifacts, snapshots, and both while they arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cachetools import LRUCache

from p2pboot.core.dataclass import dataclass
from p2pboot.core.pieces import PieceTable
from p2pboot.store.blobs import BlobStore
from p2pboot.store.partials import PartialBlob

_KNOWN: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """Something that is held, wholly or in part.

    Args:
        table_digest: BLAKE3 of its table.
        digest: its name in the store.
        table: as it is cut.
        partial: what there is of it while it arrives; None where it is whole.
        blobs: the store.
        check: raises where it may not be given out; blocking. None: it may.
    """

    table_digest: str
    digest: str
    table: PieceTable
    partial: PartialBlob | None
    blobs: BlobStore
    check: Callable[[str], object] | None = None


class Contents:
    """Finds content by its table, in any number of stores."""

    def __init__(self) -> None:
        self._stores: list[tuple[BlobStore, Callable[[str], object] | None]] = []
        self._names: LRUCache[str, str] = LRUCache(_KNOWN)

    def add(self, blobs: BlobStore, check: Callable[[str], object] | None = None) -> None:
        """Look here as well.

        Args:
            blobs: the store.
            check: raises where what is whole may not be given out, by its name; blocking.
        """
        self._stores.append((blobs, check))

    def find(self, table_digest: str) -> Content | None:
        """Whatever is cut by this table and held."""
        for blobs, check in self._stores:
            found = blobs.by_table(table_digest)
            if found is not None:
                digest, table = found
                partial = blobs.arriving(digest)
                return Content(
                    table_digest, digest, table, partial, blobs, check if partial is None else None
                )
        return None
