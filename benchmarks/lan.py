"""How soon two nodes on one link find each other by multicast: IPv4, IPv6 alone, and link-local addresses alone.

    python -m benchmarks.lan [--rounds N]

Network namespaces on a bridge, with what the tests have for it (`tests.lan`): root and iproute2. One node runs already;
counted is from the first line of another one, which prints its address when it listens, until both say that they are
connected. Neither is told of the other.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import Goal, Table, run_alone
from p2pboot.testing.processes import PYTHON, Mesh, Node, mesh_in
from p2pboot.testing.waiting import wait_until
from tests.lan import Network, network

GOAL_S = 2.0
_LINKS = {
    "IPv4 alone": "192.168.77.{number}/24",
    "IPv6 alone": "fd77::{number}/64",
    "link-local IPv6 alone": "",
}


@dataclass(frozen=True)
class Found:
    """Seconds until two were connected, by what addresses they have."""

    after_s: dict[str, Sequence[float]]

    def tables(self) -> Iterator[Table]:
        rows = [
            (what, str(len(times)), f"{statistics.median(times):.2f}", f"{max(times):.2f}")
            for what, times in self.after_s.items()
        ]
        yield Table(
            "Two nodes on one link, seconds until they are connected", ("", "runs", "median", "max"), rows
        )

    def goals(self) -> Iterator[Goal]:
        for what, times in self.after_s.items():
            yield Goal.at_most(f"found on the link, {what}, s", GOAL_S, max(times))

    def to_json(self) -> dict[str, Any]:
        return {"lan": {what: list(times) for what, times in self.after_s.items()}}


def measure(rounds: int) -> Found:
    return Found({what: [_round(what) for _ in range(rounds)] for what in _LINKS})


def _round(what: str) -> float:
    with (
        tempfile.TemporaryDirectory() as directory,
        network(("one", "other")) as net,
        mesh_in(Path(directory)) as mesh,
    ):
        for number, machine in enumerate(("one", "other"), 1):
            net.plug(machine)
            if what == "IPv4 alone":
                net.run(machine, "echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6")
            if address := _LINKS[what].format(number=number):
                net.ip(machine, f"addr add {address} dev eth0")
        trust = mesh.new_key("publisher")
        one = _start(mesh, net, "one", trust)
        other = _start(mesh, net, "other", trust)
        began = time.monotonic()
        wait_until(lambda: _knows(one, other) and _knows(other, one), "two nodes find each other")
        return time.monotonic() - began


def _start(mesh: Mesh, net: Network, machine: str, trust: str) -> Node:
    home = mesh.directory / machine
    home.mkdir()
    command = [*net.inside(machine), *PYTHON, "mirror", "--trust", trust, "--quota", "unlimited"]
    command += ["--channel", "stable", "--arch", "x86_64"]
    command += ["--key", str(home / "node.toml"), "--state", str(home / "state")]
    return mesh.node(command, state=home / "state", log=home / "log")


def _knows(one: Node, other: Node) -> bool:
    return other.peer_id in {peer["peer_id"] for peer in one.status()["peers"]}


def measure_as_told(arguments: argparse.Namespace) -> Found:
    return measure(2 if arguments.quick else arguments.rounds)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="of each kind")


if __name__ == "__main__":
    run_alone("Measure how soon nodes on one link find each other.", measure_as_told, options)
