"""The piece tables of the artifacts in the store, durable before their first byte of data is."""

from __future__ import annotations

import threading
from typing import Final

from cachetools import LRUCache

from p2pboot.core.pieces import PieceTable
from p2pboot.store.database import Database

CACHED_TABLE_BYTES: Final = 8 * 1024 * 1024  # four tables of the largest size, or hundreds of the usual


class TableIndex:
    """SHA-256 of an artifact → its piece table; any number of threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cached: LRUCache[str, PieceTable] = LRUCache(CACHED_TABLE_BYTES, lambda table: len(table.raw))
        self._lock = threading.Lock()

    def get(self, sha256: str) -> PieceTable | None:
        """The table of an artifact that is wholly held, or None."""
        with self._lock:
            table = self._cached.get(sha256)
        if table is not None:
            return table
        row = self._database.row("SELECT size, piece_length, digests FROM tables WHERE sha256 = ?", sha256)
        if row is None:
            return None
        table = PieceTable(*row)
        with self._lock:
            self._cached[sha256] = table
        return table

    def put(self, sha256: str, table: PieceTable) -> None:
        """Record the table, in place of another one; on the disk when this returns.

        It is not kept in memory yet: of an artifact that is not whole nobody knows whether it is right.
        """
        with self._database.transaction() as sql:
            sql.execute(
                "INSERT OR REPLACE INTO tables VALUES (?, ?, ?, ?)",
                (sha256, table.size, table.piece_length, table.raw),
            )
        self._forget(sha256)

    def remove(self, sha256: str) -> None:
        """Forget the table."""
        with self._database.transaction() as sql:
            sql.execute("DELETE FROM tables WHERE sha256 = ?", (sha256,))
        self._forget(sha256)

    def known(self) -> set[str]:
        """SHA-256 of every artifact with a table."""
        return {sha256 for (sha256,) in self._database.rows("SELECT sha256 FROM tables")}

    def _forget(self, sha256: str) -> None:
        with self._lock:
            self._cached.pop(sha256, None)
