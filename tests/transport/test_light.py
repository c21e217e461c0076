"""The light transport: against nodes on py-libp2p, and what is its own."""

from __future__ import annotations

import gc
import ipaddress
import socket
import subprocess
import sys
from contextlib import AsyncExitStack
from functools import partial
from itertools import count

import pytest
import trio
import trio.testing

from p2pboot.core.identity import PublicKey, SecretKey
from p2pboot.errors import MachineError
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import DialError, NoRoom, PeerRecord, Stream, StreamReset, Transport
from p2pboot.transport.interfaces import Interfaces, Listing, OwnAddress, Reach
from p2pboot.transport.libp2p import Libp2pOptions
from p2pboot.transport.light import open_light
from p2pboot.transport.light.transport import LightTransport
from p2pboot.transport.limits import ConnectionLimits
from tests.connections import connection_with
from tests.transport import attacker
from tests.transport.conftest import ECHO, Lab, echo, read_all, until, wait_connected

KEY = SecretKey(b"light" + bytes(27))


async def known_by(client: Transport) -> None:
    """Wait until its peer has said who it is."""
    assert isinstance(client, LightTransport)
    while not client._identifying._spoken:  # noqa: ASYNC110 - the transport gives no event for it
        await trio.sleep(0.005)


def test_it_comes_without_libp2p() -> None:
    code = (
        "import sys, p2pboot.transport.light; print('libp2p' in sys.modules, 'multiformats' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False False\n"


async def test_interfaces_are_looked_at_for_addresses_with_a_port_of_its_own_only() -> None:
    looks: list[None] = []

    def look() -> Listing:
        looks.append(None)
        own = ipaddress.ip_address("192.0.2.1")
        return Listing((OwnAddress(own, "eth0", 2, Reach.ROUTED),))

    async with open_light(
        KEY, ["/ip4/0.0.0.0/tcp/0"], interfaces=Interfaces(look, count().__next__)
    ) as client:
        port = parse_address(client.addresses()[0]).port
        looks.clear()
        assert not client.leads_here(f"/ip4/192.0.2.1/tcp/{port % 60000 + 1}")
        assert looks == []
        assert client.leads_here(f"/ip4/192.0.2.1/tcp/{port}")
        assert not client.leads_here(f"/ip4/192.0.2.2/tcp/{port}")
    async with open_light(KEY) as client:
        assert not client.leads_here("/ip4/192.0.2.1/tcp/1")


@pytest.mark.parametrize("size", [1, 64 * 1024, 5 * 1024 * 1024 + 1])
async def test_echo(libp2p_lab: Lab, size: int) -> None:
    node = await libp2p_lab.node()
    node.handle(ECHO, echo)
    sent = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with open_light(KEY) as client:
        stream = await client.open_stream(await client.dial(node.addresses()[0]), ECHO)

        async def send() -> None:
            await stream.write(memoryview(bytearray(sent)))
            await stream.close_write()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert await read_all(stream) == sent
        await stream.close()


async def test_whole_pieces_arrive_in_the_readers_buffer(libp2p_lab: Lab) -> None:
    node = await libp2p_lab.node()
    node.handle(ECHO, echo)
    async with open_light(KEY) as client:
        stream = await client.open_stream(await client.dial(node.addresses()[0]), ECHO)
        piece = bytearray(300_000)
        await stream.write(bytes(300_000 - 1) + b"!")
        assert await stream.read_into(memoryview(piece), len(piece)) == len(piece)
        assert piece[-1:] == b"!"
        await stream.close_write()
        assert await stream.read_into(memoryview(piece), len(piece)) == 0


async def test_peer_says_who_it_is_and_can_ask_back(libp2p_lab: Lab) -> None:
    node = await libp2p_lab.node()
    async with open_light(KEY) as client:
        client.handle(ECHO, echo)
        await client.dial(node.addresses()[0])
        await known_by(client)
        (record,) = client.peer_records()
        assert client.read_peer_record(record) == PeerRecord(node.peer_id, node.addresses())
        peer = PublicKey.from_peer_id(node.peer_id).peer_id_bytes
        assert record.count(bytes.fromhex("a50326") + peer) == len(node.addresses())  # as the wire page says
        assert client.peer_addresses(node.peer_id) == node.addresses()
        await wait_connected(node, client.peer_id)
        stream = await node.open_stream(connection_with(node, client.peer_id), ECHO)
        await stream.write(b"hello")
        await stream.close_write()
        assert await read_all(stream) == b"hello"
        await stream.close()


async def test_a_wildcard_is_told_as_the_addresses_at_which_it_is_connected(libp2p_lab: Lab) -> None:
    node = await libp2p_lab.node()
    async with open_light(KEY, ["/ip4/0.0.0.0/tcp/0", "/ip4/127.0.0.2/tcp/0"]) as client:
        named = next(one for one in client.addresses() if "127.0.0.2" in one)
        assert client.read_peer_record(client.own_record()) == PeerRecord(client.peer_id, (named,))
        await client.dial(node.addresses()[0])
        told = client.read_peer_record(client.own_record())
        assert told is not None
        assert {parse_address(one).host for one in told.addresses} == {"127.0.0.2", "127.0.0.1"}
        await until(lambda: set(node.peer_addresses(client.peer_id)) == set(told.addresses))
        async with open_light(SecretKey(b"n" * 32)) as other:
            assert (await other.dial(told.addresses[1])).peer_id == client.peer_id


async def test_who_listens_nowhere_has_no_record(libp2p_lab: Lab) -> None:
    node = await libp2p_lab.node()
    async with open_light(KEY) as client:
        await client.dial(node.addresses()[0])
        assert client.own_record() == b""
        assert client.addresses() == ()


async def test_what_a_connection_without_a_place_was_called_is_forgotten() -> None:
    limits = ConnectionLimits(max_inbound=1, reserve=0)
    async with open_light(KEY, ["/ip4/127.0.0.1/tcp/0"], limits) as server:
        assert isinstance(server, LightTransport)
        async with open_light(SecretKey(b"n" * 32)) as first:
            await first.dial(server.addresses()[0])
            await wait_connected(server, first.peer_id)
            for _ in range(3):
                async with open_light(SecretKey(b"o" * 32)) as other:
                    refused = await other.dial(server.addresses()[0])
                    with pytest.raises(StreamReset):
                        await read_all(await other.open_stream(refused, ECHO))
            gc.collect()
            assert len(server._names) == 1


async def test_stock_host_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "tests.wire.stock_host"]
    body = bytes(range(256)) * 5000
    async with trio.open_nursery() as nursery, open_light(KEY) as client:
        process: trio.Process = await nursery.start(
            partial(trio.run_process, command, stdout=subprocess.PIPE)
        )
        assert process.stdout is not None
        address = (await process.stdout.receive_some(1000)).decode().strip()
        connection = await client.dial(address)
        await known_by(client)
        stream = await client.open_stream(connection, ECHO)

        async def send() -> None:
            await stream.write(body)
            await stream.close_write()

        async with trio.open_nursery() as sending:
            sending.start_soon(send)
            assert await read_all(stream) == body
        await stream.close()
        nursery.cancel_scope.cancel()


