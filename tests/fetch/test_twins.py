"""Two servers with one key: each is asked on a connection of its own, for manifests and for pieces."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from p2pboot.core.verify import Refused
from p2pboot.fetch.client import fetch
from p2pboot.fetch.result import FetchResult
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE
from p2pboot.testing.manifests import NOW
from p2pboot.transport.interface import Transport
from tests.fetch.world import (
    FILES,
    QUESTION,
    CorruptBlobs,
    PartialBlobs,
    Provider,
    Search,
    World,
    client_of,
    manifest_of,
)

V1, V2 = manifest_of(version=1), manifest_of(version=2)
V1_AGAIN = manifest_of(version=1, cmdline="other")


async def fetch_from(world: World, client: tuple[Transport, Store], *providers: Provider) -> FetchResult:
    transport, store = client
    return await fetch(
        world.order(*providers), transport=transport, store=store, progress=world.watcher, wall=lambda: NOW
    )


async def test_what_only_one_of_them_has_is_found_and_where(autojump_clock: MockClock, world: World) -> None:
    async with (
        world.provider(V1) as one,
        world.provider(V2, twin_of=one) as twin,
        world.client() as (transport, _),
    ):
        found = await Search(world, transport).run(one, twin)
        chosen = found.choose(QUESTION)
        assert chosen.manifest == V2
        assert [each.address for each in chosen.connections] == [twin.address]
        assert chosen.offered_by == {one.peer_id}
        assert found.asked == {one.peer_id}


async def test_one_is_heard_when_the_other_has_nothing(autojump_clock: MockClock, world: World) -> None:
    async with (
        world.provider() as one,
        world.provider(V2, twin_of=one) as twin,
        world.client() as (transport, _),
    ):
        assert (await Search(world, transport).choose(one, twin)).manifest == V2
        assert trio.current_time() < 3


async def test_twins_that_contradict_each_other_are_refused(autojump_clock: MockClock, world: World) -> None:
    async with (
        world.provider(V1) as one,
        world.provider(V1_AGAIN, twin_of=one) as twin,
        world.client() as client,
    ):
        with pytest.raises(Refused) as refused:
            await fetch_from(world, client, one, twin)
        assert len(client[1].trust.equivocations()) == 1
    assert refused.value.verdict.reason == "equivocation"
    for manifest in (V1, V1_AGAIN):
        assert manifest.digest in refused.value.message


async def test_a_mute_twin_costs_a_short_grace(autojump_clock: MockClock, world: World) -> None:
    async with (
        world.provider(V1) as one,
        world.provider(V2, twin_of=one) as twin,
        world.client() as (transport, _),
    ):
        await transport.dial(twin.address)
        world.network.freeze(twin.address)
        assert (await Search(world, transport).choose(one)).manifest == V1
        assert trio.current_time() < 3


async def test_everything_is_fetched_from_the_one_that_has_it(
    autojump_clock: MockClock, world: World
) -> None:
    async with (
        world.provider(V1) as one,
        world.provider(V2, twin_of=one) as twin,
        world.client() as client,
    ):
        result = await fetch_from(world, client, one, twin)
    assert result.verdict.manifest == V2
    assert result.offered_by == (one.peer_id,)


async def test_each_gives_the_pieces_that_it_has(autojump_clock: MockClock, world: World) -> None:
    async with (
        world.provider(V1, blobs=lambda blobs: PartialBlobs(blobs, lambda index: index % 2 == 0)) as one,
        world.provider(
            V1, twin_of=one, blobs=lambda blobs: PartialBlobs(blobs, lambda index: index % 2 == 1)
        ) as twin,
        client_of(world) as client,
    ):
        await client.connect(one, twin)
        await client.fetch(V1)
        client.assert_holds()
        assert client.ledger.received[one.peer_id] == sum(map(len, FILES.values()))
        for provider, rest in ((one, 0), (twin, 1)):
            assert {offset // PIECE % 2 for _, offset, _ in provider.blobs.reads} == {rest}


async def test_who_lies_is_dropped_with_all_servers_that_have_its_key(
    autojump_clock: MockClock, world: World
) -> None:
    async with (
        world.provider(V1, blobs=CorruptBlobs) as liar,
        world.provider(V1, twin_of=liar) as twin,
        world.provider(V1) as honest,
        client_of(world) as client,
    ):
        world.network.limit_upload(twin.address, 100_000)
        world.network.limit_upload(honest.address, 100_000)
        await client.connect(liar, twin, honest)
        await client.fetch(V1)
        client.assert_holds()
        assert set(client.ledger.dropped) == {liar.peer_id}
        assert client.ledger.received[honest.peer_id] > sum(map(len, FILES.values())) * 3 // 4
