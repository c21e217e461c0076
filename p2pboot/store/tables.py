"""The piece tables that are known to be true of an artifact: one for each way in which somebody signed it cut.

A table gets here only once all of the artifact was seen to have these pieces, and before the artifact gets its name.
So it may be believed wherever the same content comes from, and content may have several.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Final

from cachetools import LRUCache

from p2pboot.core.pieces import PieceTable
from p2pboot.store.database import Database

CACHED_TABLE_BYTES: Final = 8 * 1024 * 1024
"""All nine of the largest artifact take 4 MiB, one of the usual length 64 KiB."""

Tables = Mapping[str, PieceTable]
"""By their digests."""


class TableIndex:
    """The digest of an artifact → its piece tables; any number of threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cached: LRUCache[str, Tables] = LRUCache(CACHED_TABLE_BYTES, _bytes)
        self._lock = threading.Lock()

    def of(self, digest: str) -> Tables:
        """The tables of an artifact, whether anything of it is held or not; what was known first comes first."""
        with self._lock:
            tables = self._cached.get(digest)
        if tables is not None:
            return tables
        rows = self._database.rows(
            "SELECT table_digest, size, piece_length, digests FROM tables WHERE digest = ? ORDER BY rowid",
            digest,
        )
        tables = {
            table.digest: table
            for stated, *cut in rows
            if (table := _read(*cut)) is not None and table.digest == stated
        }
        with self._lock:
            if _bytes(tables) <= CACHED_TABLE_BYTES:
                self._cached[digest] = tables
        return tables

    def cut_so(self, table_digest: str) -> list[str]:
        """The digests of the artifacts that have the table with this digest: one, unless somebody wrote others down."""
        return [
            digest
            for (digest,) in self._database.rows(
                "SELECT digest FROM tables WHERE table_digest = ? ORDER BY rowid", table_digest
            )
        ]

    def named(self, digest: str) -> list[str]:
        """The digests of the tables by which kept manifests name an artifact, that of the newest manifest first."""
        return [
            table_digest
            for (table_digest,) in self._database.rows(
                "SELECT table_digest FROM manifest_artifacts AS named JOIN manifests USING (digest)"
                " WHERE named.sha256 = ? AND fault IS NULL ORDER BY created_at DESC, manifest_version DESC",
                digest,
            )
        ]

    def put(self, digest: str, table: PieceTable) -> None:
        """Record a table that is true of an artifact, beside others; on the disk when this returns."""
        with self._database.transaction() as sql:
            sql.execute(
                "INSERT OR REPLACE INTO tables VALUES (?, ?, ?, ?, ?)",
                (digest, table.digest, table.size, table.piece_length, table.raw),
            )
        self._forget(digest)

    def remove(self, digest: str, tables: Iterable[str] | None = None) -> None:
        """Forget these of an artifact's tables, by default all of them."""
        with self._database.transaction() as sql:
            if tables is None:
                sql.execute("DELETE FROM tables WHERE digest = ?", (digest,))
            else:
                sql.executemany(
                    "DELETE FROM tables WHERE digest = ? AND table_digest = ?",
                    [(digest, one) for one in tables],
                )
        self._forget(digest)

    def known(self) -> dict[str, set[str]]:
        """The digest of every artifact with a table, and of its tables."""
        known: dict[str, set[str]] = {}
        for digest, table_digest in self._database.rows("SELECT digest, table_digest FROM tables"):
            known.setdefault(digest, set()).add(table_digest)
        return known

    def _forget(self, digest: str) -> None:
        with self._lock:
            self._cached.pop(digest, None)


def _bytes(tables: Tables) -> int:
    return sum(len(table.raw) for table in tables.values())


def _read(size: object, piece_length: object, raw: object) -> PieceTable | None:
    """A row's table; None where the state was tampered with, or is damaged: what it names is read again."""
    try:
        return PieceTable(int(size), int(piece_length), bytes(raw))  # type: ignore[call-overload]
    except (ValueError, TypeError):
        return None
