"""What stands wrong with a node without anything having happened."""

from __future__ import annotations

import logging

import pytest
import trio

from p2pboot.core.evidence import decode, encode, judge
from p2pboot.errors import MachineError
from p2pboot.node.observing import OBSERVE_S
from p2pboot.store.evidence import kept_evidence
from p2pboot.store.filenames import RECORD_NAME
from tests.node.test_node import TRUST, in_force, republish, to
from tests.node.world import PAIR, Mesh, Running, signed, until


def problems(node: Running) -> dict[str, str]:
    return {problem.code.value: problem.subject for problem in node.node.problems.all()}


async def test_a_mirror_whose_manifest_expired_says_so_once(
    mesh: Mesh, autojump_clock: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with mesh.publisher() as publisher:
        async with mesh.node("mirror", trust=TRUST, network=to(publisher)) as mirror:
            await until(lambda: mirror.version() == 1)
        expires = in_force(publisher).expires_at
    async with mesh.node("mirror", trust=TRUST) as mirror:
        await trio.sleep(2 * OBSERVE_S)
        assert problems(mirror) == {}
        mesh.wall.now = expires
        await trio.sleep(3 * OBSERVE_S)
        assert problems(mirror) == {"expired": "stable/x86_64"}
        status = await mirror.status()
        assert [head["expired"] for head in status["heads"]] == [True]
        assert [one["reason"] for one in status["withheld"]] == ["expired"]
        told = [record for record in caplog.records if "expired at" in record.getMessage()]
        assert [record.levelno for record in told] == [logging.ERROR]
        async with mesh.publisher(network=to(mirror)):
            await until(lambda: problems(mirror) == {})
            assert mirror.version() == 2


async def test_two_manifests_of_one_number_are_a_problem_until_a_higher_one_comes(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.node("mirror", trust=TRUST) as mirror:
        intake = mirror.node._intake
        await intake.hear(PAIR, "somebody", signed(3).raw)
        await trio.sleep(2 * OBSERVE_S)
        assert "equivocation" not in problems(mirror)
        await intake.hear(PAIR, "somebody", signed(3, seed="twin").raw)
        await trio.sleep(2 * OBSERVE_S)
        assert problems(mirror)["equivocation"] == "stable/x86_64"
        await intake.hear(PAIR, "somebody", signed(4).raw)
        await trio.sleep(2 * OBSERVE_S)
        assert "equivocation" not in problems(mirror)
        assert (await mirror.status())["equivocations"] == 1  # the evidence stays
        (evidence,) = kept_evidence(mirror.store)
        (found,) = decode(encode([evidence]))  # as somebody else gets it
        assert judge(found).culprits == signed(3).signers


async def test_a_node_whose_memory_is_in_doubt_serves_what_it_has_and_takes_nothing(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.node("mirror", trust=TRUST) as mirror:
        record = mirror.settings.store.state / RECORD_NAME
        async with mesh.publisher(network=to(mirror)) as publisher:
            await until(lambda: mirror.version() == 1)
            record.rename(record.with_name("elsewhere"))
            await trio.sleep(2 * OBSERVE_S)
            assert problems(mirror) == {"state": str(record.parent)}
            republish(publisher, "second")
            await publisher.ask(op="publish")
            await trio.sleep(2 * OBSERVE_S)
            assert mirror.version() == 1
            assert mirror.node.catalogue.offered()
            record.with_name("elsewhere").rename(record)
            await until(lambda: mirror.version() == 2 and problems(mirror) == {})


async def test_a_disk_that_is_full_is_a_problem_though_the_database_answers_nothing_and_is_told_of_once(
    mesh: Mesh, autojump_clock: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise MachineError("database or disk is full")

    async with mesh.node("mirror", trust=TRUST) as mirror:
        with monkeypatch.context() as patch:
            patch.setattr("p2pboot.node.foreseeing.free_bytes", lambda _: 0)
            patch.setattr(mirror.node.catalogue, "clock", full)
            await trio.sleep(5 * OBSERVE_S)
            assert "nearly-full" in problems(mirror)
        told = [record for record in caplog.records if "can not be found out" in record.getMessage()]
        assert len(told) == 1
        await trio.sleep(2 * OBSERVE_S)
        assert "nearly-full" not in problems(mirror)
