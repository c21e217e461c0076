"""What a machine has for it: the state directory, the disk below it, and watches."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from p2pboot.doctor import inotify
from p2pboot.doctor.disk import Disk, judge_room, judge_state, look_at_disk
from p2pboot.doctor.findings import Code, State
from p2pboot.doctor.inotify import Watched, judge_watching, try_watching
from p2pboot.doctor.patient import Patient
from p2pboot.errors import MachineError
from p2pboot.store.store import Store
from p2pboot.transport.interface import Transport
from tests.doctor.patients import patient, short
from tests.fetch.world import manifest_of
from tests.permissions import permissions_applied

OLD_STATE = Path(__file__).parents[1] / "store/states/schema5.sqlite3"


def of_state(path: Path | None, **attributes: Any) -> Patient:
    return patient(cast(Transport, None), state=path, **attributes)


def test_a_state_that_is_not_there_yet_can_be_made(state: Path) -> None:
    disk = look_at_disk(of_state(state / "deep" / "down"))
    assert short(judge_state(disk)) == [(Code.STATE, State.OK)]
    assert disk is not None
    assert disk.free is not None
    assert not state.exists()


def test_a_state_that_is_there_is_looked_at_and_stays_as_it_is(state: Path) -> None:
    Store.open(state, quota_bytes=None).close()
    before = {path: path.read_bytes() for path in state.iterdir() if path.is_file()}
    disk = look_at_disk(of_state(state, said={"store.quota": 10_000_000}))
    assert disk is not None
    assert (disk.error, disk.doubt, disk.no_room, disk.limit) == (None, None, None, 10_000_000)
    assert {path: path.read_bytes() for path in before} == before
    (finding,) = judge_state(disk, running=77)
    assert "process 77" in finding.text


def test_a_state_of_an_earlier_version_is_not_brought_up_to_date(state: Path) -> None:
    state.mkdir(mode=0o700)
    old = OLD_STATE.read_bytes()
    (state / "state.sqlite3").write_bytes(old)
    one = of_state(state)
    with one.memory() as store:
        assert store is not None
        assert store.peers_of(None).load() == []
    (finding,) = judge_state(look_at_disk(one))
    assert (finding.code, finding.state) == (Code.STATE, State.OK)
    assert "an earlier p2pboot's" in finding.text
    assert (state / "state.sqlite3").read_bytes() == old


def test_a_state_in_doubt_is_named(state: Path) -> None:
    Store.open(state).close()
    (state / "state.sqlite3").write_bytes(b"")
    (state / "record").write_bytes(b"x")
    found = judge_state(look_at_disk(of_state(state)))
    assert [finding.state for finding in found] == [State.FAILED]


def test_who_may_not_write_is_told(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with permissions_applied():
        found = judge_state(look_at_disk(of_state(closed / "state")))
    assert short(found) == [(Code.STATE_UNUSABLE, State.FAILED)]
    assert found[0].remedy is not None


def test_a_place_that_nobody_named_is_no_failure(state: Path) -> None:
    nobodys = Disk(state, is_named=False, exists=False, error=MachineError("no permission"))
    assert short(judge_state(nobodys)) == [(Code.NO_STATE, State.WARNING)]
    assert short(judge_state(replace(nobodys, is_named=True))) == [(Code.STATE_UNUSABLE, State.FAILED)]
    assert short(judge_state(replace(nobodys, exists=True))) == [(Code.STATE_UNUSABLE, State.FAILED)]


def test_what_others_may_write_is_not_used(state: Path) -> None:
    state.mkdir()
    state.chmod(0o777)
    (state / "state.sqlite3").write_bytes(b"SQLite format 3\0" + bytes(100))
    disk = look_at_disk(of_state(state))
    assert disk is not None
    (finding,) = judge_state(replace(disk, is_others=False))
    assert (finding.code, finding.state) == (Code.STATE_UNUSABLE, State.FAILED)
    assert "others may write" in finding.text
    (finding,) = judge_state(replace(disk, is_others=True))  # root looks, and it may be right for its user
    assert (finding.code, finding.state) == (Code.STATE_UNUSABLE, State.SKIPPED)


def test_a_full_disk_takes_nothing(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    state.mkdir(mode=0o700)
    monkeypatch.setattr(os, "write", full)
    disk = look_at_disk(of_state(state))
    monkeypatch.undo()
    assert short(judge_room(disk, [])) == [(Code.DISK_FULL, State.FAILED)]
    assert short(judge_state(disk)) == [(Code.STATE, State.OK)]


def test_a_user_without_home_needs_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pboot.config.storage.default_state", lambda: None)
    homeless = of_state(None, said={"store.state": None})
    assert look_at_disk(homeless) is None
    with homeless.memory() as store:
        assert store is None
    assert short(judge_state(None)) == [(Code.NO_STATE, State.SKIPPED)]
    assert judge_room(None, []) == []


def test_room_is_what_quota_and_disk_leave() -> None:
    disk = Disk(Path("state"), free=10_000_000, limit=None)
    image = manifest_of()
    size = sum(artifact.size for artifact in image.artifacts.values())
    assert short(judge_room(disk, [image])) == [(Code.DISK, State.OK)]
    assert short(judge_room(replace(disk, limit=size), [image])) == [(Code.LITTLE_ROOM, State.WARNING)]
    assert short(judge_room(replace(disk, limit=size + 1), [image])) == [(Code.DISK, State.OK)]
    assert short(judge_room(replace(disk, limit=0), [])) == [(Code.LITTLE_ROOM, State.WARNING)]
    assert short(judge_room(replace(disk, free=0), [])) == [(Code.DISK_FULL, State.FAILED)]
    assert judge_room(Disk(Path("state"), error=MachineError("no")), []) == []


def test_what_is_to_be_watched_is_watched_for_a_moment(tmp_path: Path) -> None:
    (tmp_path / "stable/x86_64/dtbs").mkdir(parents=True)
    (tmp_path / "stable/x86_64/vmlinuz").write_bytes(b"x")
    watched = try_watching(tmp_path)
    assert watched == Watched(4)
    (finding,) = judge_watching(tmp_path, watched)
    assert short([finding]) == [(Code.INOTIFY, State.OK)]
    assert "4 directories" in finding.text


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        try_watching(tmp_path / "absent")
    found = judge_watching(tmp_path / "absent", raised.value)
    assert short(found) == [(Code.DIRECTORY_UNREADABLE, State.WARNING)]
    assert short(judge_watching(None, None)) == [(Code.NO_DIRECTORY, State.SKIPPED)]


@pytest.mark.parametrize(
    ("number", "what", "setting"),
    [
        (errno.ENOSPC, "watches", "fs.inotify.max_user_watches = 5"),
        (errno.EMFILE, "instances", "fs.inotify.max_user_instances = 5"),
        (errno.ENOSYS, "can not be asked", "not implemented"),
    ],
)
def test_the_limit_that_is_reached_is_named(
    monkeypatch: pytest.MonkeyPatch, number: int, what: str, setting: str
) -> None:
    monkeypatch.setattr(inotify, "_sysctl", lambda name: 5 if name.startswith("fs.") else None)
    (finding,) = judge_watching(Path("images"), Watched(3, OSError(number, os.strerror(number))))
    assert short([finding]) == [(Code.INOTIFY_USED_UP, State.WARNING)]
    assert what in finding.text
    assert setting in finding.text
