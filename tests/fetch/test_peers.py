from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pboot.fetch.asking.bootstrap import OF_A_CLIENT
from p2pboot.fetch.asking.connecting import for_each_connection
from p2pboot.fetch.asking.dialling import ADDRESSES_PER_HINT, HINT_AGAIN_S, HINT_TRIES, MAX_HINTS, Dialler
from p2pboot.fetch.ledger import Ledger
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import Connection, PeerSource
from p2pboot.transport.racing import ATTEMPT_S
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
        await trio.sleep(OF_A_CLIENT.longest_s * 1.3)
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


async def test_every_address_of_the_user_is_dialled_but_one_of_a_servers_hints(
    autojump_clock: MockClock, world: World
) -> None:
    send, hints = trio.open_memory_channel[str](1000)
    async with (
        world.provider() as one,
        world.provider(twin_of=one) as twin,
        world.provider() as other,
        world.client() as (transport, _),
        trio.open_nursery() as nursery,
    ):
        for port in range(16):  # all at once, and again of who is connected
            for peer in (other, one):
                send.send_nowait(peer.address.replace("/tcp/4001", f"/tcp/{port + 1}"))
        dialler = Dialler(transport, [one.address, twin.address], Ledger(world.watcher), hints)
        nursery.start_soon(dialler.run)
        await trio.sleep(1)
        assert sorted(each.address for each in transport.connections() if each.peer_id == one.peer_id) == [
            one.address,
            twin.address,
        ]
        assert sum(each.peer_id == other.peer_id for each in transport.connections()) == 1
        nursery.cancel_scope.cancel()


async def test_of_two_hints_at_one_server_the_one_that_answers_counts(
    autojump_clock: MockClock, world: World
) -> None:
    send, hints = trio.open_memory_channel[str](10)
    async with (
        world.provider() as mute,
        world.provider(twin_of=mute) as peer,
        world.client() as (transport, _),
        trio.open_nursery() as nursery,
    ):
        world.network.freeze(mute.address)
        send.send_nowait(mute.address)
        send.send_nowait(peer.address)
        nursery.start_soon(Dialler(transport, [], Ledger(world.watcher), hints).run)
        await trio.sleep(1)
        assert [each.address for each in transport.connections()] == [peer.address]
        world.network.thaw(mute.address)
        await trio.sleep(20)
        assert [each.address for each in transport.connections()] == [peer.address]
        world.network.cut(transport.peer_id, peer.address)
        await trio.sleep(1)
        assert [each.address for each in transport.connections()] == [mute.address]
        nursery.cancel_scope.cancel()


async def test_a_hint_that_fails_is_not_missed_when_its_peer_is_connected(
    autojump_clock: MockClock, world: World
) -> None:
    send, hints = trio.open_memory_channel[str](10)
    async with world.provider() as peer, world.client() as (transport, _), trio.open_nursery() as nursery:
        stale = f"{NOWHERE}/p2p/{peer.peer_id}"
        dialler = Dialler(transport, [], Ledger(world.watcher), hints)
        nursery.start_soon(dialler.run)
        send.send_nowait(stale)
        await wait_all_tasks_blocked()
        assert set(dialler.failures) == {stale}
        send.send_nowait(peer.address)
        await trio.sleep(1)
        assert dialler.failures == {}
        nursery.cancel_scope.cancel()


async def test_a_name_that_discovery_hints_at_is_not_looked_up(
    autojump_clock: MockClock, world: World
) -> None:
    send, hints = trio.open_memory_channel[str](10)
    async with world.client() as (transport, _), trio.open_nursery() as nursery:
        send.send_nowait(f"/dns4/a.example/tcp/1/p2p/{world.new_peer_id()}")
        dialler = Dialler(transport, [], Ledger(world.watcher), hints)
        nursery.start_soon(dialler.run)
        await wait_all_tasks_blocked()
        assert not dialler.failures
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
        await trio.sleep(ATTEMPT_S)
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

        async def counted(address: str, source: PeerSource | None = None) -> Connection:
            dialled.append(address)
            return await dial(address, source)

        monkeypatch.setattr(transport, "dial", counted)
        dialler = Dialler(transport, [], Ledger(world.watcher), hints)
        nursery.start_soon(dialler.run)
        assert not is_settled(dialler)  # discovery is still listening
        await trio.sleep(60)
        assert is_settled(dialler)
        assert len(set(dialled)) == MAX_HINTS
        assert len(dialled) == MAX_HINTS * HINT_TRIES
        nursery.cancel_scope.cancel()


