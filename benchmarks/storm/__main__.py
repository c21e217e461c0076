"""`python -m benchmarks.storm`: the rows that are named, or all, as a table, as JSON and as drawings."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import lab
from benchmarks.results import Goal, goal_table, goals_to_json, machine
from benchmarks.storm.contestants import CONTESTANTS, absent
from benchmarks.storm.plots import draw
from benchmarks.storm.report import goals, line, table
from benchmarks.storm.rows import ROWS, Row
from benchmarks.storm.running import Outcome, run

_TOO_BUSY = 0.9


def main() -> None:
    arguments = _arguments()
    if missing := lab.missing():
        raise SystemExit(f"no storm here: {missing}")
    outcomes: list[Outcome] = []
    for row in _rows(arguments):
        for name in _contestants(arguments, row):
            for outcome in _run(name, row, halve=not (arguments.quick or arguments.once)):
                outcomes.append(outcome)
                print(line(outcome), file=sys.stderr, flush=True)
    reached = [goal for outcome in outcomes for goal in goals(outcome)]
    print(table(outcomes).render(), flush=True)
    if reached:
        print(goal_table(reached).render())
    if arguments.json:
        _write_json(arguments.json, outcomes, reached)
    if arguments.svg:
        draw(outcomes, arguments.svg)


def _run(name: str, row: Row, *, halve: bool) -> Iterator[Outcome]:
    """Run a row, and once more at half the rate where the processors were the limit."""
    outcome = run(name, row)
    yield outcome
    if halve and name == "p2pboot" and outcome.busy > _TOO_BUSY:
        yield run(name, row.at_half_rate())


def _rows(arguments: argparse.Namespace) -> Iterator[Row]:
    for name in arguments.rows or ROWS:
        yield ROWS[name].quick() if arguments.quick else ROWS[name]


def _contestants(arguments: argparse.Namespace, row: Row) -> Iterator[str]:
    for name in CONTESTANTS:
        if (arguments.only and name not in arguments.only) or (name != "p2pboot" and not row.competes):
            continue
        if why := absent(name):
            print(f"{name} is not compared with: {why}", file=sys.stderr)
        else:
            yield name


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="storm", description="Measure many clients that start together.")
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"only these: {', '.join(ROWS)}  [default: all]"
    )
    parser.add_argument("--quick", action="store_true", help="a quarter of the image at half the rate")
    parser.add_argument(
        "--only", action="append", choices=CONTESTANTS, help="only this contestant; repeatable"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--svg", type=Path, metavar="DIR", help="draw every run there")
    parser.add_argument("--once", action="store_true", help="not again at half the rate where cores are busy")
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(ROWS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    return arguments


def _write_json(file: Path, outcomes: Sequence[Outcome], reached: Sequence[Goal]) -> None:
    document = {
        "machine": machine(),
        "outcomes": [each.to_json() for each in outcomes],
        "goals": goals_to_json(reached),
    }
    file.write_text(json.dumps(document))


if __name__ == "__main__":
    main()
