"""A node on the real library: what it starts with, how it is bounded, and how it ends."""

from __future__ import annotations

import gc
import importlib.metadata
import ipaddress
import logging
import math
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count

import pytest
import trio
from libp2p.peer.envelope import consume_envelope
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2

from p2pboot.core.identity import SecretKey
from p2pboot.errors import MachineError, UsageError
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import (
    Connection,
    DialError,
    Forwarding,
    NoRoom,
    Stream,
    StreamReset,
    Transport,
)
from p2pboot.transport.interfaces import Interfaces, Listing, OwnAddress, Reach
from p2pboot.transport.libp2p import Libp2pOptions, fastecdsa_standin, hardening, open_libp2p
from p2pboot.transport.libp2p.host import Libp2pTransport
from p2pboot.transport.libp2p.muxed import MuxedConnection
from p2pboot.transport.metering import MeteredStream
from p2pboot.transport.records import MAX_ADDRESSES
from p2pboot.transport.tcp import connection as tcp_connection
from p2pboot.transport.tcp.connection import TcpConnection
from p2pboot.transport.tcp.negotiated import NegotiatedStream
from tests.connections import connection_with
from tests.transport import attacker
from tests.transport.conftest import ECHO, TOPIC, Lab, echo, read_all, until, wait_connected

KEY = SecretKey(b"k" * 32)


async def assert_echoes(client: Transport, node: Transport) -> None:
    await assert_echoes_on(client, connection_with(client, node))


async def assert_echoes_on(client: Transport, connection: Connection) -> None:
    stream = await client.open_stream(connection, ECHO)
    await stream.write(b"hello")
    await stream.close_write()
    assert await read_all(stream) == b"hello"
    await stream.close()


def end_of(node: Transport, connection: Connection) -> TcpConnection:
    """What lies under a connection of a node."""
    assert isinstance(node, Libp2pTransport)
    found = node._swarm.find(connection)
    assert found is not None
    assert isinstance(found.muxed_conn, MuxedConnection)
    return found.muxed_conn.tcp


# Starting.


async def test_the_peer_id_is_the_keys(libp2p_lab: Lab) -> None:
    node = await libp2p_lab.hold(open_libp2p(KEY, []))
    assert node.peer_id == KEY.public.peer_id
    assert node.addresses() == ()


async def test_a_port_in_use_is_said_before_anything_starts() -> None:
    with socket.socket() as taken:
        # As libp2p itself binds: with it, a second program would bind the same port without an error.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(MachineError, match=f"port {port} is in use") as caught:
            async with open_libp2p(KEY, ["/ip4/127.0.0.1/tcp/0", f"/ip4/127.0.0.1/tcp/{port}"]):
                pytest.fail("started")
    assert caught.value.remedy


async def test_two_nodes_cannot_share_a_port(libp2p_lab: Lab) -> None:
    node = await libp2p_lab.node()
    address = str(parse_address(node.addresses()[0]).with_peer(None))
    with pytest.raises(MachineError, match="in use"):
        async with open_libp2p(KEY, [address]):
            pytest.fail("started")


async def test_a_port_is_free_again_at_once_after_a_node(libp2p_lab: Lab) -> None:
    address = "/ip4/127.0.0.1/tcp/0"
    for _ in range(2):
        async with open_libp2p(KEY, [address]) as node:
            client = await libp2p_lab.node()
            await client.dial(node.addresses()[0])
            address = str(parse_address(node.addresses()[0]).with_peer(None))


@pytest.mark.parametrize(
    ("address", "said"), [("/ip4/192.0.2.99/tcp/4001", "listen on"), ("/ip4/127.0.0.1/tcp/x", "TCP port")]
)
async def test_what_one_cannot_listen_on_is_named(address: str, said: str) -> None:
    with pytest.raises((MachineError, UsageError), match=said) as caught:
        async with open_libp2p(KEY, [address]):
            pytest.fail("started")
    assert address in caught.value.message


