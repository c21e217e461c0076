"""mDNS with go-libp2p and js-libp2p: they find a node of ours, and we find them, on networks of the test's own.

Which way something was found is kept apart: whoever looks for others announces nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2pboot.testing.processes import PYTHON, Mesh, Node, mesh_in
from tests.integration.images import write_artifacts
from tests.interop.peers import peer
from tests.lan import Network, network

pytestmark = pytest.mark.interop

IPV4 = ("192.0.2.{}/24", "192.0.2.254")
IPV6 = ("fd00:77::{}/64", "fd00:77::ff")


def address(net: Network, machine: str, number: int, family: tuple[str, str]) -> None:
    """Give a machine an address and a default route, without which js can not send."""
    net.ip(machine, f"addr add {family[0].format(number)} dev eth0")
    net.ip(machine, f"route add default via {family[1]}")


@contextmanager
def lan(*families: tuple[str, str]) -> Iterator[Network]:
    """Two machines, `here` and `there`, on one switch, with addresses of these families."""
    with network(("here", "there")) as net:
        for number, machine in enumerate(("here", "there"), start=1):
            net.plug(machine)
            for family in families:
                address(net, machine, number, family)
        yield net


@contextmanager
def node(net: Network, machine: str, directory: Path) -> Iterator[Node]:
    """A publisher with its usual settings, as an operator starts it."""
    with mesh_in(directory) as mesh:
        yield start(mesh, net, machine)


def start(mesh: Mesh, net: Network, machine: str) -> Node:
    home = mesh.directory / machine
    home.mkdir()
    places = ("--key", str(home / "node.toml"), "--state", str(home / "state"))
    command = [*net.inside(machine), *PYTHON, "serve", str(write_artifacts(home / "artifacts")), *places]
    return mesh.node(command, state=home / "state", log=home / "log")


CASES = [
    pytest.param("go", (IPV4,), id="go-ipv4"),
    pytest.param("go", (IPV6,), id="go-ipv6"),
    pytest.param("js", (IPV4,), id="js-ipv4"),  # js has mDNS over IPv4 only
]


@pytest.mark.parametrize(("language", "families"), CASES)
def test_they_find_and_reach_a_node(
    language: str, families: tuple[tuple[str, str], ...], tmp_path: Path
) -> None:
    with (
        lan(*families) as net,
        peer(language, "mdns", inside=net.inside("there"), log=tmp_path / "log") as other,
    ):
        other.wait_for(id=...)
        with node(net, "here", tmp_path) as ours:
            other.wait_for(found=ours.peer_id)
            other.wait_for(connected=ours.peer_id)


@pytest.mark.parametrize(("language", "families"), CASES)
def test_they_find_a_node_that_was_there_before(
    language: str, families: tuple[tuple[str, str], ...], tmp_path: Path
) -> None:
    with (
        lan(*families) as net,
        node(net, "here", tmp_path) as ours,
        peer(language, "mdns", inside=net.inside("there"), log=tmp_path / "log") as other,
    ):
        other.wait_for(connected=ours.peer_id)


@pytest.mark.parametrize(("language", "families"), CASES)
def test_we_find_them(language: str, families: tuple[tuple[str, str], ...], tmp_path: Path) -> None:
    with (
        lan(*families) as net,
        peer("ours", "ours", inside=net.inside("here"), log=tmp_path / "log") as before,
        peer(language, "mdns", inside=net.inside("there"), log=tmp_path / "log") as other,
    ):
        their = other.wait_for(id=...)["id"]
        found = before.wait_for(found=their)["address"]
        with peer("ours", "ours", inside=net.inside("here"), log=tmp_path / "log") as later:
            later.wait_for(found=their)
    host = families[0][0].partition("/")[0].format(2)
    assert f"/{host}/tcp/" in found


def test_an_address_that_comes_later_is_told_to_go_as_well(tmp_path: Path) -> None:
    """It looks at each name once, so what has changed has to be told under another one."""
    with (
        lan(IPV6) as net,
        peer("go", "mdns", inside=net.inside("there"), log=tmp_path / "log") as other,
        node(net, "here", tmp_path) as ours,
    ):
        other.wait_for(connected=ours.peer_id)
        net.ip("there", "addr add 192.0.2.2/24 dev eth0")
        net.ip("here", "addr add 192.0.2.1/24 dev eth0")
        while "/ip4/192.0.2.1/tcp/4001" not in other.wait_for(found=ours.peer_id)["addresses"]:
            pass
