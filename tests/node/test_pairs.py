"""Each channel and arch stands alone: what is wrong with one neither holds the others up nor ends what was there."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest
import trio

from p2pboot.errors import ArtifactError
from p2pboot.node.publishing import CHECK_S
from p2pboot.node.quiet import QUIET_S
from p2pboot.publish.scan import Tree, Unfit
from p2pboot.store.store import Store
from p2pboot.testing.manifests import DAY_S, NOW
from tests.node.desk import Desk
from tests.node.world import signed, write_tree

TESTING = ("testing", "x86_64")


def half_fill(desk: Desk) -> None:
    leaf = desk.leaf(TESTING)
    leaf.mkdir(parents=True, exist_ok=True)
    (leaf / "vmlinuz").write_bytes(b"the initramfs follows")


def two_kernels(desk: Desk) -> None:
    (write_tree(desk.directory, "testing", TESTING) / "vmlinuz").write_bytes(b"another")


def directory_in_it(desk: Desk) -> None:
    (write_tree(desk.directory, "testing", TESTING) / "old").mkdir()


def empty_file(desk: Desk) -> None:
    (write_tree(desk.directory, "testing", TESTING) / "rootfs").write_bytes(b"")


def expired_manifest(desk: Desk) -> None:
    leaf = write_tree(desk.directory, "testing", TESTING)
    raw = signed(5, "fleet", seed="testing", pair=TESTING, expires_at=NOW).raw
    (leaf / "manifest.json").write_bytes(raw)


UNFIT = [half_fill, two_kernels, directory_in_it, empty_file, expired_manifest]


@pytest.mark.parametrize("spoil", UNFIT)
async def test_an_unfit_pair_holds_no_other_up(
    desk: Desk, autojump_clock: None, spoil: Callable[[Desk], None]
) -> None:
    spoil(desk)
    async with desk.running():
        assert desk.version() == 1  # at the start
        write_tree(desk.directory, "second")
        outcome = await desk.publisher.publish_now()
        assert [one.manifest.manifest_version for one in outcome.published] == [2]  # on demand
        desk.now = NOW + 21 * DAY_S
        await trio.sleep(CHECK_S + 1)
        assert desk.version() == 3  # when it is to be renewed
        problem = desk.problem("unpublishable", "testing/x86_64")
        assert problem is not None
        assert problem.remedy
        assert [one.subject for one in desk.problems.all()] == ["testing/x86_64"]


async def test_a_pair_that_is_being_written_to_delays_no_other(
    desk: Desk, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(desk.directory, "testing", TESTING)

    def testing_is_busy(tree: Tree | Unfit, _quiet_s: float) -> bool:
        return tree.channel == "testing"

    monkeypatch.setattr(desk.publisher._quiet, "_changed_within", testing_is_busy)
    async with desk.running():
        write_tree(desk.directory, "second")
        desk.changed()
        await trio.sleep(QUIET_S + 1)
        assert (desk.version(), desk.version(TESTING)) == (2, 0)
        assert desk.problem("still-changing", "testing/x86_64") is not None
        desk.now = NOW + 21 * DAY_S
        await trio.sleep(CHECK_S + 1)
        assert desk.version() == 3
        monkeypatch.setattr(desk.publisher._quiet, "_changed_within", lambda *_: False)
        await trio.sleep(QUIET_S)
        assert desk.version(TESTING) == 1
        assert not desk.problems.all()


async def test_what_was_published_on_demand_is_not_said_to_be_changing(
    desk: Desk, autojump_clock: None
) -> None:
    async with desk.running():
        write_tree(desk.directory, "second")
        desk.busy_until = trio.current_time() + 1000
        await desk.publisher.publish_now()
        desk.changed()
        await trio.sleep(2 * QUIET_S)
        assert not desk.problems.all()
        (desk.leaf() / "rootfs").write_bytes(b"on its way")
        await trio.sleep(2 * QUIET_S)
        assert desk.problem("still-changing") is not None
        assert desk.versions == [1, 2]


async def test_what_was_published_is_offered_and_renewed_while_its_files_last(
    desk: Desk, autojump_clock: None
) -> None:
    async with desk.running():
        (desk.leaf() / "old").mkdir()  # nothing that can be published, and the files are what they were
        desk.changed()
        await trio.sleep(QUIET_S + 1)
        assert desk.problem("unpublishable") is not None
        assert desk.version() == 1
        desk.now = NOW + 21 * DAY_S
        await trio.sleep(CHECK_S + 1)
        assert desk.version() == 2
        first, second = (one.manifest for one in desk.published)
        assert second.artifacts == first.artifacts
        assert (second.version, second.expires_at) == (first.version, desk.now + 30 * DAY_S)
        with pytest.raises(ArtifactError, match="old"):  # the operator asked for what lies there
            await desk.publisher.publish_now()


async def test_it_names_the_addresses_of_today(desk: Desk, autojump_clock: None) -> None:
    desk.options = replace(desk.options, urls=("http://192.0.2.1:8080",))
    async with desk.running():
        (desk.leaf() / "old").mkdir()
        desk.options = replace(desk.options, urls=("http://192.0.2.9:8080", "http://192.0.2.1:8080"))
        desk.publisher.due_within(0)
        await trio.sleep(1)
        kernel = desk.published[-1].manifest.artifacts["kernel"]
        assert kernel.urls == (f"http://192.0.2.9:8080/blobs/{kernel.sha256}",)
        await trio.sleep(2 * CHECK_S)
        assert desk.versions == [1, 2]


@pytest.mark.parametrize("archived", [False, True])
async def test_it_is_offered_and_renewed_after_a_restart_too(
    desk: Desk, autojump_clock: None, archived: bool
) -> None:
    if archived:
        (desk.leaf() / "dtbs" / "vendor").mkdir(parents=True)
        (desk.leaf() / "dtbs" / "vendor" / "board.dtb").write_bytes(b"a device tree")
    async with desk.running():
        pass
    assert ("dtbs.tar" in desk.published[0].manifest.artifacts) is archived
    (desk.leaf() / "old").mkdir()
    (desk.leaf() / "kernel").rename(desk.leaf() / "vmlinuz-6.1")
    with Store.open(desk.store.path) as store:  # what a process knows of files in place ends with it
        second = Desk(desk.directory, store)
        second.busy_until = -1000
        assert second.version() == 0
        async with second.running():
            assert second.version() == 1
            assert second.problem("unpublishable") is not None
            second.now = NOW + 21 * DAY_S
            await trio.sleep(CHECK_S + 1)
            assert second.version() == 2


async def test_what_was_overwritten_is_not_renewed(desk: Desk, autojump_clock: None) -> None:
    async with desk.running():
        kernel = desk.leaf() / "kernel"
        kernel.write_bytes(bytes(kernel.stat().st_size))
        os.utime(kernel, (1, 1))
        (desk.leaf() / "old").mkdir()
        desk.now = NOW + 21 * DAY_S
        await trio.sleep(2 * CHECK_S)
        assert desk.versions == [1]
        assert desk.version() == 0


async def test_a_half_filled_pair_does_not_bring_back_what_another_node_superseded(
    desk: Desk, autojump_clock: None
) -> None:
    async with desk.running():
        (desk.leaf() / "old").mkdir()
        await desk.publisher.saw_own(signed(2, seed="the other node is further", provider_name="other"))
        desk.now = NOW + 21 * DAY_S
        await trio.sleep(2 * CHECK_S)
        assert desk.versions == [1]


async def test_strange_directories_are_one_problem_that_names_them(
    desk: Desk, autojump_clock: None, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("lost and found", "stable/s390x"):
        (desk.directory / name).mkdir()
    async with desk.running():
        await trio.sleep(3 * CHECK_S)
        (problem,) = desk.problems.all()
        assert (problem.code, problem.subject) == ("unknown-directory", str(desk.directory))
        assert "lost and found" in problem.text
        assert "s390x" in problem.text
        assert desk.version() == 1
    assert caplog.text.count("unknown-directory:") == 1


async def test_a_directory_that_can_not_be_reached_is_said_and_withdraws_nothing(
    desk: Desk, autojump_clock: None
) -> None:
    aside = desk.directory.parent / "aside"
    desk.leaf().rename(aside)
    write_tree(desk.directory, "testing", TESTING)
    desk.leaf().symlink_to(desk.directory / "inside")
    aside.rename(desk.directory / "inside")
    async with desk.running():
        assert desk.version() == 1
        (desk.directory / "inside").rename(aside)  # a link to nothing
        await trio.sleep(CHECK_S)
        problem = desk.problem("unpublishable")
        assert problem is not None
        assert "reached" in problem.text
        assert desk.problem("withdrawn") is None


async def test_a_directory_that_is_away_keeps_everything_and_says_so(
    desk: Desk, autojump_clock: None
) -> None:
    async with desk.running():
        away = desk.directory.parent / "away"
        desk.directory.rename(away)
        await trio.sleep(CHECK_S)
        (problem,) = desk.problems.all()
        assert (problem.code, problem.subject) == ("directory", str(desk.directory))
        away.rename(desk.directory)
        assert desk.version() == 1  # at once: nobody has to look first
        await trio.sleep(CHECK_S)
        assert not desk.problems.all()
        assert desk.versions == [1]
