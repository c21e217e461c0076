"""Whole fetches of artifacts between real stores and servers, with peers that misbehave in every way we
know."""

from __future__ import annotations

import math
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from p2pboot.errors import Contradiction, FetchError, MachineError, ManifestError, NotFoundError
from p2pboot.fetch.receiving import backlog, downloads, swarm
from p2pboot.fetch.receiving.buffers import Buffers
from p2pboot.serving.limits import Limits
from p2pboot.store.errors import StoreFull
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, artifact_of, content
from p2pboot.testing.manifests import signed_manifest
from p2pboot.testing.stores import hold_all
from p2pboot.transport.bandwidth import Rates
from tests.fetch.world import FILES, Client, CorruptBlobs, PartialBlobs, World, client_of, manifest_of

SIZE = sum(map(len, FILES.values()))
MANIFEST = manifest_of()


async def test_two_honest_peers_share_the_work(autojump_clock: MockClock, world: World) -> None:
    async with (
        world.provider(MANIFEST) as one,
        world.provider(MANIFEST) as other,
        client_of(world) as client,
    ):
        world.network.limit_upload(one.peer_id, 1 << 20)
        world.network.limit_upload(other.peer_id, 1 << 20)
        await client.connect(one, other)
        await client.fetch(MANIFEST)
        client.assert_holds()
        assert min(client.ledger.received[peer.peer_id] for peer in (one, other)) > SIZE // 3


async def test_the_next_artifact_is_asked_for_as_soon_as_it_is_opened(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swarm, "ARTIFACTS_AT_ONCE", 1)
    async with world.provider(MANIFEST) as provider, client_of(world) as client:
        await client.connect(provider)
        assert await client.fetch(MANIFEST) == 0
        client.assert_holds()


async def test_a_corrupt_peer_is_named_and_the_fetch_completes(
    autojump_clock: MockClock, world: World
) -> None:
    async with (
        world.provider(MANIFEST, blobs=CorruptBlobs) as liar,
        world.provider(MANIFEST) as honest,
        client_of(world) as client,
    ):
        await client.connect(liar, honest)
        await client.fetch(MANIFEST)
        client.assert_holds()
        assert list(client.ledger.dropped) == [liar.peer_id]
        assert "piece" in client.ledger.dropped[liar.peer_id]
        assert [peer for peer, _ in world.watcher.peers] == [liar.peer_id]
        assert client.ledger.stored_bytes == SIZE
        assert client.ledger.wasted_bytes == client.ledger.received[liar.peer_id] > 0


async def test_with_a_corrupt_peer_alone_nothing_is_taken(autojump_clock: MockClock, world: World) -> None:
    async with world.provider(MANIFEST, blobs=CorruptBlobs) as liar, client_of(world) as client:
        await client.connect(liar)
        with pytest.raises(FetchError, match=r"dropped: piece \d+ of"):
            await client.fetch(MANIFEST, patience_s=5)
        assert client.ledger.stored_bytes == 0


async def test_a_peer_that_freezes_costs_less_than_five_seconds(
    autojump_clock: MockClock, world: World
) -> None:
    async with (
        world.provider(MANIFEST) as frozen,
        world.provider(MANIFEST) as honest,
        client_of(world) as client,
    ):
        for peer in (frozen, honest):
            world.network.limit_upload(peer.peer_id, 1 << 20)
        world.watcher.on_artifact = lambda key, done: (
            world.network.freeze(frozen.peer_id) if key == "rootfs" and done > 10 * PIECE else None
        )
        await client.connect(frozen, honest)
        took_s = await client.fetch(MANIFEST)
        client.assert_holds()
        assert took_s < SIZE / (1 << 20) + 5
        assert client.ledger.dropped == {}


async def test_a_peer_frozen_before_it_says_anything_costs_little(
    autojump_clock: MockClock, world: World
) -> None:
    async with (
        world.provider(MANIFEST) as frozen,
        world.provider(MANIFEST) as honest,
        client_of(world) as client,
    ):
        await client.connect(frozen, honest)
        world.network.freeze(frozen.peer_id)
        assert await client.fetch(MANIFEST) < 3


