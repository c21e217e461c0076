from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pboot.fetch.asking.dialling import (
    DIAL_TIMEOUT_S,
    HINT_TRIES,
    LONGEST_RETRY_S,
    MAX_HINTS,
    Dialler,
    for_each_peer,
)
from p2pboot.fetch.ledger import Ledger
from tests.fetch.world import World


def is_settled(dialler: Dialler) -> bool:
    """In a call of its own: a type checker takes a property for a constant."""
    return dialler.settled


def is_hopeless(dialler: Dialler) -> bool:
    return dialler.hopeless


NOWHERE = "/ip4/10.9.9.9/tcp/1"


async def test_addresses_are_dialled_until_somebody_answers(autojump_clock: MockClock, world: World) -> None:
    async with world.provider() as peer, world.client() as (transport, _), trio.open_nursery() as nursery:
        world.network.cut(peer.peer_id, transport.peer_id)
        dialler = Dialler(transport, [peer.address, NOWHERE], Ledger(world.watcher))
        assert not is_settled(dialler)
        nursery.start_soon(dialler.run)
        await trio.sleep(20)
        assert is_settled(dialler)
        assert set(dialler.failures) == {peer.address, NOWHERE}
        world.network.heal(peer.peer_id, transport.peer_id)
        await trio.sleep(LONGEST_RETRY_S * 1.3)
        assert transport.peers() == {peer.peer_id}
        nursery.cancel_scope.cancel()


async def test_a_lost_peer_is_dialled_again_and_a_dropped_one_is_not(
    autojump_clock: MockClock, world: World
) -> None:
    ledger = Ledger(world.watcher)
    async with world.provider() as peer, world.client() as (transport, _), trio.open_nursery() as nursery:
        dialler = Dialler(transport, [peer.address], ledger)
        nursery.start_soon(dialler.run)
        await trio.sleep(1)
        world.network.disconnect(transport.peer_id, peer.peer_id)
        await trio.sleep(2)
        assert transport.peers() == {peer.peer_id}
        assert not is_hopeless(dialler)
        ledger.drop(peer.peer_id, "it lied")
        assert is_hopeless(dialler)
        world.network.disconnect(transport.peer_id, peer.peer_id)
        await trio.sleep(20)
        assert transport.peers() == frozenset()
        nursery.cancel_scope.cancel()


async def test_a_peer_that_was_moved_is_dialled_at_its_new_address_only(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.provider() as peer, world.client() as (transport, _), trio.open_nursery() as nursery:
        here, there = peer.address, peer.address.replace("/tcp/4001", "/tcp/4002")
        dialler = Dialler(transport, [here, there], Ledger(world.watcher))
        nursery.start_soon(dialler.run)
        await trio.sleep(1)
        dialled: list[str] = []
        dial = transport.dial

        async def noted(address: str) -> str:
            dialled.append(address)
            return await dial(address)

        monkeypatch.setattr(transport, "dial", noted)
        await dialler.move(peer.peer_id, [here, there])
        assert transport.peers() == {peer.peer_id}
        await dialler.move(peer.peer_id, [there])
        assert transport.peers() == frozenset()
        await trio.sleep(5)
        assert dialled == [there]
        assert transport.peers() == {peer.peer_id}
        nursery.cancel_scope.cancel()


async def test_a_mute_address_does_not_hold_up_the_others(autojump_clock: MockClock, world: World) -> None:
    async with (
        world.provider() as mute,
        world.provider() as peer,
        world.client() as (transport, _),
        trio.open_nursery() as nursery,
    ):
        world.network.freeze(mute.peer_id)
        dialler = Dialler(transport, [mute.address, peer.address], Ledger(world.watcher))
        nursery.start_soon(dialler.run)
        await trio.sleep(1)
        assert transport.peers() == {peer.peer_id}
        assert not is_settled(dialler)
        await trio.sleep(DIAL_TIMEOUT_S)
        assert is_settled(dialler)
        nursery.cancel_scope.cancel()


async def test_hints_are_bounded_in_number_and_tries(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, hints = trio.open_memory_channel[str](1000)
    for number in range(1000):
        send.send_nowait(f"/ip4/10.{number // 250}.9.{number % 250}/tcp/1")
    async with world.client() as (transport, _), trio.open_nursery() as nursery:
        dialled: list[str] = []
        dial = transport.dial

        async def counted(address: str) -> str:
            dialled.append(address)
            return await dial(address)

        monkeypatch.setattr(transport, "dial", counted)
        dialler = Dialler(transport, [], Ledger(world.watcher), hints)
        nursery.start_soon(dialler.run)
        assert not is_settled(dialler)  # discovery is still listening
        await trio.sleep(60)
        assert is_settled(dialler)
        assert len(set(dialled)) == MAX_HINTS
        assert len(dialled) == MAX_HINTS * HINT_TRIES
        nursery.cancel_scope.cancel()


async def test_a_peer_that_comes_back_quickly_never_has_two_tasks(
    autojump_clock: MockClock, world: World
) -> None:
    running = 0
    most = 0

    async def serve(_peer_id: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)  # a stream that takes its time to close
            running -= 1

    async with (
        world.provider() as peer,
        world.client() as (transport, _),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(for_each_peer, transport, serve)
        for _ in range(4):
            await transport.dial(peer.address)
            await trio.sleep(0.1)
            world.network.disconnect(transport.peer_id, peer.peer_id)
            await trio.sleep(0.1)
        await transport.dial(peer.address)
        await trio.sleep(10)
        assert (running, most) == (1, 1)
        nursery.cancel_scope.cancel()


async def test_a_task_runs_for_each_peer_while_it_is_connected(
    autojump_clock: MockClock, world: World
) -> None:
    running: list[str] = []

    async def serve(peer_id: str) -> None:
        running.append(peer_id)
        try:
            await trio.sleep_forever()
        finally:
            running.remove(peer_id)

    async with (
        world.provider() as one,
        world.provider() as other,
        world.client() as (transport, _),
        trio.open_nursery() as nursery,
    ):
        await transport.dial(one.address)
        nursery.start_soon(for_each_peer, transport, serve)
        await transport.dial(other.address)
        await wait_all_tasks_blocked()
        assert sorted(running) == sorted([one.peer_id, other.peer_id])
        world.network.disconnect(transport.peer_id, one.peer_id)
        await wait_all_tasks_blocked()
        assert running == [other.peer_id]
        await transport.dial(one.address)
        await wait_all_tasks_blocked()
        assert sorted(running) == sorted([one.peer_id, other.peer_id])
        nursery.cancel_scope.cancel()
