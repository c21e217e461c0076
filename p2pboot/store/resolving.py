"""How an operator says what a state in doubt goes on with: `p2pboot state recover --trust-record` and the like.

Looking changes nothing. Nothing is removed: what is not believed is set aside under another name. A process that is
killed at it leaves the state in doubt, and the same command completes it.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import UsageError, machine_error
from p2pboot.store.database import Database, is_empty
from p2pboot.store.durable import fsync_directory
from p2pboot.store.errors import Doubt, MemoryInDoubt
from p2pboot.store.filenames import DATABASE_FILES, DATABASE_NAME, MEMORY_FILES, RECORD_NAME
from p2pboot.store.locking import DirectoryLock
from p2pboot.store.ownership import check_files, opened_state
from p2pboot.store.record import Memory, Record

_UNREADABLE: Final = frozenset({Doubt.DATABASE_GONE, Doubt.DATABASE_DAMAGED})


class Way(enum.StrEnum):
    """How to go on; the value is the option that says so, without its dashes."""

    TRUST_RECORD = "trust-record"
    TRUST_DATABASE = "trust-database"
    START_OVER = "start-over"


EFFECTS: Final = {
    Way.TRUST_RECORD: "nothing goes below what either of the two says",
    Way.TRUST_DATABASE: "what only the record says is forgotten",
    Way.START_OVER: "everything is forgotten: numbers begin at 1, and any version is accepted",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One number that database and record do not agree on; None where one of them has none.

    `kind` is "accepted", "published", "announced" or "root"; `subject` a channel and arch, "snapshots", or a fleet.
    """

    kind: str
    subject: str
    signers: str
    database: int | None
    record: int | None


@dataclass(frozen=True, slots=True)
class InDoubt:
    """A state in doubt, and what each of the two says.

    Args:
        doubt: why.
        database: None where it can not be read.
        record: likewise.
    """

    doubt: MemoryInDoubt
    database: Memory | None
    record: Memory | None

    def ways(self) -> tuple[Way, ...]:
        """How it can go on."""
        possible = {
            Way.TRUST_RECORD: self.record is not None,
            Way.TRUST_DATABASE: self.database is not None,
            Way.START_OVER: True,
        }
        return tuple(way for way, is_possible in possible.items() if is_possible)

    def differences(self) -> tuple[Difference, ...]:
        """Where the two do not agree, sorted."""
        database, record = _numbers(self.database), _numbers(self.record)
        return tuple(
            Difference(*key, database.get(key), record.get(key))
            for key in sorted(database.keys() | record.keys())
            if database.get(key) != record.get(key)
        )


def find_doubt(path: Path) -> InDoubt | None:
    """Look whether a state directory is in doubt.

    Raises:
        StoreError, MachineError: as :meth:`Store.open`.
    """
    record = Record(path)
    if record.appearance() is None and is_empty(path / DATABASE_NAME):
        return None
    try:
        with opened_state(path) as directory:
            check_files(MEMORY_FILES, directory, path)
            Database.open(path / DATABASE_NAME).close()
    except MemoryInDoubt as error:
        return InDoubt(error, None if error.doubt in _UNREADABLE else _of_database(path), _of_record(record))
    return None


def go_on(path: Path, found: InDoubt, way: Way) -> None:
    """Let a state be in doubt no longer; blocking.

    Args:
        path: the directory, which no running node may use.
        found: as `find_doubt` found it.
        way: what the operator says.

    Raises:
        UsageError: what is to be believed can not be read.
        MachineError: the disk, or a running node has the directory.
    """
    if way not in found.ways():
        which = RECORD_NAME if way is Way.TRUST_RECORD else DATABASE_NAME
        others = " or ".join(f"--{one}" for one in found.ways())
        raise UsageError(
            f"{path / which} can not be read, so it can not be believed", remedy=f"give {others}"
        )
    with DirectoryLock.take(path):
        if way is Way.START_OVER:
            _set_aside(path, (RECORD_NAME,))  # first: a database that had a record is in doubt without it
            _set_aside(path, DATABASE_FILES)
            return
        if found.database is None:
            _set_aside(path, DATABASE_FILES)
        with contextlib.closing(Database.open(path / DATABASE_NAME, tolerant=True, anew=True)) as database:
            database.resolve(found.record if way is Way.TRUST_RECORD else None)


def _of_database(path: Path) -> Memory:
    with contextlib.closing(Database.open(path / DATABASE_NAME, tolerant=True)) as database:
        return database.memory()


def _of_record(record: Record) -> Memory | None:
    try:
        entry = record.read()
    except MemoryInDoubt:
        return None
    return None if entry is None else entry.memory


def _numbers(memory: Memory | None) -> dict[tuple[str, str, str], int]:
    return {} if memory is None else dict(_rows(memory))


def _rows(memory: Memory) -> Iterator[tuple[tuple[str, str, str], int]]:
    for signers, channel, arch, version, _digest in memory.accepted:
        yield ("accepted", f"{channel}/{arch}", signers), version
    for signers, channel, arch, counter in memory.published:
        yield ("published", f"{channel}/{arch}", signers), counter
    for signer, sequence in memory.announced:
        yield ("announced", "snapshots", signer), sequence
    for fleet, version, _digest in memory.roots:
        yield ("root", f"fleet {fleet}", ""), version


def _set_aside(path: Path, names: tuple[str, ...]) -> None:
    """Give files names under which nothing is looked for."""
    there = [name for name in names if os.path.lexists(path / name)]
    number = next(
        one for one in itertools.count(1) if not any(map(os.path.lexists, _aside(path, there, one).values()))
    )
    try:
        for name, other in _aside(path, there, number).items():
            (path / name).rename(other)
        fsync_directory(path)
    except OSError as error:
        raise machine_error(error, f"set {path / names[0]} aside") from error


def _aside(path: Path, names: list[str], number: int) -> dict[str, Path]:
    return {name: path / f"{name}.aside-{number}" for name in names}
