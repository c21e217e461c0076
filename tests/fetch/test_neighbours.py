"""How many neighbours one has: a crowd in racks, in which everybody decides for himself."""

from __future__ import annotations

import random

import pytest

from p2pboot.fetch.asking.neighbours import FAR, FEWEST, FULL_MESH, MOST, Counts, surplus, wants

NEAR_TOLD, TOLD = 24, 32  # as a reply to `peers` has them


@pytest.mark.parametrize("is_near", [True, False])
def test_among_few_everybody_is_wanted_and_nobody_has_to_go(is_near: bool) -> None:
    counts = Counts(known=FULL_MESH, near=30, far=33)
    assert wants(counts, is_near=is_near)
    assert surplus(counts) is None


def test_of_many_some_are_wanted_and_far_ones_as_long_as_they_are_few() -> None:
    many = FULL_MESH + 1
    assert wants(Counts(many, FEWEST - 1, 0), is_near=True)
    assert not wants(Counts(many, FEWEST, 0), is_near=True)
    assert wants(Counts(many, FEWEST, FAR - 1), is_near=False)
    assert not wants(Counts(many, FEWEST, FAR), is_near=False)
    assert not wants(Counts(many, MOST, 0), is_near=False)


def test_too_many_are_given_up_near_ones_while_there_are_enough() -> None:
    many = FULL_MESH + 1
    assert surplus(Counts(many, MOST - FAR, FAR)) is None
    assert surplus(Counts(many, MOST, 1)) is True
    assert surplus(Counts(many, 3, MOST)) is False


class Crowd:
    """Peers in racks; a set of neighbours for each."""

    def __init__(self, racks: int, each: int, chance: random.Random) -> None:
        self.rack = {number: number % racks for number in range(racks * each)}
        self.neighbours: dict[int, set[int]] = {number: set() for number in self.rack}
        self._chance = chance

    def _counts(self, one: int) -> Counts:
        near = sum(self.rack[other] == self.rack[one] for other in self.neighbours[one])
        return Counts(len(self.rack), near, len(self.neighbours[one]) - near)

    def told(self, one: int) -> list[int]:
        mates = [other for other in self.rack if other != one and self.rack[other] == self.rack[one]]
        others = [other for other in self.rack if self.rack[other] != self.rack[one]]
        near = self._chance.sample(mates, min(NEAR_TOLD, len(mates)))
        return near + self._chance.sample(others, min(TOLD - len(near), len(others)))

    def join(self, one: int) -> None:
        for other in self.told(one):
            if other not in self.neighbours[one] and wants(
                self._counts(one), is_near=self.rack[one] == self.rack[other]
            ):
                self.neighbours[one].add(other)
                self.neighbours[other].add(one)
                for end in (one, other):
                    self._give_way(end)

    def _give_way(self, one: int) -> None:
        is_near = surplus(self._counts(one))
        if is_near is not None:
            some = [
                other for other in self.neighbours[one] if (self.rack[other] == self.rack[one]) is is_near
            ]
            other = self._chance.choice(sorted(some))
            self.neighbours[one].remove(other)
            self.neighbours[other].remove(one)

    def reached_from(self, one: int) -> set[int]:
        reached, edge = {one}, [one]
        while edge:
            new = self.neighbours[edge.pop()] - reached
            reached |= new
            edge += new
        return reached


@pytest.mark.parametrize(("racks", "each"), [(5, 40), (1, 120), (120, 1), (20, 6)])
def test_a_crowd_hangs_together_with_few_neighbours_most_of_them_near(racks: int, each: int) -> None:
    crowd = Crowd(racks, each, random.Random(1))
    for _ in range(4):
        for one in crowd.rack:
            crowd.join(one)
    degrees = [len(some) for some in crowd.neighbours.values()]
    assert min(degrees) >= FEWEST
    assert max(degrees) <= MOST
    assert crowd.reached_from(0) == set(crowd.rack)
    if each > 2 * FEWEST:
        near = sum(
            crowd.rack[one] == crowd.rack[other] for one, some in crowd.neighbours.items() for other in some
        )
        assert near > sum(degrees) / 2
