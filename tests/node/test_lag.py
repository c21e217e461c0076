from __future__ import annotations

import trio
from trio.testing import MockClock

from p2pboot.node.lag import BOUNDS_S, EVERY_S, Lag


def test_each_measurement_is_in_its_bucket_and_all_above() -> None:
    lag = Lag()
    for late_s in (-1.0, BOUNDS_S[0], 0.3, 1000.0):
        lag.note(late_s)
    buckets = dict(lag.buckets())
    assert buckets[BOUNDS_S[0]] == 2
    assert (buckets[0.25], buckets[0.5]) == (2, 3)
    assert (buckets[BOUNDS_S[-1]], buckets[float("inf")]) == (3, 4)
    assert lag.sum_s == BOUNDS_S[0] + 0.3 + 1000.0


async def test_a_loop_that_stood_is_seen(mock_clock: MockClock) -> None:
    lag = Lag()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lag.run)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(EVERY_S + 3.0)  # as if a task had computed for 3 s
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert dict(lag.buckets())[2.5] == 0
    assert dict(lag.buckets())[5.0] == 1
