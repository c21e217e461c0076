"""A private mesh in processes: who has its key is in; whoever else knocks gets no answer, and learns why at home."""

from __future__ import annotations

from pathlib import Path

from p2pboot.testing.processes import Mesh, Node
from p2pboot.testing.waiting import wait_until
from tests.integration.images import assert_same_bytes


def wait_for_line(node: Node, text: str) -> None:
    wait_until(lambda: text in node.log.read_text(), f"{node.log}: {text}")


def test_nodes_and_clients_with_the_key_are_in_and_others_are_not(mesh: Mesh, artifacts: Path) -> None:
    keys = {name: str(mesh.directory / f"{name}.key") for name in ("swarm", "other")}
    fingerprints = {
        name: mesh.run("key", "swarm", path, "--json").document["fingerprint"] for name, path in keys.items()
    }
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts, "--swarm-key", keys["swarm"])
    asking = ("--bootstrap", publisher.address)
    outsider = mesh.mirror(trust, "--swarm-key", keys["other"], *asking, name="outsider")
    keyless = mesh.mirror(trust, *asking, name="keyless")
    mirror = mesh.mirror(trust, "--swarm-key", keys["swarm"], *asking)
    mirror.wait_for_head(1)
    assert mirror.status()["mesh"] == {"private": True, "swarm_key_fingerprint": fingerprints["swarm"]}

    inside = mesh.run(
        *mesh.fetch_arguments(trust, mesh.directory / "out", mirror.address), "--swarm-key", keys["swarm"]
    )
    assert inside.status == 0, inside.stderr
    assert_same_bytes(mesh.directory / "out", artifacts)

    outside = mesh.run(
        *mesh.fetch_arguments(trust, mesh.directory / "none", mirror.address), "--timeout", "10"
    )
    assert outside.status == 3
    assert "is it in a private mesh (--swarm-key FILE)?" in outside.document["error"]

    wait_for_line(outsider, "is it the same swarm key?")
    wait_for_line(keyless, "is it in a private mesh (--swarm-key FILE)?")
    wait_for_line(publisher, "kept out who came from 127.0.0.1:")
    for node in (outsider, keyless):
        assert node.status()["peers"] == []
        assert node.heads() == {}
    assert {one["peer_id"] for one in publisher.status()["peers"]} == {mirror.peer_id}
