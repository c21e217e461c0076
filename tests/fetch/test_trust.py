"""What a boot client hears of roots, freshness statements and yanks, from peers that know more or less, or lie."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2pboot.cli.peers import judge_all
from p2pboot.core.amounts import duration_text
from p2pboot.core.policy import Publisher, TrustedRoot, TrustPolicy
from p2pboot.core.trustdocs.chain import Anchor, TwoRoots, begin
from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import FreshnessRule, PublishRole
from p2pboot.core.trustdocs.yank import MAX_YANKS, Yank
from p2pboot.core.verify import Refused
from p2pboot.errors import ExitStatus, NotFoundError, P2PBootError, StoreError
from p2pboot.fetch.asking.hearing import Told
from p2pboot.fetch.asking.survey import Surveyor
from p2pboot.fetch.client import fetch
from p2pboot.fetch.result import FetchResult
from p2pboot.store.manifests import StoredManifest
from p2pboot.testing.manifests import DAY_S, NOW, key_of
from p2pboot.testing.trustdocs import (
    FRESH,
    chain_of,
    next_root,
    root_body,
    signed_root,
    statement_of,
    yank_of,
)
from tests.fetch.world import FILES, KEY, OTHER_KEY, Provider, World, manifest_of

V1, V2, V3 = (manifest_of(version=version) for version in (1, 2, 3))
RULE = FreshnessRule((FRESH.public.keyid,))
REQUIRED = replace(RULE, required=True)
ROLE = PublishRole((KEY.public.keyid,), channels=("stable",), archs=("x86_64",))
CHAIN = chain_of(30, root_body(publish=(ROLE,)))
WITHOUT_ROOT = TrustPolicy((Publisher((KEY.public.keyid,), freshness=RULE),))


@dataclass
class Documents:
    """The trust documents that a peer tells; `asked` are the versions after which it was asked for roots."""

    chain: Sequence[Root] = ()
    statements: Sequence[Freshness] = ()
    yanked: Sequence[Yank] = ()
    page: int = 1024
    asked: list[int] = field(default_factory=list)

    def roots(self, fleet: str, after: int) -> list[bytes]:
        if fleet not in {root.digest for root in self.chain}:
            return []
        self.asked.append(after)
        return [root.raw for root in self.chain if root.version > after][: self.page]

    def freshness(self, _channel: str, _arch: str) -> list[bytes]:
        return [one.raw for one in self.statements]

    def yanks(self, _channel: str, _arch: str, after: str | None) -> list[bytes]:
        contents = [one.body.content for one in self.yanked]
        begin = 0 if after is None else contents.index(after) + 1
        return [one.raw for one in self.yanked[begin:]]


def telling(world: World, manifest: Any, **told: Any) -> AbstractAsyncContextManager[Provider]:
    return world.provider(manifest, FILES, documents=Documents(**told))


def under(anchor: Anchor) -> TrustPolicy:
    return TrustPolicy.of((), (TrustedRoot(anchor, begin(anchor)),))


def required(policy: TrustPolicy, rule: FreshnessRule = REQUIRED) -> TrustPolicy:
    return TrustPolicy(tuple(replace(one, freshness=rule) for one in policy.publishers))


async def run(
    world: World, *providers: Provider, policy: TrustPolicy, now: int = NOW, state: str = "state", **said: Any
) -> FetchResult:
    async with world.client(state) as (transport, store):
        order = world.order(*providers, policy=policy, **said)
        try:
            return await fetch(
                order, transport=transport, store=store, progress=world.watcher, wall=lambda: now
            )
        except P2PBootError as error:
            failure = error  # the client's network would wrap it
    raise failure


OTHERS = chain_of(2, root_body(name="another fleet"))
BY_FILE = under(Anchor.of_root(CHAIN[0]))
BY_DIGEST = under(Anchor(CHAIN[4].digest))


@pytest.mark.parametrize("policy", [BY_FILE, BY_DIGEST], ids=["file", "digest"])
async def test_a_client_thirty_versions_behind_walks_from_any_peer(
    autojump_clock: MockClock, world: World, policy: TrustPolicy
) -> None:
    async with telling(world, V1, chain=CHAIN, page=7) as provider, telling(world, V1):
        began = trio.current_time()
        result = await run(world, provider, policy=policy)
        assert trio.current_time() - began < 1  # in the same conversation
    assert result.to_json()["trust"]["root"] == {"version": 30, "fleet": CHAIN[0].digest}
    assert KEY.public.peer_id in result.ledger.publishers


async def test_a_later_run_goes_on_from_the_root_that_it_remembers(
    autojump_clock: MockClock, world: World
) -> None:
    told = Documents(CHAIN)
    async with world.provider(V1, FILES, documents=told) as provider:
        await run(world, provider, policy=BY_DIGEST)
        told.asked.clear()
        await run(world, provider, policy=BY_DIGEST)
    assert set(told.asked) == {30}
    async with telling(world, V1) as forgetful:  # it is not back to version 5 where nobody knows better
        result = await run(world, forgetful, policy=BY_DIGEST)
    assert result.to_json()["trust"]["root"]["version"] == 30


async def test_a_root_that_nobody_has_is_not_found(autojump_clock: MockClock, world: World) -> None:
    async with telling(world, V1) as provider:
        with pytest.raises(NotFoundError, match=f"sha256:{CHAIN[4].digest} is not known here") as caught:
            await run(world, provider, policy=BY_DIGEST)
    assert caught.value.remedy is not None
    assert "--root FILE" in caught.value.remedy


async def test_who_sends_a_root_that_does_not_follow_is_dropped_and_others_are_used(
    autojump_clock: MockClock, world: World
) -> None:
    forged = signed_root(replace(CHAIN[1].body, name="forged"), [key_of("thief"), key_of("other")])
    async with (
        telling(world, V2, chain=[CHAIN[0], forged]) as liar,
        telling(world, V1, chain=CHAIN[:3]) as honest,
    ):
        result = await run(world, liar, honest, policy=BY_FILE)
    assert set(result.ledger.dropped) == {liar.peer_id}
    assert result.basis.root is not None
    assert result.basis.root.version == 3


async def test_who_has_later_roots_only_is_used_and_helps_nobody_to_get_there(
    autojump_clock: MockClock, world: World
) -> None:
    """It was told to begin with version 7, so it has none before; what it has is no lie."""
    async with (
        telling(world, V1, chain=CHAIN[6:]) as late,
        telling(world, V1, chain=CHAIN[:3]) as behind,
    ):
        result = await run(world, late, policy=BY_FILE)
        assert result.basis.root is not None
        assert (result.basis.root.version, result.ledger.dropped) == (1, {})
        result = await run(world, late, behind, policy=BY_FILE)
    assert result.basis.root is not None
    assert (result.basis.root.version, result.ledger.dropped) == (3, {})


@pytest.mark.parametrize(
    ("policy", "sends"),
    [
        (BY_FILE, [b"no root"]),
        (BY_DIGEST, [b"no root"]),
        (BY_DIGEST, [root.raw for root in OTHERS] * 1024),
    ],
    ids=["no root", "no root, by digest", "without end"],
)
async def test_who_sends_what_is_no_root_or_too_many_is_dropped(
    autojump_clock: MockClock, world: World, policy: TrustPolicy, sends: list[bytes]
) -> None:
    class Flood(Documents):
        def roots(self, fleet: str, after: int) -> list[bytes]:
            return sends

    async with (
        world.provider(V1, FILES, documents=Flood()) as flood,
        telling(world, V2, chain=CHAIN[:5]) as honest,
    ):
        result = await run(world, flood, honest, policy=policy)
    assert result.verdict.digest == V2.digest
    assert result.basis.root is not None
    assert result.basis.root.version == 5
    assert set(result.ledger.dropped) == {flood.peer_id}


SECOND = next_root(CHAIN[0], name="another")


async def test_a_client_without_memory_that_sees_two_roots_of_one_version_stops(
    autojump_clock: MockClock, world: World
) -> None:
    async with (
        telling(world, V1, chain=CHAIN[:3]) as one,
        telling(world, V1, chain=[CHAIN[0], SECOND]) as other,
    ):
        with pytest.raises(TwoRoots, match="two roots of version 2") as caught:
            await run(world, one, other, policy=BY_FILE)
        assert caught.value.exit_status is ExitStatus.REFUSED
        with pytest.raises(TwoRoots):  # what the first run saw first is no reason to believe it
            await run(world, one, other, policy=BY_FILE)
    async with world.client() as (_transport, store):
        assert [row.kind for row in store.documents.evidence()] == ["root"]


async def test_a_client_with_memory_keeps_the_root_that_it_had_first(
    autojump_clock: MockClock, world: World
) -> None:
    async with telling(world, V1, chain=CHAIN[:1]) as provider:
        await run(world, provider, policy=BY_FILE)
    async with telling(world, V1, chain=CHAIN[:2]) as provider:
        await run(world, provider, policy=BY_FILE)
    longer = [CHAIN[0], SECOND, next_root(SECOND, name="another")]
    async with telling(world, V1, chain=longer) as other:
        result = await run(world, other, policy=BY_FILE)
    assert result.basis.root is not None


async def test_a_removed_key_counts_no_more_once_one_peer_has_the_newest_root(
    autojump_clock: MockClock, world: World
) -> None:
    """The thief's peer answers first, and with the higher number; whoever has the newest root has nothing else."""
    stolen = manifest_of(version=2**53 - 1, key=OTHER_KEY)
    before = signed_root(root_body(publish=(replace(ROLE, keys=(OTHER_KEY.public.keyid,)),)))
    after = next_root(before, publish=(ROLE,))
    policy = under(Anchor.of_root(before))
    async with (
        telling(world, stolen) as thief,
        telling(world, V1, chain=[before]) as honest,
        telling(world, V1, chain=[before, after]) as informed,
    ):
        result = await run(world, thief, honest, informed, policy=policy)
    assert result.verdict.digest == V1.digest


