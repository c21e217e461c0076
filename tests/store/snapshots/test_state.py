"""What a snapshot directory remembers: nothing is hashed twice, nothing is written where nothing may be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pboot.core.timetoke.chunks import ChunkTableBuilder, payload_root
from p2pboot.core.timetoke.errors import SnapshotChanged
from p2pboot.core.timetoke.records import TimetokeSnapshotHandle
from p2pboot.errors import MachineError
from p2pboot.publish.snapshots import announce
from p2pboot.store.hashes import FileIdentity, HashedFile
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from p2pboot.store.snapshots.files import REMEMBERED_BYTES
from tests.core.timetoke.samples import ALICE, CREATED_AT, TIMETOKE_ROOT, payload_of, sign
from tests.core.timetoke.samples import announce as announcement_of
from tests.permissions import permissions_applied

LARGE, SMALL = payload_of(8000), payload_of(3)
ROOT = payload_root(LARGE)
assert len(LARGE) > REMEMBERED_BYTES


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes were hashed to find out which snapshot a file is."""
    counted: list[int] = []
    update = ChunkTableBuilder.update

    def counting(self: ChunkTableBuilder, data: bytes) -> None:
        counted.append(len(data))
        update(self, data)

    monkeypatch.setattr(ChunkTableBuilder, "update", counting)
    return counted


def opened(directory: Path) -> DiskSnapshotStore:
    return DiskSnapshotStore(directory, warn=lambda _: None)


