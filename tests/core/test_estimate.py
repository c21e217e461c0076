"""Rates and times left: what is shown to people, on a clock in the test's hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.estimate import LONGEST_GAP_S, LONGEST_LEFT_S, WINDOW_S, RateWindow, left_s


def steady(rate: int, seconds: int, begun_at: float = 1000.0) -> tuple[RateWindow, float]:
    """So many bytes each second, in ten parts."""
    window = RateWindow(begun_at)
    for tenth in range(10 * seconds):
        window.note(rate // 10, begun_at + tenth / 10)
    return window, begun_at + seconds


@pytest.mark.parametrize("seconds", [2, 5, 10, 60])
def test_a_steady_rate_is_told_as_it_is(seconds: int) -> None:
    window, now = steady(1_000_000, seconds)
    assert window.rate(now) == pytest.approx(1_000_000, rel=0.11)
    assert window.total == 1_000_000 * seconds


def test_what_stopped_is_told_as_slower_and_slower_and_then_as_nothing() -> None:
    window, now = steady(1000, 20)
    rates = [window.rate(now + pause) for pause in (0, 3, 6, 9, WINDOW_S + 1)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == 0.0


def test_some_seconds_after_a_long_pause_the_rate_is_that_of_now() -> None:
    window, now = steady(1000, 20)
    for second in range(15):
        window.note(50_000, now + 3600 + second)
        assert window.rate(now + 3600 + second) <= 50_000
    assert window.rate(now + 3615) == pytest.approx(50_000, rel=0.1)


@pytest.mark.parametrize("gap_s", [3, 11, 30])
def test_on_a_thin_line_a_piece_came_since_the_one_before(gap_s: int) -> None:
    window = RateWindow(0.0)
    for number in range(1, 20):
        for second in range(gap_s):
            if number > 2:
                assert 400 <= window.rate((number - 1) * gap_s + second) <= 1000
        window.note(1000 * gap_s, number * gap_s)


def test_what_came_after_a_pause_did_not_take_all_of_it() -> None:
    window = RateWindow(0.0)
    window.note(60_000, 100_000.0)
    assert window.rate(100_000.0) == 60_000 / LONGEST_GAP_S


def test_the_first_moment_is_no_estimate() -> None:
    window = RateWindow(0.0)
    window.note(1_000_000, 0.0001)
    assert window.rate(0.0002) == 1_000_000  # a second is the least


def test_nothing_is_a_rate_of_nothing() -> None:
    assert RateWindow(5.0).rate(100.0) == 0.0


def test_it_is_idle_since_the_last_amount_or_since_the_beginning() -> None:
    window = RateWindow(10.0)
    assert window.idle_s(12.0) == 2.0
    window.note(1, 15.0)
    assert window.idle_s(17.5) == 2.5


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 10**9)), max_size=200))
def test_no_amounts_make_a_rate_below_nothing_or_much_memory(amounts: list[tuple[float, int]]) -> None:
    window, now = RateWindow(0.0), 0.0
    for step, amount in amounts:
        now += step
        window.note(amount, now)
        assert 0 <= window.rate(now) <= window.total
        assert len(window._amounts) <= 12
    assert window.total == sum(amount for _, amount in amounts)
    assert window.rate(now + 10 * WINDOW_S + 1000) == 0


@pytest.mark.parametrize(
    ("left", "rate", "seconds"),
    [
        (0, 0.0, 0),
        (-1, 5.0, 0),
        (100, 0.0, None),
        (100, 30.0, 4),
        (1, 1e-9, None),
        (LONGEST_LEFT_S, 1.0, LONGEST_LEFT_S),
    ],
)
def test_what_is_left_takes_so_long(left: int, rate: float, seconds: int | None) -> None:
    assert left_s(left, rate) == seconds
