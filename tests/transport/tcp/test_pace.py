"""How long frames are, by what the link drains."""

from __future__ import annotations

import pytest

from p2pboot.transport.tcp.pace import Pace

FULL = 65_507


@pytest.mark.parametrize(
    ("bytes_per_s", "frame", "at_once"),
    [
        (1_000, 4096, 1),  # 8 kbit/s: shorter ones would be headers only
        (200_000, 8192, 1),  # 1.6 Mbit/s
        (750_000, 32_768, 1),  # 6 Mbit/s
        (6_250_000, FULL, 1),  # 50 Mbit/s: several at once would be a tenth of a second
        (120_000_000, FULL, 4),
    ],
)
def test_a_frame_takes_a_twentieth_of_a_second_at_most(bytes_per_s: int, frame: int, at_once: int) -> None:
    pace = Pace()
    for _ in range(30):
        pace.note(32_768, 32_768 / bytes_per_s)
    assert pace.frame_body == frame
    assert pace.batch_bytes == at_once * pace.message_bytes


def test_a_short_stall_changes_nothing_for_long() -> None:
    pace = Pace()
    for _ in range(10):
        pace.note(262_144, 0.001)
    pace.note(262_144, 1.0)
    assert pace.frame_body < FULL
    for _ in range(12):
        pace.note(262_144, 0.001)
    assert pace.frame_body == FULL


def test_a_link_that_became_slow_is_noticed_within_a_second() -> None:
    pace = Pace()
    for _ in range(100):
        pace.note(262_144, 0.001)
    passed = 0.0
    while pace.frame_body > 8192:
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