async def test_a_peer_that_has_no_answer_to_such_questions_is_used_as_ever(
    autojump_clock: MockClock, world: World
) -> None:
    """As a node of an earlier release, which says that they are no requests."""

    class Unable(Documents):
        def roots(self, fleet: str, after: int) -> list[bytes]:
            raise StoreError("no such table")

        def freshness(self, _channel: str, _arch: str) -> list[bytes]:
            raise StoreError("no such table")

        def yanks(self, _channel: str, _arch: str, after: str | None) -> list[bytes]:
            raise StoreError("no such table")

    async with world.provider(V1, FILES, documents=Unable()) as provider:
        began = trio.current_time()
        for policy in (BY_FILE, WITHOUT_ROOT):
            result = await run(world, provider, policy=policy, state=str(len(policy.roots)))
            assert result.verdict.digest == V1.digest
            assert not result.ledger.dropped
        assert trio.current_time() - began < 1


# Freshness


OLD = statement_of(V1, created_at=NOW - 3 * 3600)
NEWER = statement_of(V2, created_at=NOW - 60)


async def test_of_an_honest_and_a_lying_mirror_the_honest_one_defeats_the_replay(
    autojump_clock: MockClock, world: World
) -> None:
    async with (
        telling(world, V1, statements=[OLD]) as liar,
        telling(world, V2, statements=[NEWER]) as honest,
    ):
        result = await run(world, liar, honest, policy=required(WITHOUT_ROOT))
    assert result.verdict.digest == V2.digest
    assert (world.directory / "out" / "freshness.json").read_bytes() == NEWER.raw
    said = result.to_json()["trust"]["freshness"]
    assert (said["age_s"], said["head_version"], said["minimum"]) == (60, 2, 2)


