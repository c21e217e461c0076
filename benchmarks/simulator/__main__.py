"""`python -m benchmarks.simulator`: run what is named, or everything that takes seconds, and show what came of it."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks.results import Table, goal_table
from benchmarks.simulator.plots import completion, waterfall
from benchmarks.simulator.scenario import Outcome
from benchmarks.simulator.scenarios import HUGE, ROWS, Row
from benchmarks.simulator.world import World


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.simulator", description="Run the swarm's schedulers on a virtual clock."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only scenarios whose names begin so")
    parser.add_argument("--large", action="store_true", help="also what takes minutes: 1,000 clients")
    parser.add_argument("--huge", action="store_true", help="also 5,000 clients")
    parser.add_argument("--seed", type=int, help="of everything that is random")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write pictures there")
    arguments = parser.parse_args()
    rows = [*ROWS, HUGE] if arguments.huge else list(ROWS)
    if arguments.names:
        rows = [row for row in [*ROWS, HUGE] if row.scenario.name.startswith(tuple(arguments.names))]
    elif not (arguments.large or arguments.huge):
        rows = [row for row in rows if not row.large]
    ran = [_run(row, arguments.seed) for row in rows]
    print(_table(ran).render())
    goals = [goal for row, (outcome, _) in zip(rows, ran, strict=True) for goal in row.goals(outcome)]
    print(goal_table(goals).render())
    if arguments.plots:
        arguments.plots.mkdir(parents=True, exist_ok=True)
        traced = World(ROWS[0].scenario, trace=True).run()
        (arguments.plots / "waterfall.svg").write_text(waterfall(traced))
        (arguments.plots / "completion.svg").write_text(completion([outcome for outcome, _ in ran]))
    return 0 if all(goal.met for goal in goals) else 1


def _run(row: Row, seed: int | None) -> tuple[Outcome, float]:
    scenario = row.scenario
    if seed is not None:
        scenario = type(scenario)(**{**vars(scenario), "seed": seed})
    print(f"simulating {scenario.name} …", file=sys.stderr, flush=True)
    before = time.process_time()
    return World(scenario).run(), time.process_time() - before


def _table(ran: list[tuple[Outcome, float]]) -> Table:
    rows = [
        (
            outcome.scenario.name,
            f"{outcome.scenario.pieces:,}",
            f"{outcome.last:.3f}",
            f"{outcome.mean:.3f}",
            f"{outcome.scenario.bound_s / outcome.scenario.unit_s:.2f}",
            f"{outcome.of_bound:.3f}",
            f"{outcome.copies:.3f}",
            " ".join(f"{copies:.2f}" for copies in outcome.into_racks),
            f"{cpu_s:.1f}",
        )
        for outcome, cpu_s in ran
    ]
    columns = ("", "pieces", "last", "mean", "bound", "last / bound", "copies", "into racks", "CPU s")
    notes = ["Times in multiples of size / link; with one client every 2 s each from its own start."]
    return Table("Swarms on a virtual clock", columns, rows, notes)


if __name__ == "__main__":
    sys.exit(main())
