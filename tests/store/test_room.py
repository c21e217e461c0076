"""Room on the disk: nothing is taken before somebody shows a piece, and no two jobs believe in the same room."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from p2pboot.errors import MachineError
from p2pboot.store import room
from p2pboot.store.errors import StoreFull
from p2pboot.store.partials import PartialBlob
from p2pboot.store.room import AUTO, Plan
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, Sample, sample

GIANT = 40 * PIECE


def begin(store: Store, chosen: Sample, plan: Plan | None = None) -> PartialBlob:
    partial = store.blobs.begin(chosen.sha256, chosen.table, plan)
    assert partial is not None
    return partial


def disk_bytes(directory: Path) -> int:
    """What files take up below a directory; the database, which has a size of its own, left out."""
    return sum(
        path.stat().st_blocks * 512
        for path in directory.rglob("*")
        if path.is_file() and "sqlite3" not in path.name
    )


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A disk of 100 pieces, of which so many are free as a test says."""
    small = SimpleNamespace(free=100 * PIECE)
    monkeypatch.setattr(room, "SPARED", 10)
    monkeypatch.setattr(room, "free_bytes", lambda _directory: small.free)
    monkeypatch.setattr(
        os, "statvfs", lambda _path: SimpleNamespace(f_blocks=100, f_frsize=PIECE, f_bavail=0)
    )
    return small


def test_what_nobody_shows_takes_no_room_and_leaves_nothing(state: Path) -> None:
    giant = sample(GIANT)
    with Store.open(state) as store:
        partial = begin(store, giant)
        assert disk_bytes(state) == 0
        partial.close()
        assert os.listdir(state / "partial") == []
        begin(store, giant)
    assert os.listdir(state / "partial") == []


def test_room_is_taken_as_pieces_come_and_kept_for_resuming(state: Path) -> None:
    giant = sample(GIANT)
    with Store.open(state) as store:
        partial = begin(store, giant)
        partial.write(39, giant.piece(39))
        partial.write(3, giant.piece(3))
        assert 2 * PIECE <= disk_bytes(state) < 4 * PIECE
    assert 2 * PIECE <= disk_bytes(state) < 4 * PIECE
    with Store.open(state) as store:
        assert list(begin(store, giant).held) == [3, 39]


def test_what_a_killed_process_began_without_a_piece_is_swept_away(state: Path) -> None:
    shown, unshown = sample(GIANT, 1), sample(GIANT, 2)
    with Store.open(state) as store:
        begin(store, shown).write(0, shown.piece(0))
        with (state / "partial" / unshown.sha256).open("wb") as left:
            left.truncate(GIANT)
        with Store.open(state) as other:
            assert other.blobs.used_bytes() == GIANT  # what this process is at stays
    Store.open(state).close()
    assert os.listdir(state / "partial") == [shown.sha256]


