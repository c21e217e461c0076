"""Content that two manifests cut in two ways: fetched once, and known by both tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from p2pboot.core.manifest import Manifest
from p2pboot.errors import Contradiction
from p2pboot.testing.artifacts import PIECE, artifact_of
from p2pboot.testing.manifests import signed_manifest
from tests.fetch.world import FILES, KEY, Client, PartialBlobs, World, client_of, manifest_of

SIZE = sum(map(len, FILES.values()))
FINE = manifest_of()
COARSE = manifest_of(channel="testing", piece_length=4 * PIECE)


def is_whole(client: Client, *manifests: Manifest) -> bool:
    return all(client.store.manifests.is_whole(each.digest) for each in manifests)


async def test_what_is_here_and_cut_otherwise_is_read_and_not_fetched(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.provider(FINE) as one, client_of(world) as client:
        await client.connect(one)
        await client.fetch(FINE)
        received = client.ledger.received.copy()
        await client.fetch(COARSE)  # which nobody here has
        assert client.ledger.received == received
        assert is_whole(client, FINE, COARSE)


async def test_a_manifest_that_cuts_what_is_here_wrongly_contradicts_itself(
    autojump_clock: MockClock, world: World
) -> None:
    kernel = replace(COARSE.artifacts["kernel"], table_digest="0" * 64)
    lie = signed_manifest([kernel, COARSE.artifacts["initramfs"]], [KEY], channel="testing")
    async with world.provider(FINE) as one, client_of(world) as client:
        await client.connect(one)
        await client.fetch(FINE)
        with pytest.raises(Contradiction):
            await client.fetch(lie)
        assert is_whole(client, FINE)
        client.assert_holds()


async def test_two_jobs_with_two_tables_fetch_it_once(autojump_clock: MockClock, world: World) -> None:
    async with (
        world.provider(FINE) as one,
        world.provider(COARSE) as other,
        client_of(world) as client,
    ):
        for peer in (one, other):
            world.network.limit_upload(peer.peer_id, 1 << 20)
        await client.connect(one, other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.fetch, FINE)
            nursery.start_soon(client.fetch, COARSE)
        assert is_whole(client, FINE, COARSE)
        assert client.ledger.stored_bytes == SIZE
        assert client.ledger.dropped == {}


async def test_who_has_a_turn_and_is_given_nothing_leaves_it_to_another_job(
    autojump_clock: MockClock, world: World
) -> None:
    """And what came stays, as far as it is whole pieces of the other table."""
    async with (
        world.provider(FINE, blobs=lambda blobs: PartialBlobs(blobs, lambda index: index < 6)) as half,
        world.provider(COARSE) as whole,
        client_of(world) as client,
    ):
        await client.connect(half)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.fetch, FINE, 300.0)
            await trio.sleep(1)
            before = client.ledger.stored_bytes
            assert 0 < before < SIZE
            await client.connect(whole)
            nursery.start_soon(client.fetch, COARSE)
        assert is_whole(client, FINE, COARSE)
        client.assert_holds()
        assert client.ledger.received[whole.peer_id] < SIZE - 4 * PIECE
        assert client.ledger.dropped == {}


async def test_whoever_waits_for_a_table_is_done_when_another_job_brings_the_content(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.provider(FINE) as one, client_of(world) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.fetch, COARSE, 60.0)
            await trio.sleep(5)
            await client.connect(one)
            nursery.start_soon(client.fetch, FINE)
        assert is_whole(client, FINE, COARSE)
        assert trio.current_time() < 30


async def test_one_manifest_may_name_one_content_in_two_cuts(autojump_clock: MockClock, world: World) -> None:
    data = FILES["kernel"]
    named = signed_manifest(
        [artifact_of("kernel", data), artifact_of("initramfs", data, piece_length=2 * PIECE)], [KEY]
    )
    async with (
        world.provider(named, {"kernel": data, "initramfs": data}) as one,
        client_of(world) as client,
    ):
        await client.connect(one)
        await client.fetch(named)
        assert is_whole(client, named)
        assert client.ledger.stored_bytes == len(data)
