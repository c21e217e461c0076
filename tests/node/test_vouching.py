"""A publisher vouches for what it publishes, for as long as it runs, and never twice in one second."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from p2pboot.core.policy import TrustedRoot, TrustPolicy
from p2pboot.core.problems import Code
from p2pboot.core.timestamps import format_time
from p2pboot.core.trust import Trust
from p2pboot.core.trustdocs.chain import Anchor
from p2pboot.core.trustdocs.freshness import RENEW_S, SETTLE_S, VALID_S, Freshness
from p2pboot.core.trustdocs.rootbody import NO_FLEET, FreshnessRule
from p2pboot.errors import UsageError
from p2pboot.node.freezing import GRACE_S, FreezeAlarm
from p2pboot.node.observing import OBSERVE_S
from p2pboot.node.vouching import LOOK_S
from p2pboot.publish.freshness import sign
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.store import Store
from p2pboot.store.trustgate import Fate
from p2pboot.testing.manifests import DAY_S, NOW, key_of
from p2pboot.testing.stores import offer
from p2pboot.testing.trustdocs import chain_of, next_root, statement_of
from tests.node.test_node import republish, to
from tests.node.world import PAIR, Mesh, Running, files_of, never, signed, trusting, until

KEY = key_of("freshness")


def statement(node: Running) -> Freshness:
    found = node.node.catalogue.statement(*PAIR)
    assert found is not None
    return found


def said(node: Running) -> tuple[int, int]:
    """What the newest statement says: the head, and the minimum."""
    body = statement(node).body
    return body.head_version, body.minimum


def says(node: Running, head: int, minimum: int) -> bool:
    return said(node) == (head, minimum)


async def test_what_is_published_is_vouched_for_at_once(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.publisher(freshness_key=KEY) as publisher:
        await until(lambda: publisher.node.catalogue.statement(*PAIR))
        body = statement(publisher).body
        head = publisher.head()
        assert head is not None
        assert (body.fleet, body.root_version, body.signers) == (NO_FLEET, 0, (KEY.public.keyid,))
        assert (body.head_version, body.head_digest, body.minimum) == (1, head.digest, 0)
        assert (body.created_at, body.valid_until - body.created_at) == (NOW, VALID_S)
        assert not publisher.node.problems.all()


async def test_the_minimum_follows_the_head_when_mirrors_had_time(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.publisher(freshness_key=KEY) as publisher:
        await until(lambda: publisher.node.catalogue.statement(*PAIR))
        mesh.wall.now += SETTLE_S - 1
        await never(lambda: said(publisher) != (1, 0))
        mesh.wall.now += 1
        await until(lambda: said(publisher) == (1, 1))
        republish(publisher, "second")
        await publisher.ask(op="publish")
        await until(lambda: said(publisher) == (2, 1))
        mesh.wall.now += SETTLE_S
        await until(lambda: said(publisher) == (2, 2))


async def test_who_publishes_every_half_hour_raises_the_minimum_all_the_same(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.publisher(freshness_key=KEY) as publisher:
        await until(lambda: publisher.node.catalogue.statement(*PAIR))
        for number in range(2, 6):
            mesh.wall.now += SETTLE_S // 2
            republish(publisher, str(number))
            await publisher.ask(op="publish")
            await until(partial(says, publisher, number, number - 2))


async def test_what_is_urgent_is_insisted_on_at_once(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.publisher(freshness_key=KEY) as publisher:
        await until(lambda: publisher.node.catalogue.statement(*PAIR))
        republish(publisher, "second")
        assert (await publisher.ask(op="publish", urgent=True))["ok"]
        assert said(publisher) == (2, 2)
        mesh.wall.now += 60
        republish(publisher, "third")
        await publisher.ask(op="publish")
        await until(lambda: said(publisher) == (3, 2))


async def test_what_is_urgent_needs_a_freshness_key(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        answer = await publisher.ask(op="publish", urgent=True)
        assert "no freshness key" in answer["error"]
        assert "--freshness-key" in answer["remedy"]


async def test_it_is_said_again_every_six_hours_and_the_later_counts(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.publisher(freshness_key=KEY) as publisher:
        await until(lambda: publisher.node.catalogue.statement(*PAIR))
        mesh.wall.now += SETTLE_S
        await until(lambda: said(publisher) == (1, 1))
        mesh.wall.now += RENEW_S - 1
        await never(lambda: statement(publisher).body.created_at == mesh.wall.now)
        mesh.wall.now += 1
        await until(lambda: statement(publisher).body.created_at == mesh.wall.now)


async def test_two_in_one_second_are_dated_one_after_the_other(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.publisher(freshness_key=KEY) as publisher:
        await until(lambda: publisher.node.catalogue.statement(*PAIR))
        first = statement(publisher)
        republish(publisher, "second")
        await publisher.ask(op="publish")
        await until(lambda: said(publisher)[0] == 2)
        assert statement(publisher).body.created_at == first.body.created_at + 1


async def test_after_a_restart_it_goes_on_from_the_last_statement(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.publisher(freshness_key=KEY) as publisher:
        await until(lambda: publisher.node.catalogue.statement(*PAIR))
        first = statement(publisher)
    mesh.wall.now += 60
    async with mesh.publisher(freshness_key=KEY) as publisher:
        await until(lambda: publisher.version() == 1)
        await never(lambda: statement(publisher) != first)
        mesh.wall.now += SETTLE_S - 60
        await until(lambda: said(publisher) == (1, 1))


async def test_a_clock_that_can_not_be_believed_signs_nothing(mesh: Mesh, autojump_clock: None) -> None:
    mesh.wall.now = 3
    async with mesh.publisher(freshness_key=KEY) as publisher:
        await until(lambda: Code.FRESHNESS_UNSIGNED in {one.code for one in publisher.node.problems.all()})
        assert publisher.node.catalogue.statement(*PAIR) is None
        mesh.wall.now = NOW
        await until(lambda: publisher.node.catalogue.statement(*PAIR))
        await until(
            lambda: Code.FRESHNESS_UNSIGNED not in {one.code for one in publisher.node.problems.all()}
        )


async def test_a_clock_that_was_set_back_signs_nothing_before_the_last_date(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.publisher(freshness_key=KEY) as publisher:
        await until(lambda: publisher.node.catalogue.statement(*PAIR))
        first = statement(publisher)
        mesh.wall.now -= 2 * 3600
        republish(publisher, "second")
        await publisher.ask(op="publish")
        await until(lambda: publisher.node.problems.of("freshness"))
        (problem,) = publisher.node.problems.of("freshness")
        assert f"after this machine's clock; it is signed by {KEY.public.keyid}" in problem.text
        assert statement(publisher) == first


async def test_a_pause_stays_until_the_plan_is_another_one(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.publisher(freshness_key=KEY) as publisher:
        await until(lambda: publisher.node.catalogue.statement(*PAIR))
        voucher = publisher.node.own.voucher
        assert await voucher.pause(PAIR) == NOW
        mesh.wall.now += RENEW_S
        await until(lambda: statement(publisher).body.created_at == mesh.wall.now)
        assert statement(publisher).body.paused_since == NOW
    async with mesh.publisher(freshness_key=KEY) as publisher:
        mesh.wall.now += RENEW_S
        await until(lambda: statement(publisher).body.created_at == mesh.wall.now)
        assert statement(publisher).body.paused_since == NOW
        await publisher.node.own.voucher.resume(PAIR)
        assert statement(publisher).body.paused_since is None


async def test_who_has_no_key_pauses_nothing(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.publisher() as publisher:
        with pytest.raises(UsageError, match="no freshness key") as caught:
            await publisher.node.own.voucher.pause(PAIR)
    assert caught.value.remedy is not None
    assert "p2pboot key generate --key FILE" in caught.value.remedy


async def test_a_key_that_the_operator_does_not_name_is_told_of(mesh: Mesh, autojump_clock: None) -> None:
    other = key_of("other").public.keyid
    named = trusting("publisher", channels=("stable",), freshness=FreshnessRule((other,)))
    async with mesh.publisher(freshness_key=KEY, trust=named) as publisher:
        await until(lambda: publisher.node.problems.of("freshness"), within_s=10 * LOOK_S)
        (problem,) = publisher.node.problems.of("freshness")
        assert "does not name the freshness key" in problem.text
        assert publisher.node.catalogue.statement(*PAIR) is None


def frozen(node: Running) -> list[tuple[str, str]]:
    return [(one.code.value, one.text) for one in node.node.problems.of("freeze")]


async def test_a_mirror_that_hears_nothing_newer_says_so(mesh: Mesh, autojump_clock: None) -> None:
    rule = FreshnessRule((KEY.public.keyid,), required=True, max_age_s=4 * RENEW_S)
    trust = trusting("publisher", channels=("stable",), archs=("x86_64",), freshness=rule)
    async with mesh.node("mirror", trust=trust) as mirror:
        async with mesh.publisher(freshness_key=KEY, network=to(mirror)) as publisher:
            await until(lambda: mirror.version() == 1)
            body = statement(publisher).body
            await until(lambda: mirror.node.catalogue.statement(*PAIR) == statement(publisher))
        mesh.wall.now = body.created_at + 2 * RENEW_S
        await trio.sleep(GRACE_S + 2 * OBSERVE_S)
        assert frozen(mirror) == []
        mesh.wall.now += 1
        await trio.sleep(2 * OBSERVE_S)
        since = f"nobody has vouched for it since {format_time(body.created_at)}"
        assert frozen(mirror) == [("freshness-old", f"{since}, and it may be that something newer is out")]
        mesh.wall.now = body.created_at + 3 * RENEW_S + 1
        await trio.sleep(2 * OBSERVE_S)
        until_at = format_time(body.created_at + 4 * RENEW_S)
        assert frozen(mirror) == [
            ("freshness-overdue", f"{since}: from {until_at} on nothing of it is offered")
        ]
    async with mesh.node("mirror", trust=trust) as mirror:  # what was asleep meets its peers first
        await trio.sleep(GRACE_S - OBSERVE_S)
        assert frozen(mirror) == []
        await trio.sleep(2 * OBSERVE_S)
        assert [code for code, _ in frozen(mirror)] == ["freshness-overdue"]


async def test_who_trusts_nobody_to_vouch_is_not_told_that_nobody_does(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        mesh.wall.now += 10 * RENEW_S
        await trio.sleep(GRACE_S + 2 * OBSERVE_S)
        assert frozen(publisher) == []


async def test_who_was_away_for_eight_days_offers_again_what_needs_a_statement(
    mesh: Mesh, autojump_clock: None
) -> None:
    rule = FreshnessRule((KEY.public.keyid,), required=True)
    trust = trusting("publisher", channels=("stable",), archs=("x86_64",), freshness=rule)
    async with mesh.publisher(freshness_key=KEY, trust=trust) as publisher:
        await until(lambda: [row.manifest_version for row in publisher.node.catalogue.offered()] == [1])
    mesh.wall.now += 8 * DAY_S
    async with mesh.publisher(trust=trust) as publisher:  # nobody vouches
        await until(lambda: publisher.version() == 1)
        await never(publisher.node.catalogue.offered)
    async with mesh.publisher(freshness_key=KEY, trust=trust) as publisher:
        await until(lambda: [row.manifest_version for row in publisher.node.catalogue.offered()] == [1])
        assert not publisher.node.problems.of("freshness")


async def test_under_a_root_it_says_by_which_and_a_root_that_names_others_is_told_of(
    mesh: Mesh, autojump_clock: None
) -> None:
    first, second = chain_of(2)
    role = replace(second.body.publish[0], freshness=FreshnessRule((key_of("other").public.keyid,)))
    third = next_root(second, publish=(role,))
    async with mesh.publisher(freshness_key=KEY, roots=(TrustedRoot(Anchor.of_root(first)),)) as publisher:
        await until(lambda: publisher.node.catalogue.statement(*PAIR))
        body = statement(publisher).body
        assert (body.fleet, body.root_version) == (first.digest, 1)
        publisher.node.trust_gate.take_roots([second.raw], source="a test")
        await until(lambda: statement(publisher).body.root_version == 2)
        publisher.node.trust_gate.take_roots([third.raw], source="a test")
        await until(lambda: publisher.node.problems.of("freshness"))
        (problem,) = publisher.node.problems.of("freshness")
        assert problem.text.startswith("the root does not name the freshness key")
        assert publisher.node.catalogue.statement(*PAIR) is None


async def test_two_machines_with_a_key_each_do_not_answer_each_other(
    mesh: Mesh, autojump_clock: None
) -> None:
    other = key_of("other")
    rule = FreshnessRule((KEY.public.keyid, other.public.keyid))
    trust = trusting("publisher", channels=("stable",), archs=("x86_64",), freshness=rule)
    async with mesh.publisher(freshness_key=KEY, trust=trust) as publisher:
        await until(lambda: publisher.node.catalogue.statement(*PAIR))
        ours = statement(publisher)
        body = replace(ours.body, created_at=NOW + 60, signers=(other.public.keyid,))
        mesh.wall.now += 60
        judged = publisher.node.trust_gate.take_freshness(sign(body, other), source="a test")
        assert judged.fate is Fate.NEWS
        await never(lambda: statement(publisher).body != body)
        mesh.wall.now = NOW + SETTLE_S
        await until(lambda: said(publisher) == (1, 1))  # what has settled is said all the same
        assert statement(publisher).body.signers == ours.body.signers


def test_what_a_courier_brings_is_as_young_as_it_says(tmp_path: Path) -> None:
    with Store.open(tmp_path / "state") as store:
        manifest = signed(1, expires_at=NOW + 90 * DAY_S)
        offer(store, manifest, files_of("image"))
        trust = Trust(TrustPolicy(trusting("publisher", freshness=FreshnessRule((KEY.public.keyid,)))))
        brought = statement_of(manifest, created_at=NOW, valid_until=NOW + 30 * DAY_S)
        store.documents.put_statement(brought)
        for day, expected in ((15, []), (16, [Code.FRESHNESS_OLD])):
            alarm = FreezeAlarm(store, Catalogue(store, trust, lambda day=day: NOW + day * DAY_S), 0)  # type: ignore[misc]
            assert [one.code for one in alarm.problems(GRACE_S)] == expected


def test_a_clock_that_is_not_believed_goes_by_how_long_the_node_was_awake(tmp_path: Path) -> None:
    with Store.open(tmp_path / "state") as store:
        manifest = signed(1)
        offer(store, manifest, files_of("image"))
        trust = Trust(TrustPolicy(trusting("publisher", freshness=FreshnessRule((KEY.public.keyid,)))))
        store.documents.put_statement(statement_of(manifest, created_at=NOW))
        alarm = FreezeAlarm(store, Catalogue(store, trust, lambda: 7), 0)
        assert alarm.problems(GRACE_S) == []
        assert alarm.problems(GRACE_S + 2 * RENEW_S) == []
        assert [one.code for one in alarm.problems(GRACE_S + 2 * RENEW_S + 1)] == [Code.FRESHNESS_OLD]
