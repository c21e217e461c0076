"""Members and clients: what one puts, all find, whatever strangers put beside it."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from typing import cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pboot.dht.addresses import AddressPolicy
from p2pboot.dht.client import WORD_S, DhtClient
from p2pboot.dht.hearsay import IN_VAIN
from p2pboot.dht.keys import content_key
from p2pboot.dht.lookup import PATIENCE_S
from p2pboot.dht.member import FRESH_S, LOOK_S
from p2pboot.dht.table import Contact, K
from p2pboot.testing.manifests import key_of
from p2pboot.transport.interface import Connection, Stream, Transport
from p2pboot.wire.kad import KAD_PROTOCOL, Message, MessageType, Record, encode_message
from tests.dht.world import KEY, PAIR, RIGHT, DhtWorld, Liar, Peer, exchange, raw_stream, read_message
from tests.node.test_peering import Dials


@pytest.fixture
def world() -> DhtWorld:
    return DhtWorld()


async def values_for(world: DhtWorld, *at: Peer, name: str = "client") -> set[bytes]:
    found: list[bytes] = []
    async with world.client(name) as client:
        for peer in at:
            await client._transport.dial(peer.address)
        await client.find_values(KEY, found.append)
    assert len(found) == len(set(found))
    return set(found)


async def providers_for(world: DhtWorld, key: bytes, *at: Peer) -> dict[str, Contact]:
    found: list[Contact] = []
    async with world.client() as client:
        for peer in at:
            await client._transport.dial(peer.address)
        await client.find_providers(key, found.append)
    return {contact.peer_id: contact for contact in found}


async def test_what_one_puts_is_found_from_anywhere(world: DhtWorld, autojump_clock: MockClock) -> None:
    async with world.mesh(30) as peers:
        content = content_key("ab" * 32)
        peers[3].member.say({KEY: RIGHT}, [PAIR, content])
        await trio.sleep(1)
        for peer in random.Random(1).sample(peers, 5):
            assert await values_for(world, peer) == {RIGHT}
            for key in (PAIR, content):
                found = await providers_for(world, key, peer)
                assert found.keys() == {peers[3].transport.peer_id}
                assert found[peers[3].transport.peer_id].addresses == peers[3].transport.addresses()


async def test_all_values_are_found_however_many_there_are(
    world: DhtWorld, autojump_clock: MockClock
) -> None:
    async with world.mesh(12) as peers:
        for number, peer in enumerate(peers):
            peer.member.say({KEY: b"%d" % number}, [PAIR])
        await trio.sleep(1)
        assert await values_for(world, peers[0]) == {b"%d" % number for number in range(12)}
        found = await providers_for(world, PAIR, peers[0])
        assert found.keys() == {peer.transport.peer_id for peer in peers}


async def test_nothing_is_written_back(world: DhtWorld, autojump_clock: MockClock) -> None:
    async with world.member("one") as one, world.member("other") as other:
        await one.transport.dial(other.address)
        async with world.network.open(key_of("stranger").public.peer_id) as stranger:
            put = Message(MessageType.PUT_VALUE, KEY, Record(KEY, b"wrong"))
            await exchange(await raw_stream(stranger, one), put)
        assert await values_for(world, one, other) == {b"wrong"}
        found: list[bytes] = []
        await other.member.client.find_values(KEY, found.append)
        assert found == [b"wrong"]
        assert other.member.server is not None
        assert len(other.member.server.answerer.values) == 0


async def test_whoever_gets_connected_has_it_at_once(world: DhtWorld, autojump_clock: MockClock) -> None:
    async with world.member("publisher") as publisher:
        publisher.member.say({KEY: RIGHT}, [PAIR])
        await trio.sleep(LOOK_S + 1)
        for _ in range(2):  # the second time it has forgotten everything
            async with world.member("server") as server:
                await server.transport.dial(publisher.address)
                await wait_all_tasks_blocked()
                async with world.network.open(key_of("a").public.peer_id) as asker:
                    stream = await raw_stream(asker, server)
                    reply = await exchange(stream, Message(MessageType.GET_VALUE, KEY))
                    assert reply.record is not None
                    assert reply.record.value == RIGHT
                    reply = await exchange(stream, Message(MessageType.GET_PROVIDERS, PAIR))
                    assert [peer.id for peer in reply.providers] == [key_of("publisher").public.peer_id_bytes]


async def test_it_is_kept_fresh(world: DhtWorld, autojump_clock: MockClock) -> None:
    async with world.member("publisher") as publisher, world.member("server") as server:
        publisher.member.say({KEY: RIGHT}, [PAIR])
        await publisher.transport.dial(server.address)
        assert server.member.server is not None
        for _ in range(3):
            await trio.sleep(5 * FRESH_S)  # more than a value is good for, in all
            assert await values_for(world, server) == {RIGHT}
        world.network.cut(publisher.transport.peer_id, server.transport.peer_id)
        await trio.sleep(7 * FRESH_S)
        assert server.member.server.answerer.values.get(KEY, trio.current_time()) == []


async def test_what_changed_is_put_again(world: DhtWorld, autojump_clock: MockClock) -> None:
    async with world.mesh(5) as peers:
        peers[0].member.say({KEY: b"old"}, ())
        await trio.sleep(1)
        peers[0].member.say({KEY: RIGHT}, ())
        await trio.sleep(1)
        assert await values_for(world, peers[4]) == {RIGHT}


async def test_with_three_in_ten_poisoned_the_right_value_and_provider_are_found(
    world: DhtWorld, autojump_clock: MockClock
) -> None:
    chance = random.Random(5)
    async with world.mesh(30) as peers:
        peers[2].member.say({KEY: RIGHT}, [PAIR])
        await trio.sleep(1)
        for peer in chance.sample(peers[3:], 9):
            peer.transport.handle(KAD_PROTOCOL, Liar(chance).handle)
        for peer in chance.sample(peers, 5):
            assert RIGHT in await values_for(world, peer)
            assert peers[2].transport.peer_id in await providers_for(world, PAIR, peer)


async def test_a_liar_has_nobody_dialled_again_and_again(world: DhtWorld, autojump_clock: MockClock) -> None:
    async with world.member("honest") as honest, world.member("liar") as liar:
        honest.member.say({KEY: RIGHT}, ())
        liar.transport.handle(KAD_PROTOCOL, Liar(random.Random(1)).handle)
        async with world.network.open(key_of("client").public.peer_id, is_client=True) as transport:
            dials = Dials(transport)
            client = DhtClient(cast(Transport, dials), AddressPolicy())
            for peer in (honest, liar):
                await transport.dial(peer.address)
            found: list[bytes] = []
            await client.find_values(KEY, found.append)
            first = len(dials.dialled)
            assert first >= IN_VAIN
            await client.find_values(KEY, found.append)
            assert len(dials.dialled) == first
            assert found.count(RIGHT) == 2
            await trio.sleep(WORD_S)
            await client.find_values(KEY, found.append)
            assert len(dials.dialled) > first  # whoever lost his peers is heard again


async def test_a_frozen_peer_does_not_stop_a_lookup(world: DhtWorld, autojump_clock: MockClock) -> None:
    async with world.mesh(8) as peers:
        peers[0].member.say({KEY: RIGHT}, ())
        await trio.sleep(1)
        world.network.freeze(peers[3].transport.peer_id)
        began = trio.current_time()
        assert await values_for(world, peers[5]) == {RIGHT}
        assert trio.current_time() - began <= 5


@pytest.mark.parametrize(
    "reply",
    [
        b"\xff\xff\x7f",
        encode_message(Message(MessageType.PING)),
        encode_message(Message(MessageType.GET_VALUE, KEY, Record(b"another", b"x"))),
        encode_message(Message(MessageType.GET_VALUE, KEY, Record(KEY, b"x" * 5000))),
        b"",
    ],
)
async def test_what_a_hostile_server_answers_is_not_taken(
    world: DhtWorld, autojump_clock: MockClock, reply: bytes
) -> None:
    async def handle(stream: Stream) -> None:
        await read_message(stream)
        await stream.write(reply)

    async with world.member("one") as one:
        one.transport.handle(KAD_PROTOCOL, handle)
        assert await values_for(world, one) == set()


async def test_a_client_only_asks(world: DhtWorld, autojump_clock: MockClock) -> None:
    async with world.mesh(K // 2) as peers:
        assert await values_for(world, peers[0]) == set()
        for peer in peers:
            assert key_of("client").public.peer_id not in peer.member.client.table


async def test_connections_that_were_made_for_a_lookup_are_let_go(
    world: DhtWorld, autojump_clock: MockClock
) -> None:
    async with world.mesh(10, dials=1) as peers, world.client() as client:
        client._keeps = lambda: False
        await client._transport.dial(peers[0].address)
        await client.find_values(KEY, lambda _value: None)
        assert len(client._transport.connections()) > 5
        await client.let_go()
        assert {one.peer_id for one in client._transport.connections()} == {peers[0].transport.peer_id}


async def say_nothing(_stream: Stream) -> None:
    await trio.sleep_forever()


async def test_who_says_nothing_costs_a_moment_and_the_next_lookup_does_not_begin_with_him(
    world: DhtWorld, autojump_clock: MockClock
) -> None:
    async with world.mesh(10) as peers:
        peers[0].member.say({KEY: RIGHT}, [])
        await trio.sleep(1)
        for peer in peers[3:6]:
            peer.transport.handle(KAD_PROTOCOL, say_nothing)
        client, found = peers[9].member.client, list[bytes]()
        began = trio.current_time()
        await client.find_values(KEY, found.append)
        assert found == [RIGHT]
        assert PATIENCE_S <= trio.current_time() - began < 1.5
        silent = {peer.transport.peer_id for peer in peers[3:6]}
        assert not {contact.peer_id for contact in client._start(0)} & silent


async def test_who_only_fetches_is_not_asked_again(
    world: DhtWorld, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else hundreds of clients would be asked before the few servers among them."""
    async with world.mesh(3) as peers, AsyncExitStack() as stack:
        for number in range(10):
            opened = world.network.open(key_of(f"fetches {number}").public.peer_id, is_client=True)
            await (await stack.enter_async_context(opened)).dial(peers[2].address)
        await trio.sleep(1)
        client, asked = peers[2].member.client, list[str]()
        ask = client.ask

        async def noting(connection: Connection, request: Message) -> Message:
            asked.append(connection.peer_id)
            return await ask(connection, request)

        monkeypatch.setattr(client, "ask", noting)
        await client.look_up(Message(MessageType.GET_VALUE, KEY))
        assert sorted(asked) == sorted(peer.transport.peer_id for peer in peers[:2])
