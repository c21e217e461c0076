"""Rates, without a clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.token_bucket import TokenBucket


def test_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=10, burst=30, now=0)
    assert bucket.take(30, now=0) == 0
    assert bucket.take(10, now=0) == 1
    assert bucket.take(10, now=0) == 2  # who comes later waits longer
    assert bucket.take(10, now=3) == 0


def test_bucket_keeps_no_more_than_its_burst() -> None:
    bucket = TokenBucket(rate=10, burst=30, now=0)
    assert bucket.take(40, now=1_000_000) == 1


def test_what_is_given_back_can_be_taken_again_up_to_the_burst() -> None:
    bucket = TokenBucket(rate=10, burst=30, now=0)
    assert bucket.try_take(30, now=0)
    bucket.give_back(5, now=0)
    assert not bucket.try_take(6, now=0)
    bucket.give_back(100, now=0)
    assert bucket.take(40, now=0) == 1


def test_trying_takes_all_or_nothing() -> None:
    bucket = TokenBucket(rate=10, burst=30, now=0)
    assert not bucket.try_take(31, now=0)
    assert bucket.try_take(30, now=0)
    assert not bucket.try_take(1, now=0)
    assert bucket.wait_s(1, now=0) == pytest.approx(0.1)
    assert bucket.try_take(1, now=0.1)


def test_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(rate=10, burst=10, now=100)
    assert bucket.try_take(10, now=100)
    assert not bucket.try_take(1, now=50)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (1, 0), (-1, 1), (float("nan"), 1)])
def test_bucket_without_rate_or_burst_is_refused(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        TokenBucket(rate, burst, now=0)


@given(
    rate=st.floats(0.1, 1e9),
    burst=st.floats(1, 1e9),
    takes=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1e6)), min_size=1, max_size=30),
)
def test_rate_is_kept_however_it_is_taken(
    rate: float, burst: float, takes: list[tuple[float, float]]
) -> None:
    bucket = TokenBucket(rate, burst, now=0)
    now = ready = total = 0.0
    for pause, amount in takes:
        now += pause
        total += amount
        ready = max(ready, now + bucket.take(amount, now))
    assert total <= burst + rate * ready + 1e-6 * (total + burst + rate * ready)
