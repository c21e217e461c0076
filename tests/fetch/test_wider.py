"""A job that finds nothing looks in the hash table; one that finds something does not."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from p2pboot.dht.addresses import AddressPolicy
from p2pboot.dht.keys import content_key, pair_key, peer_id_bytes
from p2pboot.dht.member import DhtMember
from p2pboot.errors import FetchError, NotFoundError
from p2pboot.fetch.asking.survey import Surveyor
from p2pboot.fetch.asking.wider import NOTHING_S, WiderSearch
from p2pboot.fetch.client import fetch
from p2pboot.fetch.result import FetchResult
from p2pboot.store.blobs import BlobStore
from p2pboot.testing.manifests import NOW, key_of
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import Stream, Transport
from p2pboot.transport.multiaddrs import encode_multiaddr
from p2pboot.wire.kad import KAD_PROTOCOL, KadPeer, Message, MessageType, encode_message
from tests.dht.world import Liar
from tests.fetch.world import FILES, BlobsProxy, CorruptBlobs, PartialBlobs, Provider, World, manifest_of

PAIR = ("stable", "x86_64")


@asynccontextmanager
async def keepers(world: World, count: int) -> AsyncIterator[list[Transport]]:
    """Machines that keep the table, and speak nothing else."""
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        there: list[Transport] = []
        for number in range(count):
            opened = world.network.open(key_of(f"keeper {number}").public.peer_id)
            transport = await stack.enter_async_context(opened)
            nursery.start_soon(DhtMember(transport, AddressPolicy(), serves=True).run)
            for other in there[-3:]:
                await transport.dial(other.addresses()[0])
            there.append(transport)
        await trio.sleep(1)
        yield there
        nursery.cancel_scope.cancel()


async def join(
    nursery: trio.Nursery, provider: Provider, *others: Transport, key: bytes = pair_key(*PAIR)
) -> None:
    """Have a provider put into the table that it has something."""
    member = DhtMember(provider.transport, AddressPolicy(), serves=True)
    member.say({}, [key])
    nursery.start_soon(member.run)
    for other in others:
        await provider.transport.dial(other.addresses()[0])
    await trio.sleep(20)


async def fetched(world: World, *bootstrap: str, wide: bool = True) -> FetchResult | None:
    """What a fetch brings; None where it finds nothing."""
    async with world.client() as (transport, store):
        try:
            return await fetch(
                world.order(bootstrap=bootstrap),
                transport=transport,
                store=store,
                progress=world.watcher,
                wall=lambda: NOW,
                wider=WiderSearch(transport, PAIR) if wide else None,
            )
        except (NotFoundError, FetchError):
            return None


def no_pieces(blobs: BlobStore) -> PartialBlobs:
    return PartialBlobs(blobs, lambda _index: False)


@pytest.mark.parametrize("wide", [True, False])
async def test_a_provider_that_only_the_table_knows_is_found(
    autojump_clock: MockClock, world: World, wide: bool
) -> None:
    manifest = manifest_of()
    async with (
        keepers(world, 4) as there,
        world.provider(manifest) as provider,
        trio.open_nursery() as nursery,
    ):
        await join(nursery, provider, there[0])
        address = there[3].addresses()[0]
        world.network.cut(provider.peer_id, there[3].peer_id)
        result = await fetched(world, address, wide=wide)
        assert (result is not None and result.verdict.manifest == manifest) is wide
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("blobs", [no_pieces, CorruptBlobs])
async def test_who_has_an_artifact_is_found_when_nobody_delivers_it(
    autojump_clock: MockClock, world: World, blobs: Callable[[BlobStore], BlobsProxy], wide: bool
) -> None:
    manifest = manifest_of()
    async with (
        keepers(world, 3) as there,
        world.provider(manifest, blobs=blobs) as known,
        world.provider(manifest) as other,
        trio.open_nursery() as nursery,
    ):
        await join(nursery, other, there[0], key=content_key(manifest.artifacts["kernel"].sha256))
        for keeper in there:
            world.network.cut(other.peer_id, keeper.peer_id)
        result = await fetched(world, known.address, there[2].addresses()[0], wide=wide)
        assert (result is not None) is wide
        nursery.cancel_scope.cancel()


async def test_whoever_finds_something_at_once_never_asks(autojump_clock: MockClock, world: World) -> None:
    asked: list[Stream] = []

    async def handle(stream: Stream) -> None:
        asked.append(stream)

    async with world.provider(manifest_of()) as provider:
        provider.transport.handle(KAD_PROTOCOL, handle)
        began = trio.current_time()
        await fetched(world, provider.address)
        assert trio.current_time() - began < NOTHING_S
        await trio.sleep(10)
    assert asked == []


async def test_whoever_joins_the_table_later_is_found(autojump_clock: MockClock, world: World) -> None:
    manifest = manifest_of()
    async with (
        keepers(world, 3) as there,
        world.provider(manifest) as provider,
        trio.open_nursery() as nursery,
    ):
        world.network.cut(provider.peer_id, there[2].peer_id)

        async def join_later() -> None:
            await trio.sleep(8)
            await join(nursery, provider, there[0])

        nursery.start_soon(join_later)
        result = await fetched(world, there[2].addresses()[0])
        assert result is not None
        nursery.cancel_scope.cancel()


async def test_discover_does_not_wait_where_nobody_is(autojump_clock: MockClock, world: World) -> None:
    async with keepers(world, 3) as there, world.client() as (transport, _):
        began = trio.current_time()
        surveyor = Surveyor(transport, *PAIR, world.watcher, WiderSearch(transport, PAIR))
        with trio.move_on_after(60):
            survey = await surveyor.run(there[0].addresses(), None, 5)
        assert survey.manifests == {}
        assert trio.current_time() - began <= 5


async def test_three_poisoned_of_ten_do_not_hide_the_right_manifest(
    autojump_clock: MockClock, world: World
) -> None:
    """Servers that lie, and sixty strangers who say that they are providers."""
    chance, manifest = random.Random(3), manifest_of()
    async with (
        keepers(world, 10) as there,
        world.provider(manifest) as provider,
        trio.open_nursery() as nursery,
        AsyncExitStack() as stack,
    ):
        await join(nursery, provider, there[0])
        for liar in there[1:4]:
            liar.handle(KAD_PROTOCOL, Liar(chance).handle)
        opened = world.network.open(key_of("flooder").public.peer_id)
        flooder = await stack.enter_async_context(opened)
        address = encode_multiaddr(parse_address(flooder.addresses()[0]).with_peer(None))
        own = KadPeer(peer_id_bytes(flooder.peer_id), (address,))
        for keeper in there[4:]:
            connection = await flooder.dial(keeper.addresses()[0])
            stream = await flooder.open_stream(connection, KAD_PROTOCOL)
            said = Message(MessageType.ADD_PROVIDER, pair_key(*PAIR), providers=(own,))
            await stream.write(encode_message(said) * 60)
        result = await fetched(world, there[9].addresses()[0])
        assert result is not None
        assert result.verdict.manifest == manifest
        assert {file.key for file in result.files} == FILES.keys()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("pair", [PAIR, (None, None)])
async def test_discover_looks_there_too(
    autojump_clock: MockClock, world: World, pair: tuple[str | None, str | None]
) -> None:
    manifest = manifest_of()
    async with (
        keepers(world, 3) as there,
        world.provider(manifest) as provider,
        trio.open_nursery() as nursery,
    ):
        await join(nursery, provider, there[0])
        async with world.client() as (transport, _):
            wider = WiderSearch(transport, pair)
            surveyor = Surveyor(transport, *pair, world.watcher, wider)
            survey = await surveyor.run(there[2].addresses(), None, 10)
        assert provider.peer_id in survey.providers
        assert survey.manifests == {manifest.digest: manifest}
        nursery.cancel_scope.cancel()
