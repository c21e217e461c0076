"""A client from its process's start to its end: one small artifact, the peer known.

Beside it the same process's imports of other people's packages alone, which no client can do without, in turns. The
program's bytecode is compiled before, as it is where a package is installed.
"""

from __future__ import annotations

import argparse
import compileall
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.results import MIB, Goal, Table, median, run_alone
from benchmarks.sample import write_artifacts
from p2pboot.testing.processes import PYTHON, Finished

FETCH, PACKAGES = "fetch", "packages"
_NAMES = {FETCH: "`fetch` of 1 MiB", PACKAGES: "importing the packages that it uses"}
_PACKAGES = (
    "import blake3, cachetools, click, msgspec, nacl.bindings, rfc8785, sqlite3, trio;"
    "from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305"
)


@dataclass(frozen=True)
class Run:
    """Seconds, and bytes of memory."""

    wall_s: float
    cpu_s: float
    peak_bytes: int

    @classmethod
    def of(cls, done: Finished) -> Run:
        return cls(done.wall_s, done.cpu_s, done.peak_bytes)


@dataclass(frozen=True)
class Startup:
    """All rounds."""

    rounds: Sequence[dict[str, Run]]

    def cpu_s(self, name: str) -> float:
        return median(each[name].cpu_s for each in self.rounds)

    def wall_s(self, name: str) -> float:
        return median(each[name].wall_s for each in self.rounds)

    def tables(self) -> Iterator[Table]:
        rows = [
            (
                what,
                f"{self.cpu_s(name):.3f}",
                f"{min(each[name].cpu_s for each in self.rounds):.3f}",
                f"{self.wall_s(name):.3f}",
                f"{max(each[name].peak_bytes for each in self.rounds) / MIB:.0f}",
            )
            for name, what in _NAMES.items()
        ]
        title = f"From a process's start to its end, median of {len(self.rounds)} rounds"
        yield Table(title, ("", "CPU s", "lowest", "wall s", "peak MiB"), rows)

    def goals(self) -> Iterator[Goal]:
        yield Goal.at_most("small fetch, CPU s", 0.30, self.cpu_s(FETCH))
        yield Goal.at_most("small fetch, wall s", 0.40, self.wall_s(FETCH))

    def to_json(self) -> dict[str, Any]:
        rounds = [{name: asdict(run) for name, run in each.items()} for each in self.rounds]
        return {"startup": {"rounds": rounds}}


def measure(rounds: int) -> Startup:
    """Run the rounds."""
    compileall.compile_dir(processes.ROOT / "p2pboot", quiet=1)
    with tempfile.TemporaryDirectory(prefix="p2pboot-bench-") as name:
        scratch = Path(name)
        write_artifacts(scratch, MIB)
        with processes.mesh_in(scratch) as mesh:
            trust = mesh.new_key("publisher")
            node = mesh.serve(scratch / "artifacts", "-q")
            output = scratch / "out"
            arguments = [*mesh.fetch_arguments(trust, output, node.address), "--artifact", "kernel"]
            commands = {
                FETCH: [*PYTHON, *arguments],
                PACKAGES: [sys.executable, "-c", _PACKAGES],
            }
            done = []
            for _ in range(rounds):
                runs = {}
                for which, command in commands.items():
                    runs[which] = Run.of(processes.checked(mesh.complete(command)))
                    shutil.rmtree(output, ignore_errors=True)
                done.append(runs)
    return Startup(done[1:])  # the first one reads from the disk


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, metavar="N", help="of each contestant  [default: 20, quick 5]")


def measure_as_told(arguments: argparse.Namespace) -> Startup:
    return measure(1 + (arguments.rounds or (5 if arguments.quick else 20)))


if __name__ == "__main__":
    run_alone("Measure how long a client takes to do next to nothing.", measure_as_told, options)
