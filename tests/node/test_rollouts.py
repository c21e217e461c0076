"""Roll-outs, from the directory to the mirrors."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from p2pboot.core.manifest import Manifest, content_digest
from p2pboot.core.timestamps import format_time
from p2pboot.core.trustdocs.rootbody import FreshnessRule
from p2pboot.store.trustgate import Fate
from p2pboot.testing.manifests import NOW, key_of
from p2pboot.testing.trustdocs import statement_of
from tests.node.world import PAIR, Mesh, Running, Wall, never, signed, trusting, until, write_tree

NEXT = ("stable.next", "x86_64")
DAY = 86_400
FRESH = key_of("freshness")


async def ask(node: Running, action: str, **message: Any) -> dict[str, Any]:
    return await node.ask(op="rollout", action=action, channel="stable", **message)


def paused_at(node: Running) -> int | None:
    statement = node.node.catalogue.statement(*NEXT)
    return None if statement is None else statement.body.paused_since


def in_force(node: Running, pair: tuple[str, str]) -> Manifest:
    head = node.head(pair)
    assert head is not None
    return node.node.catalogue.manifest(head.digest)


def stage(mesh: Mesh, seed: str = "new") -> Path:
    return write_tree(mesh.directory / "publisher" / "artifacts", seed, NEXT)


async def test_what_lies_beside_is_published_when_it_is_started_and_not_before(
    mesh: Mesh, autojump_clock: None
) -> None:
    stage(mesh)
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        await publisher.ask(op="publish")
        assert publisher.version(NEXT) == 0
        assert not publisher.node.problems.all()
        answer = await ask(publisher, "start", duration_s=2 * DAY, percent=50)
        assert answer["ok"], answer
        manifest = in_force(publisher, NEXT)
        plan = manifest.rollout
        assert plan is not None
        assert (plan.into, plan.start, plan.duration_s, plan.percent) == ("stable", NOW, 2 * DAY, 50)
        assert plan.over == content_digest(in_force(publisher, PAIR))
        assert content_digest(manifest) == content_digest(signed(1, seed="new"))
        assert manifest.manifest_version == 1
        assert publisher.version() == 1


async def test_the_plan_survives_a_restart_and_a_renewal(
    mesh: Mesh, wall: Wall, autojump_clock: None
) -> None:
    stage(mesh)
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        await ask(publisher, "start")
        before = in_force(publisher, NEXT)
    wall.now += 25 * DAY
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version(NEXT) == 2)
        renewed = in_force(publisher, NEXT)
        assert renewed.rollout == before.rollout
        assert renewed.created_at == wall.now
        (shown,) = (await ask(publisher, "show"))["rollouts"]
        assert (shown["ended"], shown["fraction"], shown["start"]) == (None, 1.0, format_time(NOW))
        assert not publisher.node.problems.all()


async def test_a_roll_out_that_can_not_begin_says_why(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)

        async def refused(**message: Any) -> str:
            answer = await ask(publisher, "start", **message)
            assert not answer["ok"]
            assert answer["remedy"]
            return str(answer["error"])

        assert "stable.next/<arch> is not there" in await refused()
        stage(mesh, "image")
        assert "the same content" in await refused()
        stage(mesh)
        assert "from 0 to 100" in await refused(percent=101)
        assert "start:" in await refused(start="tomorrow")
        assert "before the year 10000" in await refused(start="9999-12-31T23:59:59Z")
        assert (await ask(publisher, "start"))["ok"]
        assert "on already" in await refused()
        answer = await publisher.ask(op="rollout", action="start", channel="stable.next")
        assert "no roll-out into stable.next" in answer["error"]
        answer = await publisher.ask(op="rollout", action="start", channel="other")
        assert "is not there" in answer["error"]


async def test_a_roll_out_into_nothing_is_refused(mesh: Mesh, autojump_clock: None) -> None:
    write_tree(mesh.directory / "publisher" / "artifacts", "new", ("other.next", "x86_64"))
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        answer = await publisher.ask(op="rollout", action="start", channel="other")
        assert "other/x86_64 has nothing in force here" in answer["error"]


async def test_who_publishes_one_channel_alone_is_told_so(mesh: Mesh, autojump_clock: None) -> None:
    stage(mesh)
    async with mesh.publisher(provider={"channel": "stable"}) as publisher:
        await until(lambda: publisher.version() == 1)
        answer = await ask(publisher, "start")
        assert "publishes the channel stable alone" in answer["error"]
        assert "without --channel" in answer["remedy"]


async def test_files_that_change_while_it_is_on_are_not_published(mesh: Mesh, autojump_clock: None) -> None:
    stage(mesh)
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        await ask(publisher, "start")
        stage(mesh, "another")
        await publisher.ask(op="publish")
        (problem,) = publisher.node.problems.all()
        assert problem.subject == "stable.next/x86_64"
        assert "something else than the roll-out into stable that is on" in problem.text
        assert publisher.version(NEXT) in (0, 1)
        stage(mesh)
        await publisher.ask(op="publish")
        assert not publisher.node.problems.all()
        assert publisher.version(NEXT) == 1


async def test_a_hotfix_ends_it(mesh: Mesh, autojump_clock: None) -> None:
    directory = mesh.tree("publisher")
    stage(mesh)
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        await ask(publisher, "start")
        assert publisher.version(NEXT) == 1
        write_tree(directory, "hotfix")
        await publisher.ask(op="publish")
        assert publisher.version() == 2
        assert publisher.version(NEXT) == 0
        (shown,) = (await ask(publisher, "show"))["rollouts"]
        assert (shown["ended"], shown["fraction"]) == ("overtaken", None)
        answer = await ask(publisher, "pause")
        assert "no roll-out into stable is on any more: it is overtaken" in answer["error"]
        assert not publisher.node.problems.all()
        assert all(one.channel == "stable" for one in publisher.node.awaited())
        answer = await ask(publisher, "start")  # the same image again, over the hotfix
        assert answer["ok"], answer
        assert in_force(publisher, NEXT).manifest_version == 2


async def test_a_pause_holds_the_share_and_a_resumed_plan_goes_on_where_it_was(
    mesh: Mesh, wall: Wall, autojump_clock: None
) -> None:
    stage(mesh)
    rule = FreshnessRule((FRESH.public.keyid,), required=False, max_age_s=7 * DAY)
    trust = trusting("publisher", channels=("stable",), freshness=rule)
    async with mesh.publisher(freshness_key=FRESH) as publisher:
        await until(lambda: publisher.version() == 1)
        bootstrap = {"bootstrap": (publisher.address,)}
        async with mesh.node("mirror", trust=trust, network=bootstrap) as mirror:
            await until(lambda: mirror.version() == 1)
            await ask(publisher, "start", duration_s=4 * DAY)
            wall.now += DAY
            (shown,) = (await ask(publisher, "pause"))["rollouts"]
            assert (shown["fraction"], shown["paused_since"]) == (0.25, format_time(NOW + DAY))
            assert (await ask(publisher, "pause"))["ok"]  # a second time changes nothing
            wall.now += 2 * DAY
            (shown,) = (await ask(publisher, "show"))["rollouts"]
            assert (shown["fraction"], shown["paused_since"]) == (0.25, format_time(NOW + DAY))
            assert (await ask(publisher, "resume"))["ok"]
            (shown,) = (await ask(publisher, "show"))["rollouts"]
            assert (shown["fraction"], shown["paused_since"]) == (0.25, None)
            assert shown["end"] == format_time(NOW + 6 * DAY)
            assert "is not paused" in (await ask(publisher, "resume"))["error"]
            wall.now += DAY
            (shown,) = (await ask(publisher, "show"))["rollouts"]
            assert shown["fraction"] == 0.5
            await until(lambda: mirror.version(NEXT) == 2)
            assert in_force(mirror, NEXT).rollout == in_force(publisher, NEXT).rollout
            await until(lambda: mirror.node.documents.freshness(*NEXT))
            (shown,) = (await ask(publisher, "pause"))["rollouts"]
            assert shown["paused_by"] == [FRESH.public.keyid]
            await until(lambda: paused_at(mirror) is not None)
            assert (await ask(mirror, "show"))["rollouts"] == [shown]


async def test_a_pause_since_before_it_began_moves_it_by_no_more_than_what_passed(
    mesh: Mesh, wall: Wall, autojump_clock: None
) -> None:
    """Whoever has the freshness key can say that it is paused since 1970."""
    stage(mesh)
    async with mesh.publisher(freshness_key=FRESH) as publisher:
        await until(lambda: publisher.version() == 1)
        await ask(publisher, "start", duration_s=4 * DAY)
        wall.now += DAY
        stolen = statement_of(
            in_force(publisher, NEXT), keys=[FRESH], created_at=wall.now, paused_since=1, minimum=0
        )
        assert publisher.node.trust_gate.take_freshness(stolen.raw, source="thief").fate is Fate.NEWS
        (shown,) = (await ask(publisher, "show"))["rollouts"]
        assert shown["fraction"] == 0.0
        wall.now += DAY
        assert (await ask(publisher, "resume"))["ok"]
        (shown,) = (await ask(publisher, "show"))["rollouts"]
        assert (shown["start"], shown["paused_since"]) == (format_time(wall.now), None)


async def test_a_pause_of_one_roll_out_is_none_of_the_next(
    mesh: Mesh, wall: Wall, autojump_clock: None
) -> None:
    directory = mesh.tree("publisher")
    stage(mesh)
    async with mesh.publisher(freshness_key=FRESH) as publisher:
        await until(lambda: publisher.version() == 1)
        await ask(publisher, "start")
        wall.now += 60
        assert (await ask(publisher, "pause"))["ok"]
        write_tree(directory, "hotfix")
        await publisher.ask(op="publish")
        assert publisher.version(NEXT) == 0
    wall.now += 3600
    async with mesh.publisher(freshness_key=FRESH, seed="hotfix") as publisher:
        await until(lambda: publisher.version() == 2)
        (shown,) = (await ask(publisher, "start", duration_s=DAY))["rollouts"]
        assert (shown["manifest_version"], shown["paused_since"]) == (2, None)
        wall.now += DAY // 2
        (shown,) = (await ask(publisher, "pause"))["rollouts"]
        assert (shown["fraction"], shown["paused_since"]) == (0.5, format_time(wall.now))


async def test_without_a_freshness_key_nothing_can_be_paused(mesh: Mesh, autojump_clock: None) -> None:
    stage(mesh)
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        await ask(publisher, "start")
        answer = await ask(publisher, "pause")
        assert "no freshness key" in answer["error"]
        assert "--freshness-key" in answer["remedy"]


async def test_what_is_promoted_stays_until_the_directory_holds_something_new(
    mesh: Mesh, wall: Wall, autojump_clock: None
) -> None:
    directory = mesh.tree("publisher")
    staged = stage(mesh)
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        await ask(publisher, "start")
        (shown,) = (await ask(publisher, "promote"))["rollouts"]
        assert shown["ended"] == "promoted"
        promoted = in_force(publisher, PAIR)
        assert (promoted.manifest_version, promoted.rollout) == (2, None)
        assert content_digest(promoted) == content_digest(signed(1, seed="new"))
        assert publisher.version(NEXT) == 0
        await publisher.ask(op="publish")
        assert publisher.version() == 2
        assert "any more: it is promoted" in (await ask(publisher, "abort"))["error"]
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 2)
        wall.now += 25 * DAY
        await publisher.ask(op="publish")
        renewed = in_force(publisher, PAIR)
        assert content_digest(renewed) == content_digest(promoted)
        assert renewed.manifest_version == 3
    for name in ("kernel", "initramfs"):  # the operator brings the directory up to date
        (staged / name).rename(directory / "stable" / "x86_64" / name)
    staged.rmdir()
    staged.parent.rmdir()
    async with mesh.publisher(provider={"directory": directory}, seed="new") as publisher:
        await until(lambda: publisher.version() == 3)
        assert in_force(publisher, PAIR) == renewed
        await publisher.ask(op="publish")
        assert not publisher.node.problems.all()
        write_tree(directory, "newest")
        await publisher.ask(op="publish")
        assert publisher.version() == 4
        assert content_digest(in_force(publisher, PAIR)) == content_digest(signed(1, seed="newest"))


async def test_promoting_and_aborting_do_not_fail_by_what_else_is_wrong(
    mesh: Mesh, autojump_clock: None
) -> None:
    """The channel's directory holds what was yanked: nothing at all is published of the directory."""
    directory = mesh.tree("publisher")
    trust = trusting("publisher", channels=("stable",))
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        bootstrap = {"bootstrap": (publisher.address,)}
        async with mesh.node("mirror", trust=trust, network=bootstrap) as mirror:
            await until(lambda: mirror.version() == 1)
            write_tree(directory, "bad")
            await publisher.ask(op="publish")
            answer = await publisher.ask(op="yank", do="yank", channel="stable", patience_s=30)
            assert answer["ok"], answer
            for seed, action, ended in (("new", "promote", "promoted"), ("newer", "abort", "aborted")):
                stage(mesh, seed)
                answer = await ask(publisher, "start")
                assert answer["ok"], answer
                answer = await ask(publisher, action)
                assert answer["ok"], answer
                assert answer["rollouts"][0]["ended"] == ended
                await until(lambda: mirror.version() == 4)


