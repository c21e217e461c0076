"""Whole fetches among peers that speak `/p2pboot/swarm/1`, over the network in memory and in no time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import reduce
from operator import or_
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2pboot.core.changes import Change, Form
from p2pboot.errors import StoreError
from p2pboot.protocol.messages import LongBody, Reply, Status
from p2pboot.protocol.swarm import SWARM_PROTOCOL, DealRequest
from p2pboot.serving.accounts import Serving
from p2pboot.serving.contents import Contents
from p2pboot.serving.conversation import serve_stream
from p2pboot.serving.swarm import SwarmServer
from p2pboot.store.blobs import BlobStore
from p2pboot.testing.artifacts import PIECE, artifact_of, content
from p2pboot.transport.interface import Stream, Transport
from tests.fetch.world import BlobsProxy, Client, Provider, World, client_of, manifest_of

RATE = 16 * PIECE
FILES = {
    "kernel": content("kernel", 3 * PIECE + 5),
    "initramfs": content("i", 7),
    "rootfs": content("rootfs", 120 * PIECE),
}
SIZE = sum(map(len, FILES.values()))
MANIFEST = manifest_of(FILES)


def speak(transport: Transport, blobs: BlobStore | BlobsProxy, serving: Serving | None = None) -> Serving:
    """Have a node give what it holds to the swarm."""
    serving, contents = serving or Serving(), Contents()
    contents.add(blobs)  # type: ignore[arg-type]
    transport.handle(SWARM_PROTOCOL, SwarmServer(transport, serving, contents).handle)
    return serving


@asynccontextmanager
async def publisher(world: World, **options: Any) -> AsyncIterator[Provider]:
    async with world.provider(MANIFEST, FILES, **options) as provider:
        speak(provider.transport, provider.blobs, provider.serving)
        world.network.limit_upload(provider.peer_id, RATE)
        yield provider


def sent(serving: Serving, protocol: str = SWARM_PROTOCOL) -> int:
    return serving.counters.bytes_sent[protocol]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - it is the state of a store, which gives no event
        await trio.sleep(0.01)


class Rack:
    """Clients that all know each other and the publisher."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.clients: list[Client] = []
        self.servings: list[Serving] = []
        self.seconds: list[float] = []

    async def add(self, stack: AsyncExitStack, *providers: Provider) -> Client:
        name = f"client{len(self.clients)}"
        client = await stack.enter_async_context(client_of(self._world, name))
        self.servings.append(speak(client.transport, client.store.blobs))
        self._world.network.limit_upload(client.transport.peer_id, RATE)
        await client.connect(*providers)
        for other in self.clients:
            await client.transport.dial(other.transport.addresses()[0])
        self.clients.append(client)
        return client

    def have_together(self, sha256: str) -> bool:
        """Whether each piece is with one of them at least."""
        held = [held for client in self.clients if (held := client.store.blobs.held(sha256)) is not None]
        return bool(held) and reduce(or_, held).complete

    async def fetch(self) -> None:
        async def one(client: Client) -> None:
            self.seconds.append(await client.fetch(MANIFEST))

        async with trio.open_nursery() as nursery:
            for client in self.clients:
                nursery.start_soon(one, client)


async def test_a_rack_takes_about_one_copy_from_its_publisher_and_no_longer_than_one_client(
    autojump_clock: MockClock, world: World
) -> None:
    rack = Rack(world)
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(publisher(world))
        for _ in range(4):
            await rack.add(stack, provider)
        await rack.fetch()
        assert sent(provider.serving) < 1.1 * SIZE
        assert max(rack.seconds) < 1.3 * SIZE / RATE
        for client in rack.clients:
            client.assert_holds(FILES)
            assert client.ledger.wasted_bytes < 0.05 * SIZE


async def test_short_pieces_that_came_together_are_given_on_before_they_are_on_the_disk(
    autojump_clock: MockClock, world: World
) -> None:
    together: list[bool] = []
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(publisher(world))
        client = await Rack(world).add(stack, provider)
        rootfs = artifact_of("rootfs", FILES["rootfs"])

        async def look() -> None:
            await until(lambda: client.store.blobs.arriving(rootfs.sha256) is not None)
            partial = client.store.blobs.arriving(rootfs.sha256)
            assert partial is not None
            took = partial.take

            def take(index: int, data: bytes | bytearray | memoryview) -> bool:
                is_taken = took(index, data)
                together.append(
                    is_taken and isinstance(data, memoryview) and partial.in_memory(index) == bytes(data)
                )
                return is_taken

            partial.take = take  # type: ignore[method-assign]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await client.fetch(MANIFEST)
        client.assert_holds(FILES)
    assert sum(together) > 100  # all but what is written first


