"""`python -m benchmarks`: everything in one run, as tables or as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from benchmarks import gateway, gossip, manifests, sharing, snapshots, throughput, verify, wire
from benchmarks.results import Table, machine


class _Result(Protocol):
    def tables(self) -> Iterator[Table]: ...

    def to_json(self) -> dict[str, Any]: ...


_PARTS: dict[str, Callable[[argparse.Namespace], _Result]] = {
    "throughput": throughput.measure_as_told,
    "wire": wire.measure_as_told,
    "sharing": sharing.measure_as_told,
    "manifests": manifests.measure_as_told,
    "verify": verify.measure_as_told,
    "gossip": gossip.measure_as_told,
    "snapshots": snapshots.measure_as_told,
    "gateway": gateway.measure_as_told,
}
_GOAL = 0.8  # of the library's raw stream, for a fetch that verifies and stores everything


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks", description="Measure what p2pboot costs on this machine."
    )
    parser.add_argument(
        "--quick", action="store_true", help="less of everything: about a minute instead of five"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    parser.add_argument("--only", choices=_PARTS, action="append", help="only this part; repeatable")
    throughput.options(parser)
    parser.add_argument(
        "--nodes", type=int, nargs="+", metavar="N", help="in the meshes  [default: 2 10 30, quick 2 10]"
    )
    parser.add_argument("--messages", type=int, metavar="N", help="in each mesh  [default: 50, quick 10]")
    arguments = parser.parse_args()
    document: dict[str, Any] = {"machine": machine()}
    if not arguments.json:
        _print_machine(document["machine"])
    for name in arguments.only or _PARTS:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        result = _PARTS[name](arguments)
        document |= result.to_json()
        if not arguments.json:
            for table in result.tables():
                print(table.render(), flush=True)
            if isinstance(result, throughput.Throughput):
                _print_goal(result)
    document["machine"]["load_after"] = [round(load, 2) for load in os.getloadavg()]
    if arguments.json:
        print(json.dumps(document, indent=2))
    else:
        print(
            f"\nload average {document['machine']['load'][0]} before, {document['machine']['load_after'][0]} after"
        )


def _print_machine(about: dict[str, Any]) -> None:
    print(f"{about['processor']}, {about['cores']} cores, {about['system']}, Python {about['python']}")
    if about["load"][0] > about["cores"] / 2:
        print("This machine is busy: only ratios mean anything.")


def _print_goal(result: throughput.Throughput) -> None:
    ratio = result.ratio(throughput.FETCH)
    verdict = "reached" if ratio >= _GOAL else "missed"
    print(f"\n  verified fetch / py-libp2p's raw stream = {ratio:.2f} (goal {_GOAL}: {verdict})")


if __name__ == "__main__":
    main()
