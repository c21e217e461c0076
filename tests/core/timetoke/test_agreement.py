"""m of n: announcements of several keys add up, and contradictions neither pass nor block what has enough keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.policy import Publisher
from p2pboot.core.timetoke.agreement import KEPT_SEQUENCES, Agreement, AnnouncementStanding
from p2pboot.core.timetoke.errors import AnnouncementConflict
from tests.core.timetoke.samples import ALICE, BOB, CAROL, announce, payload_of

X, Y, Z = payload_of(1), payload_of(2), payload_of(3)


def agreement(threshold: int = 1) -> Agreement:
    return Agreement(Publisher(tuple(key.public.keyid for key in (ALICE, BOB, CAROL)), threshold))


def test_one_key_is_enough_by_default_and_the_highest_sequence_wins() -> None:
    heard = agreement()
    assert heard.latest() is None
    assert heard.add(announce(Y, ALICE, 2)) is AnnouncementStanding.NEW
    assert heard.add(announce(X, BOB, 1)) is AnnouncementStanding.OLDER
    latest = heard.latest()
    assert latest is not None
    assert (latest.sequence, latest.root) == (2, announce(Y).root)


def test_nothing_is_agreed_on_below_what_enough_keys_reached_before() -> None:
    """Their announcements may be lost; and a key that ran ahead of the others holds nobody up."""
    reached = {ALICE.public.keyid: 9, BOB.public.keyid: 5, "somebody else": 99}
    for threshold, floor in ((1, 9), (2, 5), (3, 0)):
        heard = agreement(threshold)
        heard.not_below(reached)
        keys = (ALICE, BOB, CAROL)[:threshold]
        for key in keys:
            assert (heard.add(announce(X, key, 4)) is AnnouncementStanding.OLDER) == (floor > 4)
        assert (heard.latest() is None) == (floor > 4)
        for key in keys:
            heard.add(announce(Y, key, 9))
        latest = heard.latest()
        assert latest is not None
        assert latest.sequence == 9


def test_signers_of_one_payload_add_up() -> None:
    heard = agreement(threshold=2)
    heard.add(announce(X, ALICE, 4))
    assert heard.latest() is None
    assert heard.add(announce(X, ALICE, 4)) is AnnouncementStanding.KNOWN
    assert heard.latest() is None
    heard.add(announce(X, BOB, 4))
    latest = heard.latest()
    assert latest is not None
    assert {one.signer for one in latest.announcements} == {ALICE.public.keyid, BOB.public.keyid}


def test_the_same_payload_under_different_sequences_does_not_add_up() -> None:
    heard = agreement(threshold=2)
    heard.add(announce(X, ALICE, 4))
    heard.add(announce(X, BOB, 5))
    assert heard.latest() is None


def test_another_timetoke_root_is_another_subject() -> None:
    heard = agreement(threshold=2)
    heard.add(announce(X, ALICE, 4))
    assert heard.add(announce(X, BOB, 4, timetoke_root="00" * 32)) is AnnouncementStanding.CONFLICT
    assert heard.latest() is None


def test_strangers_do_not_count() -> None:
    heard = Agreement(Publisher((ALICE.public.keyid,)))
    assert heard.add(announce(X, BOB, 9)) is AnnouncementStanding.UNTRUSTED
    assert heard.latest() is None


def test_a_conflict_is_reported_with_both_documents_and_nothing_is_taken() -> None:
    heard = agreement()
    heard.add(announce(X, ALICE, 4))
    heard.add(announce(Z, ALICE, 3))
    assert heard.add(announce(Y, BOB, 4)) is AnnouncementStanding.CONFLICT
    (conflict,) = heard.conflicts
    assert (conflict.sequence, conflict.first.raw, conflict.second.raw) == (
        4,
        announce(X, ALICE, 4).raw,
        announce(Y, BOB, 4).raw,
    )
    with pytest.raises(AnnouncementConflict) as caught:
        heard.latest()
    assert {caught.value.first, caught.value.second} == {conflict.first.raw, conflict.second.raw}


def test_a_higher_sequence_resumes_after_a_conflict() -> None:
    heard = agreement()
    heard.add(announce(X, ALICE, 4))
    heard.add(announce(Y, BOB, 4))
    heard.add(announce(Z, ALICE, 5))
    latest = heard.latest()
    assert latest is not None
    assert latest.sequence == 5


def test_a_threshold_outvotes_one_hostile_key_and_still_reports_it() -> None:
    heard = agreement(threshold=2)
    heard.add(announce(Y, CAROL, 4))
    assert heard.add(announce(X, ALICE, 4)) is AnnouncementStanding.CONFLICT
    heard.add(announce(X, BOB, 4))
    latest = heard.latest()
    assert latest is not None
    assert latest.root == announce(X).root
    assert heard.conflicts


def test_one_hostile_key_can_not_hold_up_the_others_with_a_higher_sequence() -> None:
    heard = agreement(threshold=2)
    heard.add(announce(X, ALICE, 4))
    heard.add(announce(X, BOB, 4))
    heard.add(announce(Y, CAROL, 10**9))
    heard.add(announce(Z, CAROL, 10**9))
    latest = heard.latest()
    assert latest is not None
    assert latest.sequence == 4


def test_a_key_that_contradicts_itself_counts_for_neither() -> None:
    heard = agreement(threshold=2)
    heard.add(announce(X, ALICE, 4))
    heard.add(announce(X, BOB, 4))
    assert heard.add(announce(Y, BOB, 4)) is AnnouncementStanding.EQUIVOCATION
    with pytest.raises(AnnouncementConflict):
        heard.latest()
    heard.add(announce(X, CAROL, 4))
    latest = heard.latest()
    assert latest is not None
    assert {one.signer for one in latest.announcements} == {ALICE.public.keyid, CAROL.public.keyid}


def test_one_key_can_not_fill_the_memory() -> None:
    heard = agreement(threshold=2)
    for sequence in range(1, 60):
        heard.add(announce(X, ALICE, sequence))
        heard.add(announce(Y, ALICE, sequence))
        heard.add(announce(Z, ALICE, sequence))
    assert len(list(heard.announcements)) <= 2 * KEPT_SEQUENCES


POOL = [
    announce(payload, key, sequence)
    for payload in (X, Y)
    for key in (ALICE, BOB, CAROL)
    for sequence in (1, 2)
]


@given(st.permutations(POOL[:9]), st.integers(1, 3))
def test_the_order_in_which_announcements_come_does_not_decide(order: list[object], threshold: int) -> None:
    def outcome(announcements: list[object]) -> object:
        heard = agreement(threshold)
        for one in announcements:
            heard.add(one)  # type: ignore[arg-type]
        try:
            latest = heard.latest()
        except AnnouncementConflict as conflict:
            return conflict.sequence
        return None if latest is None else (latest.sequence, latest.root)

    assert outcome(order) == outcome(list(POOL[:9]))


def test_variants_of_one_subject_are_ordered_by_support() -> None:
    heard = agreement(threshold=2)
    heard.add(announce(X, ALICE, 1, chunk_length=128 * 1024))
    heard.add(announce(X, BOB, 1))
    heard.add(announce(X, CAROL, 1))
    latest = heard.latest()
    assert latest is not None
    assert [facts.chunk_length for facts in latest.variants] == [64 * 1024, 128 * 1024]
