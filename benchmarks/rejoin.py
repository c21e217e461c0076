"""A node whose only bootstrap peer is down for a while: how soon after its return they are connected again.

Beside it two more wait for the same peer: a node that knows it by a name which no resolver has before it is back (a
mount namespace with a file of hosts of its own), and a fetch that was begun when it had gone.

And of three that know each other by one bootstrap peer, which is gone for good then: how soon after its own restart,
with no address but its book, one finds the other. Real processes over loopback. The peer is ended and started again at
the same address, with the same key; when it listens again its own first line tells, and when they are connected the
waiting node's control socket.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import Goal, Table, run_alone
from benchmarks.sample import write_artifacts
from p2pboot.errors import P2PBootError
from p2pboot.testing.processes import PYTHON, Mesh, Node, mesh_in
from p2pboot.testing.waiting import wait_until

GOAL_S = 10.0
_WITHIN_S = 120.0
_NAME = "boot.p2pboot.test"
_NODE, _NAMED, _FETCH = "a node", "a node that knows its name", "a fetch, until it has the files"


@dataclass(frozen=True)
class Rejoins:
    """Seconds after the peer's return, by who waited; and from a node's first line to its first peer by the book."""

    down_s: float
    after_s: Sequence[dict[str, float]]
    by_book_s: float

    def tables(self) -> Iterator[Table]:
        rows = [(who, f"{seconds:.1f}") for times in self.after_s for who, seconds in times.items()]
        yield Table(f"A bootstrap peer that was down for {self.down_s:g} s", ("", "s after its return"), rows)
        by_book = [("without any bootstrap peer", f"{self.by_book_s:.1f}")]
        yield Table("A node that is started again", ("", "s until it is connected"), by_book)

    def goals(self) -> Iterator[Goal]:
        slowest = max(max(times.values()) for times in self.after_s)
        yield Goal.at_most("rejoined a bootstrap peer, s after its return", GOAL_S, slowest)

    def to_json(self) -> dict[str, Any]:
        return {"rejoin": {"down_s": self.down_s, "after_s": list(self.after_s), "by_book_s": self.by_book_s}}


def measure(down_s: float, rounds: int) -> Rejoins:
    with tempfile.TemporaryDirectory() as directory, mesh_in(Path(directory)) as mesh:
        write_artifacts(mesh.directory, 1024)
        trust = mesh.new_key("publisher")
        peer = mesh.serve(mesh.directory / "artifacts")
        waiting = mesh.mirror(trust, "--bootstrap", peer.address)
        wait_until(lambda: _are_connected(waiting), "the first connection")
        after_s = [_round(mesh, trust, peer, waiting, down_s) for _ in range(rounds)]
        return Rejoins(down_s, after_s, _by_book(mesh, trust, peer, waiting))


def _round(mesh: Mesh, trust: str, peer: Node, waiting: Node, down_s: float) -> dict[str, float]:
    listen = peer.address.partition("/p2p/")[0]
    hosts = mesh.directory / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    peer.stop()
    named = _named(mesh, trust, peer, hosts)
    fetch = _fetch(mesh, trust, peer, down_s)
    time.sleep(down_s)
    with hosts.open("a") as file:
        file.write(f"127.0.0.1 {_NAME}\n")
    again = mesh.serve(mesh.directory / "artifacts", "--listen", listen)
    began = time.monotonic()  # it prints its address when it listens
    waited_for: dict[str, Callable[[], bool]] = {
        _NODE: lambda: _are_connected(waiting),
        _FETCH: lambda: fetch.poll() is not None,
    }
    if named is not None:
        waited_for[_NAMED] = lambda: _are_connected(named)
    after_s: dict[str, float] = {}

    def all_are_there() -> bool:
        for who, is_there in waited_for.items():
            if who not in after_s and is_there():
                after_s[who] = time.monotonic() - began
        return len(after_s) == len(waited_for)

    wait_until(all_are_there, "the connections", within_s=_WITHIN_S)
    if fetch.returncode:
        raise P2PBootError(
            f"the fetch ended with {fetch.returncode}: {(mesh.directory / 'fetch.log').read_text()}"
        )
    if named is not None:
        named.stop()
    peer.process = again.process
    return after_s


def _named(mesh: Mesh, trust: str, peer: Node, hosts: Path) -> Node | None:
    """A mirror that is told a name; None where this user may not have a file of hosts of his own."""
    unshared = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        'mount --bind "$0" /etc/hosts && exec "$@"',
    ]
    if subprocess.run([*unshared, str(hosts), "true"], check=False, capture_output=True).returncode != 0:
        return None
    home = mesh.directory / "named"
    home.mkdir(exist_ok=True)
    address = peer.address.replace("/ip4/127.0.0.1/", f"/dns4/{_NAME}/")
    command = ["mirror", "--trust", trust, "--bootstrap", address, "--no-mdns", "--quota", "unlimited"]
    command += ["--channel", "stable", "--arch", "x86_64", "--listen", "/ip4/127.0.0.1/tcp/0"]
    command += ["--key", str(home / "node.toml"), "--state", str(home / "state")]
    return mesh.node([*unshared, str(hosts), *PYTHON, *command], state=home / "state", log=home / "log")


def _fetch(mesh: Mesh, trust: str, peer: Node, down_s: float) -> subprocess.Popen[bytes]:
    output = Path(tempfile.mkdtemp(dir=mesh.directory))
    *arguments, _limit_s = mesh.fetch_arguments(trust, output, peer.address)
    return mesh.start([*PYTHON, *arguments, str(down_s + _WITHIN_S)], mesh.directory / "fetch.log")


def _by_book(mesh: Mesh, trust: str, peer: Node, waiting: Node) -> float:
    listen = waiting.address.partition("/p2p/")[0]
    other = mesh.mirror(trust, "--bootstrap", peer.address, name="other")
    wait_until(
        lambda: waiting.peer_id in {one["peer_id"] for one in other.status()["peers"]},
        "two mirrors know each other",
    )
    time.sleep(3)  # what it learns is written within seconds
    waiting.stop(signal.SIGKILL)
    peer.stop()
    again = mesh.mirror(trust, "--listen", listen)
    began = time.monotonic()
    wait_until(lambda: _are_connected(again), "a peer by the address book")
    return time.monotonic() - began


def _are_connected(node: Node) -> bool:
    return bool(node.status()["peers"])


def measure_as_told(arguments: argparse.Namespace) -> Rejoins:
    return measure(3.0 if arguments.quick else arguments.down_s, arguments.rounds)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--down", dest="down_s", type=float, default=600.0, metavar="S", help="how long")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="how often")


if __name__ == "__main__":
    run_alone("Measure how soon a node finds its bootstrap peer again.", measure_as_told, options)