async def test_what_is_below_the_minimum_is_refused_also_by_a_later_run_that_hears_no_statement(
    autojump_clock: MockClock, world: World
) -> None:
    async with (
        telling(world, V1, statements=[OLD]) as liar,
        telling(world, V2, statements=[NEWER]) as honest,
    ):
        await run(world, liar, honest, policy=WITHOUT_ROOT)
        with pytest.raises(Refused, match=r"is older than 2"):
            await run(world, liar, policy=WITHOUT_ROOT)


async def test_a_statement_counts_only_with_its_manifest_at_hand_which_need_not_be_offered(
    autojump_clock: MockClock, world: World
) -> None:
    """The head may be on its way still: what is offered at or above the minimum is taken."""
    settling = statement_of(V2, minimum=1)

    class Holding:
        """Lists the first version, and has the manifest of the second."""

        def __init__(self, manifests: Any) -> None:
            self._manifests = manifests
            self.heads = manifests.heads

        def get(self, digest: str) -> Any:
            found = self._manifests.get(digest)
            return StoredManifest(V2.raw, None) if digest == V2.digest else found

    async with telling(world, V1, statements=[settling]) as provider:
        result = await run(world, provider, policy=WITHOUT_ROOT)
        assert result.basis.statement is None
    documents = Documents(statements=[settling])
    async with world.provider(V1, FILES, catalogue=Holding, documents=documents, detached=False) as provider:
        result = await run(world, provider, policy=required(WITHOUT_ROOT), state="other")
    assert result.verdict.digest == V1.digest
    assert result.basis.statement == settling
    async with world.client("other") as (_transport, store):
        assert [Freshness.parse(raw) for raw in store.documents.statements()] == [settling]


