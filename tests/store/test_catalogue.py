"""What is wanted, held, offered and kept, through the present trust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p2pboot.core.manifest import Manifest, sign_detached
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.errors import Contradiction, SignatureError, StoreError
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.gate import Gate
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, Sample, sample
from p2pboot.testing.manifests import ALICE, BOB, CREATED, DAY_S
from p2pboot.testing.stores import hold
from tests.store.samples import manifest
from tests.store.test_manifests import INITRAMFS, kernel

NOW = CREATED + 3600
PAIR = ("stable", "arm64")
BOTH = Trust(TrustPolicy((Publisher((ALICE.public.keyid, BOB.public.keyid)),)))
ONE = Trust(TrustPolicy((Publisher((ALICE.public.keyid,)),)))


class Desk:
    """A catalogue, its gate, and a count of how often it said that something changed."""

    def __init__(self, store: Store, trust: Trust = BOTH) -> None:
        self.now = NOW
        self.store = store
        self.catalogue = Catalogue(store, trust, lambda: self.now)
        self.gate = Gate(store, self.catalogue)
        self.changes = 0
        self.catalogue.listen(self._note)

    def _note(self) -> None:
        self.changes += 1

    def enter(self, version: int, *samples: Sample, **options: Any) -> Manifest:
        made = manifest(version, *samples, **options)
        assert self.gate.enter(made, source="test").ok
        return made

    def hold(self, version: int, *samples: Sample, **options: Any) -> Manifest:
        made = self.enter(version, *samples, **options)
        for each in samples:
            hold(self.store, each.artifact, each.data)
        self.catalogue.completed(made.digest)
        return made

    @property
    def wanted(self) -> list[int]:
        return [row.manifest_version for row in self.catalogue.wanted()]

    @property
    def offered(self) -> list[int]:
        return [row.manifest_version for row in self.catalogue.offered()]

    @property
    def withheld(self) -> list[str]:
        return [one.text for one in self.catalogue.withheld()]


@pytest.fixture
def desk(store: Store) -> Desk:
    return Desk(store)


def test_what_was_accepted_is_wanted_until_it_is_whole_and_then_offered(desk: Desk) -> None:
    made = desk.enter(1, kernel(1), INITRAMFS)
    assert (desk.wanted, desk.offered) == ([1], [])
    assert desk.withheld == ["manifest version 1 is not complete here"]
    for each in (kernel(1), INITRAMFS):
        hold(desk.store, each.artifact, each.data)
    assert desk.wanted == [1]  # it is not in force yet
    changes = desk.changes
    desk.catalogue.completed(made.digest)
    assert (desk.wanted, desk.offered, desk.withheld) == ([], [1], [])
    assert desk.changes > changes


def test_new_unfinished_and_damaged_are_wanted_alike_also_after_a_restart(state: Path) -> None:
    with Store.open(state) as store:
        desk = Desk(store)
        desk.hold(1, kernel(1), INITRAMFS)
        desk.enter(5, kernel(2), INITRAMFS, channel="testing")
        store.blobs.path(kernel(1).sha256).unlink()
        assert sorted(desk.wanted) == [1, 5]
    with Store.open(state) as store:
        assert sorted(Desk(store).wanted) == [1, 5]


def test_damage_does_not_displace_something_newer(desk: Desk) -> None:
    desk.hold(1, kernel(1), INITRAMFS)
    newer = desk.enter(2, kernel(2), INITRAMFS)
    desk.store.blobs.path(kernel(1).sha256).unlink()
    assert desk.wanted == [2]
    desk.catalogue.blame(newer.digest, Contradiction("it contradicts itself"))
    assert desk.wanted == [1]  # what can be had of it


def test_what_former_keys_signed_is_not_mended_where_the_newest_is_whole(desk: Desk) -> None:
    desk.hold(1, kernel(1), INITRAMFS)
    desk.hold(2, kernel(2), INITRAMFS, keys=(BOB,))
    desk.store.blobs.path(kernel(1).sha256).unlink()
    assert len(desk.store.manifests.current()) == 2
    assert desk.wanted == []


def test_only_the_newest_is_wanted_and_what_has_expired_is_not(desk: Desk) -> None:
    for version in (1, 2, 3):
        desk.enter(version, kernel(version), INITRAMFS)
    assert desk.wanted == [3]
    desk.now += 31 * DAY_S
    assert desk.wanted == []


def test_what_is_not_trusted_any_more_is_forgotten_and_its_room_is_free(desk: Desk) -> None:
    desk.hold(1, kernel(1), INITRAMFS)
    desk.enter(9, kernel(2), INITRAMFS, keys=(BOB,), channel="testing")
    changes = desk.changes
    desk.catalogue.change_trust(Trust(TrustPolicy()))
    assert (desk.offered, desk.wanted) == ([], [])
    assert desk.store.blobs.used_bytes() == 0
    assert desk.changes > changes
    desk.catalogue.change_trust(ONE)
    desk.enter(1, kernel(1), INITRAMFS)  # the same again: trusted again is like new
    assert desk.wanted == [1]


def test_what_is_published_here_is_not_wanted(desk: Desk) -> None:
    made = desk.enter(1, kernel(1), INITRAMFS)
    desk.catalogue.publishes(PAIR, made.signers)
    assert desk.wanted == []


def test_a_head_moves_and_what_nobody_needs_goes_in_one_call(desk: Desk) -> None:
    for version in (1, 2, 3):
        desk.hold(version, kernel(version), INITRAMFS)
    assert [desk.store.blobs.holds(kernel(version).sha256) for version in (1, 2, 3)] == [False, True, True]
    with pytest.raises(StoreError, match="not in the catalogue"):
        desk.catalogue.completed("0" * 64)


def test_what_former_keys_signed_stays_until_there_is_a_previous_version(desk: Desk) -> None:
    desk.hold(1, kernel(1), INITRAMFS)
    desk.hold(2, kernel(2), INITRAMFS, keys=(BOB,))
    assert len(desk.store.manifests.current()) == 2
    desk.hold(3, kernel(3), INITRAMFS, keys=(BOB,))
    assert [row.manifest_version for row in desk.store.manifests.current()] == [3]
    assert not desk.store.blobs.holds(kernel(1).sha256)


def test_a_signers_fault_is_remembered_and_what_only_it_names_is_removed(state: Path) -> None:
    with Store.open(state) as store:
        desk = Desk(store)
        desk.hold(1, kernel(1), INITRAMFS)
        wrong = desk.enter(2, kernel(2), INITRAMFS)
        partial = store.blobs.begin(kernel(2).sha256, kernel(2).table)
        assert partial is not None
        partial.close()
        changes = desk.changes
        desk.catalogue.blame(wrong.digest, Contradiction("it contradicts itself"))
        assert desk.changes > changes
        assert list((state / "partial").iterdir()) == []
        assert (desk.wanted, desk.offered) == ([], [1])
        assert store.blobs.holds(INITRAMFS.sha256)  # the first needs it
        assert store.manifests.pending() == []
    with Store.open(state) as store:  # a restart forgets nothing
        desk = Desk(store)
        assert desk.wanted == []
        (fault,) = desk.catalogue.faults()
        assert (fault.manifest_version, fault.fault) == (2, "it contradicts itself")
        heads = [_Listed(wrong)]
        assert desk.catalogue.choose(heads) == ([], [])  # not even asked for
        assert desk.gate.enter(wrong, source="test").ok  # it is well signed, and others may have another disk
        assert desk.wanted == []
        desk.hold(3, kernel(3), INITRAMFS)
        assert (desk.offered, desk.catalogue.faults()) == ([3], [])


class _Listed:
    """What a peer's list says of a manifest."""

    def __init__(self, made: Manifest) -> None:
        self.channel, self.arch, self.signers = made.channel, made.arch, made.signers
        self.manifest_version, self.digest = made.manifest_version, made.digest


