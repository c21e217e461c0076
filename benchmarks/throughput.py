"""Bytes per second and what they cost: raw streams, a verified fetch from `serve` to `fetch`, and libtorrent.

Two processes over loopback each. The contestants take turns, round after round, so that a busy machine is
busy for all of them; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import processes, torrent
from benchmarks.results import GB, MB, MIB, Goal, Table, median, run_alone
from benchmarks.sample import write_artifacts
from p2pboot.testing.processes import Finished, Mesh

STOCK, NODE, LIGHT, SMALL = "stock stream", "node stream", "light stream", "small frames"
PRIVATE = "private stream"
FETCH, UNSYNCED = "verified fetch", "unsynced fetch"
TORRENT, TORRENT_UNSYNCED = "torrent", "unsynced torrent"
_NAMES = {
    STOCK: "raw stream of py-libp2p, 1 MiB writes",
    NODE: "raw stream, node → node",
    LIGHT: "raw stream, node → client",
    PRIVATE: "raw stream, node → client in a private mesh",
    SMALL: "raw stream, frames of 16 KiB → client",
    FETCH: "verified fetch, serve → fetch",
    TORRENT: "libtorrent, synced at the end",
    UNSYNCED: "verified fetch, without syncing",
    TORRENT_UNSYNCED: "libtorrent, without syncing",
}
_SMALL_FRAME = 16 * 1024
_CEILINGS = {"sha256": "SHA-256", "blake3": "blake3, pieces of 1 MiB", "write": "write and fsync"}


@dataclass(frozen=True)
class Transfer:
    """One run of a contestant.

    Args:
        size: bytes.
        seconds: of the transfer alone for a raw stream; from the process's start to its end for the others.
        server_cpu_s: user and system.
        client_cpu_s: without what the same takes for one small artifact: start-up, finding the manifest.
        server_peak_bytes: 0 where it was not looked at.
        client_peak_bytes: memory.
    """

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
        rounds: what each contestant did, round by round; libtorrent only where it is installed.
        hashing: seconds for the same bytes, round by round, see `benchmarks.hashing`.
    """

    size: int
    rounds: Sequence[Mapping[str, Transfer]]
    hashing: Sequence[Mapping[str, float]]

    @property
    def contestants(self) -> list[str]:
        return [name for name in _NAMES if name in self.rounds[0]]

    def ratio(self, one: str, other: str = STOCK) -> float:
        """Median of the ratios of two contestants in the same round."""
        return median(each[one].mb_per_s / each[other].mb_per_s for each in self.rounds)

    def cpu(self, name: str, side: str) -> float:
        """Median of processor seconds per GB; side is "server" or "client"."""
        return median(getattr(each[name], f"{side}_cpu_s") * GB / self.size for each in self.rounds)

    def peak_mib(self, name: str, side: str) -> float:
        return max(getattr(each[name], f"{side}_peak_bytes") for each in self.rounds) / MIB

    def hash_rate(self, name: str) -> float:
        return median(self.size / spent[name] / MB for spent in self.hashing)

    def tables(self) -> Iterator[Table]:
        title = f"Throughput: {self.size // MIB} MiB over loopback, median of {len(self.rounds)} rounds"
        columns = (
            *("", "MB/s", "of stock", "lowest–highest", "CPU s/GB server"),
            *("client", "peak MiB server", "client"),
        )
        notes = [] if TORRENT in self.rounds[0] else [f"libtorrent is not compared with: {torrent.MISSING}"]
        yield Table(title, columns, [self._row(name) for name in self.contestants], notes)
        rows = [(what, f"{self.hash_rate(name):.0f}") for name, what in _CEILINGS.items()]
        yield Table("The same bytes on one core", ("", "MB/s"), rows)

    def _row(self, name: str) -> Sequence[str]:
        rates = sorted(each[name].mb_per_s for each in self.rounds)
        return (
            _NAMES[name],
            f"{median(rates):.0f}",
            f"{self.ratio(name):.2f}",
            f"{rates[0]:.0f}–{rates[-1]:.0f}",
            *(f"{self.cpu(name, side):.1f}" for side in ("server", "client")),
            *(f"{self.peak_mib(name, side):.0f}" for side in ("server", "client")),
        )

    def goals(self) -> Iterator[Goal]:
        if TORRENT in self.rounds[0]:
            yield Goal.at_least("verified fetch / libtorrent, synced", 1.5, self.ratio(FETCH, TORRENT))
            unsynced = self.ratio(UNSYNCED, TORRENT_UNSYNCED)
            yield Goal.at_least("verified fetch / libtorrent, neither synced", 1.5, unsynced)
        yield Goal.at_least("verified fetch / our raw stream", 0.7, self.ratio(FETCH, LIGHT))
        yield Goal.at_most("verified fetch, client, CPU s/GB", 3.5, self.cpu(FETCH, "client"))
        yield Goal.at_least("raw stream, node → node / stock", 2.4, self.ratio(NODE))
        yield Goal.at_least("raw stream, node → client / stock", 2.4, self.ratio(LIGHT))
        yield Goal.at_most("raw stream, server, CPU s/GB", 1.2, self.cpu(LIGHT, "server"))
        yield Goal.at_most("raw stream, client, CPU s/GB", 1.5, self.cpu(LIGHT, "client"))
        yield Goal.at_most("raw stream, receiving node, CPU s/GB", 1.5, self.cpu(NODE, "client"))
        yield Goal.at_least("private mesh / our raw stream", 0.4, self.ratio(PRIVATE, LIGHT))
        yield Goal.at_least("frames of 16 KiB / our raw stream", 0.5, self.ratio(SMALL, LIGHT))
        for side in ("server", "client"):
            yield Goal.at_most(f"verified fetch, {side}, peak MiB", 150, self.peak_mib(FETCH, side))

    def to_json(self) -> dict[str, Any]:
        names = self.contestants
        return {
            "throughput": {
                "bytes": self.size,
                "rounds": [{name: asdict(run) for name, run in each.items()} for each in self.rounds],
                "mb_per_s": {name: median(each[name].mb_per_s for each in self.rounds) for name in names},
                "ratio_to_stock": {name: self.ratio(name) for name in names},
                "hash_mb_per_s": {name: self.hash_rate(name) for name in _CEILINGS},
            }
        }