AWAY = statement_of(V1, created_at=NOW - 8 * DAY_S)


async def test_where_the_publisher_is_away_for_eight_days_the_search_goes_on_to_its_end(
    autojump_clock: MockClock, world: World
) -> None:
    async with telling(world, V1, statements=[AWAY]) as provider:
        began = trio.current_time()
        result = await run(world, provider, policy=WITHOUT_ROOT, timeout_s=20)
        assert trio.current_time() - began >= 20
        assert any("8" in note for note in world.watcher.notes), world.watcher.notes
        with pytest.raises(Refused, match=r"at most 7 ?d[a-z]* are taken"):
            await run(world, provider, policy=required(WITHOUT_ROOT))
        began = trio.current_time()
        result = await run(world, provider, policy=required(WITHOUT_ROOT), accept_stale=True)
        assert trio.current_time() - began < 1
    assert result.to_json()["trust"]["overridden"] == ["freshness"]


async def test_whoever_has_a_newer_statement_than_an_overdue_one_is_waited_for(
    autojump_clock: MockClock, world: World
) -> None:
    async with (
        telling(world, V1, statements=[AWAY]) as first,
        telling(world, V1, statements=[statement_of(V1)]) as late,
        world.client() as (transport, store),
        trio.open_nursery() as nursery,
    ):

        async def join() -> None:
            await trio.sleep(10)
            await transport.dial(late.address)

        nursery.start_soon(join)
        order = world.order(first, policy=required(WITHOUT_ROOT))
        result = await fetch(
            order, transport=transport, store=store, progress=world.watcher, wall=lambda: NOW
        )
    assert json.dumps(result.to_json())
    assert result.basis.statement == statement_of(V1)


async def test_a_dead_clock_goes_by_the_latest_statement_and_nobody_calls_that_fresh(
    autojump_clock: MockClock, world: World
) -> None:
    expired = manifest_of(version=3, created_at=NOW - 7200, expires_at=NOW - 3600)
    async with (
        telling(world, expired, statements=[]) as liar,
        telling(world, V2, statements=[NEWER]) as honest,
    ):
        result = await run(world, liar, honest, policy=required(WITHOUT_ROOT), now=0)
        assert result.verdict.digest == V2.digest
        outcomes = {check.name: check.outcome.value for check in result.verdict.checks}
        assert outcomes["freshness"] == "noted"
        left_s = V2.expires_at - NEWER.body.created_at
        assert result.basis.dates().endswith(f"expires in {duration_text(left_s)}")  # and not since 1970
        with pytest.raises(Refused, match="clock can not be believed"):
            await run(world, liar, honest, policy=WITHOUT_ROOT, now=0, require_clock=True, state="other")


