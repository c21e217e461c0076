from __future__ import annotations

from collections.abc import Callable

import pytest

from p2pboot.gateway.slots import SLOW_AFTER_S, SLOW_BYTES_PER_S, STALL_S, Slot, Slots

MINUTE_BYTES = int(SLOW_AFTER_S * SLOW_BYTES_PER_S)


class Connections:
    """Slots with names, and which of them were cut."""

    def __init__(self, limit: int) -> None:
        self.slots = Slots(limit)
        self.cut: list[str] = []

    def _cutter(self, name: str) -> Callable[[], None]:
        return lambda: self.cut.append(name)

    def admit(self, name: str, now: float) -> Slot | None:
        slot = Slot(self._cutter(name), now)
        return slot if self.slots.admit(slot, now) else None

    def busy(self, name: str, now: float, taken: int = 0) -> Slot:
        slot = self.admit(name, now)
        assert slot is not None
        slot.answer(now)
        if taken:
            slot.moved(taken, now)
        return slot


def test_resting_connections_make_room_the_longest_first() -> None:
    connections = Connections(2)
    connections.admit("younger", 5.0)
    connections.admit("older", 1.0)
    assert connections.admit("new", 6.0)
    assert connections.cut == ["older"]
    assert len(connections.slots) == 2


def test_slow_readers_make_room_the_slowest_first() -> None:
    connections = Connections(3)
    connections.busy("slow", 0.0, MINUTE_BYTES // 2)
    connections.busy("slowest", 0.0, 1)
    connections.busy("quick", 0.0, 2 * MINUTE_BYTES)
    assert connections.admit("new", SLOW_AFTER_S)
    assert connections.cut == ["slowest"]


def test_nobody_is_cut_before_a_minute_is_over() -> None:
    connections = Connections(1)
    connections.busy("one", 0.0)
    assert connections.admit("new", SLOW_AFTER_S - 1) is None
    assert connections.cut == []
    assert connections.slots.refused == 1


def test_slow_readers_stay_while_there_are_slots() -> None:
    connections = Connections(2)
    connections.busy("slow", 0.0, 1)
    assert connections.admit("new", 10 * SLOW_AFTER_S)
    assert connections.cut == []


@pytest.mark.parametrize(("taken", "slow"), [(MINUTE_BYTES - 1, True), (MINUTE_BYTES, False)])
def test_ten_kilobytes_a_second_are_enough(taken: int, slow: bool) -> None:
    slot = Connections(1).busy("one", 0.0, taken)
    assert slot.is_slow(SLOW_AFTER_S) is slow


def test_a_quick_start_does_not_excuse_for_ever() -> None:
    slot = Connections(1).busy("one", 0.0, 1000 * MINUTE_BYTES)
    slot.moved(1, SLOW_AFTER_S)  # the minute before was quick; a new one begins
    assert not slot.is_slow(SLOW_AFTER_S)
    assert slot.is_slow(2 * SLOW_AFTER_S)


def test_a_slow_reader_that_gets_quick_is_kept() -> None:
    slot = Connections(1).busy("one", 0.0, 1)
    assert slot.is_slow(SLOW_AFTER_S)
    slot.moved(2 * MINUTE_BYTES, SLOW_AFTER_S)
    assert not slot.is_slow(SLOW_AFTER_S)


def test_time_between_requests_does_not_count_as_slowness() -> None:
    slot = Connections(1).busy("one", 0.0)
    slot.rest(1.0)
    assert not slot.is_slow(10 * SLOW_AFTER_S)
    assert not slot.is_stalled(10 * STALL_S)


def test_stalled_readers_are_cut_even_when_there_is_room() -> None:
    connections = Connections(5)
    connections.busy("gone", 0.0)
    alive = connections.busy("alive", 0.0)
    alive.moved(1, STALL_S - 1)
    connections.slots.cut_stalled(STALL_S)
    assert connections.cut == ["gone"]
    assert connections.slots.cut == 1


def test_released_slot_is_free_and_release_is_idempotent() -> None:
    connections = Connections(1)
    slot = connections.busy("one", 0.0)
    connections.slots.release(slot)
    connections.slots.release(slot)
    assert connections.admit("new", 1.0)
    assert connections.cut == []


def test_what_our_own_limit_holds_back_is_neither_slow_nor_stalled() -> None:
    connections = Connections(1)
    slot = connections.busy("one", 0.0)
    slot.hold(1.0)
    later = 1.0 + STALL_S + SLOW_AFTER_S
    connections.slots.cut_stalled(later)
    assert connections.admit("new", later) is None
    slot.let_go(later)
    assert not slot.is_stalled(later)
    assert not slot.is_slow(later + SLOW_AFTER_S - 1.5)
    assert slot.is_slow(later + SLOW_AFTER_S)
    assert slot.is_stalled(later + STALL_S)
