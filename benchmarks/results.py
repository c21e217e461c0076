"""What the measurements come to: medians, tables for people, plain values for `--json`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MIB = 1 << 20
MB = 1_000_000
GB = 1_000_000_000


@dataclass(frozen=True)
class Table:
    """One section of the report.

    Args:
        title: what was measured.
        columns: their headings; the first column is text and stands left, the others right.
        rows: as many cells as there are columns.
        notes: lines below.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())

    def render(self) -> str:
        grid = [self.columns, *self.rows]
        widths = [max(len(row[column]) for row in grid) for column in range(len(self.columns))]
        lines = [f"\n{self.title}"]
        for number, row in enumerate(grid):
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)),
            ]
            lines.append("  " + "  ".join(cells).rstrip())
            if number == 0:
                lines.append("  " + "  ".join("-" * width for width in widths))
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


@dataclass(frozen=True)
class Goal:
    """What has to be reached, and what was.

    Args:
        what: is measured.
        goal: in words.
        measured: the value.
        met: whether it is reached.
    """

    what: str
    goal: str
    measured: float
    met: bool

    @classmethod
    def at_least(cls, what: str, goal: float, measured: float) -> Goal:
        return cls(what, f">= {goal:g}", measured, measured >= goal)

    @classmethod
    def at_most(cls, what: str, goal: float, measured: float) -> Goal:
        return cls(what, f"<= {goal:g}", measured, measured <= goal)


def goal_table(goals: Sequence[Goal]) -> Table:
    """All goals of a run, for people."""
    rows = [
        (
            one.what,
            one.goal,
            f"{one.measured:.2f}" if one.measured < 100 else f"{one.measured:.0f}",
            _yes(one.met),
        )
        for one in goals
    ]
    return Table("Goals", ("", "goal", "measured", "met"), rows)


def _yes(met: bool) -> str:
    return "yes" if met else "NO"


def goals_of(result: Any) -> list[Goal]:
    """The goals that a part of the benchmarks has; many have none."""
    return list(result.goals()) if hasattr(result, "goals") else []


def goals_to_json(goals: Sequence[Goal]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [asdict(one) for one in goals]


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def machine() -> dict[str, Any]:
    """Where the figures come from, and how busy it was."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def run_alone(
    what: str,
    measure: Callable[[argparse.Namespace], Any],
    options: Callable[[argparse.ArgumentParser], None] = lambda _parser: None,
) -> None:
    """Run one module by itself: parse its options, measure, print a table or JSON.

    Args:
        what: one line for `--help`.
        measure: returns an object with `.tables()` and `.to_json()`.
        options: adds the module's own options to the parser.
    """
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--quick", action="store_true", help="less of everything, for a first look")
    parser.add_argument("--json", action="store_true", help="plain values instead of tables")
    options(parser)
    arguments = parser.parse_args()
    result = measure(arguments)
    if arguments.json:
        said = {"machine": machine(), **result.to_json(), "goals": goals_to_json(goals_of(result))}
        print(json.dumps(said, indent=2))
    else:
        for table in (*result.tables(), *([goal_table(goals)] if (goals := goals_of(result)) else [])):
            print(table.render())
