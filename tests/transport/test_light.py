"""The light transport against a node on py-libp2p."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
import trio

from p2pboot.core.identity import SecretKey
from p2pboot.transport.interface import DialError, Stream, StreamReset
from p2pboot.transport.light import open_light
from tests.connections import connection_with
from tests.transport.conftest import ECHO, Lab, echo, read_all, wait_connected

KEY = SecretKey(b"light" + bytes(27))


def test_it_comes_without_libp2p() -> None:
    code = (
        "import sys, p2pboot.transport.light; print('libp2p' in sys.modules, 'multiformats' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False False\n"


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
        connection = await client.dial(node.addresses()[0])
        said = await client.identify(connection)
        assert said.public_key is not None
        assert said.public_key.peer_id == connection.peer_id
        assert "/ipfs/ping/1.0.0" in said.protocols
        await wait_connected(node, client.peer_id)
        stream = await node.open_stream(connection_with(node, client.peer_id), ECHO)
        await stream.write(b"hello")
        await stream.close_write()
        assert await read_all(stream) == b"hello"
        await stream.close()


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
        assert ECHO in (await client.identify(connection)).protocols
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
        with pytest.raises(StreamReset):
            await stream.read(1)
        ended.set()

    node.handle(ECHO, hold)
    async with open_light(KEY) as client:
        connection = await client.dial(node.addresses()[0])
        await wait_connected(node, client.peer_id)
        await client.open_stream(connection, ECHO)
        events = client.connection_events()
        assert (await events.receive()).connected
        await client.hang_up(connection)
        await ended.wait()
        await wait_connected(node, client.peer_id, connected=False)
        assert not (await events.receive()).connected
