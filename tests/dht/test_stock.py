"""With py-libp2p's KadDHT in a process of its own: each finds what the other puts, over both of our transports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from p2pboot.core.digests import sha256_cid
from p2pboot.dht.addresses import AddressPolicy
from p2pboot.dht.client import DhtClient
from p2pboot.dht.keys import content_key
from p2pboot.dht.member import DhtMember
from p2pboot.dht.table import Contact
from p2pboot.testing.manifests import key_of
from p2pboot.transport.libp2p import open_libp2p
from p2pboot.transport.light import open_light
from tests.dht.world import KEY, RIGHT

PROGRAM = ("env", f"PYTHONPATH={Path(__file__).parents[2]}", sys.executable, "-m", "tests.dht.stock_dht")
SHA256 = "ab" * 32
THEIRS = "http://192.0.2.9/theirs"
LISTEN = ["/ip4/127.0.0.1/tcp/0"]
NOTHING = ("nothing", "nobody", "False")


class Stock:
    """The process."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._received = b""

    async def line(self) -> str:
        assert self._process.stdout is not None
        while b"\n" not in self._received:
            data = await self._process.stdout.receive_some(4096)
            assert data, "it ended"
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line.decode()

    async def tell(self, *command: str) -> str:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(" ".join(command).encode() + b"\n")
        return await self.line()

    async def tell_until(self, expected: str, *command: str) -> None:
        """Say it again while there is no result: on a machine that is held up both ends take each other for gone."""
        while (said := await self.tell(*command)) in NOTHING:
            await trio.lowlevel.checkpoint()
        assert said == expected


@asynccontextmanager
async def stock_dht() -> AsyncIterator[tuple[Stock, str]]:
    process = await trio.lowlevel.open_process(PROGRAM, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        stock = Stock(process)
        yield stock, await stock.line()
    finally:
        process.kill()
        await process.wait()


async def test_each_finds_what_the_other_puts() -> None:
    """A node of ours and one of theirs, and a client that asks both."""
    async with stock_dht() as (stock, address), open_libp2p(key_of("member"), LISTEN) as transport:
        member = DhtMember(transport, AddressPolicy(), serves=True)
        member.say({KEY: RIGHT}, [content_key(SHA256)])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(member.run)
            assert await stock.tell("dial", transport.addresses()[0]) == "dialled"
            # What we say is put on whoever gets connected, and found there; and by us, as by anybody.
            await stock.tell_until(RIGHT.decode(), "get", KEY.decode())
            await stock.tell_until(transport.peer_id, "find", sha256_cid(SHA256))
            assert await stock.tell("put", "/phase/theirs/arm64/manifest", THEIRS) == "put"
            await stock.tell_until("True", "provide", sha256_cid("cd" * 32))
            async with open_light(key_of("client")) as asking:
                client, values = DhtClient(asking, AddressPolicy()), list[bytes]()
                await asking.dial(transport.addresses()[0])
                while not values:  # a peer that is held up for seconds counts as away
                    await client.find_values(b"/phase/theirs/arm64/manifest", values.append)
                assert values == [THEIRS.encode()]
                providers: list[Contact] = []
                while not providers:
                    await client.find_providers(content_key("cd" * 32), providers.append)
                assert {one.peer_id for one in providers} == {address.rpartition("/")[2]}
                # Somebody's last write, on all servers, shadows nothing.
                assert await stock.tell("put", KEY.decode(), "http://wrong/") == "put"
                there = {transport.peer_id, address.rpartition("/")[2]}
                while RIGHT not in values or asking.peers() != there:  # theirs is found on the way
                    await client.find_values(KEY, values.append)
            nursery.cancel_scope.cancel()
