from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from p2pboot.core import pieces
from p2pboot.core.pieces import MIB, PieceSet
from p2pboot.errors import BlobMissing, Contradiction, MachineError
from p2pboot.store import reading, recent
from p2pboot.store.errors import BlobGone, RangeError, StoreFull
from p2pboot.store.hashes import FileIdentity, HashedFile
from p2pboot.store.hashing import HashedPath
from p2pboot.store.partials import PartialBlob
from p2pboot.store.reading import SLICE_BYTES, SliceDigests, read_checked
from p2pboot.store.recent import PiecesAhead
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, SIZES, Sample, sample, table_of
from p2pboot.testing.stores import hold, is_intact

NOT_DIGESTS = ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "/" * 64]


def put_fetched(store: Store, chosen: Sample) -> Path:
    return hold(store, chosen.artifact, chosen.data)


def put_in_place(store: Store, chosen: Sample, name: str = "vmlinuz") -> Path:
    path = store.path.parent / name
    path.write_bytes(chosen.data)
    store.blobs.register_in_place(path, chosen.sha256, chosen.table, FileIdentity.of(path.stat()))
    return path


def put_partial(store: Store, chosen: Sample) -> PartialBlob:
    """Every piece is there, only `finish` was not called."""
    partial = store.blobs.begin(chosen.sha256, chosen.table)
    assert partial is not None
    for index in range(chosen.table.count):
        partial.write(index, chosen.piece(index))
    return partial


Put = Callable[[Store, Sample], Path]
WAYS = [put_fetched, put_in_place]


