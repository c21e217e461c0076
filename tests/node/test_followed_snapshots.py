"""Following signers of snapshots: their faults are found once, contradictions are remembered, and damage is mended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2pboot.config.storage import StoreSettings
from p2pboot.core.policy import Publisher
from p2pboot.node.problems import Problems
from p2pboot.protocol.snapshots import SNAPSHOT_TOPIC
from p2pboot.store.blobs import BlobStore
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from p2pboot.testing.network import MemoryNetwork
from tests.core.timetoke.samples import ALICE, BOB, CAROL, announce, payload_of, sign
from tests.node.test_snapshots import NEW, OLD, node, peer, put, until

HOUR_S = 3600


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The snapshot of every chunk that anybody read to send it."""
    reads: list[str] = []
    honest = BlobStore.read

    def read(self: BlobStore, digest: str, *args: Any) -> bytes:
        reads.append(digest)
        return honest(self, digest, *args)

    monkeypatch.setattr(BlobStore, "read", read)
    return reads


def texts(problems: Problems) -> list[str]:
    return [one.text for one in problems.all() if one.code == "not-mirrored"]


def contradict(source: DiskSnapshotStore, payload: bytes, sequence: int, **wrong: str) -> str:
    """Announce something else than was signed; the root."""
    root = source.insert(payload, sign(payload))
    source.announcements.put(announce(payload, ALICE, sequence, **wrong))
    return root


async def test_a_signers_fault_is_found_once_told_and_mended_by_a_higher_sequence(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path, reads: list[str]
) -> None:
    network = MemoryNetwork()
    async with node(network, tmp_path, 1, None) as (_, source, first):
        root = contradict(source, OLD, 1, timetoke_root="00" * 32)
        problems = Problems(lambda: 7)
        async with node(network, tmp_path, 2, problems=problems) as (_, follower, second):
            await second.dial(first.addresses()[0])
            await until(lambda: bool(texts(problems)))
            ((problem),) = problems.all()
            assert f"snapshot {root}, sequence 1, can not be had" in problem.text
            assert problem.remedy == "tell its signers; a higher sequence resumes"
            fetched = reads.count(root)
            assert fetched > 0
            await trio.sleep(HOUR_S)
            assert reads.count(root) == fetched
            assert follower.roots() == ()
            assert follower.announcements.all() == ()  # nobody is offered it
        problems = Problems(lambda: 7)
        async with node(network, tmp_path, 2, problems=problems) as (_, follower, second):
            await until(lambda: bool(texts(problems)))  # nobody is connected yet
            await second.dial(first.addresses()[0])
            await trio.sleep(HOUR_S)
            assert reads.count(root) == fetched
            newer = put(source, NEW, 2)
            await until(lambda: follower.has_snapshot(newer))
            await until(lambda: problems.all() == ())


async def test_one_signers_fault_holds_up_nobody_and_is_not_passed_on(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path
) -> None:
    trusted = Publisher(tuple(key.public.keyid for key in (ALICE, BOB, CAROL)), threshold=2)
    network, problems = MemoryNetwork(), Problems(lambda: 7)
    async with (
        node(network, tmp_path, 1, None) as (_, source, first),
        node(network, tmp_path, 2, trusted, problems) as (_, follower, second),
    ):
        await second.dial(first.addresses()[0])
        root = source.insert(OLD, sign(OLD, BOB))
        source.announcements.put(announce(OLD, ALICE, 1, payload_signature=sign(OLD, BOB)))
        source.announcements.put(announce(OLD, BOB, 1))
        await until(lambda: any(ALICE.public.keyid in text for text in texts(problems)))
        assert BOB.public.keyid not in "".join(texts(problems))
        source.announcements.put(announce(OLD, CAROL, 1))
        await until(lambda: follower.has_snapshot(root))
        await until(lambda: problems.all() == ())
        await trio.sleep(60)
        assert {one.signer for one in follower.announcements.all()} == {
            key.public.keyid for key in (BOB, CAROL)
        }


def remove(path: Path) -> None:
    path.unlink()


def damage(path: Path) -> None:
    path.write_bytes(b"{}")


@pytest.mark.parametrize("happens", [remove, damage])
async def test_what_is_taken_away_or_damaged_comes_back(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path, happens: Callable[[Path], None]
) -> None:
    network = MemoryNetwork()
    async with (
        node(network, tmp_path, 1, None) as (_, source, first),
        node(network, tmp_path, 2) as (_, follower, second),
    ):
        await second.dial(first.addresses()[0])
        root = put(source, OLD, 1)
        await until(lambda: follower.has_snapshot(root))
        path = follower.path(root)
        happens(path)
        await until(lambda: path.exists() and path.read_bytes() == OLD)
        signature = path.with_name(f"{path.name}.sig")
        signature.unlink()
        await until(signature.exists)
        assert follower.signature(root) == sign(OLD)


async def test_what_is_missing_after_a_restart_comes_back_although_nothing_is_announced(
    autojump_clock: MockClock,
    inline_threads: None,
    tmp_path: Path,
) -> None:
    network = MemoryNetwork()
    before = DiskSnapshotStore(tmp_path / "node2")
    root = put(before, OLD, 1)
    before.path(root).unlink()
    async with (
        node(network, tmp_path, 1, None) as (_, source, first),
        node(network, tmp_path, 2) as (_, follower, second),
    ):
        source.insert(OLD, sign(OLD))
        await second.dial(first.addresses()[0])
        await until(lambda: follower.has_snapshot(root))


