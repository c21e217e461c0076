"""A clock that was wrong for a while: dates are those of the clock as it is, and it is said what follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio

from p2pboot import RELEASE_DATE
from p2pboot.core.manifest import Manifest
from p2pboot.core.timestamps import format_time
from p2pboot.node.publishing import CHECK_S
from p2pboot.publish.numbering import publishing_time
from p2pboot.store.recovery import examine
from p2pboot.testing.manifests import DAY_S, NOW
from tests.node.desk import Desk
from tests.node.test_node import TRUST, in_force, republish
from tests.node.world import PAIR, Mesh, signed, trusting, until, write_tree

YEAR = 365 * DAY_S


async def publish(desk: Desk, seed: str, now: int) -> Manifest:
    desk.now = now
    write_tree(desk.directory, seed)
    return (await desk.publisher.publish_now()).published[0].manifest


@pytest.mark.parametrize("ahead_s", [5 * YEAR, 3600])
async def test_after_the_clock_was_ahead_the_next_date_is_right_and_the_way_out_is_named(
    desk: Desk, autojump_clock: None, ahead_s: int
) -> None:
    async with desk.running():
        assert (await publish(desk, "second", NOW + ahead_s)).created_at == NOW + ahead_s
        assert not desk.problems.all()  # nothing here can know it yet
        third = await publish(desk, "third", NOW + 60)
        assert (third.manifest_version, third.created_at) == (3, NOW + 60)
        problem = desk.problem("clock-went-back")
        assert problem is not None
        assert format_time(NOW + ahead_s) in problem.text
        assert format_time(NOW + 60) in problem.text
        assert problem.remedy is not None
        assert "p2pboot state recover --state" in problem.remedy


async def test_a_renewal_made_in_the_wrong_time_is_replaced_and_told(
    desk: Desk, autojump_clock: None
) -> None:
    async with desk.running():
        desk.now = NOW + 5 * YEAR
        await trio.sleep(CHECK_S + 1)
        assert desk.published[-1].manifest.created_at == NOW + 5 * YEAR
        desk.now = NOW
        await trio.sleep(CHECK_S + 1)
        last = desk.published[-1].manifest
        assert (last.manifest_version, last.created_at) == (3, NOW)
        assert desk.problem("clock-went-back") is not None


async def test_publishing_what_others_will_not_take_for_its_lifetime_is_told(
    desk: Desk, autojump_clock: None
) -> None:
    desk.options = replace(desk.options, expires_in_s=401 * DAY_S)
    async with desk.running():
        assert desk.problem("lifetime") is not None


async def test_it_stands_over_restarts_and_versions_until_that_date_is_reached(
    desk: Desk, autojump_clock: None
) -> None:
    async with desk.running():
        await publish(desk, "second", NOW + 10 * DAY_S)
        await publish(desk, "third", NOW)
        await publish(desk, "fourth", NOW)
    for day, expected in ((1, True), (9, True), (10, False)):
        later = Desk(desk.directory, desk.store)
        later.busy_until = -1000
        later.now = NOW + day * DAY_S
        async with later.running():
            assert (later.problem("clock-went-back") is not None) is expected


async def test_it_is_over_when_every_machine_is_mended(desk: Desk, autojump_clock: None) -> None:
    async with desk.running():
        await publish(desk, "second", NOW + 5 * YEAR)
        await publish(desk, "third", NOW)
        repairs = [
            finding.repair for finding in examine(desk.store, NOW).findings if finding.repair is not None
        ]
        assert len(repairs) == 2  # what was accepted with that date, and the memory of having published it
        for repair in repairs:
            repair.mend()
        await trio.sleep(CHECK_S + 1)
        assert not desk.problems.all()


async def test_a_clock_that_is_a_little_behind_is_no_problem(desk: Desk, autojump_clock: None) -> None:
    async with desk.running():
        assert (await publish(desk, "second", NOW - 120)).created_at == NOW - 120
        assert not desk.problems.all()


async def test_a_clock_in_1970_renews_nothing_and_dates_by_the_release(
    desk: Desk, autojump_clock: None
) -> None:
    async with desk.running():
        first = desk.published[-1].manifest
        desk.now = publishing_time(0)
        assert desk.now == RELEASE_DATE
        await trio.sleep(2 * CHECK_S)
        assert desk.versions == [1]  # signed anew it would have expired for everybody whose clock is right
        assert (await publish(desk, "second", desk.now)).created_at == RELEASE_DATE
        assert desk.problem("clock-went-back") is not None
        assert first.created_at == NOW


async def test_ahead_and_then_in_1970_and_then_right(desk: Desk, autojump_clock: None) -> None:
    async with desk.running():
        await publish(desk, "second", NOW + 5 * YEAR)
        dead = await publish(desk, "third", publishing_time(3))
        assert dead.created_at == RELEASE_DATE
        problem = desk.problem("clock-went-back")
        assert problem is not None
        assert format_time(NOW + 5 * YEAR) in problem.text
        right = await publish(desk, "fourth", NOW)
        assert (right.manifest_version, right.created_at) == (4, NOW)
        assert desk.problem("clock-went-back") is not None  # version 2 is still about


@pytest.mark.parametrize(
    ("wall", "expected"), [(0, RELEASE_DATE), (-5, RELEASE_DATE), (NOW, NOW), (1 << 60, None)]
)
def test_dates_come_from_the_clock_within_reason(wall: int, expected: int | None) -> None:
    at = publishing_time(wall)
    assert expected in (at, None)
    format_time(at)


async def test_a_clock_that_jumps_is_noticed_within_seconds(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        mesh.wall.now = NOW + 5 * YEAR
        await until(lambda: publisher.version() == 2, within_s=30)
        mesh.wall.now = NOW
        await until(lambda: publisher.version() == 3, within_s=30)
        assert in_force(publisher).created_at == NOW
        codes = [problem["code"] for problem in (await publisher.status())["problems"]]
        assert codes == ["clock-went-back"]


async def test_own_manifests_do_not_hold_the_own_clock(mesh: Mesh, autojump_clock: None) -> None:
    """Else a publisher that was once ahead would refuse everything of today as expired."""
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        mesh.wall.now = NOW + 5 * YEAR
        republish(publisher, "second")
        await publisher.ask(op="publish")
        mesh.wall.now = NOW
        clock: Any = publisher.node.catalogue.clock()
        assert (clock.now, clock.trusted) == (NOW, True)


async def test_a_mirror_is_held_by_what_it_accepted_and_says_so(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.node("mirror", trust=TRUST) as mirror:
        mesh.wall.now = NOW + 40 * DAY_S
        ahead = signed(1, created_at=mesh.wall.now, expires_at=NOW + 70 * DAY_S)
        await mirror.node._intake.hear(PAIR, "somebody", ahead.raw)
        mesh.wall.now = NOW
        await until(mirror.node.problems.all, within_s=30)
        assert "clock" in [problem["code"] for problem in (await mirror.status())["problems"]]
        await mirror.node.apply(
            replace(mirror.settings, trust=trusting("other"))
        )  # and no longer than it trusts it
        await until(lambda: not mirror.node.problems.all(), within_s=30)
