"""Points against peers: how they add up, fade, and pass on to new ids of an address."""

from __future__ import annotations

import pytest

from p2pboot.core.origins import Party
from p2pboot.transport.reputation import INHERITED, MUTED, OUT, Reputation

ONE, ANOTHER = Party("192.0.2.1", "one"), Party("192.0.2.1", "another")
ELSEWHERE = Party("192.0.2.2", "elsewhere")


def test_nobody_begins_with_points() -> None:
    assert Reputation().of(ONE, 0) == 0


def test_points_add_up_and_fade() -> None:
    reputation = Reputation()
    reputation.blame(ONE, 10, 0)
    assert reputation.blame(ONE, 10, 0) == 20
    assert reputation.of(ONE, 69) == pytest.approx(10, rel=0.01)
    assert reputation.of(ELSEWHERE, 0) == 0


def test_a_new_id_begins_with_what_its_address_owes() -> None:
    reputation = Reputation()
    reputation.blame(ONE, OUT, 0)
    assert reputation.of(ANOTHER, 0) == INHERITED
    assert reputation.of(ELSEWHERE, 0) == 0


def test_who_was_there_before_owes_nothing_for_its_neighbours() -> None:
    reputation = Reputation()
    assert reputation.of(ANOTHER, 0) == 0
    reputation.blame(ONE, OUT, 0)
    assert reputation.of(ANOTHER, 0) == 0


def test_who_inherits_is_still_heard_and_muted_at_the_next_offence() -> None:
    reputation = Reputation()
    reputation.blame(ONE, 1000, 0)
    assert reputation.of(ANOTHER, 0) < MUTED
    assert reputation.blame(ANOTHER, 10, 0) >= MUTED


def test_a_thousand_ids_of_one_address_owe_it_no_more_than_can_fade() -> None:
    reputation = Reputation()
    for number in range(10_000):
        reputation.blame(Party(ONE.origin, str(number)), OUT, 0)
    assert reputation.of(Party(ONE.origin, "new"), 300) < INHERITED
