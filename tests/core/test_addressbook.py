"""What was proved stays, whatever strangers say, and nobody fills the book."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from p2pboot.core.addressbook import (
    KEPT,
    MAX_ADDRESSES,
    OUTDATED,
    AddressBook,
    Bounds,
    Entry,
    KnownAddress,
)
from p2pboot.core.origins import origin_of

SMALL = Bounds(proved=8, said=8, of_origin=4)


def at(host: str, peer: str = "a", port: int = 1) -> str:
    return f"/ip4/{host}/tcp/{port}/p2p/{peer}"


def ids(book: AddressBook) -> list[str]:
    return [entry.peer_id for entry in book.entries()]


def reached(book: AddressBook, peer: str, host: str, now: int = 0) -> None:
    book.reached(peer, at(host, peer), now)


def said(book: AddressBook, peer: str, host: str, *addresses: str) -> None:
    book.said(peer, addresses or [at(host, peer)], origin_of(at(host)))


def test_where_a_peer_was_reached_comes_before_what_it_says() -> None:
    book = AddressBook(SMALL)
    said(book, "a", "10.0.0.9", at("10.0.0.9"), at("10.0.0.1"))
    reached(book, "a", "10.0.0.1", 7)
    reached(book, "a", "10.0.0.2", 8)
    assert book.get("a") == (at("10.0.0.2"), at("10.0.0.1"), at("10.0.0.9"))
    (entry,) = book.entries()
    assert entry.addresses[:2] == (KnownAddress(at("10.0.0.2"), 8), KnownAddress(at("10.0.0.1"), 7))
    assert entry.is_proved
    assert book.get("b") == ()


def test_nothing_that_strangers_say_pushes_out_what_was_proved() -> None:
    book = AddressBook(KEPT)
    for number in range(KEPT.proved):
        reached(book, f"real {number}", f"10.{number // 250}.0.{number % 250}")
    before = ids(book)
    for number in range(2000):
        said(book, f"stranger {number}", f"172.16.{number // 250}.{number % 250}")
        said(book, f"real {number % 600}", f"172.17.{number // 250}.{number % 250}", at("10.9.9.9", "x"))
    assert ids(book)[: KEPT.proved] == before
    assert len(book) <= KEPT.proved + KEPT.said
    assert all(entry.addresses[0].reached_at is not None for entry in list(book.entries())[: KEPT.proved])


def test_one_address_has_a_small_corner_and_leaves_it_only_to_itself() -> None:
    book = AddressBook(SMALL)
    reached(book, "real", "10.0.0.1")
    for number in range(50):
        reached(book, f"proved {number}", "192.0.2.1")
        said(book, f"said {number}", "192.0.2.1")
    said(book, "quiet", "10.0.0.2")
    assert [peer for peer in ids(book) if peer.startswith("proved")] == [
        f"proved {number}" for number in (49, 48, 47, 46)
    ]
    assert [peer for peer in ids(book) if peer.startswith("said")] == [
        f"said {number}" for number in (49, 48, 47, 46)
    ]
    assert {"real", "quiet"} <= set(ids(book))


def test_of_a_full_book_who_failed_goes_for_a_newcomer_and_who_is_one_of_many_and_nobody_else() -> None:
    book = AddressBook(SMALL)
    for number in range(3):
        reached(book, f"many {number}", "192.0.2.1")
    for number in range(5):
        reached(book, f"single {number}", f"10.0.0.{number}")
    reached(book, "new", "10.0.0.77")
    assert "many 0" not in ids(book)
    assert "new" in ids(book)
    reached(book, "newer", "10.0.0.78")
    assert [peer for peer in ids(book) if peer.startswith("many")] == ["many 2"]
    before = ids(book)
    reached(book, "newest", "10.0.0.79")  # nobody has more than it would have itself
    assert ids(book) == before
    for _ in range(OUTDATED):
        book.failed("single 3")
    reached(book, "newest", "10.0.0.79")
    assert "newest" in ids(book)
    assert "single 3" not in ids(book)


def test_who_failed_comes_later_and_is_back_when_he_is_reached() -> None:
    book = AddressBook(SMALL)
    for number in range(3):
        reached(book, f"peer {number}", f"10.0.0.{number}")
    said(book, "said", "10.0.0.9")
    assert ids(book) == ["peer 2", "peer 1", "peer 0", "said"]
    book.failed("peer 2")
    book.failed("said")
    book.failed("nobody")
    assert ids(book) == ["peer 1", "peer 0", "peer 2"]
    reached(book, "peer 2", "10.0.0.2")
    assert ids(book) == ["peer 2", "peer 1", "peer 0"]


def test_addresses_of_one_peer_are_bounded_and_the_last_that_led_to_it_stay() -> None:
    book = AddressBook(SMALL)
    said(book, "a", "10.0.0.1", *(at(f"10.1.0.{number}") for number in range(99)))
    for number in range(99):
        reached(book, "a", f"10.0.0.{number}")
    assert book.get("a") == tuple(at(f"10.0.0.{number}") for number in range(98, 98 - MAX_ADDRESSES, -1))


def test_an_ipv6_network_is_one_origin() -> None:
    book = AddressBook(SMALL)
    for number in range(20):
        book.reached(f"peer {number}", f"/ip6/2001:db8::{number:x}/tcp/1/p2p/{number}")
    assert len(book) == SMALL.of_origin


@pytest.mark.parametrize("clock", [0, -5, 1 << 40])
def test_it_is_taken_up_again_in_the_order_in_which_it_was_left_whatever_the_clock_said(clock: int) -> None:
    book = AddressBook(SMALL)
    for number in range(4):
        reached(book, f"peer {number}", f"10.0.0.{number}", clock)
    reached(book, "peer 1", "10.0.1.1", clock)
    said(book, "peer 0", "10.0.0.9")
    said(book, "said", "10.0.0.8")
    book.failed("peer 3")
    kept = list(book.entries())
    again = AddressBook(SMALL, reversed(kept))
    assert list(again.entries()) == kept
    assert not again.has_changes


def test_what_changed_is_told_once_and_again_where_it_could_not_be_kept() -> None:
    book = AddressBook(Bounds(proved=1, said=1, of_origin=1))
    assert book.take_changes() == ([], [])
    reached(book, "a", "10.0.0.1")
    said(book, "b", "10.0.0.2")
    changed, gone = book.take_changes()
    assert {entry.peer_id for entry in changed} == {"a", "b"}
    assert not gone
    said(book, "b", "10.0.0.2")  # the same
    assert not book.has_changes
    said(book, "c", "10.0.0.2")
    changed, gone = book.take_changes()
    assert [entry.peer_id for entry in changed] == ["c"]
    assert gone == ["b"]
    book.give_back(["b", "c"])
    assert book.take_changes() == (changed, gone)


def entries(count: int) -> Sequence[Entry]:
    return [Entry(f"{number}", (KnownAddress(at("10.0.0.1"), 1),)) for number in range(count)]


def test_what_is_taken_up_is_bounded_like_the_rest() -> None:
    assert len(AddressBook(SMALL, entries(1000))) == SMALL.of_origin
