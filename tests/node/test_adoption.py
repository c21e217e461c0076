"""Several publishers with one key: what says the same is taken over, and who makes the next version is settled."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from p2pboot.core.manifest import Manifest
from p2pboot.node.adoption import OUTBID_S, YIELD_S
from p2pboot.node.publishing import CHECK_S
from p2pboot.testing.manifests import DAY_S, NOW, key_of
from tests.node.desk import KEY, Desk
from tests.node.test_node import in_force, republish, to
from tests.node.world import PAIR, Mesh, Running, never, signed, until

SUBJECT = "stable/x86_64"


def by(name: str, version: int, **changes: Any) -> Manifest:
    """A manifest of the publisher's key that another node made."""
    return signed(
        version, **{"provider_peer_id": key_of(name).public.peer_id, "provider_name": name, **changes}
    )


def twin(mesh: Mesh, name: str, *peers: Running, seed: str = "image", **provider: Any) -> Any:
    """A second publisher with the publisher's key."""
    directory = {"directory": mesh.tree(name, seed), **provider}
    return mesh.node(name, key="publisher", provider=directory, network=to(*peers))


@asynccontextmanager
async def two_publishers(mesh: Mesh, seed: str = "image") -> AsyncIterator[tuple[Running, Running]]:
    async with mesh.publisher() as one:
        await until(lambda: one.version() == 1)
        async with twin(mesh, "twin", one, seed=seed) as other:
            await until(lambda: other.version() > 0)
            yield one, other


def agree(one: Running, other: Running) -> bool:
    mine, theirs = one.head(), other.head()
    return mine is not None and theirs is not None and mine.digest == theirs.digest


