"""What others own, may write, or lead elsewhere by a link is not worked in; what says nothing is not asked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pboot.core.pieces import MIB
from p2pboot.errors import MachineError
from p2pboot.store import ownership
from p2pboot.store.locking import DirectoryLock
from p2pboot.store.ownership import OUTPUT, STATE, NotOurs, opened_directory
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import content, table_of
from tests.core.timetoke.samples import announce, payload_of

OTHER = 65533


@pytest.fixture
def state(tmp_path: Path) -> Path:
    Store.open(tmp_path / "state").close()
    return tmp_path / "state"


@pytest.fixture
def give_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make something another user's; who may not is another user himself from then on."""

    def give(path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, OTHER, -1, follow_symlinks=False)
        else:
            given = path.lstat().st_ino

            def seen(look: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
                def looking(*where: Any, **how: Any) -> os.stat_result:
                    status = look(*where, **how)
                    if status.st_ino != given:
                        return status
                    return os.stat_result((*status[:4], OTHER, *status[5:]))

                return looking

            for name in ("stat", "fstat", "lstat"):
                monkeypatch.setattr(os, name, seen(getattr(os, name)))
            monkeypatch.setattr(ownership, "_made_in", lambda _directory: None)

    return give


def refusal(path: Path) -> MachineError:
    with pytest.raises(NotOurs) as caught:
        Store.open(path)
    assert caught.value.exit_status == 4
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o707, 0o702])
def test_a_state_that_everybody_may_write_is_refused(state: Path, mode: int) -> None:
    state.chmod(mode)
    error = refusal(state)
    assert f"(mode {mode:04o})" in error.message
    assert f"chmod go-w {state}" in (error.remedy or "")
    assert "--state" in (error.remedy or "")


