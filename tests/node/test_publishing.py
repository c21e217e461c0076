"""When a directory is built, and what is put into force."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pboot.core.pieces import MIN_PIECE
from p2pboot.errors import ArtifactError, MachineError, StoreError
from p2pboot.node import building
from p2pboot.node.publishing import CHECK_S
from p2pboot.node.quiet import QUIET_S, SETTLED_S
from p2pboot.publish.build import build as build_tree
from p2pboot.store.hashing import ChangedWhileHashing
from p2pboot.store.publications import Publications
from p2pboot.store.store import Store
from tests.node.desk import KEY, Desk
from tests.node.world import PAIR, signed, until, write_tree


async def test_what_is_there_at_the_start_is_published_at_once(desk: Desk, autojump_clock: None) -> None:
    async with desk.running():
        assert desk.versions == [1]


async def test_at_the_start_a_copy_is_waited_for_until_it_has_settled(
    desk: Desk, autojump_clock: None
) -> None:
    desk.busy_until = trio.current_time() + 50
    async with desk.running():
        await trio.sleep(100)
        (built,) = desk.builds
        assert SETTLED_S <= built - desk.busy_until <= 1.5 * SETTLED_S


async def test_a_change_is_published_when_the_directory_was_quiet(desk: Desk, autojump_clock: None) -> None:
    async with desk.running():
        write_tree(desk.directory, "second")
        for _ in range(10):
            desk.busy_until = trio.current_time()
            desk.changed()
            await trio.sleep(QUIET_S - 1)
        assert desk.versions == [1]
        await trio.sleep(QUIET_S / 4 + 1)
        assert desk.versions == [1, 2]


async def test_without_events_a_change_is_found_and_waited_for_all_the_same(
    desk: Desk, autojump_clock: None
) -> None:
    async with desk.running():
        write_tree(desk.directory, "second")
        desk.busy_until = trio.current_time() + CHECK_S + 100
        await trio.sleep(CHECK_S + 99)
        assert desk.versions == [1]
        await trio.sleep(QUIET_S * 1.25 + 2)
        assert desk.versions == [1, 2]


async def test_a_file_that_changes_while_it_is_hashed_is_tried_again(
    desk: Desk, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk.running():
        with monkeypatch.context() as patch:
            patch.setattr(
                building,
                "build",
                lambda *_a, **_o: (_ for _ in ()).throw(ChangedWhileHashing(Path("kernel"))),
            )
            desk.changed()
            await trio.sleep(QUIET_S + 1)
            assert desk.said() == ["still-changing: kernel changed while it was being hashed"]
        await trio.sleep(QUIET_S + 1)
        assert not desk.problems.all()


async def test_a_problem_is_told_once_and_gone_when_it_is_mended(
    desk: Desk, autojump_clock: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk.running():
        kernel = desk.directory.joinpath(*PAIR, "kernel")
        kernel.rename(desk.directory / "aside")
        await trio.sleep(5 * CHECK_S)
        assert "unpublishable: no kernel" in desk.said()[0]
        assert caplog.text.count("no kernel") == 1
        with pytest.raises(ArtifactError):
            await desk.publisher.publish_now()
        (desk.directory / "aside").rename(kernel)
        (again,) = (await desk.publisher.publish_now()).published
        assert again.unchanged
        assert not desk.said()
    assert desk.versions == [1]


async def test_one_tree_that_can_not_be_published_does_not_keep_the_others_back(
    desk: Desk, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = build_tree

    def fail_arm(tree: Any, *args: Any, **options: Any) -> Any:
        if tree.arch == "arm64":
            raise ArtifactError("not this one")
        return build(tree, *args, **options)

    write_tree(desk.directory, "image", ("stable", "arm64"))
    monkeypatch.setattr(building, "build", fail_arm)
    async with desk.running():
        assert [one.manifest.arch for one in desk.published] == ["x86_64"]
        assert desk.said("stable/arm64") == ["unpublishable: not this one"]
        assert not desk.said("stable/x86_64")


async def test_a_node_restarted_on_the_same_content_publishes_the_same_bytes(
    desk: Desk, autojump_clock: None
) -> None:
    async with desk.running():
        pass
    second = Desk(desk.directory, desk.store)
    async with second.running():
        assert second.published[0].manifest.raw == desk.published[0].manifest.raw


async def test_what_is_cut_anew_is_offered_by_the_former_cut_as_well(
    desk: Desk, autojump_clock: None
) -> None:
    """Also by a node that was started with the other length, and read nothing yet."""
    (write_tree(desk.directory, "image") / "kernel").write_bytes(bytes(range(256)) * 1024)
    async with desk.running():
        former = desk.published[0].manifest
    second = Desk(desk.directory, desk.store)
    second.options = replace(second.options, piece_length=2 * MIN_PIECE)
    desk.store.blobs.serve_in_place(())
    async with second.running():
        (anew,) = (one.manifest for one in second.published)
        assert anew.artifacts["kernel"].piece_length == 2 * MIN_PIECE
        for one in (former, anew):
            assert desk.store.manifests.is_whole(one.digest)
            kernel = one.artifacts["kernel"]
            table = desk.store.blobs.table(kernel.sha256, kernel.table_digest)
            assert table is not None
            assert table.piece_length == kernel.piece_length
        kernel = anew.artifacts["kernel"]
        newest = desk.store.blobs.table(kernel.sha256)
        assert newest is not None
        assert newest.digest == kernel.table_digest


async def test_own_manifests_that_come_back(desk: Desk, autojump_clock: None) -> None:
    async with desk.running():
        (own,) = desk.published
        await desk.publisher.saw_own(own.manifest)
        await trio.sleep(1)
        assert desk.versions == [1]
        for version, expected in ((1, 2), (9, 10), (3, 10)):  # an equal number, a higher one, an old one
            await desk.publisher.saw_own(signed(version, seed=f"elsewhere {version}"))
            await trio.sleep(CHECK_S)
            assert desk.versions[-1] == expected
        assert desk.store.publications.counter([KEY.public.keyid], *PAIR) == 10


async def test_a_number_seen_before_the_first_build_is_counted_on_from(
    desk: Desk, autojump_clock: None
) -> None:
    await desk.publisher.saw_own(signed(41, seed="elsewhere"))
    async with desk.running():
        assert desk.versions == [42]


async def test_a_new_key_of_the_same_publisher_counts_on(desk: Desk, autojump_clock: None) -> None:
    old = signed(17, "old key")
    desk.store.trust.accept(old)
    desk.trust(KEY.public.keyid, *old.signers)
    async with desk.running():
        assert desk.versions == [18]
        await trio.sleep(3 * CHECK_S)
    assert desk.versions == [18]


async def test_outbidding_slows_down(desk: Desk, autojump_clock: None) -> None:
    async with desk.running():
        at: list[float] = []
        for _ in range(8):
            await desk.publisher.saw_own(signed(desk.versions[-1] + 1, seed="the other node"))
            count = len(desk.versions)
            await until(lambda count=count: len(desk.versions) > count, within_s=1000)  # type: ignore[misc]
            at.append(trio.current_time())
    waits = [round(after - before) for before, after in itertools.pairwise(at)]
    assert waits == [pytest.approx(expected, abs=1) for expected in (10, 20, 40, 80, 160, 300, 300)]


async def test_a_number_that_can_not_be_noted_is_still_avoided(
    desk: Desk, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise StoreError("disk")

    async with desk.running():
        with monkeypatch.context() as patch:
            patch.setattr(desk.store.publications, "record", fail)
            await desk.publisher.saw_own(signed(5, seed="elsewhere"))
        await trio.sleep(1)
        assert desk.versions == [1, 6]


async def test_files_are_hashed_in_a_thread_that_ends_when_it_is_cancelled(tmp_path: Path) -> None:
    """A terabyte takes half an hour, and SIGTERM does not."""
    leaf = write_tree(tmp_path / "artifacts", "image")
    with (leaf / "rootfs.img").open("wb") as rootfs:
        rootfs.truncate(1 << 40)
    with Store.open(tmp_path / "state") as store:
        desk = Desk(leaf.parent.parent, store)
        loop = threading.get_ident()
        hashing = trio.Event()
        stop = building._stop_when_cancelled

        def note(done: int, total: int) -> None:
            assert threading.get_ident() != loop
            if done > 10 << 20:
                trio.from_thread.run_sync(hashing.set)
            stop(done, total)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(building, "_stop_when_cancelled", note)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(desk.publisher.publish_now)
                await hashing.wait()
                nursery.cancel_scope.cancel()
        assert not desk.published


async def test_a_state_directory_that_fails_for_a_while_is_a_problem_and_ends_nothing(
    desk: Desk, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk.running():
        with monkeypatch.context() as broken:
            broken.setattr(Publications, "pairs", fail)
            write_tree(desk.directory, "second")
            desk.changed()
            await trio.sleep(5 * QUIET_S)
            assert [str(problem.code) for problem in desk.problems.all()] == ["state"]
            assert desk.version() >= 1
        await trio.sleep(2 * QUIET_S)
        assert not desk.problems.all()
        assert desk.versions == [1, 2]


def fail(*_args: object) -> None:
    raise MachineError("cannot use state.sqlite3: disk I/O error")
