"""Turns at a share of the processor's time, on the clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from p2pboot.core.origins import Party
from p2pboot.transport.timeshare import TimeShare


@pytest.fixture
async def turns() -> AsyncIterator[TimeShare]:
    async with trio.open_nursery() as nursery:
        turns = TimeShare(0.1)
        nursery.start_soon(turns.run)
        yield turns
        nursery.cancel_scope.cancel()


async def hog(turns: TimeShare, peer_id: str, origin: str = "192.0.2.1") -> None:
    while True:
        await turns.take(Party(origin, peer_id), 0.01)


async def test_there_is_no_waiting_while_there_is_time(autojump_clock: MockClock, turns: TimeShare) -> None:
    began = trio.current_time()
    for _ in range(20):
        await turns.take(Party("192.0.2.1", "one"), 0.01)
    assert trio.current_time() == began


async def test_all_together_get_the_share_and_no_more(autojump_clock: MockClock, turns: TimeShare) -> None:
    began = trio.current_time()
    for _ in range(125):  # the first quarter of a second is a burst
        await turns.take(Party("192.0.2.1", "one"), 0.01)
    assert trio.current_time() - began == pytest.approx(10, abs=0.3)


async def test_forty_ids_of_an_address_hold_up_another_address_for_a_turn(
    autojump_clock: MockClock, turns: TimeShare
) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(hog, turns, str(number))
        await trio.sleep(10)
        for _ in range(5):
            began = trio.current_time()
            await turns.take(Party("192.0.2.2", "honest"), 0.01)
            assert trio.current_time() - began <= 0.21  # one in service, one before it; each is a tenth
            await trio.sleep(1)
        nursery.cancel_scope.cancel()


async def test_a_quiet_id_waits_for_few_turns_of_its_busy_neighbours(
    autojump_clock: MockClock, turns: TimeShare
) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(hog, turns, str(number))
        await trio.sleep(10)
        began = trio.current_time()
        await turns.take(Party("192.0.2.1", "honest"), 0.01)
        assert trio.current_time() - began <= 0.3
        nursery.cancel_scope.cancel()


async def test_who_is_cancelled_takes_no_turn(autojump_clock: MockClock, turns: TimeShare) -> None:
    began = trio.current_time()
    await turns.take(Party("192.0.2.1", "one"), 1.0)  # on credit: 7.5 seconds of waiting for everybody
    with trio.move_on_after(1) as scope:
        await turns.take(Party("192.0.2.1", "one"), 100.0)
    assert scope.cancelled_caught
    await turns.take(Party("192.0.2.1", "one"), 0.01)
    assert trio.current_time() - began == pytest.approx(7.5, abs=0.1)
