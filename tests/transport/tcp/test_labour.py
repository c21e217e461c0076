"""What a peer has free, what carries itself, and what waits for a turn."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from p2pboot.core.origins import Party
from p2pboot.transport.tcp.labour import UNIT_S, Labour
from p2pboot.transport.tcp.pings import answer_pings
from p2pboot.transport.timeshare import TimeShare
from p2pboot.wire.yamux.frames import RST, SYN, WINDOW_UPDATE, header
from p2pboot.wire.yamux.session import Session
from tests.transport.conftest import until
from tests.transport.tcp.ends import End, against_a_core, ends, open_between
from tests.wire.sessions import data_frame

LOTS = 256 * 1024


def test_who_carries_data_owes_nothing() -> None:
    labour = Labour(0.0)
    for turn in range(1, 1000):
        assert labour.note(turn * 64, turn * LOTS, 0.0) == 0
        assert labour.receives(LOTS) == LOTS


def test_frames_that_carry_nothing_are_free_for_a_while_and_then_wait() -> None:
    labour = Labour(0.0)
    assert labour.note(900, 0, 0.0) == 0
    assert labour.note(1900, 0, 0.0) == pytest.approx(1020 * UNIT_S)
    assert labour.receives(LOTS) < LOTS // 10
    assert labour.note(1901, 0, 10.0) == 0  # time passes, and data pays, too
    assert labour.note(4000, LOTS * 8, 10.0) == 0


class Queue(TimeShare):
    """Gives turns when a test says so."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.asked: list[Party] = []
        self.open = trio.Event()

    async def take(self, party: Party, cost_s: float) -> None:
        self.asked.append(party)
        await self.open.wait()


def queue_of(end: End) -> Queue:
    queue = end.endpoint._workspace.turns = Queue()
    return queue


@pytest.mark.parametrize(
    "flood",
    [
        header(WINDOW_UPDATE, 0, 1, 1) * 20_000,
        b"".join(header(WINDOW_UPDATE, flag, 3 + 2 * n, 0) for n in range(100) for flag in (SYN, RST)),
    ],
)
async def test_a_flood_of_frames_waits_for_its_turn(flood: bytes) -> None:
    async with against_a_core() as (end, core, driver):
        queue = queue_of(end)
        await driver.write(core.session.open(), b"!")
        await trio.testing.wait_all_tasks_blocked(0.02)
        core._inner += flood
        driver.poke()
        await until(lambda: queue.asked)
        assert queue.asked == [end.connection.party]
        before = end.connection._core.session.labour
        core._inner += flood
        driver.poke()
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert end.connection._core.session.labour == before


async def test_pings_without_end_wait_for_their_turn_and_honest_ones_do_not() -> None:
    async with ends() as (one, other), trio.open_nursery() as nursery:
        ours, theirs = await open_between(one, other)
        queue = queue_of(other)
        nursery.start_soon(answer_pings, theirs, other.connection)
        for number in range(3):
            ping = bytes([number]) * 32
            await ours.write(ping)
            assert await ours.read(100) == ping
        assert not queue.asked
        await ours.write(b"p" * 32 * 1000)
        await until(lambda: queue.asked)
        answered = ours.received
        assert answered < 32 * 100
        queue.open.set()
        while ours.received < 32 * 1003:
            await trio.testing.wait_all_tasks_blocked(0.001)
        await ours.close_write()


def test_what_was_taken_for_nothing_is_labour() -> None:
    session = Session(initiator=False)
    session.receive(header(WINDOW_UPDATE, SYN, 1, 0) + data_frame(1, bytes(25_600)))
    before = session.labour
    session.streams[0].reset()
    assert session.labour == before + 100
