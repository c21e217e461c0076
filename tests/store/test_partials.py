from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pboot.errors import BlobCorrupt, BlobMissing, MachineError, StoreError
from p2pboot.store import holes, partials
from p2pboot.store.durable import write_at
from p2pboot.store.partials import PartialBlob
from p2pboot.store.recent import RecentPieces
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, SIZES, Sample, sample, sample_of
from p2pboot.testing.waiting import HANG_S


def begin(store: Store, chosen: Sample) -> PartialBlob:
    partial = store.blobs.begin(chosen.sha256, chosen.table)
    assert partial is not None
    return partial


def fill(partial: PartialBlob, chosen: Sample) -> PartialBlob:
    for index in range(chosen.table.count):
        assert partial.write(index, chosen.piece(index))
    return partial


def fill_backwards(partial: PartialBlob, chosen: Sample) -> PartialBlob:
    """So that all but the first piece are hashed by what is read back."""
    for index in reversed(range(chosen.table.count)):
        assert partial.write(index, chosen.piece(index))
    return partial


def begun(store: Store, chosen: Sample) -> PartialBlob:
    """With the first piece written, so that others can be taken."""
    partial = begin(store, chosen)
    assert partial.write(0, chosen.piece(0))
    return partial


@pytest.mark.parametrize("size", SIZES)
def test_pieces_in_any_order_become_the_artifact(store: Store, size: int) -> None:
    chosen = sample(size)
    partial = begin(store, chosen)
    assert partial.path.stat().st_size == size
    for index in reversed(range(chosen.table.count)):
        assert not partial.has(index)
        assert partial.write(index, chosen.piece(index))
        assert partial.has(index)
    path = partial.finish()
    assert path.read_bytes() == chosen.data
    assert path == store.blobs.path(chosen.sha256)
    assert store.blobs.holds(chosen.sha256)
    assert not partial.path.exists()


