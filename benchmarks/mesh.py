"""A mesh of nodes on the network in memory: they find each other by one address, and again after many have gone.

What runs is what a node runs to stay connected (bootstrap, peers told by peers, the address book), on a virtual clock.
A share of the nodes goes at once, the bootstrap node among them, and is started again with their address books and at
other addresses, while nobody is given a bootstrap address any more. Looked at are the parts into which the mesh falls,
neighbours, and what each node keeps.
"""

from __future__ import annotations

import argparse
import logging
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from unittest import mock

import trio
import trio.testing

from benchmarks.results import MIB, Goal, Table, run_alone
from p2pboot.core.addressbook import KEPT, Entry
from p2pboot.core.identity import SecretKey
from p2pboot.core.origins import ip_of
from p2pboot.fetch.asking.acquainting import Acquainting
from p2pboot.fetch.asking.remembering import Remembering
from p2pboot.node.peering import Peering
from p2pboot.protocol.messages import SYNC_PROTOCOL
from p2pboot.serving.accounts import Serving
from p2pboot.serving.heads import NothingOffered, SyncServer
from p2pboot.store.peers import Peers
from p2pboot.testing.network import MemoryNetwork
from p2pboot.testing.processes import own_peak_bytes
from p2pboot.transport.interface import Transport
from p2pboot.transport.interfaces import Interfaces, Listing, OwnAddress, Reach
from p2pboot.transport.nearness import Nearness

NODES = 300
CHURN = 0.3
ROUNDS = 3
SETTLE_S = 60.0
GONE_S = 30.0


class Book:
    """The rows of one node's address book (`store.peers`), without a disk."""

    def __init__(self) -> None:
        self.rows: dict[str, Entry] = {}

    def load(self) -> list[Entry]:
        return list(self.rows.values())

    def save(self, changed: Iterable[Entry], gone: Iterable[str]) -> None:
        for peer_id in gone:
            self.rows.pop(peer_id, None)
        for entry in changed:
            self.rows.pop(entry.peer_id, None)
            self.rows[entry.peer_id] = entry