async def test_a_wildcard_is_announced_as_concrete_addresses(libp2p_lab: Lab) -> None:
    node = await libp2p_lab.node(listen=["/ip4/0.0.0.0/tcp/0"])
    assert node.addresses()
    for address in map(parse_address, node.addresses()):
        assert address.is_dialable
        assert address.peer_id == node.peer_id
    client = await libp2p_lab.node(listen=[])
    assert (await client.dial(node.addresses()[0])).peer_id == node.peer_id


async def test_ipv6_works(libp2p_lab: Lab) -> None:
    try:
        node = await libp2p_lab.node(listen=["/ip6/::1/tcp/0", "/ip4/127.0.0.1/tcp/0"])
    except MachineError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    client = await libp2p_lab.node(listen=[])
    node.handle(ECHO, echo)
    (address,) = [address for address in node.addresses() if address.startswith("/ip6/")]
    assert (await client.dial(address)).peer_id == node.peer_id
    await assert_echoes(client, node)


def test_another_version_of_the_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "0.9.0")
    with pytest.raises(MachineError, match=r"libp2p 0\.9\.0.*0\.8\.1") as caught:
        hardening.check_library()
    assert caught.value.remedy is not None
    assert "libp2p==0.8.1" in caught.value.remedy


def test_a_library_without_what_is_replaced_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(GossipSub, "heartbeat")
    with pytest.raises(MachineError, match=r"no GossipSub\.heartbeat"):
        hardening.check_library()


def test_the_stand_in_for_fastecdsa_says_what_is_missing() -> None:
    check = f"""
import sys, importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "fastecdsa" else find(name, *rest)
sys.path.insert(0, {str(sys.path[0])!r})
from p2pboot.transport.libp2p import fastecdsa_standin
from fastecdsa.encoding.sec1 import SEC1Encoder
from fastecdsa.curve import P256
import libp2p.security.secio.transport
for use in (P256, SEC1Encoder):
    try:
        use()
    except NotImplementedError as error:
        print(error)
"""
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert result.stdout.count("fastecdsa") == 2, result.stderr


def test_a_fastecdsa_that_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "fastecdsa"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())
    fastecdsa_standin.install_if_missing()
    assert "fastecdsa" not in sys.modules


# What peers know of each other.


async def test_peers_learn_each_others_listening_addresses_and_keep_them(libp2p_lab: Lab) -> None:
    a, b = await libp2p_lab.pair()
    await until(lambda: b.peer_addresses(a.peer_id) and b.peer_records())
    assert b.peer_addresses(a.peer_id) == a.addresses()  # b was dialled; it has this from identify
    (record,) = b.peer_records()
    _, signed = consume_envelope(record, "libp2p-peer-record")
    assert str(signed.peer_id) == a.peer_id
    assert {str(address) for address in signed.addrs} == set(a.addresses())
    await a.hang_up(connection_with(a, b))
    await wait_connected(b, a.peer_id, connected=False)
    assert b.peer_addresses(a.peer_id) == a.addresses()
    assert b.peer_records() == ()


async def test_a_new_address_is_told_to_whoever_connects_next(libp2p_lab: Lab) -> None:
    own = [ipaddress.ip_address("127.0.0.1")]
    machine = Interfaces(
        lambda: Listing(tuple(OwnAddress(ip, "x", 1, Reach.PHYSICAL) for ip in own)), now=count().__next__
    )
    async with open_libp2p(KEY, ["/ip4/0.0.0.0/tcp/0"], interfaces=machine) as node:
        (first,) = node.addresses()
        early = await libp2p_lab.node(listen=[])
        await early.dial(first)
        await until(early.peer_records)
        own.insert(0, ipaddress.ip_address("192.0.2.7"))
        (second,) = (address for address in node.addresses() if "192.0.2.7" in address)
        late = await libp2p_lab.node(listen=[])
        await late.dial(first)
        await until(late.peer_records)
        (record,) = late.peer_records()
        told = late.read_peer_record(record)
        assert told is not None
        assert second in told.addresses
        assert second in late.peer_addresses(node.peer_id)


