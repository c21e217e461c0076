"""The hash cache: what a file contained when it was last hashed; unchanged files are not even opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, Self

from p2pboot.core.dataclass import dataclass
from p2pboot.core.pieces import PieceTable
from p2pboot.store.database import Database

MAX_ENTRIES: Final = 1024  # files, as each is cut; an artifacts directory has dozens


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What stays the same as long as a file is not touched.

    Changing the content changes `ctime_ns`, which nobody can set. Only a change within one tick of the file
    system's clock (4 ms) goes unnoticed here, and the check of each piece notices it.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Take the identity out of what stat says."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    @property
    def file_key(self) -> str:
        """The file, whatever its content."""
        return f"{self.device}:{self.inode}"  # text: both are unsigned 64 bits, SQLite's integers signed

    @property
    def key(self) -> str:
        """The file with this content."""
        return f"{self.file_key}:{self.size}:{self.mtime_ns}:{self.ctime_ns}"


@dataclass(frozen=True, slots=True)
class HashedFile:
    """The digests of a file: of the whole in bare hex, and the piece table."""

    digest: str
    table: PieceTable


class HashCache:
    """Durable and bounded; any number of threads and processes.

    All methods raise StoreError (damaged database) or MachineError (disk).

    Args:
        database: keeps it.
        max_entries: files that are remembered at most.
    """

    def __init__(self, database: Database, *, max_entries: int | None = None) -> None:
        self._database = database
        self._max_entries = max_entries
        self._distrusted: set[FileIdentity] = set()

    def get(self, identity: FileIdentity, piece_length: int | None = None) -> HashedFile | None:
        """What the file contains, or None when it was never hashed or changed since.

        Args:
            identity: of the file.
            piece_length: how it has to be cut, bytes; None: as it was hashed last.
        """
        if identity in self._distrusted:
            return None
        row = self._database.row(
            "SELECT digest, size, piece_length, digests FROM hashes WHERE identity = ?"
            " AND piece_length = coalesce(?, piece_length) ORDER BY rowid DESC LIMIT 1",
            identity.key,
            piece_length,
        )
        return None if row is None else HashedFile(row[0], PieceTable(*row[1:]))

    def has_content(self, digest: str) -> bool:
        """Whether some file was seen that had this content."""
        return self._database.row("SELECT 1 FROM hashes WHERE digest = ? LIMIT 1", digest) is not None

    def put(self, identity: FileIdentity, hashed: HashedFile) -> None:
        """Remember what the file contains, in place of what it contained before; otherwise cut, beside each other."""
        self.put_all({identity: hashed})

    def put_all(self, hashed: Mapping[FileIdentity, HashedFile]) -> None:
        """Remember what these files contain, as `put`; all of them or none."""
        if not hashed:
            return
        with self._database.transaction() as sql:
            for identity, content in hashed.items():
                digest, table = content.digest, content.table
                sql.execute(
                    "DELETE FROM hashes WHERE file = ? AND (identity <> ? OR digest <> ? OR piece_length = ?)",
                    (identity.file_key, identity.key, digest, table.piece_length),
                )
                sql.execute(
                    "INSERT INTO hashes VALUES (?, ?, ?, ?, ?, ?)",
                    (identity.key, identity.file_key, digest, table.size, table.piece_length, table.raw),
                )
            sql.execute(
                "DELETE FROM hashes WHERE rowid <="
                " (SELECT rowid FROM hashes ORDER BY rowid DESC LIMIT 1 OFFSET ?)",
                (self._max_entries or MAX_ENTRIES,),
            )

    def forget(self, identity: FileIdentity) -> None:
        """The file turned out to contain something else: hash it again."""
        with self._database.transaction() as sql:
            sql.execute("DELETE FROM hashes WHERE file = ?", (identity.file_key,))

    def distrust(self, identity: FileIdentity) -> None:
        """The file contains something else although nobody wrote it: what it has now is damage, and nobody's content.

        What it contained stays noted: after a restart it is found damaged again, and never taken for a new version.
        """
        if len(self._distrusted) < MAX_ENTRIES:
            self._distrusted.add(identity)

    def is_distrusted(self, identity: FileIdentity) -> bool:
        """Whether this is so of a file: until it is written again."""
        return identity in self._distrusted
