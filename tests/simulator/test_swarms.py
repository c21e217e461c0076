"""Small swarms on a virtual clock: what the two schedulers come to together. `make simulate` runs large ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.simulator.plots import completion, waterfall
from benchmarks.simulator.scenario import Outcome, Scenario
from benchmarks.simulator.world import World

MBIT = 1e6 / 8
SIX = Scenario("six", clients=6, pieces=192)


def run(**changes: Any) -> Outcome:
    return World(replace(SIX, **changes)).run()


def test_all_that_start_together_are_done_when_one_would_be_and_each_piece_is_dealt_once() -> None:
    outcome = run()
    assert outcome.last < 1.2
    assert outcome.copies == pytest.approx(1.0)


def test_a_run_can_be_repeated() -> None:
    first, again, another = (
        World(replace(SIX, pieces=64, neighbours=3, seed=seed), trace=True).run().trace for seed in (7, 7, 8)
    )
    assert first == again != another


def test_one_alone_takes_what_its_link_takes() -> None:
    outcome = run(clients=1, pieces=2048, rate=1e9, latency_s=0.0001, step_s=0.0002)
    assert outcome.last < 1.06
    assert outcome.transfers < 150  # in long runs


def test_where_uplinks_are_slow_second_copies_go_to_whoever_needs_them() -> None:
    assert run(up=5 * MBIT).of_bound < 1.15


def test_one_after_the_other_they_take_little_from_the_publisher() -> None:
    outcomes = [run(stagger_s=0.7, seed=seed) for seed in range(1, 5)]
    assert sum(outcome.mean for outcome in outcomes) / len(outcomes) < 1.2
    assert all(outcome.copies < 1.15 for outcome in outcomes)


@pytest.mark.parametrize("silently", [False, True])
def test_when_some_are_killed_the_others_get_what_was_dealt_to_them(silently: bool) -> None:
    outcome = run(clients=8, killed=2, silently=silently)
    assert outcome.last < (
        2.3 if silently else 1.3
    )  # all takes 2 s, and so does it to notice that one is silent
    assert outcome.copies < (2.0 if silently else 1.2)


@pytest.mark.parametrize(("vouching", "last"), [(False, 1.5), (True, 1.7)])
def test_poisoners_cost_little(vouching: bool, last: float) -> None:
    assert run(clients=10, liars=2, vouching=vouching, pieces=128).last < last


def test_all_finish_when_the_publisher_stops_after_one_copy() -> None:
    assert run(stop_after=1.0).last < 1.2


def test_two_that_have_everything_share_the_work() -> None:
    outcome = run(holders=2)
    assert outcome.last < 1.15
    assert outcome.copies < 1.06


def test_what_comes_from_afar_crosses_the_link_of_a_rack_about_once() -> None:
    outcome = run(clients=8, racks=2, rack_rate=50 * MBIT)
    assert max(outcome.into_racks) < 1.3


def test_pictures_are_drawn_of_runs() -> None:
    world = World(replace(SIX, clients=2, pieces=16), trace=True)
    outcome = world.run()
    assert waterfall(outcome).count("M") >= 2 * 16
    assert outcome.scenario.name in completion([outcome])
