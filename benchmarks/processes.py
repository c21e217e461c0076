"""Processes of a benchmark: what is measured runs in its own, so that neither memory nor a busy core is shared."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.lab import Lab
from p2pboot.testing.processes import PYTHON, Finished, Mesh, Node, Processes

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ("-m", "p2pboot")
_GRACE_S = 5.0


@contextmanager
def server(arguments: Sequence[str]) -> Iterator[Node]:
    """Run a Python process with these arguments and wait for its first line."""
    with tempfile.TemporaryDirectory() as name, mesh_in(ROOT) as processes:
        yield processes.node([sys.executable, *arguments], state=Path(name), log=Path(name) / "log")


def run(arguments: Sequence[str]) -> Finished:
    """Run a Python process that prints one JSON document, to its end."""
    return checked(Processes(ROOT).complete([sys.executable, *arguments]))


def checked(done: Finished) -> Finished:
    """End the benchmark with what a process said, unless it ended well."""
    if done.status != 0:
        raise SystemExit(done.stderr + done.stdout)
    return done


def node_on(lab: Lab, mesh: Mesh, number: int, *command: str) -> Node:
    """Start a node on a machine of a lab, with its own key and state; it looks for nobody by mDNS."""
    home = mesh.directory / str(number)
    home.mkdir(exist_ok=True)
    listen = ("--listen", f"/ip4/{lab.address(number)}/tcp/0", "--no-mdns", "-q")
    places = ("--key", str(home / "node.toml"), "--state", str(home / "state"))
    inside = [*lab.inside(number), *PYTHON, *command, *listen, *places]
    return mesh.node(inside, state=home / "state", log=home / "log")


@contextmanager
def mesh_in(directory: Path) -> Iterator[Mesh]:
    """Make nodes that are asked to end, and have all ended afterwards."""
    mesh = Mesh(directory, grace_s=_GRACE_S)
    try:
        yield mesh
    finally:
        mesh.end()
