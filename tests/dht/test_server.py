"""The server, and what strangers may cost it."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock

from p2pboot.core.origins import Party, party_of
from p2pboot.dht.addresses import MAX_ADDRESSES, AddressPolicy
from p2pboot.dht.keys import peer_id_bytes
from p2pboot.dht.records import VALUES
from p2pboot.dht.server import READ_S, STREAMS
from p2pboot.dht.table import Contact, K
from p2pboot.node.status import describe_dht
from p2pboot.testing.manifests import key_of
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.allowlist import AllowList
from p2pboot.transport.interface import Stream, StreamReset, Transport
from p2pboot.transport.multiaddrs import encode_multiaddr
from p2pboot.wire.kad import (
    KAD_PROTOCOL,
    MAX_FRAME,
    MAX_VALUE,
    KadPeer,
    Message,
    MessageType,
    Record,
    encode_message,
)
from p2pboot.wire.varint import encode_varint
from tests.dht.world import KEY, PAIR, RIGHT, DhtWorld, exchange, raw_stream, read_message

GET = Message(MessageType.GET_VALUE, KEY)
PUT = Message(MessageType.PUT_VALUE, KEY, Record(KEY, b"wrong"))


@pytest.fixture
def world() -> DhtWorld:
    return DhtWorld()


def own_provider(transport: Transport) -> KadPeer:
    address = parse_address(transport.addresses()[0]).with_peer(None)
    return KadPeer(peer_id_bytes(transport.peer_id), (encode_multiaddr(address),))


async def test_everything_is_answered(world: DhtWorld, autojump_clock: MockClock) -> None:
    async with world.member("server") as server, world.network.open(key_of("a").public.peer_id) as stranger:
        stream = await raw_stream(stranger, server)
        assert await exchange(stream, GET) == GET
        assert await exchange(stream, PUT) == PUT
        assert await exchange(stream, GET) == Message(MessageType.GET_VALUE, KEY, PUT.record)
        own = own_provider(stranger)
        await stream.write(encode_message(Message(MessageType.ADD_PROVIDER, PAIR, providers=(own,))))
        reply = await exchange(stream, Message(MessageType.GET_PROVIDERS, PAIR))
        assert reply == Message(MessageType.GET_PROVIDERS, PAIR, providers=(own,))
        assert await exchange(stream, Message(MessageType.PING)) == Message(MessageType.PING)
        itself = peer_id_bytes(server.transport.peer_id)
        reply = await exchange(stream, Message(MessageType.FIND_NODE, itself))
        assert reply == Message(MessageType.FIND_NODE, closer=(own_provider(server.transport),))
        await stream.close_write()
        assert await read_message(stream) is None


async def test_peers_that_are_known_are_told_of(world: DhtWorld, autojump_clock: MockClock) -> None:
    async with world.mesh(4) as peers, world.network.open(key_of("a").public.peer_id) as stranger:
        reply = await exchange(await raw_stream(stranger, peers[0]), GET)
        assert set(reply.closer) == {own_provider(peer.transport) for peer in peers[1:]}


async def test_a_stranger_shadows_neither_the_nodes_own_value_nor_anybody_elses(
    world: DhtWorld, autojump_clock: MockClock
) -> None:
    async with (
        world.member("server", named=["friend"]) as server,
        world.network.open(key_of("a").public.peer_id) as first,
        world.network.open(key_of("b").public.peer_id) as stranger,
        world.network.open(key_of("friend").public.peer_id) as friend,
    ):
        for transport, value in ((first, b"first"), (stranger, b"wrong"), (friend, b"friend's")):
            put = Message(MessageType.PUT_VALUE, KEY, Record(KEY, value))
            assert await exchange(await raw_stream(transport, server), put) == put
        stream = await raw_stream(stranger, server)
        told = [record.value for record in (await exchange(stream, GET)).records]
        assert told == [b"friend's", b"first", b"wrong"]
        server.member.say({KEY: RIGHT}, ())
        told = [record.value for record in (await exchange(stream, GET)).records]
        assert told == [RIGHT, b"friend's", b"first", b"wrong"]


async def test_a_peer_speaks_of_itself_only(world: DhtWorld, autojump_clock: MockClock) -> None:
    async with world.member("server") as server, world.network.open(key_of("a").public.peer_id) as stranger:
        stream = await raw_stream(stranger, server)
        other = KadPeer(key_of("b").public.peer_id_bytes, own_provider(stranger).addresses)
        await stream.write(encode_message(Message(MessageType.ADD_PROVIDER, PAIR, providers=(other,))))
        reply = await exchange(stream, Message(MessageType.GET_PROVIDERS, PAIR))
        assert reply.providers == ()


@pytest.mark.parametrize("address", ["/ip4/203.0.113.5/tcp/1", "/ip4/127.0.0.1/tcp/1", "/ip4/0.0.0.0/tcp/1"])
async def test_addresses_that_lead_elsewhere_are_not_kept(
    world: DhtWorld, autojump_clock: MockClock, address: str
) -> None:
    async with world.member("server") as server, world.network.open(key_of("a").public.peer_id) as stranger:
        stream = await raw_stream(stranger, server)
        own = KadPeer(peer_id_bytes(stranger.peer_id), (encode_multiaddr(parse_address(address)),))
        await stream.write(encode_message(Message(MessageType.ADD_PROVIDER, PAIR, providers=(own,))))
        reply = await exchange(stream, Message(MessageType.GET_PROVIDERS, PAIR))
        assert reply.providers == ()


@pytest.mark.parametrize(
    "request_",
    [
        Message(MessageType.PUT_VALUE, KEY),
        Message(MessageType.PUT_VALUE, KEY, Record(b"another", b"x")),
        Message(MessageType.PUT_VALUE, KEY, Record(KEY, b"")),
        Message(MessageType.PUT_VALUE, KEY, Record(KEY, b"x" * (MAX_VALUE + 1))),
        Message(MessageType.GET_VALUE),
        Message(MessageType.GET_VALUE, b"k" * 129),
    ],
)
async def test_what_can_not_be_is_refused_and_costs_its_stream_only(
    world: DhtWorld, autojump_clock: MockClock, request_: Message
) -> None:
    async with world.member("server") as server, world.network.open(key_of("a").public.peer_id) as stranger:
        stream = await raw_stream(stranger, server)
        await stream.write(encode_message(request_))
        with pytest.raises(StreamReset):
            await read_message(stream)
        assert await exchange(await raw_stream(stranger, server), GET) == GET
        status = json.loads(json.dumps(describe_dht(server.member.counts())))
        assert status["refused"] == {"malformed": 1}


@pytest.mark.parametrize(
    "raw", [encode_varint(MAX_FRAME + 1), encode_varint(4 << 20), b"\xff" * 10, b"\x02\x08\x09", b"\x01\x08"]
)
async def test_what_is_no_message_ends_its_stream(
    world: DhtWorld, autojump_clock: MockClock, raw: bytes
) -> None:
    async with world.member("server") as server, world.network.open(key_of("a").public.peer_id) as stranger:
        stream = await raw_stream(stranger, server)
        await stream.write(raw)
        with pytest.raises(StreamReset):
            await read_message(stream)


async def test_idle_and_unfinished_streams_end_and_nobody_waits_for_them(
    world: DhtWorld, autojump_clock: MockClock
) -> None:
    async with world.member("server") as server, world.network.open(key_of("a").public.peer_id) as stranger:
        began = trio.current_time()
        idle = [await raw_stream(stranger, server) for _ in range(2 * STREAMS)]
        await idle[-1].write(b"\xff")
        async with world.network.open(key_of("b").public.peer_id) as honest:
            assert await exchange(await raw_stream(honest, server), GET) == GET
        assert trio.current_time() - began < 1
        with pytest.raises(StreamReset):
            await idle[0].read(1)  # it gave way
        assert trio.current_time() - began < 1
        with pytest.raises(StreamReset):
            await idle[-1].read(1)
        assert trio.current_time() - began == pytest.approx(READ_S, abs=1)


async def test_fifty_thousand_values_of_one_stranger_displace_none(
    world: DhtWorld, autojump_clock: MockClock
) -> None:
    async with world.member("server") as server, world.network.open(key_of("a").public.peer_id) as stranger:
        async with world.network.open(key_of("honest").public.peer_id) as honest:
            right = Message(MessageType.PUT_VALUE, KEY, Record(KEY, RIGHT))
            assert await exchange(await raw_stream(honest, server), right) == right
        assert server.member.server is not None
        values = server.member.server.answerer.values
        party = party_of(stranger.addresses()[0], stranger.peer_id)
        for number in range(50_000):
            values.put(b"%d" % number, party, b"x" * MAX_VALUE, now=trio.current_time())
        assert len(values) == VALUES // 4 + 1
        stream = await raw_stream(stranger, server)
        refused = Message(MessageType.PUT_VALUE, b"more", Record(b"more", b"x"))
        await stream.write(encode_message(refused))
        with pytest.raises(StreamReset):
            await read_message(stream)
        reply = await exchange(await raw_stream(stranger, server), GET)
        assert reply.records == (Record(KEY, RIGHT),)
        stream = await raw_stream(stranger, server)
        await stream.write(b"\x01\xff")
        with pytest.raises(StreamReset):
            await read_message(stream)
        counts = server.member.counts()
        assert (counts.values, counts.providers) == (VALUES // 4 + 1, 0)
        assert counts.requests == {"put_value": 1, "get_value": 1}
        assert counts.refused == {"quota": 1, "malformed": 1}


async def test_the_longest_values_fit_into_a_reply(world: DhtWorld, autojump_clock: MockClock) -> None:
    async with (
        world.member("server") as server,
        world.network.open(key_of("reader").public.peer_id) as reader,
    ):
        assert server.member.server is not None
        for number in range(K):
            peer_id = key_of(f"peer {number}").public.peer_id
            addresses = tuple(
                f"/ip4/10.2.{number}.{host}/tcp/4001/p2p/{peer_id}" for host in range(MAX_ADDRESSES)
            )
            server.member.client.table.add(Contact(peer_id, addresses))
        values = server.member.server.answerer.values
        for number in range(40):
            party = Party(f"10.1.0.{number}", "x")
            values.put(KEY, party, b"%04d" % number * (MAX_VALUE // 4), now=trio.current_time())
        stream = await raw_stream(reader, server)
        seen: set[bytes] = set()
        for _ in range(20):
            reply = await exchange(stream, GET)
            assert len(reply.closer) == K
            assert reply.records[0].value.startswith(b"0000")  # who came first is told of first
            seen.update(record.value for record in reply.records)
        assert len(seen) > 30  # the others take turns


@pytest.mark.parametrize(("values", "replies"), [(0, 1000), (12, 100)])
async def test_a_flood_of_questions_is_answered_in_its_part_of_a_core_and_others_at_once(
    world: DhtWorld, autojump_clock: MockClock, values: int, replies: int
) -> None:
    """What is asked costs by the length of the reply too: a hundred long ones are a thousand short ones."""
    async with world.member("server") as server, world.network.open(key_of("a").public.peer_id) as stranger:
        assert server.member.server is not None
        for number in range(values):
            party = Party(f"10.1.0.{number}", "x")
            value = b"%04d" % number * (MAX_VALUE // 4)
            server.member.server.answerer.values.put(KEY, party, value, now=trio.current_time())

        async def ask_a_lot() -> None:
            flood = await raw_stream(stranger, server)
            for _ in range(replies // 4):
                await exchange(flood, GET)

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(ask_a_lot)
            await trio.sleep(0.5)
            async with world.network.open(key_of("b").public.peer_id) as honest:
                await exchange(await raw_stream(honest, server), Message(MessageType.PING))
            assert trio.current_time() - began < 0.6
        assert 1 < trio.current_time() - began < 3


async def test_long_requests_are_read_in_that_part_of_a_core_too(
    world: DhtWorld, autojump_clock: MockClock
) -> None:
    longest = Message(MessageType.GET_VALUE, KEY, Record(KEY, bytes(MAX_FRAME - 100)))
    async with world.member("server") as server, world.network.open(key_of("a").public.peer_id) as stranger:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(80):
                nursery.start_soon(exchange, await raw_stream(stranger, server), longest)
            await trio.sleep(0.1)
            async with world.network.open(key_of("b").public.peer_id) as honest:
                assert await exchange(await raw_stream(honest, server), GET) == GET
            assert trio.current_time() - began < 0.2
        assert 1 < trio.current_time() - began < 3


async def test_nobody_from_the_world_is_served_unless_wanted(
    world: DhtWorld, autojump_clock: MockClock
) -> None:
    assert not AddressPolicy().serves("/ip4/203.0.113.5/tcp/4001")
    assert not AddressPolicy().serves("/ip6/2001:db8::1/tcp/4001")
    assert AddressPolicy().serves("/ip6/fd00::1/tcp/4001")
    assert AddressPolicy(public=True).serves("/ip4/203.0.113.5/tcp/4001")


async def test_who_does_not_serve_does_not_answer(world: DhtWorld, autojump_clock: MockClock) -> None:
    async with (
        world.member("c", serves=False) as peer,
        world.network.open(key_of("a").public.peer_id) as other,
    ):
        connection = await other.dial(peer.address)
        with pytest.raises(StreamReset):
            await other.open_stream(connection, KAD_PROTOCOL)


async def test_a_guest_is_answered_and_puts_nothing(world: DhtWorld, autojump_clock: MockClock) -> None:
    listed, guest = (key_of(name).public.peer_id for name in ("listed", "guest"))
    policy = AddressPolicy(allowed=AllowList(frozenset({listed}), has_guests=True))
    asked = 0

    async def answer(stream: Stream) -> None:
        nonlocal asked
        asked += 1

    async with (
        world.member("server", policy=policy) as server,
        world.network.open(listed) as friend,
        world.network.open(guest) as stranger,
    ):
        stranger.handle(KAD_PROTOCOL, answer)
        put = Message(MessageType.PUT_VALUE, KEY, Record(KEY, RIGHT))
        assert await exchange(await raw_stream(friend, server), put) == put
        provided = Message(MessageType.ADD_PROVIDER, PAIR, providers=(own_provider(stranger),))
        stream = await raw_stream(stranger, server)
        await stream.write(encode_message(provided))
        assert (await exchange(stream, GET)).record == put.record
        assert await exchange(stream, Message(MessageType.GET_PROVIDERS, PAIR)) == Message(
            MessageType.GET_PROVIDERS, PAIR
        )
        with pytest.raises(StreamReset):
            await exchange(stream, PUT)
        assert server.member.counts().refused == {"guest": 1}
        await server.member.client.look_up(GET)
        assert not asked
        assert guest not in server.member.client.table
