from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from p2pboot.core.origins import Party
from p2pboot.gateway.slots import REST_S, SLOW_AFTER_S, SLOW_BYTES_PER_S, STALL_S, Progress, Slot, Slots

ENOUGH = int(SLOW_AFTER_S * SLOW_BYTES_PER_S)


@dataclass
class Connection:
    """One with a name, and what the kernel would tell of it."""

    name: str
    slots: Slots
    progress: Progress = field(default_factory=Progress)
    waiting: bool = False

    def __post_init__(self) -> None:
        self.cut = False

    def open(self, origin: str, now: float) -> Connection:
        self.slot = Slot(Party(origin), self._end, lambda: self.progress, now)
        self.admitted = self.slots.admit(self.slot, now)
        return self

    def wait(self) -> bool:
        self.waiting = self.slots.wait(self.slot, self._enter)
        return self.waiting

    def _enter(self) -> None:
        self.admitted, self.waiting = True, False

    def _end(self) -> None:
        self.cut = True

    def takes(self, size: int, seconds: float, *, by_choice: bool = True) -> None:
        """So many bytes arrive in so long, in which the client's window is closed, or else the network is slow."""
        now = self.progress
        closed_s = now.closed_s + (seconds if by_choice else 0)
        self.progress = Progress(now.taken + size, now.busy_s + seconds, closed_s)


class Connections:
    """Those of several origins, of which some get a reply."""

    def __init__(self, limit: int) -> None:
        self.slots = Slots(limit)
        self.all: list[Connection] = []

    def open(self, name: str, now: float = 0.0, *, origin: str = "192.0.2.1") -> Connection:
        self.all.append(Connection(name, self.slots).open(origin, now))
        return self.all[-1]

    def busy(self, name: str, now: float = 0.0, *, origin: str = "192.0.2.1") -> Connection:
        one = self.open(name, now, origin=origin)
        assert one.admitted
        one.slot.answer(now)
        return one

    @property
    def cut(self) -> list[str]:
        return [one.name for one in self.all if one.cut]


def test_resting_connections_make_room_the_longest_first() -> None:
    connections = Connections(2)
    connections.open("younger", 5.0)
    connections.open("older", 1.0)
    assert connections.open("new", 6.0).admitted
    assert connections.cut == ["older"]
    assert len(connections.slots) == 2


def test_new_connection_has_a_moment_for_its_request() -> None:
    connections = Connections(1)
    connections.open("one", 0.0)
    assert not connections.open("early", REST_S / 2).admitted
    assert connections.open("late", REST_S).admitted