async def test_what_rotted_before_it_was_verified_is_nobodys_fault(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path
) -> None:
    network, problems = MemoryNetwork(), Problems(lambda: 7)
    async with (
        node(network, tmp_path, 1, None) as (_, source, first),
        node(network, tmp_path, 2, problems=problems) as (_, follower, second),
    ):
        root = source.insert(OLD, sign(OLD))
        partial = follower.blobs.begin(announce(OLD).facts.root, source.table(root))
        assert partial is not None
        for index in partial.held.missing():
            partial.write(index, source.chunk(root, index).data)
        partial.finish()
        follower.blobs.path(root).write_bytes(OLD[:-9] + b"x" * 9)
        source.announcements.put(announce(OLD, ALICE, 1))
        await second.dial(first.addresses()[0])
        await until(lambda: follower.has_snapshot(root))
        assert follower.announcements.faults() == {}


async def test_who_contradicted_itself_is_not_believed_again_after_a_restart(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path
) -> None:
    network = MemoryNetwork()
    async with node(network, tmp_path, 2) as (running, store, _):
        for payload in (OLD, NEW):
            await running._hear(SNAPSHOT_TOPIC, peer(9), announce(payload, ALICE, 5).raw)
        await until(lambda: len(store.announcements.conflicts()) == 1)
    problems = Problems(lambda: 7)
    async with (
        node(network, tmp_path, 1, None) as (_, source, first),
        node(network, tmp_path, 2, problems=problems) as (_, follower, second),
    ):
        put(source, OLD, 5)
        await second.dial(first.addresses()[0])
        await trio.sleep(HOUR_S)
        assert follower.roots() == ()
        assert any("different snapshots are announced under sequence 5" in text for text in texts(problems))
        newer = put(source, payload_of(30), 6)
        await until(lambda: follower.has_snapshot(newer))
        await until(lambda: problems.all() == ())


async def test_a_peer_that_comes_after_a_contradiction_is_asked_as_ever(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path
) -> None:
    network = MemoryNetwork()
    async with (
        node(network, tmp_path, 1, None) as (_, source, first),
        node(network, tmp_path, 2) as (running, follower, second),
    ):
        for payload in (OLD, NEW):
            await running._hear(SNAPSHOT_TOPIC, peer(9), announce(payload, ALICE, 5).raw)
        await second.dial(first.addresses()[0])
        newer = put(source, payload_of(30), 6)
        await until(lambda: follower.has_snapshot(newer))


# -- what signers may make a node hold


async def test_a_snapshot_larger_than_the_largest_artifact_is_not_fetched(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path, reads: list[str]
) -> None:
    network, problems = MemoryNetwork(), Problems(lambda: 7)
    limits = StoreSettings(max_artifact_bytes=len(OLD))
    async with (
        node(network, tmp_path, 1, None) as (_, source, first),
        node(network, tmp_path, 2, problems=problems, limits=lambda: limits) as (_, follower, second),
    ):
        await second.dial(first.addresses()[0])
        small = put(source, OLD, 1)
        await until(lambda: follower.has_snapshot(small))
        large = put(source, NEW, 2)
        await until(lambda: bool(texts(problems)))
        ((problem),) = problems.all()
        assert f"snapshot {large} has {len(NEW)} bytes, more than the {len(OLD)}" in problem.text
        assert problem.remedy == "raise store.max_artifact in the configuration"
        assert large not in reads
        limits = StoreSettings()  # a reload
        await until(lambda: follower.has_snapshot(large))


async def test_what_signers_announce_takes_no_more_than_the_quota(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path, reads: list[str]
) -> None:
    network, problems = MemoryNetwork(), Problems(lambda: 7)
    limits = StoreSettings(quota_bytes=len(OLD) + len(NEW) - 1)
    async with (
        node(network, tmp_path, 1, None) as (_, source, first),
        node(network, tmp_path, 2, problems=problems, limits=lambda: limits) as (_, follower, second),
    ):
        await second.dial(first.addresses()[0])
        old = put(source, OLD, 1)
        await until(lambda: follower.has_snapshot(old))
        new = put(source, NEW, 2)
        await until(lambda: bool(texts(problems)))
        ((problem),) = problems.all()
        assert (
            f"no room for {len(NEW)} bytes in {follower.directory}: {len(OLD)} of its quota" in problem.text
        )
        assert "remove snapshots there" in str(problem.remedy)
        assert new not in reads
        follower.path(old).unlink()
        await until(lambda: follower.has_snapshot(new))


async def test_other_signers_are_followed_without_a_restart_and_nobody_where_nobody_is_named(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path
) -> None:
    network = MemoryNetwork()
    async with (
        node(network, tmp_path, 1, None) as (_, source, first),
        node(network, tmp_path, 2) as (following, follower, second),
    ):
        await second.dial(first.addresses()[0])
        old = put(source, OLD, 1)  # ALICE's
        await until(lambda: follower.has_snapshot(old))
        new = source.insert(NEW, sign(NEW, BOB))
        source.announcements.put(announce(NEW, BOB, 2))
        await trio.sleep(60)
        assert not follower.has_snapshot(new)
        await following.change_trust(None)
        put(source, payload_of(30), 3)
        await trio.sleep(60)
        assert follower.roots() == (old,)
        await following.change_trust(Publisher((BOB.public.keyid,)))
        await until(lambda: follower.has_snapshot(new))
