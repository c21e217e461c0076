"""What holds of rates and times left, whatever comes and whenever."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.estimate import LONGEST_LEFT_S, STEP_S, WINDOW_S, RateWindow, left_s

ARRIVALS = st.lists(
    st.tuples(st.floats(0, 30, allow_nan=False), st.integers(0, 10**12)), min_size=1, max_size=60
)  # pauses before, and amounts


@given(ARRIVALS, st.floats(0, 10**9))
def test_a_rate_is_no_more_than_all_that_came_of_late(
    arrivals: list[tuple[float, int]], began: float
) -> None:
    window, now, came = RateWindow(began), began, []
    for pause, amount in arrivals:
        now += pause
        window.note(amount, now)
        came.append((now, amount))
    recent = sum(amount for at, amount in came if at > now - WINDOW_S - STEP_S)
    assert 0 <= window.rate(now) <= recent / STEP_S
    assert window.total == sum(amount for _, amount in came)
    assert window.idle_s(now) == 0


@given(ARRIVALS, st.floats(0, 1000, allow_nan=False))
def test_nothing_for_long_is_no_rate_and_no_time_left(arrivals: list[tuple[float, int]], more: float) -> None:
    window, now = RateWindow(0.0), 0.0
    for pause, amount in arrivals:
        now += pause
        window.note(amount, now)
    then = (
        now + WINDOW_S + 2 * now + more
    )  # on a thin line the next may come twice as late as the one before it
    assert window.rate(then) == 0
    assert left_s(1, window.rate(then)) is None
    assert math.isclose(window.idle_s(then), then - now, abs_tol=1e-6)


@given(st.integers(1, 10**9), st.integers(1, 50), st.integers(1, 200))
def test_a_steady_flow_is_measured_as_what_it_is(amount: int, per_s: int, seconds: int) -> None:
    window = RateWindow(0.0)
    for number in range(1, per_s * seconds + 1):
        window.note(amount, number / per_s)
    # Amounts are kept by a tenth of the window, so the edge of it may take one step more or less.
    assert window.rate(seconds) <= amount * per_s * 1.3 + amount
    assert window.rate(seconds) >= amount * per_s * 0.7 - amount


@given(st.integers(0, 10**15), st.floats(0, 10**12, allow_nan=False))
def test_a_time_left_is_long_enough_at_that_rate_and_not_a_second_longer(left: int, rate: float) -> None:
    seconds = left_s(left, rate)
    if seconds is None:
        assert left > 0
        assert rate == 0 or left / rate > LONGEST_LEFT_S
    else:
        assert seconds * rate >= left or math.isclose(seconds * rate, left)
        assert (seconds - 1) * rate < left or left == 0
