"""Following who comes and goes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from p2pboot.transport.events import PeerRegister
from p2pboot.transport.interface import PeerEvent

CAME, WENT = PeerEvent("x", True), PeerEvent("x", False)


@pytest.fixture
async def register() -> AsyncIterator[PeerRegister]:
    async with trio.open_nursery() as nursery:
        yield PeerRegister(nursery)
        nursery.cancel_scope.cancel()


async def drain(events: trio.MemoryReceiveChannel[PeerEvent]) -> list[PeerEvent]:
    await wait_all_tasks_blocked()
    drained = []
    while True:
        try:
            drained.append(events.receive_nowait())
        except trio.WouldBlock:
            return drained
        await wait_all_tasks_blocked()


async def test_every_follower_is_told_of_everything(register: PeerRegister) -> None:
    early = register.follow()
    register.came("x")
    register.came("x")
    late = register.follow()
    assert await drain(early) == [CAME]
    assert await drain(late) == [CAME]
    register.went("x")
    register.went("x")
    assert await drain(early) == await drain(late) == [WENT]
    assert register.present == frozenset()


async def test_what_came_and_went_unheard_is_not_told(register: PeerRegister) -> None:
    events = register.follow()
    register.came("x")
    register.went("x")
    register.came("y")
    assert await drain(events) == [PeerEvent("y", True)]


async def test_a_peer_that_was_gone_for_a_moment_is_told_as_gone_and_back(register: PeerRegister) -> None:
    events = register.follow()
    register.came("x")
    assert await drain(events) == [CAME]
    for _ in range(5):
        register.went("x")
        register.came("x")
    assert await drain(events) == [WENT, CAME]


async def test_a_stalled_follower_holds_up_nobody_and_ends_with_the_final_state(
    register: PeerRegister,
) -> None:
    stalled, other = register.follow(), register.follow()
    for number in range(500):
        register.came(str(number))
        await drain(other)
    for number in range(0, 500, 2):
        register.went(str(number))
        await drain(other)
    state: dict[str, bool] = {}
    told = await drain(stalled)
    for event in told:
        assert state.get(event.peer_id, False) is not event.connected
        state[event.peer_id] = event.connected
    assert {peer for peer, connected in state.items() if connected} == register.present
    assert len(told) < 750  # what was undone before it was heard is not told


async def test_a_change_while_an_event_waits_is_not_lost(register: PeerRegister) -> None:
    stalled = register.follow()
    for number in range(100):  # more than the channel holds: the last ones wait
        register.came(str(number))
    await wait_all_tasks_blocked()
    for number in range(100):
        register.went(str(number))
    state = {event.peer_id: event.connected for event in await drain(stalled)}
    assert not any(state.values())


async def test_a_follower_that_closes_its_end_is_forgotten(register: PeerRegister) -> None:
    events = register.follow()
    events.close()
    register.came("x")
    await wait_all_tasks_blocked()
    assert register._followers == []
