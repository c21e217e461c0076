"""What a boot client takes while something is rolled out into its channel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from trio.testing import MockClock

from p2pboot.core.manifest import Manifest, Rollout, content_digest, sign_detached
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.core.rollouts import Machine
from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.core.trustdocs.rootbody import FreshnessRule
from p2pboot.fetch.result import FetchResult
from p2pboot.testing.artifacts import content
from p2pboot.testing.manifests import DAY_S, NOW
from p2pboot.testing.stores import offer
from p2pboot.testing.trustdocs import FRESH, statement_of, yank_of
from tests.fetch.test_trust import Documents, run
from tests.fetch.world import FILES, KEY, Provider, World, manifest_of

NEW_FILES = {**FILES, "kernel": content("new kernel", 200_000)}
OLD = manifest_of(version=7)
PLAN = Rollout("stable", content_digest(OLD), NOW - DAY_S, 2 * DAY_S, 100, "salt")  # half of it is over
NEW = manifest_of(NEW_FILES, 1, channel="stable.next", rollout=PLAN)
POLICY = TrustPolicy((Publisher((KEY.public.keyid,), freshness=FreshnessRule((FRESH.public.keyid,))),))
EARLY, LATE = Machine(None, wariness=0.4), Machine(None, wariness=0.6)


@asynccontextmanager
async def offering(
    world: World,
    into: Manifest = OLD,
    rolled_out: Manifest | None = NEW,
    statements: Sequence[Freshness] = (),
    **told: Any,
) -> AsyncIterator[Provider]:
    class ByChannel(Documents):
        def freshness(self, channel: str, _arch: str) -> list[bytes]:
            return [one.raw for one in statements if one.body.channel == channel]

    async with world.provider(into, FILES, documents=ByChannel(**told)) as provider:
        if rolled_out is not None:
            offer(provider.store, rolled_out, NEW_FILES, sign_detached(rolled_out.raw, KEY))
        yield provider


async def taken(world: World, *providers: Provider, machine: Machine | None, **said: Any) -> FetchResult:
    return await run(world, *providers, policy=POLICY, machine=machine, **said)


def of(result: FetchResult) -> tuple[str, int]:
    manifest = result.verdict.manifest
    assert manifest is not None
    return manifest.channel, manifest.manifest_version


async def test_who_is_early_takes_it_and_who_is_late_does_not(
    autojump_clock: MockClock, world: World
) -> None:
    async with offering(world) as provider:
        late = await taken(world, provider, machine=LATE)
        assert of(late) == ("stable", 7)
        assert late.rollout is not None
        assert (late.rollout.takes_next, late.to_json()["rollout"]["fraction"]) == (False, 0.5)
        early = await taken(world, provider, machine=EARLY)
        assert of(early) == ("stable.next", 1)
        assert early.to_json()["rollout"]["taken"]
        placed = early.directory / "kernel"
        assert placed.read_bytes() == NEW_FILES["kernel"]
        again = await taken(world, provider, machine=EARLY)
        assert again.unchanged
        back = await taken(
            world, provider, machine=LATE
        )  # another answer is no rollback: it has its own numbers
        assert of(back) == ("stable", 7)
        assert placed.read_bytes() == FILES["kernel"]


async def test_a_client_that_takes_no_part_asks_for_its_channel_only(
    autojump_clock: MockClock, world: World
) -> None:
    async with offering(world) as provider:
        for machine in (None, Machine(None)):
            result = await taken(world, provider, machine=machine)
            assert of(result) == ("stable", 7)
            assert (result.rollout is None) == (machine is None)


async def test_a_pause_holds_who_is_out_and_keeps_who_is_in(autojump_clock: MockClock, world: World) -> None:
    paused = statement_of(NEW, created_at=NOW - 3600, paused_since=NOW - DAY_S // 2)  # at a quarter
    async with offering(world, statements=[paused]) as provider:
        assert of(await taken(world, provider, machine=EARLY)) == ("stable", 7)
        inside = await taken(world, provider, machine=Machine(None, wariness=0.2))
        assert of(inside) == ("stable.next", 1)
        assert inside.rollout is not None
        assert "paused since" in inside.rollout.why
        later = await taken(world, provider, machine=Machine(None, wariness=0.2), now=NOW + DAY_S // 4)
        assert of(later) == ("stable.next", 1)
    async with offering(world) as forgetful:  # who remembers a pause is not told otherwise by silence
        assert of(await taken(world, forgetful, machine=EARLY)) == ("stable", 7)
        assert of(await taken(world, forgetful, machine=EARLY, state="another")) == ("stable.next", 1)


@pytest.mark.parametrize(
    "rolled_out",
    [
        manifest_of(
            NEW_FILES, 1, channel="stable.next", rollout=PLAN, expires_at=NOW - 1, created_at=NOW - 9
        ),
        manifest_of(NEW_FILES, 1, channel="stable.next"),
        manifest_of(NEW_FILES, 1, channel="stable.next", rollout=replace(PLAN, over="ab" * 32)),
        None,
    ],
    ids=["expired", "without a plan", "over something else", "none"],
)
async def test_what_may_not_be_taken_leaves_the_channel(
    autojump_clock: MockClock, world: World, rolled_out: Manifest | None
) -> None:
    async with offering(world, rolled_out=rolled_out) as provider:
        assert of(await taken(world, provider, machine=Machine(None, wariness=0.0))) == ("stable", 7)


async def test_a_yank_takes_it_back(autojump_clock: MockClock, world: World) -> None:
    yank = yank_of(NEW, keys=(KEY,), channel="stable")  # one for both channels
    async with offering(world, yanked=[yank]) as provider:
        assert of(await taken(world, provider, machine=EARLY)) == ("stable", 7)


async def test_a_hotfix_that_one_peer_knows_ends_it(autojump_clock: MockClock, world: World) -> None:
    hotfix = manifest_of({**FILES, "kernel": content("hotfix", 100_000)}, 8)
    files = {**FILES, "kernel": content("hotfix", 100_000)}
    async with offering(world) as stale, world.provider(hotfix, files) as informed:
        result = await taken(world, stale, informed, machine=EARLY)
        assert of(result) == ("stable", 8)
        assert result.rollout is not None
        assert "something newer" in result.rollout.why


async def test_an_older_plan_than_was_accepted_is_a_rollback(autojump_clock: MockClock, world: World) -> None:
    second = manifest_of(NEW_FILES, 2, channel="stable.next", rollout=replace(PLAN, percent=90))
    async with offering(world, rolled_out=second) as provider:
        assert of(await taken(world, provider, machine=EARLY)) == ("stable.next", 2)
    async with offering(world) as stale:
        assert of(await taken(world, stale, machine=EARLY)) == ("stable", 7)