async def test_who_was_given_up_is_tried_again_when_told_of_again(
    autojump_clock: MockClock, world: World
) -> None:
    """A watch may last for days, and whoever went may come back."""
    async with (
        world.provider() as provider,
        world.client() as (transport, _),
        trio.open_nursery() as nursery,
    ):
        send, hints = trio.open_memory_channel[str](1)
        dialler = Dialler(transport, [], Ledger(world.watcher), hints)
        nursery.start_soon(dialler.run)
        world.network.cut(provider.peer_id, transport.peer_id)
        await send.send(provider.address)
        await trio.sleep(HINT_AGAIN_S / 2)
        assert set(dialler.failures) == {provider.address}
        await trio.sleep(HINT_AGAIN_S)
        assert dialler.failures == {}
        world.network.heal(provider.peer_id, transport.peer_id)
        await send.send(provider.address)
        await trio.sleep(1)
        assert transport.peers() == {provider.peer_id}
        nursery.cancel_scope.cancel()


async def test_a_task_runs_for_each_connection_while_it_is_connected(
    autojump_clock: MockClock, world: World
) -> None:
    running: list[Connection] = []

    async def serve(connection: Connection) -> None:
        running.append(connection)
        try:
            await trio.sleep_forever()
        finally:
            running.remove(connection)

    async with (
        world.provider() as one,
        world.provider(twin_of=one) as other,
        world.client() as (transport, _),
        trio.open_nursery() as nursery,
    ):
        first = await transport.dial(one.address)
        nursery.start_soon(for_each_connection, transport, serve)
        second = await transport.dial(other.address)
        await wait_all_tasks_blocked()
        assert set(running) == {first, second}
        await transport.hang_up(first)
        await wait_all_tasks_blocked()
        assert running == [second]
        again = await transport.dial(one.address)
        await wait_all_tasks_blocked()
        assert set(running) == {second, again}
        nursery.cancel_scope.cancel()


async def test_all_of_a_rack_are_followed_by_a_few_of_their_addresses_each(
    autojump_clock: MockClock, world: World
) -> None:
    send, hints = trio.open_memory_channel[str](2000)
    async with world.client() as (transport, _), trio.open_nursery() as nursery:
        peers = [world.new_peer_id() for _ in range(64)]
        for number in range(12):
            for peer_id in peers:
                send.send_nowait(f"/ip4/10.9.9.9/tcp/{number + 1}/p2p/{peer_id}")
        dialler = Dialler(transport, [], Ledger(world.watcher), hints)
        nursery.start_soon(dialler.run)
        await trio.sleep(1)
        tried = [parse_address(address).peer_id for address in dialler.failures]
        assert set(tried) == set(peers)
        assert len(tried) == 64 * ADDRESSES_PER_HINT
        nursery.cancel_scope.cancel()


async def test_hints_wait_until_there_is_room_and_who_was_named_does_not(
    autojump_clock: MockClock, world: World
) -> None:
    send, hints = trio.open_memory_channel[str](10)
    room = False
    async with (
        world.provider() as named,
        world.provider() as hinted,
        world.client() as (transport, _),
        trio.open_nursery() as nursery,
    ):
        send.send_nowait(hinted.address)
        dialler = Dialler(transport, [named.address], Ledger(world.watcher), hints, has_room=lambda: room)
        nursery.start_soon(dialler.run)
        await trio.sleep(30)
        assert transport.peers() == {named.peer_id}
        assert dialler.names(named.peer_id)
        room = True
        await trio.sleep(OF_A_CLIENT.longest_s + 0.1)
        assert transport.peers() == {named.peer_id, hinted.peer_id}
        assert not dialler.names(hinted.peer_id)
        nursery.cancel_scope.cancel()
