"""The status documents of nodes that run, as the operator of a rack sees them: publisher, mirror, a client, curl."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from p2pboot import __version__
from p2pboot.testing.processes import Mesh, Node
from p2pboot.testing.waiting import wait_until
from tests.integration.test_gateway import GATEWAY, base_of, curl
from tests.node.status.test_document import described, keys_of, likewise, paths

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def peer_of(node: Node, peer_id: str) -> dict[str, Any]:
    (peer,) = [one for one in node.status()["peers"] if one["peer_id"] == peer_id]
    return dict(peer)


@pytest.fixture
def nodes(mesh: Mesh, artifacts: Path) -> tuple[Node, Node, str]:
    """A publisher and a mirror that holds what it publishes; and the publisher's key."""
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts, "--name", "hall 2")
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address, *GATEWAY)
    mirror.wait_for_head(1)
    return publisher, mirror, trust


def test_one_look_tells_what_a_rack_does(nodes: tuple[Node, Node, str], mesh: Mesh, tmp_path: Path) -> None:
    publisher, mirror, trust = nodes
    done = mesh.fetch(trust, mesh.directory / "out", mirror.address)
    assert done.status == 0, done.stderr
    url = f"{base_of(mirror)}/stable/x86_64"
    for name in ("kernel", "initramfs"):
        fetched = curl("--fail", "-o", str(tmp_path / name), f"{url}/{name}")
        assert fetched.returncode == 0, fetched.stderr

    said = mirror.status()
    assert (said["schema"], said["role"]) == (1, "mirror")
    assert TIME.fullmatch(said["now"])
    assert said["started_at"] < said["now"]
    (head,) = said["heads"]
    assert head["provider"] == {"peer_id": publisher.peer_id, "name": "hall 2"}
    assert {one["name"] for one in head["artifacts"]} >= {"kernel", "initramfs"}
    sizes = {one["name"]: one["size"] for one in head["artifacts"]}

    by_http, by_peer = ([one for one in said["clients"] if one["via"] == via] for via in ("http", "p2p"))
    assert [(one["address"], one["done"], one["bytes"]) for one in by_http] == [
        ("127.0.0.1", True, sizes["kernel"] + sizes["initramfs"])
    ]
    # Of the same, a part came from the publisher; the mirror took all of it there, and boots nothing.
    by_peer += publisher.status()["clients"]
    assert by_peer
    for one in by_peer:
        assert (one["via"], one["version"], one["address"]) == ("p2p", head["version"], "127.0.0.1")
        assert 0 < one["bytes"] <= 2 * sum(sizes.values())
        assert one["peer_id"] not in {mirror.peer_id, publisher.peer_id}


def test_a_peer_has_its_name_its_path_and_its_round_trip(nodes: tuple[Node, Node, str]) -> None:
    publisher, mirror, _trust = nodes
    wait_until(lambda: peer_of(mirror, publisher.peer_id)["rtt_ms"] is not None, "the round trip")
    wait_until(lambda: peer_of(mirror, publisher.peer_id)["holds"] != [], "the next question what it holds")
    peer = peer_of(mirror, publisher.peer_id)
    assert (peer["name"], peer["path"], peer["near"], peer["publisher"]) == ("hall 2", "lan", True, True)
    assert peer["holds"] == ["stable/x86_64 #1"]
    assert peer["received"] > 100_000
    wait_until(
        lambda: peer_of(publisher, mirror.peer_id)["name"] == f"p2pboot/{__version__}", "what the mirror is"
    )


def test_where_bytes_came_from_is_told_within_an_interval(
    nodes: tuple[Node, Node, str], tmp_path: Path
) -> None:
    _publisher, mirror, _trust = nodes
    fetched = curl("--fail", "-o", str(tmp_path / "kernel"), f"{base_of(mirror)}/stable/x86_64/kernel")
    assert fetched.returncode == 0, fetched.stderr
    size = (tmp_path / "kernel").stat().st_size

    def told() -> bool:
        flows = mirror.status()["flows"]
        received, sent = sum(flows["received"]["publisher"]), sum(flows["sent"]["http"])
        return bool(received > 100_000 and sent >= size)

    wait_until(told, "the graph of bytes")
    flows = mirror.status()["flows"]
    assert flows["interval_s"] == 5
    assert TIME.fullmatch(flows["ends_at"])
    assert flows["totals"]["sent"]["http"] == sum(flows["sent"]["http"])


def test_every_key_is_one_that_is_described(nodes: tuple[Node, Node, str]) -> None:
    publisher, mirror, _trust = nodes
    for node in (publisher, mirror):
        assert set(keys_of(node.status())) <= paths(likewise(described()))