async def test_wrong_peer_and_unknown_protocol_are_refused(libp2p_lab: Lab) -> None:
    node = await libp2p_lab.node()
    async with open_light(KEY) as client:
        address = node.addresses()[0]
        with pytest.raises(DialError, match="answers as"):
            await client.dial(address.replace(node.peer_id, KEY.public.peer_id))
        connection = await client.dial(address)
        with pytest.raises(StreamReset):
            await client.open_stream(connection, "/nobody/speaks/this")


async def test_both_sides_notice_the_end(libp2p_lab: Lab) -> None:
    node = await libp2p_lab.node()
    ended = trio.Event()

    async def hold(stream: Stream) -> None:
        await stream.write(b".")
        with pytest.raises(StreamReset):
            await stream.read(1)
        ended.set()

    node.handle(ECHO, hold)
    async with open_light(KEY) as client:
        connection = await client.dial(node.addresses()[0])
        await wait_connected(node, client.peer_id)
        stream = await client.open_stream(connection, ECHO)
        assert await stream.read(1) == b"."  # a protocol may not be waited for: the handler runs from here on
        events = client.connection_events()
        assert (await events.receive()).connected
        await client.hang_up(connection)
        await ended.wait()
        await wait_connected(node, client.peer_id, connected=False)
        assert not (await events.receive()).connected


async def test_a_protocol_that_the_peer_has_named_is_not_waited_for(light_lab: Lab) -> None:
    client, node = await light_lab.node(listen=[]), await light_lab.node()
    node.handle(ECHO, echo)
    connection = await client.dial(node.addresses()[0])
    await known_by(client)
    assert isinstance(node, LightTransport)
    del node._handlers[ECHO]  # so that the peer's word is worth nothing, which shows that it is taken
    stream = await client.open_stream(connection, ECHO)
    with pytest.raises(StreamReset, match="does not speak"):
        await stream.read(1)


