"""A version of a root that nobody brought: who sees that, for how long it is nobody's fault, and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from p2pboot.core.policy import TrustedRoot, TrustPolicy
from p2pboot.core.problems import Code, Problem
from p2pboot.core.trust import Trust
from p2pboot.core.trustdocs.chain import Anchor
from p2pboot.core.trustdocs.root import Root
from p2pboot.node.trusting.gaps import FORGOTTEN_S, PATIENCE_S, Gaps
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.store import Store
from p2pboot.store.trustgate import Fate
from p2pboot.testing.manifests import NOW, key_of
from p2pboot.testing.trustdocs import ROOT_KEYS, chain_of, root_body, signed_root
from tests.node.world import Mesh, Running, until

CHAIN = chain_of(3)


def given(root: Root) -> tuple[TrustedRoot, ...]:
    return (TrustedRoot(Anchor.of_root(root)),)


def gap(node: Running) -> list[Problem]:
    return [one for one in node.node.problems.all() if one.code is Code.ROOT_GAP]


def version_of(node: Running) -> int:
    newest = node.node.catalogue.trust.roots[0].newest
    return 0 if newest is None else newest.version


@pytest.mark.parametrize("network", [{}, {"gossip": False}, {"sync": False}], ids=["both", "sync", "gossip"])
async def test_who_knows_version_one_says_that_version_two_is_nowhere_until_somebody_brings_it(
    mesh: Mesh, autojump_clock: None, network: dict[str, Any]
) -> None:
    async with mesh.node("publisher", roots=given(CHAIN[0])):
        pass
    async with (
        mesh.node("publisher", roots=given(CHAIN[2]), network=network) as publisher,
        mesh.node(
            "mirror", roots=given(CHAIN[0]), network={**network, "bootstrap": (publisher.address,)}
        ) as mirror,
    ):
        await trio.sleep(PATIENCE_S / 2)
        assert gap(publisher) == gap(mirror) == []
        await until(lambda: gap(publisher), within_s=600)
        assert gap(publisher)[0].text.startswith("version 2 is not here, and version 3 is in force")
        if network.get("gossip", True):  # else it is not told of what it can not follow
            await until(lambda: gap(mirror), within_s=1200)
            assert gap(mirror)[0].text.startswith(
                "others have version 3, and nobody who was asked has version 2"
            )
        take = publisher.node.trust_gate.hand_in
        assert take([CHAIN[1].raw], source="a file").fate is Fate.NEWS
        await until(lambda: gap(publisher) == [])
        if network.get("sync", True):  # which is how what is between comes
            await until(lambda: version_of(mirror) == 3, within_s=1200)
            await until(lambda: gap(mirror) == [])


@pytest.fixture
def catalogue(tmp_path: Path) -> Any:
    with Store.open(tmp_path / "state") as store:
        yield store, Catalogue(store, Trust(TrustPolicy.of((), given(CHAIN[0]))), lambda: NOW)


def test_strangers_cause_no_alarm_and_what_is_said_no_more_is_forgotten(
    catalogue: tuple[Store, Catalogue],
) -> None:
    store, seen = catalogue
    gaps = Gaps(seen)
    keys = [key_of(f"stranger {number}") for number in range(3)]
    strange: dict[str, Any] = {"version": 9, "fleet": CHAIN[0].fleet}
    forged = CHAIN[2].raw.replace(b'"version":3', b'"version":4')
    for raw in (signed_root(root_body(keys=keys, **strange), keys).raw, forged, CHAIN[1].raw, b"{}"):
        gaps.note(raw, 0.0)
    other = signed_root(root_body(version=9, fleet="a" * 64), ROOT_KEYS[:1])
    gaps.note(other.raw, 0.0)
    assert gaps.look(store.documents, PATIENCE_S) == []
    gaps.note(CHAIN[2].raw, 10.0)
    assert gaps.look(store.documents, PATIENCE_S) == []
    (problem,) = gaps.look(store.documents, 10.0 + PATIENCE_S)
    assert (problem.code, problem.subject) == (Code.ROOT_GAP, "test fleet")
    assert gaps.look(store.documents, 10.0 + FORGOTTEN_S) == []
