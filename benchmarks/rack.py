"""What a piece of 64 KiB costs where every machine of a rack sends to and receives from all others at once.

Machines in network namespaces, each behind a slow link, each a process with one connection to each other one: it asks
everybody for pieces, two requests at a time, checks and writes what comes, and serves the same. So a connection carries
a few Mbit/s each way, and waking up, not the cipher, is what a byte costs. What decides nothing here is left out: who
has what, manifests, gossip.

python -m benchmarks.rack [--quick] [--json] [--machines N] [--pieces N] [--mbit N]
python -m benchmarks.rack machine ADDRESSES COUNT PIECES DIRECTORY    one of them, at the last of the addresses, which
waits for the others; on stdin it is told when to go on
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.lab import Lab, Link, missing
from benchmarks.results import GB, Table, median, run_alone
from p2pboot.testing.artifacts import write_content
from p2pboot.testing.processes import environment, own_peak_bytes

PIECE = 64 * 1024
_PORT = 4001
_AT_ONCE = 2
_SERVED = 64  # pieces, asked for again and again: where a rack boots, what is asked for has just come


@dataclass(frozen=True)
class Machine:
    """What one machine took to receive `size` bytes, and to send about as many.

    Args:
        size: bytes.
        seconds: until all that it asked for had come.
        user_s, system_s: processor time, until the last machine had everything.
        waits: times that the process waited meanwhile.
        startup_s: processor time until it had its connections.
        peak_bytes: memory.
    """

    size: int
    seconds: float
    user_s: float
    system_s: float
    waits: int
    startup_s: float
    peak_bytes: int


@dataclass(frozen=True)
class Rack:
    """All machines; none with the reason why."""

    mbit: float
    machines: Sequence[Machine]
    missing: str = ""

    @property
    def size(self) -> int:
        return sum(each.size for each in self.machines)

    def per_gb(self, what: str) -> float:
        """Processor seconds of all for a GB that was sent and received."""
        return sum(getattr(each, what) for each in self.machines) * GB / self.size

    def tables(self) -> Iterator[Table]:
        columns = ("machines, all CPU s/GB", "both", "user", "system", "waits/piece", "start s", "wall s")
        rows = []
        if self.machines:
            row = (
                str(len(self.machines)),
                f"{self.per_gb('user_s') + self.per_gb('system_s'):.1f}",
                f"{self.per_gb('user_s'):.1f}",
                f"{self.per_gb('system_s'):.1f}",
                f"{sum(each.waits for each in self.machines) * PIECE / self.size:.1f}",
                f"{median(each.startup_s for each in self.machines):.2f}",
                f"{max(each.seconds for each in self.machines):.1f}",
            )
            rows.append(row)
        title = f"A rack: connections of {self.mbit:g} Mbit/s each way, pieces of 64 KiB"
        yield Table(title, columns, rows, [f"not measured: {self.missing}"] if self.missing else [])

    def to_json(self) -> dict[str, Any]:
        values = {what: self.per_gb(what) for what in ("user_s", "system_s")} if self.machines else {}
        machines = [asdict(each) for each in self.machines]
        return {"rack": {"per_gb": values, "machines": machines, "missing": self.missing}}


def measure(count: int, pieces: int, mbit: float) -> Rack:
    """Have every machine fetch from every other.

    Args:
        count: machines.
        pieces: that each asks each other one for.
        mbit: per second that a connection can carry each way, in a link of its own.
    """
    if why := missing():
        return Rack(mbit, [], why)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2pboot-bench-")))
        write_content(directory / "image", "rack", _SERVED * PIECE)
        lab = stack.enter_context(Lab().open())
        for number in range(1, count + 1):
            lab.machine(number)
        running = [
            stack.enter_context(_started(lab, number, count, pieces, directory))
            for number in range(1, count + 1)
        ]
        for each in running:
            stack.callback(each.kill)
        _all_say(running, "connected")
        for number in range(1, count + 1):
            lab.cap(number, Link(mbit * (count - 1), mbit * (count - 1)))
        _tell(running)
        _all_say(running, "done")
        _tell(running)
        return Rack(mbit, [Machine(**json.loads(_line(each))) for each in running])


def _started(lab: Lab, number: int, count: int, pieces: int, directory: Path) -> subprocess.Popen[str]:
    addresses = ",".join(lab.address(one) for one in range(1, number + 1))
    words = map(str, ("machine", addresses, count, pieces, directory))
    command = [*lab.inside(number), sys.executable, "-m", "benchmarks.rack", *words]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    )


def _all_say(running: Sequence[subprocess.Popen[str]], word: str) -> None:
    for each in running:
        if (said := _line(each)) != word:
            raise SystemExit(f"a machine said {said!r} in place of {word!r}")


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _tell(running: Sequence[subprocess.Popen[str]]) -> None:
    for each in running:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()


# One machine.


class _Part:
    """What one machine does: it serves an artifact of which it has every piece, and fetches parts of it from others."""

    def __init__(self, addresses: Sequence[str], count: int, pieces: int, directory: Path) -> None:
        from p2pboot.serving.accounts import Serving
        from p2pboot.serving.artifacts import ArtifactServer
        from p2pboot.store.store import Store
        from p2pboot.testing.artifacts import table_of

        self._addresses, self._count, self._pieces = addresses, count, pieces
        image = (directory / "image").read_bytes()
        served, fetched = (
            Store.open(directory / f"{len(addresses)}{name}").blobs for name in ("served", "fetched")
        )
        self._digest, table = hashlib.sha256(image).hexdigest(), table_of(image, PIECE)
        partial = served.begin(self._digest, table)
        for index in range(table.count):
            piece = image[index * PIECE : (index + 1) * PIECE]
            if not partial.take(index, piece):
                partial.write(index, piece)
        self._server = ArtifactServer(served, Serving())
        much = image * (1 + count * pieces // _SERVED)
        self._fetched = fetched.begin(hashlib.sha256(much).hexdigest(), table_of(much, PIECE))
        self._fetched.write(0, image[:PIECE])  # what is the same for all pieces is done with the first

    async def run(self) -> None:
        import trio

        from p2pboot.core.identity import SecretKey
        from p2pboot.protocol.messages import ARTIFACT_PROTOCOL
        from p2pboot.transport.light import open_light

        *others, listen = (f"/ip4/{address}/tcp/{_PORT}" for address in self._addresses)
        async with (
            open_light(SecretKey(os.urandom(32)), [listen]) as transport,
            trio.open_nursery() as background,
        ):
            transport.handle(ARTIFACT_PROTOCOL, self._server.handle)
            for other in others:
                await _dialled(transport, other)
            events = transport.connection_events()
            while len(transport.connections()) < self._count - 1:
                await events.receive()
            startup_s, began = sum(_used()[:2]), await _next_step("connected")
            before = _used()
            background.start_soon(self._write)
            async with trio.open_nursery() as nursery:
                for which, connection in enumerate(transport.connections()):
                    nursery.start_soon(self._ask, transport, connection, which)
            seconds = trio.current_time() - began
            await _next_step("done")
            user_s, system_s, waits = (now - then for now, then in zip(_used(), before, strict=True))
            size = (self._count - 1) * self._pieces * PIECE
            done = Machine(size, seconds, user_s, system_s, int(waits), startup_s, own_peak_bytes())
            print(json.dumps(asdict(done)), flush=True)
            background.cancel_scope.cancel()

    async def _ask(self, transport: Any, connection: Any, which: int) -> None:
        """Fetch this peer's part."""
        import trio

        from p2pboot.fetch.asking.requests import RequestStream, open_stream
        from p2pboot.protocol.messages import ARTIFACT_PROTOCOL

        left = iter(range(1 + which * self._pieces, 1 + (which + 1) * self._pieces))
        stream = await open_stream(transport, connection, ARTIFACT_PROTOCOL)
        async with RequestStream(stream) as requests, trio.open_nursery() as nursery:
            for _ in range(_AT_ONCE):
                nursery.start_soon(self._ask_one_by_one, requests, left)

    async def _ask_one_by_one(self, requests: Any, left: Iterator[int]) -> None:
        from p2pboot.protocol.client import ask_read

        for index in left:
            asked = index % _SERVED
            data = await requests.ask(ask_read(self._digest, asked * PIECE, PIECE))
            if not self._fetched.take(index, data):
                raise SystemExit("a piece was not taken")

    async def _write(self) -> None:
        import trio

        from p2pboot.fetch.receiving.downloads import GATHERED_S

        while True:
            await trio.sleep(GATHERED_S)
            await trio.to_thread.run_sync(self._fetched.write_taken)


