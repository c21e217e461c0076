"""Fair shares by origin and peer, and the queue that goes round."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.origins import Party
from p2pboot.core.shares import FairQueue, Shares

SITE, OTHER, THIRD = (Party(f"192.0.2.{n}", "peer") for n in (1, 2, 3))


def filled(*, capacity: int = 10, reserve: int = 2) -> Shares:
    """One origin has taken all that it can."""
    shares = Shares(capacity, reserve)
    while shares.fits(SITE):
        shares.take(SITE)
    return shares


def test_one_origin_alone_may_use_all_but_the_reserve() -> None:
    shares = filled()
    assert shares.used == 8
    assert not shares.fits(SITE)


def test_newcomer_finds_the_reserve_and_the_heaviest_gives_way() -> None:
    shares = filled()
    assert shares.fits(OTHER)
    shares.take(OTHER)
    assert shares.used > shares.capacity - shares.reserve
    assert shares.gives_way(OTHER) == SITE.origin
    assert not shares.fits(SITE)


def test_who_holds_most_gives_way_to_nobody_but_its_own() -> None:
    assert filled().gives_way(SITE) == SITE.origin
    assert Shares(10, 2).gives_way(SITE) == SITE.origin


def test_equals_do_not_take_from_each_other() -> None:
    shares = Shares(10, 2)
    shares.take(SITE, 4)
    shares.take(OTHER, 4)
    assert not shares.fits(OTHER)
    assert shares.gives_way(OTHER) == OTHER.origin
    assert shares.gives_way(THIRD) == SITE.origin


def test_trusted_party_may_use_the_reserve_beyond_its_share() -> None:
    shares = filled()
    publisher = Party(SITE.origin, "publisher")
    assert not shares.fits(publisher)
    assert shares.fits(publisher, 2, trusted=True)
    assert not shares.fits(publisher, 3, trusted=True)


def test_nobody_has_more_than_there_is() -> None:
    shares = filled()
    shares.take(OTHER, 2)
    assert not shares.fits(THIRD)
    assert not shares.fits(THIRD, trusted=True)


def test_what_is_given_back_is_free_again() -> None:
    shares = filled()
    shares.give_back(SITE, 8)
    assert (shares.used, shares.held(SITE.origin), shares.held_by(SITE)) == (0, 0, 0)
    with pytest.raises(ValueError, match="gives back 1 of 0"):
        shares.give_back(SITE)


def test_even_share_of_peers_counts_each_of_an_origin() -> None:
    shares, one = Shares(10, 2), Party("192.0.2.1", "a")
    assert shares.even_share_of_peers(one) == 8
    shares.take(one)
    shares.take(Party("192.0.2.1", "b"))
    assert shares.even_share_of_peers(one) == 4
    assert shares.even_share_of_peers(Party("192.0.2.1", "c")) == 2


@pytest.mark.parametrize("reserve", [-1, 10])
def test_reserve_leaves_something(reserve: int) -> None:
    with pytest.raises(ValueError, match="leaves nothing"):
        Shares(10, reserve)


def drained(queue: FairQueue[str]) -> Iterator[str]:
    while queue:
        yield queue.pop()


def test_queue_goes_round_by_origin_and_then_by_peer() -> None:
    queue = FairQueue[str]()
    for item in ("a1", "a2", "a3"):
        queue.push(Party("a", "one"), item)
    queue.push(Party("a", "two"), "A1")
    queue.push(Party("b"), "b1")
    queue.push(Party("b"), "b2")
    assert list(drained(queue)) == ["a1", "b1", "A1", "b2", "a2", "a3"]


def test_who_had_a_dear_turn_waits_until_the_others_had_as_much() -> None:
    queue = FairQueue[str]()
    for item in ("a1", "a2"):
        queue.push(Party("a"), item, cost=3)
    for item in ("b1", "b2", "b3", "b4"):
        queue.push(Party("b"), item)
    assert list(drained(queue)) == ["a1", "b1", "b2", "b3", "a2", "b4"]


def test_who_is_charged_for_something_else_comes_later() -> None:
    queue = FairQueue[str]()
    queue.charge(Party("a"), 2)
    for item in ("1", "2", "3"):
        queue.push(Party("a"), "a" + item)
        queue.push(Party("b"), "b" + item)
    assert list(drained(queue)) == ["b1", "b2", "a1", "b3", "a2", "a3"]


def test_what_was_discarded_does_not_come() -> None:
    queue = FairQueue[str]()
    queue.push(Party("a"), "a1")
    queue.push(Party("a"), "a2")
    assert queue.discard(Party("a"), "a1")
    assert not queue.discard(Party("a"), "a1")
    assert not queue.discard(Party("b"), "a2")
    assert list(drained(queue)) == ["a2"]
    with pytest.raises(IndexError):
        queue.pop()


def test_idleness_saves_nothing_up() -> None:
    queue = FairQueue[str]()
    for item in ("a1", "a2", "a3", "a4"):
        queue.push(Party("a"), item)
    queue.push(Party("c"), "c1")
    assert [queue.pop() for _ in range(3)] == ["a1", "c1", "a2"]
    for item in ("b1", "b2"):
        queue.push(Party("b"), item)
    assert [queue.pop() for _ in range(4)] == ["b1", "a3", "b2", "a4"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.floats(0.1, 100)), max_size=60))
def test_first_of_an_origin_waits_behind_at_most_one_of_each_other(
    pushes: list[tuple[int, int, float]],
) -> None:
    queue = FairQueue[int]()
    for origin, peer, cost in pushes:
        queue.push(Party(str(origin), str(peer)), origin, cost)
    first: dict[int, int] = {}
    for place in range(len(pushes)):
        first.setdefault(queue.pop(), place)
    assert all(place < len(first) for place in first.values())
    assert not queue


def test_of_those_who_may_begin_together_the_idle_comes_first() -> None:
    queue = FairQueue[str]()
    for origin in ("a", "b", "c"):
        queue.push(Party(origin), origin + "1")
        queue.push(Party(origin), origin + "2")
    assert [queue.pop() for _ in range(4)] == ["a1", "b1", "c1", "a2"]
    queue.push(Party("new"), "new")  # all others of this round have had a turn
    assert list(drained(queue)) == ["new", "b2", "c2"]
