from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pboot.core.pieces import PieceSet
from p2pboot.core.tally import Tally, bits_of, bits_of_all, first_run, from_on, last_of, runs_of

COUNT = 12
SETS = st.sets(st.integers(0, COUNT - 1))


def bits(indices: set[int]) -> int:
    return PieceSet.of(COUNT, indices).bits


def indices(found: int) -> set[int]:
    return set(PieceSet(COUNT, found & (1 << COUNT) - 1))


@settings(max_examples=200, deadline=None)
@given(st.lists(SETS, max_size=9), st.sets(st.integers(0, 8)), SETS, st.integers(0, 9))
def test_it_counts_like_a_counter(
    holders: list[set[int]], leaving: set[int], among: set[int], most: int
) -> None:
    tally, counter = Tally(), Counter[int]()
    for held in holders:
        tally.add(bits(held))
        counter.update(held)
    for number in leaving:
        if number < len(holders):
            tally.remove(bits(holders[number]))
            counter.subtract(holders[number])
    assert indices(tally.some) == {piece for piece in range(COUNT) if counter[piece]}
    assert indices(tally.several) == {piece for piece in range(COUNT) if counter[piece] > 1}
    assert indices(tally.at_most(most)) == {piece for piece in range(COUNT) if counter[piece] <= most}
    least = min((counter[piece] for piece in among), default=0)
    assert indices(tally.fewest(bits(among))) == {piece for piece in among if counter[piece] == least}


@given(SETS, st.integers(1, 14))
def test_runs_are_those_of_the_piece_set(held: set[int], most: int) -> None:
    expected = list(PieceSet(COUNT, bits(held)).runs())
    assert runs_of(COUNT, bits(held), most) == expected[:most]
    assert bits_of_all(COUNT, expected) == bits(held)
    if expected:
        first = expected[0]
        assert first_run(COUNT, bits(held), most) == range(first.start, min(first.stop, first.start + most))


@given(SETS, st.integers(0, 14))
def test_the_last_of_a_set_are_its_last_pieces(held: set[int], most: int) -> None:
    assert indices(last_of(bits(held), most)) == set(sorted(held, reverse=True)[:most])


@pytest.mark.parametrize(("index", "expected"), [(0, {2, 5}), (3, {5}), (6, {2, 5})])
def test_a_look_from_a_piece_on_goes_round(index: int, expected: set[int]) -> None:
    assert indices(from_on(COUNT, bits({2, 5}), index)) == expected


def test_a_run_is_the_pieces_of_its_range() -> None:
    assert bits_of(COUNT, range(3, 6)) == bits({3, 4, 5})
