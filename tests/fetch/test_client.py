"""The boot client's whole job, between real stores and servers on a network in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2pboot.core.pieces import PieceTable
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.core.verify import Refused
from p2pboot.errors import BlobCorrupt, FetchError, ManifestError, NotFoundError, UsageError
from p2pboot.fetch.choosing.artifacts import select_artifacts
from p2pboot.fetch.client import FetchOrder, fetch
from p2pboot.fetch.result import FetchResult
from p2pboot.store.blobs import BlobStore
from p2pboot.store.hashes import FileIdentity, HashedFile
from p2pboot.store.partials import PartialBlob
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, artifact_of, content, table_of
from p2pboot.testing.manifests import NOW
from p2pboot.testing.stores import offer
from p2pboot.transport.interface import Transport
from tests.fetch.world import (
    FILES,
    OTHER_KEY,
    POLICY,
    BlobsProxy,
    CorruptBlobs,
    PartialBlobs,
    Provider,
    Watcher,
    World,
    manifest_of,
)

SIZE = sum(map(len, FILES.values()))
V1 = manifest_of()
NEW_FILES = {**FILES, "kernel": content("new kernel", 2 * PIECE)}
V2 = manifest_of(NEW_FILES, 2)


async def run(
    order: FetchOrder, transport: Transport, store: Store, watcher: Watcher, **options: Any
) -> FetchResult:
    return await fetch(order, transport=transport, store=store, progress=watcher, wall=lambda: NOW, **options)


def placed(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.iterdir() if path.name != ".p2pboot"}


ALL = {*FILES, "manifest.json", "manifest.json.sig", "cmdline"}


async def test_a_fetch_leaves_the_whole_set_under_final_names(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.provider(V1) as provider, world.client() as (transport, store):
        result = await run(world.order(provider), transport, store, world.watcher)
    out = world.directory / "out"
    assert placed(out) == ALL
    assert {key: (out / key).read_bytes() for key in FILES} == FILES
    assert (out / "manifest.json").read_bytes() == V1.raw
    assert (out / "cmdline").read_bytes() == b"quiet\n"
    assert result.ledger.received == {provider.peer_id: SIZE}
    assert world.watcher.sizes == {key: len(data) for key, data in FILES.items()}
    assert world.watcher.sources.total() == SIZE
    document = result.to_json()
    assert document["downloaded_bytes"] == sum(document["sources"].values()) == SIZE
    assert document["verdict"]["ok"] is True
    outcomes = {check["name"]: check["outcome"] for check in document["verdict"]["checks"]}
    assert outcomes["detached"] == "passed"
    assert document["files"]["kernel"]["written"] is True
    assert document["offered_by"] == [provider.peer_id]


@pytest.mark.parametrize(
    "layout", ["0x", "x0", "x00x", "00"], ids=["at the start", "at the end", "in the middle", "nothing else"]
)
async def test_nobody_is_asked_for_pieces_of_zeros(
    autojump_clock: MockClock, world: World, layout: str
) -> None:
    piece = content("piece", PIECE)
    files = {**FILES, "rootfs": b"".join(piece if kind == "x" else bytes(PIECE) for kind in layout)}
    async with (
        world.provider(manifest_of(files), files) as provider,
        world.client() as (transport, store),
    ):
        result = await run(world.order(provider), transport, store, world.watcher)
    assert (world.directory / "out" / "rootfs").read_bytes() == files["rootfs"]
    zeros = layout.count("0") * PIECE
    assert result.ledger.received == {provider.peer_id: sum(map(len, files.values())) - zeros}
    assert result.ledger.zero_bytes == zeros
    assert world.watcher.sources.total() == result.ledger.stored_bytes
    assert result.ledger.resumed_bytes == 0  # nothing was there before: this was the first run
    assert (world.directory / "out" / "rootfs").stat().st_blocks * 512 <= layout.count("x") * PIECE


async def test_a_second_fetch_downloads_and_writes_nothing(autojump_clock: MockClock, world: World) -> None:
    async with world.provider(V1) as provider:
        for again in (False, True):
            async with world.client() as (transport, store):
                result = await run(world.order(provider), transport, store, world.watcher)
                assert result.unchanged is again
                assert result.ledger.downloaded_bytes == (0 if again else SIZE)


async def test_what_the_job_itself_has_brought_is_not_read_again(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.provider(V1) as provider, world.client() as (transport, store):
        reads: list[str] = []
        monkeypatch.setattr(store.blobs, "read", lambda digest, *_span: reads.append(digest))
        await run(world.order(provider), transport, store, world.watcher)
    assert placed(world.directory / "out") == ALL
    assert reads == []


async def test_right_final_files_are_enough_without_the_store(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.provider(V1) as provider:
        async with world.client() as (transport, store):
            await run(world.order(provider), transport, store, world.watcher)
        async with world.client("another state") as (transport, store):
            result = await run(world.order(provider), transport, store, world.watcher)
        assert result.unchanged
        assert result.ledger.downloaded_bytes == 0


@pytest.mark.parametrize("damage", ["deleted", "replaced", "overwritten in place"])
async def test_a_damaged_final_file_is_repaired(autojump_clock: MockClock, world: World, damage: str) -> None:
    kernel = world.directory / "out" / "kernel"
    async with world.provider(V1) as provider:
        async with world.client() as (transport, store):
            await run(world.order(provider), transport, store, world.watcher)
        if damage != "overwritten in place":
            kernel.unlink()
        if damage != "deleted":
            kernel.write_bytes(b"x" * len(FILES["kernel"]))
        async with world.client() as (transport, store):
            result = await run(world.order(provider), transport, store, world.watcher)
    assert kernel.read_bytes() == FILES["kernel"]
    assert [file.key for file in result.files if file.written] == ["kernel"]
    # In place the store's own copy was hit as well, for the two are one file where the file system allows.
    assert result.ledger.downloaded_bytes == (len(FILES["kernel"]) if damage == "overwritten in place" else 0)


async def test_another_publisher_in_between_lowers_nothing_and_nothing_is_placed(
    autojump_clock: MockClock, world: World
) -> None:
    by_other = manifest_of(version=1, key=OTHER_KEY, cmdline="other")
    other = TrustPolicy((Publisher((OTHER_KEY.public.keyid,)),))
    steps = ((manifest_of(NEW_FILES, 6), NEW_FILES, POLICY), (by_other, FILES, other))
    for manifest, files, policy in steps:
        async with (
            world.provider(manifest, files, detached=False) as provider,
            world.client() as (transport, store),
        ):
            await run(world.order(provider, policy=policy), transport, store, world.watcher)
    out = world.directory / "out"
    before = {path.name: path.stat().st_ino for path in out.iterdir()}
    async with (
        world.provider(manifest_of(NEW_FILES, 5), NEW_FILES) as provider,
        world.client() as (transport, store),
    ):
        with pytest.raises(Refused, match="older than 6"):
            await run(world.order(provider), transport, store, world.watcher)
        assert {path.name: path.stat().st_ino for path in out.iterdir()} == before


async def test_a_newer_version_that_another_process_accepts_meanwhile_keeps_this_one_from_being_placed(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.provider(V1) as provider, world.client() as (transport, store):

        def overtake(_key: str, _done: int) -> None:
            if store.trust.heads_of("stable", "x86_64"):
                store.trust.accept(V2)

        world.watcher.on_artifact = overtake
        with pytest.raises(Refused, match="older than 2"):
            await run(world.order(provider), transport, store, world.watcher)
    assert placed(world.directory / "out") == set()


def evil(key: str) -> bytes:
    """As long as what it takes the place of."""
    return content("evil", len(FILES[key]))


def say_it_is(store: Store, path: Path, key: str, table: PieceTable) -> None:
    """Plant in the state what would make an evil file pass, as who has the disk in his hands can."""
    store.hashes.put(FileIdentity.of(path.stat()), HashedFile(V1.artifacts[key].sha256, table))


async def test_what_the_state_says_of_a_final_file_is_no_proof(
    autojump_clock: MockClock, world: World
) -> None:
    kernel = world.directory / "out" / "kernel"
    async with world.provider(V1) as provider:
        async with world.client() as (transport, store):
            await run(world.order(provider), transport, store, world.watcher)
        was = kernel.stat()
        kernel.unlink()
        kernel.write_bytes(evil("kernel"))
        os.utime(kernel, ns=(was.st_atime_ns, was.st_mtime_ns))
        async with world.client() as (transport, store):
            say_it_is(store, kernel, "kernel", table_of(FILES["kernel"]))
            result = await run(world.order(provider), transport, store, world.watcher)
    assert not result.unchanged
    assert kernel.read_bytes() == FILES["kernel"]
    assert result.ledger.downloaded_bytes == 0  # the store's own copy is another file by now


@pytest.mark.parametrize("table", ["evil", "evil by its own name", "true", "broken", "none"])
async def test_what_the_state_says_of_its_own_copy_is_no_proof(
    autojump_clock: MockClock, world: World, table: str
) -> None:
    """The final file is gone, and the copy in the store that would take its place is not what was signed."""
    kernel, artifact = world.directory / "out" / "kernel", V1.artifacts["kernel"]
    async with world.provider(V1) as provider:
        async with world.client() as (transport, store):
            await run(world.order(provider), transport, store, world.watcher)
        kernel.write_bytes(evil("kernel"))  # a hard link: the store's copy is the same file
        kernel.unlink()
        async with world.client() as (transport, store):
            planted = table_of(evil("kernel") if table.startswith("evil") else FILES["kernel"])
            say_it_is(store, store.blobs.path(artifact.sha256), "kernel", planted)
            with store._database.transaction() as sql:
                if table == "none":
                    sql.execute("DELETE FROM tables WHERE digest = ?", (artifact.sha256,))
                else:
                    row = (planted.raw[:-1] if table == "broken" else planted.raw, artifact.sha256)
                    sql.execute("UPDATE tables SET digests = ? WHERE digest = ?", row)
                if table == "evil by its own name":
                    name = (planted.digest, artifact.sha256)
                    sql.execute("UPDATE tables SET table_digest = ? WHERE digest = ?", name)
            await run(world.order(provider), transport, store, world.watcher)
    assert kernel.read_bytes() == FILES["kernel"]


async def test_what_was_not_asked_for_is_no_less_read_where_it_lies(
    autojump_clock: MockClock, world: World
) -> None:
    """`manifest.json` vouches for all that lies beside it, and a command line boots as much as a kernel does."""
    out, silent = world.directory / "out", manifest_of(cmdline=None)
    async with world.provider(silent) as provider, world.client() as (transport, store):
        await run(world.order(provider), transport, store, world.watcher)
        only_kernel = world.order(provider, artifacts=("kernel",))
        assert (await run(only_kernel, transport, store, world.watcher)).unchanged
        (out / "initramfs").write_bytes(evil("initramfs"))
        (out / "cmdline").write_bytes(b"init=/bin/sh")
        result = await run(only_kernel, transport, store, world.watcher)
    assert not result.unchanged
    assert placed(out) == {"kernel", "rootfs", "manifest.json", "manifest.json.sig"}


async def test_nobody_there_leaves_the_files_alone(autojump_clock: MockClock, world: World) -> None:
    async with world.provider(V1) as provider, world.client() as (transport, store):
        await run(world.order(provider), transport, store, world.watcher)
    async with world.client() as (transport, store):
        order = world.order(bootstrap=("/ip4/10.9.9.9/tcp/1",), timeout_s=3)
        with pytest.raises(NotFoundError, match=r"no peer answered.*10\.9\.9\.9"):
            await run(order, transport, store, world.watcher)
    assert placed(world.directory / "out") == ALL


async def test_a_new_version_replaces_the_old_one(autojump_clock: MockClock, world: World) -> None:
    async with world.provider(V1) as provider, world.client() as (transport, store):
        await run(world.order(provider), transport, store, world.watcher)
        offer(provider.store, V2, NEW_FILES)
        result = await run(world.order(provider), transport, store, world.watcher)
        assert (world.directory / "out" / "kernel").read_bytes() == NEW_FILES["kernel"]
        assert result.ledger.downloaded_bytes == len(NEW_FILES["kernel"])


async def test_an_older_version_is_refused_by_a_client_with_memory(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.provider(V1) as old, world.provider(V2, NEW_FILES) as new:
        async with world.client() as (transport, store):
            await run(world.order(new), transport, store, world.watcher)
        async with world.client() as (transport, store):
            with pytest.raises(Refused) as refused:
                await run(world.order(old), transport, store, world.watcher)
    assert refused.value.verdict.reason == "rollback"
    assert (world.directory / "out" / "kernel").read_bytes() == NEW_FILES["kernel"]


async def test_equivocation_is_refused_and_kept_as_evidence(autojump_clock: MockClock, world: World) -> None:
    other = manifest_of(cmdline="evil")
    async with world.provider(V1) as one, world.provider(other) as two, world.client() as (transport, store):
        with pytest.raises(Refused) as refused:
            await run(world.order(one, two), transport, store, world.watcher)
        assert refused.value.verdict.reason == "equivocation"
        assert placed(world.directory / "out") == set()
        (evidence,) = store.trust.equivocations()
        assert {evidence.first, evidence.second} == {V1.raw, other.raw}
    async with world.provider(V1) as one, world.client() as (transport, store):  # one half of it alone, later
        with pytest.raises(ManifestError, match="signed twice"):
            await run(world.order(one), transport, store, world.watcher)


async def come_late(client: Transport, provider: Provider) -> None:
    await trio.sleep(1)
    await client.dial(provider.address)


def blobs_in(store: Store) -> set[str]:
    return {
        artifact_of(key, data).sha256
        for files in (FILES, NEW_FILES)
        for key, data in files.items()
        if store.blobs.held(artifact_of(key, data).sha256) is not None
    }


async def test_the_transfer_goes_on_beside_the_grace_for_who_has_not_answered(
    autojump_clock: MockClock, world: World
) -> None:
    seen: list[tuple[float, bool, bool]] = []
    async with (
        world.provider(V1) as provider,
        world.provider(V1) as mute,
        world.client() as (transport, store),
    ):
        world.network.limit_upload(provider.peer_id, SIZE / 1.5)
        await transport.dial(mute.address)
        world.network.freeze(mute.peer_id)
        world.watcher.on_artifact = lambda _key, done: seen.append(
            (trio.current_time(), not store.trust.heads_of("stable", "x86_64"), done > 0)
        )
        await run(world.order(provider), transport, store, world.watcher)
        assert trio.current_time() < 2.5  # 2 s of grace and 1.5 s of transfer
    early = [(unknown, done) for at, unknown, done in seen if at < 2]
    assert (True, True) in early
    assert all(unknown for unknown, _done in early)
    assert placed(world.directory / "out") == ALL


async def test_nothing_is_placed_or_remembered_before_the_grace_is_over(
    autojump_clock: MockClock, world: World, nursery: trio.Nursery
) -> None:
    async with (
        world.provider(V1) as provider,
        world.provider(V1) as mute,
        world.client() as (transport, store),
    ):
        await transport.dial(mute.address)
        world.network.freeze(mute.peer_id)
        nursery.start_soon(run, world.order(provider), transport, store, world.watcher)
        await trio.sleep(1.9)
        assert blobs_in(store) == {artifact.sha256 for artifact in V1.artifacts.values()}
        assert placed(world.directory / "out") == set()
        assert not store.trust.heads_of("stable", "x86_64")
        await trio.sleep(0.5)
        assert placed(world.directory / "out") == ALL
        assert store.trust.heads_of("stable", "x86_64")


async def test_a_newer_manifest_ends_a_transfer_that_was_begun(
    autojump_clock: MockClock, world: World, nursery: trio.Nursery
) -> None:
    async with (
        world.provider(V1) as first,
        world.provider(V2, NEW_FILES) as newer,
        world.provider(V1) as mute,
        world.client() as (transport, store),
    ):
        world.network.limit_upload(first.peer_id, SIZE / 3)
        await transport.dial(mute.address)
        world.network.freeze(mute.peer_id)
        nursery.start_soon(come_late, transport, newer)
        result = await run(world.order(first), transport, store, world.watcher)
        assert (world.directory / "out" / "kernel").read_bytes() == NEW_FILES["kernel"]
        assert result.ledger.received[first.peer_id] > 0
        assert trio.current_time() < 5
        assert blobs_in(store) == {artifact.sha256 for artifact in V2.artifacts.values()}


async def test_a_contradiction_ends_a_transfer_and_leaves_nothing_of_it(
    autojump_clock: MockClock, world: World, nursery: trio.Nursery
) -> None:
    other = manifest_of(NEW_FILES, 1, cmdline="other")
    async with (
        world.provider(V1) as first,
        world.provider(other, NEW_FILES) as second,
        world.provider(V1) as mute,
        world.client() as (transport, store),
    ):
        await transport.dial(mute.address)
        world.network.freeze(mute.peer_id)
        nursery.start_soon(come_late, transport, second)
        with pytest.raises(Refused):
            await run(world.order(first), transport, store, world.watcher)
        assert blobs_in(store) == set()
        assert placed(world.directory / "out") == set()


async def test_with_memory_the_first_of_two_stays_and_the_second_is_evidence(
    autojump_clock: MockClock, world: World
) -> None:
    other = manifest_of(cmdline="evil")
    async with world.provider(V1) as one, world.provider(other) as two, world.client() as (transport, store):
        await run(world.order(one), transport, store, world.watcher)
        result = await run(world.order(one, two), transport, store, world.watcher)
        assert result.verdict.digest == V1.digest
        assert len(store.trust.equivocations()) == 1
        assert any("signed twice" in warning for warning in result.warnings)
        assert (await run(world.order(one, two), transport, store, world.watcher)).unchanged


async def test_a_bad_detached_signature_is_left_out_and_its_peer_named(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.provider(V1, detached=False) as provider, world.client() as (transport, store):
        provider.store.manifests.put(V1, "A" * 86 + "==")
        result = await run(world.order(provider), transport, store, world.watcher)
    assert placed(world.directory / "out") == ALL - {"manifest.json.sig"}
    assert any(provider.peer_id in warning for warning in result.warnings)


async def test_a_corrupt_peer_alone_fails_soon_and_leaves_nothing(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.provider(V1, blobs=CorruptBlobs) as liar, world.client() as (transport, store):
        with pytest.raises(FetchError, match=liar.peer_id):
            await run(world.order(liar, timeout_s=600), transport, store, world.watcher)
        assert trio.current_time() < 10
        assert store.blobs.used_bytes() == 0
    assert placed(world.directory / "out") == set()


async def test_what_nobody_gives_takes_no_room(autojump_clock: MockClock, world: World) -> None:
    """Its manifest and its tables are to be had, and not one piece."""

    def nothing(blobs: BlobStore) -> BlobsProxy:
        return PartialBlobs(blobs, lambda _index: False)

    async with world.provider(V1, blobs=nothing) as peer, world.client() as (transport, store):
        with pytest.raises(FetchError, match="rootfs"):
            await run(world.order(peer, timeout_s=5), transport, store, world.watcher)
        assert store.blobs.used_bytes() == 0


async def test_what_can_never_be_whole_leaves_nothing(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def contradict(self: PartialBlob) -> Path:
        raise BlobCorrupt(self.digest, "cd" * 32)

    async with world.provider(V1) as peer, world.client() as (transport, store):
        monkeypatch.setattr(PartialBlob, "finish", contradict)
        with pytest.raises(ManifestError, match="every piece is what the manifest says"):
            await run(world.order(peer), transport, store, world.watcher)
        assert store.blobs.used_bytes() == 0


async def test_a_corrupt_peer_is_named_in_the_result(autojump_clock: MockClock, world: World) -> None:
    async with (
        world.provider(V1, blobs=CorruptBlobs) as liar,
        world.provider(V1) as honest,
        world.client() as (transport, store),
    ):
        result = await run(world.order(liar, honest), transport, store, world.watcher)
        assert list(result.ledger.dropped) == [liar.peer_id]
        assert result.ledger.wasted_bytes == result.ledger.received[liar.peer_id]


async def test_only_selected_artifacts_are_fetched(autojump_clock: MockClock, world: World) -> None:
    files = {**FILES, "dtbs/board": content("board", 500), "dtbs/other": content("other", 500)}
    async with world.provider(manifest_of(files), files) as provider, world.client() as (transport, store):
        order = world.order(provider, artifacts=("kernel", "board.dtb"))
        result = await run(order, transport, store, world.watcher)
    assert placed(world.directory / "out") == {
        "kernel",
        "dtbs",
        "manifest.json",
        "manifest.json.sig",
        "cmdline",
    }
    assert (world.directory / "out" / "dtbs" / "board.dtb").read_bytes() == files["dtbs/board"]
    assert result.ledger.downloaded_bytes == len(FILES["kernel"]) + 500


def test_artifacts_are_found_by_key_and_by_file_name() -> None:
    manifest = manifest_of({**FILES, "dtbs/board": b"tree"})
    for name in ("dtbs/board", "board.dtb", "dtbs/board.dtb"):
        assert [a.key for a in select_artifacts(manifest, [name])] == ["dtbs/board"]
    with pytest.raises(UsageError, match="no artifact bord") as error:
        select_artifacts(manifest, ["bord"])
    assert error.value.remedy == "it has dtbs/board, initramfs, kernel, rootfs"


def test_all_device_trees_are_selected_at_once_however_they_come() -> None:
    single = manifest_of({**FILES, "dtbs/a": b"a", "dtbs/b": b"b"})
    assert [a.key for a in select_artifacts(single, ["dtbs"])] == ["dtbs/a", "dtbs/b"]
    archived = manifest_of({**FILES, "dtbs.tar": b"archive"})
    for name in ("dtbs", "dtbs.tar"):
        assert [a.key for a in select_artifacts(archived, ["kernel", name])] == ["dtbs.tar", "kernel"]
    with pytest.raises(UsageError, match="no artifact dtbs/qcom/x") as error:
        select_artifacts(archived, ["dtbs/qcom/x.dtb"])
    assert error.value.remedy == "its device trees come all at once, as dtbs"


def test_a_uki_is_selected_like_any_other() -> None:
    manifest = manifest_of({"uki": b"uki", "rootfs": b"r"})
    assert [a.key for a in select_artifacts(manifest, [])] == ["rootfs", "uki"]
    assert [a.key for a in select_artifacts(manifest, ["uki"])] == ["uki"]


@pytest.mark.parametrize("after_s", [0.2, 1.1, 2.3, 3.9])
async def test_an_interrupted_fetch_leaves_no_final_name_and_resumes(
    autojump_clock: MockClock, world: World, after_s: float
) -> None:
    async with world.provider(V1) as provider:
        world.network.limit_upload(provider.peer_id, 1 << 20)
        async with world.client() as (transport, store):
            with trio.move_on_after(after_s):
                await run(world.order(provider), transport, store, world.watcher)
        had = sum(world.watcher.done.values())
        assert placed(world.directory / "out") == set()
        async with world.client() as (transport, store):
            result = await run(world.order(provider), transport, store, world.watcher)
    assert placed(world.directory / "out") == ALL
    assert result.ledger.downloaded_bytes == SIZE - had


async def test_peers_found_by_discovery_are_used(autojump_clock: MockClock, world: World) -> None:
    send, hints = trio.open_memory_channel[str](4)
    async with world.provider(V1) as provider, world.client() as (transport, store):
        await send.send("/ip4/10.9.9.9/tcp/1")
        await send.send(provider.address)
        result = await run(world.order(), transport, store, world.watcher, hints=hints)
    assert result.ledger.downloaded_bytes == SIZE


async def test_old_versions_do_not_pile_up_in_the_state(autojump_clock: MockClock, world: World) -> None:
    async with world.provider() as provider, world.client() as (transport, store):
        for version in (1, 2, 3):
            files = {**FILES, "kernel": content(f"kernel {version}", PIECE)}
            manifest = manifest_of(files, version)
            offer(provider.store, manifest, files)
            await run(world.order(provider), transport, store, world.watcher)
        held = {path.name for path in (world.directory / "state" / "blobs").rglob("*") if path.is_file()}
        assert len(held) == len(FILES) + 1  # the current kernel and the previous one


async def test_a_wrong_address_is_wrong_usage(autojump_clock: MockClock, world: World) -> None:
    async with world.client() as (transport, store):
        with pytest.raises(UsageError, match="nonsense"):
            await run(world.order(bootstrap=("nonsense",)), transport, store, world.watcher)
