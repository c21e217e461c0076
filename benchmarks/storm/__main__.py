"""`python -m benchmarks.storm`: the rows that are named, or all, as tables, as JSON and as drawings."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import lab
from benchmarks.results import Goal, goal_table, goals_to_json, machine
from benchmarks.storm import memory
from benchmarks.storm.contestants import CONTESTANTS, absent
from benchmarks.storm.plots import draw
from benchmarks.storm.report import failures, goals, line, table
from benchmarks.storm.rows import ROWS, Row
from benchmarks.storm.running import Outcome, run

_TOO_BUSY = 0.9
_NAMES = (*ROWS, memory.NAME)


def main() -> None:
    arguments = _arguments()
    if missing := lab.missing():
        print(f"no storm here: {missing}")
        sys.exit(0 if arguments.check else 1)
    wanted = arguments.rows or _NAMES
    rows = [replace(ROWS[name], mdns=arguments.mdns) for name in wanted if name in ROWS]
    outcomes = list(_outcomes(arguments, rows))
    reached = [goal for outcome in outcomes for goal in goals(outcome)]
    tables = [table(outcomes)] if outcomes else []
    document: dict[str, Any] = {"outcomes": [each.to_json() for each in outcomes]}
    if memory.NAME in wanted:
        measured = memory.measure(quick=arguments.quick)
        reached += measured.goals()
        tables += measured.tables()
        document |= measured.to_json()
    for each in (*tables, *([goal_table(reached)] if reached else [])):
        print(each.render(), flush=True)
    if arguments.json:
        _write_json(arguments.json, document, reached)
    if arguments.svg:
        draw(outcomes, arguments.svg)
    if arguments.check and (failed := [why for outcome in outcomes for why in failures(outcome)]):
        sys.exit("\n".join(failed))


def _outcomes(arguments: argparse.Namespace, rows: Sequence[Row]) -> Iterator[Outcome]:
    """Run the rows, each by everybody who can, and tell of each run as soon as it is over."""
    for row in rows:
        for name in _contestants(arguments, row):
            outcome = _told(run(name, row.quick() if arguments.quick else row))
            yield outcome
            halve = not (arguments.quick or arguments.once) and name == "p2pboot"
            if halve and outcome.busy > _TOO_BUSY:
                yield _told(run(name, row.at_half_rate()))


def _told(outcome: Outcome) -> Outcome:
    print(line(outcome), file=sys.stderr, flush=True)
    return outcome


def _contestants(arguments: argparse.Namespace, row: Row) -> Iterator[str]:
    for name in CONTESTANTS:
        if (arguments.only and name not in arguments.only) or (name != "p2pboot" and not row.competes):
            continue
        if why := absent(name):
            print(f"{name} is not compared with: {why}", file=sys.stderr, flush=True)
        else:
            yield name


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="storm", description="Measure many clients that start together.")
    rows = f"only these: {', '.join(_NAMES)}  [default: all]"
    parser.add_argument("rows", nargs="*", metavar="ROW", help=rows)
    parser.add_argument("--quick", action="store_true", help="a quarter of the image at half the rate")
    parser.add_argument("--once", action="store_true", help="not again at half the rate where cores are busy")
    parser.add_argument("--mdns", action="store_true", help="clients look for each other by mDNS as well")
    parser.add_argument(
        "--only", action="append", choices=CONTESTANTS, help="only this contestant; repeatable"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--svg", type=Path, metavar="DIR", help="draw every run there")
    check = "fail where a client does not get the image, or many copies leave; times do not matter"
    parser.add_argument("--check", action="store_true", help=check)
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(_NAMES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(_NAMES)}")
    return arguments


def _write_json(file: Path, document: dict[str, Any], reached: Sequence[Goal]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"machine": machine(), **document, "goals": goals_to_json(reached)}))


if __name__ == "__main__":
    main()
