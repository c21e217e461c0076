"""The announcements and contradictions that a state holds."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from p2pboot.core.timetoke.agreement import Conflict
from p2pboot.errors import StoreError
from p2pboot.store import announcements as announcements_module
from p2pboot.store.announcements import KEPT_PER_SIGNER, Announcements
from p2pboot.store.store import Store
from tests.core.timetoke.samples import ALICE, BOB, announce, payload_of


@pytest.fixture
def shelf(store: Store) -> Announcements:
    return store.announcements


def test_a_new_state_has_none(shelf: Announcements) -> None:
    assert shelf.all() == ()
    assert shelf.last_sequence() == 0
    assert shelf.get(ALICE.public.keyid, "00" * 32) is None


def test_announcements_survive_and_are_found(state: Path) -> None:
    one, other = announce(payload_of(1), ALICE, 1), announce(payload_of(2), BOB, 2)
    with Store.open(state) as store:
        store.announcements.put(one)
        store.announcements.put(other)
    with Store.open(state) as again:
        assert again.announcements.all() == (other, one)
        assert again.announcements.get(one.signer, one.root) == one
        assert again.announcements.of_root(other.root) == (other,)
        assert again.announcements.last_sequence() == 2


def test_a_newer_sequence_of_the_same_snapshot_replaces_the_older_never_the_other_way(
    shelf: Announcements,
) -> None:
    for sequence in (2, 5, 3):
        shelf.put(announce(payload_of(1), ALICE, sequence))
    assert [one.sequence for one in shelf.all()] == [5]


def test_what_is_no_announcement_is_not_offered(shelf: Announcements, store: Store) -> None:
    good = announce(payload_of(1))
    shelf.put(good)
    with store._database.transaction() as sql:
        sql.execute("INSERT INTO announcements VALUES ('ed25519:00', ?, 7, ?, NULL)", ("00" * 32, b"{}"))
    assert shelf.all() == (good,)


def test_what_has_a_fault_is_remembered_and_not_offered(state: Path) -> None:
    good, bad = announce(payload_of(1), ALICE, 1), announce(payload_of(2), ALICE, 2)
    with Store.open(state) as store:
        store.announcements.put(good)
        store.announcements.put(bad)
        store.announcements.put(bad, "its payload is another")
        store.announcements.put(bad)  # saying it again mends nothing
    with Store.open(state) as again:
        shelf = again.announcements
        assert shelf.all() == (good,)
        assert shelf.get(bad.signer, bad.root) is None
        assert shelf.of_root(bad.root) == ()
        assert shelf.faults() == {(bad.signer, bad.root, 2): "its payload is another"}
        assert set(shelf.said()) == {good, bad}
        higher = announce(payload_of(2), ALICE, 3)
        shelf.put(higher)
        assert shelf.all() == (higher, good)
        assert shelf.faults() == {}


def test_faults_push_out_only_older_faults(shelf: Announcements) -> None:
    good = announce(payload_of(0), ALICE, 1)
    shelf.put(good)
    for number in range(1, KEPT_PER_SIGNER + 3):
        shelf.put(announce(payload_of(number), ALICE, number + 1), "its payload is another")
    assert shelf.all() == (good,)
    assert sorted(sequence for _, _, sequence in shelf.faults()) == list(range(4, KEPT_PER_SIGNER + 4))


def test_what_was_said_has_both_sides_of_contradictions(shelf: Announcements) -> None:
    said = [announce(payload_of(number), ALICE, 7) for number in range(3)]
    shelf.put(said[0])
    shelf.put_conflict(Conflict(7, said[1], said[2]))
    assert set(shelf.said()) == set(said)


def test_the_oldest_of_a_signer_go(shelf: Announcements) -> None:
    other = announce(payload_of(0), BOB, 1)
    shelf.put(other)
    for number in range(KEPT_PER_SIGNER + 3):
        shelf.put(announce(payload_of(number), ALICE, number + 1))
    assert [one.sequence for one in shelf.all()] == [*range(KEPT_PER_SIGNER + 3, 3, -1), 1]


def test_nobody_comes_between_choosing_a_sequence_and_putting_it(state: Path) -> None:
    """Each with a connection of its own, as processes have."""

    def publish(number: int) -> None:
        with Store.open(state) as store, store.announcements.exclusive():
            sequence = store.announcements.last_sequence() + 1
            store.announcements.put(announce(payload_of(number), ALICE, sequence))

    Store.open(state).close()
    threads = [threading.Thread(target=publish, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Store.open(state) as store:
        assert [one.sequence for one in store.announcements.all()] == [6, 5, 4, 3, 2, 1]


def test_an_announcement_that_fails_to_be_made_leaves_nothing(shelf: Announcements) -> None:
    def fail() -> None:
        with shelf.exclusive():
            shelf.put(announce(payload_of(1)))
            raise StoreError("the key is gone")

    with pytest.raises(StoreError):
        fail()
    assert shelf.all() == ()


def test_a_contradiction_is_kept_once_and_only_so_many(
    shelf: Announcements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcements_module, "KEPT_CONFLICTS", 2)
    said = [announce(payload_of(number), ALICE, 7) for number in range(4)]
    assert shelf.put_conflict(Conflict(7, said[0], said[1]))
    assert shelf.put_conflict(Conflict(7, said[1], said[0]))
    assert shelf.put_conflict(Conflict(7, said[0], said[2]))
    assert not shelf.put_conflict(Conflict(7, said[0], said[3]))
    kept = [{first, second} for first, second in shelf.conflicts()]
    assert kept == [{said[0].raw, said[1].raw}, {said[0].raw, said[2].raw}]