async def test_negotiation_of_a_stream_is_bounded(
    light_lab: Lab, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    client, node = await light_lab.pair()
    assert isinstance(client, LightTransport)
    assert isinstance(node, LightTransport)
    muxed = client._live[connection_with(client, node)].open()
    await muxed.write(b"\x13/multi")
    (there,) = node._live.values()
    while not any(one.id == muxed.id for one in there.streams):
        await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(11)
    with pytest.raises(StreamReset):
        await muxed.read(1)
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]


async def test_a_full_node_says_so_and_takes_in_whom_it_was_told_to(light_lab: Lab) -> None:
    node = await light_lab.node(Libp2pOptions(max_inbound=1))
    node.handle(ECHO, echo)
    first, second = await light_lab.node(listen=[]), await light_lab.node(listen=[])
    connection = await first.dial(node.addresses()[0])
    await wait_connected(node, first.peer_id)
    with pytest.raises(NoRoom, match="is full"):  # noqa: PT012
        stream = await second.open_stream(await second.dial(node.addresses()[0]), ECHO)
        await stream.read(1)
    node.prefer({second.peer_id})
    stream = await second.open_stream(await second.dial(node.addresses()[0]), ECHO)
    await stream.write(b"hello")
    assert await stream.read(10) == b"hello"
    await wait_connected(first, node.peer_id, connected=False)
    assert connection not in first.connections()


async def test_a_node_that_hangs_up_before_it_proves_who_it_is_may_be_full(light_lab: Lab) -> None:
    node = await light_lab.node(Libp2pOptions(max_handshakes=1))
    client = await light_lab.node(listen=[])
    async with attacker.tcp(node):
        with pytest.raises(DialError, match="before it had proved who it is: it may be full") as caught:  # noqa: PT012
            while True:
                await client.hang_up(await client.dial(node.addresses()[0]))
    assert caught.value.remedy is not None
    assert "in a while" in caught.value.remedy


async def test_a_client_dials_so_many(light_lab: Lab) -> None:
    client = await light_lab.node(Libp2pOptions(max_outbound=1), listen=[])
    one, other = await light_lab.node(), await light_lab.node()
    connection = await client.dial(one.addresses()[0])
    with pytest.raises(DialError, match="limit"):
        await client.dial(other.addresses()[0])
    await client.hang_up(connection)
    await trio.testing.wait_all_tasks_blocked()
    await client.dial(other.addresses()[0])


async def test_a_peer_that_comes_again_and_again_replaces_itself(light_lab: Lab) -> None:
    node = await light_lab.node(Libp2pOptions(max_connections_per_peer=2))
    node.handle(ECHO, echo)
    async with AsyncExitStack() as lingering:
        for _ in range(5):
            client = await lingering.enter_async_context(open_light(KEY))
            stream = await client.open_stream(await client.dial(node.addresses()[0]), ECHO)
            await stream.write(b"hello")
            assert await stream.read(10) == b"hello"
            assert len(node.connections()) <= 2


async def test_a_mute_server_costs_no_more_than_the_callers_patience(light_lab: Lab) -> None:
    client = await light_lab.node(listen=[])
    with socket.create_server(("127.0.0.1", 0)) as mute:
        with trio.move_on_after(0.1) as scope:
            await client.dial(f"/ip4/127.0.0.1/tcp/{mute.getsockname()[1]}")
        assert scope.cancelled_caught
    assert not client.connections()


async def test_a_server_of_something_else_is_named(light_lab: Lab) -> None:
    client = await light_lab.node(listen=[])

    async def answer(stream: trio.SocketStream) -> None:
        await stream.send_all(b"SSH-2.0-OpenSSH_9.2\r\n" * 100)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, answer, 0)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(DialError, match=f"{port} answers, but not as a libp2p node"):
            await client.dial(f"/ip4/127.0.0.1/tcp/{port}")
        nursery.cancel_scope.cancel()


async def test_a_port_in_use_is_said_before_anything_starts(light_lab: Lab) -> None:
    node = await light_lab.node()
    address = str(parse_address(node.addresses()[0]).with_peer(None))
    with pytest.raises(MachineError, match="in use"):
        async with open_light(KEY, [address]):
            pytest.fail("started")


async def test_the_callers_errors_arrive_as_they_were_raised() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_light(KEY, ["/ip4/127.0.0.1/tcp/0"]):
            raise KeyError("mine")
