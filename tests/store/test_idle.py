"""What waits for nothing steps back behind what somebody waits for, and only while it reads."""

from __future__ import annotations

import os

import pytest

from p2pboot.store import idle
from p2pboot.store.idle import idle_disk

IDLE = 3  # IOPRIO_CLASS_IDLE


def io_class() -> int:
    return idle._call(1, 1, 0) >> 13


def test_the_thread_gets_the_disk_last_and_has_its_turn_again_afterwards() -> None:
    if os.uname().machine not in idle._CALLS:
        pytest.skip(f"the number of the system call is not known on {os.uname().machine}")
    before = io_class()
    assert before != IDLE
    with idle_disk():
        assert io_class() == IDLE
        with idle_disk():
            assert io_class() == IDLE
        assert io_class() == IDLE
    assert io_class() == before


def test_where_there_is_no_such_thing_it_reads_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "_CALLS", {})
    with idle_disk():
        done = True
    assert done
