"""Who is found in the end, and what the trust makes of it: on a network in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2pboot.core.policy import Publisher, TrustedRoot
from p2pboot.core.trustdocs.chain import Anchor
from p2pboot.core.withheld import Why, Withheld
from p2pboot.doctor.findings import Code, Finding, State
from p2pboot.doctor.peers import find_peers, judge_survey
from p2pboot.doctor.trust import judge_all, judge_roots, judge_trust
from p2pboot.fetch.asking.survey import Survey
from p2pboot.store.store import Store
from p2pboot.testing.manifests import NOW
from p2pboot.testing.trustdocs import chain_of, next_root
from tests.doctor.patients import patient, short
from tests.fetch.test_trust import telling
from tests.fetch.world import KEY, OTHER_KEY, World, manifest_of

EXPIRED = Withheld("stable", "x86_64", Why.EXPIRED, "it expired")
OF_KEY = (Publisher((KEY.public.keyid,)),)


@pytest.fixture
def world(tmp_path: Path, inline_threads: None) -> World:
    return World(tmp_path)


async def asked(world: World, *addresses: str, **attributes: Any) -> tuple[Survey, list[Finding]]:
    async with world.network.open(world.new_peer_id()) as transport:
        one = patient(transport, said={"network.bootstrap": addresses}, **attributes)
        survey = await find_peers(one, 30.0)
        return survey, judge_survey(survey, one, connected=len(transport.peers()))


async def test_peers_that_offer_are_named(autojump_clock: MockClock, world: World) -> None:
    async with world.provider(manifest_of()) as one, world.provider() as other:
        survey, found = await asked(world, one.address, other.address)
    assert len(survey.manifests) == 1
    assert short(found) == [(Code.PEERS, State.OK)]
    assert found[0].text.startswith("2 peers answered, 1 manifest is offered by")
    assert f"{one.peer_id} at {one.address}" in found[0].text
    assert found[0].text.endswith("(found by bootstrap)")


async def test_peers_that_offer_nothing_of_it(autojump_clock: MockClock, world: World) -> None:
    async with world.provider(manifest_of(channel="testing")) as one:
        _, found = await asked(world, one.address, channel="stable", arch="x86_64")
    assert short(found) == [(Code.NO_MANIFEST, State.FAILED), (Code.WITHHELD, State.WARNING)]
    assert "stable/x86_64" in found[0].text
    assert "testing/x86_64" in found[1].text


async def test_what_a_peer_withholds_is_said_in_its_words(autojump_clock: MockClock, world: World) -> None:
    async with world.provider(withheld=lambda *_: [EXPIRED]) as one:
        _, found = await asked(world, one.address)
    assert short(found) == [(Code.NO_MANIFEST, State.FAILED), (Code.WITHHELD, State.WARNING)]
    assert "it expired" in found[1].text
    assert found[1].remedy is not None


async def test_nobody_at_all(autojump_clock: MockClock, world: World) -> None:
    _, found = await asked(world, "/ip4/10.9.9.9/tcp/4001")
    assert short(found) == [(Code.NOBODY, State.FAILED)]
    _, found = await asked(world)
    assert short(found) == [(Code.NOBODY_TO_ASK, State.FAILED)]


async def test_who_is_heard_of_and_not_reached_has_his_port_closed(world: World) -> None:
    told = "/ip4/10.0.0.9/tcp/4001"
    unreached = {told: f"no answer from {told} in 5 s", "/ip4/10.9.9.9/tcp/1": "refused"}
    async with world.network.open(world.new_peer_id()) as transport:
        one = patient(transport, said={"network.bootstrap": ("/ip4/10.9.9.9/tcp/1",)})
        (finding,) = judge_survey(Survey({}, {}, {}, unreached, {}), one, connected=0)
    assert "1 address was told of, without a connection: no answer from /ip4/10.0.0.9" in finding.text
    assert "10.9.9.9" not in finding.text
    assert finding.remedy is not None
    assert "TCP port" in finding.remedy


async def test_an_address_that_can_be_nobodys_keeps_nobody_from_being_asked(
    autojump_clock: MockClock, world: World
) -> None:
    of_another_kind = "/ip4/10.9.9.9/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
    async with world.provider(manifest_of()) as one:
        _, found = await asked(world, one.address, of_another_kind)
    assert short(found) == [(Code.PEERS, State.OK)]


async def test_a_node_that_follows_nobody_may_be_the_first(autojump_clock: MockClock, world: World) -> None:
    _, found = await asked(world, is_node=True)
    assert short(found) == [(Code.NOBODY, State.WARNING)]
    _, found = await asked(world, is_node=True, trust=OF_KEY)
    assert short(found) == [(Code.NOBODY, State.FAILED)]


async def test_a_node_asks_whom_it_is_connected_with(autojump_clock: MockClock, world: World) -> None:
    async with world.provider(manifest_of()) as one, world.network.open(world.new_peer_id()) as transport:
        await transport.dial(one.address)
        node = patient(transport, is_node=True)
        survey = await find_peers(node, 30.0)
    assert set(survey.providers) == {one.peer_id}


async def judged(
    world: World, *manifests_of: int, trust: tuple[Publisher, ...] = OF_KEY, **attributes: Any
) -> list[Finding]:
    manifests = [manifest_of(version=number) for number in manifests_of]
    async with world.network.open(world.new_peer_id()) as transport:
        one = patient(transport, trust=trust, **attributes)
        found = Survey({}, {each.digest: each for each in manifests}, {}, {}, {})
        verdicts = judge_all(one, found) if trust else []
        return judge_trust(verdicts, is_given=bool(trust))


async def test_what_the_trust_takes(world: World) -> None:
    assert short(await judged(world, 1, 2)) == [(Code.TRUST, State.OK)] * 2
    assert short(await judged(world)) == [(Code.NOTHING_TO_JUDGE, State.SKIPPED)]
    assert short(await judged(world, 1, trust=())) == [(Code.NO_TRUST, State.SKIPPED)]


async def test_what_it_refuses_is_told_in_the_verdicts_words(world: World) -> None:
    other = (Publisher((OTHER_KEY.public.keyid,)),)
    (finding,) = await judged(world, 1, trust=other)
    assert short([finding]) == [(Code.MANIFEST_REFUSED, State.FAILED)]
    assert finding.text.startswith("refused (untrusted): ")
    assert finding.remedy is not None
    (finding,) = await judged(world, 1, wall=lambda: NOW + 10**8)
    assert finding.text.startswith("refused (expired): ")


async def test_what_was_accepted_before_decides_too(world: World, store: Store) -> None:
    newest = manifest_of(version=5)
    with store.transaction():
        store.trust.accept(newest)
    found = await judged(world, 4, 5, store=store)
    assert short(found) == [(Code.TRUST, State.OK), (Code.MANIFEST_REFUSED, State.WARNING)]
    assert "rollback" in found[1].text


async def test_a_state_that_can_not_be_read_does_not_keep_from_judging(world: World, state: Path) -> None:
    await _make_unusable(state)
    found = await judged(world, 1, state=state)
    assert short(found) == [(Code.TRUST, State.OK)]


async def _make_unusable(state: Path) -> None:
    await trio.Path(state).mkdir()
    await trio.Path(state / "state.sqlite3").write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)


async def test_two_roots_of_one_version_are_found(autojump_clock: MockClock, world: World) -> None:
    chain = chain_of(2)
    second = next_root(chain[0], name="another")
    roots = (TrustedRoot(Anchor.of_root(chain[0])),)
    async with (
        telling(world, manifest_of(), chain=chain) as one,
        telling(world, manifest_of(), chain=[chain[0], second]) as other,
    ):
        survey, _ = await asked(world, one.address, other.address, roots=roots)
    (finding,) = judge_roots(survey)
    assert (finding.code, finding.state) == (Code.TWO_ROOTS, State.FAILED)
    assert finding.subject in (one.peer_id, other.peer_id)
    assert "two roots of version 2 are signed" in finding.text
    assert survey.hearing is not None
    found = survey.hearing.roots  # what is remembered counts, and the second is a warning
    assert found.undecided is not None
    found.contradictions.append(found.undecided)
    found.undecided = None
    assert short(judge_roots(survey)) == [(Code.TWO_ROOTS, State.WARNING)]
    assert judge_roots(Survey({}, {}, {}, {}, {})) == []