def test_a_fault_is_said_where_nothing_else_is_offered(desk: Desk) -> None:
    made = desk.enter(1, kernel(1), INITRAMFS)
    desk.catalogue.blame(made.digest, Contradiction("it contradicts itself"))
    (withheld,) = desk.catalogue.withheld()
    assert "contradicts itself" in withheld.text
    assert withheld.retry_after_s is None
    missing = desk.catalogue.missing(kernel(1).sha256)
    assert missing is not None
    assert missing.retry_after_s is None


def test_pieces_that_can_not_be_those_of_what_is_held_are_a_contradiction(desk: Desk) -> None:
    held = sample(3 * PIECE, 1)
    desk.hold(1, held, INITRAMFS)
    other = sample(3 * PIECE, 2, sha256=held.sha256)
    with pytest.raises(Contradiction, match="kernel"):
        desk.catalogue.check_tables(manifest(2, other, INITRAMFS))
    longer = sample(3 * PIECE, 1, piece_length=2 * PIECE)
    desk.catalogue.check_tables(manifest(2, longer, INITRAMFS))  # other pieces of the same: as good
    desk.catalogue.check_tables(manifest(2, held, sample(3, 9, key="initramfs")))


def test_a_detached_signature_that_comes_later_is_kept_if_it_is_good(desk: Desk) -> None:
    made = desk.enter(1)
    assert not desk.catalogue.has_detached(made.digest)
    with pytest.raises(SignatureError):
        desk.catalogue.add_detached(made, "nonsense")
    desk.catalogue.add_detached(made, sign_detached(made.raw, ALICE))
    assert desk.catalogue.has_detached(made.digest)
    desk.catalogue.withdraw(PAIR, [made.signers])
    desk.catalogue.add_detached(made, sign_detached(made.raw, ALICE))
    assert desk.store.manifests.row(made.digest) is None  # nothing is brought back by it