async def test_two_publishers_of_one_directory_settle_on_one_version(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with two_publishers(mesh) as (one, other):
        await never(lambda: (one.version(), other.version()) != (1, 1), within_s=3600)
        assert agree(one, other)
        (problem,) = (await other.status())["problems"]
        assert (problem["code"], problem["subject"]) == ("shared-key", SUBJECT)
        assert one.transport.peer_id in problem["text"]
        assert "test" in problem["text"]
        assert (await one.status())["problems"] == []


async def test_they_go_on_with_it_after_a_restart_of_each(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.publisher() as one:
        await until(lambda: one.version() == 1)
        async with twin(mesh, "twin", one) as other:
            await until(lambda: agree(one, other))
        async with twin(mesh, "twin", one) as other:
            await until(lambda: agree(one, other))
            assert [problem.code for problem in other.node.problems.all()] == ["shared-key"]
            await never(lambda: (one.version(), other.version()) != (1, 1), within_s=700)
    async with twin(mesh, "twin") as other:
        await until(lambda: other.version() == 1)
        async with mesh.publisher(network=to(other)) as one:
            await until(lambda: agree(one, other))
            await never(lambda: (one.version(), other.version()) != (1, 1), within_s=700)


async def test_one_renews_and_the_other_takes_that_over(mesh: Mesh, autojump_clock: None) -> None:
    async with two_publishers(mesh) as (one, other):
        for version, day in ((2, 20), (3, 40), (4, 60)):
            mesh.wall.now = NOW + day * DAY_S
            await until(
                lambda version=version: agree(one, other) and one.version() == version,  # type: ignore[misc]
                within_s=400,
            )
            assert in_force(other).provider_peer_id == one.transport.peer_id
            await never(lambda version=version: other.version() != version, within_s=700)  # type: ignore[misc]


async def test_when_the_first_is_gone_the_second_renews_in_time(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.publisher() as one:
        await until(lambda: one.version() == 1)
        async with twin(mesh, "twin", one) as other:
            await until(lambda: agree(one, other))
    async with twin(mesh, "twin") as other:
        await until(lambda: other.version() == 1)
        mesh.wall.now = NOW + 21 * DAY_S
        await never(lambda: other.version() != 1, within_s=2 * CHECK_S)
        mesh.wall.now = NOW + 25 * DAY_S
        await until(lambda: other.version() == 2, within_s=2 * CHECK_S)
        assert in_force(other).provider_peer_id == other.transport.peer_id
        assert in_force(other).expires_at == mesh.wall.now + 30 * DAY_S


async def test_a_change_in_both_directories_at_once_settles(mesh: Mesh, autojump_clock: None) -> None:
    async with two_publishers(mesh) as (one, other):
        for seed in ("second", "third", "fourth"):
            before = one.version()
            republish(one, seed)
            republish(other, seed)
            async with trio.open_nursery() as nursery:
                for node in (one, other):
                    nursery.start_soon(lambda node=node: node.ask(op="publish"))
            await until(lambda before=before: agree(one, other) and one.version() > before)  # type: ignore[misc]
            await trio.sleep(2 * YIELD_S)
            assert agree(one, other)
            settled = one.version()
            assert settled <= before + 3
            await never(lambda settled=settled: one.version() != settled, within_s=700)  # type: ignore[misc]


async def test_a_change_that_reaches_one_directory_later_settles(mesh: Mesh, autojump_clock: None) -> None:
    async with two_publishers(mesh) as (one, other):
        republish(one, "second")
        await one.ask(op="publish")
        await trio.sleep(OUTBID_S / 2)
        republish(other, "second")
        await other.ask(op="publish")
        await until(lambda: agree(one, other))
        await never(lambda: one.version() != 2 or other.version() != 2, within_s=700)


async def test_different_content_is_outbid_ever_more_slowly_and_said(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with two_publishers(mesh, seed="another image") as (one, other):
        await trio.sleep(3600)
        assert max(one.version(), other.version()) < 40
        for node in (one, other):
            assert "shared-key" in [problem.code for problem in node.node.problems.all()]


async def test_another_version_that_the_operator_named_is_not_the_same(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.publisher() as one:
        await until(lambda: one.version() == 1)
        async with twin(mesh, "twin", one, version="6.1") as other:
            await until(lambda: agree(one, other) and one.version() == 2)  # who named none takes it over
            assert in_force(one).version == "6.1"
            await never(lambda: one.version() != 2, within_s=700)


# -- one node, and what it hears


async def test_what_says_the_same_is_taken_over_once(
    desk: Desk, autojump_clock: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with desk.running():
        theirs = by("twin", 7)
        for _ in range(3):
            await desk.publisher.saw_own(theirs)
            await trio.sleep(CHECK_S)
        assert desk.published[-1].manifest.raw == theirs.raw
        assert desk.versions == [1, 7]
        assert caplog.text.count("taking over") == 1
        stored = desk.store.manifests.get(theirs.digest)
        assert stored is not None
        assert stored.detached is not None


async def test_what_was_heard_before_the_first_build_is_taken_over(desk: Desk, autojump_clock: None) -> None:
    theirs = by("twin", 7)
    await desk.publisher.saw_own(theirs)
    async with desk.running():
        assert [one.manifest.raw for one in desk.published] == [theirs.raw]


@pytest.mark.parametrize("dates", [(NOW - 31 * DAY_S, NOW - DAY_S), (NOW + DAY_S, NOW + 31 * DAY_S)])
async def test_what_is_out_of_date_is_not_taken_over_but_gone_above(
    desk: Desk, autojump_clock: None, dates: tuple[int, int]
) -> None:
    async with desk.running():
        theirs = by("twin", 7, created_at=dates[0], expires_at=dates[1])
        await desk.publisher.saw_own(theirs, usable=False)
        await trio.sleep(1)
        assert desk.versions == [1, 8]


async def test_the_own_past_is_taken_over_without_a_word_of_another_node(
    desk: Desk, autojump_clock: None
) -> None:
    """Its state was lost: what comes back from the mesh names this very node."""
    async with desk.running():
        await desk.publisher.saw_own(by("publisher", 7, provider_name="test"))
        await trio.sleep(1)
        assert desk.versions[-1] in (7, 8)
        assert not desk.problems.all()


@pytest.mark.parametrize("lower", [True, False])
async def test_of_two_that_made_one_number_the_lower_peer_id_goes_on(
    desk: Desk, autojump_clock: None, lower: bool
) -> None:
    name = next(
        name
        for name in (f"node {number}" for number in range(100))
        if (KEY.public.peer_id < key_of(name).public.peer_id) is lower
    )
    async with desk.running():
        await desk.publisher.saw_own(by(name, 1))
        await trio.sleep(1)
        if lower:
            assert desk.versions == [1, 2]
        else:
            assert desk.versions == [1]
            await desk.publisher.saw_own(by(name, 2))
            await trio.sleep(3 * YIELD_S)
            assert desk.versions == [1, 2]
            assert desk.published[-1].manifest.provider_name == name


async def test_if_the_other_does_not_go_on_this_one_does(desk: Desk, autojump_clock: None) -> None:
    name = next(
        name
        for name in (f"node {number}" for number in range(100))
        if KEY.public.peer_id > key_of(name).public.peer_id
    )
    async with desk.running():
        await desk.publisher.saw_own(by(name, 1))
        await trio.sleep(YIELD_S + 1)
        assert desk.versions == [1, 2]
        await trio.sleep(2 * CHECK_S)
        assert desk.versions == [1, 2]


async def test_the_problem_ends_when_the_others_manifest_has_expired(
    desk: Desk, autojump_clock: None
) -> None:
    async with desk.running():
        await desk.publisher.saw_own(by("twin", 7, seed="another image", expires_at=NOW + 5 * DAY_S))
        await trio.sleep(1)
        problem = desk.problem("shared-key")
        assert problem is not None
        assert "twin" in problem.text
        desk.now = NOW + 5 * DAY_S
        await trio.sleep(CHECK_S + 1)
        assert desk.problem("shared-key") is None
        assert desk.store.publications.counter([KEY.public.keyid], *PAIR) == 8
