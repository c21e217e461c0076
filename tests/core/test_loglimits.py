from __future__ import annotations

from p2pboot.core.events import Event
from p2pboot.core.loglimits import (
    ALL_BURST,
    ALL_PER_S,
    EACH_BURST,
    EACH_PER_S,
    REMEMBERED,
    LogLimits,
)


def admitted(
    limits: LogLimits, count: int, now: float, event: Event = Event.PEER_DROPPED, **fields: str
) -> int:
    return sum(limits.admits(event, fields, now) for _ in range(count))


def test_one_peer_has_a_few_lines_and_then_two_a_minute() -> None:
    limits = LogLimits(0.0)
    assert admitted(limits, 1000, 0.0, peer="a") == EACH_BURST
    assert admitted(limits, 1000, 60.0, peer="a") == 60 * EACH_PER_S
    assert admitted(limits, 1, 60.0, peer="b") == 1


def test_many_peers_have_no_more_than_all_may() -> None:
    limits = LogLimits(0.0)
    assert sum(admitted(limits, 1, 0.0, peer=f"peer{number}") for number in range(5000)) == ALL_BURST
    later = sum(admitted(limits, 1, 30.0, peer=f"other{number}") for number in range(5000))
    assert later == 30 * ALL_PER_S


def test_peer_ids_at_one_address_are_one() -> None:
    limits = LogLimits(0.0)
    found = sum(
        admitted(limits, 1, 0.0, peer=f"peer{number}", address=f"2001:db8:1:2::{number:x}")
        for number in range(1, 99)
    )
    assert found == EACH_BURST


def test_what_no_peer_causes_is_not_limited() -> None:
    limits = LogLimits(0.0)
    assert admitted(limits, 1000, 0.0, event=Event.HELD, channel="stable") == 1000
    assert limits.take() is None


def test_peers_do_not_hide_a_problem_and_a_problem_that_flaps_is_limited() -> None:
    limits = LogLimits(0.0)
    for number in range(5000):
        limits.admits(Event.PEER_DROPPED, {"peer": f"peer{number}"}, 0.0)
    assert admitted(limits, 100, 0.0, event=Event.PROBLEM, code="clock", subject="clock") == EACH_BURST
    assert admitted(limits, 1, 0.0, event=Event.PROBLEM, code="state", subject="/var") == 1


def test_what_was_left_out_is_told_once() -> None:
    limits = LogLimits(0.0)
    admitted(limits, EACH_BURST + 3, 0.0, peer="a")
    admitted(limits, EACH_BURST + 4, 1.0, peer="b")
    assert limits.take() == (7, 2)
    assert limits.take() is None


def test_it_remembers_a_bounded_number() -> None:
    limits = LogLimits(0.0)
    for number in range(3 * REMEMBERED):
        limits.admits(Event.PEER_DROPPED, {"peer": f"peer{number}"}, 0.0)
    assert len(limits._each) == REMEMBERED
    assert limits.take() == (3 * REMEMBERED - ALL_BURST, REMEMBERED)


def test_what_fails_at_every_try_is_not_said_at_every_try() -> None:
    limits = LogLimits(0.0)
    assert admitted(limits, 1000, 0.0, Event.HTTP_FAILED) == EACH_BURST
    assert admitted(limits, 1000, 0.0, Event.SERVING_FAILED, op="read") == EACH_BURST
    assert admitted(limits, 1000, 0.0, Event.TASK_FAILED, task="announce") == EACH_BURST
    assert admitted(limits, 1000, 0.0, Event.TASK_FAILED, task="publish") == EACH_BURST
    assert sum(admitted(limits, 1, 0.0, peer=f"peer{number}") for number in range(200)) == ALL_BURST
