"""What a state remembers is said twice, and a state that lost one of the two says so."""

from __future__ import annotations

import logging
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pboot.errors import MachineError
from p2pboot.store import record as record_module
from p2pboot.store.database import Database
from p2pboot.store.errors import Doubt, MemoryInDoubt
from p2pboot.store.filenames import DATABASE_NAME, RECORD_NAME
from p2pboot.store.record import Entry, Memory, Record
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import sample
from p2pboot.testing.manifests import ALICE, BOB
from p2pboot.testing.stores import hold
from tests.permissions import permissions_applied
from tests.store.samples import manifest

A = ALICE.public.keyid
SERIES = ((A,), "stable", "arm64")


def publish(store: Store, number: int) -> None:
    made = manifest(number)
    store.publications.record(
        made.raw, signers=(A,), channel="stable", arch="arm64", manifest_version=number, digest=made.digest
    )


def remembered(store: Store) -> tuple[int, list[int]]:
    heads = store.trust.heads_of("stable", "arm64")
    return store.publications.counter(*SERIES), [head.manifest_version for head in heads]


@pytest.fixture
def used(state: Path) -> Path:
    """A state with which versions were published and accepted, and that nobody has open."""
    with Store.open(state) as store:
        for number in (1, 2):
            publish(store, number)
        store.trust.accept(manifest(5))
    return state


def doubt_of(state: Path) -> Doubt | None:
    try:
        Store.open(state).close()
    except MemoryInDoubt as error:
        return error.doubt
    return None


