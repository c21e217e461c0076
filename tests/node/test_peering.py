"""Staying connected, and getting to know others."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

from p2pboot.core.identity import SecretKey
from p2pboot.core.policy import Publisher
from p2pboot.fetch.asking.bootstrap import OF_A_NODE
from p2pboot.node import peering as peering_module
from p2pboot.node.peering import Peering
from p2pboot.testing.network import MemoryNetwork
from p2pboot.transport.interface import Connection, PeerSource, Transport
from p2pboot.transport.racing import ATTEMPT_S

IDS = [SecretKey(bytes([number]) * 32).public.peer_id for number in range(1, 60)]
NOWHERE = f"/ip4/10.9.9.9/tcp/1/p2p/{IDS[-1]}"


class Dials:
    """A transport that notes when somebody is dialled."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.dialled: list[tuple[float, str]] = []
        self.at_once = 0
        self.most_at_once = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def dial(self, address: str, source: PeerSource | None = None) -> Connection:
        self.dialled.append((trio.current_time(), address))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._transport.dial(address, source)
        finally:
            self.at_once -= 1

    def waits(self) -> list[float]:
        times = [time for time, _ in self.dialled]
        return [after - before for before, after in itertools.pairwise(times)]


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda _low, _high: 1.0)


@asynccontextmanager
async def keeping(peering: Peering, hints: Any = None) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peering.run, hints)
        yield
        nursery.cancel_scope.cancel()


async def test_bootstrap_is_dialled_ever_later_until_it_answers(autojump_clock: None) -> None:
    network = MemoryNetwork()
    async with network.open(IDS[0]) as own, network.open(IDS[1]) as peer:
        network.cut(IDS[0], IDS[1])
        dials = Dials(own)
        async with keeping(Peering(dials, peer.addresses())):
            await trio.sleep(200)
            waits = dials.waits()
            assert waits[:5] == [OF_A_NODE.first_s * 2**number for number in range(5)]
            assert waits[-1] == OF_A_NODE.longest_s
            network.heal(IDS[0], IDS[1])
            await trio.sleep(OF_A_NODE.longest_s)
            assert own.peers() == {IDS[1]}
            count = len(dials.dialled)
            await trio.sleep(1000)
            assert len(dials.dialled) == count  # connected: nothing to dial


async def test_a_peer_that_comes_back_is_found_again(autojump_clock: None) -> None:
    network = MemoryNetwork()
    async with (
        network.open(IDS[0]) as own,
        network.open(IDS[1]) as peer,
        keeping(Peering(own, peer.addresses())),
    ):
        for _ in range(3):
            await trio.sleep(60)
            assert own.peers() == {IDS[1]}
            network.disconnect(*IDS[:2])
            await trio.sleep(OF_A_NODE.first_s + 0.1)
            assert own.peers() == {IDS[1]}


async def test_a_peer_that_hangs_up_at_once_is_not_dialled_in_a_loop(autojump_clock: None) -> None:
    network = MemoryNetwork()
    async with network.open(IDS[0]) as own, network.open(IDS[1]) as peer:
        dials = Dials(own)

        async def hang_up() -> None:
            async for event in peer.connection_events():
                if event.connected:
                    network.disconnect(*IDS[:2])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang_up)
            async with keeping(Peering(dials, peer.addresses())):
                await trio.sleep(300)
            nursery.cancel_scope.cancel()
        assert 5 < len(dials.dialled) < 50
        assert max(dials.waits()) >= OF_A_NODE.longest_s


async def test_who_is_connected_is_dialled_at_each_address_only_where_several_name_it(
    autojump_clock: None,
) -> None:
    network = MemoryNetwork()
    async with (
        network.open(IDS[0]) as own,
        network.open(IDS[1]) as one,
        network.open(IDS[1]) as twin,
        network.open(IDS[2]) as friend,
    ):
        await friend.dial(own.addresses()[0])
        await one.dial(own.addresses()[0])
        dials = Dials(own)
        peering = Peering(dials, (*one.addresses(), *twin.addresses(), *friend.addresses()))
        async with keeping(peering):
            await peering.tried.wait()
            assert {address for _, address in dials.dialled} == {*one.addresses(), *twin.addresses()}
            assert peering.configured == {IDS[1], IDS[2]}
            network.disconnect(IDS[0], twin.addresses()[0])
            network.disconnect(IDS[0], IDS[2])
            await trio.sleep(OF_A_NODE.first_s + 0.1)
            again = sorted(address for _, address in dials.dialled[2:])
            assert again == sorted((*twin.addresses(), *friend.addresses()))