class TestEveryHolding:
    """One contract, however an artifact came to be held."""

    @pytest.mark.parametrize("put", [*WAYS, put_partial])
    @pytest.mark.parametrize("size", SIZES)
    def test_every_range_reads_as_it_was(self, store: Store, put: Put, size: int) -> None:
        chosen = sample(size)
        put(store, chosen)
        edges = sorted({0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, size - 1, size} & set(range(size + 1)))
        for start in edges:
            for end in edges:
                if start < end:
                    data = store.blobs.read(chosen.sha256, start, end - start)
                    assert type(data) is bytes
                    assert data == chosen.data[start:end]

    @pytest.mark.parametrize("put", [*WAYS, put_partial])
    @pytest.mark.parametrize(
        ("offset", "length"),
        [(0, 0), (-1, 1), (0, -1), (0, PIECE + 2), (PIECE + 1, 1), (0, 2**70), (2**70, 1)],
    )
    def test_a_range_outside_is_refused_with_the_size(
        self, store: Store, put: Put, offset: int, length: int
    ) -> None:
        chosen = sample(PIECE + 1)
        put(store, chosen)
        with pytest.raises(RangeError) as caught:
            store.blobs.read(chosen.sha256, offset, length)
        assert caught.value.size == PIECE + 1

    @pytest.mark.parametrize("put", WAYS)
    def test_what_is_held_is_said(self, store: Store, put: Put) -> None:
        chosen = sample(3 * PIECE)
        put(store, chosen)
        assert store.blobs.holds(chosen.sha256)
        assert store.blobs.table(chosen.sha256) == chosen.table
        assert store.blobs.held(chosen.sha256) == PieceSet.full(3)
        assert store.blobs.path(chosen.sha256).read_bytes() == chosen.data
        assert is_intact(store.blobs, chosen.sha256)
        assert store.blobs.begin(chosen.sha256, chosen.table) is None

    @pytest.mark.parametrize("put", WAYS)
    @pytest.mark.parametrize("where", [0, PIECE, 3 * PIECE + 16])
    def test_a_flipped_bit_is_noticed_remembered_and_said_once(
        self, store: Store, put: Put, where: int
    ) -> None:
        chosen = sample(3 * PIECE + 17)
        path = put(store, chosen)
        flip(path, where)
        with pytest.raises(BlobGone) as caught:
            store.blobs.read(chosen.sha256, where, 1)
        assert caught.value.digest == chosen.sha256
        assert not store.blobs.holds(chosen.sha256)
        with pytest.raises(BlobGone):
            store.blobs.read(chosen.sha256, 0, 1)
        assert store.blobs.take_damaged() == (chosen.sha256,)
        assert store.blobs.take_damaged() == ()
        with pytest.raises(BlobMissing):
            store.blobs.read(chosen.sha256, 0, 1)

    @pytest.mark.parametrize("put", WAYS)
    @pytest.mark.parametrize("size", [0, 1, 3 * PIECE - 1, 3 * PIECE + 1])
    def test_another_size_is_noticed_without_reading(self, store: Store, put: Put, size: int) -> None:
        chosen = sample(3 * PIECE)
        os.truncate(put(store, chosen), size)
        assert not store.blobs.holds(chosen.sha256)
        assert store.blobs.take_damaged() == (chosen.sha256,)

    @pytest.mark.parametrize("put", WAYS)
    def test_a_bad_sector_counts_as_damage(
        self, store: Store, put: Put, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chosen = sample(PIECE)
        put(store, chosen)

        def bad_sector(*_: object) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", bad_sector)
            with pytest.raises(BlobGone):
                store.blobs.read(chosen.sha256, 0, 1)
        assert store.blobs.take_damaged() == (chosen.sha256,)

    @pytest.mark.parametrize("put", WAYS)
    def test_damage_is_found_where_it_is_read(self, store: Store, put: Put) -> None:
        chosen = sample(3 * PIECE)
        flip(put(store, chosen), 2 * PIECE)
        assert store.blobs.holds(chosen.sha256)  # times are no reason to take an artifact away
        assert not is_intact(store.blobs, chosen.sha256)
        assert store.blobs.take_damaged() == (chosen.sha256,)


def flip(path: Path, where: int) -> None:
    with path.open("r+b") as file:
        file.seek(where)
        byte = file.read(1)[0]
        file.seek(where)
        file.write(bytes([byte ^ 1]))


def test_what_is_unknown_is_not_held(store: Store) -> None:
    for text in ["0" * 64, *NOT_DIGESTS]:
        assert not store.blobs.holds(text)
        assert store.blobs.table(text) is None
        assert store.blobs.held(text) is None
        assert not is_intact(store.blobs, text)
        store.blobs.remove(text)
        with pytest.raises(BlobMissing):
            store.blobs.read(text, 0, 1)
        with pytest.raises(BlobMissing):
            store.blobs.path(text)


@pytest.mark.parametrize("text", NOT_DIGESTS)
def test_no_path_is_made_of_what_is_no_digest(store: Store, tmp_path: Path, text: str) -> None:
    chosen = sample(1)
    (tmp_path / "file").write_bytes(chosen.data)
    with pytest.raises(ValueError, match="not a digest"):
        store.blobs.register_in_place(
            tmp_path / "file", text, chosen.table, FileIdentity.of((tmp_path / "file").stat())
        )


def test_the_pieces_of_a_partial_are_read_as_soon_as_they_are_there(store: Store) -> None:
    chosen = sample(3 * PIECE)
    partial = store.blobs.begin(chosen.sha256, chosen.table)
    assert partial is not None
    partial.write(1, chosen.piece(1))
    assert store.blobs.read(chosen.sha256, PIECE + 5, 100) == chosen.data[PIECE + 5 : PIECE + 105]
    for offset, length in [(0, 1), (PIECE - 1, 2), (PIECE, PIECE + 1)]:
        with pytest.raises(BlobMissing):
            store.blobs.read(chosen.sha256, offset, length)
    assert not store.blobs.holds(chosen.sha256)
    held = store.blobs.held(chosen.sha256)
    assert held is not None
    assert list(held.missing()) == [0, 2]
    assert store.blobs.table(chosen.sha256) == chosen.table


def put_whole(store: Store, one: Sample) -> Sample:
    hold(store, one.artifact, one.data)
    return one


def test_what_was_taken_and_is_not_written_yet_is_read(store: Store) -> None:
    coming = sample(3 * PIECE)
    partial = store.blobs.begin(coming.sha256, coming.table)
    assert partial is not None
    assert partial.write(0, coming.piece(0))
    assert partial.take(1, coming.piece(1))
    assert store.blobs.at_hand(coming.sha256, PIECE, PIECE) == coming.piece(1)
    assert store.blobs.at_hand(coming.sha256, PIECE - 1, 2) is None  # of two pieces
    assert store.blobs.at_hand(coming.sha256, 2 * PIECE, PIECE) is None  # not here
    assert store.blobs.at_hand(coming.sha256, PIECE, 0) is None
    assert store.blobs.at_hand(coming.sha256, -1, 1) is None
    assert store.blobs.read(coming.sha256, 0, 2 * PIECE) == coming.data[: 2 * PIECE]


def test_pieces_that_are_read_in_order_come_with_those_behind_them_once(store: Store) -> None:
    held = put_whole(store, sample(40 * PIECE + 17))

    def ahead(index: int) -> bytes | None:
        return store.blobs.at_hand(held.sha256, *held.table.span(index))

    assert store.blobs.read(held.sha256, 0, PIECE) == held.piece(0)
    assert ahead(1) is None
    assert store.blobs.read(held.sha256, PIECE, PIECE) == held.piece(1)
    assert [ahead(index) for index in range(2, 17)] == [held.piece(index) for index in range(2, 17)]
    assert ahead(17) is None
    assert ahead(2) is None
    assert store.blobs.read(held.sha256, 17 * PIECE, PIECE) == held.piece(17)
    for index in range(18, 33):
        assert ahead(index) == held.piece(index)
    assert store.blobs.read(held.sha256, 33 * PIECE, PIECE) == held.piece(33)
    assert ahead(40) == held.piece(40)  # the short one at the end


def test_rot_behind_a_piece_that_is_read_costs_it_nothing(store: Store) -> None:
    held = put_whole(store, sample(4 * PIECE))
    path = store.blobs.path(held.sha256)
    data = bytearray(held.data)
    data[2 * PIECE] ^= 1
    path.write_bytes(data)
    for index in (0, 1):
        assert store.blobs.read(held.sha256, index * PIECE, PIECE) == held.piece(index)
    assert store.blobs.at_hand(held.sha256, 2 * PIECE, PIECE) is None
    with pytest.raises(BlobGone):
        store.blobs.read(held.sha256, 2 * PIECE, PIECE)


def test_nothing_read_ahead_outlives_what_it_was_read_from(store: Store) -> None:
    held = put_whole(store, sample(4 * PIECE))
    for index in (0, 1):
        store.blobs.read(held.sha256, index * PIECE, PIECE)
    store.blobs.remove(held.sha256)
    assert store.blobs.at_hand(held.sha256, 2 * PIECE, PIECE) is None


def test_what_was_read_ahead_is_given_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    ahead = PiecesAhead()
    ahead.put("a", 0, [b"0", b"1", b"2"])
    assert ahead.take("a", 1, 1) == b"1"
    now += 1.1
    assert ahead.take("a", 2, 1) is None


def test_what_is_read_ahead_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "_MOST_AHEAD", 3)
    ahead = PiecesAhead()
    ahead.put("a", 0, [b"0", b"1", b"2"])
    ahead.put("b", 0, [b"0", b"1", b"2"])
    assert ahead.take("a", 1, 1) is None
    assert ahead.take("a", 2, 1) == b"2"
    assert ahead.take("b", 1, 1) == b"1"