def tree(directory: Path) -> dict[str, tuple[int, int]]:
    """Every file below a directory, with its size and when it was last changed."""
    return {
        str(path.relative_to(directory)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in directory.rglob("*")
    }


def make_unwritable(directory: Path) -> None:
    for path in [directory, *directory.rglob("*")]:
        if path.is_dir():
            path.chmod(0o555)
        elif path.suffix != ".json":  # the payload is never written to anyway, and keeps its times
            path.chmod(0o444)


@pytest.fixture
def foreign(directory: Path) -> Iterator[Path]:
    """A directory that others published into, and that we may only read."""
    store = opened(directory)
    store.insert(LARGE, sign(LARGE))
    store.announcements.put(announcement_of(LARGE, ALICE, 7, chunk_length=store.chunk_length))
    store._state.close()
    make_unwritable(directory)
    with permissions_applied():
        yield directory


def test_what_was_published_is_not_hashed_again_when_the_store_is_opened_again(
    directory: Path, hashed: list[int]
) -> None:
    opened(directory).insert(LARGE, sign(LARGE))
    hashed.clear()
    again = opened(directory)
    assert again.roots() == (ROOT,)
    assert b"".join(chunk.data for chunk in again.stream(ROOT)) == LARGE
    assert hashed == []


def test_what_was_dropped_in_by_hand_is_hashed_once(directory: Path, hashed: list[int]) -> None:
    directory.mkdir()
    (directory / "x.json").write_bytes(LARGE)
    for _ in range(3):
        assert opened(directory).roots() == (ROOT,)
    assert sum(hashed) == len(LARGE)
    (directory / "x.json").write_bytes(LARGE + b"\n")
    assert opened(directory).roots() == (payload_root(LARGE + b"\n"),)


def test_looking_at_small_snapshots_leaves_nothing_behind(directory: Path) -> None:
    directory.mkdir()
    (directory / "x.json").write_bytes(SMALL)
    store = opened(directory)
    assert store.roots() == (payload_root(SMALL),)
    assert store.announcements.all() == ()
    assert set(tree(directory)) == {"x.json"}


def test_a_digest_that_turns_out_wrong_is_forgotten_for_good(directory: Path) -> None:
    """A change within one tick of the clock does not show: only the bytes tell."""
    store = opened(directory)
    path = store.path(store.insert(LARGE, sign(LARGE)))
    table = store.table(ROOT)
    path.write_bytes(b"x" + LARGE[1:])
    store._state.hashes.put(FileIdentity.of(path.stat()), HashedFile(ROOT, table))
    again = opened(directory)
    assert again.has_snapshot(ROOT)
    with pytest.raises(SnapshotChanged):
        again.chunk(ROOT, 0)
    assert not again.has_snapshot(ROOT)
    assert not opened(directory).has_snapshot(ROOT)


def test_what_others_published_is_served_where_nothing_can_be_written(foreign: Path) -> None:
    before = tree(foreign)
    store = opened(foreign)
    assert store.roots() == (ROOT,)
    assert b"".join(chunk.data for chunk in store.stream(ROOT)) == LARGE
    assert store.signature(ROOT) == sign(LARGE)
    assert [one.sequence for one in store.announcements.all()] == [7]
    assert store.survey().unsigned == ()
    assert tree(foreign) == before


def test_what_can_only_be_read_is_not_hashed_where_its_owner_did(foreign: Path, hashed: list[int]) -> None:
    assert opened(foreign).roots() == (ROOT,)
    assert hashed == []


def test_a_directory_without_state_is_served_where_nothing_can_be_written(directory: Path) -> None:
    directory.mkdir()
    (directory / "x.json").write_bytes(LARGE)
    make_unwritable(directory)
    with permissions_applied():
        store = opened(directory)
        assert store.has_snapshot(ROOT)
        store.announcements.put(announcement_of(LARGE))  # as who follows a signer does
        assert len(store.announcements.all()) == 1
    assert set(tree(directory)) == {"x.json"}


def test_nothing_is_announced_that_would_be_forgotten(foreign: Path) -> None:
    store = opened(foreign)
    handle = TimetokeSnapshotHandle(ROOT, 2, 8000, TIMETOKE_ROOT, sign(LARGE))
    with pytest.raises(MachineError, match=r"state\.sqlite3"):
        announce(handle, store=store, shelf=store.announcements, key=ALICE, created_at=CREATED_AT, sequence=9)


OWNER = """
import sys
from p2pboot import DiskSnapshotStore
from tests.core.timetoke.samples import ALICE, announce, payload_of
store = DiskSnapshotStore(sys.argv[1])  # once: it is to write later, where nobody may make files any more
for sequence, line in enumerate(sys.stdin, start=1):
    store.announcements.put(announce(payload_of(3), ALICE, sequence))
    print("put", flush=True)
"""


def test_a_reader_hears_what_the_owner_announces_later(directory: Path) -> None:
    """In a process of its own: SQLite shares what two connections of one process may do."""

    def announced() -> None:
        assert owner.stdin is not None
        assert owner.stdout is not None
        owner.stdin.write("go\n")
        owner.stdin.flush()
        assert owner.stdout.readline() == "put\n"

    command = [sys.executable, "-c", OWNER, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        announced()
        make_unwritable(directory)
        (directory / ".p2pboot" / "record").chmod(
            0o644
        )  # the owner, who may be the same user here, opens it anew
        with permissions_applied():
            reader = opened(directory)
            assert [one.sequence for one in reader.announcements.all()] == [1]
            announced()  # with the owner's connection open, and its journal not yet in the file
            assert [one.sequence for one in reader.announcements.all()] == [2]
            owner.kill()
            owner.wait()
            assert [one.sequence for one in opened(directory).announcements.all()] == [2]


def test_a_state_that_another_process_makes_is_found(directory: Path) -> None:
    directory.mkdir()
    running = opened(directory)
    assert running.announcements.all() == ()
    opened(directory).announcements.put(announcement_of(SMALL))
    assert len(running.announcements.all()) == 1
    running.announcements.put(announcement_of(LARGE))
    assert len(opened(directory).announcements.all()) == 2


def test_a_directory_that_is_replaced_while_it_is_open_has_the_new_ones_state(directory: Path) -> None:
    running = opened(directory)
    running.announcements.put(announcement_of(SMALL, ALICE, 1))
    directory.rename(directory.with_name("old"))
    assert running.announcements.all() == ()
    opened(directory).announcements.put(announcement_of(SMALL, ALICE, 2))
    assert [one.sequence for one in running.announcements.all()] == [2]
    running.announcements.put(announcement_of(SMALL, ALICE, 3))
    assert [one.sequence for one in opened(directory).announcements.all()] == [3]
    assert [one.sequence for one in opened(directory.with_name("old")).announcements.all()] == [1]
