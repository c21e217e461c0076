"""The SQLite file of a state directory: opening, upgrading, transactions, and errors that a person can act on.

What tables there are, and how an older file becomes a present one, is :mod:`p2pboot.store.schema`.

One connection, used under one lock by all threads: transactions take milliseconds and are rare (no piece of
an artifact passes through here), while a connection per thread would leave one open in each of trio's
short-lived worker threads. Other processes are kept apart by SQLite itself (write-ahead log, BEGIN IMMEDIATE,
busy timeout).

`synchronous=FULL`: in WAL mode a commit is then on the disk before it returns. A publisher that lost a commit
in a power cut would sign the same `manifest_version` twice. What must not be forgotten is said a second time beside
it, before the commit: see :mod:`p2pboot.store.record`.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from p2pboot.errors import MachineError, P2PBootError, StoreError
from p2pboot.store.errors import Doubt, MemoryInDoubt
from p2pboot.store.record import Memory, Record, RecordKeeper
from p2pboot.store.schema import SCHEMA_VERSION, STEPS, TABLES

APPLICATION_ID: Final = 0x70327062  # "p2pb", so that file(1) and we recognise our own
BUSY_TIMEOUT_S: Final = 10.0
_RETRY_S: Final = 0.01

Row = tuple[Any, ...]


class Database:
    """An open state database; every method may be called from any thread, and raises what `open` does."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()
        self._depth = 0
        self._keeper: RecordKeeper | None = None
        self._record_due = False
        self.refusal: MachineError | None = None
        """Why changes are held in memory only; None as long as they are kept on the disk."""

    @classmethod
    def open(cls, path: Path, *, tolerant: bool = False, anew: bool = False) -> Database:
        """Open the database, making it when there is none.

        Args:
            path: the file; its record is beside it.
            tolerant: open it although the record does not fit; numbers are not changed then, everything else may be.
            anew: make it also where a record says that there was one.

        Raises:
            StoreError: the file is not ours, or of a newer p2pboot.
            MemoryInDoubt: it is damaged or gone, or, unless tolerant, does not fit its record.
            MachineError: it can not be opened or written, or another process holds it too long.
        """
        record = Record(path.parent)
        # In this order: whoever makes both has written the database first.
        if not anew and record.appearance() is not None and is_empty(path):
            raise MemoryInDoubt(Doubt.DATABASE_GONE, path.parent)
        with clear_errors(path):
            connection = sqlite3.connect(
                path,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=64,
            )
        database = cls(path, connection)
        try:
            with clear_errors(path):
                database._prepare()
                database._keep(RecordKeeper(record), tolerant=tolerant)
        except BaseException:
            connection.close()
            raise
        return database

    def _prepare(self) -> None:
        sql = self._connection
        # Before anything is changed: it may be somebody else's file. Read as of one moment: another process may
        # just be making it, and what has a version and tables but not yet our id would look like a stranger's.
        sql.execute("BEGIN")
        try:
            self._check_owner()
        finally:
            sql.execute("ROLLBACK")
        self._use_wal()
        sql.execute("PRAGMA synchronous = FULL")
        sql.execute("PRAGMA foreign_keys = ON")
        verdict = sql.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise _corrupt(self.path, str(verdict).splitlines()[-1])
        self._upgrade()

    def _keep(self, keeper: RecordKeeper, *, tolerant: bool) -> None:
        """From now on the record goes along; it is looked at closely only where the first look finds something."""
        sql = self._connection
        sql.execute("BEGIN")  # all is read as of one moment
        try:
            agrees = keeper.agrees(sql)
        finally:
            sql.execute("ROLLBACK")
        self._keeper = keeper
        if not agrees:
            with self.transaction() as sql:
                self._record_due = keeper.settle(sql)
            if keeper.doubt is not None and not tolerant:
                raise MemoryInDoubt(keeper.doubt, self.path.parent)

    def _upgrade(self) -> None:
        """Take the steps from the file's schema to ours, all of them or none: a commit waits for the disk.

        Two processes may find the same empty or old file at once: inside the transaction the version is asked again.
        """
        with self.transaction() as sql:
            version = self._pragma("user_version")
            if version == SCHEMA_VERSION:
                return
            for step in STEPS[version:] if version else (TABLES,):
                if callable(step):
                    step(sql, self.path.parent)
                    continue
                for statement in step.split(";"):
                    sql.execute(statement)
            sql.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            sql.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _use_wal(self) -> None:
        """Choose the journal; a file system without shared memory keeps SQLite's own: slower, as durable.

        For this SQLite does not wait by itself: of two processes that make the file at once one is turned away.
        """
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
                return
            except sqlite3.OperationalError as error:
                if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(_RETRY_S)

    def _check_owner(self) -> None:
        version = self._pragma("user_version")
        if self._pragma("application_id") != APPLICATION_ID:
            if version or self.row("SELECT 1 FROM sqlite_master LIMIT 1"):
                raise StoreError(
                    f"{self.path} is another program's database", remedy="choose another --state directory"
                )
        elif version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} was written by a newer p2pboot"
                f" (schema {version}, this one knows {SCHEMA_VERSION})",
                remedy="upgrade p2pboot, or choose another --state directory",
            )

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Read and write as one step that nobody comes between; on an exception nothing happened.

        Inside another transaction of the same thread it is a part of that one.

        Raises:
            MemoryInDoubt: it changes what must not be forgotten, and the record does not fit.
        """
        with self._lock, clear_errors(self.path):
            if self._depth == 0:
                self._connection.execute("BEGIN IMMEDIATE")
                self._record_due = False
            self._depth += 1
            try:
                if self._depth == 1 and self._keeper is not None and self._keeper.begin(self._connection):
                    self._connection.execute("COMMIT")
                    self._connection.execute("BEGIN IMMEDIATE")
                    self._keeper.begin(self._connection)
                yield self._connection
                if self._depth == 1:
                    self._commit()
            except BaseException:
                if self._depth == 1 and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._depth -= 1

    def _commit(self) -> None:
        keeper = self._keeper if self._record_due else None
        if keeper is not None:
            keeper.write(self._connection)
        self._connection.execute("COMMIT")
        if keeper is not None:
            keeper.committed()

    def record_change(self) -> None:
        """Within a transaction: it changes what `store.record` keeps."""
        self._record_due = True

    def doubt(self) -> MemoryInDoubt | None:
        """Why no numbers can be changed now; None as long as they can."""
        with self.transaction():
            doubt = None if self._keeper is None else self._keeper.doubt
        return None if doubt is None else MemoryInDoubt(doubt, self.path.parent)

    def memory(self) -> Memory:
        """What this database says that `store.record` keeps."""
        with self.transaction() as sql:
            return Memory.of(sql)

    def resolve(self, other: Memory | None) -> None:
        """Be in doubt no longer: believe what is here, and another memory where that is higher."""
        with self.transaction() as sql:
            if other is not None:
                other.raise_in(sql)
            if self._keeper is not None:
                self._keeper.overrule(sql)
            self.record_change()

    def rows(self, query: str, *values: object) -> list[Row]:
        """All rows of a query."""
        with self._lock, clear_errors(self.path):
            return self._connection.execute(query, values).fetchall()

    def row(self, query: str, *values: object) -> Row | None:
        """The first row of a query, or None."""
        rows = self.rows(query, *values)
        return rows[0] if rows else None

    def close(self) -> None:
        """Close the file; idempotent."""
        with self._lock:
            self._connection.close()


@contextlib.contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Have a person understand what SQLite says of the database at `path`."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(error, path) from error


_REMEDIES: Final = {
    sqlite3.SQLITE_FULL: "free some space or use a directory on another disk",
    sqlite3.SQLITE_BUSY: "end the other p2pboot that uses this --state directory, or wait for it",
    sqlite3.SQLITE_CANTOPEN: "check the directory and its permissions",
    sqlite3.SQLITE_PERM: "check the directory and its permissions",
    sqlite3.SQLITE_READONLY: "change the permissions, or use a directory that can be written",
    sqlite3.SQLITE_IOERR: "check the disk",
}


def primary_code(error: sqlite3.Error) -> int | None:
    """What kind of error it is, a constant of `sqlite3`; None where SQLite does not say."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF  # the low byte of an extended one, sqlite.org/rescode


def _translate(error: sqlite3.Error, path: Path) -> P2PBootError:
    primary = primary_code(error)
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _corrupt(path, str(error))
    return MachineError(
        f"cannot use {path}: {error}", remedy=_REMEDIES.get(primary) if primary is not None else None
    )


def _corrupt(path: Path, detail: str) -> StoreError:
    return MemoryInDoubt(Doubt.DATABASE_DAMAGED, path.parent, detail)


def is_empty(path: Path) -> bool:
    """Whether there is no database, or nothing in it: one that was ever opened has a page."""
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True
    except OSError:
        return False  # opening it says what is wrong
