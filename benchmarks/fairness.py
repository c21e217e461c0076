"""A small request beside bulk streams on the same connection, over links of a given rate.

Client and server are processes in network namespaces of their own, joined by a link that `tc` shapes in both
directions; that takes root and iproute2. What a router's queue holds is part of every answer's time, and nothing that
the sender can do makes it shorter: the queue is set to what takes `--queue-ms`.

    python -m benchmarks.fairness            all links
    python -m benchmarks.fairness serve IP   one end, as a process
    python -m benchmarks.fairness ask MULTIADDR SECONDS
"""

from __future__ import annotations

import argparse
import json
import resource
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from benchmarks.lab import Lab, Link, missing
from benchmarks.processes import ROOT
from benchmarks.results import GB, MB, Table
from p2pboot.core.identity import SecretKey
from p2pboot.transport.interface import Connection, Stream, Transport
from p2pboot.transport.light import open_light

_BULK = "/p2pboot-benchmark/endless/1"
_SMALL = "/p2pboot-benchmark/small/1"
_STREAMS = 4
_MESSAGE = 64
_CHUNK = 256 * 1024
_SERVER, _CLIENT = 1, 2
LINKS_MBIT = (1.6, 6.0, 50.0, 1000.0)
GOALS_S = {50.0: 0.2, 1.6: 0.5}


@dataclass(frozen=True)
class Answers:
    """One link.

    Args:
        seconds: that each small request took, in order.
        bulk_bytes: that came meanwhile.
        elapsed_s: how long it went.
        cpu_s: user time of server and client together.
    """

    seconds: Sequence[float]
    bulk_bytes: int
    elapsed_s: float
    cpu_s: float

    def percentile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def table(measured: dict[float, Answers]) -> Table:
    rows = [
        (
            f"{mbit:g}",
            str(len(each.seconds)),
            *(f"{each.percentile(share) * 1000:.0f}" for share in (0.5, 0.99, 1.0)),
            f"{GOALS_S[mbit] * 1000:.0f}" if mbit in GOALS_S else "",
            f"{each.bulk_bytes / each.elapsed_s / MB:.2f}",
            f"{each.cpu_s / each.bulk_bytes * GB:.1f}",
        )
        for mbit, each in measured.items()
    ]
    columns = (
        "Mbit/s",
        "requests",
        "p50 ms",
        "p99 ms",
        "max ms",
        "goal p99",
        "MB/s in bulk",
        "user CPU s/GB both",
    )
    return Table(f"A small request beside {_STREAMS} bulk streams", columns, rows)


# One end.


def _cpu() -> float:
    """User time: what the kernel spends on the packets of a shaped link is not ours."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


async def _send_without_end(stream: Stream) -> None:
    while True:
        await stream.write(bytes(_CHUNK))


async def _answer(stream: Stream) -> None:
    while await stream.read(_MESSAGE):
        await stream.write(json.dumps(_cpu()).encode().ljust(_MESSAGE))


async def _serve(ip: str) -> None:
    async with open_light(SecretKey(secrets.token_bytes(32)), [f"/ip4/{ip}/tcp/0"]) as transport:
        transport.handle(_BULK, _send_without_end)
        transport.handle(_SMALL, _answer)
        print(transport.addresses()[0], flush=True)
        await trio.sleep_forever()


async def _ask(address: str, seconds: float) -> None:
    async with open_light(SecretKey(secrets.token_bytes(32))) as transport:
        connection = await transport.dial(address)
        async with trio.open_nursery() as nursery:
            for _ in range(_STREAMS):
                nursery.start_soon(_receive, transport, connection)
            await trio.sleep(seconds / 4)  # until the link is full and its rate is known
            print(json.dumps(await _measure(transport, connection, seconds)), flush=True)
            nursery.cancel_scope.cancel()


async def _receive(transport: Transport, connection: Connection) -> None:
    stream = await transport.open_stream(connection, _BULK)
    target = memoryview(bytearray(_CHUNK))
    while await stream.read_into(target, 1):
        pass


async def _measure(transport: Transport, connection: Connection, seconds: float) -> dict[str, Any]:
    stream = await transport.open_stream(connection, _SMALL)
    before, servers_before = _cpu(), await _exchange(stream)
    received, began = _bulk(transport), time.perf_counter()
    took: list[float] = []
    servers = servers_before
    while time.perf_counter() - began < seconds:
        asked = time.perf_counter()
        servers = await _exchange(stream)
        took.append(time.perf_counter() - asked)
        await trio.sleep(0.02)
    return {
        "seconds": took,
        "bulk_bytes": _bulk(transport) - received,
        "elapsed_s": time.perf_counter() - began,
        "cpu_s": _cpu() - before + servers - servers_before,
    }


def _bulk(transport: Transport) -> int:
    return transport.traffic[_BULK, "received"]


async def _exchange(stream: Stream) -> float:
    await stream.write(bytes(_MESSAGE))
    answer = bytearray(_MESSAGE)
    await stream.read_into(memoryview(answer), _MESSAGE)
    return float(answer)


# The link between them.


def measure(mbit: float, seconds: float, queue_ms: int) -> Answers:
    program = [sys.executable, "-m", "benchmarks.fairness"]
    with Lab().open() as lab:
        lab.machine(_SERVER, Link(mbit, mbit, queue_ms))
        lab.machine(_CLIENT)
        serve = [*lab.inside(_SERVER), *program, "serve", lab.address(_SERVER)]
        server = subprocess.Popen(serve, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            command = [*lab.inside(_CLIENT), *program, "ask", address, str(seconds)]
            done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        finally:
            server.kill()
            server.wait()
    return Answers(**json.loads(done.stdout))


def main() -> None:
    match sys.argv[1:]:
        case ["serve", ip]:
            trio.run(_serve, ip)
            return
        case ["ask", address, seconds]:
            trio.run(partial(_ask, address, float(seconds)))
            return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--links", nargs="+", type=float, default=LINKS_MBIT, metavar="MBIT", help="rates in Mbit/s"
    )
    parser.add_argument("--seconds", type=float, default=20, help="for each link")
    parser.add_argument("--queue-ms", type=int, default=50, help="what the link's queue holds")
    arguments = parser.parse_args()
    if why := missing():
        raise SystemExit(why)
    measured = {mbit: measure(mbit, arguments.seconds, arguments.queue_ms) for mbit in arguments.links}
    print(table(measured).render())


if __name__ == "__main__":
    main()