async def test_what_was_promoted_and_is_overwritten_comes_back_from_a_mirror(
    mesh: Mesh, autojump_clock: None
) -> None:
    stage(mesh)
    trust = trusting("publisher", channels=("stable",))
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        await ask(publisher, "start")
        bootstrap = {"bootstrap": (publisher.address,)}
        async with mesh.node("mirror", trust=trust, network=bootstrap) as mirror:
            await until(lambda: mirror.version(NEXT) == 1)
            await ask(publisher, "promote")
            await until(lambda: mirror.version() == 2)
            stage(mesh, "the next one")
            await publisher.ask(op="publish")
            assert publisher.version() != 2
            await until(lambda: publisher.version() == 2, within_s=600)
            promoted = in_force(publisher, PAIR)
            assert content_digest(promoted) == content_digest(signed(1, seed="new"))
            (started,) = (await ask(publisher, "start"))["rollouts"]
            assert started["over"] == content_digest(promoted)


async def test_what_is_aborted_is_taken_back_everywhere(mesh: Mesh, autojump_clock: None) -> None:
    stage(mesh)
    trust = trusting("publisher", channels=("stable",))
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        await ask(publisher, "start")
        bootstrap = {"bootstrap": (publisher.address,)}
        async with mesh.node("mirror", trust=trust, network=bootstrap) as mirror:
            offered = mirror.node.catalogue.offered
            await until(lambda: len(offered()) == 2)
            (shown,) = (await ask(publisher, "abort", reason="does not mount its root"))["rollouts"]
            assert shown["ended"] == "aborted"
            assert not publisher.node.catalogue.offered(*NEXT)
            await until(lambda: [row.channel for row in offered()] == ["stable"])
            assert publisher.version() == 1
            await publisher.ask(op="publish")
            await never(lambda: any(node.node.problems.all() for node in (publisher, mirror)), within_s=60)
            answer = await ask(publisher, "start")
            assert "is yanked" in answer["error"]
            (yank,) = publisher.node.catalogue.yanks(*NEXT).values()
            assert (yank.body.channel, yank.body.reason) == ("stable", "does not mount its root")


