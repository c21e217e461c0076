"""How long frames are, by what the link drains."""

from __future__ import annotations

import pytest

from p2pboot.transport.tcp.pace import Pace

FULL = 65_507
OVERHEAD = 30  # a Yamux header, the length of a Noise message and its tag


@pytest.mark.parametrize(
    ("bytes_per_s", "turn", "frame"),
    [
        (1_000, 4096, 4096),  # 8 kbit/s: shorter ones would be headers only
        (200_000, 4096, 8192),  # 1.6 Mbit/s
        (400_000, 8192, 16_384),  # 3.2 Mbit/s
        (750_000, 16_384, 32_768),  # 6 Mbit/s
        (6_250_000, FULL, FULL),  # 50 Mbit/s: several at once would be a tenth of a second
    ],
)
def test_a_frame_takes_30_ms_while_others_wait_and_60_while_none_does(
    bytes_per_s: int, turn: int, frame: int
) -> None:
    pace = _pace_of(bytes_per_s)
    assert (pace.turn_body, pace.frame_body) == (turn, frame)
    assert pace.batch_bytes(crowded=True) == pace.low_water == turn + OVERHEAD
    assert pace.batch_bytes(crowded=False) == frame + OVERHEAD


@pytest.mark.parametrize("crowded", [False, True])
def test_a_fast_link_is_given_four_frames_at_a_time(crowded: bool) -> None:
    pace = _pace_of(120_000_000)
    assert pace.frame_body == pace.turn_body == FULL
    assert pace.batch_bytes(crowded=crowded) == pace.low_water == 4 * (FULL + OVERHEAD)


def _pace_of(bytes_per_s: int) -> Pace:
    pace = Pace()
    for _ in range(30):
        pace.note(32_768, 32_768 / bytes_per_s)
    return pace


def test_a_short_stall_changes_nothing_for_long() -> None:
    pace = Pace()
    for _ in range(10):
        pace.note(262_144, 0.001)
    pace.note(262_144, 1.0)
    assert pace.turn_body < FULL
    for _ in range(12):
        pace.note(262_144, 0.001)
    assert pace.turn_body == FULL


def test_a_link_that_became_slow_is_noticed_within_a_second() -> None:
    pace = Pace()
    for _ in range(100):
        pace.note(262_144, 0.001)
    passed = 0.0
    while pace.turn_body > 16_384:
        pace.note(65_536, 65_536 / 200_000)
        passed += 65_536 / 200_000
    assert passed < 1


def test_it_says_when_something_changed() -> None:
    pace = Pace()
    assert pace.note(4096, 1)
    assert not pace.note(4096, 1)


def test_no_time_at_all_is_fast() -> None:
    pace = Pace()
    for _ in range(20):
        pace.note(32_768, 0)
    assert pace.is_fast


def test_a_link_is_not_fast_because_its_buffers_take_the_first_messages() -> None:
    pace = Pace()
    for _ in range(3):
        pace.note(32_768, 0.0001)
    assert not pace.is_fast


def test_a_link_that_waited_for_us_is_not_slow() -> None:
    pace = _pace_of(500_000)
    for _ in range(30):
        pace.note(32_768, 0.5, ran_dry=True)
    before = pace.frame_body, pace.turn_body
    for _ in range(50):
        assert not pace.note(32_768, 0.5, ran_dry=True)
    assert (pace.frame_body, pace.turn_body) == before
    pace.note(4 * 65_507, 0.001, ran_dry=True)  # that much it drained at least
    assert pace.turn_body > before[1]


@pytest.mark.parametrize(("late", "turn"), [(25, 4096), (10, 4096), (4, 16_384), (1, 16_384)])
def test_who_often_comes_late_for_the_link_sends_longer_frames(late: int, turn: int) -> None:
    pace = _pace_of(200_000)
    for number in range(200):
        pace.note(32_768, 32_768 / 200_000, ran_dry=not number % late)
    for _ in range(late - 1):  # since the last time that it did
        pace.note(32_768, 32_768 / 200_000)
    assert pace.turn_body == turn
    for _ in range(100):
        pace.note(32_768, 32_768 / 200_000)
    assert pace.turn_body == 4096
