from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.pieces import Bitmap
from p2pboot.fetch.receiving.piecesets import PieceSet

sets = st.integers(1, 70).flatmap(
    lambda count: st.tuples(
        st.just(count), st.sets(st.integers(0, count - 1)), st.sets(st.integers(0, count - 1))
    )
)


@given(sets)
def test_it_behaves_like_a_set_of_integers(drawn: tuple[int, set[int], set[int]]) -> None:
    count, left, right = drawn
    a, b = PieceSet.of(count, left), PieceSet.of(count, right)
    assert list(a) == sorted(left)
    assert set(a & b) == left & right
    assert set(a | b) == left | right
    assert set(a - b) == left - right
    assert len(a) == len(left)
    assert bool(a) == bool(left)
    assert all((index in a) == (index in left) for index in range(count))
    assert a.complete == (len(left) == count)


@given(sets)
def test_it_reads_bitmaps_of_any_padding(drawn: tuple[int, set[int], set[int]]) -> None:
    count, held, _ = drawn
    bitmap = Bitmap(count)
    for index in held:
        bitmap.set(index)
    assert set(PieceSet.from_bitmap(bitmap)) == held


def test_full_has_every_piece() -> None:
    assert list(PieceSet.full(9)) == list(range(9))
    assert PieceSet.full(9).complete
