"""The highest version of a root outlasts the database, and nothing goes back behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pboot.core.policy import TrustedRoot, TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.core.trustdocs.chain import Anchor, Chain, begin
from p2pboot.core.trustdocs.root import Root
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.errors import MemoryInDoubt
from p2pboot.store.filenames import DATABASE_NAME
from p2pboot.store.record import Entry, Memory
from p2pboot.store.resolving import Difference, Way, find_doubt, go_on
from p2pboot.store.store import Store
from p2pboot.store.trustgate import Fate, TrustGate
from p2pboot.testing.manifests import NOW, key_of
from p2pboot.testing.trustdocs import chain_of, next_root, root_body, signed_root

CHAIN = chain_of(4)
FLEET = CHAIN[0].digest


def gate_of(store: Store, root: Root = CHAIN[0]) -> tuple[TrustGate, Catalogue]:
    anchor = Anchor.of_root(root)
    policy = TrustPolicy.of((), (TrustedRoot(anchor, begin(anchor)),))
    catalogue = Catalogue(store, Trust(policy), lambda: NOW)
    return TrustGate(store, catalogue), catalogue


def take(gate: TrustGate, *roots: Root) -> Fate:
    return gate.take_roots([one.raw for one in roots], source="test").fate


def version(catalogue: Catalogue) -> int:
    newest = catalogue.trust.roots[0].newest
    return 0 if newest is None else newest.version


@pytest.fixture
def lost(state: Path) -> Path:
    """A state that had version 3 in force, whose database was lost, and whose operator believed the record."""
    with Store.open(state) as store:
        gate, catalogue = gate_of(store)
        assert take(gate, *CHAIN[:3]) is Fate.NEWS
        assert version(catalogue) == 3
    (state / DATABASE_NAME).write_bytes(b"")
    with pytest.raises(MemoryInDoubt):
        Store.open(state)
    found = find_doubt(state)
    assert found is not None
    assert found.differences() == (Difference("root", f"fleet {FLEET}", "", None, 3),)
    go_on(state, found, Way.TRUST_RECORD)
    return state


def test_nothing_older_is_in_force_again_although_the_documents_are_lost(lost: Path) -> None:
    with Store.open(lost) as store:
        gate, catalogue = gate_of(store)
        assert version(catalogue) == 0  # not even that of the file that the operator gave
        assert catalogue.trust.publishers == ()
        assert take(gate, *CHAIN[:2]) is Fate.OLDER
        assert version(catalogue) == 0
        assert take(gate, *CHAIN) is Fate.NEWS
        assert version(catalogue) == 4


def test_another_root_of_the_remembered_version_is_not_taken_unless_the_operator_names_it(lost: Path) -> None:
    other = next_root(CHAIN[1], name="another third")
    with Store.open(lost) as store:
        gate, catalogue = gate_of(store)
        assert take(gate, *CHAIN[:2], other) is Fate.OLDER
        assert version(catalogue) == 0
        _, named = gate_of(store, other)
        assert version(named) == 3


def test_a_chain_is_remembered_by_its_fleet_once_that_is_known(state: Path) -> None:
    second = CHAIN[1]
    with Store.open(state) as store:
        bare = Anchor(second.digest)
        store.documents.put_chain(bare, Chain((second,), None))
        assert store.documents.remembered() == ((second.digest, 2, second.digest),)
        store.documents.put_chain(bare, Chain((second, CHAIN[2]), FLEET))
        assert store.documents.remembered() == ((FLEET, 3, CHAIN[2].digest),)
        assert not store.documents.put_chain(
            bare, Chain((second, CHAIN[2]), FLEET)
        )  # no news: nothing is written


def test_a_record_of_before_there_were_roots_is_read_and_says_the_same() -> None:
    old = Entry("0" * 16, 3, Memory(accepted=(("key", "stable", "arm64", 5, "digest"),)))
    assert b"roots" not in old.line()
    assert Entry.parse(old.line().rstrip(b"\n")) == old
    new = Entry("0" * 16, 4, Memory(roots=((FLEET, 2, CHAIN[1].digest),)))
    assert Entry.parse(new.line().rstrip(b"\n")) == new


def test_another_fleet_is_another_memory(lost: Path) -> None:
    other = signed_root(root_body(name="another fleet"))
    with Store.open(lost) as store:
        _, catalogue = gate_of(store, other)
        assert version(catalogue) == 1


def test_a_root_file_that_names_no_fleet_goes_on_from_the_chain_that_is_here(state: Path) -> None:
    """As the roots of other tools, which need not say it."""
    first = CHAIN[0]
    second = next_root(first, fleet=None)
    with Store.open(state) as store:
        gate, _ = gate_of(store, first)
        gate.keep_roots()
        gate, catalogue = gate_of(store, second)
        gate.keep_roots()
        (trusted,) = catalogue.trust.roots
        assert (version(catalogue), trusted.fleet) == (2, FLEET)
        assert store.documents.roots(FLEET) == [first.raw, second.raw]


def test_a_root_file_that_does_not_follow_is_of_no_fleet_here(state: Path) -> None:
    others = tuple(key_of(f"other {number}") for number in (1, 2, 3))
    foreign = signed_root(root_body(keys=others, version=2), keys=others[:2])
    with Store.open(state) as store:
        gate, _ = gate_of(store, CHAIN[0])
        gate.keep_roots()
        _, catalogue = gate_of(store, foreign)
        assert (version(catalogue), catalogue.trust.roots[0].fleet) == (2, None)


def test_who_heard_of_less_than_another_process_takes_nothing_back(state: Path) -> None:
    with Store.open(state) as store:
        behind, _ = gate_of(store)
        ahead, _ = gate_of(store)
        assert take(ahead, *CHAIN) is Fate.NEWS
        behind.keep_roots()  # it began with the operator's file, and has heard of nothing since
        assert take(behind, CHAIN[1]) is Fate.OLDER
        assert store.documents.remembered() == ((FLEET, 4, CHAIN[3].digest),)
        assert store.documents.roots(FLEET) == [root.raw for root in CHAIN]
        assert version(gate_of(store)[1]) == 4


@pytest.mark.parametrize(
    "anchor", [Anchor(CHAIN[2].digest), Anchor.of_root(CHAIN[2])], ids=["digest", "file"]
)
def test_a_version_that_is_missing_before_the_root_that_is_believed_takes_no_later_one_away(
    state: Path, anchor: Anchor
) -> None:
    with Store.open(state) as store:
        gate, _ = gate_of(store)
        gate.keep_roots()
        gate, catalogue = gate_of(store, CHAIN[2])
        gate.keep_roots()
        assert take(gate, CHAIN[3]) is Fate.NEWS
        assert store.documents.roots(FLEET) == [CHAIN[0].raw, CHAIN[2].raw, CHAIN[3].raw]
    with Store.open(state) as store:
        catalogue = Catalogue(store, Trust(TrustPolicy.of((), (TrustedRoot(anchor),))), lambda: NOW)
        assert version(catalogue) == 4
