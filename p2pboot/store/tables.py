"""The piece tables of the artifacts in the store, durable before their first byte of data is."""

from __future__ import annotations

import threading
from typing import Final

from cachetools import LRUCache

from p2pboot.core.pieces import PieceTable
from p2pboot.store.database import Database

CACHED_TABLE_BYTES: Final = 8 * 1024 * 1024  # four tables of the largest size, or hundreds of the usual


class TableIndex:
    """The digest of an artifact → its piece table; any number of threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cached: LRUCache[str, PieceTable] = LRUCache(CACHED_TABLE_BYTES, lambda table: len(table.raw))
        self._lock = threading.Lock()

    def get(self, digest: str) -> PieceTable | None:
        """The table of an artifact that is wholly held, or None; whether it is the signed one, its user checks."""
        with self._lock:
            table = self._cached.get(digest)
        if table is not None:
            return table
        row = self._database.row("SELECT size, piece_length, digests FROM tables WHERE digest = ?", digest)
        if row is None:
            return None
        try:
            table = PieceTable(int(row[0]), int(row[1]), bytes(row[2]))
        except (ValueError, TypeError):
            return None  # the state was tampered with, or is damaged: what it names is read again
        with self._lock:
            self._cached[digest] = table
        return table

    def put(self, digest: str, table: PieceTable) -> None:
        """Record the table, in place of another one; on the disk when this returns.

        It is not kept in memory yet: of an artifact that is not whole nobody knows whether it is right.
        """
        with self._database.transaction() as sql:
            sql.execute(
                "INSERT OR REPLACE INTO tables VALUES (?, ?, ?, ?)",
                (digest, table.size, table.piece_length, table.raw),
            )
        self._forget(digest)

    def remove(self, digest: str) -> None:
        """Forget the table."""
        with self._database.transaction() as sql:
            sql.execute("DELETE FROM tables WHERE digest = ?", (digest,))
        self._forget(digest)

    def known(self) -> set[str]:
        """The digest of every artifact with a table."""
        return {digest for (digest,) in self._database.rows("SELECT digest FROM tables")}

    def _forget(self, digest: str) -> None:
        with self._lock:
            self._cached.pop(digest, None)