async def test_a_frozen_peer_that_wakes_is_used_again(autojump_clock: MockClock, world: World) -> None:
    async with world.provider(MANIFEST) as only, client_of(world) as client:
        world.network.limit_upload(only.peer_id, 1 << 20)
        await client.connect(only)
        async with trio.open_nursery() as nursery:

            async def doze() -> None:
                await trio.sleep(1)
                world.network.freeze(only.peer_id)
                await trio.sleep(30)
                world.network.thaw(only.peer_id)

            nursery.start_soon(doze)
            await client.fetch(MANIFEST, patience_s=60)
        client.assert_holds()


async def test_two_capped_peers_are_nearly_twice_as_fast_as_one(
    autojump_clock: MockClock, world: World
) -> None:
    files = {
        "kernel": content("k", PIECE),
        "initramfs": content("i", PIECE),
        "rootfs": content("r", 24 << 20),
    }
    manifest = manifest_of(files)
    rates = Rates(upload=2 << 20)
    async with world.provider(manifest, files, rates=rates) as one, client_of(world) as client:
        await client.connect(one)
        alone_s = await client.fetch(manifest)
        async with (
            world.provider(manifest, files, rates=rates) as other,
            client_of(world, "state2") as second,
        ):
            await second.connect(one, other)
            together_s = await second.fetch(manifest)
    assert alone_s / together_s > 1.8


async def test_who_waits_for_our_own_limit_is_not_silent(autojump_clock: MockClock, world: World) -> None:
    """At 600 bytes a second for three peers each of them waits longer for its turn than a silent one is borne."""
    files = {
        "kernel": content("k", 20_000),
        "initramfs": content("i", 20_000),
        "rootfs": content("r", 20_000),
    }
    manifest = manifest_of(files)
    async with (
        world.provider(manifest, files) as one,
        world.provider(manifest, files) as two,
        world.provider(manifest, files) as three,
        client_of(world, rates=Rates(download=600)) as client,
    ):
        await client.connect(one, two, three)
        with trio.fail_after(1_000):
            took_s = await client.fetch(manifest, patience_s=1e6)
    assert took_s > 60
    assert not client.ledger.stopped
    assert not client.ledger.failures
    assert not client.ledger.dropped


async def test_a_slow_peer_does_not_hold_up_the_end(autojump_clock: MockClock, world: World) -> None:
    async with (
        world.provider(MANIFEST) as slow,
        world.provider(MANIFEST) as quick,
        client_of(world) as client,
    ):
        world.network.limit_upload(slow.peer_id, 20_000)
        world.network.limit_upload(quick.peer_id, 2 << 20)
        await client.connect(slow, quick)
        assert await client.fetch(MANIFEST) < SIZE / (2 << 20) + 2


async def test_peers_with_parts_complete_each_other(autojump_clock: MockClock, world: World) -> None:
    async with (
        world.provider(MANIFEST, blobs=lambda blobs: PartialBlobs(blobs, lambda i: i % 2 == 0)) as even,
        world.provider(MANIFEST, blobs=lambda blobs: PartialBlobs(blobs, lambda i: i % 2 == 1)) as odd,
        client_of(world) as client,
    ):
        await client.connect(even, odd)
        await client.fetch(MANIFEST)
        client.assert_holds()
        assert client.ledger.wasted_bytes == 0


async def test_a_peer_that_is_still_fetching_itself_is_asked_again(
    autojump_clock: MockClock, world: World
) -> None:
    began = trio.current_time()
    growing = lambda index: index < (trio.current_time() - began) * 10  # noqa: E731 - ten pieces a second
    async with (
        world.provider(MANIFEST, blobs=lambda blobs: PartialBlobs(blobs, growing)) as mirror,
        client_of(world) as client,
    ):
        await client.connect(mirror)
        assert 5 < await client.fetch(MANIFEST) < 10
        client.assert_holds()


async def test_a_peer_that_claims_pieces_and_does_not_give_them_costs_nothing(
    autojump_clock: MockClock, world: World
) -> None:
    class Boaster(PartialBlobs):
        held = property(lambda self: self._blobs.held)

    async with (
        world.provider(MANIFEST, blobs=lambda blobs: Boaster(blobs, lambda i: False)) as boaster,
        world.provider(MANIFEST) as honest,
        client_of(world) as client,
    ):
        await client.connect(boaster, honest)
        assert await client.fetch(MANIFEST) < 2
        assert client.ledger.dropped == {}
        assert len(boaster.blobs.reads) == 0


