"""Bytes per second: the library's raw stream, ours, and a verified fetch from `serve` to `fetch`.

Two processes over loopback each. The contestants take turns, round after round, so that a busy machine is
busy for all of them; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.results import GB, MB, MIB, Table, median, run_alone
from benchmarks.sample import write_artifacts
from p2pboot.testing.processes import Finished, Mesh

STOCK, OWN, FETCH = "stock stream", "own stream", "verified fetch"
_NAMES = {
    STOCK: "py-libp2p's raw stream, 1 MiB writes",
    OWN: "raw stream of our transport",
    FETCH: "verified fetch, serve → fetch",
}


@dataclass(frozen=True)
class Transfer:
    """One run of a contestant; processor time of the fetching process is without its start-up."""

    size: int
    seconds: float
    server_cpu_s: float
    client_cpu_s: float
    server_peak_bytes: int
    client_peak_bytes: int

    @property
    def mb_per_s(self) -> float:
        return self.size / self.seconds / MB


@dataclass(frozen=True)
class Throughput:
    """All rounds.

    Args:
        size: bytes of the artifact.
        rounds: what each contestant did, round by round.
        hashing: seconds for the same bytes, round by round, see `benchmarks.hashing`.
    """

    size: int
    rounds: Sequence[dict[str, Transfer]]
    hashing: Sequence[dict[str, float]]

    def ratio(self, one: str, other: str = STOCK) -> float:
        """Median of the ratios of two contestants in the same round."""
        return median(each[one].mb_per_s / each[other].mb_per_s for each in self.rounds)

    def hash_rate(self, name: str) -> float:
        return median(self.size / spent[name] / MB for spent in self.hashing)

    def tables(self) -> Iterator[Table]:
        title = f"Throughput: {self.size // MIB} MiB over loopback, median of {len(self.rounds)} rounds"
        columns = (
            "",
            "MB/s",
            "of stock",
            "lowest–highest",
            "CPU s/GB server",
            "client",
            "peak MiB server",
            "client",
        )
        yield Table(title, columns, [self._row(name) for name in _NAMES])
        rows = [
            ("SHA-256", f"{self.hash_rate('sha256'):.0f}"),
            ("blake3, pieces of 1 MiB", f"{self.hash_rate('blake3'):.0f}"),
            ("write and fsync", f"{self.hash_rate('write'):.0f}"),
        ]
        yield Table("The same bytes on one core", ("", "MB/s"), rows)

    def _row(self, name: str) -> Sequence[str]:
        runs = [each[name] for each in self.rounds]
        rates = sorted(run.mb_per_s for run in runs)
        return (
            _NAMES[name],
            f"{median(rates):.0f}",
            f"{self.ratio(name):.2f}",
            f"{rates[0]:.0f}–{rates[-1]:.0f}",
            f"{median(run.server_cpu_s * GB / run.size for run in runs):.1f}",
            f"{median(run.client_cpu_s * GB / run.size for run in runs):.1f}",
            f"{max(run.server_peak_bytes for run in runs) / MIB:.0f}",
            f"{max(run.client_peak_bytes for run in runs) / MIB:.0f}",
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "throughput": {
                "bytes": self.size,
                "rounds": [{name: asdict(run) for name, run in each.items()} for each in self.rounds],
                "mb_per_s": {name: median(each[name].mb_per_s for each in self.rounds) for name in _NAMES},
                "ratio_to_stock": {name: self.ratio(name) for name in _NAMES},
                "hash_mb_per_s": {name: self.hash_rate(name) for name in ("sha256", "blake3", "write")},
            }
        }


class Publisher:
    """A `serve` process of a mesh, and what `fetch` needs to know of it."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._trust = mesh.new_key("publisher")
        self._node = mesh.serve(mesh.directory / "artifacts", "-q")
        self._startup_cpu_s = self._fetch("--artifact", "kernel").cpu_s  # imports, keys, one small artifact

    def fetch(self) -> Transfer:
        """Fetch everything into a directory of its own, from nothing."""
        before = self._node.cpu_s()
        client = self._fetch()
        return Transfer(
            size=client.document["downloaded_bytes"],
            seconds=client.document["transfer_s"],
            server_cpu_s=self._node.cpu_s() - before,
            client_cpu_s=client.cpu_s - self._startup_cpu_s,
            server_peak_bytes=self._node.peak_memory_kib() * 1024,
            client_peak_bytes=client.peak_bytes,
        )

    def _fetch(self, *more: str) -> Finished:
        output = self._mesh.directory / "out"
        arguments = self._mesh.fetch_arguments(self._trust, output, self._node.address)
        try:
            return processes.checked(self._mesh.run(*arguments, *more))
        finally:
            shutil.rmtree(output, ignore_errors=True)


def _stream(module: str, address: str, size: int) -> Transfer:
    measured = processes.run(["-m", module, "receive", address, str(size)]).document
    return Transfer(size=size, **measured)


def measure(size: int, rounds: int, directory: Path | None = None) -> Throughput:
    """Run the rounds.

    Args:
        size: of the artifact, bytes, a multiple of 1 MiB.
        rounds: how often each contestant runs.
        directory: where the files go; None for the system's temporary directory.
    """
    done: list[dict[str, Transfer]] = []
    hashing: list[dict[str, float]] = []
    with ExitStack() as stack:
        scratch = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="p2pboot-bench-", dir=directory))
        )
        rootfs = write_artifacts(scratch, size)
        stock = stack.enter_context(processes.server(["-m", "benchmarks.stock_stream", "serve"]))
        own = stack.enter_context(processes.server(["-m", "benchmarks.own_stream", "serve"]))
        node = Publisher(stack.enter_context(processes.mesh_in(scratch)))
        for _ in range(rounds):
            done.append(
                {
                    STOCK: _stream("benchmarks.stock_stream", stock.address, size),
                    FETCH: node.fetch(),
                    OWN: _stream("benchmarks.own_stream", own.address, size),
                }
            )
            hashing.append(processes.run(["-m", "benchmarks.hashing", str(rootfs)]).document)
    return Throughput(size, done, hashing)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, metavar="MIB", help="of the artifact  [default: 512, quick 128]")
    parser.add_argument("--rounds", type=int, metavar="N", help="of each contestant  [default: 5, quick 2]")
    parser.add_argument(
        "--directory", type=Path, metavar="DIR", help="for artifacts and stores  [default: temporary]"
    )


def measure_as_told(arguments: argparse.Namespace) -> Throughput:
    size = arguments.size or (128 if arguments.quick else 512)
    return measure(size * MIB, arguments.rounds or (2 if arguments.quick else 5), arguments.directory)


if __name__ == "__main__":
    run_alone("Measure transfers between two processes over loopback.", measure_as_told, options)
