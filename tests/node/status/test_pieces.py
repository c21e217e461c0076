"""Sets of pieces, short enough for a document."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.pieces import MAX_PIECES, PieceSet
from p2pboot.node.status.pieces import MAX_RUNS, run_lengths


def read(runs: list[int]) -> set[int]:
    """The pieces that run lengths mean."""
    ends = [0, *accumulate(runs)]
    return {index for number in range(1, len(runs), 2) for index in range(ends[number], ends[number + 1])}


@given(
    st.integers(1, 400).flatmap(lambda count: st.tuples(st.just(count), st.sets(st.integers(0, count - 1))))
)
def test_runs_mean_the_very_set_and_add_up_to_all(case: tuple[int, set[int]]) -> None:
    count, held = case
    told = run_lengths(PieceSet.of(count, held), count, is_whole=False)
    assert told["held_of"] is None
    assert read(told["held"]) == held
    assert sum(told["held"]) == count


@pytest.mark.parametrize(("is_whole", "runs"), [(True, [0, 9]), (False, [9])])
def test_where_no_set_is_known_it_is_all_or_nothing(is_whole: bool, runs: list[int]) -> None:
    assert run_lengths(None, 9, is_whole=is_whole) == {"held": runs, "held_of": None}


@pytest.mark.parametrize("count", [2 * MAX_RUNS, 2 * MAX_RUNS + 1, MAX_PIECES])
def test_a_set_of_too_many_runs_becomes_shares(count: int) -> None:
    told = run_lengths(PieceSet.of(count, range(0, count, 2)), count, is_whole=False)
    assert told["held"] is None
    assert len(told["held_of"]) == MAX_RUNS
    assert all(33 <= share <= 67 for share in told["held_of"])


def test_a_part_is_full_only_when_nothing_of_it_is_missing() -> None:
    count = MAX_PIECES
    scattered = set(range(0, count // 2, 2)) | set(range(count // 2, count - 1))
    shares = run_lengths(PieceSet.of(count, scattered), count, is_whole=False)["held_of"]
    assert shares[-2:] == [100, 99]


@given(st.sets(st.integers(0, 4095)))
def test_there_are_never_too_many_numbers(held: set[int]) -> None:
    told = run_lengths(PieceSet.of(4096, held), 4096, is_whole=False)
    assert len(told["held"] or told["held_of"]) <= MAX_RUNS