async def test_a_hint_at_somebody_connected_is_not_dialled(autojump_clock: None) -> None:
    network = MemoryNetwork()
    send, hints = trio.open_memory_channel[str](1)
    async with network.open(IDS[0]) as own, network.open(IDS[1]) as peer:
        await peer.dial(own.addresses()[0])
        dials = Dials(own)
        async with keeping(Peering(dials, ()), hints):
            await send.send(peer.addresses()[0])
            await trio.sleep(1)
            assert not dials.dialled
            assert own.sources(IDS[1]) == (PeerSource.INCOMING, PeerSource.LAN)
            network.disconnect(*IDS[:2])
            await send.send(peer.addresses()[0])
            await trio.sleep(1)
            assert len(dials.dialled) == 1
            assert own.sources(IDS[1]) == (PeerSource.LAN,)


async def test_a_name_that_discovery_hints_at_is_not_looked_up(autojump_clock: None) -> None:
    """Anybody on the local network can announce any name, and would have every node here ask for it."""
    network = MemoryNetwork()
    async with network.open(IDS[0]) as own:
        dials = Dials(own)
        hints = hints_of(f"/dns4/a.example/tcp/1/p2p/{IDS[1]}", f"/dnsaddr/a.example/p2p/{IDS[1]}")
        async with keeping(Peering(dials, ()), hints):
            await trio.sleep(1)
        assert not dials.dialled


async def test_tried_is_known_when_every_address_was(autojump_clock: None) -> None:
    network = MemoryNetwork()
    async with network.open(IDS[0]) as own, network.open(IDS[1]) as peer, network.open(IDS[2]) as mute:
        network.freeze(IDS[2])
        peering = Peering(own, [*peer.addresses(), *mute.addresses(), NOWHERE])
        async with keeping(peering):
            await trio.sleep(ATTEMPT_S - 1)
            assert not peering.tried.is_set()
            await peering.tried.wait()
            assert trio.current_time() >= ATTEMPT_S
    assert Peering(own, []).tried.is_set()


async def test_publishers_and_who_is_named_or_answers_at_a_bootstrap_address_are_preferred(
    autojump_clock: None,
) -> None:
    network = MemoryNetwork()
    key = SecretKey(bytes([40]) * 32).public
    async with network.open(IDS[0]) as own, network.open(IDS[1]) as peer:
        unnamed = peer.addresses()[0].removesuffix(f"/p2p/{IDS[1]}")
        peering = Peering(own, [unnamed, NOWHERE])
        peering.prefer([Publisher((key.keyid,))])
        assert peering.preferred == {key.peer_id, IDS[-1]}
        async with keeping(peering):
            await peering.tried.wait()
        assert peering.preferred == {key.peer_id, IDS[-1], IDS[1]}


async def hints_of(*addresses: str) -> AsyncIterator[str]:
    for address in addresses:
        yield address


async def test_hints_of_discovery_are_followed_a_few_at_a_time(
    autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peering_module, "ENOUGH_PEERS", 16)
    network = MemoryNetwork()
    async with AsyncExitStack() as stack:
        own, *others = [await stack.enter_async_context(network.open(peer_id)) for peer_id in IDS[:40]]
        for other in others[:10]:
            network.freeze(other.peer_id)
        dials = Dials(own)
        hints = hints_of(*(other.addresses()[0] for other in others))
        async with keeping(Peering(dials, ()), hints):
            await trio.sleep(60)
        assert dials.most_at_once == 4
        assert len(dials.dialled) == 16  # what came while so many were waiting is dropped


async def test_no_hint_is_followed_with_enough_peers(
    autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peering_module, "ENOUGH_PEERS", 4)
    network = MemoryNetwork()
    async with AsyncExitStack() as stack:
        own, *others = [await stack.enter_async_context(network.open(peer_id)) for peer_id in IDS[:6]]
        for other in others[:-1]:
            await own.dial(other.addresses()[0])
        async with keeping(Peering(own, ()), hints_of(*others[-1].addresses())):
            await trio.sleep(60)
        assert others[-1].peer_id not in own.peers()
        network.disconnect(own.peer_id, others[0].peer_id)
        async with keeping(Peering(own, ()), hints_of(*others[-1].addresses())):
            await trio.sleep(60)
        assert others[-1].peer_id in own.peers()