async def test_right_pieces_with_a_wrong_sha256_are_the_publishers_fault(
    autojump_clock: MockClock, world: World
) -> None:
    artifacts = [artifact_of(key, FILES[key]) for key in ("kernel", "initramfs")]
    lie = artifact_of("rootfs", FILES["rootfs"], sha256="ab" * 32)
    manifest = signed_manifest([*artifacts, lie])
    async with client_of(world) as client, world.provider(manifest) as provider:
        await client.connect(provider)
        with pytest.raises(ManifestError, match="rootfs: every piece is what the manifest says"):
            await client.fetch(manifest)
        received = client.ledger.downloaded_bytes
        assert client.ledger.dropped == {}
        with pytest.raises(ManifestError, match="rootfs"):
            await client.fetch(manifest)
        assert client.ledger.downloaded_bytes == received


async def test_all_peers_lost_and_back(autojump_clock: MockClock, world: World) -> None:
    async with world.provider(MANIFEST) as only, client_of(world) as client:
        world.network.limit_upload(only.peer_id, 1 << 20)
        await client.connect(only)
        async with trio.open_nursery() as nursery:

            async def interrupt() -> None:
                await trio.sleep(2)
                world.network.cut(only.peer_id, client.transport.peer_id)
                await trio.sleep(5)
                world.network.heal(only.peer_id, client.transport.peer_id)
                await client.connect(only)

            nursery.start_soon(interrupt)
            assert await client.fetch(MANIFEST) > 7
        client.assert_holds()


async def test_all_peers_lost_for_good_says_what_is_missing_and_a_later_run_resumes(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.provider(MANIFEST) as only:
        world.network.limit_upload(only.peer_id, 1 << 20)
        async with client_of(world) as client:
            await client.connect(only)
            world.watcher.on_artifact = lambda key, done: (
                world.network.cut(only.peer_id, client.transport.peer_id)
                if key == "rootfs" and done > 20 * PIECE
                else None
            )
            missing = r"all peers are gone, missing: .*rootfs \(\d+ of 3932 kB are here\)"
            with pytest.raises(NotFoundError, match=rf"{missing}: peer {only.peer_id}: connection lost"):
                await client.fetch(MANIFEST, patience_s=5)
            had = client.ledger.stored_bytes
        world.watcher.on_artifact = lambda _key, _done: None
        async with client_of(world) as client:
            await client.connect(only)
            await client.fetch(MANIFEST)
            client.assert_holds()
            assert client.ledger.downloaded_bytes == SIZE - had


@pytest.mark.parametrize("after_s", [0.1, 0.7, 1.5, 2.9, 4.1])
async def test_an_abandoned_fetch_resumes_with_what_it_had(
    autojump_clock: MockClock, world: World, after_s: float
) -> None:
    async with world.provider(MANIFEST) as provider:
        world.network.limit_upload(provider.peer_id, 1 << 20)
        async with client_of(world) as client:
            await client.connect(provider)
            with trio.move_on_after(after_s):
                await client.fetch(MANIFEST)
            had = client.ledger.stored_bytes
            assert client.ledger.downloaded_bytes <= SIZE
        async with client_of(world) as client:
            await client.connect(provider)
            await client.fetch(MANIFEST)
            client.assert_holds()
            assert client.ledger.downloaded_bytes == SIZE - had


async def test_what_is_held_is_not_fetched(autojump_clock: MockClock, world: World) -> None:
    async with client_of(world) as client:
        hold_all(client.store, MANIFEST, FILES)
        await client.fetch(MANIFEST)
        assert client.ledger.downloaded_bytes == 0
        assert world.watcher.done == {key: len(data) for key, data in FILES.items()}


async def test_a_busy_peer_is_asked_again_later(autojump_clock: MockClock, world: World) -> None:
    limits = Limits(artifact_requests_per_s=1)  # four at once, then one a second
    async with world.provider(MANIFEST, limits=limits) as busy, client_of(world) as client:
        await client.connect(busy)
        await client.fetch(MANIFEST)
        client.assert_holds()
        assert client.ledger.dropped == {}


async def test_two_jobs_for_one_artifact_fetch_it_once(autojump_clock: MockClock, world: World) -> None:
    async with world.provider(MANIFEST) as provider, client_of(world) as client:
        await client.connect(provider)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.fetch, MANIFEST)
            nursery.start_soon(client.fetch, MANIFEST)
        assert client.ledger.downloaded_bytes == SIZE