async def test_of_many_addresses_peers_are_told_the_best(libp2p_lab: Lab) -> None:
    own = [ipaddress.ip_address(f"192.0.2.{n}") for n in range(1, 40)]
    machine = Interfaces(lambda: Listing(tuple(OwnAddress(ip, "x", 1, Reach.PHYSICAL) for ip in own)))
    async with open_libp2p(KEY, ["/ip4/0.0.0.0/tcp/0"], interfaces=machine) as node:
        client = await libp2p_lab.node(listen=[])
        port = parse_address(node.addresses()[0]).port
        await client.dial(f"/ip4/127.0.0.1/tcp/{port}")
        await until(client.peer_records)
        (record,) = client.peer_records()
        told = client.read_peer_record(record)
        assert told is not None
        assert told.addresses == node.addresses()[:MAX_ADDRESSES]


async def test_an_address_is_known_once_whoever_told_it(libp2p_lab: Lab) -> None:
    node, client = await libp2p_lab.node(), await libp2p_lab.node(listen=[])
    plain = str(parse_address(node.addresses()[0]).with_peer(None))
    await client.dial(plain)  # as a person types it; identify names it with its peer
    await until(client.peer_records)
    assert client.peer_addresses(node.peer_id) == node.addresses()


async def test_both_may_dial_at_the_same_time(libp2p_lab: Lab) -> None:
    nodes = await libp2p_lab.node(), await libp2p_lab.node()
    a, b = sorted(nodes, key=lambda node: node.peer_id)
    a.handle(ECHO, echo)
    b.handle(ECHO, echo)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(a.dial, b.addresses()[0])
            nursery.start_soon(b.dial, a.addresses()[0])

    def settled() -> bool:  # those of the lower peer stay
        is_dialled = (each.address in b.addresses() for each in a.connections())
        return all(is_dialled) and len(a.connections()) == len(b.connections()) == 1

    await until(settled)
    for connection in a.connections():
        await assert_echoes_on(a, connection)
    for connection in b.connections():
        await assert_echoes_on(b, connection)
        await b.hang_up(connection)
    await wait_connected(a, b.peer_id, connected=False)
    await wait_connected(b, a.peer_id, connected=False)


async def test_a_topic_joined_while_a_peer_is_greeted_is_told_to_it(libp2p_lab: Lab) -> None:
    client, node = await libp2p_lab.node(), await libp2p_lab.node()
    assert isinstance(node, Libp2pTransport)
    pubsub, taken = node._gossip._pubsub, trio.Event()

    async def validator(_peer_id: str, _payload: bytes) -> Forwarding:
        taken.set()
        return Forwarding.ACCEPT

    async with trio.open_nursery() as nursery:
        stock = pubsub.get_hello_packet

        def greeting() -> rpc_pb2.RPC:
            said = stock()
            nursery.start_soon(node.subscribe, TOPIC, validator)  # runs while the greeting is being written
            return said

        pubsub.get_hello_packet = greeting  # type: ignore[method-assign]
        await client.dial(node.addresses()[0])
        await client.publish(TOPIC, b"news")
        await taken.wait()


# Dialling.


async def test_a_mute_server_costs_no_more_than_the_callers_patience(libp2p_lab: Lab) -> None:
    client, node = await libp2p_lab.node(listen=[]), await libp2p_lab.node()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        with trio.move_on_after(0.1) as scope:
            await client.dial(f"/ip4/127.0.0.1/tcp/{mute.getsockname()[1]}/p2p/{node.peer_id}")
        assert scope.cancelled_caught
    assert (await client.dial(node.addresses()[0])).peer_id == node.peer_id


async def test_a_peer_that_refused_may_be_dialled_again_at_once(libp2p_lab: Lab) -> None:
    client, node = await libp2p_lab.node(listen=[]), await libp2p_lab.node()
    for _ in range(3):
        with pytest.raises(DialError):
            await client.dial(f"/ip4/127.0.0.1/tcp/1/p2p/{node.peer_id}")
    assert (await client.dial(node.addresses()[0])).peer_id == node.peer_id


async def test_a_server_of_something_else_is_named(libp2p_lab: Lab) -> None:
    client = await libp2p_lab.node(listen=[])

    async def answer(stream: trio.SocketStream) -> None:
        await stream.send_all(b"SSH-2.0-OpenSSH_9.2\r\n" * 100)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, answer, 0)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(DialError, match=f"{port} answers, but not as a libp2p node"):
            await client.dial(f"/ip4/127.0.0.1/tcp/{port}")
        nursery.cancel_scope.cancel()


