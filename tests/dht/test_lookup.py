"""The iterative lookup, on networks that are made up, by a clock that is made up."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pboot.dht.keys import position, position_of_peer
from p2pboot.dht.lookup import ALPHA, AT_ONCE, MOST, OF_ORIGIN, SLOW_S, Lookup
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
    """Asks whom a lookup names, on a clock of its own.

    Args:
        answer: what somebody answers.
        delay: until then, or until it is given up.
        reach: until there is a connection with him, if ever.
    """

    def __init__(
        self,
        answer: Answer,
        delay: Callable[[Contact], float] = lambda _contact: 0.01,
        reach: Callable[[Contact], float] = lambda _contact: 0.0,
    ) -> None:
        self.answer, self.delay, self.reach = answer, delay, reach
        self.now = 0.0
        self.due: list[tuple[float, int, Contact, bool]] = []  # when, and whether he answers then
        self.asked: list[Contact] = []
        self.most_at_once = 0

    def run(self, lookup: Lookup, until: float = 1000.0) -> list[Contact]:
        while not lookup.is_done(self.now) and self.now < until:
            while (contact := lookup.next(self.now)) is not None:
                number = len(self.asked)
                reached = self.now + self.reach(contact)
                heapq.heappush(self.due, (self.now + self.delay(contact), number, contact, True))
                if reached < math.inf:
                    heapq.heappush(self.due, (reached, number, contact, False))
                self.asked.append(contact)
            self.most_at_once = max(self.most_at_once, len({contact for *_, contact, _ in self.due}))
            wake_at = lookup.wake_at(self.now)
            if self.due and self.due[0][0] <= wake_at:
                self._go_on(lookup)
            else:
                assert wake_at > self.now
                self.now = wake_at
        return lookup.closest()

    def _go_on(self, lookup: Lookup) -> None:
        self.now, _, contact, answers = heapq.heappop(self.due)
        if not answers:
            lookup.reached(contact.peer_id, contact.addresses[0], self.now)
            return
        told = self.answer(contact)
        if told is None:
            lookup.failed(contact.peer_id)
        else:
            lookup.answered(contact.peer_id, self.now, told)


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
    assert lookup.is_done(0.0)
    assert lookup.next(0.0) is None
    assert lookup.closest() == []


def test_only_so_many_are_asked_at_once() -> None:
    world = World(lambda _contact: CONTACTS)
    world.run(Lookup(KEY, OWN, CONTACTS))
    assert world.most_at_once == ALPHA


def test_who_is_slow_does_not_keep_others_waiting() -> None:
    slow = set(nearest(CONTACTS, KEY, 5))
    world = World(lambda _contact: CONTACTS, lambda contact: 0.5 if contact in slow else 0.01)
    lookup = Lookup(KEY, OWN, CONTACTS)
    found = world.run(lookup, until=SLOW_S)
    assert found == [one for one in nearest(CONTACTS, KEY, K + 5) if one not in slow]
    assert not lookup.is_done(world.now)  # these may still answer
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
    lookup.answered(CONTACTS[1].peer_id, 0.0, CONTACTS)
    lookup.reached(CONTACTS[1].peer_id, CONTACTS[1].addresses[0], 0.0)
    lookup.failed(CONTACTS[2].peer_id)
    assert lookup.closest() == []
    assert lookup.next(0.0) == CONTACTS[0]
    assert lookup.next(0.0) is None
    lookup.failed(CONTACTS[0].peer_id)
    lookup.answered(CONTACTS[0].peer_id, 0.0)
    assert lookup.is_done(0.0)


@pytest.mark.parametrize("lies", ["nobody is there", "silence"])
@pytest.mark.parametrize("count", [10, 30, 400])
def test_what_liars_cost_is_bounded_however_long_the_limits_are(lies: str, count: int) -> None:
    """Three in ten say nothing, or tell of addresses that nobody answers at; then each has its whole time limit."""
    chance = random.Random(count)
    nodes = CONTACTS[:count]
    lying = set(chance.sample(nodes, count * 3 // 10))

    def answer(contact: Contact) -> Iterable[Contact] | None:
        if contact in lying:
            return chance.sample(INVENTED[:200], 20)
        return nearest(nodes, KEY) if contact in nodes else None

    def delay(contact: Contact) -> float:
        if contact not in nodes:
            return 2.0
        return 3.0 if contact in lying and lies == "silence" else chance.uniform(0.02, 0.15)

    world = World(answer, delay, reach=lambda contact: 0.01 if contact in nodes else math.inf)
    found = world.run(Lookup(KEY, OWN, chance.sample([one for one in nodes if one not in lying], 1)))
    honest = [one for one in nearest(nodes, KEY) if one not in lying]
    assert set(honest) <= set(found)
    assert world.now < 1.5


def test_who_is_far_away_is_waited_for_where_the_near_ones_know_him() -> None:
    """A rack with a mesh behind a satellite: a connection and an answer take six times the way there and back."""
    near, far = CONTACTS[:4], CONTACTS[4:20]
    world = World(
        lambda _contact: CONTACTS[:20],
        lambda contact: 0.01 if contact in near else 1.8,
        reach=lambda contact: 0.005 if contact in near else 1.2,
    )
    assert set(world.run(Lookup(KEY, OWN, near))) == {*near, *far}


def test_the_only_one_is_waited_for_and_where_all_are_slow_all_are() -> None:
    world = World(lambda _contact: CONTACTS[:10], lambda _contact: 2.5, reach=lambda _contact: 0.1)
    assert set(world.run(Lookup(KEY, OWN, CONTACTS[:1]))) == set(CONTACTS[:10])


@pytest.mark.parametrize("gone", [0.3, 0.5])
def test_when_many_have_gone_those_are_found_who_are_left(gone: float) -> None:
    """Whoever is left tells of them as before, and they do not even refuse."""
    chance = random.Random(5)
    dead = set(chance.sample(CONTACTS, int(gone * len(CONTACTS))))
    left = [one for one in CONTACTS if one not in dead]
    world = World(
        lambda contact: None if contact in dead else honest(contact),
        lambda contact: 2.0 if contact in dead else 0.05,
        reach=lambda contact: math.inf if contact in dead else 0.03,
    )
    assert world.run(Lookup(KEY, OWN, chance.sample(left, 2))) == nearest(left, KEY)


def test_one_host_is_not_called_for_everybody_who_is_said_to_be_there() -> None:
    """By many liars, each of whom tells of a few; where somebody is, all are asked."""
    nodes = CONTACTS[:40]
    unused = iter(INVENTED)
    lies = {one: [contact for contact, _ in zip(unused, range(3), strict=False)] for one in nodes[10:]}
    world = World(
        lambda contact: lies.get(contact, nodes) if contact in nodes else None,
        reach=lambda contact: 0.0 if contact in nodes else math.inf,
    )
    world.run(Lookup(KEY, OWN, nodes))
    assert sum(one not in nodes for one in world.asked) == OF_ORIGIN

    behind_a_router = [Contact(one.peer_id, ("/ip4/10.9.9.9/tcp/1",)) for one in CONTACTS[:30]]
    world = World(lambda _contact: behind_a_router)
    assert world.run(Lookup(KEY, OWN, behind_a_router[:1])) == nearest(behind_a_router, KEY)


def test_who_is_known_to_many_is_called_where_others_are_invented() -> None:
    """Three in ten say of eight that are nearer to the key that they are at his host; he is asked all the same."""
    nodes = CONTACTS[:20]
    he = Contact(CONTACTS[50].peer_id, INVENTED[0].addresses)
    nearer = nearest(INVENTED, KEY)
    world = World(
        lambda contact: (nearer if contact in nodes[:6] else [he]) if contact in {*nodes, he} else None,
        lambda contact: 0.3 if contact in nodes[6:] else 0.01,
        reach=lambda contact: 0.0 if contact in {*nodes, he} else math.inf,
    )
    assert he in world.run(Lookup(KEY, OWN, nodes))


@pytest.mark.parametrize("is_first", [False, True])
def test_who_lies_about_where_somebody_is_does_not_hide_him(is_first: bool) -> None:
    """Three in ten tell of all that they are at addresses where nobody is; before the others, or after them."""
    nodes = CONTACTS[:40]
    liars, start = set(nodes[:12]), nodes[:20]

    def lie(contact: Contact, liar: Contact) -> Contact:
        return Contact(contact.peer_id, tuple(f"/ip4/10.8.{liars_of[liar]}.1/tcp/{n}" for n in range(1, 9)))

    liars_of = {liar: number for number, liar in enumerate(nodes[:12])}
    there = {(one.peer_id, address) for one in nodes for address in one.addresses}
    world = World(
        lambda contact: (
            None
            if there.isdisjoint((contact.peer_id, address) for address in contact.addresses)
            else [lie(one, contact) for one in nodes]
            if contact in liars
            else nodes
        ),
        lambda contact: 0.01 if (contact in liars) is is_first else 0.02,
        reach=lambda contact: (
            math.inf if there.isdisjoint((contact.peer_id, address) for address in contact.addresses) else 0.0
        ),
    )
    found = world.run(Lookup(KEY, OWN, start))
    assert [one.peer_id for one in found] == [one.peer_id for one in nearest(nodes, KEY)]


def test_whoever_is_not_waited_for_is_told() -> None:
    silent = CONTACTS[0]
    world = World(lambda _contact: CONTACTS[:5], lambda contact: 3.0 if contact == silent else 0.01)
    lookup = Lookup(KEY, OWN, CONTACTS[:5])
    world.run(lookup)
    assert lookup.unanswered() == {silent.peer_id}


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
    assert lookup.is_done(world.now)
    answering = [one for one in world.asked if behaviour.get(one.peer_id) is not None]
    in_time = [one for one in answering if one.peer_id not in lookup.unanswered()]
    assert found == nearest(in_time, KEY)
