"""The second record of what must not be forgotten: numbers published, versions accepted and in force, sequences.

The database alone can not tell that it was cut to nothing, or put back from an old backup: it would begin again at 1
without a word. So a file beside it, the *record*, says the same in few words, and both count how often they were
changed (the *serial*). A change is in the record, on the disk, before the database commits it. So of two that are sound

- equal serials mean that nothing is lost,
- a database one step behind means that a process was killed between the two: it is caught up silently, since a number
  that was claimed may have been seen,
- everything else means that one of the two is not what was left here. Then numbers are neither given out nor accepted
  until an operator says how to go on (`store.resolving`, `p2pboot state recover`).

A record is a file of lines, of which the last whole one counts: SHA-256 (hex), a space, JSON. Lines are appended, which
costs one sync; when the file has grown it is replaced.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.jsonform import MAX_INTEGER, decode_note
from p2pboot.errors import machine_error
from p2pboot.store.durable import write_at, write_file
from p2pboot.store.errors import Doubt, MemoryInDoubt
from p2pboot.store.filenames import RECORD_NAME

SPEC: Final = "p2pboot-record/1"
_KINDS: Final = ("accepted", "published", "announced", "roots")  # as in `Memory`
MAX_RECORD: Final = 64 << 20  # far above what the bounds of accepted heads allow: a larger file is not ours
_ROOM: Final = 64 << 10  # bytes of earlier lines that are left standing
_NOT_A_FILE: Final = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO})


@dataclass(frozen=True, slots=True)
class Memory:
    """What must not be forgotten, as sorted rows.

    Args:
        accepted: signers (key ids, joined by commas), channel, arch, version, digest.
        published: signers, channel, arch, highest number used.
        announced: signer, highest sequence.
        roots: fleet (the digest of its root's version 1), highest version that was in force, its digest.
    """

    accepted: tuple[tuple[str, str, str, int, str], ...] = ()
    published: tuple[tuple[str, str, str, int], ...] = ()
    announced: tuple[tuple[str, int], ...] = ()
    roots: tuple[tuple[str, int, str], ...] = ()

    @classmethod
    def of(cls, sql: sqlite3.Connection) -> Memory:
        """What a database remembers."""
        return cls(
            tuple(
                sql.execute(
                    "SELECT signers, channel, arch, manifest_version, digest FROM accepted_heads"
                    " ORDER BY signers, channel, arch"
                )
            ),
            tuple(
                sql.execute(
                    "SELECT signers, channel, arch, counter FROM publications ORDER BY signers, channel, arch"
                )
            ),
            tuple(sql.execute("SELECT signer, sequence FROM announced ORDER BY signer")),
            tuple(sql.execute("SELECT fleet, version, digest FROM root_memory ORDER BY fleet")),
        )

    def __bool__(self) -> bool:
        return bool(self.accepted or self.published or self.announced or self.roots)

    def restore(self, sql: sqlite3.Connection) -> None:
        """Make a database remember exactly this."""
        kept = {row[:3] for row in self.accepted}
        for row in Memory.of(sql).accepted:
            if row[:3] not in kept:
                sql.execute(
                    "DELETE FROM accepted_heads WHERE signers = ? AND channel = ? AND arch = ?", row[:3]
                )
        sql.execute("DELETE FROM root_memory")
        self.raise_in(sql)

    def raise_in(self, sql: sqlite3.Connection) -> None:
        """Have a database remember this, and what it remembers itself where that is higher."""
        sql.executemany(
            "INSERT INTO accepted_heads VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET manifest_version = excluded.manifest_version, digest = excluded.digest"
            " WHERE excluded.manifest_version > manifest_version",
            self.accepted,
        )
        sql.executemany(
            "INSERT INTO publications VALUES (?, ?, ?, ?, NULL, NULL) ON CONFLICT DO UPDATE"
            # No content that is known here has this number: nothing may be recorded under it.
            " SET counter = excluded.counter, digest = NULL WHERE excluded.counter > counter",
            self.published,
        )
        sql.executemany(
            "INSERT INTO announced VALUES (?, ?) ON CONFLICT DO UPDATE SET sequence = excluded.sequence"
            " WHERE excluded.sequence > sequence",
            self.announced,
        )
        sql.executemany(
            "INSERT INTO root_memory VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
            " SET version = excluded.version, digest = excluded.digest WHERE excluded.version > version",
            self.roots,
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a record.

    Args:
        state: which state it belongs to: 16 hex digits made with its database.
        serial: how often its memory was changed, this time included.
        memory: what is remembered since.
    """

    state: str
    serial: int
    memory: Memory

    def line(self) -> bytes:
        """The bytes to append."""
        memory = self.memory
        said = {
            "spec": SPEC,
            "state": self.state,
            "serial": self.serial,
            "accepted": memory.accepted,
            "published": memory.published,
            "announced": memory.announced,
            **({"roots": memory.roots} if memory.roots else {}),  # else as it was before there were any
        }
        text = json.dumps(said, separators=(",", ":")).encode()
        return b"%s %s\n" % (hashlib.sha256(text).hexdigest().encode(), text)

    @classmethod
    def parse(cls, line: bytes) -> Entry | None:
        """Read a line without its end; None where it is not what was written.

        Raises:
            NewerRecord: a newer p2pboot wrote it.
        """
        checksum, _, text = line.partition(b" ")
        if hashlib.sha256(text).hexdigest().encode() != checksum:
            return None
        try:
            said = decode_note(text)
            if said["spec"] != SPEC:
                raise NewerRecord
            said.setdefault("roots", [])  # of a version that knew none
            memory = Memory(*(_rows(said[name]) for name in _KINDS))
            return cls(str(said["state"]), _number(said["serial"]), memory)
        except (ValueError, KeyError, TypeError):
            return None


class NewerRecord(Exception):
    """A record in a form that is not known here."""


def _rows(value: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(tuple(one if isinstance(one, str) else _number(one) for one in row) for row in value)


def _number(value: object) -> int:
    """A count, as SQLite takes it too."""
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise ValueError(f"{value!r:.20} is no count")
    return value


class Record:
    """The file beside a database; any method may raise MachineError.

    Args:
        directory: of the state.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / RECORD_NAME

    def appearance(self) -> object:
        """Which file it is and what it looks like; None where there is none."""
        try:
            status = os.lstat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def read(self) -> Entry | None:
        """The entry that counts; None where there is no record.

        Raises:
            MemoryInDoubt: no line is whole, or a newer p2pboot wrote it.
        """
        raw = self._bytes()
        if raw is None:
            return None
        for line in reversed(raw.split(b"\n")[:-1]):  # after the last end of a line: of a killed process
            try:
                entry = Entry.parse(line)
            except NewerRecord:
                raise MemoryInDoubt(Doubt.RECORD_NEWER, self.path.parent) from None
            if entry is not None:
                return entry
        raise MemoryInDoubt(Doubt.RECORD_DAMAGED, self.path.parent)

    def write(self, entry: Entry, *, alone: bool = False) -> None:
        """Have an entry on the disk; nothing else changes if that fails.

        Args:
            entry: counts from now on.
            alone: earlier lines do not stay.
        """
        line = entry.line()
        try:
            if not alone and self._append(line):
                return
        except OSError as error:
            raise machine_error(error, f"write {self.path}") from error
        write_file(self.path, line)

    def _append(self, line: bytes) -> bool:
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            size = os.fstat(fd).st_size
            if not 0 < size <= _ROOM or os.pread(fd, 1, size - 1) != b"\n":
                return False
            write_at(fd, line, size)
            os.fdatasync(fd)
        finally:
            os.close(fd)
        return True

    def _bytes(self) -> bytes | None:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in _NOT_A_FILE:
                return b""
            raise machine_error(error, f"read {self.path}") from error
        try:
            with os.fdopen(fd, "rb") as file:
                raw = file.read(MAX_RECORD + 1)
        except IsADirectoryError:
            return b""
        except OSError as error:
            raise machine_error(error, f"read {self.path}") from error
        return raw if len(raw) <= MAX_RECORD else b""


class RecordKeeper:
    """Keeps a database and its record together: for one connection, within whose transactions everything happens.

    Args:
        record: beside the database.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._seen: object = object()  # what the record looked like when it was compared last
        self._written: object = None
        self._alone = False
        self.doubt: Doubt | None = None

    def begin(self, sql: sqlite3.Connection) -> bool:
        """At the start of a transaction that may write: catch up, or find out what is in doubt.

        Returns:
            Whether the database was caught up. That is to be committed alone, and this called again: together with
            a further change, one that the disk does not take would leave the record two steps ahead.
        """
        appearance = self._record.appearance()
        if appearance == self._seen:
            return False
        serial, _ = _own(sql)
        self.doubt = self._compare(sql)
        if _own(sql)[0] != serial:
            return True
        self._seen = appearance
        return False

    def write(self, sql: sqlite3.Connection) -> None:
        """Before the commit of a change that must not be forgotten.

        Raises:
            MemoryInDoubt: the two do not fit, and nobody has said how to go on.
        """
        if self.doubt is not None:
            raise MemoryInDoubt(self.doubt, self._record.path.parent)
        serial, state = _own(sql)
        self._record.write(Entry(state, serial + 1, Memory.of(sql)), alone=self._alone)
        self._alone = False
        sql.execute("UPDATE record SET serial = ?", (serial + 1,))
        self._written = self._record.appearance()

    def overrule(self, sql: sqlite3.Connection) -> None:
        """Somebody has said how to go on: what is written next counts, whatever the record says now."""
        with contextlib.suppress(MemoryInDoubt):
            entry = self._record.read()
            if entry is not None:
                sql.execute("UPDATE record SET serial = max(serial, ?)", (entry.serial,))
        self.doubt, self._alone = None, True

    def committed(self) -> None:
        """What `write` wrote is in force."""
        self._seen = self._written

    def agrees(self, sql: sqlite3.Connection) -> bool:
        """Whether both say the very same now; another process may just be changing them."""
        appearance = self._record.appearance()
        try:
            entry = self._record.read()
        except MemoryInDoubt:
            return False
        serial, state = _own(sql)
        memory = Memory.of(sql)
        agrees = not serial and not memory if entry is None else entry == Entry(state, serial, memory)
        if agrees:
            self._seen = appearance
        return agrees

    def settle(self, sql: sqlite3.Connection) -> bool:
        """In a transaction that has begun: look closely; whether the first record is still to be written."""
        if self.doubt is not None:
            return False
        entry, memory = self._record.read(), Memory.of(sql)
        if entry is not None and entry.memory != memory:
            self.doubt = Doubt.DIFFERENT
        return entry is None and bool(memory)

    def _compare(self, sql: sqlite3.Connection) -> Doubt | None:
        serial, state = _own(sql)
        try:
            entry = self._record.read()
        except MemoryInDoubt as error:
            return error.doubt
        if entry is None:
            return None if serial == 0 else Doubt.RECORD_GONE
        if entry.state != state:
            return Doubt.APART
        if entry.serial == serial + 1:
            entry.memory.restore(sql)
            sql.execute("UPDATE record SET serial = ?", (entry.serial,))
        elif entry.serial > serial:
            return Doubt.DATABASE_OLD
        elif entry.serial < serial:
            return Doubt.RECORD_OLD
        return None


def _own(sql: sqlite3.Connection) -> tuple[int, str]:
    serial, state = sql.execute("SELECT serial, state FROM record").fetchone()
    return serial, state