def test_a_made_up_table_costs_nothing_of_what_is_there(state: Path) -> None:
    """Of a snapshot that nobody announced a stranger says how it is cut, and may show nothing of it."""
    giant, claimed = sample(GIANT), sample(GIANT // 2, 1, sha256=sample(GIANT).sha256)
    with Store.open(state) as store:
        begin(store, giant).write(39, giant.piece(39))
    with Store.open(state) as store:
        begin(store, claimed).close()
        partial = begin(store, giant)
        assert list(partial.held) == [39]
        for index in range(39):
            partial.write(index, giant.piece(index))
        assert partial.finish().read_bytes() == giant.data


def test_what_was_claimed_to_be_longer_is_cut_in_the_end(state: Path) -> None:
    small, claimed = sample(2 * PIECE), sample(GIANT, 1, sha256=sample(2 * PIECE).sha256)
    with Store.open(state) as store:
        partial = begin(store, claimed)
        partial.write(39, claimed.piece(39))
        partial.close()
        partial = begin(store, small)
        for index in range(2):
            partial.write(index, small.piece(index))
        assert partial.finish().read_bytes() == small.data


def test_a_table_is_kept_of_nothing_but_what_was_seen_to_have_it(state: Path) -> None:
    small = sample(2 * PIECE)
    with Store.open(state) as store:
        partial = begin(store, small)
        for index in (0, 1):
            partial.write(index, small.piece(index))
            assert store.blobs._tables.known() == {}
        partial.finish()
        assert store.blobs._tables.known() == {small.sha256: {small.table.digest}}


# -- two that need the same room


def test_the_room_of_one_is_not_another_ones(state: Path, tmp_path: Path, disk: SimpleNamespace) -> None:
    """Also of another store on the same file system, and as pieces come."""
    one, other = sample(60 * PIECE, 1), sample(50 * PIECE, 2)
    with Store.open(state) as store, Store.open(tmp_path / "other") as second:
        partial = begin(store, one)
        with pytest.raises(
            MachineError, match=rf"disk full: {50 * PIECE} bytes .* {40 * PIECE} are available"
        ):
            begin(second, other)
        partial.write(0, one.piece(0))
        disk.free -= PIECE
        with pytest.raises(MachineError, match=rf"{40 * PIECE} are available"):
            begin(second, other)
        partial.discard()
        disk.free += PIECE
        begin(second, other)


def test_a_job_is_promised_the_room_for_all_that_it_brings(state: Path, disk: SimpleNamespace) -> None:
    """Else two of them get stuck, each half done."""
    small, large, other = sample(PIECE, 1), sample(60 * PIECE, 2), sample(45 * PIECE, 3)
    with Store.open(state) as store:
        first = store.blobs.plan({small.sha256: PIECE, large.sha256: 60 * PIECE})
        second = store.blobs.plan({other.sha256: 45 * PIECE})
        begin(store, small, first)
        with pytest.raises(MachineError, match="disk full"):
            begin(store, other, second)
        begin(store, large, first)
        first.close()
        assert room._PROMISED == {}
        begin(store, other, second)


def test_the_quota_counts_what_is_promised(state: Path) -> None:
    small, large, other = sample(PIECE, 1), sample(6 * PIECE, 2), sample(4 * PIECE, 3)
    with Store.open(state, quota_bytes=10 * PIECE) as store:
        first = store.blobs.plan({small.sha256: PIECE, large.sha256: 6 * PIECE})
        begin(store, small, first)
        with pytest.raises(StoreFull) as caught:
            store.blobs.plan({other.sha256: 4 * PIECE})
        assert (caught.value.needed, caught.value.used) == (4 * PIECE, 7 * PIECE)
        first.close()
        store.blobs.plan({other.sha256: 4 * PIECE})


def test_what_can_not_fit_is_said_before_anything_of_it_is_begun(state: Path) -> None:
    small, large = sample(PIECE, 1), sample(6 * PIECE, 2)
    with Store.open(state, quota_bytes=6 * PIECE) as store, pytest.raises(StoreFull):
        store.blobs.plan({small.sha256: PIECE, large.sha256: 6 * PIECE})


# -- a tenth of the disk


def test_by_itself_a_tenth_of_the_disk_stays_free(state: Path, disk: SimpleNamespace) -> None:
    disk.free = 30 * PIECE
    fits, too_large = sample(20 * PIECE, 1), sample(20 * PIECE + 1, 2)
    with Store.open(state, quota_bytes=AUTO) as store:
        assert store.blobs.room.limit_bytes() == 20 * PIECE
        with pytest.raises(StoreFull, match="no room for") as caught:
            begin(store, too_large)
        assert "quota" in str(caught.value.remedy)
        begin(store, fits)
        store.blobs.quota_bytes = None
        store.blobs.remove(fits.sha256)
        begin(store, too_large)


# -- what yields


class Old:
    """Something that is given up for what is new."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.asked: list[int] = []

    def bytes(self) -> int:
        return self.size

    def check(self) -> None:
        """Nothing stands against it."""

    def give_up(self, needed: int) -> None:
        self.asked.append(needed)


@pytest.mark.parametrize("quota", [12 * PIECE, AUTO])
def test_what_yields_does_so_when_somebody_shows_a_piece(
    state: Path, disk: SimpleNamespace, quota: room.Quota
) -> None:
    held, new = sample(8 * PIECE, 1), sample(6 * PIECE, 2)
    disk.free = 14 * PIECE
    with Store.open(state, quota_bytes=quota) as store:
        plan = store.blobs.plan({held.sha256: held.table.size})
        whole = begin(store, held, plan) if quota != AUTO else None
        if whole is not None:
            for index in range(8):
                whole.write(index, held.piece(index))
            whole.finish()
        old = Old(8 * PIECE)
        partial = begin(store, new, store.blobs.plan({new.sha256: 6 * PIECE}, old))
        assert old.asked == []
        partial.write(0, new.piece(0))
        partial.write(1, new.piece(1))
        assert old.asked == [2 * PIECE]


def test_what_yields_stays_where_there_is_room(state: Path) -> None:
    new, old = sample(6 * PIECE), Old(8 * PIECE)
    with Store.open(state, quota_bytes=6 * PIECE) as store:
        begin(store, new, store.blobs.plan({new.sha256: 6 * PIECE}, old)).write(0, new.piece(0))
        assert old.asked == [0]


def test_what_does_not_fit_even_then_gives_nothing_up(state: Path) -> None:
    new, old = sample(6 * PIECE), Old(PIECE)
    with Store.open(state, quota_bytes=4 * PIECE) as store, pytest.raises(StoreFull):
        store.blobs.plan({new.sha256: 6 * PIECE}, old)


def test_what_is_free_is_taken_but_for_a_tenth_however_full_the_disk(
    state: Path, disk: SimpleNamespace
) -> None:
    disk.free = 5 * PIECE  # of 100, so a tenth of the disk is not free
    with Store.open(state) as store:
        store.blobs.room.take_what_is_free(state)
        assert store.blobs.room.limit_bytes() == 5 * PIECE - PIECE // 2
        with pytest.raises(StoreFull):
            store.blobs.plan({sample(5 * PIECE).sha256: 5 * PIECE})
        begin(store, sample(4 * PIECE))


def test_a_file_system_that_does_not_tell_its_size_is_used(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tmpfs without a limit, and some in user space, say that they have nothing at all."""
    nothing = SimpleNamespace(f_blocks=0, f_frsize=4096, f_bavail=0)
    monkeypatch.setattr(os, "statvfs", lambda _path: nothing)
    with Store.open(state, quota_bytes=AUTO) as store:
        begin(store, sample(PIECE))
        assert store.blobs.room.limit_bytes() is None
        store.blobs.room.take_what_is_free(state)
        begin(store, sample(2 * PIECE))
