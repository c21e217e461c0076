"""`python -m benchmarks`: everything in one run, or the parts that are named, as tables or as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module
from typing import Any

from benchmarks.results import Goal, goal_table, goals_of, goals_to_json, machine
from benchmarks.throughput import options

# Each is imported when its turn comes: Linux counts the memory of whoever starts a process towards the peak of the
# child, so the first parts, which look at that, are not to run in a process that has imported the network.
_PARTS = (
    *("throughput", "links", "rack", "startup", "sharing", "manifests", "verify"),
    *("wire", "gossip", "hashtable", "snapshots", "gateway", "crowd"),
)


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
    options(parser)
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
        result = import_module(f"benchmarks.{name}").measure_as_told(arguments)
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