async def test_a_statement_of_a_key_without_a_say_or_of_tomorrow_changes_nothing(
    autojump_clock: MockClock, world: World
) -> None:
    others = [
        statement_of(V1, keys=[key_of("anybody")], minimum=1),
        statement_of(V1, created_at=NOW + 3600),
    ]
    async with telling(world, V1, statements=others) as provider:
        result = await run(world, provider, policy=WITHOUT_ROOT)
    assert result.basis.statement is None
    assert not (world.directory / "out" / "freshness.json").exists()
    assert not result.ledger.dropped


# Yanks


async def test_a_yank_behind_a_full_reply_of_large_ones_counts(
    autojump_clock: MockClock, world: World
) -> None:
    large = [
        yank_of(V1, keys=[KEY], content=f"{number:064x}", padding=60_000) for number in range(MAX_YANKS - 1)
    ]
    yanked = [*large, yank_of(V1, keys=[KEY], reason="eats disks")]
    async with telling(world, V1) as holder, telling(world, None, yanked=yanked) as informed:
        with pytest.raises(Refused, match="eats disks"):
            await run(world, holder, informed, policy=WITHOUT_ROOT)


async def test_what_was_yanked_is_refused_with_the_reason_and_remembered(
    autojump_clock: MockClock, world: World
) -> None:
    yank = yank_of(V1, keys=[KEY], reason="eats disks")
    async with telling(world, V1) as holder, telling(world, None, yanked=[yank]) as informed:
        with pytest.raises(Refused, match="eats disks"):
            await run(world, holder, informed, policy=WITHOUT_ROOT)
        with pytest.raises(Refused, match="eats disks"):
            await run(world, holder, policy=WITHOUT_ROOT)


# Surveys


async def test_a_survey_judges_by_what_peers_tell(autojump_clock: MockClock, world: World) -> None:
    root = signed_root(root_body(publish=(replace(ROLE, freshness=REQUIRED),)))
    newer = next_root(root, publish=(replace(ROLE, freshness=REQUIRED, keys=(KEY.public.keyid,)),))
    statement = statement_of(V2, root, minimum=2)
    policy = under(Anchor(root.digest))
    async with (
        telling(world, V1) as behind,
        telling(world, V2, chain=[root, newer], statements=[statement]) as informed,
        world.network.open(world.new_peer_id()) as transport,
    ):
        surveyor = Surveyor(transport, "stable", "x86_64", world.watcher, policy=policy, now=lambda: NOW)
        survey = await surveyor.run([behind.address, informed.address], None, 10.0)
    verdicts = judge_all(survey, NOW)
    assert {digest: verdict.reason for digest, verdict in verdicts.items()} == {
        V1.digest: "stale",
        V2.digest: None,
    }
    assert survey.peers[informed.peer_id].told == Told(2, (statement,))
    assert survey.peers[behind.peer_id].told == Told()


async def test_a_survey_that_meets_two_roots_of_one_version_says_so(
    autojump_clock: MockClock, world: World
) -> None:
    async with (
        telling(world, V1, chain=CHAIN[:3]) as one,
        telling(world, V1, chain=[CHAIN[0], SECOND]) as other,
        world.network.open(world.new_peer_id()) as transport,
    ):
        surveyor = Surveyor(transport, "stable", "x86_64", world.watcher, policy=BY_FILE, now=lambda: NOW)
        survey = await surveyor.run([one.address, other.address], None, 10.0)
    assert set(survey.peers) | set(survey.failures) == {one.peer_id, other.peer_id}
    (why,) = survey.failures.values()
    assert "two roots of version 2" in why
