"""Many slow connections in place of one fast one: eight of 6 Mbit/s, in network namespaces that are made here.

Once one publisher and eight clients, each behind a slow link, once one client and eight nodes behind slow links. What
counts is the processors' time: in a boot storm it decides, not the link. Takes root, iproute2 and the kernel's tbf;
without them it is left out, with the reason.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.lab import Lab, Link, missing
from benchmarks.results import GB, MIB, Goal, Table, run_alone
from benchmarks.sample import ARCH, CHANNEL, write_artifacts
from p2pboot.testing.processes import PYTHON, Finished, Mesh, Node

LINKS = 8
_MBIT = 6
_LINK = Link(_MBIT, _MBIT, queue_ms=100)
_GOAL_S_PER_GB = 15.0


@dataclass(frozen=True)
class Spent:
    """What moving `size` bytes took: seconds, and the user's processor seconds of all processes.

    Without what the same takes with a file of a few bytes: starting all the programs, and connecting them.
    """

    size: int
    seconds: float
    servers_user_s: float
    clients_user_s: float

    @property
    def user_s_per_gb(self) -> float:
        return (self.servers_user_s + self.clients_user_s) * GB / self.size

    @property
    def share_of_links(self) -> float:
        return self.size * 8 / self.seconds / (LINKS * _MBIT * 1e6)


@dataclass(frozen=True)
class Links:
    """By what was measured; empty with the reason why."""

    spent: dict[str, Spent]
    missing: str = ""

    def tables(self) -> Iterator[Table]:
        rows = [
            (
                name,
                f"{each.user_s_per_gb:.1f}",
                f"{each.servers_user_s * GB / each.size:.1f}",
                f"{each.clients_user_s * GB / each.size:.1f}",
                f"{each.share_of_links:.2f}",
            )
            for name, each in self.spent.items()
        ]
        columns = ("user CPU s/GB", "all", "servers", "clients", "of the links' rate")
        title = f"Slow links: {LINKS} of {_MBIT} Mbit/s"
        yield Table(title, columns, rows, [f"not measured: {self.missing}"] if self.missing else [])

    def goals(self) -> Iterator[Goal]:
        for name, each in self.spent.items():
            what = f"{LINKS} links of {_MBIT} Mbit/s, {name}, all user CPU s/GB"
            yield Goal.at_most(what, _GOAL_S_PER_GB, each.user_s_per_gb)

    def to_json(self) -> dict[str, Any]:
        return {
            "links": {
                **{
                    name: asdict(each) | {"user_s_per_gb": each.user_s_per_gb}
                    for name, each in self.spent.items()
                },
                "missing": self.missing,
            }
        }


class Field:
    """The program's processes on machines of a lab."""

    def __init__(self, lab: Lab, mesh: Mesh) -> None:
        self._lab, self._mesh = lab, mesh
        self.trust = mesh.new_key("1")

    def publisher(self) -> Node:
        return processes.node_on(self._lab, self._mesh, 1, "serve", str(self._mesh.directory / "artifacts"))

    def mirror(self, number: int, publisher: Node) -> Node:
        pair = ("--channel", CHANNEL, "--arch", ARCH)
        known = ("--trust", self.trust, "--bootstrap", publisher.address)
        node = processes.node_on(self._lab, self._mesh, number, "mirror", *pair, *known)
        node.wait_for_head(1)
        return node

    def fetch(self, number: int, *peers: str, more: Sequence[str] = ()) -> Finished:
        output = self._mesh.directory / f"out{number}"
        command = [*PYTHON, *self._mesh.fetch_arguments(self.trust, output, *peers), *more]
        try:
            return processes.checked(self._mesh.complete([*self._lab.inside(number), *command]))
        finally:
            shutil.rmtree(output, ignore_errors=True)

    def measure(self, clients: Sequence[int], servers: Sequence[Node]) -> Spent:
        """Have all clients fetch at the same time from all servers."""
        little_servers_s, little = self._together(clients, servers, ("--artifact", "kernel"))
        servers_s, done = self._together(clients, servers)
        return Spent(
            size=sum(one.document["downloaded_bytes"] for one in done),
            seconds=max(one.document["transfer_s"] for one in done),
            servers_user_s=servers_s - little_servers_s,
            clients_user_s=sum(one.user_s for one in done) - sum(one.user_s for one in little),
        )

    def _together(
        self, clients: Sequence[int], servers: Sequence[Node], more: Sequence[str] = ()
    ) -> tuple[float, list[Finished]]:
        """Have all fetch at the same time; the servers' seconds meanwhile, and how each client ended."""
        peers = [server.address for server in servers]
        before = sum(server.user_s() for server in servers)
        with ThreadPoolExecutor(len(clients)) as pool:
            done = list(pool.map(lambda number: self.fetch(number, *peers, more=more), clients))
        return sum(server.user_s() for server in servers) - before, done


@contextmanager
def _field(size: int) -> Iterator[tuple[Lab, Field]]:
    with tempfile.TemporaryDirectory(prefix="p2pboot-bench-") as name, Lab().open() as lab:
        write_artifacts(Path(name), size)
        for number in range(1, LINKS + 2):
            lab.machine(number)
        with processes.mesh_in(Path(name)) as mesh:
            yield lab, Field(lab, mesh)


def _one_to_many(size: int) -> Spent:
    with _field(size) as (lab, field):
        publisher, clients = field.publisher(), range(2, LINKS + 2)
        for number in clients:
            lab.cap(number, _LINK)
        return field.measure(clients, [publisher])


def _many_to_one(size: int) -> Spent:
    with _field(size) as (lab, field):
        publisher = field.publisher()
        servers = [publisher, *(field.mirror(number, publisher) for number in range(2, LINKS + 1))]
        for number in range(1, LINKS + 1):
            lab.cap(number, _LINK)
        return field.measure([LINKS + 1], servers)


def measure(size: int) -> Links:
    """Move `size` bytes over each link, and as many from all of them together."""
    if why := missing():
        return Links({}, why)
    return Links({"one publisher": _one_to_many(size), "one client": _many_to_one(LINKS * size)})


def measure_as_told(arguments: argparse.Namespace) -> Links:
    return measure((4 if arguments.quick else 12) * MIB)


if __name__ == "__main__":
    run_alone("Measure what slow links cost.", measure_as_told)