def test_finishing_syncs_the_file_before_its_name_and_both_directories_after(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = fill(begin(store, sample(10)), sample(10))
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noting_fsync(fd: int) -> None:
        steps.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        fsync(fd)

    def noting_replace(path: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "replace", noting_replace)
    partial.finish()
    sha256 = partial.digest
    assert steps == [sha256, "blobs", "rename", sha256[:2], "partial"]


def test_a_piece_that_is_there_is_not_written_again(store: Store) -> None:
    chosen = sample(2 * PIECE)
    partial = begin(store, chosen)
    assert partial.write(1, chosen.piece(1))
    assert not partial.write(1, chosen.piece(1))
    assert not partial.write(1, b"whatever")


@pytest.mark.parametrize("wrong", [b"", b"x", b"x" * PIECE, b"x" * (PIECE + 1)])
def test_a_wrong_piece_is_refused_before_it_is_written(store: Store, wrong: bytes) -> None:
    chosen = sample(2 * PIECE)
    partial = begin(store, chosen)
    with pytest.raises(BlobCorrupt, match=f"piece 0 of artifact sha256:{chosen.sha256}") as caught:
        partial.write(0, wrong)
    assert caught.value.expected == chosen.table.raw[:32].hex()
    assert not partial.has(0)
    assert partial.path.read_bytes() == bytes(2 * PIECE)


@pytest.mark.parametrize("index", [-1, 2])
def test_a_piece_that_the_artifact_does_not_have_is_refused(store: Store, index: int) -> None:
    partial = begin(store, sample(2 * PIECE))
    with pytest.raises(IndexError):
        partial.write(index, b"x" * PIECE)


def test_many_threads_write_and_one_hashes_meanwhile(store: Store) -> None:
    chosen = sample(40 * PIECE + 5)
    partial = begin(store, chosen)
    accepted: list[int] = []

    def write_all(order: range) -> None:
        for index in order:
            if partial.write(index, memoryview(chosen.piece(index))):
                accepted.append(index)

    forwards, backwards = range(41), range(40, -1, -1)
    threads = [threading.Thread(target=write_all, args=(order,)) for order in (forwards, backwards) * 2]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        partial.hash_on(PIECE)
    for thread in threads:
        thread.join()
    assert sorted(accepted) == list(range(41))  # each piece by exactly one thread
    assert partial.finish().read_bytes() == chosen.data


def test_the_hash_advances_over_what_is_contiguous_and_no_further(store: Store) -> None:
    chosen = sample(4 * PIECE + 1)
    partial = begin(store, chosen)
    assert not partial.hash_on(PIECE)
    for index in (1, 2):
        partial.write(index, chosen.piece(index))
        assert not partial.hash_on(PIECE)
    partial.write(0, chosen.piece(0))
    assert [partial.hash_on(PIECE) for _ in range(3)] == [True, True, False]
    partial.write(4, chosen.piece(4))
    assert not partial.hash_on(10 * PIECE)
    partial.write(3, chosen.piece(3))
    assert [partial.hash_on(10 * PIECE), partial.hash_on(10 * PIECE)] == [True, False]
    partial.finish()
    assert not partial.hash_on(PIECE)


@pytest.fixture
def read_back(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Offset and length of everything that is read from files."""
    extents: list[tuple[int, int]] = []
    pread = os.pread

    def noting_pread(fd: int, length: int, offset: int) -> bytes:
        extents.append((offset, length))
        return pread(fd, length, offset)

    monkeypatch.setattr(os, "pread", noting_pread)
    return extents


def test_pieces_that_come_in_order_are_not_read_back(store: Store, read_back: list[tuple[int, int]]) -> None:
    chosen = sample(3 * PIECE + 1)
    path = fill(begin(store, chosen), chosen).finish()
    assert read_back == []
    assert path.read_bytes() == chosen.data


def test_only_pieces_that_come_before_their_turn_are_read_back(
    store: Store, read_back: list[tuple[int, int]]
) -> None:
    chosen = sample(4 * PIECE)
    partial = begin(store, chosen)
    for index in (0, 2, 1):
        partial.write(index, chosen.piece(index))
    while partial.hash_on(PIECE):
        pass
    partial.write(3, chosen.piece(3))
    assert partial.finish().read_bytes() == chosen.data
    assert read_back == [(2 * PIECE, PIECE)]


def test_a_call_of_hash_on_reads_no_more_than_it_may(store: Store, read_back: list[tuple[int, int]]) -> None:
    chosen = sample(3 * PIECE)
    partial = fill_backwards(begin(store, chosen), chosen)
    partial.hash_on(1000)
    assert read_back == [(PIECE, 1000)]
    assert partial.finish().read_bytes() == chosen.data


def test_a_call_of_hash_on_leaves_it_to_whoever_is_at_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = sample(3 * PIECE)
    partial = fill_backwards(begin(store, chosen), chosen)
    at_it: list[bool] = []
    pread = os.pread

    def asking_pread(fd: int, length: int, offset: int) -> bytes:
        other = threading.Thread(target=lambda: at_it.append(partial.hash_on(PIECE)))
        other.start()
        other.join()
        return pread(fd, length, offset)

    monkeypatch.setattr(os, "pread", asking_pread)
    assert partial.hash_on(PIECE)
    assert at_it == [False]


def test_what_was_written_is_brought_to_the_disk_before_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = sample(2 * PIECE)
    partial = begin(store, chosen)
    synced: list[str] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    partial.write(0, chosen.piece(0))
    partial.sync()
    assert synced == [str(partial.path)]
    partial.write(1, chosen.piece(1))
    partial.finish()
    partial.sync()
    assert len(synced) == 1


def test_a_disk_that_fails_to_sync_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = begin(store, sample(2 * PIECE))

    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(MachineError, match=r"write .*partial"):
        partial.sync()
    partial.discard()  # and nothing waits for ever


def test_closing_waits_for_a_sync_under_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = begin(store, sample(2 * PIECE))
    syncing, go_on = threading.Event(), threading.Event()
    order: list[str] = []
    close = os.close

    def slow(_fd: int) -> None:
        syncing.set()
        go_on.wait()
        order.append("synced")

    def noting_close(fd: int) -> None:
        order.append("closed")
        close(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    syncer = threading.Thread(target=partial.sync)
    syncer.start()
    syncing.wait()
    monkeypatch.setattr(os, "close", noting_close)
    closer = threading.Thread(target=partial.close)
    closer.start()
    go_on.set()
    for thread in (syncer, closer):
        thread.join()
    assert order == ["synced", "closed"]


def test_finish_is_idempotent_and_late_pieces_do_nothing(store: Store) -> None:
    chosen = sample(PIECE + 1)
    partial = fill(begin(store, chosen), chosen)
    assert partial.finish() == partial.finish()
    assert not partial.write(0, chosen.piece(0))
    partial.discard()
    assert store.blobs.holds(chosen.sha256)


def test_finish_of_an_incomplete_artifact_is_refused(store: Store) -> None:
    chosen = sample(2 * PIECE)
    partial = begin(store, chosen)
    partial.write(0, chosen.piece(0))
    with pytest.raises(StoreError, match="1 pieces are missing"):
        partial.finish()
    assert not store.blobs.holds(chosen.sha256)


def test_a_wrong_sha256_over_good_pieces_is_told_apart_and_gets_no_name(store: Store) -> None:
    chosen = sample(2 * PIECE, sha256="ab" * 32)
    partial = fill(begin(store, chosen), chosen)
    with pytest.raises(BlobCorrupt) as caught:
        partial.finish()
    assert (caught.value.expected, caught.value.actual) == ("ab" * 32, sample(2 * PIECE).sha256)
    assert not store.blobs.holds("ab" * 32)
    partial.discard()
    assert store.blobs.used_bytes() == 0


def test_bytes_that_the_disk_changed_are_lost_and_not_the_publishers_fault(store: Store) -> None:
    chosen = sample(3 * PIECE)
    partial = fill_backwards(begin(store, chosen), chosen)
    with partial.path.open("r+b") as file:
        file.seek(PIECE)
        file.write(b"rot")
    with pytest.raises(MachineError, match="1 pieces read back differ"):
        partial.finish()
    assert list(partial.held.missing()) == [1]
    assert partial.write(1, chosen.piece(1))
    assert partial.finish().read_bytes() == chosen.data


def test_a_partial_that_became_shorter_is_noticed_while_hashing(store: Store) -> None:
    chosen = sample(3 * PIECE)
    partial = fill_backwards(begin(store, chosen), chosen)
    os.truncate(partial.path, 2 * PIECE)
    with pytest.raises(MachineError, match="1 pieces read back differ"):
        partial.hash_on(3 * PIECE)
    assert list(partial.held.missing()) == [2]


def test_bytes_that_change_after_they_were_hashed_are_noticed_when_read(store: Store) -> None:
    chosen = sample(2 * PIECE)
    partial = fill(begin(store, chosen), chosen)
    while partial.hash_on(PIECE):
        pass
    with partial.path.open("r+b") as file:
        file.write(b"rot")
    with pytest.raises(BlobMissing):
        store.blobs.read(chosen.sha256, 0, PIECE)
    assert list(partial.held.missing()) == [0]
    assert store.blobs.take_damaged() == ()
    partial.write(0, chosen.piece(0))
    assert partial.finish().read_bytes() == chosen.data


def test_a_full_disk_while_writing_is_clear_and_the_piece_is_not_held(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = sample(2 * PIECE)
    partial = begin(store, chosen)
    pwrite = os.pwrite

    def half(fd: int, data: bytes, offset: int) -> int:
        if offset > 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(fd, bytes(data)[:100], offset)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(MachineError, match=rf"disk full: {PIECE} bytes are needed in .*partial, \d+ are"):
        partial.write(0, chosen.piece(0))
    assert not partial.has(0)
    monkeypatch.undo()
    assert partial.write(0, chosen.piece(0))


def test_a_discarded_partial_leaves_nothing_and_takes_nothing(store: Store) -> None:
    chosen = sample(2 * PIECE)
    partial = begin(store, chosen)
    partial.discard()
    partial.discard()
    assert store.blobs.used_bytes() == 0
    assert store.blobs.held(chosen.sha256) is None
    with pytest.raises(BlobMissing):
        partial.write(0, chosen.piece(0))
    with pytest.raises(BlobMissing):
        partial.finish()


def test_discard_waits_for_a_write_under_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = sample(2 * PIECE)
    partial = begin(store, chosen)
    writing, go_on = threading.Event(), threading.Event()
    pwrite, close = os.pwrite, os.close
    order: list[str] = []

    def slow(fd: int, data: bytes, offset: int) -> int:
        writing.set()
        go_on.wait()
        order.append("written")
        return pwrite(fd, data, offset)

    def noting_close(fd: int) -> None:
        order.append("closed")
        close(fd)

    monkeypatch.setattr(os, "pwrite", slow)
    writer = threading.Thread(target=partial.write, args=(0, chosen.piece(0)))
    writer.start()
    writing.wait()
    monkeypatch.setattr(os, "close", noting_close)
    discarder = threading.Thread(target=partial.discard)
    discarder.start()
    go_on.set()
    for thread in (writer, discarder):
        thread.join()
    assert order[:2] == ["written", "closed"]
    assert begin(store, chosen) is not partial


def test_after_a_crash_only_the_good_pieces_are_held_again(state: Path) -> None:
    chosen = sample(4 * PIECE + 1)
    crashed = Store.open(state)
    partial = begin(crashed, chosen)
    for index in (0, 2, 4):
        partial.write(index, chosen.piece(index))
    with partial.path.open("r+b") as file:  # what a power cut does to a page that was not written yet
        file.seek(2 * PIECE)
        file.write(bytes(4096))
    partial.close()

    with Store.open(state) as store:
        resumed = begin(store, chosen)
        assert list(resumed.held.missing()) == [1, 2, 3]
        assert store.blobs.read(chosen.sha256, 4 * PIECE, 1) == chosen.data[-1:]
        for index in (1, 2, 3):
            resumed.write(index, chosen.piece(index))
        assert resumed.finish().read_bytes() == chosen.data
    crashed.close()


def test_two_processes_do_not_fetch_one_artifact_at_once(state: Path, store: Store) -> None:
    chosen = sample(10)
    begin(store, chosen)
    with Store.open(state) as other, pytest.raises(MachineError, match="being fetched by another process"):
        other.blobs.begin(chosen.sha256, chosen.table)


def test_what_is_being_fetched_is_not_begun_again_until_it_is_closed(store: Store) -> None:
    chosen = sample(2 * PIECE)
    first = begin(store, chosen)
    with pytest.raises(MachineError, match="being fetched"):
        begin(store, chosen)
    assert first.write(0, chosen.piece(0))
    first.close()
    first.close()
    with pytest.raises(BlobMissing):
        first.write(1, chosen.piece(1))
    assert list(begin(store, chosen).held.missing()) == [1]


def test_a_closed_store_lets_go_of_its_partials_and_keeps_them(state: Path) -> None:
    chosen = sample(2 * PIECE)
    store = Store.open(state)
    begin(store, chosen).write(1, chosen.piece(1))
    store.close()
    with Store.open(state) as again:
        assert list(begin(again, chosen).held.missing()) == [0]


# pieces of zeros

DATA = sample(PIECE).data
ZEROS = bytes(PIECE)
SPARSE = {
    "at the start": ZEROS + ZEROS + DATA,
    "in the middle": DATA + ZEROS + DATA,
    "at the end": DATA + ZEROS,
    "last and short": DATA + ZEROS + bytes(17),
    "nothing else": ZEROS * 3,
    "nothing else, short": bytes(5),
}


def disk_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512


def content_bytes(data: bytes) -> int:
    """What of a sample is not zeros, in whole pieces."""
    return data.count(DATA) * PIECE


@pytest.mark.parametrize("where", SPARSE)
def test_pieces_of_zeros_are_held_from_the_start_and_take_no_room(store: Store, where: str) -> None:
    chosen = sample_of(SPARSE[where])
    partial = begin(store, chosen)
    assert [partial.has(index) for index in range(chosen.table.count)] == [
        not any(chosen.piece(index)) for index in range(chosen.table.count)
    ]
    for index in range(chosen.table.count):
        assert partial.write(index, chosen.piece(index)) is any(chosen.piece(index))
    path = partial.finish()
    assert path.read_bytes() == chosen.data
    assert store.blobs.read(chosen.sha256, 0, 5) == chosen.data[:5]
    assert disk_bytes(path) <= content_bytes(chosen.data)
    assert store.blobs.used_bytes() == len(chosen.data)  # what a quota counts


@pytest.mark.parametrize("where", SPARSE)
@pytest.mark.parametrize("supported", [True, False])
def test_zeros_over_what_an_earlier_process_left_there(
    state: Path, monkeypatch: pytest.MonkeyPatch, supported: bool, where: str
) -> None:
    if not supported:
        monkeypatch.setattr(holes, "_fallocate", None)
    chosen = sample_of(SPARSE[where])
    with Store.open(state) as store:
        path = begin(store, chosen).path
    path.write_bytes(b"g" * len(chosen.data))
    with Store.open(state) as store:
        resumed = begin(store, chosen)
        for index in resumed.held.missing():
            assert any(chosen.piece(index))
            assert resumed.write(index, chosen.piece(index))
        path = resumed.finish()
        assert path.read_bytes() == chosen.data
        if supported:  # the last block of a file is kept when a hole does not fill it
            assert disk_bytes(path) <= content_bytes(chosen.data) + path.stat().st_blksize


def test_a_piece_of_zeros_that_rotted_is_mended(store: Store) -> None:
    chosen = sample_of(SPARSE["in the middle"])
    partial = fill_rest(begin(store, chosen), chosen)
    with partial.path.open("r+b") as file:
        file.seek(PIECE)
        file.write(b"rot")
    with pytest.raises(MachineError, match="1 pieces read back differ"):
        partial.finish()
    assert partial.write(1, chosen.piece(1))
    path = partial.finish()
    assert path.read_bytes() == chosen.data
    assert disk_bytes(path) <= 2 * PIECE


def fill_rest(partial: PartialBlob, chosen: Sample) -> PartialBlob:
    for index in partial.held.missing():
        assert partial.write(index, chosen.piece(index))
    return partial


def test_a_disk_needs_room_for_what_is_not_zeros_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = sample_of(DATA + ZEROS * 40 + DATA + DATA)
    monkeypatch.setattr("p2pboot.store.room.free_bytes", lambda _directory: 3 * PIECE - 1)
    with pytest.raises(MachineError, match=rf"disk full: {3 * PIECE} bytes are needed in .*partial, \d+ are"):
        begin(store, chosen)
    assert store.blobs.used_bytes() == 0
    monkeypatch.setattr("p2pboot.store.room.free_bytes", lambda _directory: 3 * PIECE)
    begin(store, chosen)


def test_a_disk_that_fills_up_while_a_fetch_is_resumed_is_told_as_full(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = sample_of(SPARSE["in the middle"])
    with Store.open(state) as store:
        fill_rest(begin(store, chosen), chosen).path.write_bytes(b"g" * len(chosen.data))

    def full(_fd: int, _data: bytes, _offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Store.open(state) as store:
        with monkeypatch.context() as patch:
            patch.setattr(holes, "_fallocate", None)
            patch.setattr(os, "pwrite", full)
            with pytest.raises(MachineError, match="disk full"):
                begin(store, chosen)
        assert fill_rest(begin(store, chosen), chosen).finish().read_bytes() == chosen.data


def test_a_piece_that_was_taken_is_held_and_read_at_once_and_written_later(store: Store) -> None:
    chosen = sample(3 * PIECE)
    partial = begun(store, chosen)
    assert partial.take(2, chosen.piece(2))
    assert partial.has(2)
    assert partial.taken_bytes == PIECE
    assert partial.in_memory(2) == chosen.piece(2)
    assert partial.path.read_bytes()[2 * PIECE :] == bytes(PIECE)
    partial.write_taken()
    assert partial.taken_bytes == 0
    assert partial.path.read_bytes()[2 * PIECE :] == chosen.piece(2)
    assert partial.in_memory(2) == chosen.piece(2)
    assert partial.take(2, chosen.piece(2))  # which it has
    assert partial.taken_bytes == 0


def test_what_was_taken_may_change_afterwards(store: Store) -> None:
    chosen = sample(2 * PIECE)
    partial = begun(store, chosen)
    data = bytearray(chosen.piece(1))
    assert partial.take(1, data)
    data[:] = bytes(PIECE)
    assert partial.finish().read_bytes() == chosen.data


def test_a_wrong_piece_is_not_taken(store: Store) -> None:
    chosen = sample(2 * PIECE)
    partial = begun(store, chosen)
    with pytest.raises(BlobCorrupt):
        partial.take(1, chosen.piece(0))
    assert not partial.has(1)
    assert partial.in_memory(1) is None


def test_the_first_piece_and_long_ones_are_left_to_be_written(store: Store) -> None:
    chosen = sample(2 * PIECE)
    partial = begin(store, chosen)
    assert not partial.take(0, chosen.piece(0))
    assert not partial.has(0)
    long = sample(16 * PIECE, seed=1, piece_length=8 * PIECE)
    assert not begun(store, long).take(1, long.piece(1))


def test_no_more_is_taken_than_may_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partials, "MOST_TAKEN", 2 * PIECE)
    chosen = sample(4 * PIECE)
    partial = begun(store, chosen)
    assert partial.take(1, chosen.piece(1))
    assert partial.take(2, chosen.piece(2))
    assert not partial.take(3, chosen.piece(3))
    partial.write_taken()
    assert partial.take(3, chosen.piece(3))


def test_what_was_taken_is_written_before_the_end(state: Path) -> None:
    chosen = sample(3 * PIECE)
    with Store.open(state) as store:
        partial = begun(store, chosen)
        assert partial.take(2, chosen.piece(2))
        partial.close()
    with Store.open(state) as store:
        again = begin(store, chosen)
        assert list(again.held) == [0, 2]
        assert again.take(1, chosen.piece(1)) or again.write(1, chosen.piece(1))
        assert again.finish().read_bytes() == chosen.data


def test_only_what_is_written_is_hashed(store: Store) -> None:
    chosen = sample(3 * PIECE)
    partial = begun(store, chosen)
    assert partial.take(1, chosen.piece(1))
    assert not partial.hash_on(3 * PIECE)
    partial.write_taken()
    assert partial.take(2, chosen.piece(2))
    assert partial.finish().read_bytes() == chosen.data


def test_what_a_full_disk_does_not_take_is_not_held(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = sample(4 * PIECE)
    partial = begun(store, chosen)
    for index in (1, 2, 3):
        assert partial.take(index, chosen.piece(index))

    def full(fd: int, data: bytes, offset: int) -> None:
        if offset == 2 * PIECE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_at(fd, data, offset)

    monkeypatch.setattr(partials, "write_at", full)
    with pytest.raises(MachineError, match="full"):
        partial.write_taken()
    assert list(partial.held) == [0, 1]
    assert partial.taken_bytes == 0
    assert partial.in_memory(2) is None


def test_who_reads_waits_for_what_another_thread_is_writing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = sample(3 * PIECE)
    partial = begun(store, chosen)
    assert partial.take(1, chosen.piece(1))
    begins, may_write = threading.Event(), threading.Event()

    def slowly(fd: int, data: bytes, offset: int) -> None:
        begins.set()
        assert may_write.wait(HANG_S)
        write_at(fd, data, offset)

    def wait_for(condition: Callable[[], bool]) -> bool:
        may_write.set()
        return really_wait_for(condition)

    really_wait_for = partial._changed.wait_for
    monkeypatch.setattr(partials, "write_at", slowly)
    monkeypatch.setattr(partial._changed, "wait_for", wait_for)
    writer = threading.Thread(target=partial.write_taken)
    writer.start()
    try:
        assert begins.wait(HANG_S)
        assert store.blobs.read(chosen.sha256, PIECE, PIECE) == chosen.piece(1)
    finally:
        may_write.set()
        writer.join()
    assert partial.take(2, chosen.piece(2))
    assert partial.finish().read_bytes() == chosen.data


def test_memory_keeps_the_latest_pieces_only() -> None:
    recent = RecentPieces(3 * PIECE)
    for index in range(5):
        recent.put(index, bytes(PIECE))
        recent.put(index, bytes(PIECE))
    assert [index for index in range(5) if recent.get(index) is not None] == [2, 3, 4]