# Bounds.


def connections_alive() -> set[int]:
    gc.collect()
    return {id(one) for one in gc.get_objects() if type(one) in {TcpConnection, MuxedConnection}}


async def test_connection_slots_are_given_back(libp2p_lab: Lab) -> None:
    of_other_tests = connections_alive()
    node = await libp2p_lab.node(Libp2pOptions(max_inbound=8))
    node.handle(ECHO, echo)
    client = await libp2p_lab.node(listen=[])
    for _ in range(20):  # stock libp2p takes as many as it has slots, ever
        await client.dial(node.addresses()[0])
        await client.hang_up(connection_with(client, node))
        await wait_connected(client, node.peer_id, connected=False)
    for _ in range(100):
        async with attacker.tcp(node) as stream:
            await stream.send_all(attacker.MULTISTREAM)
    await until(lambda: not node.peers())
    await client.dial(node.addresses()[0])
    await assert_echoes(client, node)
    # Those that ended are forgotten; stock clean-up sleeps twice before it lets go.
    await until(lambda: len(connections_alive() - of_other_tests) <= 8)


async def test_a_full_node_says_so(libp2p_lab: Lab) -> None:
    node = await libp2p_lab.node(Libp2pOptions(max_inbound=2))
    node.handle(ECHO, echo)
    first, second, third = [await libp2p_lab.node(listen=[]) for _ in range(3)]
    for client in (first, second):
        await client.dial(node.addresses()[0])
        await assert_echoes(client, node)
    with pytest.raises((NoRoom, DialError), match="is full"):  # noqa: PT012
        refused = await third.dial(node.addresses()[0])
        stream = await third.open_stream(refused, ECHO)
        await stream.read(1)
    await first.hang_up(connection_with(first, node))
    await wait_connected(node, first.peer_id, connected=False)
    await third.dial(node.addresses()[0])
    await assert_echoes(third, node)