@dataclass(eq=False)
class Member:
    """One node, running or not, and what lies on its disk."""

    peer_id: str
    book: Book = field(default_factory=Book)
    transport: Transport | None = None
    remembering: Remembering | None = None
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    async def run(
        self, network: MemoryNetwork, bootstrap: Sequence[str], task_status: Any = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.CancelScope() as self._scope:
            async with network.open(self.peer_id) as transport, trio.open_nursery() as nursery:
                self.transport = transport
                self._serve(transport)
                acquainting = Acquainting(transport, Nearness(interfaces=_rack_of(transport)))
                acquainting.look_for(None)
                self.remembering = Remembering(transport, cast(Peers, self.book), lambda: 0.0)
                for run in (
                    Peering(transport, bootstrap).run,
                    acquainting.run,
                    self.remembering.run,
                ):
                    nursery.start_soon(run)
                task_status.started()
        self.transport = None

    def _serve(self, transport: Transport) -> None:
        server = SyncServer(
            NothingOffered(),
            transport.peer_records,
            lambda: 0,
            Serving(),
            lambda _channel, _arch: (),
            read_record=transport.read_peer_record,
        )
        transport.handle(SYNC_PROTOCOL, server.handle)

    def stop(self) -> None:
        self._scope.cancel()


def _rack_of(transport: Transport) -> Interfaces:
    """That a node is in a subnet with 249 others, whatever machine this runs on."""
    ip = ip_of(transport.addresses()[0])
    assert ip is not None
    rack = Listing((OwnAddress(ip, "eth0", 2, Reach.ROUTED, 24),))
    return Interfaces(lambda: rack)


@dataclass(frozen=True)
class Look:
    """How the mesh stands.

    Args:
        what: happened before.
        nodes: that run.
        parts: groups that are not connected with each other.
        isolated: nodes without any connection.
        fewest: neighbours that one has.
        mean: the same of all, on average.
        most: that one has.
        kept: peers in the largest address book.
    """

    what: str
    nodes: int
    parts: int
    isolated: int
    fewest: int
    mean: float
    most: int
    kept: int


class Mesh:
    """The nodes, and what is done to them.

    Args:
        count: of nodes.
        nursery: owns them.
        seed: of all that is chosen at random.
    """

    def __init__(self, count: int, nursery: trio.Nursery, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._network = MemoryNetwork()
        self._nursery = nursery
        self.members = [Member(SecretKey(self._random.randbytes(32)).public.peer_id) for _ in range(count)]
        self.looks: list[Look] = []
        self._began = trio.current_time()

    async def begin(self, settle_s: float = SETTLE_S) -> None:
        """Start all of them, who know the address of the first."""
        first, *others = self.members
        await self._nursery.start(first.run, self._network, ())
        assert first.transport is not None
        for member in others:
            await self._nursery.start(member.run, self._network, first.transport.addresses())
        await trio.sleep(settle_s)
        self.look("all started")

    async def churn(self, share: float = CHURN, settle_s: float = SETTLE_S, gone_s: float = GONE_S) -> None:
        """Stop a share of them at once, the first among them; start them again later, at other addresses."""
        leaving = [
            self.members[0],
            *self._random.sample(self.members[1:], int(share * len(self.members)) - 1),
        ]
        for member in leaving:
            member.stop()
        await trio.sleep(gone_s)
        self.look(f"{len(leaving)} gone")
        for member in leaving:
            await self._nursery.start(member.run, self._network, ())
        await trio.sleep(settle_s)
        self.look("they are back")

    def look(self, what: str) -> None:
        peers = {m.peer_id: m.transport.peers() for m in self.members if m.transport is not None}
        degrees = [len(each) for each in peers.values()]
        books = [len(member.book.rows) for member in self.members]
        look = Look(
            what,
            nodes=len(peers),
            parts=_parts(peers),
            isolated=degrees.count(0),
            fewest=min(degrees),
            mean=statistics.fmean(degrees),
            most=max(degrees),
            kept=max(books),
        )
        print(f"{trio.current_time() - self._began:.0f} s: {look}", file=sys.stderr, flush=True)
        self.looks.append(look)


def _parts(peers: dict[str, frozenset[str]]) -> int:
    left, parts = set(peers), 0
    while left:
        reached = [left.pop()]
        while reached:
            new = left & peers[reached.pop()]
            left -= new
            reached += new
        parts += 1
    return parts


def simulate(count: int, rounds: int = 1, *, seed: int = 1, **times: float) -> list[Look]:
    """Run a mesh from its start through some rounds of churn."""

    async def inline(function: Callable[..., Any], *args: Any, **_options: Any) -> Any:
        await trio.lowlevel.checkpoint()  # a clock that jumps does not wait for threads
        return function(*args)

    async def run() -> list[Look]:
        async with trio.open_nursery() as nursery:
            mesh = Mesh(count, nursery, seed)
            random.seed(seed)  # what the nodes themselves leave to chance
            await mesh.begin(times.get("settle_s", SETTLE_S))
            for _ in range(rounds):
                await mesh.churn(**times)
            nursery.cancel_scope.cancel()
        return mesh.looks

    with mock.patch.object(trio.to_thread, "run_sync", inline):
        return trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


@dataclass(frozen=True)
class Simulated:
    """All looks, what it took, and the memory that it came to."""

    looks: Sequence[Look]
    cpu_s: float
    peak_bytes: int

    @property
    def of_a_node(self) -> float:
        """Memory at the most, in bytes."""
        return self.peak_bytes / max(each.nodes for each in self.looks)

    def tables(self) -> Iterator[Table]:
        columns = ("", "nodes", "parts", "isolated", "neighbours", "mean", "in a book")
        rows = [
            (
                each.what,
                str(each.nodes),
                str(each.parts),
                str(each.isolated),
                f"{each.fewest} to {each.most}",
                f"{each.mean:.0f}",
                str(each.kept),
            )
            for each in self.looks
        ]
        most = max(each.nodes for each in self.looks)
        notes = [f"{self.cpu_s:.0f} CPU s, {self.of_a_node / 1024:.0f} KiB a node at the most"]
        yield Table(f"A mesh of {most} nodes in memory", columns, rows, notes)

    def goals(self) -> Iterator[Goal]:
        yield Goal.at_most("nodes isolated after churn", 0, max(each.isolated for each in self.looks))
        yield Goal.at_most("parts of the mesh after churn", 1, max(each.parts for each in self.looks))
        yield Goal.at_most(
            "peers in an address book", KEPT.proved + KEPT.said, max(each.kept for each in self.looks)
        )
        yield Goal.at_most("memory of a node, MiB", 1.5, self.of_a_node / MIB)
        yield Goal.at_most("CPU s of the simulation", 300, self.cpu_s)

    def to_json(self) -> dict[str, Any]:
        looks = [vars(each) for each in self.looks]
        return {"mesh": {"looks": looks, "cpu_s": self.cpu_s, "peak_bytes": self.peak_bytes}}


def measure(count: int, rounds: int) -> Simulated:
    before, began = own_peak_bytes(), time.process_time()
    looks = simulate(count, rounds)
    return Simulated(looks, time.process_time() - began, own_peak_bytes() - before)


def measure_as_told(arguments: argparse.Namespace) -> Simulated:
    if arguments.quick:
        return measure(60, 1)
    return measure(arguments.members, arguments.churns)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--members", type=int, default=NODES, metavar="N", help="nodes")
    parser.add_argument("--churns", type=int, default=ROUNDS, metavar="N", help="how often a third goes")


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # that the first node is gone, nodes say one after the other
    run_alone("Simulate a mesh whose nodes come and go.", measure_as_told, options)
