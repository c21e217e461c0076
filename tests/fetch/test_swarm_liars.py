"""Whole fetches beside peers that speak `/p2pboot/swarm/1` and mean no good: they cost little, and hold nobody up."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2pboot.core.origins import origin_of
from p2pboot.core.pieces import PieceSet
from p2pboot.fetch.receiving.books import Books
from p2pboot.fetch.receiving.schedule import Schedule
from p2pboot.fetch.receiving.session import TABLE_ASKS
from p2pboot.protocol.frames import FrameReader
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, Reply, Status, parse_request
from p2pboot.protocol.swarm import MAX_SERIAL, SWARM_PROTOCOL
from p2pboot.testing.artifacts import PIECE, artifact_of, content
from p2pboot.transport.interface import Stream, StreamReset
from tests.fetch.test_swarming import speak
from tests.fetch.world import Client, Provider, World, client_of, manifest_of

FILES = {
    "kernel": content("kernel", 5),
    "initramfs": content("i", 7),
    "rootfs": content("rootfs", 30 * PIECE),
}
MANIFEST = manifest_of(FILES)
ROOTFS = artifact_of("rootfs", FILES["rootfs"])
COUNT = 30

Say = Callable[[Any], Reply | None]


async def trickle(stream: Stream, reply: Reply) -> None:
    """Send the body a byte a second."""
    await stream.write(reply.encode_header())
    for byte in bytes(reply.body):
        await trio.sleep(1)
        await stream.write(bytes([byte]))


class Liar:
    """Answers what it is asked of the root file system as it likes, and nothing else."""

    def __init__(self, say: Say) -> None:
        self.asked: Counter[str] = Counter()
        self._say = say

    async def handle(self, stream: Stream) -> None:
        frames = FrameReader()
        while data := await stream.read(4096):
            frames.receive_data(data)
            while (payload := frames.next_frame()) is not None:
                request: Any = parse_request(SWARM_PROTOCOL, payload)
                reply: Reply | None = Reply(Status.NOT_FOUND)
                if request.table == ROOTFS.table_digest:
                    self.asked[request.op] += 1
                    reply = self._say(request)
                if reply is not None:
                    await self.say(stream, reply)

    async def say(self, stream: Stream, reply: Reply) -> None:
        await stream.write(reply.encode_header() + bytes(reply.body))


@asynccontextmanager
async def liar_in(world: World, say: Say) -> AsyncIterator[tuple[Provider, Liar]]:
    async with world.provider(MANIFEST, FILES) as provider:
        liar = Liar(say)
        provider.transport.handle(SWARM_PROTOCOL, liar.handle)
        yield provider, liar


@asynccontextmanager
async def fetching(world: World, *sayings: Say) -> AsyncIterator[tuple[Client, list[Liar], Provider]]:
    """A client that has fetched all from an honest publisher and these liars, who were there first."""
    async with AsyncExitStack() as stack:
        liars = [await stack.enter_async_context(liar_in(world, say)) for say in sayings]
        honest = await stack.enter_async_context(world.provider(MANIFEST, FILES))
        speak(honest.transport, honest.blobs, honest.serving)
        world.network.limit_upload(honest.peer_id, 10 * PIECE)
        client = await stack.enter_async_context(client_of(world))
        await client.connect(*(provider for provider, _ in liars), honest)
        yield client, [liar for _, liar in liars], honest


def whole() -> Reply:
    return Reply(Status.OK, PieceSet.full(COUNT).to_bytes(), {"at": MAX_SERIAL, "form": "bitmap"})


def all_but(index: int) -> Reply:
    held = PieceSet.full(COUNT) - PieceSet.of(COUNT, [index])
    return Reply(Status.OK, held.to_bytes(), {"at": 1, "form": "bitmap"})


def claims(reply: Callable[[], Reply], otherwise: Reply) -> Say:
    return lambda request: reply() if request.op == "changes" else otherwise


@pytest.mark.parametrize("held", [whole, lambda: all_but(0)], ids=["everything", "nearly everything"])
async def test_who_is_busy_whenever_he_is_asked_keeps_nobody_waiting(
    autojump_clock: MockClock, world: World, held: Callable[[], Reply]
) -> None:
    async with fetching(world, claims(held, Reply.busy(0))) as (client, (liar,), _):
        took_s = await client.fetch(MANIFEST)
        client.assert_holds(FILES)
        assert took_s < 1.5 * COUNT / 10 + 1
        assert liar.asked["deal"] + liar.asked["pieces"] < 25 * took_s
        assert not client.ledger.dropped


async def test_who_says_without_end_that_nothing_changes_is_asked_a_few_times_a_second(
    autojump_clock: MockClock, world: World
) -> None:
    nothing = Reply(Status.OK, b"", {"at": 5, "form": "runs"})
    async with fetching(world, claims(lambda: nothing, nothing)) as (client, (liar,), _):
        took_s = await client.fetch(MANIFEST)
        assert 2 < liar.asked["changes"] < 22 * took_s


async def test_the_only_holder_may_deal_to_others_only(autojump_clock: MockClock, world: World) -> None:
    """It is asked for particular pieces."""

    def say(request: Any) -> Reply:
        if request.op == "changes":
            return whole()
        if request.op == "deal":
            return Reply.busy(5)
        ((first, count),) = request.want
        return Reply(Status.OK, FILES["rootfs"][first * PIECE : (first + count) * PIECE])

    async with liar_in(world, say) as (provider, _), client_of(world) as client:
        await client.connect(provider)
        small = {key: data for key, data in FILES.items() if key != "rootfs"}
        async with world.provider(manifest_of(small, 1), small) as other:
            await client.connect(other)
            with trio.fail_after(60):
                await client.fetch(MANIFEST)
        client.assert_holds(FILES)


async def test_who_deals_what_is_here_already_costs_little(autojump_clock: MockClock, world: World) -> None:
    again = Reply(Status.OK, FILES["rootfs"][:PIECE], {"index": 0, "count": 1})
    async with fetching(world, claims(whole, again)) as (client, (liar,), _):
        await client.fetch(MANIFEST)
        client.assert_holds(FILES)
        assert 1 < liar.asked["deal"] < 16


async def test_who_gives_poison_is_noted_by_address(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspects: list[str] = []

    def drop(self: Schedule, source: Any) -> None:
        suspects.append(self._peers[source].origin)

    monkeypatch.setattr(Schedule, "drop", drop)
    poison = Reply(Status.OK, bytes(PIECE), {"index": 0, "count": 1})
    async with fetching(world, claims(whole, poison)) as (client, _, _):
        await client.fetch(MANIFEST)
        client.assert_holds(FILES)
        (liar,) = client.ledger.dropped
        (address,) = client.transport.peer_addresses(liar)
        assert set(suspects) == {origin_of(address)}


async def test_tables_that_come_byte_by_byte_hold_nobody_up(autojump_clock: MockClock, world: World) -> None:
    async def handle(stream: Stream) -> None:
        frames = FrameReader()
        with suppress(StreamReset):
            while data := await stream.read(4096):
                frames.receive_data(data)
                while (payload := frames.next_frame()) is not None:
                    if ROOTFS.sha256.encode() in payload:
                        await trickle(stream, Reply(Status.OK, bytes(COUNT * 32)))
                    await stream.write(Reply(Status.NOT_FOUND).encode_header())

    async with AsyncExitStack() as stack:
        honest = await stack.enter_async_context(world.provider(MANIFEST, FILES))
        client = await stack.enter_async_context(client_of(world))
        for _ in range(3 * TABLE_ASKS):
            liar = await stack.enter_async_context(world.provider(MANIFEST, FILES))
            liar.transport.handle(ARTIFACT_PROTOCOL, handle)
            await client.connect(liar)

        async def come_later() -> None:
            await trio.sleep(1)
            await client.connect(honest)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(come_later)
            assert await client.fetch(MANIFEST) < 8
        client.assert_holds(FILES)


async def test_pieces_that_come_byte_by_byte_hold_nobody_up(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all that may be on its way nothing is left for others, until what is late is not waited for."""
    books_of = Books.__init__
    monkeypatch.setattr(Books, "__init__", lambda self, _budget: books_of(self, 4 * PIECE))

    class Slow(Liar):
        async def say(self, stream: Stream, reply: Reply) -> None:
            await (trickle if len(reply.body) == PIECE else super().say)(stream, reply)

    body = Reply(Status.OK, bytes(PIECE))
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(client_of(world))
        for _ in range(2):
            liar = await stack.enter_async_context(world.provider(MANIFEST, FILES))
            liar.transport.handle(SWARM_PROTOCOL, Slow(claims(lambda: all_but(0), body)).handle)
            await client.connect(liar)
        honest = await stack.enter_async_context(world.provider(MANIFEST, FILES))
        speak(honest.transport, honest.blobs, honest.serving)
        await client.connect(honest)
        assert await client.fetch(MANIFEST) < 20
        client.assert_holds(FILES)


