"""Bytes by class and interval, on a clock in the test's hand."""

from __future__ import annotations

import pytest

from p2pboot.node.status.flows import CLASSES, HTTP, INTERVAL_S, INTERVALS, LAN, MESH, PUBLISHER, Flows
from p2pboot.transport import traffic as kinds
from p2pboot.transport.traffic import GOSSIP, RECEIVED, REMEMBERED_PEERS, SENT, Traffic

OF_PEERS = {"neighbour": LAN, "publisher": PUBLISHER}
KIND = "/p2pboot/artifact/1"


class World:
    def __init__(self) -> None:
        self.traffic = Traffic()
        self.now = 1000.0
        self.flows = Flows(self.traffic, lambda peer: OF_PEERS.get(peer, MESH), self.now)

    def count(self, peer: str, size: int, direction: str = SENT, kind: str = KIND) -> None:
        self.traffic.count(peer, kind, direction, size)

    def end(self, after_s: float = INTERVAL_S) -> None:
        self.now += after_s
        self.flows.end_interval(self.now)

    def last(self, direction: str = SENT) -> dict[str, int]:
        facts = self.flows.facts(self.now)
        rings = facts.sent if direction == SENT else facts.received
        return {one: sizes[-1] for one, sizes in rings.items() if sizes[-1]}


@pytest.fixture
def world() -> World:
    return World()


def test_each_byte_is_of_one_class_by_who_is_at_the_other_end(world: World) -> None:
    world.count("neighbour", 1)
    world.count("publisher", 20, RECEIVED)
    world.count("somebody", 300)
    world.count("192.0.2.1", 4000, kind=kinds.HTTP)
    world.end()
    assert world.last() == {LAN: 1, MESH: 300, HTTP: 4000}
    assert world.last(RECEIVED) == {PUBLISHER: 20}


def test_an_interval_has_what_passed_in_it_and_totals_all(world: World) -> None:
    for size in (5, 0, 7):
        if size:
            world.count("neighbour", size)
        world.end()
    facts = world.flows.facts(world.now)
    assert facts.sent[LAN] == (5, 0, 7)
    assert facts.totals[SENT][LAN] == 12


def test_what_was_counted_before_the_start_is_in_no_interval() -> None:
    counted = Traffic()
    counted.count("neighbour", KIND, SENT, 99)
    flows = Flows(counted, lambda _peer: LAN, 0.0)
    flows.end_interval(5.0)
    assert flows.facts(5.0).totals[SENT] == dict.fromkeys(CLASSES, 0)


def test_there_are_five_minutes_and_no_more(world: World) -> None:
    for _ in range(INTERVALS + 5):
        world.count("somebody", 1)
        world.end()
    facts = world.flows.facts(world.now + 2)
    assert [len(sizes) for sizes in (*facts.sent.values(), *facts.received.values())] == [INTERVALS] * 8
    assert facts.totals[SENT][MESH] == INTERVALS + 5
    assert facts.ended_s == 2


def test_after_the_machine_slept_the_time_is_filled_with_nothing(world: World) -> None:
    world.count("somebody", 1)
    world.end()
    world.count("somebody", 2)
    world.end(3 * INTERVAL_S)
    assert world.flows.facts(world.now).sent[MESH] == (1, 0, 0, 2)
    world.end(100_000)
    assert world.flows.facts(world.now).sent[MESH] == (0,) * INTERVALS


def test_classes_add_up_to_all_that_passed_however_many_peers_come_and_go(world: World) -> None:
    """A thousand strangers push everybody out of what is remembered singly."""
    for turn in range(3):
        for number in range(1000):
            world.count(f"stranger {turn} {number}", 10)
        world.count("neighbour", 5)
        world.end()
    totals = world.flows.facts(world.now).totals[SENT]
    assert sum(totals.values()) == 3 * (10_000 + 5)
    assert 0 < totals[LAN] <= 15
    assert len(world.flows.rates(world.now)[0]) <= REMEMBERED_PEERS


def test_a_peer_that_was_forgotten_and_came_back_begins_anew(world: World) -> None:
    world.count("neighbour", 1000)
    world.end()
    for number in range(REMEMBERED_PEERS):
        world.count(f"stranger {number}", 1)
    world.count("neighbour", 30)
    world.end()
    assert world.last() == {LAN: 30, MESH: REMEMBERED_PEERS}


def test_gossip_that_goes_to_nobody_in_particular_is_the_meshs(world: World) -> None:
    world.traffic[GOSSIP, SENT] += 50
    world.end()
    assert world.last() == {MESH: 50}


def test_rates_are_over_the_last_seconds(world: World) -> None:
    world.count("neighbour", 1000, RECEIVED)
    world.now += 2
    sizes, rates = world.flows.rates(world.now)
    assert sizes["neighbour"] == (1000, 0)
    assert list(rates["neighbour"]) == [500, 0]
    world.now += 3
    world.flows.end_interval(world.now)
    for _ in range(2):
        world.end()
    assert not any(world.flows.rates(world.now)[1]["neighbour"])


def test_http_clients_are_no_peers(world: World) -> None:
    world.count("192.0.2.1", 4000, kind=kinds.HTTP)
    assert world.flows.rates(world.now) == ({}, {})
