"""The iterative lookup, on networks that are made up, by a clock that is made up."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pboot.dht.keys import position, position_of_peer
from p2pboot.dht.lookup import ALPHA, AT_ONCE, MOST, SLOW_S, Lookup
from p2pboot.dht.table import Contact, K, nearest
from p2pboot.testing.manifests import key_of

CONTACTS = [
    Contact(key_of(f"peer {n}").public.peer_id, (f"/ip4/10.0.{n // 250}.{n % 250 + 1}/tcp/4001",))
    for n in range(400)
]
INVENTED = [Contact(key_of(f"invented {n}").public.peer_id, ("/ip4/10.9.9.9/tcp/1",)) for n in range(2000)]
OWN = key_of("own").public.peer_id
KEY = position(b"/phase/stable/arm64/manifest")

Answer = Callable[[Contact], Iterable[Contact] | None]  # None: none at all


class World:
    """Asks whom a lookup names, on a clock of its own."""

    def __init__(self, answer: Answer, delay: Callable[[Contact], float] = lambda _contact: 0.01) -> None:
        self.answer, self.delay = answer, delay
        self.now = 0.0
        self.due: list[tuple[float, int, Contact]] = []
        self.asked: list[Contact] = []
        self.most_at_once = 0

    def run(self, lookup: Lookup, until: float = 1000.0) -> list[Contact]:
        due = self.due
        while not lookup.is_done and self.now < until:
            while (contact := lookup.next(self.now)) is not None:
                heapq.heappush(due, (self.now + self.delay(contact), len(self.asked), contact))
                self.asked.append(contact)
            self.most_at_once = max(self.most_at_once, len(due))
            wake_at = lookup.wake_at(self.now)
            if due and due[0][0] <= wake_at:
                self.now, _, contact = heapq.heappop(due)
                told = self.answer(contact)
                if told is None:
                    lookup.failed(contact.peer_id)
                else:
                    lookup.answered(contact.peer_id, told)
            else:
                assert wake_at > self.now
                self.now = wake_at
        return lookup.closest()


def knowing(each: int, chance: random.Random) -> dict[str, list[Contact]]:
    """Whom each peer knows: those nearest to it, and some."""
    return {
        one.peer_id: [*nearest(CONTACTS, position_of_peer(one.peer_id), K), *chance.sample(CONTACTS, each)]
        for one in CONTACTS
    }


KNOWN = knowing(10, random.Random(7))


def honest(contact: Contact) -> Iterable[Contact]:
    return nearest(KNOWN[contact.peer_id], KEY)


def test_the_nearest_peers_are_found_from_anywhere() -> None:
    for start in random.Random(3).sample(CONTACTS, 10):
        world = World(honest)
        assert world.run(Lookup(KEY, OWN, [start])) == nearest(CONTACTS, KEY)
        assert len(world.asked) < 80
        assert len(world.asked) == len(set(world.asked))


def test_nobody_to_begin_with_is_nobody_found() -> None:
    lookup = Lookup(KEY, OWN, [Contact(OWN, ())])
    assert lookup.is_done
    assert lookup.next(0.0) is None
    assert lookup.closest() == []


def test_only_so_many_are_asked_at_once() -> None:
    world = World(lambda _contact: CONTACTS)
    world.run(Lookup(KEY, OWN, CONTACTS))
    assert world.most_at_once == ALPHA


def test_who_is_slow_does_not_keep_others_waiting() -> None:
    slow = set(nearest(CONTACTS, KEY, 5))
    world = World(lambda _contact: CONTACTS, lambda contact: 30.0 if contact in slow else 0.01)
    lookup = Lookup(KEY, OWN, CONTACTS)
    found = world.run(lookup, until=SLOW_S)
    assert found == [one for one in nearest(CONTACTS, KEY, K + 5) if one not in slow]
    assert not lookup.is_done  # these may still answer
    assert world.run(lookup) == nearest(CONTACTS, KEY)


def test_however_slow_all_are_they_are_not_asked_all_at_once() -> None:
    world = World(lambda _contact: (), lambda _contact: 1000.0)
    world.run(Lookup(KEY, OWN, CONTACTS), until=900.0)
    assert world.most_at_once == AT_ONCE


def test_who_does_not_answer_is_replaced_by_the_next() -> None:
    dead = set(nearest(CONTACTS, KEY, 8))
    world = World(lambda contact: None if contact in dead else CONTACTS)
    assert world.run(Lookup(KEY, OWN, CONTACTS)) == [
        one for one in nearest(CONTACTS, KEY, K + 8) if one not in dead
    ]


@pytest.mark.parametrize("liars", [1, 10, 120])
def test_peers_that_liars_invent_do_not_hide_those_that_are_there(liars: int) -> None:
    """Three in ten of all answer with peers that are nearer to the key than anybody, and not there."""
    chance = random.Random(liars)
    lying = {one.peer_id for one in chance.sample(CONTACTS, liars)}
    unused = iter(sorted(INVENTED, key=lambda one: one.position ^ KEY))
    lies = {peer_id: [contact for contact, _ in zip(unused, range(12), strict=False)] for peer_id in lying}

    def answer(contact: Contact) -> Iterable[Contact] | None:
        if contact.peer_id in lies:
            return lies[contact.peer_id]
        return honest(contact) if contact.peer_id in KNOWN else None

    world = World(answer, lambda contact: 0.01 if contact.peer_id in KNOWN else 2.0)
    start = chance.sample([one for one in CONTACTS if one.peer_id not in lying], 3)
    world.run(Lookup(KEY, OWN, start))
    there = [one for one in nearest(CONTACTS, KEY) if one.peer_id not in lying]
    assert len(set(there) & set(world.asked)) >= len(there) * 3 // 4


def test_who_tells_of_ever_more_is_not_followed_for_ever() -> None:
    unused = iter(INVENTED)
    world = World(lambda _contact: [contact for contact, _ in zip(unused, range(20), strict=False)])
    world.run(Lookup(KEY, OWN, CONTACTS[:1]))
    assert len(world.asked) <= MOST


def test_what_comes_unasked_is_passed_over() -> None:
    lookup = Lookup(KEY, OWN, CONTACTS[:1])
    lookup.answered(CONTACTS[1].peer_id, CONTACTS)
    lookup.failed(CONTACTS[2].peer_id)
    assert lookup.closest() == []
    assert lookup.next(0.0) == CONTACTS[0]
    assert lookup.next(0.0) is None
    lookup.failed(CONTACTS[0].peer_id)
    lookup.answered(CONTACTS[0].peer_id)
    assert lookup.is_done


@settings(max_examples=20)
@given(st.data())
def test_it_always_ends(data: st.DataObject) -> None:
    """Whoever is there and whatever he says or does not say."""
    everybody = CONTACTS[:60]
    behaviour = {
        one.peer_id: data.draw(st.none() | st.lists(st.sampled_from(everybody), max_size=6))
        for one in everybody[:25]
    }
    world = World(
        lambda contact: behaviour.get(contact.peer_id),
        lambda contact: 0.01 + contact.position % 100 / 30,
    )
    start = data.draw(st.lists(st.sampled_from(everybody), max_size=5))
    lookup = Lookup(KEY, OWN, start)
    found = world.run(lookup)
    assert lookup.is_done
    answering = [one for one in world.asked if behaviour.get(one.peer_id) is not None]
    assert found == nearest(answering, KEY)
