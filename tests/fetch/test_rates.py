import math

from p2pboot.fetch.receiving.rates import RateMeter


def test_a_burst_counts_once_it_spans_enough_time() -> None:
    meter = RateMeter(now=0.0)
    meter.delivered(100, now=0.05)
    assert meter.bytes_per_s is None
    meter.delivered(100, now=0.2)
    assert meter.bytes_per_s == 1000


def test_idle_time_is_not_held_against_the_peer() -> None:
    meter = RateMeter(now=0.0)
    meter.delivered(100, now=0.05)
    meter.start(now=10.0)
    meter.delivered(100, now=10.15)
    assert meter.bytes_per_s is not None
    assert math.isclose(meter.bytes_per_s, 1000)


def test_what_is_overdue_is_expected_never() -> None:
    meter = RateMeter(now=0.0)
    meter.delivered(1000, now=1.0)
    assert meter.expected_s(2000, now=1.5) == 1.5
    assert meter.expected_s(2000, now=3.4) == 0
    assert meter.expected_s(2000, now=3.6) == math.inf


def test_an_unknown_peer_is_hoped_quick_for_a_moment() -> None:
    meter = RateMeter(now=0.0)
    assert meter.best_case_s(1000) == 0
    assert meter.expected_s(1000, now=0.4) == 0
    assert meter.expected_s(1000, now=0.6) == math.inf