def test_a_read_goes_on_when_the_artifact_is_finished_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = sample(PIECE)
    partial = put_partial(store, chosen)
    real = type(partial).has

    def finish_then_say(self: object, index: int) -> bool:
        monkeypatch.undo()
        partial.finish()  # between the look at what is held and the opening of the file
        return real(partial, index) or True

    monkeypatch.setattr(type(partial), "has", finish_then_say)
    assert store.blobs.read(chosen.sha256, 0, PIECE) == chosen.data


def test_small_reads_hash_their_piece_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = sample(2 * PIECE)
    put_fetched(store, chosen)
    checked: list[int] = []
    matches = type(chosen.table).matches

    def noting(table: object, index: int, data: bytes) -> bool:
        checked.append(index)
        return matches(chosen.table, index, data)

    monkeypatch.setattr(type(chosen.table), "matches", noting)
    for offset in range(0, 2 * PIECE, 1024):
        store.blobs.read(chosen.sha256, offset, 1024)
    assert checked == [0, 1]


def test_an_aligned_read_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = sample(3 * PIECE + 1)
    path = tmp_path / "a"
    path.write_bytes(chosen.data)
    delivered: list[bytes] = []
    pread = os.pread

    def noting(fd: int, length: int, offset: int) -> bytes:
        delivered.append(pread(fd, length, offset))
        return delivered[-1]

    monkeypatch.setattr(os, "pread", noting)
    fd = os.open(path, os.O_RDONLY)
    for offset, length in [(0, PIECE), (PIECE, 2 * PIECE), (2 * PIECE, PIECE + 1)]:
        data = read_checked(fd, chosen.table, offset, length, SliceDigests())
        assert data is delivered[-1]
    os.close(fd)
    assert len(delivered) == 3