def contents(state: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in state.iterdir() if path.is_file()}


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def spoil_pages(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[4096:] = b"\xa5" * (len(raw) - 4096)
    path.write_bytes(raw)


DAMAGES: dict[str, tuple[Callable[[Path], object], Doubt]] = {
    "database cut to nothing": (lambda state: cut(state / DATABASE_NAME, 0), Doubt.DATABASE_GONE),
    "database deleted": (lambda state: (state / DATABASE_NAME).unlink(), Doubt.DATABASE_GONE),
    "database cut short": (lambda state: cut(state / DATABASE_NAME, 5000), Doubt.DATABASE_DAMAGED),
    "database overwritten": (lambda state: spoil_pages(state / DATABASE_NAME), Doubt.DATABASE_DAMAGED),
    "record deleted": (lambda state: (state / RECORD_NAME).unlink(), Doubt.RECORD_GONE),
    "record cut to nothing": (lambda state: cut(state / RECORD_NAME, 0), Doubt.RECORD_DAMAGED),
    "record cut in its first line": (lambda state: cut(state / RECORD_NAME, 100), Doubt.RECORD_DAMAGED),
    "record cut by a line and more": (lambda state: cut(state / RECORD_NAME, -10), Doubt.RECORD_OLD),
    "record of zeros": (lambda state: (state / RECORD_NAME).write_bytes(bytes(500)), Doubt.RECORD_DAMAGED),
    "record of another form": (
        lambda state: (state / RECORD_NAME).write_bytes(Entry("x", 3, Memory()).line()),
        Doubt.APART,
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_was_lost_is_named_and_nothing_is_changed(used: Path, name: str) -> None:
    damage, expected = DAMAGES[name]
    damage(used)
    before = contents(used)
    with pytest.raises(MemoryInDoubt, match=re.escape(str(used))) as caught:
        Store.open(used)
    assert caught.value.doubt is expected
    assert f"p2pboot state recover --state {used}" in str(caught.value.remedy)
    assert contents(used) == before


def test_a_record_of_a_newer_program_is_left_alone(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(record_module, "SPEC", "p2pboot-record/2")
        line = Entry("x", 9, Memory()).line()
    (used / RECORD_NAME).write_bytes(line)
    assert doubt_of(used) is Doubt.RECORD_NEWER
    assert (used / RECORD_NAME).read_bytes() == line


@pytest.mark.parametrize("behind", [1, 2])
def test_a_database_one_step_behind_is_caught_up_and_one_further_behind_is_named(
    used: Path, behind: int
) -> None:
    """A process that is killed between record and commit leaves the first, an old backup the second."""
    backup = used.parent / "backup"
    shutil.copyfile(used / DATABASE_NAME, backup)
    with Store.open(used) as store:
        for number in range(3, 3 + behind):
            publish(store, number)
    shutil.copyfile(backup, used / DATABASE_NAME)
    assert doubt_of(used) is (None if behind == 1 else Doubt.DATABASE_OLD)
    if behind == 1:
        with Store.open(used) as store:
            assert remembered(store) == (3, [5])
            publish(store, 4)
        assert doubt_of(used) is None


def test_catching_up_lets_go_of_what_was_let_go(used: Path) -> None:
    backup = used.parent / "backup"
    shutil.copyfile(used / DATABASE_NAME, backup)
    with Store.open(used) as store:
        store.trust.accept(manifest(6, keys=(ALICE, BOB)))
    shutil.copyfile(backup, used / DATABASE_NAME)
    with Store.open(used) as store:
        assert remembered(store) == (2, [6])
    assert doubt_of(used) is None


def test_a_commit_that_fails_after_the_record_burns_a_number_and_no_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, 1)
    write = record_module.RecordKeeper.write

    def fail_after(keeper: record_module.RecordKeeper, sql: object) -> None:
        write(keeper, sql)  # type: ignore[arg-type]
        raise MachineError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(record_module.RecordKeeper, "write", fail_after)
        with pytest.raises(MachineError, match="full"):
            publish(store, 2)
    assert store.publications.counter(*SERIES) == 1
    publish(store, 3)
    assert store.doubt() is None
    assert doubt_of(store.path) is None


def test_a_record_that_can_not_be_written_lets_nothing_be_committed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    publish(store, 1)
    for room in (record_module._ROOM, 0):  # a line is appended, or the file is replaced
        with monkeypatch.context() as patch:
            patch.setattr(record_module, "_ROOM", room)
            for module in ("record", "durable"):
                patch.setattr(f"p2pboot.store.{module}.write_at", fail)
            with pytest.raises(MachineError, match=r"write .*record.*No space left"):
                publish(store, 2)
            with pytest.raises(MachineError, match="No space left"):
                store.trust.accept(manifest(1))
    assert remembered(store) == (1, [])
    publish(store, 2)
    assert doubt_of(store.path) is None


def test_a_line_that_was_half_written_is_written_over(used: Path) -> None:
    with (used / RECORD_NAME).open("ab") as file:
        file.write(b"0123456789abcdef")
    with Store.open(used) as store:
        publish(store, 3)
    assert doubt_of(used) is None


def test_a_record_does_not_grow_for_ever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_module, "_ROOM", 2000)
    sizes = []
    for number in range(1, 12):
        publish(store, number)
        sizes.append((store.path / RECORD_NAME).stat().st_size)
    assert max(sizes) < 2000 + sizes[0] + 10
    assert sizes != sorted(sizes)


def test_only_what_must_not_be_forgotten_is_said_twice(store: Store) -> None:
    publish(store, 1)
    store.trust.accept(manifest(1))
    before = (store.path / RECORD_NAME).read_bytes()
    publish(store, 1)
    store.trust.accept(manifest(1))
    store.publications.raise_counter((A,), "stable", "arm64", 1)
    store.manifests.put(manifest(2), None)
    assert (store.path / RECORD_NAME).read_bytes() == before
    store.publications.raise_counter((A,), "stable", "arm64", 7)
    entry = Record(store.path).read()
    assert entry is not None
    assert [row[-1] for row in entry.memory.published] == [7]


def test_a_state_of_an_earlier_version_gets_its_record_when_it_is_opened(used: Path) -> None:
    (used / RECORD_NAME).unlink()
    database = Database.open(used / DATABASE_NAME, tolerant=True)
    with database.transaction() as sql:
        sql.execute("UPDATE record SET serial = 0")  # as the upgrade leaves it
    database.close()
    assert doubt_of(used) is None
    entry = Record(used).read()
    assert entry is not None
    assert [row[-1] for row in entry.memory.published] == [2]


def test_a_new_state_has_no_record_and_needs_none(state: Path) -> None:
    for _ in range(2):
        Store.open(state).close()
    assert not (state / RECORD_NAME).exists()


def test_artifacts_without_any_memory_are_spoken_of(used: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Store.open(used) as store:
        one = sample(10, seed=1)
        hold(store, one.artifact, one.data)
    for name in (DATABASE_NAME, RECORD_NAME):
        (used / name).unlink()
    with caplog.at_level(logging.WARNING):
        assert doubt_of(used) is None
    assert "holds artifacts and remembers nothing" in caplog.text
    caplog.clear()
    Store.open(used).close()
    assert not caplog.records


def test_a_running_process_goes_on_with_all_but_numbers(used: Path) -> None:
    with Store.open(used) as store:
        kept = (used / RECORD_NAME).rename(used / "elsewhere")
        assert store.trust.accept(manifest(5))  # nothing new
        store.manifests.put(manifest(5), None)
        for change in (lambda: publish(store, 3), lambda: store.trust.accept(manifest(6))):
            with pytest.raises(MemoryInDoubt, match="record is gone"):
                change()
        doubt = store.doubt()
        assert doubt is not None
        assert doubt.doubt is Doubt.RECORD_GONE
        kept.rename(used / RECORD_NAME)
        publish(store, 3)
        assert store.doubt() is None


@pytest.mark.parametrize(
    "name", ["record deleted", "record cut by a line and more", "record of another form"]
)
def test_a_state_in_doubt_can_be_read_by_who_wants_to(used: Path, name: str) -> None:
    DAMAGES[name][0](used)
    with Store.open(used, tolerant=True) as store:
        assert remembered(store) == (2, [5])
        with pytest.raises(MemoryInDoubt):
            publish(store, 3)
    assert doubt_of(used) is DAMAGES[name][1]


def test_what_can_only_be_read_needs_no_record_to_be_written(used: Path) -> None:
    """As a snapshot directory of somebody else."""
    (used / RECORD_NAME).unlink()
    used.chmod(0o500)
    (used / DATABASE_NAME).chmod(0o400)
    try:
        with permissions_applied(), Store.of_snapshots(used) as store:
            assert remembered(store) == (2, [5])
            publish(store, 3)  # in memory
            assert store.doubt() is None
    finally:
        used.chmod(0o700)
    assert not (used / RECORD_NAME).exists()


def test_processes_that_change_one_state_leave_both_alike(state: Path) -> None:
    stores = [Store.open(state) for _ in range(3)]  # a connection each, as processes have
    failures: list[BaseException] = []

    def work(number: int, store: Store) -> None:
        try:
            for step in range(1, 8):
                store.publications.raise_counter((A,), f"channel{number}", "arm64", step)
                store.trust.accept(manifest(step * 3 + number))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    assert failures == []
    assert doubt_of(state) is None
    with Store.open(state) as store:
        assert remembered(store)[1] == [23]


class FullDisk:
    """A connection whose commits the disk does not take, for as long as it is full."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.is_full = True

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if self.is_full and statement == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(statement, *values)

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


def test_a_disk_that_takes_no_commit_for_a_while_leaves_nothing_in_doubt(used: Path) -> None:
    with Store.open(used) as store:
        whole = store._database._connection
        disk = FullDisk(whole)
        store._database._connection = disk  # type: ignore[assignment]
        for number in (6, 7, 8):  # the record takes the first, and is one step ahead from then on
            with pytest.raises(MachineError):
                store.trust.accept(manifest(number))
        disk.is_full = False
        assert store.doubt() is None
        store.trust.accept(manifest(9))
        store._database._connection = whole
    assert doubt_of(used) is None
    with Store.open(used) as store:
        assert remembered(store)[1] == [9]
