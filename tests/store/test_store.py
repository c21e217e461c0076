from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2pboot.errors import MachineError, StoreError
from p2pboot.store.locking import DirectoryLock
from p2pboot.store.store import Store


def test_a_new_state_directory_is_private(state: Path) -> None:
    Store.open(state / "deep" / "er").close()
    for path in (state, state / "deep", state / "deep" / "er", state / "deep" / "er" / "blobs"):
        assert path.stat().st_mode & 0o777 == 0o700


def test_opening_clears_what_a_killed_process_left_half_made(state: Path) -> None:
    Store.open(state).close()
    (state / "blobs" / "ab").mkdir()
    leftovers = [
        directory / f".x.p2pboot-{'0' * 16}.tmp"
        for directory in (state, state / "partial", state / "blobs" / "ab")
    ]
    for path in leftovers:
        path.write_bytes(b"half")
    Store.open(state).close()
    assert [path.exists() for path in leftovers] == [False] * 3


def test_a_state_directory_that_is_a_file_is_a_machine_error(state: Path) -> None:
    state.write_bytes(b"")
    with pytest.raises(MachineError, match=f"cannot make the directory {state}"):
        Store.open(state)


def test_a_state_directory_where_nothing_can_be_made_is_a_machine_error() -> None:
    with pytest.raises(MachineError, match="/proc/p2pboot"):
        Store.open(Path("/proc/p2pboot"))


def test_a_damaged_database_is_named_with_a_remedy(state: Path) -> None:
    Store.open(state).close()
    (state / "state.sqlite3").write_bytes(b"\0garbage" * 1000)
    with pytest.raises(StoreError, match=rf"{state}/state\.sqlite3 is damaged") as caught:
        Store.open(state)
    assert caught.value.remedy is not None


def test_only_one_owner_at_a_time_and_it_is_named(state: Path) -> None:
    with Store.open(state) as owner, Store.open(state) as other:
        owner.lock()
        owner.lock()
        with pytest.raises(MachineError, match=f"{state} is in use by process {os.getpid()}") as caught:
            other.lock()
        assert "--state" in str(caught.value.remedy)
    with Store.open(state) as other:
        other.lock()


def test_others_may_read_what_is_owned(state: Path) -> None:
    with Store.open(state) as owner:
        owner.lock()
        with Store.open(state) as reader:
            assert reader.trust.heads_of("stable", "arm64") == ()


def test_the_lock_of_a_killed_owner_is_free_at_once(state: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from p2pboot.store.store import Store\n"
        "store = Store.open(Path(sys.argv[1])); store.lock(); print('locked', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "locked\n"
        with Store.open(state) as store:
            with pytest.raises(MachineError, match=f"process {owner.pid}"):
                store.lock()
            owner.kill()
            owner.wait()
            store.lock()


def test_a_lock_file_without_a_process_id_still_locks(tmp_path: Path) -> None:
    with DirectoryLock.take(tmp_path):
        (tmp_path / "lock").write_bytes(b"")
        with pytest.raises(MachineError, match="in use by another process"):
            DirectoryLock.take(tmp_path)
    DirectoryLock.take(tmp_path).release()


def test_closing_twice_is_no_error(state: Path) -> None:
    store = Store.open(state)
    store.lock()
    store.close()
    store.close()
