"""A crowd: a quick fetch alone, and beside many slow readers, all from one publisher.

The slow readers are honest clients behind slow links, played by one process at little cost: each has a key, an
address and a connection of its own, asks for pieces of 1 MiB with sixteen requests in flight, as a fetch does, and
takes what it gets at its rate. What counts is how much longer the quick fetch takes beside them, and whether each gets
what its link could carry; absolute times say more about this machine.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import trio

from benchmarks import processes
from benchmarks.results import MB, MIB, Goal, Table, median, run_alone
from benchmarks.sample import write_artifacts
from p2pboot.core.identity import SecretKey
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, MAX_IN_FLIGHT, ReadRequest, encode_request
from p2pboot.testing.processes import Mesh, Node
from p2pboot.transport.interface import Stream, StreamReset
from p2pboot.transport.light import open_light

_READ: Final = MIB
_HEADER = len(b'!{"status":"ok","length":1048576}')
_STEP_S = 0.1
_GOAL = 2.0
CROWDS = {
    "64 at 1 Mbit/s": (64, 125_000),
    "16 at 0.5 MB/s": (16, 500_000),
    "32 at 0.5 MB/s": (32, 500_000),
    "40 at 0.5 MB/s": (40, 500_000),
}


@dataclass(frozen=True)
class Beside:
    """One fetch beside a crowd.

    Args:
        seconds: of the fetch, from its process's start to its end.
        quiet_s: of the same fetch alone, right before.
        served: how much of what their rate allows the slow readers got, the worst of them.
        ended: slow readers whose stream was ended by the publisher.
        peak_bytes: of the publisher's memory, so far.
    """

    seconds: float
    quiet_s: float
    served: float
    ended: int
    peak_bytes: int

    @property
    def ratio(self) -> float:
        return self.seconds / self.quiet_s


@dataclass(frozen=True)
class Crowds:
    """By crowd, one entry for each round."""

    size: int
    rounds: dict[str, list[Beside]]

    def tables(self) -> Iterator[Table]:
        rows = [
            (
                name,
                f"{median(each.quiet_s for each in rounds):.1f}",
                f"{median(each.seconds for each in rounds):.1f}",
                f"{median(each.ratio for each in rounds):.2f}",
                f"{min(each.served for each in rounds):.2f}",
                str(max(each.ended for each in rounds)),
                f"{max(each.peak_bytes for each in rounds) / MIB:.0f}",
            )
            for name, rounds in self.rounds.items()
        ]
        columns = ("slow readers", "alone s", "beside s", "times", "worst served", "ended", "peak MiB")
        yield Table(f"Crowd: a fetch of {self.size / MB:.0f} MB beside slow readers", columns, rows)

    def goals(self) -> Iterator[Goal]:
        for name, rounds in self.rounds.items():
            yield Goal.at_most(f"a fetch beside {name} / alone", _GOAL, median(each.ratio for each in rounds))
            yield Goal.at_most(f"slow readers ended, {name}", 0, max(each.ended for each in rounds))

    def to_json(self) -> dict[str, Any]:
        return {"crowd": {name: [asdict(each) for each in rounds] for name, rounds in self.rounds.items()}}


# The slow readers: one process.

_FROM: ContextVar[str] = ContextVar("_FROM")


async def _play(address: str, digest: str, size: int, count: int, rate: int) -> None:
    dialled = trio.open_tcp_stream
    trio.open_tcp_stream = lambda host, port: dialled(host, port, local_address=_FROM.get())  # type: ignore[assignment]
    readers = [_Reader(digest, size, rate) for _ in range(count)]
    async with trio.open_nursery() as nursery:
        for number, reader in enumerate(readers):
            _FROM.set(f"127.1.{number // 200}.{number % 200 + 1}")
            nursery.start_soon(reader.run, address)
        for reader in readers:
            await reader.started.wait()
        print("reading", flush=True)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                break
        document = {
            "served": min(each.served for each in readers),
            "ended": sum(each.was_ended for each in readers),
        }
        print(json.dumps(document), flush=True)
        nursery.cancel_scope.cancel()


class _Reader:
    def __init__(self, digest: str, size: int, rate: int) -> None:
        self._digest, self._pieces, self._rate = digest, size // _READ, rate
        self._next = secrets.randbelow(self._pieces)
        self._received = 0
        self._began = 0.0
        self.started = trio.Event()
        self.was_ended = False

    @property
    def served(self) -> float:
        return self._received / (self._rate * (time.perf_counter() - self._began))

    async def run(self, address: str) -> None:
        async with open_light(SecretKey(secrets.token_bytes(32))) as transport:
            stream = await transport.open_stream(await transport.dial(address), ARTIFACT_PROTOCOL)
            try:
                await self._read(stream)
            except StreamReset:
                self.was_ended = True
            finally:
                self.started.set()
            await trio.sleep_forever()

    async def _read(self, stream: Stream) -> None:
        await stream.write(self._requests(MAX_IN_FLIGHT))
        answered, target = 0, memoryview(bytearray(int(self._rate * _STEP_S)))
        self._began = time.perf_counter()
        while True:
            received = await stream.read_into(target, 1)
            if not received:
                raise StreamReset("it was closed")
            self.started.set()
            self._received += received
            whole = self._received // (_READ + _HEADER)
            if whole > answered:
                await stream.write(self._requests(whole - answered))
                answered = whole
            due = self._began + self._received / self._rate
            await trio.sleep(max(0.0, due - time.perf_counter()))

    def _requests(self, count: int) -> bytes:
        asked = b""
        for _ in range(count):
            self._next = (self._next + 1) % self._pieces
            asked += encode_request(ReadRequest(self._digest, self._next * _READ, _READ))
        return asked


# The rounds.


@contextmanager
def _crowd(node: Node, file: Path, count: int, rate: int) -> Iterator[dict[str, Any]]:
    """Slow readers while the block runs; afterwards the dictionary has what became of them."""
    digest = sha256(file.read_bytes()).hexdigest()
    command = [sys.executable, "-m", "benchmarks.crowd", "play", node.address, digest]
    told: dict[str, Any] = {}
    process = subprocess.Popen(
        [*command, str(file.stat().st_size), str(count), str(rate)],
        cwd=processes.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(2)  # until what their connections buffer is full
        yield told
        process.terminate()
        told |= json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def _fetch(mesh: Mesh, trust: str, node: Node) -> float:
    output = mesh.directory / "out"
    arguments = mesh.fetch_arguments(trust, output, node.address)
    try:
        return processes.checked(mesh.complete([sys.executable, "-m", "p2pboot", *arguments])).wall_s
    finally:
        shutil.rmtree(output, ignore_errors=True)


def measure(size: int, rounds: int, crowds: Sequence[str] = tuple(CROWDS)) -> Crowds:
    """Run the rounds: with each crowd, the fetch alone and beside it."""
    done: dict[str, list[Beside]] = {name: [] for name in crowds}
    with tempfile.TemporaryDirectory(prefix="p2pboot-bench-") as name:
        file = write_artifacts(Path(name), size)
        with processes.mesh_in(Path(name)) as mesh:
            trust = mesh.new_key("publisher")
            node = mesh.serve(mesh.directory / "artifacts", "-q")
            _fetch(mesh, trust, node)  # warm
            for _ in range(rounds):
                for crowd in crowds:
                    quiet_s = _fetch(mesh, trust, node)
                    with _crowd(node, file, *CROWDS[crowd]) as told:
                        seconds = _fetch(mesh, trust, node)
                    peak = node.peak_memory_kib() * 1024
                    done[crowd].append(Beside(seconds, quiet_s, told["served"], told["ended"], peak))
    return Crowds(size, done)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, metavar="MIB", help="of the artifact  [default: 256, quick 64]")
    parser.add_argument("--rounds", type=int, metavar="N", help="of each crowd  [default: 3, quick 1]")


def measure_as_told(arguments: argparse.Namespace) -> Crowds:
    size = arguments.size or (64 if arguments.quick else 256)
    return measure(size * MIB, arguments.rounds or (1 if arguments.quick else 3))


def main() -> None:
    match sys.argv[1:]:
        case ["play", address, digest, size, count, rate]:
            trio.run(partial(_play, address, digest, int(size), int(count), int(rate)))
        case _:
            run_alone("Measure a fetch beside slow readers.", measure_as_told, options)


if __name__ == "__main__":
    main()
