"""Whom many tell of comes before whom one tells of."""

from __future__ import annotations

from p2pboot.core.origins import Party
from p2pboot.dht.hearsay import AT_ONCE, IN_VAIN, MOST, Hearsay, Word
from p2pboot.dht.table import Contact


def contact(name: str) -> Contact:
    return Contact(name, ("/ip4/10.0.0.1/tcp/1",))


def test_of_each_teller_a_few_are_tried_at_once_and_each_peer_once() -> None:
    hearsay = Hearsay()
    liar, honest = Party("10.0.0.2", "liar"), Party("10.0.0.3", "honest")
    tried = [hearsay.hear(contact(f"invented {number}"), liar) for number in range(60)]
    assert tried.count(True) == AT_ONCE
    assert hearsay.hear(contact("there"), honest)
    assert not hearsay.hear(contact("there"), liar)
    rest = [one.peer_id for one in hearsay.rest()]
    assert len(rest) == 60 - AT_ONCE
    assert "there" not in rest
    assert list(hearsay.rest()) == []


def test_who_lies_about_where_somebody_is_does_not_hide_him() -> None:
    hearsay = Hearsay()
    liar, honest = Party("10.0.0.2", "liar"), Party("10.0.0.3", "honest")
    assert hearsay.hear(Contact("there", ("/ip4/10.0.0.9/tcp/1",)), liar)
    assert hearsay.hear(contact("there"), honest)


def test_the_rest_is_in_the_order_of_how_many_tell_of_it() -> None:
    hearsay = Hearsay()
    tellers = [Party(f"10.0.0.{number}", f"{number}") for number in range(3)]
    crowd = [Party("10.0.0.9", f"{number}") for number in range(5)]
    for teller in (*tellers, *crowd):
        for number in range(AT_ONCE):
            hearsay.hear(contact(f"first {teller.peer_id} {teller.origin} {number}"), teller)
    for teller in crowd:
        hearsay.hear(contact("of one address"), teller)
    hearsay.hear(contact("of one"), tellers[0])
    for teller in tellers:
        hearsay.hear(contact("of three"), teller)
    assert [one.peer_id for one in hearsay.rest()] == ["of three", "of one address", "of one"]


def test_no_more_is_remembered_than_is_tried() -> None:
    hearsay = Hearsay()
    for number in range(2 * MOST):
        hearsay.hear(contact(f"{number}"), Party("10.0.0.2", "liar"))
    assert len(list(hearsay.rest())) == MOST - AT_ONCE


def test_who_tells_of_many_that_are_gone_counts_as_long_as_enough_are_there() -> None:
    said = [Word(away=IN_VAIN - 1), Word(away=IN_VAIN), Word(there=3, away=IN_VAIN), Word(there=3, away=10)]
    assert [word.counts for word in said] == [True, False, True, False]
