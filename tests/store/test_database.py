from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2pboot.errors import MachineError, StoreError
from p2pboot.store import database as database_module
from p2pboot.store.database import Database
from p2pboot.store.schema import SCHEMA_VERSION


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite3"


@pytest.fixture(autouse=True)
def _closed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A connection that is left open warns, and warnings are errors."""
    connections: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def noting_connect(*values: Any, **options: Any) -> sqlite3.Connection:
        connections.append(connect(*values, **options))
        return connections[-1]

    monkeypatch.setattr(sqlite3, "connect", noting_connect)
    yield
    for connection in connections:
        connection.close()


def test_what_was_committed_is_there_when_opened_again(path: Path) -> None:
    database = Database.open(path)
    with database.transaction() as sql:
        sql.execute("INSERT INTO accepted_times VALUES ('', '', '', 5)")
    database.close()
    assert Database.open(path).row("SELECT newest_created_at FROM accepted_times") == (5,)


def test_commits_are_synced_and_logged_ahead(path: Path) -> None:
    database = Database.open(path)
    assert database.row("PRAGMA journal_mode") == ("wal",)
    assert database.row("PRAGMA synchronous") == (2,)  # FULL


def test_an_exception_undoes_the_whole_transaction_and_inner_ones(path: Path) -> None:
    database = Database.open(path)

    def fail_late() -> None:
        with database.transaction() as sql:
            with database.transaction():
                sql.execute("INSERT INTO accepted_times VALUES ('', '', '', 5)")
            raise KeyError

    with pytest.raises(KeyError):
        fail_late()
    assert database.row("SELECT * FROM accepted_times") is None
    with database.transaction() as sql:
        sql.execute("INSERT INTO accepted_times VALUES ('', '', '', 6)")
    assert database.row("SELECT newest_created_at FROM accepted_times") == (6,)


def test_threads_do_not_come_between_a_read_and_its_write(path: Path) -> None:
    database = Database.open(path)

    def count_up() -> None:
        for _ in range(10):
            with database.transaction() as sql:
                row = sql.execute("SELECT newest_created_at FROM accepted_times").fetchone()
                sql.execute(
                    "INSERT OR REPLACE INTO accepted_times VALUES ('', '', '', ?)", ((row or (0,))[0] + 1,)
                )

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.row("SELECT newest_created_at FROM accepted_times") == (40,)


def open_and_count(path: Path) -> None:
    database = Database.open(path)
    with database.transaction() as sql:
        sql.execute(
            "INSERT INTO accepted_times VALUES ('', '', '', 1)"
            " ON CONFLICT DO UPDATE SET newest_created_at = newest_created_at + 1"
        )
    database.close()


def test_processes_that_open_a_new_database_at_once_all_succeed(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=open_and_count, args=(path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert Database.open(path).row("SELECT newest_created_at FROM accepted_times") == (4,)


def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    Database.open(path).close()
    sqlite3.connect(path).execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    words = rf"newer p2pboot \(schema {SCHEMA_VERSION + 1}, this one knows {SCHEMA_VERSION}\)"
    with pytest.raises(StoreError, match=words) as caught:
        Database.open(path)
    assert caught.value.remedy is not None
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    sqlite3.connect(path).execute("CREATE TABLE bookmarks(url)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program's database"):
        Database.open(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_a_clear_error(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be looked at " * 20)
    with pytest.raises(StoreError, match=r"state\.sqlite3 is damaged") as caught:
        Database.open(path)
    assert "state recover" in str(caught.value.remedy)


def test_damaged_pages_are_noticed_when_opening(path: Path) -> None:
    database = Database.open(path)
    with database.transaction() as sql:
        sql.executemany(
            "INSERT INTO tables VALUES (?, '', 1, 1, ?)", [(str(i), bytes(500)) for i in range(100)]
        )
    database.close()
    raw = bytearray(path.read_bytes())
    raw[-20_000:-4_000] = b"\xa5" * 16_000
    path.write_bytes(raw)
    with pytest.raises(StoreError, match="damaged"):
        Database.open(path)


def test_a_path_that_can_not_be_opened_is_a_machine_error(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="unable to open") as caught:
        Database.open(tmp_path)
    assert caught.value.remedy is not None


def test_a_full_disk_is_a_machine_error_and_nothing_is_half_written(path: Path) -> None:
    database = Database.open(path)
    (pages,) = database.row("PRAGMA page_count") or (0,)
    database.row(f"PRAGMA max_page_count = {pages}")  # SQLite's own way to a full disk

    def write_too_much() -> None:
        with database.transaction() as sql:
            sql.execute("INSERT INTO accepted_times VALUES ('', '', '', 5)")
            sql.execute("INSERT INTO tables VALUES ('a', '', 1, 1, zeroblob(1000000))")

    with pytest.raises(MachineError, match="full") as caught:
        write_too_much()
    assert "free some space" in str(caught.value.remedy)
    assert database.row("SELECT * FROM accepted_times") is None


def test_a_transaction_excludes_others_before_it_reads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Database.open(path)
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.0)
    second = Database.open(path)

    def read_then_write() -> None:
        with second.transaction() as sql:
            sql.execute("SELECT * FROM accepted_times").fetchone()
            pytest.fail("it read what the other one is about to change")

    with first.transaction(), pytest.raises(MachineError, match="locked"):
        read_then_write()


def test_a_database_that_another_holds_is_a_machine_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Database.open(path).close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.0)
    with pytest.raises(MachineError, match="locked") as caught:
        Database.open(path)
    assert "other p2pboot" in str(caught.value.remedy)
    holder.close()
