"""What is run: the rows of the table in `docs/performance.md`, each with what it has to reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.results import Goal
from benchmarks.simulator.scenario import Outcome, Scenario

MBIT = 1e6 / 8


@dataclass(frozen=True)
class Row:
    """One scenario and its goals.

    Args:
        scenario: to run.
        last: the last client's time at most, in multiples of size / link.
        copies: at most.
        of_bound: the last client's time at most, in multiples of what is possible.
        mean: of all clients' times at most.
        into_racks: copies into each rack at most.
        large: takes minutes.
    """

    scenario: Scenario
    last: float | None = None
    copies: float | None = None
    of_bound: float | None = None
    mean: float | None = None
    into_racks: float | None = None
    large: bool = False

    def goals(self, outcome: Outcome) -> list[Goal]:
        measured: list[tuple[str, float | None, Callable[[], float]]] = [
            ("last", self.last, lambda: outcome.last),
            ("copies", self.copies, lambda: outcome.copies),
            ("last / bound", self.of_bound, lambda: outcome.of_bound),
            ("mean", self.mean, lambda: outcome.mean),
            ("copies into a rack", self.into_racks, lambda: max(outcome.into_racks)),
        ]
        name = self.scenario.name
        return [
            Goal.at_most(f"{name}: {what}", goal, of()) for what, goal, of in measured if goal is not None
        ]


ROWS = (
    Row(Scenario("8, 50 Mbit/s", 8), last=1.06, copies=1.05),
    Row(Scenario("16, 25 Mbit/s", 16, rate=25 * MBIT), last=1.06, copies=1.05),
    Row(Scenario("16, 12 Mbit/s", 16, rate=12 * MBIT, pieces=512), last=1.06, copies=1.05),
    Row(Scenario("8, 50 down / 5 up", 8, up=5 * MBIT), of_bound=1.25),
    Row(Scenario("16, one every 2 s", 16, rate=25 * MBIT, stagger_s=2.0), mean=1.15, copies=1.1),
    Row(Scenario("16, 4 killed", 16, killed=4), last=1.4),
    Row(Scenario("16, 4 freeze", 16, killed=4, silently=True), last=1.4),
    Row(Scenario("15, 3 poison", 15, liars=3), last=1.45),
    Row(Scenario("15, 3 poison and vouch", 15, liars=3, vouching=True), last=1.7),
    Row(Scenario("8, publisher stopped after 1.1", 8, stop_after=1.1), last=1.2),
    Row(Scenario("8, two whole holders", 8, holders=2), last=1.2, copies=1.2),
    Row(Scenario("16, two whole holders", 16, holders=2), last=1.2, copies=1.2),
    Row(Scenario("2 racks of 4", 8, racks=2, rack_rate=50 * MBIT), into_racks=2.0),
    Row(Scenario("16, news up to 0.2 s late", 16, late_s=0.2), last=1.15),
    Row(Scenario("16, news up to 1 s late", 16, late_s=1.0), last=1.3),
    Row(Scenario("64, full mesh", 64, pieces=2048), last=1.1, copies=1.05),
    Row(Scenario("64, 20 neighbours", 64, pieces=2048, neighbours=20), last=1.3),
    Row(Scenario("64, 20 neighbours, publisher too", 64, pieces=2048, neighbours=20, holder_neighbours=20)),
    Row(
        Scenario("2 racks of 40", 80, pieces=2048, racks=2, rack_rate=200 * MBIT), into_racks=2.0, large=True
    ),
    Row(
        Scenario(
            "1,000, 20 neighbours",
            1000,
            neighbours=20,
            most_neighbours=24,
            holder_neighbours=96,
            news_s=0.25,
        ),
        last=1.3,
        large=True,
    ),
)

HUGE = Row(
    Scenario(
        "5,000, 256 pieces",
        5000,
        pieces=256,
        neighbours=20,
        most_neighbours=24,
        holder_neighbours=64,
        news_s=0.25,
    )
)
"""Takes hours' worth of patience, and is run when somebody asks for it."""
