"""What time it is at least, by what those said who are trusted now."""

from __future__ import annotations

import pytest

from p2pboot import RELEASE_DATE
from p2pboot.core.clock import MAX_AHEAD_S
from p2pboot.core.policy import TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.verify import clock_problem
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.recovery import examine
from p2pboot.store.store import Store
from p2pboot.testing.manifests import DAY_S, NOW, key_of, signed_manifest
from p2pboot.testing.trustdocs import FRESH, next_root, root_body, signed_root, statement_of
from tests.store.test_offering import FILES, PAIR, Desk, role

LATE = NOW + 2000 * DAY_S
DEAD = 0


def after(root: Root, store: Store, wall: int = DEAD, **said: object) -> Catalogue:
    trust = Desk(store, root).catalogue.trust
    return Catalogue(store, Trust(trust.configured, **said), lambda: wall)  # type: ignore[arg-type]


def accept(store: Store, created_at: int, signer: str = "publisher", number: int = 1) -> None:
    made = signed_manifest(
        FILES, [key_of(signer)], created_at=created_at, expires_at=created_at + DAY_S, manifest_version=number
    )
    assert store.trust.accept(made)


def test_a_root_tells_the_time_by_itself(store: Store) -> None:
    root = signed_root(root_body(publish=(role("publisher"),), created_at=NOW))
    clock = after(root, store).clock()
    assert (clock.now, clock.trusted) == (NOW, False)
    problem = clock_problem(clock)
    assert problem is not None
    assert "root version 1 of 'test fleet'" in problem.text
    assert "its owners sign the next version" in (problem.remedy or "")
    # A next version with an earlier date heals what was dated wrongly.
    healed = next_root(root, created_at=NOW - DAY_S)
    desk = Desk(store, root)
    desk.trust_gate.take_roots([root.raw, healed.raw], source="test")
    desk.now = DEAD
    assert desk.catalogue.clock().now == NOW - DAY_S


def test_nothing_raises_it_past_the_expiry_of_the_root_that_vouches_for_it(store: Store) -> None:
    root = signed_root(root_body(publish=(role("publisher"),), created_at=NOW, expires_at=NOW + DAY_S))
    accept(store, LATE)
    assert after(root, store).clock().now == NOW + DAY_S
    for_ever = signed_root(root_body(publish=(role("publisher"),), created_at=NOW, expires_at=None))
    assert after(for_ever, store).clock().now == LATE


def test_a_removed_key_takes_its_contribution_along(store: Store) -> None:
    first = signed_root(root_body(publish=(role("publisher", "second"),), created_at=NOW, expires_at=None))
    accept(store, LATE)
    accept(store, NOW + DAY_S, "second", 2)
    desk = Desk(store, first)
    desk.now = DEAD
    assert desk.catalogue.clock().now == LATE
    desk.succeed(publish=(role("second"),))
    assert desk.catalogue.clock().now == NOW + DAY_S


def test_a_freshness_statement_raises_it_while_its_signers_have_a_say_and_are_not_this_machine(
    store: Store,
) -> None:
    root = signed_root(root_body(publish=(role("publisher"),), created_at=NOW))
    desk = Desk(store, root)
    made = desk.hold(1)
    said = statement_of(made, root, created_at=NOW + MAX_AHEAD_S)
    assert desk.trust_gate.take_freshness(said.raw, source="test").fate.value == "news"
    desk.now = DEAD
    clock = desk.catalogue.clock()
    assert clock.now == NOW + MAX_AHEAD_S
    assert clock.held_by is not None
    assert clock.held_by.shown == "a freshness statement of stable/x86_64"
    assert after(root, store, vouching=(FRESH.public.keyid,)).clock().now == NOW
    desk.succeed(publish=(role("publisher", fresh="another"),))
    assert desk.catalogue.clock().now == NOW


def test_what_lies_in_the_future_is_found_and_a_statement_is_forgotten(store: Store) -> None:
    root = signed_root(root_body(publish=(role("publisher"),), created_at=NOW, expires_at=None))
    desk = Desk(store, root)
    made = desk.hold(1)
    desk.trust_gate.take_roots([root.raw], source="test")
    store.documents.put_statement(statement_of(made, root, created_at=LATE))
    store.documents.put_chain(desk.catalogue.trust.roots[0].anchor, desk.catalogue.trust.roots[0].chain)  # type: ignore[arg-type]
    seen = examine(store, RELEASE_DATE)
    kinds = [(one.code, one.subject, one.repair is not None) for one in seen.findings]
    assert kinds == [
        ("future-time", "stable/x86_64", True),
        ("future-time", "stable/x86_64", True),
        ("future-root", "test fleet", False),
    ]
    for finding in seen.findings:
        if finding.repair is not None:
            finding.repair.mend()
    assert [one.code for one in examine(store, RELEASE_DATE).findings] == ["future-root"]
    assert store.documents.statements() == []


@pytest.mark.parametrize("trusted", [True, False])
def test_who_is_not_trusted_tells_no_time(store: Store, trusted: bool) -> None:
    accept(store, LATE)
    policy = Desk(store).catalogue.trust.configured if trusted else TrustPolicy()
    now = Catalogue(store, Trust(policy), lambda: DEAD).clock().now
    assert now == (NOW + 365 * DAY_S if trusted else RELEASE_DATE)
    assert store.trust.heads_of(*PAIR)[0].manifest_version == 1
