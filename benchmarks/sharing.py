"""What several peers are worth: a fetch from one capped peer, from two, and from two of which one freezes half-way.

Real processes over loopback, every upload capped at the same rate, so that the peers and not this machine decide. The
contestants take turns; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.results import MIB, Table, median, run_alone
from benchmarks.sample import write_artifacts
from p2pboot.testing.processes import Mesh, Node

ONE, TWO, FROZEN = "one", "two", "frozen"
_NAMES = {ONE: "one peer", TWO: "two peers", FROZEN: "two peers, one freezes half-way"}
_RATE_MB = 8


@dataclass(frozen=True)
class Sharing:
    """Seconds of transfer of each contestant, round by round; `size` in bytes."""

    size: int
    rounds: Sequence[dict[str, float]]

    def speed_up(self, name: str) -> float:
        """Median of how many times as fast as from one peer."""
        return median(each[ONE] / each[name] for each in self.rounds)

    def tables(self) -> Iterator[Table]:
        title = f"Several peers: {self.size // MIB} MiB, {_RATE_MB} MB/s each, median of {len(self.rounds)} rounds"
        rows = [
            (what, f"{median(each[name] for each in self.rounds):.1f}", f"{self.speed_up(name):.2f}")
            for name, what in _NAMES.items()
        ]
        cost_s = median(each[FROZEN] - each[ONE] * 0.75 for each in self.rounds)
        note = (
            f"half from two peers and half from one would take {cost_s:.1f} s less than with the frozen one"
        )
        yield Table(title, ("", "seconds", "times as fast"), rows, [note])

    def to_json(self) -> dict[str, Any]:
        return {
            "sharing": {
                "bytes": self.size,
                "rate_mb_per_s": _RATE_MB,
                "rounds": list(self.rounds),
                "times_as_fast": {name: self.speed_up(name) for name in _NAMES},
            }
        }


def measure(size: int, rounds: int) -> Sharing:
    """Run the rounds.

    Args:
        size: of the artifact, bytes, a multiple of 1 MiB.
        rounds: how often each contestant runs.
    """
    with tempfile.TemporaryDirectory(prefix="p2pboot-bench-") as name:
        scratch = Path(name)
        write_artifacts(scratch, size)
        with processes.mesh_in(scratch) as mesh:
            trust, slow = mesh.new_key("publisher"), ("--max-upload", f"{_RATE_MB}MB/s", "-q")
            publisher = mesh.serve(scratch / "artifacts", *slow)
            mirror = mesh.mirror(trust, "--bootstrap", publisher.address, *slow)
            mirror.wait_for_head(1)
            return Sharing(size, [_round(mesh, trust, publisher, mirror) for _ in range(rounds)])


def _round(mesh: Mesh, trust: str, publisher: Node, mirror: Node) -> dict[str, float]:
    both = (publisher.address, mirror.address)
    spent = {ONE: _fetch(mesh, trust, publisher.address), TWO: _fetch(mesh, trust, *both)}
    # At half of its bytes by the rate that was just measured: no clock of the client's is needed for that.
    freeze = threading.Timer(spent[TWO] / 2 + _start_s(mesh, trust, both), mirror.freeze)
    freeze.start()
    try:
        spent[FROZEN] = _fetch(mesh, trust, *both)
    finally:
        freeze.cancel()
        mirror.thaw()
    return spent


def _start_s(mesh: Mesh, trust: str, peers: Sequence[str]) -> float:
    """Seconds from the start of a process to its first byte."""
    began = time.monotonic()
    transfer_s = _fetch(mesh, trust, *peers, more=("--artifact", "kernel"))
    return time.monotonic() - began - transfer_s


def _fetch(mesh: Mesh, trust: str, *peers: str, more: Sequence[str] = ()) -> float:
    output = mesh.directory / "out"
    try:
        done = processes.checked(mesh.run(*mesh.fetch_arguments(trust, output, *peers), *more))
        return float(done.document["transfer_s"])
    finally:
        shutil.rmtree(output, ignore_errors=True)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, metavar="N", help="of each contestant  [default: 3, quick 1]")


def measure_as_told(arguments: argparse.Namespace) -> Sharing:
    return measure((32 if arguments.quick else 64) * MIB, arguments.rounds or (1 if arguments.quick else 3))


if __name__ == "__main__":
    run_alone("Measure what several peers are worth.", measure_as_told, options)