async def _dialled(transport: Any, where: str) -> None:
    import trio

    from p2pboot.transport.interface import DialError

    while True:
        try:
            await transport.dial(where)
        except DialError:
            await trio.sleep(0.1)
        else:
            return


async def _next_step(said: str) -> float:
    """Say how far this machine is, wait until all are as far, and return the time."""
    import trio

    print(said, flush=True)
    await trio.to_thread.run_sync(sys.stdin.readline)
    return trio.current_time()


def _used() -> tuple[float, float, int]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime, usage.ru_nvcsw


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--machines", type=int, default=5, metavar="N", help="[default: 5]")
    parser.add_argument("--pieces", type=int, metavar="N", help="of each by each  [default: 96, quick 48]")
    parser.add_argument("--mbit", type=float, default=6, help="per second of a connection  [default: 6]")


def measure_as_told(arguments: argparse.Namespace) -> Rack:
    pieces = getattr(arguments, "pieces", None) or (48 if arguments.quick else 96)
    return measure(getattr(arguments, "machines", 5), pieces, getattr(arguments, "mbit", 6.0))


def main(arguments: Sequence[str]) -> None:
    match arguments:
        case ["machine", addresses, count, pieces, directory]:
            import trio

            trio.run(_Part(addresses.split(","), int(count), int(pieces), Path(directory)).run)
        case _:
            run_alone("Measure what a piece costs in a rack.", measure_as_told, options)


if __name__ == "__main__":
    main(sys.argv[1:])
