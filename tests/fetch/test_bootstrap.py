"""Whom the operator named is dialled for ever, and found again soon after he comes back."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from p2pboot.core.identity import SecretKey
from p2pboot.errors import UsageError
from p2pboot.fetch.asking.bootstrap import (
    LATE_S,
    LOOK_AGAIN_S,
    OF_A_CLIENT,
    OF_A_NODE,
    PEERS_AT,
    PEERS_OF_A_NAME,
    Bootstrap,
    Pace,
)
from p2pboot.testing.network import MemoryNetwork
from p2pboot.transport.addresses import Address, parse_address
from p2pboot.transport.interface import Connection, DialError, PeerSource, Transport
from p2pboot.transport.light import open_light

IDS = [SecretKey(bytes([number]) * 32).public.peer_id for number in range(1, 30)]
NAME = "/dnsaddr/boot.example.net"


@asynccontextmanager
async def running(bootstrap: Bootstrap) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bootstrap.run)
        yield
        nursery.cancel_scope.cancel()


class Names:
    """What a name stands for, which changes."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Sequence[str] = addresses
        self.looked_up: list[float] = []

    async def resolve(self, address: Address) -> Sequence[Address]:
        await trio.lowlevel.checkpoint()
        self.looked_up.append(trio.current_time())
        if not self.addresses:
            raise DialError(f"cannot reach {address}: the resolver does not answer")
        return [parse_address(text) for text in self.addresses]


@pytest.mark.parametrize("pace", [OF_A_NODE, OF_A_CLIENT])
@pytest.mark.parametrize("how", ["refuses", "is mute"])
@pytest.mark.parametrize("down_s", [600 + 0.37 * number for number in range(8)])
async def test_bootstrap_that_was_down_for_ten_minutes_is_rejoined_within_ten_seconds(
    autojump_clock: MockClock, pace: Pace, how: str, down_s: float
) -> None:
    network = MemoryNetwork()
    async with (
        network.open(IDS[0]) as own,
        network.open(IDS[1]) as peer,
        running(Bootstrap(own, peer.addresses(), pace)),
    ):
        await trio.sleep(30)
        assert own.peers() == {IDS[1]}
        if how == "refuses":
            network.cut(*IDS[:2])
        else:
            network.freeze(IDS[1])
            network.disconnect(*IDS[:2])
        await trio.sleep(down_s)
        assert own.peers() == set()
        network.heal(*IDS[:2])
        network.thaw(IDS[1])
        with trio.fail_after(10), own.connection_events() as events:
            await events.receive()


async def test_retries_are_spread_and_never_further_apart_than_said(autojump_clock: MockClock) -> None:
    dialled: list[float] = []

    class Dials:
        def __init__(self, transport: Transport) -> None:
            self._transport = transport

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

        async def dial(self, _address: str, _source: PeerSource | None = None) -> Connection:
            dialled.append(trio.current_time())
            await trio.sleep(3)
            raise DialError("no route to host")

    network = MemoryNetwork()
    async with network.open(IDS[0]) as own:
        transport = cast(Transport, Dials(own))
        async with running(Bootstrap(transport, ["/ip4/10.9.9.9/tcp/1"], OF_A_NODE)):
            await trio.sleep(600)
    waits = [after - before for before, after in itertools.pairwise(dialled)]
    assert max(waits) <= OF_A_NODE.longest_s
    assert len({round(wait, 3) for wait in waits[6:]}) > 10


async def test_who_comes_with_ever_new_ids_is_remembered_by_some_of_them(autojump_clock: MockClock) -> None:
    """Where an address names no peer, each counts as one whom the operator named."""
    numbers = itertools.count()

    class Turncoat:
        def __init__(self, transport: Transport) -> None:
            self._transport = transport

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

        async def dial(self, address: str, _source: PeerSource | None = None) -> Connection:
            return Connection(f"peer {(number := next(numbers))}", address, number)

    async with MemoryNetwork().open(IDS[0]) as own:
        bootstrap = Bootstrap(cast(Transport, Turncoat(own)), ["/ip4/10.9.9.9/tcp/1"], Pace(1, 1, 1))
        async with running(bootstrap):
            await trio.sleep(2 * PEERS_AT)
        assert bootstrap.named == {f"peer {number}" for number in range(next(numbers))[-PEERS_AT:]}


