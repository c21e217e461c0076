"""What is taken out of the directory is not offered any more, and said to be kept by mirrors until it expires."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from p2pboot.core.manifest import Manifest
from p2pboot.core.problems import Problem
from p2pboot.errors import ArtifactError
from p2pboot.node.publishing import CHECK_S
from p2pboot.node.quiet import QUIET_S
from p2pboot.publish.build import BuildOptions, build
from p2pboot.testing.manifests import DAY_S, NOW
from tests.node.desk import KEY, Desk
from tests.node.world import PAIR, Mesh, signed, trusting, until, write_tree
from tests.publish.trees import scan

TESTING = ("testing", "x86_64")
SUBJECT = "testing/x86_64"


def withdrawn(desk: Desk) -> Problem | None:
    return desk.problem("withdrawn", SUBJECT)


def remove_channel(leaf: Path) -> None:
    shutil.rmtree(leaf.parent)


def remove_leaf(leaf: Path) -> None:
    shutil.rmtree(leaf)


def empty(leaf: Path) -> None:
    for path in leaf.iterdir():
        path.unlink()


@pytest.mark.parametrize("remove", [remove_channel, remove_leaf, empty])
async def test_what_is_gone_is_withdrawn_on_demand(
    desk: Desk, autojump_clock: None, remove: Callable[[Path], None]
) -> None:
    leaf = write_tree(desk.directory, "testing", TESTING)
    async with desk.running():
        assert desk.version(TESTING) == 1
        remove(leaf)
        outcome = await desk.publisher.publish_now()
        assert [one.manifest.channel for one in outcome.published] == ["stable"]
        (gone,) = outcome.withdrawn
        assert (gone.channel, gone.arch, gone.manifest_version) == (*TESTING, 1)
        assert gone.expires_at == NOW + 30 * DAY_S
        problem = withdrawn(desk)
        assert problem is not None
        assert "2027-02-14" in problem.text  # until when mirrors keep it
        assert not desk.store.manifests.current()[1:]  # it knows nothing of it
        assert desk.version() == 1


async def test_it_is_withdrawn_unasked_once_it_has_been_gone_for_a_while(
    desk: Desk, autojump_clock: None
) -> None:
    leaf = write_tree(desk.directory, "testing", TESTING)
    async with desk.running():
        leaf.rename(desk.directory / "aside")
        desk.changed()
        await trio.sleep(QUIET_S + 1)
        assert withdrawn(desk) is None  # seen for the first time: it may be being replaced
        (desk.directory / "aside").rename(leaf)
        await trio.sleep(2 * QUIET_S)
        assert withdrawn(desk) is None
        leaf.rename(desk.directory / "aside")
        desk.changed()
        await trio.sleep(2 * QUIET_S + 1)
        assert withdrawn(desk) is not None
        assert len(desk.published) == 2


async def test_it_stands_over_restarts_until_it_has_expired(desk: Desk, autojump_clock: None) -> None:
    leaf = write_tree(desk.directory, "testing", TESTING)
    async with desk.running():
        remove_channel(leaf)
        await desk.publisher.publish_now()
    for day, expected in ((1, True), (29, True), (30, False)):
        later = Desk(desk.directory, desk.store)
        later.busy_until = -1000
        later.now = NOW + day * DAY_S
        async with later.running():
            await trio.sleep(CHECK_S)
            assert (withdrawn(later) is not None) is expected


async def test_what_was_taken_away_while_the_node_was_down_is_withdrawn(
    desk: Desk, autojump_clock: None
) -> None:
    leaf = write_tree(desk.directory, "testing", TESTING)
    async with desk.running():
        pass
    remove_channel(leaf)
    later = Desk(desk.directory, desk.store)
    later.busy_until = -1000
    async with later.running():
        await trio.sleep(CHECK_S)
        assert withdrawn(later) is not None
        assert len(later.store.manifests.current()) == 1


async def test_what_comes_back_is_published_as_it_was(desk: Desk, autojump_clock: None) -> None:
    leaf = write_tree(desk.directory, "testing", TESTING)
    async with desk.running():
        before = next(one.manifest for one in desk.published if one.manifest.channel == "testing")
        remove_channel(leaf)
        await desk.publisher.publish_now()
        write_tree(desk.directory, "testing", TESTING)
        await desk.publisher.publish_now()
        assert desk.published[-1].manifest.raw == before.raw
        assert desk.version(TESTING) == 1
        assert withdrawn(desk) is None
        remove_channel(leaf)
        await desk.publisher.publish_now()
        write_tree(desk.directory, "something else", TESTING)
        await desk.publisher.publish_now()
        assert desk.version(TESTING) == 2


async def test_what_is_merely_unfit_is_not_withdrawn(desk: Desk, autojump_clock: None) -> None:
    leaf = write_tree(desk.directory, "testing", TESTING)
    async with desk.running():
        (leaf / "kernel").unlink()
        outcome = await desk.publisher.publish_now()
        assert outcome.withdrawn == ()
        assert withdrawn(desk) is None
        assert desk.problem("unpublishable", SUBJECT) is not None


@pytest.mark.parametrize("kind", ["missing", "not mounted"])
async def test_a_directory_that_is_not_there_withdraws_nothing(
    desk: Desk, autojump_clock: None, kind: str
) -> None:
    async with desk.running():
        away = desk.directory.parent / "away"
        desk.directory.rename(away)
        if kind == "not mounted":
            desk.directory.mkdir()
        with pytest.raises(ArtifactError):
            await desk.publisher.publish_now()
        await trio.sleep(3 * CHECK_S)
        assert [problem.code for problem in desk.problems.all()] == ["directory"]
        shutil.rmtree(desk.directory, ignore_errors=True)
        away.rename(desk.directory)
        assert desk.version() == 1


async def test_the_last_release_can_be_withdrawn_too(desk: Desk, autojump_clock: None) -> None:
    async with desk.running():
        shutil.rmtree(desk.leaf().parent)
        outcome = await desk.publisher.publish_now()
        assert [one.manifest_version for one in outcome.withdrawn] == [1]
        assert desk.problem("withdrawn") is not None
        assert desk.store.manifests.current() == []


async def test_another_choice_of_channels_withdraws_nothing(desk: Desk, autojump_clock: None) -> None:
    leaf = write_tree(desk.directory, "testing", TESTING)
    async with desk.running():
        pass
    remove_channel(leaf)
    stable = Desk(desk.directory, desk.store)
    stable.busy_until = -1000
    stable.channel = "stable"
    async with stable.running():
        await trio.sleep(CHECK_S)
        assert withdrawn(stable) is None


async def test_what_was_only_built_with_this_state_was_never_offered(
    desk: Desk, autojump_clock: None
) -> None:
    elsewhere = write_tree(desk.directory.parent / "elsewhere", "testing", TESTING).parent.parent
    (tree,) = scan(elsewhere)
    build(tree, BuildOptions(name="by hand"), keys=(KEY,), store=desk.store, now=NOW)
    async with desk.running():
        await trio.sleep(CHECK_S)
        assert not desk.problems.all()


async def test_a_release_that_others_signed_is_withdrawn_with_its_directory(
    desk: Desk, autojump_clock: None
) -> None:
    leaf = write_tree(desk.directory, "testing", TESTING)
    raw = signed(41, "fleet", seed="testing", pair=TESTING).raw
    (leaf / "manifest.json").write_bytes(raw)
    async with desk.running():
        assert desk.version(TESTING) == 41
        remove_channel(leaf)
        await desk.publisher.publish_now()
        assert [row.channel for row in desk.store.manifests.current()] == ["stable"]


async def test_a_withdrawn_release_does_not_come_back_from_its_mirrors(
    mesh: Mesh, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with mesh.node("mirror", trust=trusting("publisher")) as mirror:
        network = {"bootstrap": (mirror.address,)}
        # It even trusts its own key for everything, as a node does that mirrors its twin.
        async with mesh.publisher(network=network, trust=trusting("publisher")) as publisher:
            directory = publisher.settings.provider.directory
            write_tree(directory, "testing", TESTING)
            await publisher.ask(op="publish")
            await until(lambda: mirror.version(TESTING) == 1)
            shutil.rmtree(directory / "testing")
            answer = await publisher.ask(op="publish")
            assert [one["channel"] for one in answer["withdrawn"]] == ["testing"]
            assert [one["code"] for one in answer["problems"]] == ["withdrawn"]
            put = publisher.store.manifests.put
            kept = []

            def note(manifest: Manifest, detached: str | None) -> None:
                kept.append(manifest.channel)
                put(manifest, detached)

            monkeypatch.setattr(publisher.store.manifests, "put", note)
            await trio.sleep(700)
            assert "testing" not in kept  # not for a moment: whoever asks then would be told to wait
            assert publisher.version(TESTING) == 0
            assert mirror.version(TESTING) == 1
            assert publisher.version(PAIR) == 1
        async with mesh.publisher(network=network, trust=trusting("publisher")) as publisher:
            shutil.rmtree(directory / "testing", ignore_errors=True)
            await trio.sleep(700)
            assert publisher.version(TESTING) == 0
            codes = [problem["code"] for problem in (await publisher.status())["problems"]]
            assert codes == ["withdrawn"]