def test_nobody_is_told_of_what_did_not_change(desk: Desk) -> None:
    desk.enter(2)
    changes = desk.changes
    assert not desk.gate.enter(manifest(1), source="test").ok
    desk.catalogue.withdraw(("testing", "arm64"), [manifest(1).signers])
    desk.catalogue.tidy()
    assert desk.changes == changes


# -- how many versions are kept


def test_one_version_is_kept_where_the_operator_says_so(store: Store) -> None:
    desk = Desk(store)
    for number in (1, 2):
        desk.hold(number, kernel(number), INITRAMFS)
    assert store.blobs.holds(kernel(1).sha256)
    desk.catalogue.keep = 1
    desk.catalogue.change_trust(BOTH)  # as at a start, or a reload
    assert not store.blobs.holds(kernel(1).sha256)
    desk.hold(3, kernel(3), INITRAMFS)
    assert desk.offered == [3]
    assert not store.blobs.holds(kernel(2).sha256)
    assert store.blobs.holds(INITRAMFS.sha256)


def test_what_is_kept_is_what_is_offered_not_what_is_newest(store: Store) -> None:
    desk = Desk(store)
    for number in (1, 2):
        desk.hold(number, kernel(number), INITRAMFS)
    store.blobs.remove(kernel(2).sha256)  # it rotted
    desk.catalogue.keep = 1
    desk.catalogue.change_trust(BOTH)
    assert desk.offered == [1]


@pytest.mark.parametrize(("keep", "yields"), [(2, [1]), (1, [1, 2])])
def test_former_versions_yield_one_after_the_other(store: Store, keep: int, yields: list[int]) -> None:
    """What they have in common with the next one, or with another channel, gives no room."""
    desk = Desk(store)
    for number in (1, 2):
        desk.hold(number, kernel(number), INITRAMFS)
    desk.catalogue.keep = keep
    new = desk.enter(3, kernel(3), INITRAMFS)
    former = desk.catalogue.former(new.digest)
    assert former.bytes() == sum(kernel(number).table.size for number in yields)
    former.give_up(1)
    assert not store.blobs.holds(kernel(1).sha256)
    assert desk.offered == [2]
    former.give_up(1)
    assert desk.offered == ([] if keep == 1 else [2])
    assert store.blobs.holds(INITRAMFS.sha256)
    assert desk.wanted == [3]


def test_what_expired_before_it_was_whole_leaves_its_room(store: Store) -> None:
    desk = Desk(store)
    desk.hold(1, kernel(1), INITRAMFS)
    two = sample(2 * PIECE)
    made = desk.enter(2, two, INITRAMFS)
    partial = store.blobs.begin(two.sha256, two.table)
    assert partial is not None
    partial.write(0, two.piece(0))
    partial.close()
    desk.catalogue.tidy()
    assert partial.path.exists()
    desk.now = made.expires_at
    desk.catalogue.tidy()
    assert not partial.path.exists()
    assert store.blobs.holds(kernel(1).sha256)  # of what was in force
