"""Many slow connections in place of one fast one: eight of 6 Mbit/s, in network namespaces that are made here.

Once one publisher and eight clients, each behind a slow link, once one client and eight nodes behind slow links. What
counts is the processors' time: in a boot storm it decides, not the link. Takes root, iproute2 and the kernel's tbf;
without them it is left out, with the reason.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.results import GB, MIB, Goal, Table, run_alone
from benchmarks.sample import ARCH, CHANNEL, write_artifacts
from p2pboot.testing.processes import PYTHON, Finished, Mesh, Node

LINKS = 8
_MBIT = 6
_TBF = ("tbf", "rate", f"{_MBIT}mbit", "burst", "16kb", "latency", "100ms")
_GOAL_S_PER_GB = 15.0
_HUB = 254


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


class Lab:
    """Machines on one switch, each a network namespace."""

    def __init__(self) -> None:
        self._name = f"p2pbench{os.getpid()}"
        self._made: list[str] = []

    @contextmanager
    def open(self) -> Iterator[Lab]:
        """Make the switch; afterwards everything is gone.

        Raises:
            subprocess.CalledProcessError: this machine can not.
        """
        try:
            self._add(_HUB)
            self._ip(_HUB, "link add switch type bridge")
            self._ip(_HUB, "link set switch up")
            yield self
        finally:
            for name in self._made:
                _run("ip", "netns", "del", name)

    def machine(self, number: int) -> None:
        """Add one; its address ends with its number."""
        self._add(number)
        self._ip(number, f"link add net0 type veth peer name to{number} netns {self._space(_HUB)}")
        self._ip(number, f"addr add {address(number)}/24 dev net0")
        self._ip(number, "link set net0 up")
        self._ip(_HUB, f"link set to{number} master switch up")

    def slow(self, number: int) -> None:
        """Have its link carry so little, each way."""
        for where, device in ((number, "net0"), (_HUB, f"to{number}")):
            _run(*self.inside(where), "tc", "qdisc", "replace", "dev", device, "root", *_TBF)

    def inside(self, number: int) -> list[str]:
        """What a command line begins with to run there."""
        return ["ip", "netns", "exec", self._space(number)]

    def _space(self, number: int) -> str:
        return f"{self._name}m{number}"

    def _add(self, number: int) -> None:
        _run("ip", "netns", "add", self._space(number))
        self._made.append(self._space(number))
        self._ip(number, "link set lo up")

    def _ip(self, number: int, command: str) -> None:
        _run("ip", "-n", self._space(number), *command.split())


def address(number: int) -> str:
    return f"10.73.0.{number}"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Storm:
    """The program's processes on machines of a lab."""

    def __init__(self, lab: Lab, mesh: Mesh) -> None:
        self._lab, self._mesh = lab, mesh
        self.trust = mesh.new_key("1")

    def node(self, number: int, *command: str) -> Node:
        home = self._mesh.directory / str(number)
        home.mkdir(exist_ok=True)
        listen = ("--listen", f"/ip4/{address(number)}/tcp/0", "--no-mdns", "-q")
        places = ("--key", str(home / "node.toml"), "--state", str(home / "state"))
        inside = [*self._lab.inside(number), *PYTHON, *command, *listen, *places]
        return self._mesh.node(inside, state=home / "state", log=home / "log")

    def publisher(self) -> Node:
        return self.node(1, "serve", str(self._mesh.directory / "artifacts"))

    def mirror(self, number: int, publisher: Node) -> Node:
        pair = ("--channel", CHANNEL, "--arch", ARCH)
        node = self.node(number, "mirror", "--trust", self.trust, *pair, "--bootstrap", publisher.address)
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
def _storm(size: int) -> Iterator[tuple[Lab, Storm]]:
    with tempfile.TemporaryDirectory(prefix="p2pboot-bench-") as name, Lab().open() as lab:
        write_artifacts(Path(name), size)
        for number in range(1, LINKS + 2):
            lab.machine(number)
        with processes.mesh_in(Path(name)) as mesh:
            yield lab, Storm(lab, mesh)


def _one_to_many(size: int) -> Spent:
    with _storm(size) as (lab, storm):
        publisher, clients = storm.publisher(), range(2, LINKS + 2)
        for number in clients:
            lab.slow(number)
        return storm.measure(clients, [publisher])


def _many_to_one(size: int) -> Spent:
    with _storm(size) as (lab, storm):
        publisher = storm.publisher()
        servers = [publisher, *(storm.mirror(number, publisher) for number in range(2, LINKS + 1))]
        for number in range(1, LINKS + 1):
            lab.slow(number)
        return storm.measure([LINKS + 1], servers)


def measure(size: int) -> Links:
    """Move `size` bytes over each link, and as many from all of them together."""
    missing = _missing()
    if missing:
        return Links({}, missing)
    return Links({"one publisher": _one_to_many(size), "one client": _many_to_one(LINKS * size)})


def _missing() -> str:
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "tc"))):
        return "making network namespaces takes root and iproute2"
    try:
        with Lab().open() as lab:
            lab.machine(1)
            lab.slow(1)
    except subprocess.CalledProcessError as error:
        return f"`{' '.join(error.cmd)}` fails: {error.stderr.decode().strip()}"
    return ""


def measure_as_told(arguments: argparse.Namespace) -> Links:
    return measure((4 if arguments.quick else 12) * MIB)


if __name__ == "__main__":
    run_alone("Measure what slow links cost.", measure_as_told)
