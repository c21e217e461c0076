"""`python -m benchmarks`: everything in one run, or the parts that are named, as tables or as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from benchmarks import (
    gateway,
    gossip,
    links,
    manifests,
    sharing,
    snapshots,
    startup,
    throughput,
    verify,
    wire,
)
from benchmarks.results import Goal, Table, goal_table, goals_of, goals_to_json, machine


class _Result(Protocol):
    def tables(self) -> Iterator[Table]: ...

    def to_json(self) -> dict[str, Any]: ...


_PARTS: dict[str, Callable[[argparse.Namespace], _Result]] = {
    "throughput": throughput.measure_as_told,
    "links": links.measure_as_told,
    "startup": startup.measure_as_told,
    "wire": wire.measure_as_told,
    "sharing": sharing.measure_as_told,
    "manifests": manifests.measure_as_told,
    "verify": verify.measure_as_told,
    "gossip": gossip.measure_as_told,
    "snapshots": snapshots.measure_as_told,
    "gateway": gateway.measure_as_told,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks", description="Measure what p2pboot costs on this machine."
    )
    parser.add_argument(
        "parts", nargs="*", metavar="NAME", help=f"only these: {', '.join(_PARTS)}  [default: all]"
    )
    parser.add_argument(
        "--quick", action="store_true", help="less of everything: about three minutes instead of nine"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    throughput.options(parser)
    parser.add_argument(
        "--nodes", type=int, nargs="+", metavar="N", help="in the meshes  [default: 2 10 30, quick 2 10]"
    )
    parser.add_argument("--messages", type=int, metavar="N", help="in each mesh  [default: 50, quick 10]")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(_PARTS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(_PARTS)}")
    document: dict[str, Any] = {"machine": machine()}
    goals: list[Goal] = []
    if not arguments.json:
        _print_machine(document["machine"])
    for name in arguments.parts or _PARTS:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        result = _PARTS[name](arguments)
        document |= result.to_json()
        goals += goals_of(result)
        if not arguments.json:
            for table in result.tables():
                print(table.render(), flush=True)
    document["goals"] = goals_to_json(goals)
    document["machine"]["load_after"] = [round(load, 2) for load in os.getloadavg()]
    if arguments.json:
        print(json.dumps(document, indent=2))
        return
    if goals:
        print(goal_table(goals).render())
    before, after = document["machine"]["load"][0], document["machine"]["load_after"][0]
    print(f"\nload average {before} before, {after} after")


def _print_machine(about: dict[str, Any]) -> None:
    print(f"{about['processor']}, {about['cores']} cores, {about['system']}, Python {about['python']}")
    if about["load"][0] > about["cores"] / 2:
        print("This machine is busy: only ratios mean anything.")


if __name__ == "__main__":
    main()