async def test_the_same_piece_from_two_byte_by_byte_holds_nobody_up_at_the_end(
    autojump_clock: MockClock, world: World
) -> None:
    class Slow(Liar):
        async def say(self, stream: Stream, reply: Reply) -> None:
            await (trickle if len(reply.body) == PIECE else super().say)(stream, reply)

    dealt = Reply(Status.OK, bytes(PIECE), {"index": 3, "count": 1})
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(client_of(world))
        for _ in range(2):
            liar = await stack.enter_async_context(world.provider(MANIFEST, FILES))
            liar.transport.handle(SWARM_PROTOCOL, Slow(claims(whole, dealt)).handle)
            await client.connect(liar)
        honest = await stack.enter_async_context(world.provider(MANIFEST, FILES))
        speak(honest.transport, honest.blobs, honest.serving)
        world.network.limit_upload(honest.peer_id, 30 * PIECE)
        await client.connect(honest)
        assert await client.fetch(MANIFEST) < 15
        client.assert_holds(FILES)


@pytest.mark.parametrize("status", [Status.NOT_FOUND, Status.GONE, Status.RANGE, Status.BAD_REQUEST])
async def test_who_has_nothing_of_what_he_says_is_not_asked_for_all_of_it(
    autojump_clock: MockClock, world: World, status: Status
) -> None:
    async with fetching(world, claims(lambda: all_but(0), Reply(status))) as (client, (liar,), _):
        assert await client.fetch(MANIFEST) < 4
        client.assert_holds(FILES)
        assert 2 <= liar.asked["pieces"] < COUNT / 2