def test_slow_readers_make_room_the_slowest_first() -> None:
    connections = Connections(3)
    for name, size in (("slow", ENOUGH // 2), ("slowest", 1), ("quick", 2 * ENOUGH)):
        connections.busy(name).takes(size, SLOW_AFTER_S)
    connections.slots.measure(SLOW_AFTER_S)
    assert connections.open("new", SLOW_AFTER_S).admitted
    assert connections.cut == ["slowest"]


def test_nobody_is_slow_before_his_time_is_over() -> None:
    connections = Connections(1)
    connections.busy("one").takes(0, SLOW_AFTER_S - 1)
    connections.slots.measure(SLOW_AFTER_S - 1)
    assert not connections.open("new", SLOW_AFTER_S - 1).admitted
    assert connections.cut == []


def test_slow_readers_stay_while_there_are_slots() -> None:
    connections = Connections(2)
    connections.busy("slow").takes(1, 10 * SLOW_AFTER_S)
    connections.slots.measure(10 * SLOW_AFTER_S)
    assert connections.open("new", 10 * SLOW_AFTER_S).admitted
    assert connections.cut == []


@pytest.mark.parametrize(
    ("taken", "by_choice", "slow"),
    [(ENOUGH - 1, True, True), (ENOUGH, True, False), (0, False, False)],
)
def test_slow_is_who_chooses_to_read_slowly(taken: int, by_choice: bool, slow: bool) -> None:
    """A crowd behind a thin line, and whom our own limits hold back, are no slow readers."""
    connections = Connections(1)
    one = connections.busy("one")
    one.takes(taken, SLOW_AFTER_S, by_choice=by_choice)
    connections.slots.measure(SLOW_AFTER_S)
    assert one.slot.is_slow is slow


def test_a_quick_start_does_not_excuse_for_ever() -> None:
    connections = Connections(1)
    one = connections.busy("one")
    one.takes(1000 * ENOUGH, SLOW_AFTER_S)
    connections.slots.measure(SLOW_AFTER_S)
    one.takes(1, SLOW_AFTER_S)
    connections.slots.measure(2 * SLOW_AFTER_S)
    assert one.slot.is_slow


def test_a_slow_reader_that_gets_quick_is_kept() -> None:
    connections = Connections(1)
    one = connections.busy("one")
    one.takes(1, SLOW_AFTER_S)
    connections.slots.measure(SLOW_AFTER_S)
    assert one.slot.is_slow
    one.takes(2 * ENOUGH, 1.0)
    connections.slots.measure(SLOW_AFTER_S + 1)
    assert not one.slot.is_slow


def test_time_between_requests_does_not_count_as_slowness() -> None:
    connections = Connections(1)
    one = connections.busy("one")
    one.slot.rest(1.0)
    one.takes(0, 10 * STALL_S)
    connections.slots.measure(10 * STALL_S)
    assert not one.slot.is_slow
    assert not one.cut


def test_stalled_readers_are_cut_even_when_there_is_room() -> None:
    connections = Connections(5)
    gone, alive = connections.busy("gone"), connections.busy("alive")
    connections.busy("held back by our own limit")
    for now in range(1, int(STALL_S) + 2):
        gone.takes(0, 1.0)
        alive.takes(now % 2, 1.0)
        connections.slots.measure(now)
    assert connections.cut == ["gone"]
    assert connections.slots.cut == 1


def test_released_slot_is_free_and_release_is_idempotent() -> None:
    connections = Connections(1)
    one = connections.busy("one")
    connections.slots.release(one.slot, 0.0)
    connections.slots.release(one.slot, 0.0)
    assert connections.open("new", 1.0).admitted
    assert connections.cut == []


# by address


def test_one_address_alone_may_have_all_but_the_reserve() -> None:
    connections = Connections(16)
    for number in range(14):
        connections.busy(str(number))
    assert not connections.open("one too many").admitted
    assert connections.open("newcomer", origin="192.0.2.2").admitted
    assert connections.cut == []


def test_newcomers_get_the_slots_of_whoever_holds_most_until_all_have_the_same() -> None:
    connections = Connections(16)
    for number in range(14):
        connections.busy(f"a{number}").takes(ENOUGH * (number + 1), SLOW_AFTER_S)
    connections.slots.measure(SLOW_AFTER_S)
    admitted = [connections.open(f"b{number}", 20.0, origin="192.0.2.2").admitted for number in range(10)]
    assert admitted == 7 * [True] + 3 * [False]
    assert connections.cut == ["a0", "a1", "a2", "a3", "a4"]


@pytest.mark.parametrize("others", ["192.0.2.{}", "2001:db8:{}::1"])
def test_full_house_of_strangers_keeps_those_who_read(others: str) -> None:
    connections = Connections(8)
    for number in range(8):
        connections.busy(str(number), origin=others.format(number)).takes(number * ENOUGH, SLOW_AFTER_S)
    connections.slots.measure(SLOW_AFTER_S)
    new = [connections.open(f"new {end}", 20.0, origin=f"198.51.100.{end}").admitted for end in (1, 2)]
    assert new == [True, False]
    assert connections.cut == ["0"]


def test_who_is_above_its_share_replaces_only_its_own() -> None:
    connections = Connections(4)
    connections.open("other", 0.0, origin="192.0.2.2")
    for number in range(3):
        connections.open(f"own {number}", 1.0)
    assert connections.open("new", 9.0).admitted
    assert connections.cut == ["own 0"]


# waiting


def test_who_waits_gets_the_next_slot_the_first_first() -> None:
    connections = Connections(2)
    held = [connections.busy("one"), connections.busy("two")]
    waiting = [connections.open(name) for name in ("first", "second")]
    assert all(one.wait() for one in waiting)
    connections.slots.release(held[0].slot, 1.0)
    assert [one.admitted for one in waiting] == [True, False]
    connections.slots.give_up(waiting[1].slot)
    connections.slots.release(held[1].slot, 1.0)
    assert not waiting[1].admitted
    assert connections.slots.refused == 1


def test_who_waits_gets_the_slot_of_who_turns_out_slow() -> None:
    connections = Connections(2)
    for name in ("one", "two"):
        connections.busy(name).takes(1, SLOW_AFTER_S)
    waiting = [connections.open(name) for name in ("first", "second", "third")]
    for one in waiting[:2]:
        assert one.wait()
    assert not waiting[2].wait()  # as many may wait as there are slots
    connections.slots.measure(SLOW_AFTER_S)
    assert [one.admitted for one in waiting] == [True, True, False]
    assert connections.cut == ["one", "two"]


def test_others_wait_in_shares_as_well() -> None:
    connections = Connections(16)
    for number in range(16):
        connections.busy(str(number), origin=f"198.51.100.{number}")
    crowd = [connections.open(f"crowd {number}") for number in range(16)]
    assert [one.wait() for one in crowd] == 14 * [True] + 2 * [False]
    assert connections.open("newcomer", origin="192.0.2.2").wait()


def test_giving_up_and_measuring_without_anybody_does_nothing() -> None:
    slots = Slots(1)
    slots.give_up(Slot(Party("192.0.2.1"), lambda: None, Progress, 0.0))
    slots.measure(1.0)
    assert slots.refused == 0
