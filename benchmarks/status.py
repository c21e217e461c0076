"""What the status document costs a node: the part in its event loop, the part in a thread, and the bytes.

A node of which everything is told that is ever told at once: five minutes of flows, 64 machines that booted, a release
that is held and one that comes in. Its peers are on the network in memory, some of a kind that has four addresses.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trio

from benchmarks.results import Goal, Table, median, run_alone
from p2pboot.node.status import describe_node
from p2pboot.node.status.collecting import Collector
from p2pboot.node.status.known import Known
from p2pboot.testing.manifests import key_of
from p2pboot.testing.network import MemoryNetwork
from p2pboot.transport.bandwidth import Bandwidth
from p2pboot.transport.nearness import Nearness
from p2pboot.transport.traffic import SENT
from tests.node.status.filled import filled, running

GOAL_LOOP_MS = 20.0
_PEERS = (16, 256, 1000)


@dataclass(frozen=True)
class Statuses:
    """Milliseconds in the event loop and in a thread, and bytes of JSON, by number of peers."""

    costs: Sequence[tuple[int, float, float, float, int]]

    def tables(self) -> Iterator[Table]:
        rows = [
            (f"{peers} peers", f"{sample:.2f}", f"{loop:.1f}", f"{thread:.1f}", f"{size // 1000}")
            for peers, sample, loop, thread, size in self.costs
        ]
        columns = ("", "ms every 5 s", "ms in the loop", "ms in a thread", "kB")
        yield Table("One status document", columns, rows)

    def goals(self) -> Iterator[Goal]:
        yield Goal.at_most("status in the event loop, ms", GOAL_LOOP_MS, max(cost[2] for cost in self.costs))

    def to_json(self) -> dict[str, Any]:
        keys = ("peers", "sample_ms", "loop_ms", "thread_ms", "bytes")
        return {"status": [dict(zip(keys, cost, strict=True)) for cost in self.costs]}


def measure(rounds: int) -> Statuses:
    """Measure with each number of peers, `rounds` times."""
    return Statuses([trio.run(_measure, peers, rounds) for peers in _PEERS])


async def _measure(peers: int, rounds: int) -> tuple[int, float, float, float, int]:
    network, bandwidth = MemoryNetwork(), Bandwidth()
    with tempfile.TemporaryDirectory(prefix="p2pboot-bench-") as directory:
        node, store, catalogue = filled(Path(directory))
        async with (
            network.open(key_of("node").public.peer_id, bandwidth) as transport,
            trio.open_nursery() as nursery,
        ):
            for number in range(peers):
                await nursery.start(_connect, network, f"peer {number}", transport.addresses()[0])
            for peer_id in transport.peers():
                bandwidth.traffic.count(peer_id, "/p2pboot/artifact/1", SENT, 1000)
            known = Known(store, catalogue)
            await known.reconcile()
            collector = Collector(transport, bandwidth.traffic, Nearness(), known, time.time)
            collector.peers()  # who is near is looked up once for each connection
            sample_ms = _median_ms(rounds, collector.look_at_bytes)
            loop_ms = _median_ms(rounds, collector.peers)
            told, shown = collector.peers()
            all_of_it = replace(running(dict(node.on_their_way), clients=64), peers=told, shown=shown)
            thread_ms = _median_ms(rounds, lambda: describe_node(all_of_it, store, catalogue))
            size = len(json.dumps(describe_node(all_of_it, store, catalogue)))
            nursery.cancel_scope.cancel()
        store.close()
    return peers, sample_ms, loop_ms, thread_ms, size


async def _connect(network: MemoryNetwork, name: str, address: str, *, task_status: Any) -> None:
    async with network.open(key_of(name).public.peer_id, is_client=True) as transport:
        await transport.dial(address)
        task_status.started()
        await trio.sleep_forever()


def _median_ms(rounds: int, work: Callable[[], object]) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began))
    return median(times)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, metavar="N", help="with each number of peers  [default: 20]")


def measure_as_told(arguments: argparse.Namespace) -> Statuses:
    return measure(arguments.rounds or 20)


if __name__ == "__main__":
    run_alone("Measure what the status document costs a node.", measure_as_told, options)
