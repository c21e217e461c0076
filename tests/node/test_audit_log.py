"""What a node takes down in its audit log."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from p2pboot.core.policy import TrustedRoot
from p2pboot.core.problems import Code
from p2pboot.core.trustdocs.chain import Anchor
from p2pboot.node.observing import OBSERVE_S
from p2pboot.testing.manifests import key_of
from p2pboot.testing.trustdocs import chain_of, yank_of
from tests.node.world import Mesh, Running, signed, trusting, until, write_tree

TRUST = trusting("publisher", channels=("stable",), archs=("x86_64",))


def entries(node: Running) -> list[dict[str, Any]]:
    path = node.settings.store.state / "audit.log"
    return [json.loads(line) for line in path.read_text().splitlines()]


def events(node: Running) -> list[str]:
    return [one["event"] for one in entries(node)]


async def test_publisher_and_mirror_say_what_they_did_and_by_whose_key(
    mesh: Mesh, autojump_clock: None
) -> None:
    key = key_of("publisher").public
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=TRUST, network={"bootstrap": (publisher.address,)}) as mirror,
    ):
        await until(lambda: mirror.version() == 1)
        assert events(publisher) == ["started", "published"]
        started, published = entries(publisher)
        assert started["signing_key"] == key.keyid
        assert (published["channel"], published["manifest_version"], published["signers"]) == (
            "stable",
            1,
            [key.keyid],
        )
        assert events(mirror) == ["started", "accepted"]
        started, accepted = entries(mirror)
        assert [one["keys"] for one in started["trust"]] == [[key.keyid]]
        assert accepted["source"] == publisher.node.peer_id
        assert accepted["digest"] == published["digest"]
        await mirror.node.apply(mirror.settings)
        assert len(entries(mirror)) == 2  # a reload that changes nothing is no change of trust
        await mirror.node.apply(replace(mirror.settings, trust=trusting("other")))
        assert events(mirror)[2] == "trust-changed"  # and then, perhaps, what is offered is refused
        assert [one["keys"] for one in entries(mirror)[2]["trust"]] == [[key_of("other").public.keyid]]

        directory = publisher.settings.provider.directory
        assert directory is not None
        write_tree(directory, "other image", ("testing", "x86_64"))
        shutil.rmtree(directory / "stable")
        publisher.node.publish_soon()
        await until(lambda: "withdrawn" in events(publisher))
        (withdrawn,) = (one for one in entries(publisher) if one["event"] == "withdrawn")
        assert (withdrawn["digest"], withdrawn["signers"]) == (published["digest"], [key.keyid])


async def test_that_it_can_not_be_written_is_a_problem_until_it_can(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.node("mirror", trust=TRUST) as mirror:
        path = mirror.settings.store.state / "audit.log"
        path.unlink()
        path.mkdir()

        def problems() -> list[Code]:
            return [one.code for one in mirror.node.problems.all()]

        await mirror.node.apply(replace(mirror.settings, trust=trusting("other")))
        await until(lambda: Code.AUDIT_LOG in problems())
        path.rmdir()
        await mirror.node.apply(replace(mirror.settings, trust=TRUST))
        await trio.sleep(2 * OBSERVE_S)
        assert Code.AUDIT_LOG not in problems()
        assert events(mirror) == ["lost", "trust-changed"]


async def test_it_is_off_or_elsewhere_where_the_operator_says_so(
    mesh: Mesh, tmp_path: Path, autojump_clock: None
) -> None:
    async with mesh.node("without", trust=TRUST, log={"audit": "off"}) as node:
        assert not (node.settings.store.state / "audit.log").exists()
    async with mesh.node("elsewhere", trust=TRUST, log={"audit": tmp_path / "other.log"}) as node:
        assert not (node.settings.store.state / "audit.log").exists()
    assert (tmp_path / "other.log").read_text().count("\n") == 1


async def test_roots_and_yanks_that_came_into_force_are_taken_down_and_what_was_refused(
    mesh: Mesh, autojump_clock: None
) -> None:
    first, second = chain_of(2)
    roots = (TrustedRoot(Anchor.of_root(first)),)
    async with mesh.node("mirror", roots=roots) as mirror:
        gate = mirror.node.trust_gate
        gate.take_roots([second.raw], source="a peer")
        manifest = signed(4)
        fleet = first.digest
        gate.take_yank(yank_of(manifest, fleet=fleet).raw, source="a peer")
        gate.take_yank(yank_of(manifest, fleet=fleet, keys=(key_of("somebody"),)).raw, source="a liar")
        for _ in range(3):
            gate.take_freshness(b"{}", source="a liar")
        found = [one for one in entries(mirror) if one["event"] in ("root", "yanked", "refused")]
    root, yanked, untrusted, bad = found
    assert (root["fleet"], root["version"], root["digest"], root["source"]) == (
        fleet,
        2,
        second.digest,
        "a peer",
    )
    assert (yanked["channel"], yanked["signers"]) == ("stable", [key_of("publisher").public.keyid])
    assert (untrusted["reason"], untrusted["source"]) == ("yank", "a liar")
    assert bad["reason"] == "freshness"
