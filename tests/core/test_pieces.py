import functools
import itertools

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.pieces import (
    DEFAULT_PIECE,
    MAX_PIECE,
    MAX_PIECES,
    Bitmap,
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
    piece_length = piece_length_for(size)
    assert piece_count(size, piece_length) <= MAX_PIECES
    assert piece_length == DEFAULT_PIECE or size > piece_length // 2 * MAX_PIECES


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


@given(st.data(), st.integers(0, 70))
def test_a_bitmap_agrees_with_a_set(data: st.DataObject, count: int) -> None:
    bitmap, model = Bitmap(count), set[int]()
    steps = st.tuples(st.booleans(), st.integers(0, count - 1)) if count else st.nothing()
    for setting, index in data.draw(st.lists(steps)):
        (bitmap.set if setting else bitmap.clear)(index)
        (model.add if setting else model.discard)(index)
    assert [index for index in range(count) if bitmap.test(index)] == sorted(model)
    assert list(bitmap.missing()) == sorted(set(range(count)) - model)
    assert (len(bitmap), bitmap.held, bitmap.complete) == (count, len(model), len(model) == count)
    again = Bitmap.from_bytes(bitmap.to_bytes(), count)
    assert again == bitmap
    assert again.held == bitmap.held


@given(st.integers(0, 40), st.binary(max_size=6))
def test_bitmaps_have_one_form(count: int, raw: bytes) -> None:
    padding = int.from_bytes(raw, "big") % (1 << (-count % 8))
    if len(raw) == -(-count // 8) and padding == 0:
        assert Bitmap.from_bytes(raw, count).to_bytes() == raw
    else:
        with pytest.raises(ValueError, match="bitmap"):
            Bitmap.from_bytes(raw, count)


@pytest.mark.parametrize(
    ("raw", "count"), [(b"\x01", 7), (b"\xff\x40", 9), (b"", 1), (b"\0\0", 8), (b"\0", 0)]
)
def test_padding_and_length_of_a_bitmap_are_checked(raw: bytes, count: int) -> None:
    with pytest.raises(ValueError, match="bitmap"):
        Bitmap.from_bytes(raw, count)


def test_the_first_piece_is_the_most_significant_bit() -> None:
    bitmap = Bitmap(9)
    bitmap.set(0)
    bitmap.set(8)
    assert bitmap.to_bytes() == b"\x80\x80"


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, MAX_PIECES])
def test_a_full_bitmap_holds_everything(count: int) -> None:
    bitmap = Bitmap.full(count)
    assert bitmap.complete
    assert bitmap.held == count
    assert not list(bitmap.missing())
    assert Bitmap.from_bytes(bitmap.to_bytes(), count) == bitmap


def test_a_copy_is_independent_and_the_range_is_checked() -> None:
    bitmap = Bitmap(3)
    other = bitmap.copy()
    other.set(2)
    assert not bitmap.test(2)
    for index in (-1, 3):
        with pytest.raises(IndexError):
            bitmap.set(index)
    for count in (-1, MAX_PIECES + 1):
        with pytest.raises(ValueError, match="bitmap"):
            Bitmap(count)


@pytest.mark.parametrize("last", [1, PIECE - 1, PIECE])
@pytest.mark.parametrize("layout", ["0", "x", "x0", "0x", "0x00", "xx0xx", "000"])
def test_pieces_of_zeros_are_told_by_their_digests(layout: str, last: int) -> None:
    pieces = [(b"x" if kind == "x" else b"\0") * PIECE for kind in layout]
    pieces[-1] = pieces[-1][:last]
    data = b"".join(pieces)
    table = table_of(data)
    zeros = table.zeros()
    assert [zeros.test(index) for index in range(table.count)] == [kind == "0" for kind in layout]
    rebuilt = bytearray(data)
    for offset, length in table.runs(zeros, held=True):
        assert not any(data[offset : offset + length])
        rebuilt[offset : offset + length] = b"h" * length
    for offset, length in table.runs(zeros, held=False):
        assert set(data[offset : offset + length]) == set(b"x")
        rebuilt[offset : offset + length] = b"h" * length
    assert set(rebuilt) == set(b"h")
    runs = table.runs(zeros, held=True) + table.runs(zeros, held=False)
    assert len(runs) == 1 + sum(a != b for a, b in itertools.pairwise(layout))
