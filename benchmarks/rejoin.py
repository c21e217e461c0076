"""A node whose only bootstrap peer is down for a while: how soon after its return they are connected again.

And of three that know each other by one bootstrap peer, which is gone for good then: how soon after its own restart,
with no address but its book, one finds the other. Real processes over loopback. The peer is ended and started again at
the same address, with the same key; when it listens again its own first line tells, and when they are connected the
waiting node's control socket.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import Goal, Table, run_alone
from benchmarks.sample import write_artifacts
from p2pboot.testing.processes import Mesh, Node, mesh_in
from p2pboot.testing.waiting import wait_until

GOAL_S = 10.0


@dataclass(frozen=True)
class Rejoins:
    """Seconds, one for each time that the peer was down, and from a node's first line to its first peer by the book."""

    down_s: float
    after_s: Sequence[float]
    by_book_s: float

    def tables(self) -> Iterator[Table]:
        rows = [(f"down for {self.down_s:g} s", f"{after_s:.1f}") for after_s in self.after_s]
        yield Table("Rejoining a bootstrap peer", ("", "s after its return"), rows)
        by_book = [("without any bootstrap peer", f"{self.by_book_s:.1f}")]
        yield Table("A node that is started again", ("", "s until it is connected"), by_book)

    def goals(self) -> Iterator[Goal]:
        yield Goal.at_most("rejoined a bootstrap peer, s after its return", GOAL_S, max(self.after_s))

    def to_json(self) -> dict[str, Any]:
        return {"rejoin": {"down_s": self.down_s, "after_s": list(self.after_s), "by_book_s": self.by_book_s}}


def measure(down_s: float, rounds: int) -> Rejoins:
    with tempfile.TemporaryDirectory() as directory, mesh_in(Path(directory)) as mesh:
        write_artifacts(mesh.directory, 1024)
        trust = mesh.new_key("publisher")
        peer = mesh.serve(mesh.directory / "artifacts")
        waiting = mesh.mirror(trust, "--bootstrap", peer.address)
        wait_until(lambda: _are_connected(waiting), "the first connection")
        after_s = [_round(mesh, peer, waiting, down_s) for _ in range(rounds)]
        return Rejoins(down_s, after_s, _by_book(mesh, trust, peer, waiting))


def _round(mesh: Mesh, peer: Node, waiting: Node, down_s: float) -> float:
    listen = peer.address.partition("/p2p/")[0]
    peer.stop()
    time.sleep(down_s)
    again = mesh.serve(mesh.directory / "artifacts", "--listen", listen)
    began = time.monotonic()  # it prints its address when it listens
    wait_until(lambda: _are_connected(waiting), "the connection", within_s=120)
    after_s = time.monotonic() - began
    peer.process = again.process
    return after_s


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