async def test_mirrors_follow_it_and_do_not_wait_for_one(mesh: Mesh, autojump_clock: None) -> None:
    stage(mesh)
    trust = trusting("publisher", channels=("stable",))
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        bootstrap = {"bootstrap": (publisher.address,)}
        async with mesh.node("mirror", trust=trust, network=bootstrap) as mirror:
            await until(lambda: mirror.version() == 1)
            assert [one.channel for one in mirror.node.awaited()] == ["stable"]
            assert not mirror.node.problems.all()
            await ask(publisher, "start")
            await until(lambda: mirror.version(NEXT) == 1)
            assert in_force(mirror, NEXT) == in_force(publisher, NEXT)
            assert [one.channel for one in mirror.node.awaited()] == ["stable"]
            shown = await ask(publisher, "show")
            assert [one["signers"] for one in shown["rollouts"]] == [[key_of("publisher").public.keyid]]
            assert await ask(mirror, "show") == shown
            assert (await mirror.ask(op="rollout", action="show", channel="edge"))["rollouts"] == []
            assert "mirror" in (await ask(mirror, "abort"))["error"]
            assert (await ask(publisher, "abort"))["ok"]
            await until(lambda: mirror.node.documents.yanks("stable", "x86_64"))
            assert [one["ended"] for one in (await ask(mirror, "show"))["rollouts"]] == ["aborted"]


