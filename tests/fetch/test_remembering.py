"""A node that is started again finds its mesh by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2pboot.core.addressbook import OUTDATED, Entry, KnownAddress
from p2pboot.core.identity import SecretKey
from p2pboot.fetch.asking.remembering import ALONE_LONGEST_S, ENOUGH, PARALLEL, SETTLED_S, Remembering
from p2pboot.fetch.client import fetch
from p2pboot.store.peers import Peers
from p2pboot.store.store import Store
from p2pboot.testing.manifests import NOW
from p2pboot.testing.network import MemoryNetwork
from p2pboot.transport.interface import Gossip, Transport
from p2pboot.transport.libp2p import open_libp2p
from tests.fetch.world import World, manifest_of
from tests.node.test_peering import Dials
from tests.transport.conftest import until

IDS = [SecretKey(bytes([number]) * 32).public.peer_id for number in range(1, 60)]
OWN = IDS[0]


@pytest.fixture
def network(inline_threads: None) -> MemoryNetwork:
    return MemoryNetwork()


@asynccontextmanager
async def remembering(transport: Transport, store: Store) -> AsyncIterator[Remembering]:
    one = Remembering(transport, store.peers_of(transport.mesh), lambda: 1.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        yield one
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def others(network: MemoryNetwork, count: int) -> AsyncIterator[list[Gossip]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(network.open(peer_id)) for peer_id in IDS[1 : count + 1]]


def kept(store: Store) -> dict[str, bool]:
    return {entry.peer_id: entry.is_proved for entry in store.peers_of(None).load()}


async def test_a_node_that_is_started_again_finds_those_whom_it_had_reached(
    autojump_clock: MockClock, network: MemoryNetwork, store: Store
) -> None:
    async with others(network, 3) as peers:
        async with network.open(OWN) as own, remembering(own, store):
            for peer in peers:
                await own.dial(peer.addresses()[0])
            await trio.sleep(SETTLED_S * 5)
            assert kept(store) == dict.fromkeys(IDS[1:4], True)  # also if it is killed now
        async with network.open(OWN) as own, remembering(own, store):
            await trio.sleep(1)
            assert own.peers() == set(IDS[1:4])


async def test_one_whom_everybody_dialled_finds_them_by_what_they_say(
    autojump_clock: MockClock, network: MemoryNetwork, store: Store
) -> None:
    async with others(network, 3) as peers:
        async with network.open(OWN) as own, remembering(own, store):
            for peer in peers:
                await peer.dial(own.addresses()[0])
            await trio.sleep(0.1)
        assert kept(store) == dict.fromkeys(IDS[1:4], False)
        async with network.open(OWN) as own, remembering(own, store):
            await trio.sleep(3 * SETTLED_S)
            assert own.peers() == set(IDS[1:4])
            assert kept(store) == dict.fromkeys(IDS[1:4], True)


async def test_what_somebody_says_of_other_hosts_is_not_remembered_nor_what_clients_say(
    autojump_clock: MockClock, network: MemoryNetwork, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        network.open(OWN) as own,
        network.open(IDS[1]) as liar,
        network.open(IDS[2], is_client=True) as client,
    ):
        elsewhere = f"{IDS[1]} /ip4/10.9.9.9/tcp/22/p2p/{IDS[1]}".encode()
        monkeypatch.setattr(own, "peer_records", lambda: (elsewhere, b"rubbish"))
        async with remembering(own, store):
            await liar.dial(own.addresses()[0])
            await client.dial(own.addresses()[0])
            await trio.sleep(60)
        assert kept(store) == {}


async def test_a_node_that_is_alone_dials_for_ever_and_soon_after_they_come_back(
    autojump_clock: MockClock, network: MemoryNetwork, store: Store
) -> None:
    async with others(network, 2) as peers, network.open(OWN) as own:
        for peer in peers:
            network.cut(OWN, peer.peer_id)
        entry = [Entry(peer.peer_id, (KnownAddress(peer.addresses()[0], 1),)) for peer in peers]
        store.peers_of(None).save(entry, [])
        async with remembering(own, store) as one:
            await trio.sleep(600)
            assert {entry.failures for entry in one.book.entries()} == {0}  # its own link may be down
            for peer in peers:
                network.heal(OWN, peer.peer_id)
            await trio.sleep(ALONE_LONGEST_S)
            assert own.peers() == {peer.peer_id for peer in peers}
            for peer in peers:
                network.disconnect(OWN, peer.peer_id)
            await trio.sleep(ALONE_LONGEST_S)
            assert own.peers() == {peer.peer_id for peer in peers}


async def test_the_book_is_followed_a_few_at_a_time_until_there_are_enough(
    autojump_clock: MockClock, network: MemoryNetwork, store: Store
) -> None:
    async with others(network, 40) as peers, network.open(OWN) as own:
        for peer in peers[:20]:
            network.freeze(peer.peer_id)
        store.peers_of(None).save([Entry(p.peer_id, (KnownAddress(p.addresses()[0], 1),)) for p in peers], [])
        dials: Any = Dials(own)
        async with remembering(dials, store):
            await trio.sleep(60)
        assert dials.most_at_once <= PARALLEL
        assert ENOUGH <= len(own.peers()) < ENOUGH + PARALLEL


async def test_who_is_gone_is_forgotten_after_others_were_found(
    autojump_clock: MockClock, network: MemoryNetwork, store: Store
) -> None:
    gone = Entry(IDS[5], (KnownAddress(f"/ip4/10.9.9.9/tcp/1/p2p/{IDS[5]}"),))
    outdated = Entry(IDS[6], (KnownAddress(f"/ip4/10.9.9.8/tcp/1/p2p/{IDS[6]}", 1),))
    async with others(network, 1) as peers:
        there = Entry(IDS[1], (KnownAddress(peers[0].addresses()[0], 1),))
        store.peers_of(None).save([gone, outdated, there], [])
        async with network.open(OWN) as own:
            dials: Any = Dials(own)
            async with remembering(dials, store):
                await trio.sleep(1000)
    assert kept(store) == {IDS[1]: True, IDS[6]: True}
    assert max(entry.failures for entry in store.peers_of(None).load()) == OUTDATED
    assert len(dials.dialled) <= 3 + 1 + OUTDATED  # at the start nobody is connected, and so nobody to blame


async def test_a_disk_that_takes_nothing_leaves_it_in_memory_and_is_told_of_once(
    autojump_clock: MockClock, network: MemoryNetwork, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store._database._connection.execute("PRAGMA query_only = ON")
    async with others(network, 3) as peers, network.open(OWN) as own:
        async with remembering(own, store) as one:
            for peer in peers:
                await own.dial(peer.addresses()[0])
                await trio.sleep(30)
            assert len(one.book) == 3
            store._database._connection.execute("PRAGMA query_only = OFF")
        assert kept(store) == dict.fromkeys(IDS[1:4], True)  # what was not kept before
    assert (
        sum("address book" in record.message for record in caplog.records if record.levelname == "WARNING")
        == 1
    )


async def test_what_is_not_an_address_of_its_peer_is_not_dialled(
    autojump_clock: MockClock, network: MemoryNetwork, store: Store
) -> None:
    """Somebody may have written to the file."""
    async with network.open(OWN) as own:
        store.peers_of(None).save(
            [
                Entry("nobody", (KnownAddress("rubbish"),)),
                Entry(IDS[1], (KnownAddress(f"/ip4/10.9.9.9/tcp/1/p2p/{IDS[2]}", 1),)),
                Entry(OWN, (KnownAddress(own.addresses()[0], 1),)),
            ],
            [],
        )
        dials: Any = Dials(own)
        async with remembering(dials, store):
            await trio.sleep(60)
        assert not dials.dialled


async def test_a_book_that_can_not_be_read_is_empty(
    autojump_clock: MockClock, network: MemoryNetwork, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: Peers) -> list[Entry]:
        return store._database.rows("SELECT * FROM nowhere")  # type: ignore[return-value]

    monkeypatch.setattr(Peers, "load", broken)
    async with network.open(OWN) as own, remembering(own, store) as one:
        await trio.sleep(1)
        assert len(one.book) == 0


@pytest.mark.parametrize("who_dialled", ["we", "they"])
async def test_on_the_real_network_it_is_found_again_too(store: Store, who_dialled: str) -> None:
    own_key, key = SecretKey(b"o" * 32), SecretKey(b"p" * 32)
    async with open_libp2p(key, ["/ip4/127.0.0.1/tcp/0"]) as peer:
        async with open_libp2p(own_key, ["/ip4/127.0.0.1/tcp/0"]) as own, remembering(own, store):
            one, other = (own, peer) if who_dialled == "we" else (peer, own)
            await one.dial(other.addresses()[0])
            await until(own.peer_records)
        assert kept(store) == {peer.peer_id: who_dialled == "we"}
        async with open_libp2p(own_key, ["/ip4/127.0.0.1/tcp/0"]) as own, remembering(own, store):
            await until(lambda: peer.peer_id in own.peers())


async def test_a_client_that_reaches_nobody_fetches_from_whom_it_knows(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path
) -> None:
    world, manifest = World(tmp_path), manifest_of()
    async with world.provider(manifest) as peer:
        for told in ((peer,), ()):
            async with world.client() as (transport, store):
                order = world.order(*told, directory=tmp_path / f"out {len(told)}")
                await fetch(order, transport=transport, store=store, progress=world.watcher, wall=lambda: NOW)
                assert transport.peers() == {peer.peer_id}
                assert kept(store) == {peer.peer_id: True}


async def test_a_client_that_reaches_somebody_dials_nobody_by_memory(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path
) -> None:
    world, manifest = World(tmp_path), manifest_of()
    async with world.provider(manifest) as peer, world.provider() as other, world.client() as opened:
        transport, store = opened
        store.peers_of(None).save([Entry(other.peer_id, (KnownAddress(other.address, 1),))], [])
        world.network.limit_upload(peer.peer_id, 100_000)
        order = world.order(peer)
        await fetch(order, transport=transport, store=store, progress=world.watcher, wall=lambda: NOW)
        assert transport.peers() == {peer.peer_id}
