"""A node beside a py-libp2p host exactly as it comes, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
import trio

from p2pboot.transport.interface import Connection, Forwarding, Gossip
from tests.transport.conftest import Lab, echo, read_all
from tests.wire.stock_host import ECHO, TOPIC

BODY = bytes(range(256)) * 5000


async def assert_echoes(node: Gossip, connection: Connection) -> None:
    stream = await node.open_stream(connection, ECHO)

    async def send() -> None:
        await stream.write(BODY)
        await stream.close_write()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert await read_all(stream) == BODY
    await stream.close()


@pytest.mark.parametrize("stock_dials", [True, False], ids=["stock dials", "we dial"])
async def test_streams_and_gossip_both_ways(libp2p_lab: Lab, stock_dials: bool) -> None:
    node, taken = await libp2p_lab.node(), trio.Event()
    node.handle(ECHO, echo)

    async def validator(_peer_id: str, payload: bytes) -> Forwarding:
        assert payload == b"heard news"
        taken.set()
        return Forwarding.ACCEPT

    await node.subscribe(TOPIC, validator)
    command = [sys.executable, "-m", "tests.wire.stock_host", *(node.addresses() if stock_dials else ())]
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            partial(trio.run_process, command, stdout=subprocess.PIPE, check=False)
        )
        assert process.stdout is not None
        address = (await process.stdout.receive_some(1000)).decode().strip()
        assert address  # it got back what it had sent
        if not stock_dials:
            await node.dial(address)
        (connection,) = node.connections()
        assert address.endswith(connection.peer_id)
        await assert_echoes(node, connection)
        await node.publish(TOPIC, b"news")
        await taken.wait()
        nursery.cancel_scope.cancel()
