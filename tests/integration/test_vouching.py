"""A publisher vouches for what it publishes, and a machine beside a mirror does; with real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p2pboot.testing.processes import Mesh, Node
from p2pboot.testing.waiting import wait_until


def freshness_key(mesh: Mesh, name: str) -> tuple[str, str]:
    """The file of a new key, and its key id."""
    path = str(mesh.directory / f"{name}.toml")
    done = mesh.run("key", "generate", "--key", path, "--json")
    assert done.status == 0, done.stderr
    return path, str(done.document["keyid"])


def statement(node: Node) -> dict[str, Any] | None:
    pairs = [one for one in node.status()["trust"]["pairs"] if one["channel"] == "stable"]
    return pairs[0]["statement"] if pairs else None


def test_a_publisher_vouches_and_goes_on_after_a_restart(mesh: Mesh, artifacts: Path) -> None:
    path, keyid = freshness_key(mesh, "freshness")
    publisher = mesh.serve(artifacts, "--freshness-key", path)
    publisher.wait_for_head(1)
    wait_until(lambda: statement(publisher) is not None, what="a statement")
    state = ("--state", str(publisher.state))
    (shown,) = mesh.run("freshness", "show", *state, "--json").document["statements"]
    assert (shown["head"]["manifest_version"], shown["minimum"], shown["signers"]) == (1, 0, [keyid])
    assert mesh.run("publish", "--urgent", *state).status == 0
    first = statement(publisher)
    assert first is not None
    assert first["minimum"] == 1
    assert publisher.stop() == 0
    publisher = mesh.serve(artifacts, "--freshness-key", path)
    publisher.wait_for_head(1)
    again = statement(publisher)
    assert again is not None
    assert (again["created_at"], again["minimum"]) == (first["created_at"], 1)
    assert publisher.stop() == 0
    own = str(mesh.directory / "publisher" / "node.toml")
    refused = mesh.run("serve", str(artifacts), *state, "--key", own, "--freshness-key", own)
    assert refused.status == 2
    assert "no freshness key" in refused.last_line


def test_a_machine_with_the_freshness_key_alone_vouches_for_what_its_mirror_holds(
    mesh: Mesh, artifacts: Path
) -> None:
    path, keyid = freshness_key(mesh, "timer")
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    mirror = mesh.mirror(trust, "--freshness", keyid, "--bootstrap", publisher.address)
    mirror.wait_for_head(1)
    assert statement(mirror) is None
    sign = ("freshness", "sign", "--state", str(mirror.state), "--key")
    done = mesh.run(*sign, path, "--json")
    assert done.status == 0, done.stderr
    said = statement(mirror)
    assert said is not None
    assert (said["head"], said["minimum"], said["signers"]) == (1, 0, [keyid])
    other, _ = freshness_key(mesh, "other")
    assert "nobody named" in mesh.run(*sign, other).last_line
