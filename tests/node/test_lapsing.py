"""Roots that run out, and what was taken back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2pboot.core.manifest import content_digest
from p2pboot.core.policy import TrustedRoot, TrustPolicy
from p2pboot.core.timestamps import format_time
from p2pboot.core.trust import Trust
from p2pboot.core.trustdocs.chain import Anchor, begin
from p2pboot.core.trustdocs.envelope import add_signature
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import PublishRole, Role, RootBody
from p2pboot.core.trustdocs.yank import YankBody
from p2pboot.node.lapsing import EXPIRING_SHARE, root_problems, yanked_problems
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.store import Store
from p2pboot.store.trustgate import Fate, TrustGate
from p2pboot.testing.manifests import ALICE, CAROL, DAY_S, NOW, signed_manifest
from p2pboot.testing.stores import offer
from tests.node.world import PAIR, files_of

YEAR_S = 365 * DAY_S


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state") as opened:
        yield opened


def policy(**said: Any) -> TrustPolicy:
    facts: dict[str, Any] = {
        "name": "fleet",
        "version": 1,
        "created_at": NOW,
        "expires_at": NOW + YEAR_S,
        "root": Role((CAROL.public.keyid,)),
        "publish": (PublishRole((ALICE.public.keyid,)),),
        **said,
    }
    anchor = Anchor.of_root(Root.parse(add_signature(RootBody(**facts).document(), CAROL)))
    return TrustPolicy.of((), (TrustedRoot(anchor, begin(anchor)),))


def found(store: Store, at: int, **said: Any) -> list[tuple[str, str]]:
    catalogue = Catalogue(store, Trust(policy(**said)), lambda: at)
    return [(one.code.value, one.text) for one in root_problems(catalogue)]


def test_a_root_is_told_of_from_the_last_third_on(store: Store) -> None:
    third = NOW + YEAR_S - YEAR_S // EXPIRING_SHARE
    ends = format_time(NOW + YEAR_S)
    assert found(store, third) == []
    assert found(store, third + 1) == [("root-expiring", f"version 1 of the root expires at {ends}")]
    assert found(store, NOW + YEAR_S) == [
        ("root-expired", f"version 1 of the root expired at {ends}: what it says goes on to count")
    ]
    ((_, text),) = found(store, NOW + YEAR_S, on_expiry="refuse")
    assert "nothing that it vouches for is taken or offered" in text
    assert found(store, NOW + 9 * YEAR_S, expires_at=None) == []


def test_what_was_taken_back_is_told_of_until_something_newer_is_here(store: Store) -> None:
    catalogue = Catalogue(store, Trust(policy()), lambda: NOW)
    bad = signed_manifest(files_of("bad"), [ALICE], manifest_version=4)
    offer(store, bad, files_of("bad"))
    assert yanked_problems(store, catalogue) == []
    body = YankBody(
        fleet=catalogue.trust.roots[0].anchor.digest,
        channel=PAIR[0],
        arch=PAIR[1],
        content=content_digest(bad),
        reason="it does not boot",
        created_at=NOW,
    )
    taken = TrustGate(store, catalogue).take_yank(add_signature(body.document(), ALICE), source="a test")
    assert taken.fate is Fate.NEWS
    (problem,) = yanked_problems(store, catalogue)
    assert (problem.code, problem.subject) == ("yanked", "stable/x86_64")
    assert problem.text.endswith("so nothing is offered: it does not boot")
    stranger = Catalogue(store, replace(catalogue.trust, configured=TrustPolicy()), lambda: NOW)
    assert yanked_problems(store, stranger) == []
    offer(store, signed_manifest(files_of("good"), [ALICE], manifest_version=5), files_of("good"))
    assert yanked_problems(store, catalogue) == []