def test_a_short_read_of_the_system_is_continued(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = sample(PIECE)
    put_fetched(store, chosen)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: pread(fd, min(length, 10_000), offset))
    assert store.blobs.read(chosen.sha256, 0, PIECE) == chosen.data


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes were hashed, each time."""
    lengths: list[int] = []

    def noting(data: bytes) -> Any:
        lengths.append(len(data))
        return blake3(data)

    monkeypatch.setattr(reading, "blake3", noting)
    monkeypatch.setattr(pieces, "blake3", noting)
    return lengths


def test_small_reads_of_a_large_piece_hash_it_once_and_then_a_slice_each(
    store: Store, hashed: list[int]
) -> None:
    big = sample(4 * MIB, piece_length=4 * MIB)
    put_fetched(store, big)
    assert store.blobs.holds(big.sha256)  # its table was read
    hashed.clear()
    assert store.blobs.read(big.sha256, 5, 1) == big.data[5:6]
    assert sum(hashed) == 2 * 4 * MIB + SLICE_BYTES  # whole, in slices, and the one that was asked for
    hashed.clear()
    for offset in range(7, 4 * MIB, 99_991):
        assert store.blobs.read(big.sha256, offset, 1) == big.data[offset : offset + 1]
    assert set(hashed) == {SLICE_BYTES}
    hashed.clear()
    assert store.blobs.read(big.sha256, SLICE_BYTES - 1, SLICE_BYTES + 2) == big.data[65_535 : 2 * 65_536 + 1]
    assert hashed == [SLICE_BYTES] * 3


def test_what_was_checked_is_read_again_by_the_slice(store: Store, hashed: list[int]) -> None:
    chosen = sample(2 * MIB + 100, piece_length=MIB)
    put_fetched(store, chosen)
    store.blobs.check(chosen.sha256, 5, 2 * MIB)
    hashed.clear()
    read = b"".join(store.blobs.read(chosen.sha256, at, SLICE_BYTES) for at in range(0, 2 * MIB, SLICE_BYTES))
    assert read == chosen.data[: 2 * MIB]
    assert sum(hashed) == 2 * MIB


def test_rot_in_a_slice_is_noticed_although_its_piece_was_good(store: Store) -> None:
    chosen = sample(4 * PIECE, piece_length=2 * PIECE)
    path = put_fetched(store, chosen)
    assert store.blobs.read(chosen.sha256, 0, 1) == chosen.data[:1]
    flip(path, PIECE + 7)
    assert store.blobs.read(chosen.sha256, 1, 1) == chosen.data[1:2]  # of the other slice
    with pytest.raises(BlobGone):
        store.blobs.read(chosen.sha256, PIECE, 1)


@pytest.mark.parametrize("bad", [0, 2 * PIECE])
def test_check_finds_rot_in_every_piece_that_covers_the_range(store: Store, bad: int) -> None:
    chosen = sample(3 * PIECE)
    flip(put_fetched(store, chosen), bad)
    with pytest.raises(BlobGone):
        store.blobs.check(chosen.sha256, PIECE - 1, PIECE + 2)
    assert store.blobs.take_damaged() == (chosen.sha256,)


def test_digests_of_slices_are_bounded_and_the_least_used_go_first() -> None:
    slices = SliceDigests(700)
    for piece in (b"a", b"b"):
        slices.put(piece, bytes(50))
    slices.get(b"a")
    slices.put(b"c", bytes(50))
    assert [slices.get(piece) is None for piece in (b"a", b"b", b"c")] == [False, True, False]


def test_rot_costs_only_the_bad_piece(store: Store) -> None:
    chosen = sample(3 * PIECE)
    flip(put_fetched(store, chosen), PIECE)
    assert not is_intact(store.blobs, chosen.sha256)
    partial = store.blobs.begin(chosen.sha256, chosen.table)
    assert partial is not None
    assert list(partial.held.missing()) == [1]
    partial.write(1, chosen.piece(1))
    partial.finish()
    assert is_intact(store.blobs, chosen.sha256)


def test_a_linked_output_that_was_edited_is_noticed_and_never_written_to(store: Store) -> None:
    chosen = sample(2 * PIECE)
    output = store.path.parent / "rootfs"
    os.link(put_fetched(store, chosen), output)
    flip(output, 0)
    edited = output.read_bytes()
    with pytest.raises(BlobGone):
        store.blobs.read(chosen.sha256, 0, 1)
    put_fetched(store, chosen)
    assert output.read_bytes() == edited
    assert store.blobs.read(chosen.sha256, 0, 2 * PIECE) == chosen.data


# the publisher's own files


def test_one_content_in_two_places_survives_the_change_of_one(store: Store) -> None:
    chosen = sample(PIECE)
    first, second = put_in_place(store, chosen, "one"), put_in_place(store, chosen, "two")
    first.write_bytes(b"changed")
    assert store.blobs.read(chosen.sha256, 0, PIECE) == chosen.data
    assert store.blobs.take_damaged() == (chosen.sha256,)
    assert store.blobs.path(chosen.sha256) == second
    second.unlink()
    assert not store.blobs.holds(chosen.sha256)


def test_a_path_registered_again_no_longer_serves_its_old_content(store: Store) -> None:
    old, new = sample(PIECE, 1), sample(PIECE, 2)
    put_in_place(store, old)
    put_in_place(store, new)
    assert not store.blobs.holds(old.sha256)
    assert store.blobs.read(new.sha256, 0, PIECE) == new.data
    assert store.blobs.take_damaged() == ()


def test_a_change_with_the_same_times_is_noticed_and_hashed_again(store: Store) -> None:
    chosen = sample(PIECE)
    path = store.path.parent / "vmlinuz"
    path.write_bytes(sample(PIECE, 9).data)  # as if it changed within the clock's tick after it was hashed
    identity = FileIdentity.of(path.stat())
    store.hashes.put(identity, HashedFile(chosen.sha256, chosen.table))
    store.blobs.register_in_place(path, chosen.sha256, chosen.table, identity)
    assert store.blobs.holds(chosen.sha256)
    with pytest.raises(BlobGone):
        store.blobs.read(chosen.sha256, 0, 1)
    assert store.blobs.take_damaged() == (chosen.sha256,)
    assert store.hashes.get(identity) is None


def test_a_file_exchanged_between_the_look_and_the_opening_is_noticed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = sample(PIECE)
    path = put_in_place(store, chosen)
    look, looks = HashedPath.look, iter([0])

    def exchange_after_the_look(file: HashedPath) -> FileIdentity | None:
        seen = look(file)
        for _ in looks:  # once
            path.write_bytes(sample(PIECE - 1).data)
        return seen

    monkeypatch.setattr(HashedPath, "look", exchange_after_the_look)
    with pytest.raises(BlobGone):
        store.blobs.read(chosen.sha256, 0, PIECE)


def touch(path: Path) -> None:
    os.utime(path, (1, 1))


def rename_a_copy_over_it(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.rename(path)


def replace_the_directory(path: Path) -> None:
    """As when a share is restored: every file is another one, with the same content."""
    other = path.parent / "other"
    other.mkdir()
    copy = other / path.name
    copy.write_bytes(path.read_bytes())
    path.unlink()
    copy.rename(path)


TOUCHES = [
    touch,
    lambda path: path.chmod(0o640),
    lambda path: os.link(path, path.with_name("backup")),
    lambda path: path.rename(path.with_name("away")).rename(path),
    rename_a_copy_over_it,
    replace_the_directory,
]


@pytest.mark.parametrize("change", TOUCHES)
def test_a_file_whose_metadata_changed_is_served_on_and_examined(
    store: Store, change: Callable[[Path], object]
) -> None:
    chosen = sample(2 * PIECE + 1)
    path = put_in_place(store, chosen)
    before = FileIdentity.of(path.stat())
    while FileIdentity.of(path.stat()) == before:  # the clock of the file system ticks every few milliseconds
        change(path)
        for left in ("backup", "other"):
            remains = path.with_name(left)
            if remains.is_dir():
                remains.rmdir()
            else:
                remains.unlink(missing_ok=True)
    assert store.blobs.has_suspects({chosen.sha256})
    assert store.blobs.read(chosen.sha256, 0, chosen.table.size) == chosen.data
    store.blobs.examine_in_place()
    assert not store.blobs.has_suspects({chosen.sha256})
    assert is_intact(store.blobs, chosen.sha256)
    assert store.blobs.take_damaged() == ()
    known = store.hashes.get(FileIdentity.of(path.stat()))
    assert known == HashedFile(chosen.sha256, chosen.table)  # nobody has to hash it once more


def test_a_file_is_served_while_it_is_examined(store: Store) -> None:
    chosen = sample(3 * PIECE)
    path = put_in_place(store, chosen)
    touch(path)
    read: list[bytes] = []
    store.blobs.examine_in_place(lambda: read.append(store.blobs.read(chosen.sha256, 0, PIECE)))
    assert read == [chosen.piece(0)] * 3


def test_examining_finds_other_content_of_the_same_size(store: Store) -> None:
    chosen = sample(3 * PIECE)
    path = put_in_place(store, chosen)
    flip(path, 2 * PIECE)
    touch(path)  # the change may have fallen into one tick of the clock
    assert store.blobs.holds(chosen.sha256)
    store.blobs.examine_in_place()
    assert not store.blobs.holds(chosen.sha256)
    assert store.blobs.take_damaged() == (chosen.sha256,)


def test_a_file_that_is_touched_while_it_is_examined_is_examined_again(store: Store) -> None:
    chosen = sample(PIECE)
    path = put_in_place(store, chosen)
    touch(path)
    store.blobs.examine_in_place(lambda: os.utime(path, (2, 2)))
    assert store.blobs.has_suspects({chosen.sha256})
    assert store.blobs.holds(chosen.sha256)
    store.blobs.examine_in_place()
    assert not store.blobs.has_suspects({chosen.sha256})


def test_a_file_that_was_away_is_served_again_when_it_is_back(store: Store) -> None:
    chosen = sample(PIECE)
    path = put_in_place(store, chosen)
    path.rename(path.with_name("away"))
    for _ in range(3):
        assert not store.blobs.holds(chosen.sha256)
    assert store.blobs.take_damaged() == (chosen.sha256,)
    assert not store.blobs.holds(chosen.sha256)
    assert store.blobs.take_damaged() == ()  # told once
    path.with_name("away").rename(path)
    assert store.blobs.read(chosen.sha256, 0, PIECE) == chosen.data
    path.unlink()
    assert not store.blobs.holds(chosen.sha256)
    assert store.blobs.take_damaged() == (chosen.sha256,)  # it is news again


def test_a_file_that_is_gone_with_its_release_is_not_looked_for_any_more(store: Store) -> None:
    chosen = sample(PIECE)
    path = put_in_place(store, chosen)
    path.rename(path.with_name("away"))
    assert not store.blobs.holds(chosen.sha256)
    store.manifests.retain()  # no manifest names it
    path.with_name("away").rename(path)
    assert not store.blobs.holds(chosen.sha256)


def test_a_pipe_in_the_place_of_a_file_does_not_block(store: Store) -> None:
    chosen = sample(1)
    path = put_in_place(store, chosen)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BlobGone):
        store.blobs.read(chosen.sha256, 0, 1)
    assert store.blobs.take_damaged() == (chosen.sha256,)


def test_files_in_place_are_never_deleted(store: Store) -> None:
    chosen = sample(1)
    path = put_in_place(store, chosen)
    store.blobs.remove(chosen.sha256)
    store.manifests.retain()
    assert store.blobs.holds(chosen.sha256)
    assert path.read_bytes() == chosen.data
    assert store.blobs.used_bytes() == 0


# bringing in


@pytest.mark.parametrize("put", WAYS)
def test_another_table_of_what_is_held_is_made_from_the_disk(state: Path, put: Put) -> None:
    chosen, coarse = sample(3 * PIECE + 1), sample(3 * PIECE + 1, piece_length=2 * PIECE)
    with Store.open(state) as store:
        put(store, chosen)
        assert store.blobs.by_table(coarse.table.digest) is None
        assert not store.blobs.holds(chosen.sha256, coarse.table.digest)
        assert store.blobs.begin(coarse.sha256, coarse.table) is None
        for one, count in ((chosen, 4), (coarse, 2)):
            assert store.blobs.holds(one.sha256, one.table.digest)
            assert store.blobs.by_table(one.table.digest) == (one.sha256, one.table)
            assert store.blobs.table(one.sha256, one.table.digest) == one.table
            assert store.blobs.held(one.sha256, one.table.digest) == PieceSet.full(count)
        assert store.blobs.table(chosen.sha256, "0" * 64) is None
        assert store.blobs.held(chosen.sha256, "0" * 64) is None
        assert store.blobs.read(chosen.sha256, 0, 3 * PIECE + 1) == chosen.data
    with Store.open(state) as store:
        known = put is put_fetched  # what lies elsewhere is not held before it is registered
        assert (store.blobs.by_table(coarse.table.digest) is not None) == known
        put(store, chosen)
        assert store.blobs.by_table(coarse.table.digest) == (coarse.sha256, coarse.table)


@pytest.mark.parametrize("put", WAYS)
def test_a_table_that_is_not_true_of_what_is_held_contradicts_it(store: Store, put: Put) -> None:
    chosen = sample(3 * PIECE)
    put(store, chosen)
    for lie in (table_of(bytes(3 * PIECE), 2 * PIECE), table_of(bytes(PIECE)), table_of(bytes(3 * PIECE))):
        with pytest.raises(Contradiction):
            store.blobs.begin(chosen.sha256, lie)
        assert store.blobs.by_table(lie.digest) is None
    assert store.blobs.table(chosen.sha256) == chosen.table
    assert store.blobs.take_damaged() == ()


@pytest.mark.parametrize("put", WAYS)
def test_rot_that_is_found_when_a_table_is_made_is_nobodys_lie(store: Store, put: Put) -> None:
    chosen, coarse = sample(4 * PIECE), sample(4 * PIECE, piece_length=2 * PIECE)
    flip(put(store, chosen), 0)
    partial = store.blobs.begin(coarse.sha256, coarse.table)
    assert partial is not None
    assert list(partial.held.missing()) == ([0] if put is put_fetched else [0, 1])
    assert store.blobs.take_damaged() == (chosen.sha256,)


def test_an_artifact_on_its_way_is_known_by_the_table_by_which_it_was_begun(store: Store) -> None:
    chosen, coarse = sample(4 * PIECE), sample(4 * PIECE, piece_length=2 * PIECE)
    partial = store.blobs.begin(chosen.sha256, chosen.table)
    assert partial is not None
    for index in (0, 1, 2):
        partial.write(index, chosen.piece(index))
    assert store.blobs.by_table(chosen.table.digest) == (chosen.sha256, chosen.table)
    assert store.blobs.held(chosen.sha256, chosen.table.digest) == PieceSet.of(4, [0, 1, 2])
    assert store.blobs.held(chosen.sha256, coarse.table.digest) is None
    with pytest.raises(MachineError, match="is being fetched"):
        store.blobs.begin(coarse.sha256, coarse.table)
    partial.close()
    assert store.blobs.by_table(chosen.table.digest) is None
    again = store.blobs.begin(coarse.sha256, coarse.table)
    assert again is not None
    assert list(again.held) == [0]  # of the second one a half is missing
    assert store.blobs.by_table(chosen.table.digest) is None


def test_an_otherwise_cut_file_in_place_keeps_its_former_table(store: Store) -> None:
    chosen, coarse = sample(3 * PIECE), sample(3 * PIECE, piece_length=2 * PIECE)
    put_in_place(store, chosen)
    put_in_place(store, coarse)
    assert store.blobs.tables(chosen.sha256).keys() == {chosen.table.digest, coarse.table.digest}
    put_in_place(store, sample(PIECE, 1))
    assert store.blobs.by_table(chosen.table.digest) is None


def test_a_bogus_table_of_an_abandoned_partial_does_not_stand_in_the_way(state: Path) -> None:
    bogus = sample(2 * PIECE, 1, sha256=sample(2 * PIECE).sha256)
    with Store.open(state) as store:
        put_partial(store, bogus)
    with Store.open(state) as store:
        chosen = sample(2 * PIECE)
        assert put_fetched(store, chosen).read_bytes() == chosen.data
        assert store.blobs.read(chosen.sha256, 0, 2 * PIECE) == chosen.data


def test_rot_may_be_mended_by_a_manifest_with_another_table(store: Store) -> None:
    chosen, coarse = sample(3 * PIECE), sample(3 * PIECE, piece_length=2 * PIECE)
    path = put_fetched(store, chosen)
    assert store.blobs.table(chosen.sha256) == chosen.table
    flip(path, 0)
    assert not is_intact(store.blobs, chosen.sha256)
    put_fetched(store, coarse)
    assert store.blobs.tables(chosen.sha256).keys() == {chosen.table.digest, coarse.table.digest}
    assert is_intact(store.blobs, chosen.sha256)


def test_a_full_disk_is_noticed_before_anything_is_fetched(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pboot.store.room.free_bytes", lambda _directory: 4 * PIECE)
    chosen = sample(5 * PIECE)
    with pytest.raises(
        MachineError, match=rf"{5 * PIECE} bytes are needed in {store.path}/partial, \d+ are available"
    ) as caught:
        store.blobs.begin(chosen.sha256, chosen.table)
    assert caught.value.remedy is not None
    assert os.listdir(store.path / "partial") == []
    monkeypatch.undo()
    assert store.blobs.begin(chosen.sha256, chosen.table) is not None


def test_a_file_that_the_system_refuses_is_noticed_before_anything_is_fetched(state: Path) -> None:
    # A real failing system call, in a process of its own because the limit can not be raised again.
    script = (
        "import resource, sys; from pathlib import Path; from p2pboot.errors import MachineError\n"
        "from p2pboot.store.store import Store; from tests.store.samples import sample\n"
        "chosen = sample(5 << 20)\n"
        "store = Store.open(Path(sys.argv[1]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))\n"
        "try: store.blobs.begin(chosen.sha256, chosen.table)\n"
        "except MachineError as error: print(error.message)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, str(state)], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout == f"cannot write {5 << 20} bytes into {state}/partial: File too large\n"
    assert os.listdir(state / "partial") == []


def test_the_quota_counts_whole_artifacts_and_the_full_size_of_partials(state: Path) -> None:
    first, second, third = sample(2 * PIECE, 1), sample(PIECE, 2), sample(1, 3)
    with Store.open(state, quota_bytes=3 * PIECE) as store:
        put_fetched(store, first)
        partial = store.blobs.begin(second.sha256, second.table)
        assert partial is not None
        partial.write(0, second.data)
        assert store.blobs.used_bytes() == 3 * PIECE
        with pytest.raises(StoreFull) as caught:
            store.blobs.begin(third.sha256, third.table)
        assert (caught.value.needed, caught.value.used, caught.value.quota) == (1, 3 * PIECE, 3 * PIECE)
        assert caught.value.exit_status == 4
        assert "quota" in str(caught.value.remedy)
        store.blobs.remove(first.sha256)
        assert store.blobs.begin(third.sha256, third.table) is not None
    with Store.open(state, quota_bytes=1) as store:  # what was begun may be finished
        assert store.blobs.begin(second.sha256, second.table) is not None


@pytest.mark.parametrize("rotten", [False, True])
def test_artifacts_survive_the_loss_of_the_database_but_are_checked(state: Path, rotten: bool) -> None:
    chosen = sample(3 * PIECE)
    with Store.open(state) as store:
        path = put_fetched(store, chosen)
    if rotten:
        flip(path, 0)
    for file in state.glob("state.sqlite3*"):
        file.unlink()
    with Store.open(state) as store:
        assert not store.blobs.holds(chosen.sha256)
        assert store.blobs.used_bytes() == 3 * PIECE
        partial = store.blobs.begin(chosen.sha256, chosen.table)
        if rotten:
            assert partial is not None
            assert list(partial.held.missing()) == [0]
        else:
            assert partial is None
            assert store.blobs.read(chosen.sha256, 0, 3 * PIECE) == chosen.data


def test_a_removed_artifact_is_gone_whole_or_partial(store: Store) -> None:
    whole, partial = sample(PIECE, 1), sample(2 * PIECE, 2)
    put_fetched(store, whole)
    put_partial(store, partial)
    for chosen in (whole, partial):
        store.blobs.remove(chosen.sha256)
        assert store.blobs.table(chosen.sha256) is None
        assert store.blobs.held(chosen.sha256) is None
    assert store.blobs.used_bytes() == 0
    assert store.blobs.take_damaged() == ()


def test_the_longest_read_may_begin_inside_the_largest_piece(store: Store) -> None:
    big = sample(16 * MIB + 5, piece_length=16 * MIB)
    put_fetched(store, big)
    assert store.blobs.read(big.sha256, 1, 16 * MIB) == big.data[1 : 16 * MIB + 1]
    with pytest.raises(RangeError):
        store.blobs.read(big.sha256, 0, 16 * MIB + 1)


def test_a_table_of_the_same_bytes_is_the_same_table() -> None:
    assert table_of(sample(PIECE + 1).data) == sample(PIECE + 1).table
