from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock

from p2pboot.core.events import Event, event_of, fields_of
from p2pboot.node.bringing import FIRST_S, INTERVAL_S, LoggedProgress

MB = 1_000_000


async def test_the_log_has_a_line_now_and_then_and_seldom_one_while_nothing_comes(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    progress = LoggedProgress("stable", "x86_64", 7)
    progress.plan({"rootfs": 1000 * MB})
    progress.artifact("rootfs", 100 * MB, 1000 * MB)
    for second in range(1, 71):
        await trio.sleep(1)
        progress.arrived("A", "publisher", MB)
        progress.artifact("rootfs", (100 + second) * MB, 1000 * MB)
        progress.pulse(0.0, 3)
    assert [record.message.partition(",")[0] for record in caplog.records] == [
        f"stable/x86_64: fetching {percent} % of 1.0 GB" for percent in (10, 13, 16)
    ]
    assert FIRST_S + 2 * INTERVAL_S < 70
    fields = fields_of(caplog.records[-1])
    assert event_of(caplog.records[-1]) is Event.FETCHING
    assert (fields["manifest_version"], fields["peers"], fields["done_bytes"]) == (7, 3, 165 * MB)
    assert fields["left_s"] == pytest.approx(835, rel=0.2)
    caplog.clear()
    for second in range(1, 1000):
        await trio.sleep(1)
        progress.pulse(float(second), 0)
    assert 3 <= len(caplog.records) <= 6
    assert "waiting for a peer" in caplog.records[-1].message
    assert "left_s" not in fields_of(caplog.records[-1])
