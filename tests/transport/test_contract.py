"""What every transport promises, on each implementation; of gossip, see `test_gossip_contract`."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from p2pboot.core.identity import SecretKey
from p2pboot.errors import UsageError
from p2pboot.transport.bandwidth import Bandwidth, Rates
from p2pboot.transport.interface import (
    ConnectionEvent,
    DialError,
    PeerRecord,
    PeerSource,
    Stream,
    StreamHandler,
    StreamReset,
    Transport,
)
from tests.connections import connection_with
from tests.transport.conftest import ECHO, Lab, echo, read_all, until, wait_connected

STRANGER = SecretKey(b"s" * 32).public.peer_id
# 1 byte; one Noise message and more than one; more than the first window; more than the largest window.
SIZES = [1, 64 * 1024, 1024 * 1024, 5 * 1024 * 1024 + 1]


async def test_both_sides_know_each_other_after_a_dial(lab: Lab) -> None:
    a, b = await lab.node(), await lab.node()
    assert (await a.dial(b.addresses()[0])).peer_id == b.peer_id
    await wait_connected(b, a.peer_id)
    assert set(a.peers()) == {b.peer_id}
    assert set(b.peers()) == {a.peer_id}
    assert b.addresses()[0] in a.peer_addresses(b.peer_id)


async def test_who_dialled_knows_it_and_who_was_dialled_too(lab: Lab) -> None:
    a, b = await lab.pair()
    dialled, accepted = connection_with(a, b.peer_id), connection_with(b, a.peer_id)
    assert a.was_dialled(dialled)
    assert not b.was_dialled(accepted)
    await a.hang_up(dialled)
    assert not a.was_dialled(dialled)


async def test_how_a_peer_was_found_is_known_to_who_dialled_it(lab: Lab) -> None:
    a, b = await lab.node(), await lab.node()
    a.note_source(b.peer_id, PeerSource.PEERS)
    assert a.sources(b.peer_id) == ()
    connection = await a.dial(b.addresses()[0], PeerSource.LAN)
    assert await a.dial(b.addresses()[0], PeerSource.BOOTSTRAP) == connection
    a.note_source(b.peer_id, PeerSource.DHT)
    assert a.sources(b.peer_id) == (PeerSource.LAN, PeerSource.BOOTSTRAP, PeerSource.DHT)
    await until(lambda: b.sources(a.peer_id) == (PeerSource.INCOMING,))
    await a.hang_up(connection)
    assert a.sources(b.peer_id) == ()


async def test_own_addresses_name_the_peer_and_a_real_port(lab: Lab) -> None:
    node = await lab.node()
    for address in node.addresses():
        assert address.endswith(f"/p2p/{node.peer_id}")
        assert "/tcp/0/" not in address
        assert "/0.0.0.0/" not in address


async def test_an_own_address_leads_here_whoever_it_names(lab: Lab) -> None:
    a, b = await lab.node(), await lab.node()
    own, other = a.addresses()[0], b.addresses()[0]
    assert a.leads_here(own)
    assert a.leads_here(own.replace(a.peer_id, STRANGER))
    assert a.leads_here(own.partition("/p2p/")[0])
    assert not a.leads_here(other)
    with pytest.raises(UsageError):
        a.leads_here("no address")


async def test_a_nodes_own_record_says_where_it_is(lab: Lab) -> None:
    a, b = await lab.pair()
    record = b.own_record()
    assert a.read_peer_record(record) == PeerRecord(b.peer_id, b.addresses())
    assert b.own_record() == record


async def test_dial_works_without_the_peer_id(lab: Lab) -> None:
    a, b = await lab.node(), await lab.node()
    assert (await a.dial(b.addresses()[0].partition("/p2p/")[0])).peer_id == b.peer_id


async def test_dial_refuses_another_identity(lab: Lab) -> None:
    a, b = await lab.node(), await lab.node()
    address = b.addresses()[0].replace(b.peer_id, STRANGER)
    with pytest.raises(DialError, match=r"12D3KooW"):
        await a.dial(address)
    assert not a.peers()
    assert (await a.dial(b.addresses()[0])).peer_id == b.peer_id  # and nothing is held against the address


async def test_dial_of_the_same_host_and_port_returns_at_once(lab: Lab) -> None:
    a, b = await lab.node(), await lab.node()
    connection = await a.dial(b.addresses()[0])
    assert await a.dial(b.addresses()[0]) == connection
    assert await a.dial(b.addresses()[0].partition("/p2p/")[0]) == connection
    assert a.connections() == {connection}
    with pytest.raises(DialError, match=r"12D3KooW"):
        await a.dial(b.addresses()[0].replace(b.peer_id, STRANGER))
    await a.hang_up(connection)
    again = await a.dial(b.addresses()[0])
    assert again != connection
    assert a.connections() == {again}


async def test_a_peer_that_dialled_us_can_be_dialled(lab: Lab) -> None:
    a, b = await lab.pair()
    inbound = connection_with(b, a)
    assert inbound.address not in a.addresses()  # its port is where it dialled from
    outbound = await b.dial(a.addresses()[0])
    assert b.connections() == {inbound, outbound}
    assert b.peers() == {a.peer_id}


@pytest.mark.parametrize("lower_first", [True, False])
async def test_of_two_dials_at_the_same_time_that_of_the_lower_peer_stays(
    lab: Lab, lower_first: bool
) -> None:
    lower, higher = sorted([await lab.node(), await lab.node()], key=lambda node: node.peer_id)
    lower.handle(ECHO, say(b"low"))
    higher.handle(ECHO, say(b"high"))
    dials = [(lower, higher), (higher, lower)]
    async with trio.open_nursery() as nursery:
        for one, other in dials if lower_first else reversed(dials):
            nursery.start_soon(one.dial, other.addresses()[0])
    await settled(lower, higher)
    (at_lower,), (at_higher,) = lower.connections(), higher.connections()
    assert at_lower.address in higher.addresses()  # where it was dialled
    assert at_higher.address not in lower.addresses()  # but from where
    assert await read_all(await lower.open_stream(at_lower, ECHO)) == b"high"
    assert await read_all(await higher.open_stream(at_higher, ECHO)) == b"low"
    # Whoever wanted to be connected to the other's address is.
    assert await higher.dial(lower.addresses()[0]) == at_higher
    assert await lower.dial(higher.addresses()[0]) == at_lower
    await settled(lower, higher)
    assert (lower.connections() | higher.connections()) == {at_lower, at_higher}


async def test_of_two_dials_to_one_peer_at_the_same_time_one_stays(lab: Lab) -> None:
    a = await lab.node()
    b = await lab.node(listen=["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.2/tcp/0"])
    reached = []

    async def dial(address: str) -> None:
        reached.append(await a.dial(address))

    async with trio.open_nursery() as nursery:
        for address in b.addresses():
            nursery.start_soon(dial, address)
    assert set(reached) == a.connections()
    await settled(a, b)
    for address in b.addresses():
        assert await a.dial(address) == reached[0]


async def settled(*nodes: Transport) -> None:
    """Wait until each has one connection."""
    await until(lambda: all(len(node.connections()) == 1 for node in nodes))


async def test_two_servers_with_one_key_that_dial_while_they_are_dialled_are_two(lab: Lab) -> None:
    node, (one, other) = await lab.node(), await lab.twins()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.dial, one.addresses()[0])
        nursery.start_soon(other.dial, node.addresses()[0])
    await settled(one, other)
    await until(lambda: len(node.connections()) == 2)
    assert node.peers() == {one.peer_id}


async def test_two_servers_with_one_key_are_two_connections(lab: Lab) -> None:
    client, (one, other) = await lab.node(), await lab.twins()
    events = client.connection_events()
    first, second = [await client.dial(node.addresses()[0]) for node in (one, other)]
    assert (first.address, second.address) == (one.addresses()[0], other.addresses()[0])
    assert client.connections() == {first, second}
    assert client.peers() == {first.peer_id} == {second.peer_id}
    assert [await events.receive(), await events.receive()] == [
        ConnectionEvent(first, True),
        ConnectionEvent(second, True),
    ]
    one.handle(ECHO, say(b"one"))
    other.handle(ECHO, say(b"other"))
    for _ in range(3):
        for connection, said in ((first, b"one"), (second, b"other")):
            stream = await client.open_stream(connection, ECHO)
            assert stream.connection == connection
            assert await read_all(stream) == said
            await stream.close()
    await client.hang_up(first)
    assert await events.receive() == ConnectionEvent(first, False)
    await client.hang_up(first)  # nothing happens
    assert client.connections() == {second}
    assert client.peers() == {second.peer_id}
    assert await read_all(await client.open_stream(second, ECHO)) == b"other"
    with pytest.raises(StreamReset):
        await client.open_stream(first, ECHO)


def say(text: bytes) -> StreamHandler:
    async def handler(stream: Stream) -> None:
        await stream.write(text)

    return handler


async def test_dial_says_when_nobody_is_there(lab: Lab) -> None:
    node = await lab.node()
    with pytest.raises(DialError, match=r"refused"):
        await node.dial(f"/ip4/127.0.0.1/tcp/1/p2p/{STRANGER}")


async def test_dial_of_oneself_is_refused(lab: Lab) -> None:
    node = await lab.node()
    with pytest.raises(DialError, match="itself"):
        await node.dial(node.addresses()[0])


async def test_dial_refuses_what_is_no_address(lab: Lab) -> None:
    node = await lab.node()
    with pytest.raises(UsageError, match="multiaddr"):
        await node.dial("somewhere:4001")


@pytest.mark.parametrize("size", SIZES)
async def test_echo(lab: Lab, size: int) -> None:
    a, b = await lab.pair()
    b.handle(ECHO, echo)
    stream = await a.open_stream(connection_with(a, b), ECHO)
    assert stream.connection.peer_id == b.peer_id
    sent = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    async def send() -> None:
        await stream.write(memoryview(sent))
        await stream.close_write()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        received = await read_all(stream)
    await stream.close()
    assert received == sent


async def test_the_dialled_side_can_open_streams_too(lab: Lab) -> None:
    a, b = await lab.pair()
    a.handle(ECHO, echo)
    stream = await b.open_stream(connection_with(b, a), ECHO)
    await stream.write(b"back")
    await stream.close_write()
    assert await read_all(stream) == b"back"
    await stream.close()


async def test_half_close_lets_the_answer_come(lab: Lab) -> None:
    a, b = await lab.pair()

    async def count(stream: Stream) -> None:
        await stream.write(str(len(await read_all(stream))).encode())

    b.handle(ECHO, count)
    stream = await a.open_stream(connection_with(a, b), ECHO)
    await stream.write(b"seven b")
    await stream.close_write()
    assert await read_all(stream) == b"7"
    assert await stream.read(1) == b""  # the end stays the end
    await stream.close()


async def test_read_gives_what_is_there_and_no_more_than_asked(lab: Lab) -> None:
    a, b = await lab.pair()
    b.handle(ECHO, echo)
    stream = await a.open_stream(connection_with(a, b), ECHO)
    await stream.write(b"abcdef")
    assert await stream.read(4) == b"abcd"
    assert await stream.read(100) == b"ef"
    await stream.close()


async def opened(lab: Lab, handler: StreamHandler) -> Stream:
    a, b = await lab.pair()
    b.handle(ECHO, handler)
    return await a.open_stream(connection_with(a, b), ECHO)


async def test_read_into_waits_for_as_much_as_it_is_told(lab: Lab) -> None:
    stream = await opened(lab, echo)
    target = bytearray(5)
    await stream.write(b"ab")
    assert await stream.read_into(memoryview(target)) in {1, 2}  # what there is
    await stream.reset()
    stream = await opened(lab, echo)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_slowly, stream, b"abcdefg")
        assert await stream.read_into(memoryview(target), 5) == 5
    assert target == b"abcde"
    assert await stream.read(100) in {b"f", b"fg"}
    await stream.close()


async def write_slowly(stream: Stream, data: bytes) -> None:
    for number in data:
        await stream.write(bytes([number]))
        await trio.testing.wait_all_tasks_blocked()


async def test_read_into_takes_bulk_in_pieces(lab: Lab) -> None:
    stream = await opened(lab, echo)
    sent = bytes(range(256)) * 8192
    target, received = bytearray(300_000), bytearray()

    async def send() -> None:
        await stream.write(sent)
        await stream.close_write()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while count := await stream.read_into(memoryview(target), len(target)):
            received += target[:count]
    await stream.close()
    assert received == sent


async def test_read_into_gives_less_at_the_orderly_end_only(lab: Lab) -> None:
    stream = await opened(lab, say(b"abc"))
    target = bytearray(5)
    assert await stream.read_into(memoryview(target), 5) == 3
    assert target[:3] == b"abc"
    assert await stream.read_into(memoryview(target), 5) == 0
    await stream.close()


async def test_read_into_does_not_take_a_reset_for_an_end(lab: Lab) -> None:
    async def break_off(stream: Stream) -> None:
        await stream.write(b"abc")
        await stream.read(1)
        await stream.reset()

    stream = await opened(lab, break_off)
    target = bytearray(5)
    assert await stream.read_into(memoryview(target), 3) == 3
    await stream.write(b"x")
    with pytest.raises(StreamReset):
        await stream.read_into(memoryview(target), 5)


async def test_a_stream_can_be_reset_after_a_cancelled_read_into(lab: Lab) -> None:
    a, b = await lab.pair()
    b.handle(ECHO, echo)
    stream = await a.open_stream(connection_with(a, b), ECHO)
    await stream.write(b"abc")
    with trio.move_on_after(0.05) as scope:
        await stream.read_into(memoryview(bytearray(5)), 5)
    assert scope.cancelled_caught
    await stream.reset()
    other = await a.open_stream(connection_with(a, b), ECHO)  # the connection is none the worse
    await other.write(b"still here")
    assert await other.read_into(memoryview(bytearray(10)), 10) == 10
    await other.close()


async def test_what_came_is_counted_read_or_not(lab: Lab) -> None:
    stream = await opened(lab, echo)
    before = stream.received
    await stream.write(b"abcdef")
    assert await stream.read(1) == b"a"
    assert stream.received == before + 6  # it was one message
    assert await stream.read_into(memoryview(bytearray(5)), 5) == 5
    assert stream.received == before + 6
    await stream.close()


async def test_reset_is_seen_by_a_waiting_reader(lab: Lab) -> None:
    a, b = await lab.pair()
    seen = trio.Event()

    async def wait_for_reset(stream: Stream) -> None:
        await stream.write(b"ready")
        with pytest.raises(StreamReset):
            await stream.read(1)
        seen.set()

    b.handle(ECHO, wait_for_reset)
    stream = await a.open_stream(connection_with(a, b), ECHO)
    assert await stream.read(5) == b"ready"
    await stream.reset()
    await seen.wait()
    with pytest.raises(StreamReset):
        await stream.read(1)
    with pytest.raises(StreamReset):
        await stream.write(b"x")


async def test_close_and_reset_may_come_twice_and_in_any_order(lab: Lab) -> None:
    a, b = await lab.pair()
    b.handle(ECHO, echo)
    for first, second in (("close", "reset"), ("reset", "close"), ("close", "close"), ("reset", "reset")):
        stream = await a.open_stream(connection_with(a, b), ECHO)
        await getattr(stream, first)()
        await getattr(stream, second)()


async def test_a_writer_waits_for_a_reader_that_takes_its_time(lab: Lab) -> None:
    a, b = await lab.pair()
    go, total = trio.Event(), 3 * 1024 * 1024
    counted: list[int] = []

    async def read_late(stream: Stream) -> None:
        await go.wait()
        counted.append(len(await read_all(stream)))

    b.handle(ECHO, read_late)
    stream = await a.open_stream(connection_with(a, b), ECHO)
    with trio.move_on_after(0.2) as scope:
        await stream.write(bytes(total))
    assert scope.cancelled_caught  # it would have gone through, had nothing held it back
    await stream.reset()

    other = await a.open_stream(connection_with(a, b), ECHO)  # the connection is none the worse
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.write, bytes(total))
        go.set()
    await other.close_write()
    assert await read_all(other) == b""
    assert counted == [total]


async def test_a_handlers_error_resets_its_stream_and_nothing_else(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = await lab.pair()

    async def fail(stream: Stream) -> None:
        await stream.read(1)
        raise RuntimeError("no luck")

    b.handle("/test/fail/1", fail)
    b.handle(ECHO, echo)
    other = await a.open_stream(connection_with(a, b), ECHO)
    for _ in range(3):
        stream = await a.open_stream(connection_with(a, b), "/test/fail/1")
        await stream.write(b"?")
        with pytest.raises(StreamReset):
            await read_all(stream)
        await stream.reset()
    await other.write(b"still here")
    assert await other.read(100) == b"still here"
    await other.close()
    assert a.peer_id in caplog.text


async def test_open_stream_needs_a_connection(lab: Lab) -> None:
    a, b = await lab.pair()
    b.handle(ECHO, echo)
    connection = connection_with(a, b)
    await a.hang_up(connection)
    await wait_connected(a, b.peer_id, connected=False)
    with pytest.raises(StreamReset, match="not connected"):
        await a.open_stream(connection, ECHO)


async def test_open_stream_refuses_an_unknown_protocol(lab: Lab) -> None:
    a, b = await lab.pair()
    with pytest.raises(StreamReset, match="/test/nobody"):
        await a.open_stream(connection_with(a, b), "/test/nobody/1")


async def test_hang_up_ends_streams_and_is_told_to_both(lab: Lab) -> None:
    a, b = await lab.pair()
    b.handle(ECHO, echo)
    stream = await a.open_stream(connection_with(a, b), ECHO)
    await a.hang_up(connection_with(a, b))
    with pytest.raises(StreamReset):
        await stream.read(1)
    await wait_connected(a, b.peer_id, connected=False)
    await wait_connected(b, a.peer_id, connected=False)
    assert (await a.dial(b.addresses()[0])).peer_id == b.peer_id  # and it can be dialled again


async def test_events_start_with_what_is_up_and_tell_of_changes(lab: Lab) -> None:
    a, b = await lab.pair()
    first = connection_with(a, b)
    late = a.connection_events()
    assert await late.receive() == ConnectionEvent(first, True)
    c = await lab.node()
    await c.dial(a.addresses()[0])
    assert await late.receive() == ConnectionEvent(connection_with(a, c), True)
    await a.hang_up(first)
    assert await late.receive() == ConnectionEvent(first, False)


async def test_the_end_of_a_connection_is_waited_for_by_many_and_without_events(lab: Lab) -> None:
    a, (b, c) = await lab.node(), [await lab.node() for _ in range(2)]
    first, other = [await a.dial(node.addresses()[0]) for node in (b, c)]
    ended = 0

    async def wait() -> None:
        nonlocal ended
        await a.wait_ended(first)
        ended += 1

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(wait)
        await a.hang_up(other)
        await wait_connected(a, c.peer_id, connected=False)
        assert ended == 0
        await a.hang_up(first)
    assert ended == 2
    await a.wait_ended(first)  # at once


async def test_a_slow_follower_learns_the_final_state(lab: Lab) -> None:
    a, b = await lab.node(), await lab.node()
    events = a.connection_events()
    for _ in range(3):
        await a.hang_up(await a.dial(b.addresses()[0]))
        await wait_connected(a, b.peer_id, connected=False)
        await wait_connected(b, a.peer_id, connected=False)
    up = {await a.dial(b.addresses()[0]), last := await a.dial((await lab.node()).addresses()[0])}
    heard = {}
    while last not in heard:
        event = await events.receive()
        heard[event.connection] = event.connected
    assert {connection for connection, connected in heard.items() if connected} == up


async def test_bytes_are_counted_by_protocol_and_direction(lab: Lab) -> None:
    a, b = await lab.pair()
    b.handle(ECHO, echo)
    stream = await a.open_stream(connection_with(a, b), ECHO)
    await stream.write(b"seven b")
    await stream.close_write()
    assert await read_all(stream) == b"seven b"
    await stream.close()
    assert a.traffic == b.traffic == {(ECHO, "sent"): 7, (ECHO, "received"): 7}


async def test_streams_pay_and_are_counted_by_peer(lab: Lab) -> None:
    """Both ways, whoever opened the stream; the limits are too high for anybody to wait."""
    plenty = Rates(upload=1 << 24, download=1 << 24)
    bandwidths = Bandwidth(plenty), Bandwidth(plenty)
    a, b = [await lab.node(bandwidth=bandwidth) for bandwidth in bandwidths]
    seen: list[Stream] = []

    async def recording_echo(stream: Stream) -> None:
        seen.append(stream)
        await echo(stream)

    b.handle(ECHO, recording_echo)
    stream = await a.open_stream(await a.dial(b.addresses()[0]), ECHO)
    sent = bytes(range(250)) * 4000
    piece = bytearray(len(sent))

    async def send() -> None:
        await stream.write(sent)
        await stream.close_write()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert await stream.read_into(memoryview(piece), len(piece)) == len(piece)
    assert piece == sent
    assert await stream.read_into(memoryview(piece), len(piece)) == 0
    await stream.close()
    counts = {(ECHO, "sent"): len(sent), (ECHO, "received"): len(sent)}
    assert [bandwidth.traffic.by_peer() for bandwidth in bandwidths] == [
        {b.peer_id: counts},
        {a.peer_id: counts},
    ]
    for one in (stream, seen[0]):
        assert await one.pay(1 << 30) < 1 << 20
        assert not one.held_back