async def test_a_made_up_table_of_another_publisher_keeps_nobody_from_an_artifact(
    autojump_clock: MockClock, world: World
) -> None:
    """It is signed first, nobody has it, and whoever waits for it must not be waited for. What comes proves the lie."""
    made_up = [replace(artifact_of(key, FILES[key]), table_digest="ab" * 32) for key in FILES]
    async with world.provider(MANIFEST) as provider, client_of(world) as client:
        await client.connect(provider)
        other = Client(world, client.transport, client.store)

        async def fetch_what_was_made_up() -> None:
            with pytest.raises(Contradiction):
                await other.fetch(signed_manifest(made_up, manifest_version=2), math.inf)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fetch_what_was_made_up)
                await trio.sleep(1)
                await client.fetch(MANIFEST)
                client.assert_holds()


async def test_a_full_store_ends_the_fetch_with_its_own_error(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.provider(MANIFEST) as provider, world.client() as (transport, _):
        with Store.open(world.directory / "small", quota_bytes=SIZE // 2) as store:
            client = Client(world, transport, store)
            await client.connect(provider)
            with pytest.raises(StoreFull, match="no room for"):
                await client.fetch(MANIFEST)


async def test_a_disk_that_fails_ends_the_fetch_with_its_own_error(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MachineError("the disk is full")

    async with world.provider(MANIFEST) as provider, client_of(world) as client:
        await client.connect(provider)
        monkeypatch.setattr("p2pboot.store.partials.PartialBlob.write", fail)
        with pytest.raises(MachineError, match="the disk is full"):
            await client.fetch(MANIFEST)
        assert client.ledger.dropped == {}


async def test_what_arrives_is_brought_to_the_disk_on_the_way(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(downloads, "HASH_BYTES", 4 * PIECE)
    monkeypatch.setattr(downloads, "SYNC_BYTES", 16 * PIECE)
    monkeypatch.setattr(
        "p2pboot.store.partials.PartialBlob.sync", lambda partial: synced.append(len(partial.held))
    )
    async with world.provider(MANIFEST) as provider, client_of(world) as client:
        world.network.limit_upload(provider.peer_id, 10 * PIECE)
        await client.connect(provider)
        await client.fetch(MANIFEST)
        client.assert_holds()
    assert len(synced) >= 3
    assert synced[0] < len(FILES["rootfs"]) // PIECE


async def test_memory_is_used_again(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    new: list[int] = []
    take = Buffers.take

    def noting_take(buffers: Buffers, length: int) -> bytearray:
        free = len(buffers._free)
        taken = take(buffers, length)
        if len(buffers._free) == free:
            new.append(length)
        return taken

    monkeypatch.setattr(Buffers, "take", noting_take)
    monkeypatch.setattr(backlog, "FIRST_GROUP_BYTES", PIECE)
    monkeypatch.setattr(backlog, "GROUP_BYTES", PIECE)
    async with world.provider(MANIFEST) as provider, client_of(world) as client:
        await client.connect(provider)
        await client.fetch(MANIFEST)
        client.assert_holds()
    assert 0 < len(new) < 40  # of 71 pieces


async def test_many_peers_come_and_go(autojump_clock: MockClock, world: World) -> None:
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(world.provider(MANIFEST)) for _ in range(6)]
        client = await stack.enter_async_context(client_of(world))
        for peer in peers:
            world.network.limit_upload(peer.peer_id, 256 << 10)
        nursery = await stack.enter_async_context(trio.open_nursery())

        async def churn() -> None:
            for turn in range(100):
                peer = peers[turn % len(peers)]
                await client.connect(peer)
                await trio.sleep(0.3)
                if turn % 3:
                    world.network.disconnect(client.transport.peer_id, peer.peer_id)

        nursery.start_soon(churn)
        await client.fetch(MANIFEST)
        nursery.cancel_scope.cancel()
        client.assert_holds()
