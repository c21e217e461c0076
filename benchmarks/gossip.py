"""Publish → verified: how long until every node of a mesh has judged and accepted what one publishes.

All nodes live in one process and share one core (and one disk), each with its own libp2p transport over
loopback, its own store and the node's own judge; artifacts are not fetched. So the figures are upper bounds:
with a machine for each node, the work of the others is not in the way. A message's time ends when the judge
has accepted it, durably.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from benchmarks import processes
from benchmarks.results import Table, median, quantile, run_alone
from benchmarks.sample import ARCH, CHANNEL
from p2pboot.core.identity import SecretKey
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.core.trust import Pair, Trust
from p2pboot.core.verify import Verdict
from p2pboot.protocol.messages import manifest_topic
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.gate import Gate
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import artifact_of
from p2pboot.testing.manifests import signed_manifest
from p2pboot.transport.interface import Forwarding, Transport
from p2pboot.transport.libp2p import Libp2pOptions, open_libp2p

NODES = (2, 10, 30)
_DIALS = 3  # of each node; with those that dial it, about six connections, and the mesh stays connected
_SETTLE_S = 4.0  # subscriptions, then grafts with the next heartbeats
_PAUSE_S = 0.1  # between messages, so that the mesh's own gossip about one is not measured with the next
_PATIENCE_S = 30.0
_PAIR: Pair = (CHANNEL, ARCH)


@dataclass(frozen=True)
class Latencies:
    """Milliseconds from publishing to acceptance, for each number of nodes.

    Args:
        each: of every node and message.
        last: of the last node, for every message.
    """

    each: Mapping[int, Sequence[float]]
    last: Mapping[int, Sequence[float]]

    def tables(self) -> Iterator[Table]:
        rows = [
            (
                f"{nodes} nodes",
                str(len(self.last[nodes])),
                *(f"{quantile(self.each[nodes], share):.0f}" for share in (0.5, 0.99, 1.0)),
                f"{median(self.last[nodes]):.0f}",
            )
            for nodes in sorted(self.each)
        ]
        yield Table(
            "Publish → verified by gossip, milliseconds, all nodes in one process",
            ("", "messages", "p50", "p99", "max", "last node, median"),
            rows,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "gossip": {
                str(nodes): {
                    "messages": len(self.last[nodes]),
                    "p50_ms": quantile(self.each[nodes], 0.5),
                    "p99_ms": quantile(self.each[nodes], 0.99),
                    "max_ms": max(self.each[nodes]),
                    "last_node_median_ms": median(self.last[nodes]),
                }
                for nodes in sorted(self.each)
            }
        }


class _Arrivals:
    """Who has accepted the manifest that is on its way."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._began = 0.0
        self.ms: list[float] = []
        self.complete = trio.Event()

    def begin(self) -> None:
        self.ms, self.complete, self._began = [], trio.Event(), time.perf_counter()

    def accepted(self) -> None:
        self.ms.append((time.perf_counter() - self._began) * 1000)
        if len(self.ms) == self._expected:
            self.complete.set()


def manifest(key: SecretKey, version: int, now: int) -> bytes:
    """A signed manifest with three artifacts."""
    digest = f"{version:064x}"
    facts: dict[str, Any] = {"channel": CHANNEL, "arch": ARCH, "piece_length": 1 << 20}
    artifacts = [
        artifact_of(name, sha256=digest, table_digest=digest, size=8 << 20, **facts)
        for name in ("kernel", "initramfs", "rootfs")
    ]
    dates = {"created_at": now, "expires_at": now + 86_400}
    return signed_manifest(
        artifacts, [key], manifest_version=version, channel=CHANNEL, arch=ARCH, **dates
    ).raw


async def _listen(transport: Transport, store: Store, policy: TrustPolicy, arrivals: _Arrivals) -> None:
    gate = Gate(store, Catalogue(store, Trust(policy), time.time))

    async def hear(peer_id: str, raw: bytes) -> Forwarding:
        manifest = gate.read(raw, *_PAIR)
        if isinstance(manifest, Verdict):
            return Forwarding.REJECT
        verdict = await trio.to_thread.run_sync(partial(gate.enter, manifest, source=peer_id))
        if not verdict.ok:
            return Forwarding.IGNORE
        arrivals.accepted()
        return Forwarding.ACCEPT

    await transport.subscribe(manifest_topic(*_PAIR), hear)


async def _mesh(
    stack: AsyncExitStack, scratch: Path, nodes: int, policy: TrustPolicy, arrivals: _Arrivals
) -> Transport:
    """Open the nodes, connect them, and return the one that publishes."""
    options = Libp2pOptions(max_inbound=512)
    transports: list[Transport] = []
    for number in range(nodes):
        store = Store.open(scratch / str(number))
        stack.callback(store.close)
        key = SecretKey(number.to_bytes(32))
        transport = await stack.enter_async_context(open_libp2p(key, ["/ip4/127.0.0.1/tcp/0"], options))
        await _listen(transport, store, policy, arrivals)
        transports.append(transport)
    chance = random.Random(nodes)  # the same mesh each time
    for number, transport in enumerate(transports[1:], 1):
        for other in chance.sample(transports[:number], min(_DIALS, number)):
            await transport.dial(other.addresses()[0])
    await trio.sleep(_SETTLE_S)
    return transports[0]


async def _measure(nodes: int, messages: int, scratch: Path) -> list[list[float]]:
    key, now = SecretKey(b"\xff" * 32), int(time.time())
    arrivals = _Arrivals(nodes - 1)
    result: list[list[float]] = []
    async with AsyncExitStack() as stack:
        policy = TrustPolicy((Publisher((key.public.keyid,)),))
        sender = await _mesh(stack, scratch, nodes, policy, arrivals)
        for version in range(1, messages + 2):  # the first one warms up
            raw = manifest(key, version, now)
            arrivals.begin()
            await sender.publish(manifest_topic(*_PAIR), raw)
            with trio.move_on_after(_PATIENCE_S) as scope:
                await arrivals.complete.wait()
            if scope.cancelled_caught:
                raise SystemExit(f"{nodes} nodes: only {len(arrivals.ms)} others accepted version {version}")
            if version > 1:
                result.append(arrivals.ms)
            await trio.sleep(_PAUSE_S)
    return result


def measure(counts: Sequence[int], messages: int) -> Latencies:
    """Publish so many messages in meshes of so many nodes, each mesh in a process of its own."""
    each: dict[int, list[float]] = {}
    last: dict[int, list[float]] = {}
    for nodes in counts:
        done = processes.run(["-m", "benchmarks.gossip", "--mesh", str(nodes), str(messages)])
        each[nodes] = [ms for one in done.document for ms in one]
        last[nodes] = [max(one) for one in done.document]
    return Latencies(each, last)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nodes", type=int, nargs="+", metavar="N", help="[default: 2 10 30, quick 2 10]")
    parser.add_argument("--messages", type=int, metavar="N", help="in each mesh  [default: 50, quick 10]")


def measure_as_told(arguments: argparse.Namespace) -> Latencies:
    counts = arguments.nodes or (NODES[:2] if arguments.quick else NODES)
    return measure(counts, arguments.messages or (10 if arguments.quick else 50))


def main() -> None:
    match sys.argv[1:]:
        case ["--mesh", nodes, messages]:  # one mesh: milliseconds of each message as JSON
            with tempfile.TemporaryDirectory(prefix="p2pboot-bench-") as scratch:
                print(json.dumps(trio.run(_measure, int(nodes), int(messages), Path(scratch))))
        case _:
            run_alone("Measure how fast gossip delivers.", measure_as_told, options)


if __name__ == "__main__":
    main()