async def test_a_publisher_that_lost_its_state_goes_on_with_its_roll_out(
    mesh: Mesh, wall: Wall, autojump_clock: None
) -> None:
    """With the same key and the same files: what its mirrors have is what it said."""
    stage(mesh)
    trust = trusting("publisher", channels=("stable",))
    async with mesh.node("mirror", trust=trust) as mirror:
        known: dict[str, Any] = {"network": {"bootstrap": (mirror.address,)}}
        async with mesh.publisher(**known) as publisher:
            await until(lambda: publisher.version() == 1)
            await ask(publisher, "start", duration_s=4 * DAY)
            begun = in_force(publisher, NEXT)
            await until(lambda: mirror.version(NEXT) == 1)
        shutil.rmtree(publisher.settings.store.state)
        wall.now += DAY
        async with mesh.publisher(**known) as publisher:
            await until(lambda: publisher.version(NEXT) >= 1)
            await publisher.ask(op="publish")
            went_on = in_force(publisher, NEXT)
            assert went_on.rollout == begun.rollout
            (shown,) = (await ask(publisher, "show"))["rollouts"]
            assert (shown["fraction"], shown["ended"]) == (0.25, None)
            answer = await ask(publisher, "promote")
            assert answer["ok"], answer
            await until(lambda: mirror.version() == publisher.version() > 1)
            assert content_digest(in_force(mirror, PAIR)) == content_digest(begun)
            assert not mirror.store.documents.evidence()


