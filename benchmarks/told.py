"""One known peer leads to eight providers, though nine of ten whom it tells of are invented.

    python -m benchmarks.told

The known peer has nothing itself. It tells of a publisher and seven mirrors, which are processes, and then of 72 peers
more that nobody is: at an address that refuses, or at one that takes every call and says nothing, which costs a dial
its whole limit. Over IPv4's and IPv6's loopback; without the local network and the hash table, so that nothing else
leads anywhere.
Counted are the seconds from a node's first line until it is connected with all eight, and from the start of `discover`
and `fetch` to their end.
"""

from __future__ import annotations

import argparse
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from benchmarks.results import Goal, Table, run_alone
from benchmarks.sample import write_artifacts
from p2pboot.core.identity import SecretKey
from p2pboot.protocol.messages import SYNC_PROTOCOL
from p2pboot.serving.accounts import Serving
from p2pboot.serving.heads import NothingOffered, SyncServer
from p2pboot.testing.processes import Mesh, Node, mesh_in
from p2pboot.testing.waiting import wait_until
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.light import open_light
from p2pboot.transport.records import sign_record

PROVIDERS = 8
INVENTED = 72
GOAL_S = 5.0
_HOSTS = {"IPv4": ("127.0.0.1", "/ip4/127.0.0.1/tcp"), "IPv6": ("::1", "/ip6/::1/tcp")}
_ALONE = ("--no-mdns", "--dht", "off")


@dataclass(frozen=True)
class Row:
    """Seconds, by how the invented ones do not answer.

    Args:
        what: the addresses, and what is behind those of the invented.
        invented: how many peers the known one invents.
        node_s: until a node was connected with all providers.
        discover_s: the whole command, with its five seconds.
        seen: providers that `discover` listed.
        fetch_s: the whole command.
    """

    what: str
    invented: int
    node_s: float
    discover_s: float
    seen: int
    fetch_s: float


@dataclass(frozen=True)
class Told:
    """All rows."""

    rows: Sequence[Row]

    def tables(self) -> Iterator[Table]:
        heads = ("", "node: all eight", "discover", "providers seen", "fetch")
        rows = [
            (one.what, f"{one.node_s:.1f}", f"{one.discover_s:.1f}", str(one.seen), f"{one.fetch_s:.1f}")
            for one in self.rows
        ]
        yield Table(f"One known peer tells of {PROVIDERS} providers, seconds", heads, rows)

    def goals(self) -> Iterator[Goal]:
        honest = [one for one in self.rows if not one.invented]
        yield Goal.at_most("a node knows eight providers, s", GOAL_S, max(one.node_s for one in honest))
        yield Goal.at_most("providers not seen", 0, PROVIDERS - min(one.seen for one in honest))

    def to_json(self) -> dict[str, Any]:
        return {"told": [vars(one) for one in self.rows]}


async def _measure_with(family: str, way: str) -> Row:
    host, prefix = _HOSTS[family]
    kind = socket.AF_INET6 if family == "IPv6" else socket.AF_INET
    with (
        tempfile.TemporaryDirectory() as directory,
        mesh_in(Path(directory)) as mesh,
        socket.create_server((host, 0), family=kind, backlog=4096) as mute,
    ):
        port = mute.getsockname()[1] if way == "say nothing" else 1
        invented = [
            sign_record(SecretKey(bytes([number]) * 32), [parse_address(f"{prefix}/{port}")], 1)
            for number in range(INVENTED)
        ]
        trust = mesh.new_key("publisher")
        async with open_light(SecretKey(b"\xff" * 32), (f"{prefix}/0",)) as known:
            providers = await trio.to_thread.run_sync(_start_providers, mesh, trust, f"{prefix}/0")
            for provider in providers:
                await known.dial(provider.address)
            await trio.to_thread.run_sync(
                wait_until, lambda: len(known.peer_records()) == PROVIDERS, "all have said who they are"
            )
            server = SyncServer(
                NothingOffered(),
                lambda: (*known.peer_records(), *(invented if way else ())),
                lambda: 0,
                Serving(),
                lambda _channel, _arch: (),
                read_record=known.read_peer_record,
            )
            known.handle(SYNC_PROTOCOL, server.handle)
            ask = partial(_ask, mesh, trust, known.addresses()[0], providers, f"{prefix}/0")
            what = f"{family}, {INVENTED} invented ones {way}" if way else f"{family}, nobody is invented"
            return Row(what, INVENTED if way else 0, *await trio.to_thread.run_sync(ask))


def _start_providers(mesh: Mesh, trust: str, listen: str) -> list[Node]:
    write_artifacts(mesh.directory, 1024)
    publisher = mesh.serve(mesh.directory / "artifacts", "--listen", listen, "--dht", "off")
    mirrors = [
        mesh.mirror(
            trust, "--listen", listen, "--bootstrap", publisher.address, "--dht", "off", name=f"m{number}"
        )
        for number in range(PROVIDERS - 1)
    ]
    for mirror in mirrors:
        mirror.wait_for_head(1)
    return [publisher, *mirrors]


def _ask(
    mesh: Mesh, trust: str, known: str, providers: Sequence[Node], listen: str
) -> tuple[float, float, int, float]:
    node = mesh.mirror(trust, "--listen", listen, "--bootstrap", known, "--dht", "off", name="node")
    began = time.monotonic()
    wanted = {provider.peer_id for provider in providers}
    wait_until(
        lambda: wanted <= {one["peer_id"] for one in node.status()["peers"]}, "all providers", within_s=90
    )
    node_s = time.monotonic() - began
    node.stop()
    discover = mesh.run("discover", "--bootstrap", known, "--trust", trust, *_ALONE, "--json")
    seen = {one["peer_id"] for one in discover.document["providers"]} & wanted
    fetch = mesh.run(
        *mesh.fetch_arguments(trust, mesh.directory / "fetched", known), "--dht", "off", "--serve", "no"
    )
    if fetch.status != 0:
        raise SystemExit(fetch.stderr)
    return node_s, discover.wall_s, len(seen), fetch.wall_s


def measure(*, quick: bool = False) -> Told:
    families = ["IPv4"] if quick else list(_HOSTS)
    return Told(
        [trio.run(_measure_with, family, way) for family in families for way in ("", "refuse", "say nothing")]
    )


def measure_as_told(arguments: argparse.Namespace) -> Told:
    return measure(quick=arguments.quick)


if __name__ == "__main__":
    run_alone("Measure how soon one known peer leads to others.", measure_as_told)
