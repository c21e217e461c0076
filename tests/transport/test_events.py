"""Following who comes and goes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from p2pboot.core.identity import SecretKey
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.events import ConnectionRegister
from p2pboot.transport.interface import Connection, ConnectionEvent, PeerSource


def connection(number: int, peer_id: str = "x") -> Connection:
    return Connection(peer_id, f"/ip4/10.0.0.1/tcp/1/p2p/{peer_id}", number)


X, Y = connection(0), connection(1)
CAME, WENT = ConnectionEvent(X, True), ConnectionEvent(X, False)


@pytest.fixture
async def register() -> AsyncIterator[ConnectionRegister]:
    async with trio.open_nursery() as nursery:
        yield ConnectionRegister(nursery)
        nursery.cancel_scope.cancel()


async def drain(events: trio.MemoryReceiveChannel[ConnectionEvent]) -> list[ConnectionEvent]:
    await wait_all_tasks_blocked()
    drained = []
    while True:
        try:
            drained.append(events.receive_nowait())
        except trio.WouldBlock:
            return drained
        await wait_all_tasks_blocked()


async def test_every_follower_is_told_of_everything(register: ConnectionRegister) -> None:
    early = register.follow()
    register.came(X)
    register.came(X)
    late = register.follow()
    assert await drain(early) == [CAME]
    assert await drain(late) == [CAME]
    register.went(X)
    register.went(X)
    assert await drain(early) == await drain(late) == [WENT]
    assert register.present == frozenset()


async def test_who_waits_for_one_end_is_not_woken_by_others(register: ConnectionRegister) -> None:
    """Else each of dozens that come and go would wake a task for each of dozens that are up."""
    steps: list[int] = []

    class Counting(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if "wait_ended" in task.name:
                steps.append(1)

    register.came(X)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(register.wait_ended, X)
        await wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(counting := Counting())
        for number in range(1, 50):
            register.came(connection(number))
            register.went(connection(number))
        await wait_all_tasks_blocked()
        assert not steps
        register.went(X)
        await wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(counting)
    assert len(steps) == 1


async def test_what_came_and_went_unheard_is_not_told(register: ConnectionRegister) -> None:
    events = register.follow()
    register.came(X)
    register.went(X)
    register.came(Y)
    assert await drain(events) == [ConnectionEvent(Y, True)]


async def test_of_a_peer_that_comes_back_the_end_is_told_first(register: ConnectionRegister) -> None:
    events = register.follow()
    register.came(X)
    assert await drain(events) == [CAME]
    register.went(X)
    for number in range(2, 6):
        register.came(connection(number))
        register.went(connection(number))
    register.came(Y)
    assert await drain(events) == [WENT, ConnectionEvent(Y, True)]


async def test_the_end_of_what_was_up_is_told_however_soon_it_comes(register: ConnectionRegister) -> None:
    for number in range(200):  # more than waits in a channel otherwise
        register.came(connection(number))
    events = register.follow()
    register.went(connection(0))
    told = await drain(events)
    assert len(told) == 201
    assert told[-1] == ConnectionEvent(connection(0), False)


async def test_what_was_dialled_is_found_by_its_endpoint_while_it_is_up(register: ConnectionRegister) -> None:
    here, there = parse_address("/ip4/10.0.0.1/tcp/1"), parse_address("/ip4/10.0.0.1/tcp/2")
    p, q = (SecretKey(bytes([number]) * 32).public.peer_id for number in (1, 2))
    up = connection(0, p)
    register.note_dialled(here, up)
    assert register.dialled_at(here) is None  # it had ended by then
    register.came(up)
    register.note_dialled(here.with_peer(p), up)
    assert register.dialled_at(here) == register.dialled_at(here.with_peer(p)) == up
    assert register.dialled_at(here.with_peer(q)) is None
    assert register.dialled_at(there) is None
    register.went(up)
    assert register.dialled_at(here) is None


async def test_a_stalled_follower_holds_up_nobody_and_ends_with_the_final_state(
    register: ConnectionRegister,
) -> None:
    stalled, other = register.follow(), register.follow()
    for number in range(500):
        register.came(connection(number))
        await drain(other)
    for number in range(0, 500, 2):
        register.went(connection(number))
        await drain(other)
    state: dict[Connection, bool] = {}
    told = await drain(stalled)
    for event in told:
        assert state.get(event.connection, False) is not event.connected
        state[event.connection] = event.connected
    assert {each for each, connected in state.items() if connected} == register.present
    assert len(told) < 750  # what was undone before it was heard is not told


async def test_a_change_while_an_event_waits_is_not_lost(register: ConnectionRegister) -> None:
    stalled = register.follow()
    for number in range(100):  # more than the channel holds: the last ones wait
        register.came(connection(number))
    await wait_all_tasks_blocked()
    for number in range(100):
        register.went(connection(number))
    state = {event.connection: event.connected for event in await drain(stalled)}
    assert not any(state.values())


async def test_a_follower_that_closes_its_end_is_forgotten(register: ConnectionRegister) -> None:
    events = register.follow()
    events.close()
    register.came(X)
    await wait_all_tasks_blocked()
    assert register._followers == []


async def test_how_a_peer_was_found_is_known_while_it_is_connected(register: ConnectionRegister) -> None:
    register.note_source("x", PeerSource.LAN)
    assert register.sources("x") == ()  # whoever is only told of is nobody yet
    register.came(X)
    register.note_dialled(parse_address("/ip4/10.0.0.1/tcp/1"), X, PeerSource.DHT)
    for source in (PeerSource.LAN, PeerSource.PEERS, PeerSource.LAN):
        register.note_source("x", source)
    assert register.sources("x") == (PeerSource.DHT, PeerSource.LAN, PeerSource.PEERS)
    register.came(second := connection(2))
    register.went(X)
    assert register.sources("x")[0] is PeerSource.DHT
    register.went(second)
    assert register.sources("x") == ()


async def test_whom_nobody_dialled_has_come_by_itself(register: ConnectionRegister) -> None:
    register.came(X)
    assert register.sources("x") == (PeerSource.INCOMING,)
    register.note_source("x", PeerSource.PEERS)
    assert register.sources("x") == (PeerSource.INCOMING, PeerSource.PEERS)


async def test_whoever_was_dialled_without_a_word_came_from_nobody_knows_where(
    register: ConnectionRegister,
) -> None:
    register.came(X)
    register.note_dialled(parse_address("/ip4/10.0.0.1/tcp/1"), X)
    assert register.sources("x") == ()