async def test_a_dnsaddr_leads_to_all_of_its_peers_by_any_of_their_addresses(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    async with (
        network.open(IDS[0]) as own,
        network.open(IDS[1]) as one,
        network.open(IDS[2]) as other,
        network.open(IDS[3]) as unnamed,
    ):
        dead = f"/ip4/10.9.9.9/tcp/1/p2p/{IDS[1]}"
        names = Names(dead, *one.addresses(), *other.addresses(), unnamed.addresses()[0].split("/p2p/")[0])
        bootstrap = Bootstrap(own, [NAME], OF_A_NODE, resolve=names.resolve)
        async with running(bootstrap):
            await bootstrap.tried.wait()
            assert own.peers() == set(IDS[1:4])
            assert {name: set(peers) for name, peers in bootstrap.peers_at.items()} == {NAME: set(IDS[1:4])}
            assert bootstrap.named == set(IDS[1:4])
            network.disconnect(IDS[0], IDS[2])
            await trio.sleep(OF_A_NODE.longest_s)
            assert own.peers() == set(IDS[1:4])


async def test_a_dnsaddr_is_looked_up_again_for_those_who_came_later(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with network.open(IDS[0]) as own, network.open(IDS[1]) as one, network.open(IDS[2]) as later:
        names = Names()
        bootstrap = Bootstrap(own, [NAME], OF_A_NODE, resolve=names.resolve)
        async with running(bootstrap):
            await trio.sleep(100)
            assert bootstrap.failures == {NAME: f"cannot reach {NAME}: the resolver does not answer"}
            names.addresses = one.addresses()
            await trio.sleep(OF_A_NODE.longest_s)
            assert own.peers() == {IDS[1]}
            assert not bootstrap.failures
            names.addresses = [*one.addresses(), *later.addresses()]
            await trio.sleep(LOOK_AGAIN_S)
            assert own.peers() == {IDS[1], IDS[2]}
            asked = len(names.looked_up)
            await trio.sleep(10 * LOOK_AGAIN_S)
            assert len(names.looked_up) - asked <= 11


async def test_one_of_a_dnsaddr_that_is_gone_does_not_keep_the_others_waiting(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    async with network.open(IDS[0]) as own, network.open(IDS[1]) as one, network.open(IDS[2]) as mute:
        network.freeze(IDS[2])
        names = Names(*mute.addresses(), f"/ip4/10.9.9.9/tcp/1/p2p/{IDS[3]}", *one.addresses())
        bootstrap = Bootstrap(own, [NAME], OF_A_NODE, resolve=names.resolve)
        async with running(bootstrap):
            await trio.sleep(0.01)
            assert own.peers() == {IDS[1]}
            with trio.fail_after(LATE_S):
                await bootstrap.tried.wait()


async def test_no_more_than_a_few_of_a_names_peers_are_dialled(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with network.open(IDS[0]) as own:
        reached: list[Connection] = []
        async with trio.open_nursery() as nursery:
            opened: list[str] = []

            async def node(peer_id: str, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
                async with network.open(peer_id) as transport:
                    opened.extend(transport.addresses())
                    task_status.started()
                    await trio.sleep_forever()

            for peer_id in IDS[1:20]:
                await nursery.start(node, peer_id)
            names = Names(*own.addresses(), *opened)
            bootstrap = Bootstrap(own, [NAME], OF_A_NODE, resolve=names.resolve, reached=reached.append)
            async with running(bootstrap):
                await bootstrap.tried.wait()
                assert len(own.peers()) == len(reached) == PEERS_OF_A_NAME
                names.addresses = [*reversed(opened), *own.addresses()]  # in another order each time
                await trio.sleep(3 * LOOK_AGAIN_S)
                assert len(own.peers()) == PEERS_OF_A_NAME
            nursery.cancel_scope.cancel()


OTHER_KIND = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"


@pytest.mark.parametrize("stands_for_others", [False, True])
async def test_a_peer_id_of_another_kind_of_key_is_an_address_that_fails(stands_for_others: bool) -> None:
    """Public lists have some; whoever is at the other addresses is reached all the same."""
    async with open_light(SecretKey(b"p" * 32), ["/ip4/127.0.0.1/tcp/0"]) as peer:
        bad, good = f"/ip4/127.0.0.1/tcp/1/p2p/{OTHER_KIND}", peer.addresses()[0]
        told = [NAME] if stands_for_others else [bad, good]
        async with open_light(SecretKey(b"o" * 32)) as own:
            bootstrap = Bootstrap(own, told, OF_A_NODE, resolve=Names(bad, good).resolve)
            async with running(bootstrap):
                await bootstrap.tried.wait()
                assert own.peers() == {peer.peer_id}
            strict = Bootstrap(own, [bad], OF_A_CLIENT, strict=True)
            with pytest.RaisesGroup(UsageError):
                await strict.run()


async def test_a_name_that_stands_for_oneself_alone_is_nobody_yet(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with network.open(IDS[0]) as own, network.open(IDS[1]) as other:
        names = Names(*own.addresses())
        bootstrap = Bootstrap(own, [NAME], OF_A_NODE, resolve=names.resolve)
        async with running(bootstrap):
            await bootstrap.tried.wait()
            assert bootstrap.failures == {NAME: f"{NAME} stands for nobody else"}
            names.addresses = [*own.addresses(), *other.addresses()]
            await trio.sleep(OF_A_NODE.longest_s)
            assert own.peers() == {IDS[1]}