async def test_a_full_node_takes_in_whom_it_was_told_to_and_the_idlest_goes(
    libp2p_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await libp2p_lab.node(Libp2pOptions(max_inbound=2))
    node.handle(ECHO, echo)
    busy, idle, named = [await libp2p_lab.node(listen=[]) for _ in range(3)]
    # Which of the two really is idler depends on when identify ends with each, too, which nothing waits for.
    quiet_since = {idle.peer_id: 1.0, busy.peer_id: 2.0}
    monkeypatch.setattr(TcpConnection, "quiet_since", property(lambda end: quiet_since[end.peer_id]))
    node.prefer({named.peer_id})
    for client in (busy, idle, named):
        await client.dial(node.addresses()[0])
        await assert_echoes(client, node)
    await wait_connected(node, idle.peer_id, connected=False)
    await wait_connected(idle, node.peer_id, connected=False)
    assert node.peers() == {busy.peer_id, named.peer_id}


async def test_a_connection_is_quiet_since_its_last_byte_on_a_stream(libp2p_lab: Lab) -> None:
    client, node = await libp2p_lab.pair()
    node.handle(ECHO, echo)
    ends = end_of(client, connection_with(client, node)), end_of(node, connection_with(node, client))
    for _ in range(2):
        before = trio.current_time()
        await assert_echoes(client, node)
        for end in ends:
            assert before <= end.quiet_since <= trio.current_time()


async def test_a_node_dials_so_many(libp2p_lab: Lab) -> None:
    client = await libp2p_lab.node(Libp2pOptions(max_outbound=1), listen=[])
    one, other = await libp2p_lab.node(), await libp2p_lab.node()
    await client.dial(one.addresses()[0])
    with pytest.raises(DialError, match="limit"):
        await client.dial(other.addresses()[0])
    await client.hang_up(connection_with(client, one))
    await wait_connected(client, one.peer_id, connected=False)
    assert (await client.dial(other.addresses()[0])).peer_id == other.peer_id


async def test_one_connection_gets_so_many_streams(libp2p_lab: Lab) -> None:
    node = await libp2p_lab.node(Libp2pOptions(max_inbound_streams=12))
    node.handle(ECHO, echo)
    client = await libp2p_lab.node(listen=[])
    await client.dial(node.addresses()[0])
    held: list[Stream] = []
    with pytest.raises(StreamReset):  # noqa: PT012
        for _ in range(20):
            held.append(await client.open_stream(connection_with(client, node), ECHO))
    assert len(held) >= 8
    for stream in held:
        await stream.close()
    end = end_of(client, connection_with(client, node))
    await until(lambda: len(end._core.session.streams) < 4)
    await assert_echoes(client, node)


async def test_asking_for_one_stream_too_many_harms_nothing(libp2p_lab: Lab) -> None:
    node = await libp2p_lab.node(Libp2pOptions(max_inbound_streams=1000))
    node.handle(ECHO, echo)
    client = await libp2p_lab.node(listen=[])
    connection = await client.dial(node.addresses()[0])
    held: list[Stream] = []
    with pytest.raises(StreamReset, match="enough"):  # noqa: PT012
        for _ in range(129):
            held.append(await client.open_stream(connection, ECHO))
    assert len(held) >= 126  # of the 128 that Yamux opens gossip has one, and identify may
    await held.pop().reset()
    await assert_echoes(client, node)
    for stream in held:
        await stream.reset()


async def test_streams_leave_nothing_behind(libp2p_lab: Lab) -> None:
    client, node = await libp2p_lab.pair()
    ended = trio.Semaphore(0)

    async def answer_and_end(stream: Stream) -> None:
        try:
            await stream.write(await stream.read(1) * 2)  # more than is read
        finally:
            ended.release()

    node.handle(ECHO, answer_and_end)
    ends = end_of(client, connection_with(client, node)), end_of(node, connection_with(node, client))
    # Gossip has one each way.
    await until(lambda: all(len(end.streams) == len(end._core.session.streams) == 2 for end in ends))
    for number in range(150):
        stream = await client.open_stream(connection_with(client, node), ECHO)
        await stream.write(b"x" * (1 + number % 3))  # here, too
        assert await stream.read(1) == b"x"
        await (stream.reset() if number % 5 == 0 else stream.close())
        await ended.acquire()
    await until(lambda: all(len(end.streams) == len(end._core.session.streams) == 2 for end in ends))
    for node_ in (client, node):
        assert isinstance(node_, Libp2pTransport)
        (connection,) = node_._swarm.get_connections()
        assert len(connection.get_streams()) == 2


async def test_a_stream_that_the_peer_never_closes_is_forgotten_in_the_end(libp2p_lab: Lab) -> None:
    client, node = await libp2p_lab.pair()

    async def hold(stream: Stream) -> None:
        await trio.sleep_forever()

    node.handle(ECHO, hold)
    end = end_of(client, connection_with(client, node))
    stream = await client.open_stream(connection_with(client, node), ECHO)
    assert isinstance(stream, MeteredStream)
    inner = stream._stream
    assert isinstance(inner, NegotiatedStream)
    core = inner._muxed._core
    await stream.close()
    now = trio.current_time()
    end.beat(now)
    end.beat(now + 20)
    assert core in end._core.session.streams
    end.beat(now + 40)
    assert core not in end._core.session.streams


# Cancellation and the end.


FROZEN = f"""
import sys, trio
sys.path.insert(0, {str(sys.path[0])!r})
from p2pboot.core.identity import SecretKey
from p2pboot.transport.libp2p import open_libp2p

async def hold(stream):
    await trio.sleep_forever()

async def main():
    async with open_libp2p(SecretKey(b"f" * 32), ["/ip4/127.0.0.1/tcp/0"]) as node:
        node.handle({ECHO!r}, hold)
        print(node.addresses()[0], flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@asynccontextmanager
async def process_to_freeze() -> AsyncIterator[tuple[trio.Process, str]]:
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            partial(trio.run_process, [sys.executable, "-c", FROZEN], stdout=subprocess.PIPE, check=False)
        )
        try:
            assert process.stdout is not None
            yield process, (await process.stdout.receive_some()).decode().strip()
        finally:
            process.kill()


async def test_a_frozen_peer_holds_up_neither_streams_nor_the_end(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp_connection, "_SILENCE_S", math.inf)  # who waited for the peer would wait for ever
    async with process_to_freeze() as (process, address), open_libp2p(KEY, []) as node:
        peer = await node.dial(address)
        streams = [await node.open_stream(peer, ECHO) for _ in range(40)]
        process.send_signal(signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            for stream in streams:  # more than windows and socket buffers take
                nursery.start_soon(stream.write, bytes(1 << 20))
            await trio.sleep(0.5)
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            for stream in streams[:10]:
                nursery.start_soon(stream.reset)
            for stream in streams[10:20]:
                nursery.start_soon(stream.close)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert capfd.readouterr().err == ""


async def test_hanging_up_on_a_frozen_peer_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_connection, "_SILENCE_S", math.inf)
    async with process_to_freeze() as (process, address), open_libp2p(KEY, []) as node:
        peer = await node.dial(address)
        process.send_signal(signal.SIGSTOP)
        await node.hang_up(peer)
        await wait_connected(node, peer.peer_id, connected=False)


async def test_a_frozen_peer_is_given_up() -> None:
    async with process_to_freeze() as (process, address), open_libp2p(KEY, []) as node:
        connection = await node.dial(address)
        end, now = end_of(node, connection), trio.current_time()
        process.send_signal(signal.SIGSTOP)
        end._heard = False
        end.beat(now + 30)
        assert end.failure is None
        end.beat(now + 60)
        await wait_connected(node, connection.peer_id, connected=False)


async def test_bulk_in_both_directions_with_all_buffers_full_goes_on(libp2p_lab: Lab) -> None:
    client, node = await libp2p_lab.pair()
    go, total = trio.Event(), 4 * 1024 * 1024

    async def send_and_then_read(stream: Stream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, bytes(total))
            await go.wait()
            left = total
            while left:
                left -= len(await stream.read(left))

    async def serve(stream: Stream) -> None:
        assert await stream.read(1) == b"?"
        await send_and_then_read(stream)

    node.handle(ECHO, serve)
    async with trio.open_nursery() as nursery:
        streams = [await client.open_stream(connection_with(client, node), ECHO) for _ in range(8)]
        for stream in streams:
            await stream.write(b"?")
            nursery.start_soon(send_and_then_read, stream)
        ends = end_of(client, connection_with(client, node)), end_of(node, connection_with(node, client))
        await until(lambda: all(sum(s.blocked for s in end._core.session.streams) == 8 for end in ends))
        go.set()
    for stream in streams:
        await stream.close()


async def test_the_callers_errors_arrive_as_they_were_raised() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_libp2p(KEY, ["/ip4/127.0.0.1/tcp/0"]):
            raise KeyError("mine")


async def test_coming_and_going_prints_and_logs_nothing(
    libp2p_lab: Lab, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = list(logging.getLogger().handlers)
    a, b = await libp2p_lab.pair()
    await a.hang_up(connection_with(a, b))
    await wait_connected(b, a.peer_id, connected=False)
    async with attacker.tcp(b) as stream:
        await stream.send_all(b"nonsense")
    async with open_libp2p(KEY, []) as c:
        await c.dial(b.addresses()[0])
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == handlers


async def test_what_the_library_says_is_heard_when_one_wants_to(
    libp2p_lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="p2pboot.transport.libp2p"):
        await libp2p_lab.pair()
        await until(lambda: any("libp2p.network.stream" in record.message for record in caplog.records))
    assert {record.levelname for record in caplog.records} == {"DEBUG"}
    hardening.quieten()


async def test_a_peer_that_comes_back_again_and_again_is_never_kept_out(libp2p_lab: Lab) -> None:
    """Its former connections may still be on the node's books: they give way."""
    node = await libp2p_lab.node(options=Libp2pOptions(max_connections_per_peer=2))
    node.handle(ECHO, echo)
    async with AsyncExitStack() as lingering:
        for _ in range(6):
            client = await lingering.enter_async_context(open_libp2p(KEY, []))
            await client.dial(node.addresses()[0])
            await assert_echoes(client, node)