async def test_what_was_promoted_stays_when_the_state_is_lost(mesh: Mesh, autojump_clock: None) -> None:
    """The channel's directory may go on to hold what was before, and does not tell that it was promoted."""
    stage(mesh)
    trust = trusting("publisher", channels=("stable",))
    async with mesh.node("mirror", trust=trust) as mirror:
        known: dict[str, Any] = {"network": {"bootstrap": (mirror.address,)}}
        async with mesh.publisher(**known) as publisher:
            await until(lambda: publisher.version() == 1)
            await ask(publisher, "start")
            await ask(publisher, "promote")
            await until(lambda: mirror.version() == 2)
        shutil.rmtree(publisher.settings.store.state)
        async with mesh.publisher(**known) as publisher:
            await until(lambda: publisher.version() >= 2)
            assert (await publisher.ask(op="publish"))["ok"]
            await never(lambda: (publisher.version(), mirror.version()) != (2, 2), within_s=700)
            assert [one.code for one in publisher.node.problems.all()] == ["directory-replaced"]


async def test_two_publishers_of_one_directory_do_not_outbid_what_one_of_them_promoted(
    mesh: Mesh, autojump_clock: None
) -> None:
    stage(mesh)
    async with mesh.publisher() as one:
        await until(lambda: one.version() == 1)
        await ask(one, "start")
        twin: dict[str, Any] = {"provider": {"directory": mesh.directory / "publisher" / "artifacts"}}
        async with mesh.node("twin", key="publisher", network={"bootstrap": (one.address,)}, **twin) as other:
            await until(lambda: (other.version(), other.version(NEXT)) == (1, 1))
            await ask(one, "promote")
            await until(lambda: other.version() == 2)
            await never(lambda: (one.version(), other.version()) != (2, 2), within_s=700)
            assert in_force(one, PAIR) == in_force(other, PAIR)
            write_tree(mesh.directory / "publisher" / "artifacts", "hotfix", PAIR)
            for node in (one, other):
                assert (await node.ask(op="publish"))["ok"]
            await until(lambda: one.version() == other.version() > 2)
            assert content_digest(in_force(other, PAIR)) == content_digest(signed(1, seed="hotfix"))
