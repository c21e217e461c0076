"""Nodes of each implementation, under one name."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar, cast

import pytest
import trio

from p2pboot.core.identity import SecretKey
from p2pboot.testing.network import MemoryNetwork
from p2pboot.transport.bandwidth import Bandwidth
from p2pboot.transport.interface import Gossip, Stream, Transport
from p2pboot.transport.libp2p import Libp2pOptions, open_libp2p
from p2pboot.transport.light import open_light

T = TypeVar("T")

TOPIC = "/p2pboot/1/manifests/stable/x86_64"
ECHO = "/test/echo/1"


class Lab:
    """Makes nodes that can reach each other; they end with the test."""

    def __init__(self, kind: str, nursery: trio.Nursery) -> None:
        self.kind = kind
        self.network = MemoryNetwork()
        self._nursery = nursery
        self._made = 0

    async def node(
        self,
        options: Libp2pOptions | None = None,
        listen: list[str] | None = None,
        *,
        key: SecretKey | None = None,
        bandwidth: Bandwidth | None = None,
    ) -> Gossip:
        key = key or self.new_key()
        if self.kind == "memory":
            return await self.hold(self.network.open(key.public.peer_id, bandwidth))
        listening = ["/ip4/127.0.0.1/tcp/0"] if listen is None else listen
        if self.kind == "light":  # which has no gossip; no test of gossip asks for one
            light = open_light(key, listening, options, bandwidth=bandwidth)
            return cast("Gossip", await self.hold(light))
        return await self.hold(open_libp2p(key, listening, options, bandwidth=bandwidth))

    async def twins(self) -> tuple[Gossip, Gossip]:
        """Two nodes with one key."""
        key = self.new_key()
        return await self.node(key=key), await self.node(key=key)

    def new_key(self) -> SecretKey:
        self._made += 1
        return SecretKey(hashlib.sha256(f"lab {self._made}".encode()).digest())

    async def hold(self, opened: AbstractAsyncContextManager[T]) -> T:
        """Enter a context in a task of its own; fixtures and tests are different tasks."""
        entered: T = await self._nursery.start(self._hold, opened)
        return entered

    async def _hold(
        self,
        opened: AbstractAsyncContextManager[T],
        task_status: Any = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async with opened as entered:
            task_status.started(entered)
            await trio.sleep_forever()

    async def pair(self) -> tuple[Gossip, Gossip]:
        """Two connected nodes: the one that dialled, the one that was dialled."""
        a, b = await self.node(), await self.node()
        await a.dial(b.addresses()[0])
        await wait_connected(b, a.peer_id)
        return a, b


async def until(condition: Callable[[], object]) -> None:
    """Wait for what has no event of its own; the test's timeout is the limit."""
    while not condition():
        await trio.to_thread.run_sync(time.sleep, 0.005)  # the test's clock may stand still


async def wait_connected(node: Transport, peer_id: str, *, connected: bool = True) -> None:
    """Wait until a peer is there, or gone (of a peer that goes before anyone heard of it no event tells)."""
    await until(lambda: (peer_id in node.peers()) is connected)


async def echo(stream: Stream) -> None:
    while data := await stream.read(1 << 20):
        await stream.write(data)


async def read_all(stream: Stream) -> bytes:
    received = bytearray()
    while data := await stream.read(1 << 20):
        received += data
    return bytes(received)


@pytest.fixture(params=["memory", "libp2p"])
async def gossip_lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    async with trio.open_nursery() as nursery:
        yield Lab(request.param, nursery)
        nursery.cancel_scope.cancel()


@pytest.fixture(params=["memory", "light", "libp2p"])
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    async with trio.open_nursery() as nursery:
        yield Lab(request.param, nursery)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def light_lab() -> AsyncIterator[Lab]:
    async with trio.open_nursery() as nursery:
        yield Lab("light", nursery)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def libp2p_lab() -> AsyncIterator[Lab]:
    async with trio.open_nursery() as nursery:
        yield Lab("libp2p", nursery)
        nursery.cancel_scope.cancel()