def test_a_group_may_write_where_it_is_the_user_alone(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the umask 002 of many systems."""
    state.chmod(0o775)
    monkeypatch.setattr(ownership, "is_private_group", lambda _gid: True)
    Store.open(state).close()
    monkeypatch.setattr(ownership, "is_private_group", lambda _gid: False)
    refusal(state)


def test_a_private_group_has_the_users_name_and_nobody_else_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import grp
    import pwd

    user = pwd.struct_passwd(("eve", "x", 1000, 1000, "", "/", "/"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: user)
    groups: dict[int, tuple[str, list[str]]] = {
        1000: ("eve", []),
        1001: ("staff", []),
        1002: ("eve", []),
    }
    monkeypatch.setattr(
        grp, "getgrgid", lambda gid: grp.struct_group((groups[gid][0], "x", gid, groups[gid][1]))
    )
    assert [ownership.is_private_group(gid) for gid in groups] == [True, False, False]
    groups[1000] = ("eve", ["eve", "mallory"])
    assert not ownership.is_private_group(1000)
    assert not ownership.is_private_group(7)  # nobody knows it


def test_a_state_of_another_user_is_refused(state: Path, give_away: Callable[[Path], None]) -> None:
    give_away(state)
    error = refusal(state)
    assert "belongs to user" in error.message
    assert str(state) in error.message


@pytest.mark.parametrize("name", ["state.sqlite3", "state.sqlite3-wal", "lock"])
def test_a_file_in_the_state_that_is_another_users_is_refused(
    state: Path, give_away: Callable[[Path], None], name: str
) -> None:
    (state / name).touch()
    give_away(state / name)
    if name != "lock":
        assert name in refusal(state).message
    elif os.geteuid() == 0:
        with Store.open(state) as store, pytest.raises(NotOurs, match="lock"):
            store.lock()


def test_what_others_may_write_in_a_state_that_they_reach_is_refused(state: Path) -> None:
    database = state / "state.sqlite3"
    database.chmod(0o666)
    Store.open(state).close()  # 0700: nobody reaches it
    database.chmod(0o666)
    state.chmod(0o755)
    assert "state.sqlite3" in refusal(state).message


@pytest.mark.parametrize(
    "name", ["state.sqlite3", "state.sqlite3-wal", "state.sqlite3-journal", "blobs", "partial", "blobs/ab"]
)
def test_a_link_in_the_state_is_not_followed(state: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    if "." in name:
        victim.write_bytes(b"")
    else:
        victim.mkdir()
    if (state / name).is_dir():
        (state / name).rmdir()
    else:
        (state / name).unlink(missing_ok=True)
    (state / name).symlink_to(victim)
    assert "symbolic link" in refusal(state).message
    assert not list(victim.iterdir()) if victim.is_dir() else victim.read_bytes() == b""


@pytest.mark.parametrize("name", ["state.sqlite3", "state.sqlite3-wal"])
def test_a_pipe_in_the_place_of_the_database_is_not_waited_for(state: Path, name: str) -> None:
    (state / name).unlink(missing_ok=True)
    os.mkfifo(state / name)
    assert "not a regular file" in refusal(state).message


def test_what_we_make_ourselves_is_ours_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        tmp_path.chmod(0o755)
        with Store.open(tmp_path):
            pass
        Store.open(tmp_path).close()
        snapshots = DiskSnapshotStore(tmp_path / "snapshots")
        snapshots.insert(payload_of(3))
        snapshots.announcements.put(announce(payload_of(3)))
        again = DiskSnapshotStore(tmp_path / "snapshots")
        again.announcements.put(announce(payload_of(3), sequence=2))
        assert again.announcements.are_durable
    finally:
        os.umask(umask)
    assert (tmp_path / "state.sqlite3").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "snapshots/.p2pboot/state.sqlite3").stat().st_mode & 0o777 == 0o644


def test_a_state_that_a_person_named_may_be_a_link_to_his_own(state: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(state)
    with Store.open(tmp_path / "link") as store:
        store.lock()


def test_where_everything_has_one_owner_and_mode_these_say_nothing(
    state: Path, give_away: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on FAT, and on network shares that squash."""
    give_away(state)
    state.chmod(0o777)
    refusal(state)
    monkeypatch.setattr(ownership, "_made_in", os.fstat)
    Store.open(state).close()


# the lock


@pytest.mark.parametrize("way", ["symbolic link", "hard link"])
def test_a_lock_that_is_a_link_empties_no_file(tmp_path: Path, way: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("what matters\n")
    (tmp_path / "d").mkdir(mode=0o700)
    if way == "hard link":
        os.link(victim, tmp_path / "d/lock")
    else:
        (tmp_path / "d/lock").symlink_to(victim)
    with pytest.raises(NotOurs, match="symbolic link" if way == "symbolic link" else "no lock file"):
        DirectoryLock.take(tmp_path / "d")
    assert victim.read_text() == "what matters\n"


def test_a_lock_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(NotOurs, match="not a regular file"):
        DirectoryLock.take(tmp_path)


# output directories


def test_an_output_directory_is_not_one_where_others_replace_what_is_placed(
    tmp_path: Path, give_away: Callable[[Path], None]
) -> None:
    for mode, is_taken in ((0o775, True), (0o1777, True), (0o777, False)):
        tmp_path.chmod(mode)
        if is_taken:
            with opened_directory(tmp_path, OUTPUT):
                pass
        else:
            with (
                pytest.raises(NotOurs, match="others may write") as caught,
                opened_directory(tmp_path, OUTPUT),
            ):
                pass
            assert caught.value.remedy is not None
            assert "-o" in caught.value.remedy
    tmp_path.chmod(0o755)
    give_away(tmp_path)
    with pytest.raises(NotOurs, match="belongs to"), opened_directory(tmp_path, OUTPUT):
        pass


def test_what_is_no_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(MachineError, match="open the state directory"),
        opened_directory(tmp_path / "file", STATE),
    ):
        pass


# snapshot directories


@pytest.mark.parametrize("what", ["a link", "of another", "open to all"])
def test_a_snapshot_directorys_state_that_is_not_ours_is_left_as_it_is(
    tmp_path: Path, what: str, give_away: Callable[[Path], None]
) -> None:
    directory, private = tmp_path / "snapshots", tmp_path / "snapshots/.p2pboot"
    DiskSnapshotStore(directory).insert(payload_of(3))
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    if what == "a link":
        private.symlink_to(victim)
    else:
        private.mkdir()
        private.chmod(0o755 if what == "of another" else 0o777)
        if what == "of another":
            give_away(private)
    store = DiskSnapshotStore(directory)
    assert len(store.roots()) == 1  # it is served all the same
    data = content("snapshot", MIB)
    with pytest.raises(NotOurs):
        store.blobs.begin("ab" * 32, table_of(data))
    assert not list(victim.iterdir())
    assert not list(private.iterdir())