class Publisher:
    """A `serve` process of a mesh, and what `fetch` needs to know of it."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._trust = mesh.new_key("publisher")
        self._node = mesh.serve(mesh.directory / "artifacts", "-q")
        self._startup_cpu_s = self._fetch("p2pboot", "--artifact", "kernel").cpu_s

    def fetch(self, module: str) -> Transfer:
        """Fetch everything into a directory of its own, from nothing; `module` is the program."""
        before = self._node.cpu_s()
        client = self._fetch(module)
        return Transfer(
            size=client.document["downloaded_bytes"],
            seconds=client.wall_s,
            server_cpu_s=self._node.cpu_s() - before,
            client_cpu_s=client.cpu_s - self._startup_cpu_s,
            server_peak_bytes=self._node.peak_memory_kib() * 1024,
            client_peak_bytes=client.peak_bytes,
        )

    def _fetch(self, module: str, *more: str) -> Finished:
        output = self._mesh.directory / "out"
        arguments = self._mesh.fetch_arguments(self._trust, output, self._node.address)
        try:
            return processes.checked(self._mesh.complete([sys.executable, "-m", module, *arguments, *more]))
        finally:
            shutil.rmtree(output, ignore_errors=True)


class Seed:
    """A process of libtorrent that has the large file."""

    def __init__(self, stack: ExitStack, file: Path, scratch: Path) -> None:
        self._size = file.stat().st_size
        self._torrent, self._output = scratch / "torrent", scratch / "leech"
        serve = ["-m", "benchmarks.torrent", "serve", str(file), str(self._torrent)]
        self._seed = stack.enter_context(processes.server(serve))

    def fetch(self, *sync: str) -> Transfer:
        before = self._seed.cpu_s()
        self._output.mkdir()
        try:
            receive = ["-m", "benchmarks.torrent", "receive", self._seed.address]
            client = processes.run([*receive, str(self._torrent), str(self._output), *sync])
        finally:
            shutil.rmtree(self._output)
        return Transfer(
            size=self._size,
            seconds=client.wall_s,
            server_cpu_s=self._seed.cpu_s() - before,
            client_cpu_s=client.cpu_s,
            server_peak_bytes=self._seed.peak_memory_kib() * 1024,
            client_peak_bytes=client.peak_bytes,
        )


def _stream(module: str, address: str, size: int, *kind: str, mesh: tuple[str, ...] = ()) -> Transfer:
    measured = processes.run(["-m", module, *mesh, "receive", address, str(size), *kind]).document
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
        contestants = _contestants(stack, scratch, rootfs, size)
        for _ in range(rounds):
            done.append({name: run() for name, run in contestants.items()})
            hashing.append(processes.run(["-m", "benchmarks.hashing", str(rootfs)]).document)
    return Throughput(size, done, hashing)


def _contestants(
    stack: ExitStack, scratch: Path, rootfs: Path, size: int
) -> dict[str, Callable[[], Transfer]]:
    ours = "benchmarks.own_stream"
    stock = stack.enter_context(processes.server(["-m", "benchmarks.stock_stream", "serve"]))
    own = stack.enter_context(processes.server(["-m", ours, "serve"]))
    mesh = ("private",)
    private = stack.enter_context(processes.server(["-m", ours, *mesh, "serve"]))
    small = stack.enter_context(processes.server(["-m", ours, "serve", str(_SMALL_FRAME)]))
    node = Publisher(stack.enter_context(processes.mesh_in(scratch)))
    contestants = {
        STOCK: lambda: _stream("benchmarks.stock_stream", stock.address, size),
        FETCH: lambda: node.fetch("p2pboot"),
        NODE: lambda: _stream(ours, own.address, size, "node"),
        LIGHT: lambda: _stream(ours, own.address, size, "light"),
        PRIVATE: lambda: _stream(ours, private.address, size, "light", mesh=mesh),
        SMALL: lambda: _stream(ours, small.address, size, "light"),
        UNSYNCED: lambda: node.fetch("benchmarks.unsynced"),
    }
    if torrent.is_installed():
        seed = Seed(stack, rootfs, scratch)
        contestants[TORRENT] = lambda: seed.fetch("sync")
        contestants[TORRENT_UNSYNCED] = seed.fetch
    return contestants


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, metavar="MIB", help="of the artifact  [default: 512, quick 128]")
    parser.add_argument("--rounds", type=int, metavar="N", help="of each contestant  [default: 3, quick 2]")
    parser.add_argument(
        "--directory", type=Path, metavar="DIR", help="for artifacts and stores  [default: temporary]"
    )


def measure_as_told(arguments: argparse.Namespace) -> Throughput:
    size = arguments.size or (128 if arguments.quick else 512)
    return measure(size * MIB, arguments.rounds or (2 if arguments.quick else 3), arguments.directory)


if __name__ == "__main__":
    run_alone("Measure transfers between two processes over loopback.", measure_as_told, options)
