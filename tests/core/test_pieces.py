import functools
import itertools

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.pieces import (
    KIB,
    MAX_PIECE,
    MAX_PIECES,
    MIB,
    MIN_PIECE,
    USUAL_PIECES,
    PieceSet,
    PieceTable,
    piece_count,
    piece_length_for,
)
from p2pboot.errors import Malformed
from p2pboot.testing.artifacts import PIECE, table_of


@pytest.mark.parametrize("size", [1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE - 1, 3 * PIECE])
def test_pieces_cover_the_artifact_and_match_only_themselves(size: int) -> None:
    data = bytes(at * 31 % 251 for at in range(size))
    table = table_of(data)
    assert table.count == piece_count(size, PIECE) == -(-size // PIECE)
    end = 0
    for index in range(table.count):
        offset, length = table.span(index)
        assert offset == end
        end = offset + length
        piece = data[offset:end]
        assert table.matches(index, piece)
        assert table.matches(index, memoryview(piece))
        assert not table.matches(index, piece[:-1])
        assert not table.matches(index, piece + b"\0")
        assert not table.matches(index, bytes([piece[0] ^ 1]) + piece[1:])
    assert end == size


@given(st.integers(1, MAX_PIECE * MAX_PIECES))
def test_the_default_piece_length_always_fits_and_is_never_larger_than_needed(size: int) -> None:
    length = piece_length_for(size)
    count = piece_count(size, length)
    assert count <= MAX_PIECES
    assert length >= MIB or count <= USUAL_PIECES
    assert length == MIN_PIECE or size > length // 2 * (USUAL_PIECES if length <= MIB else MAX_PIECES)


@pytest.mark.parametrize(
    ("size", "length"),
    [
        (1, 64 * KIB),
        (64 * MIB, 64 * KIB),
        (128 * MIB, 64 * KIB),
        (128 * MIB + 1, 128 * KIB),
        (512 * MIB, 256 * KIB),
        (2048 * MIB, MIB),
        (65_536 * MIB, MIB),
        (65_536 * MIB + 1, 2 * MIB),
    ],
)
def test_new_content_is_cut_into_about_two_thousand_pieces(size: int, length: int) -> None:
    assert piece_length_for(size) == length


def test_a_wanted_piece_length_is_longer_only_where_there_would_be_too_many() -> None:
    assert piece_length_for(1, 16 * MIB) == 16 * MIB
    assert piece_length_for(64 * KIB * MAX_PIECES, 64 * KIB) == 64 * KIB
    assert piece_length_for(64 * KIB * MAX_PIECES + 1, 64 * KIB) == 128 * KIB
    with pytest.raises(ValueError, match="power of two"):
        piece_length_for(1, 3 * MIB)


def test_sizes_and_piece_lengths_out_of_range_are_refused() -> None:
    for size in (0, -1, MAX_PIECE * MAX_PIECES + 1):
        with pytest.raises(ValueError, match=r"below 1 byte|more than 65536 pieces"):
            piece_length_for(size)
    for piece_length in (0, -PIECE, PIECE // 2, PIECE + 1, 3 * PIECE, 2 * MAX_PIECE):
        with pytest.raises(ValueError, match="power of two"):
            piece_count(1, piece_length)


def test_pieces_out_of_range_are_refused() -> None:
    table = table_of(b"x")
    for index in (-1, 1):
        with pytest.raises(IndexError):
            table.span(index)
        with pytest.raises(IndexError):
            table.matches(index, b"x")


def test_a_table_from_a_stranger_is_checked_against_the_signed_digest() -> None:
    table = table_of(b"y" * (PIECE + 1))
    parse = functools.partial(PieceTable.parse, size=table.size, piece_length=PIECE, digest_hex=table.digest)
    assert parse(table.raw) == table
    assert table.digest == blake3(table.raw).hexdigest()
    swapped = table.raw[32:] + table.raw[:32]
    for raw in (b"", table.raw[:-1], table.raw + b"\0" * 32, swapped):
        with pytest.raises(Malformed, match="piece table"):
            parse(raw)
    with pytest.raises(Malformed, match="power of two"):
        PieceTable.parse(table.raw, size=table.size, piece_length=3, digest_hex=table.digest)


SETS = st.sampled_from((1, 7, 8, 9, 70, 256, 257, 600)).flatmap(
    lambda count: st.tuples(st.just(count), *[st.sets(st.integers(0, count - 1))] * 2)
)


@given(SETS)
def test_a_piece_set_behaves_like_a_set_of_integers(drawn: tuple[int, set[int], set[int]]) -> None:
    count, left, right = drawn
    a, b = PieceSet.of(count, left), PieceSet.of(count, right)
    assert list(a) == sorted(left)
    assert set(a & b) == left & right
    assert set(a | b) == left | right
    assert set(a - b) == left - right
    assert set(a.missing()) == set(range(count)) - left
    assert set(a.with_piece(count - 1)) == left | {count - 1}
    assert (len(a), bool(a), a.complete) == (len(left), bool(left), len(left) == count)
    assert [index for index in range(-2, count + 2) if index in a] == sorted(left)
    assert (a == b) == (left == right)
    assert PieceSet.from_bytes(a.to_bytes(), count) == a


@given(SETS)
def test_runs_and_parts_of_a_piece_set(drawn: tuple[int, set[int], set[int]]) -> None:
    count, left, _ = drawn
    pieces = PieceSet.of(count, left)
    runs = list(pieces.runs())
    assert [index for run in runs for index in run] == sorted(left)
    assert all(one.stop < other.start for one, other in itertools.pairwise(runs))
    assert all(PieceSet.of(count, run) == PieceSet.of(count, list(run)) for run in runs)
    part = range(count // 3, count - count // 4)
    assert list(pieces.part(part)) == [index - part.start for index in sorted(left) if index in part]


@given(st.integers(0, 40), st.binary(max_size=6))
def test_bitmaps_have_one_form(count: int, raw: bytes) -> None:
    padding = int.from_bytes(raw, "big") % (1 << (-count % 8))
    if len(raw) == -(-count // 8) and padding == 0:
        assert PieceSet.from_bytes(raw, count).to_bytes() == raw
    else:
        with pytest.raises(ValueError, match="bitmap"):
            PieceSet.from_bytes(raw, count)


@pytest.mark.parametrize(
    ("raw", "count"), [(b"\x01", 7), (b"\xff\x40", 9), (b"", 1), (b"\0\0", 8), (b"\0", 0)]
)
def test_padding_and_length_of_a_bitmap_are_checked(raw: bytes, count: int) -> None:
    with pytest.raises(ValueError, match="bitmap"):
        PieceSet.from_bytes(raw, count)


def test_the_first_piece_is_the_most_significant_bit() -> None:
    assert PieceSet.of(9, [0, 8]).to_bytes() == b"\x80\x80"


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, MAX_PIECES])
def test_a_full_piece_set_holds_everything(count: int) -> None:
    full = PieceSet.full(count)
    assert full.complete
    assert len(full) == count
    assert not full.missing()
    assert PieceSet.from_bytes(full.to_bytes(), count) == full


def test_the_count_of_a_bitmap_is_checked() -> None:
    for count in (-1, MAX_PIECES + 1):
        with pytest.raises(ValueError, match="bitmap"):
            PieceSet.from_bytes(b"", count)


@pytest.mark.parametrize("last", [1, PIECE - 1, PIECE])
@pytest.mark.parametrize("layout", ["0", "x", "x0", "0x", "0x00", "xx0xx", "000"])
def test_pieces_of_zeros_are_told_by_their_digests(layout: str, last: int) -> None:
    pieces = [(b"x" if kind == "x" else b"\0") * PIECE for kind in layout]
    pieces[-1] = pieces[-1][:last]
    data = b"".join(pieces)
    table = table_of(data)
    zeros = table.zeros()
    assert [index in zeros for index in range(table.count)] == [kind == "0" for kind in layout]
    rebuilt = bytearray(data)
    for offset, length in table.extents(zeros):
        assert not any(data[offset : offset + length])
        rebuilt[offset : offset + length] = b"h" * length
    for offset, length in table.extents(zeros.missing()):
        assert set(data[offset : offset + length]) == set(b"x")
        rebuilt[offset : offset + length] = b"h" * length
    assert set(rebuilt) == set(b"h")
    runs = table.extents(zeros) + table.extents(zeros.missing())
    assert len(runs) == 1 + sum(a != b for a, b in itertools.pairwise(layout))
