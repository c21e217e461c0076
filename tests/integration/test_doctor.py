"""`p2pboot doctor` on real machines: a mesh that is well, a node that looks itself, and machines without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from p2pboot.errors import UsageError
from p2pboot.node.control import request
from p2pboot.testing.processes import LOOPBACK, PYTHON, Mesh
from p2pboot.testing.waiting import HANG_S
from tests.lan import network

_QUICK = ("--dht", "off", "--json")


def states(document: dict[str, Any], check: str) -> set[tuple[str, str]]:
    return {(one["code"], one["state"]) for one in document["findings"] if one["check"] == check}


def test_a_mesh_that_is_well_has_nothing_wrong_and_a_node_looks_itself(mesh: Mesh, artifacts: Path) -> None:
    trust = mesh.new_key("publisher")
    node = mesh.serve(artifacts, "--http", "127.0.0.1:0")
    node.wait_for_head(1)
    named = ("--bootstrap", node.address, "--trust", trust, "--no-mdns", "--listen", LOOPBACK, *_QUICK)
    done = mesh.run("doctor", str(artifacts), *named)
    assert done.status == 0, done.stderr
    for check in ("ports", "peers", "trust", "clock", "state", "inotify"):
        assert states(done.document, check) == {(check, "ok")}
    assert states(done.document, "bootstrap") == {("reached", "ok")}
    clock = next(one for one in done.document["findings"] if one["check"] == "clock")
    assert "as 127.0.0.1:" in clock["text"]  # the gateway says what time it is

    own = mesh.run("doctor", "--node", "--state", str(node.state), "--json")
    assert own.status == 0, own.stderr
    assert (own.document["by"], own.document["peer_id"]) == ("node", node.peer_id)
    assert states(own.document, "ports") == {("ports", "ok")}
    assert states(own.document, "inotify") == {("inotify", "ok")}
    with pytest.raises(UsageError):  # it is the node that reads it
        request(node.state, {"op": "doctor", "timeout": "soon"}, HANG_S)


@pytest.mark.parametrize("has", ["nothing", "IPv6"])
def test_a_machine_without_a_network_or_with_ipv6_only(mesh: Mesh, has: str) -> None:
    with network(["alone"]) as lan:
        if has == "IPv6":
            lan.plug("alone")
            lan.ip("alone", "address add 2001:db8::7/64 dev eth0 nodad")
        done = mesh.complete([*lan.inside("alone"), *PYTHON, "doctor", "--timeout", "5", *_QUICK])
    document = json.loads(done.stdout)
    assert done.status != 0
    assert "Traceback" not in done.stderr
    if has == "nothing":
        assert states(document, "addresses") == {("no-address", "failed")}
        assert states(document, "multicast") == {("multicast-nowhere", "failed")}
        return
    assert states(document, "addresses") == {("addresses", "ok")}
    assert "IPv6 only" in document["findings"][0]["text"]
    assert states(document, "multicast") == {("multicast-alone", "warning")}  # it was sent, and came back