async def test_what_is_dealt_is_told_to_whoever_follows(autojump_clock: MockClock, world: World) -> None:
    rack, seen = Rack(world), list[Change]()
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(publisher(world))
        client = await rack.add(stack, provider)
        rootfs = artifact_of("rootfs", FILES["rootfs"]).sha256

        async def follow() -> None:
            await until(lambda: client.store.blobs.arriving(rootfs) is not None)
            partial = client.store.blobs.arriving(rootfs)
            assert partial is not None
            partial.changes.listen(lambda: seen.extend(partial.changes.since(partial.changes.at - 1) or ()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            nursery.start_soon(rack.fetch)
    forms = [form for form, _ in seen]
    assert Form.COMING in forms
    assert Form.HELD in forms
    coming = {index for form, pieces in seen if form is Form.COMING for index in pieces}
    held = {index for form, pieces in seen if form is Form.HELD for index in pieces}
    assert coming <= held


class LyingBlobs(BlobsProxy):
    """Everything that is read has a bit wrong."""

    def read(self, sha256: str, offset: int, length: int) -> bytes:
        data = bytearray(super().read(sha256, offset, length))
        data[0] ^= 1
        return bytes(data)

    def at_hand(self, *_arguments: object) -> None:
        return None


@pytest.mark.parametrize("honest_speaks", [True, False])
async def test_a_peer_that_deals_poison_is_named_and_costs_a_piece(
    autojump_clock: MockClock, world: World, honest_speaks: bool
) -> None:
    rack = Rack(world)
    async with AsyncExitStack() as stack:
        liar = await stack.enter_async_context(publisher(world, blobs=LyingBlobs))
        honest = await stack.enter_async_context(
            publisher(world) if honest_speaks else world.provider(MANIFEST, FILES)
        )
        world.network.limit_upload(honest.peer_id, RATE)
        client = await rack.add(stack, liar, honest)
        await rack.fetch()
        client.assert_holds(FILES)
        assert set(client.ledger.dropped) == {liar.peer_id}
        assert "is not what was signed" in client.ledger.dropped[liar.peer_id]
        assert client.ledger.wasted_bytes <= 6 * PIECE


async def test_whoever_does_not_speak_it_is_asked_as_ever(autojump_clock: MockClock, world: World) -> None:
    rack = Rack(world)
    async with AsyncExitStack() as stack:
        plain = await stack.enter_async_context(world.provider(MANIFEST, FILES))
        client = await rack.add(stack, plain)
        await rack.fetch()
        client.assert_holds(FILES)
        assert client.ledger.received[plain.peer_id] == SIZE


async def test_what_one_has_got_others_get_when_the_publisher_is_gone(
    autojump_clock: MockClock, world: World
) -> None:
    rack = Rack(world)
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(publisher(world))
        for _ in range(3):
            await rack.add(stack, provider)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rack.fetch)
            await until(lambda: rack.have_together(artifact_of("rootfs", FILES["rootfs"]).sha256))
            for client in rack.clients:
                world.network.cut(provider.peer_id, client.transport.peer_id)
        for client in rack.clients:
            client.assert_holds(FILES)


class Refusing:
    """Answers every request for a deal of the root file system in one way, and everything else as others do."""

    def __init__(self, transport: Transport, blobs: BlobStore, answer: Reply) -> None:
        self.deals = 0
        self._answer = answer
        self._table = artifact_of("rootfs", FILES["rootfs"]).table_digest
        contents = Contents()
        contents.add(blobs)
        self._server = SwarmServer(transport, Serving(), contents)
        transport.handle(SWARM_PROTOCOL, self.handle)

    async def handle(self, stream: Stream) -> None:
        from p2pboot.serving import swarm

        refusing = self

        class Client(swarm._Client):
            async def answer_beforehand(self, request: Any, handed_over: Any) -> Reply | None:
                if isinstance(request, DealRequest) and request.table == refusing._table:
                    refusing.deals += 1
                    return refusing._answer
                return await super().answer_beforehand(request, handed_over)

        async with trio.open_nursery() as nursery:
            client = Client(self._server, stream.connection, nursery)
            await serve_stream(stream, SWARM_PROTOCOL, client.answer, Serving(), client.answer_beforehand)
            nursery.cancel_scope.cancel()


async def test_a_holder_that_does_not_deal_is_asked_for_particular_pieces(
    autojump_clock: MockClock, world: World
) -> None:
    rack = Rack(world)
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(world.provider(MANIFEST, FILES))
        refusing = Refusing(provider.transport, provider.store.blobs, Reply(Status.NOT_FOUND))
        client = await rack.add(stack, provider)
        await rack.fetch()
        client.assert_holds(FILES)
        assert 1 <= refusing.deals <= 6


async def test_a_deal_that_ends_early_is_taken_back(autojump_clock: MockClock, world: World) -> None:
    """Whoever followed is told, for others were not to fetch it meanwhile."""
    rack, told = Rack(world), list[Change]()

    async def fail(_offset: int, _length: int) -> bytes:
        raise StoreError("the disk fails")

    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(world.provider(MANIFEST, FILES))
        body = LongBody(bytes(1000), PIECE, fail)
        early = Reply(Status.OK, extra={"index": 1, "count": 1}, long_body=body)
        Refusing(provider.transport, provider.store.blobs, early)
        client = await rack.add(stack, provider)
        rootfs = artifact_of("rootfs", FILES["rootfs"]).sha256

        async def follow() -> None:
            await until(lambda: client.store.blobs.arriving(rootfs) is not None)
            partial = client.store.blobs.arriving(rootfs)
            assert partial is not None
            ring = partial.changes
            begun = ring.at
            await until(lambda: ring.at >= begun + 2)
            told.extend(ring.since(begun) or ())
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(rack.fetch)
            nursery.start_soon(follow)
    assert told[:2] == [Change(Form.COMING, range(1, 2)), Change(Form.NOT_COMING, range(1, 2))]
