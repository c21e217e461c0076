"""What a mirror is offered and does not take is said, with the reason; strangers can neither fill nor move the list."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio

from p2pboot.core.problems import Code, Problem
from p2pboot.core.withheld import Why
from p2pboot.node.observing import unheld
from p2pboot.node.protocols import withheld
from p2pboot.node.refusals import MAX_REFUSALS, PATIENCE_S, STALE_S, Refusals
from p2pboot.protocol.messages import Head
from p2pboot.testing.manifests import DAY_S, NOW, key_of
from tests.node.test_node import GOSSIP_ONLY, TRUST, to
from tests.node.world import PAIR, Mesh, Running, never, signed, trusting, until, write_tree

KEYID = key_of("publisher").public.keyid
OTHER = trusting("other", channels=("stable",), archs=("x86_64",))


def refused(node: Running) -> list[Problem]:
    return [problem for problem in node.node.problems.all() if problem.code == "refused"]


@pytest.mark.parametrize("network", [{"gossip": False}, GOSSIP_ONLY], ids=["sync", "gossip"])
async def test_a_mirror_that_trusts_another_key_says_whose_manifests_it_refuses(
    mesh: Mesh, autojump_clock: None, network: dict[str, Any]
) -> None:
    async with mesh.publisher(network=network) as publisher:
        await until(lambda: publisher.version() == 1)
        async with mesh.node("mirror", trust=OTHER, network=to(publisher, **network)) as mirror:
            await until(lambda: refused(mirror), within_s=400)
            (problem,) = (await mirror.status())["problems"]
            assert problem["subject"] == "stable/x86_64"
            for part in (publisher.transport.peer_id, KEYID, key_of("other").public.keyid):
                assert part in problem["text"]
            assert "--trust" in problem["remedy"]
            (told,) = withheld(mirror.node.catalogue, mirror.node.problems, None, None)
            assert (told.channel, told.arch, told.why) == (*PAIR, Why.REFUSED)
            assert "ed25519:" not in told.text  # whom a node trusts is not everybody's business
            assert withheld(mirror.node.catalogue, mirror.node.problems, *PAIR) == [told]
            assert withheld(mirror.node.catalogue, mirror.node.problems, "testing", None) == []
            await mirror.node.apply(replace(mirror.settings, trust=TRUST))
            await until(lambda: mirror.version() == 1, within_s=700)
            await until(lambda: not refused(mirror))
            assert withheld(mirror.node.catalogue, mirror.node.problems, None, None) == []


@pytest.mark.parametrize(
    ("ahead_s", "words"), [(2 * DAY_S, "not valid yet"), (-40 * DAY_S, "expired")], ids=["ahead", "behind"]
)
async def test_a_publisher_with_a_wrong_clock_is_refused_aloud(
    mesh: Mesh, autojump_clock: None, ahead_s: int, words: str
) -> None:
    wrong = signed(5, created_at=NOW + ahead_s, expires_at=NOW + ahead_s + 30 * DAY_S)
    leaf = mesh.tree("publisher") / "stable/x86_64"
    async with mesh.publisher() as publisher:
        (leaf / "manifest.json").unlink(missing_ok=True)
        await until(lambda: publisher.version() == 1)
        async with mesh.node("mirror", trust=TRUST, network=to(publisher)) as mirror:
            await until(lambda: mirror.version() == 1)
            assert not refused(mirror)
            await mirror.node._intake.hear(PAIR, publisher.transport.peer_id, wrong.raw)
            (problem,) = refused(mirror)
            assert "version 5" in problem.text
            assert words in problem.text
            assert problem.remedy


async def test_what_is_offered_no_more_is_refused_no_more(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        async with mesh.node("mirror", trust=OTHER, network=to(publisher)) as mirror:
            await until(lambda: refused(mirror))
            publisher.store.manifests.drop(lambda _row: True)
            await until(lambda: not refused(mirror), within_s=60)
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        async with mesh.node("mirror", trust=OTHER, network=to(publisher)) as mirror:
            await until(lambda: refused(mirror))
            mesh.network.cut(publisher.transport.peer_id, mirror.transport.peer_id)
            await until(lambda: not refused(mirror), within_s=60)


async def test_an_older_version_that_stands_is_said_and_one_that_is_just_behind_is_not(
    mesh: Mesh, autojump_clock: None
) -> None:
    """As when a publisher lost its counter and can not see what the mesh knows."""
    async with mesh.publisher(network={"gossip": False, "sync": False}) as publisher:
        await until(lambda: publisher.version() == 1)
        async with mesh.node("mirror", trust=TRUST) as mirror:
            await mirror.node._intake.hear(PAIR, "somebody", signed(9).raw)
            await mirror.transport.dial(publisher.address)
            mirror.node._neighbourhood.peering.configured.add(publisher.transport.peer_id)
            await never(lambda: refused(mirror), within_s=PATIENCE_S - 5)
            await until(lambda: refused(mirror))
            assert "older" in refused(mirror)[0].text


async def test_a_stranger_in_the_mesh_is_no_problem(mesh: Mesh, autojump_clock: None) -> None:
    async with (
        mesh.publisher() as publisher,
        mesh.publisher("other", "other image") as stranger,
        mesh.node("mirror", trust=TRUST, network=to(publisher)) as mirror,
    ):
        await until(lambda: mirror.version() == 1)
        for pair in (("testing", "x86_64"), ("stable", "arm64")):
            write_tree(stranger.settings.provider.directory, "more", pair)
        await stranger.ask(op="publish")
        await mirror.transport.dial(stranger.address)
        await never(lambda: refused(mirror), within_s=400)


async def test_without_a_configured_peer_whoever_is_near_may_be_meant(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.publisher() as publisher, mesh.node("mirror", trust=OTHER) as mirror:
        await until(lambda: publisher.version() == 1)
        await mirror.transport.dial(publisher.address)
        await until(lambda: refused(mirror))


async def test_a_publisher_is_not_troubled_by_what_others_offer_for_its_pairs(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with (
        mesh.publisher("other", "other image") as other,
        mesh.publisher(network=to(other)) as publisher,
    ):
        await never(lambda: refused(publisher), within_s=400)


# -- the list itself


class List:
    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.refusals = Refusals(
            follows=lambda pair: pair[0] == "stable",
            counts=lambda _pair, peer_id: peer_id.startswith("known"),
            report=self._take,
        )

    def _take(self, problems: list[Problem]) -> None:
        self.problems = problems

    def judge(self, reason: str, peer_id: str = "known", pair: tuple[str, str] = PAIR) -> None:
        self.refusals.refuse(pair, peer_id, reason, "why", "what to do")

    def take(self, peer_id: str = "known") -> None:
        self.refusals.taken(PAIR, peer_id)


def head(version: int = 1) -> Head:
    return Head(*PAIR, (KEYID,), version, "0" * 64, 1000)


async def test_only_followed_pairs_and_known_peers_or_trusted_keys_count(autojump_clock: None) -> None:
    listing = List()
    listing.judge("untrusted", "stranger")
    listing.judge("malformed", "stranger")
    listing.judge("expired", pair=("testing", "x86_64"))
    listing.judge("equivocation")
    listing.judge("wrong_topic")
    assert listing.problems == []
    listing.judge("expired", "stranger")
    (problem,) = listing.problems
    assert (problem.subject, problem.remedy) == ("stable/x86_64", "what to do")
    listing.take("stranger")
    assert listing.problems == []


async def test_a_pair_has_one_problem_that_does_not_flicker(autojump_clock: None) -> None:
    listing = List()
    for number in range(5):
        listing.judge("expired", f"known {number}")
    (first,) = listing.problems
    listing.judge("not_yet_valid", "known 3")
    assert listing.problems == [first]
    listing.take("known 0")
    assert len(listing.problems) == 1


async def test_the_list_is_bounded_and_forgets(autojump_clock: None) -> None:
    listing = List()
    for number in range(3 * MAX_REFUSALS):
        listing.judge("expired", f"known {number}", ("stable", f"arch{number}"))
    assert len(listing.problems) == MAX_REFUSALS
    listing.refusals.tick({"known 0", "known 1"})
    assert len(listing.problems) == 2
    await trio.sleep(STALE_S)
    listing.refusals.tick({"known 0", "known 1"})
    assert listing.problems == []


async def test_what_a_round_does_not_say_again_is_over_with_the_next(autojump_clock: None) -> None:
    listing = List()
    for _ in range(3):
        listing.refusals.hear_of("known", [head()])
        listing.refusals.refuse_head("known", head(), "untrusted", "signed by another", "trust it")
        assert len(listing.problems) == 1
        await trio.sleep(15)
    listing.refusals.hear_of("known", [head()])
    await trio.sleep(15)
    listing.refusals.hear_of("known", [head()])
    assert listing.problems == []


def test_what_can_not_be_published_is_told_without_its_paths() -> None:
    half = Problem(
        Code.UNPUBLISHABLE, "testing/arm64", "no initramfs in /srv/images/testing/arm64", "put it there"
    )
    others = [
        Problem(Code.REFUSED, "stable/arm64", "peer X offers version 1"),
        Problem(Code.UNPUBLISHABLE, "/srv/images", "no directory"),
        Problem(Code.EXPIRED, "old/arm64", "version 1 expired"),
    ]
    (told,) = unheld([half, *others], {("stable", "arm64")}, None, None)
    assert (told.channel, told.arch, told.why) == ("testing", "arm64", Why.UNPUBLISHABLE)
    assert "/srv" not in told.text
    assert unheld([half], (), "testing", None) == [told]
    assert unheld([half], (), None, "x86_64") == []
