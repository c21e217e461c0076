"""The database of a directory that may be somebody else's: made when there is something to keep, never before.

A snapshot directory is the user's; looking at it leaves nothing there. Three situations, found out again at each use:

- no file: reading finds nothing, and the first change makes the file;
- a file that may be changed: it is used as any other, other processes change it as well, or replace the directory;
- one that can only be read (a read-only file system) or that others own or may write, or no file and no right to make
  one: what it says is held in memory, read again when it changes, and our own changes live as long as the process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from p2pboot.errors import MachineError, machine_error
from p2pboot.store.database import Database, Row, clear_errors, primary_code
from p2pboot.store.durable import make_directory
from p2pboot.store.errors import NoState
from p2pboot.store.filenames import DATABASE_NAME, MEMORY_FILES
from p2pboot.store.ownership import NotOurs, check_files, close_files, opened_state

_REFUSALS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_SQLITE_REFUSALS: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})

# A cleanly closed database in a directory where nothing can be made opens as immutable only; one in use by another
# process must not be opened so.
_WAYS_TO_READ: Final = ("mode=ro", "immutable=1")


class DatabaseOnDemand(Database):
    """As `Database`; see above for when it is a file."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__(path, connection)
        self._is_file = False
        # What that looks like which is used: the file, or what was copied into memory.
        self._seen: object = None

    @classmethod
    def at(cls, path: Path) -> Self:
        """Take over the database at `path`, which may not exist; nothing is made.

        Raises:
            StoreError: the file is damaged, not ours, or of a newer p2pboot.
            MachineError: it can not be read, or another process holds it too long.
        """
        database = cls(path, _in_memory(path, None)._connection)
        try:
            database._look()
        except BaseException:
            database.close()
            raise
        return database

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """As `Database.transaction`; makes the file, unless that is refused."""
        with self._lock:
            if self._depth == 0:
                self._look()
                if not self._is_file and self.refusal is None:
                    self._use_file()
            with super().transaction() as sql:
                yield sql

    def rows(self, query: str, *values: object) -> list[Row]:
        """As `Database.rows`."""
        with self._lock:
            if self._depth == 0:
                self._look()
            return super().rows(query, *values)

    def _look(self) -> None:
        """Use what is there now, whoever made, changed or removed it."""
        appearance = self._appearance()
        if appearance == self._seen:
            return
        if appearance is None:
            self._hold_in_memory(None)
            self.refusal = None
        else:
            self._use_file()

    def _use_file(self) -> None:
        try:
            make_directory(self.path.parent, 0o755)  # as the snapshots beside it: others may serve them
            with opened_state(self.path.parent) as directory:
                check_files(MEMORY_FILES, directory, self.path.parent)
                _require_writable(self.path)
                opened = Database.open(self.path, tolerant=True)  # it can be read whatever the record says
                close_files(MEMORY_FILES, directory)
        except MachineError as error:
            if not _is_refusal(error):
                raise
            self.refusal, self._is_file = error, False
            self._hold_in_memory(self._appearance())
        else:
            self._replace(opened)
            self.refusal, self._is_file = None, True
            self._seen = self._appearance()

    def _hold_in_memory(self, appearance: object) -> None:
        """Take what the file says, which looks like this; nothing where there is none."""
        self._is_file = False
        self._replace(_in_memory(self.path, appearance))
        self._seen = appearance

    def __del__(self) -> None:
        self._connection.close()  # the source system's stores are never closed

    def _replace(self, other: Database) -> None:
        self._connection.close()
        self._connection = other._connection
        self._keeper = other._keeper  # what is held in memory only has none

    def _appearance(self) -> object:
        """Which file it is and, where it is copied, what it and its journal look like; None when there is no file."""
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        if self._is_file:
            return status.st_dev, status.st_ino
        try:
            journal = os.stat(f"{self.path}-wal")
        except OSError:
            journal = None
        return [
            (one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns)
            for one in (status, journal)
            if one is not None
        ]


def copy_of_database(state: Path) -> Database:
    """What the database of a state directory says, held in memory: the file is only read, also while a node uses it.

    Raises:
        NoState: there is none.
        StoreError: it is damaged, not ours, or of a newer p2pboot.
        MachineError: it can not be read.
    """
    path = state / DATABASE_NAME
    try:
        appearance = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NoState(state) from None
    except OSError as error:
        raise machine_error(error, f"read {path}") from error
    with clear_errors(path):
        return _in_memory(path, appearance)


def empty_database(state: Path) -> Database:
    """A database in memory of a state directory that has none; nothing is made there."""
    return _in_memory(state / DATABASE_NAME, None)


def _in_memory(path: Path, appearance: object) -> Database:
    """A database in memory with what the file at `path` says, which is only read; empty where there is none."""
    database = Database(path, sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))
    try:
        if appearance is not None:
            _fill(database, path)
        database._prepare()
    except BaseException:
        database.close()
        raise
    return database


def _fill(database: Database, path: Path) -> None:
    for one in map(path.with_name, MEMORY_FILES):
        if one.exists() and not one.is_file():  # a pipe would be waited for
            raise MachineError(
                f"{one} is not a regular file", remedy="remove it, and find out who put it there"
            )
    failure: sqlite3.Error | None = None
    for way in _WAYS_TO_READ:
        try:
            with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?{way}", uri=True)) as disk:
                disk.backup(database._connection)
        except sqlite3.OperationalError as error:
            failure = failure or error
        else:
            return
    if failure is not None:
        raise MachineError(f"cannot read {path}: {failure}", remedy="check its permissions")


def _require_writable(path: Path) -> None:
    """SQLite begins a transaction on a file that it can not write, and fails only later, at the first change."""
    if os.path.exists(path) and not os.access(path, os.W_OK, effective_ids=True):
        code = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
        error = OSError(code, os.strerror(code))
        raise machine_error(error, f"write {path}") from error


def _is_refusal(error: MachineError) -> bool:
    cause = error.__cause__
    if isinstance(error, NotOurs):
        return True
    if isinstance(cause, OSError):
        return cause.errno in _REFUSALS
    return isinstance(cause, sqlite3.Error) and primary_code(cause) in _SQLITE_REFUSALS
