"""Roots, statements and yanks over three real processes: a publisher, a mirror of it, and a mirror of that one."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path

from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import FreshnessRule, PublishRole
from p2pboot.testing.processes import ANY_PORT, LOOPBACK, PYTHON, Mesh, Node
from p2pboot.testing.trustdocs import next_root, root_body, signed_root
from p2pboot.testing.waiting import wait_until
from tests.integration.images import write_artifacts
from tests.integration.test_vouching import freshness_key

PAIR = ("--channel", "stable", "--arch", "x86_64")


def written(mesh: Mesh, root: Root) -> str:
    path = mesh.directory / f"root-{root.version}.json"
    path.write_bytes(root.raw)
    return str(path)


def mirror(mesh: Mesh, name: str, root: str, bootstrap: str) -> Node:
    home = mesh.directory / name
    home.mkdir()
    places = ("--key", str(home / "node.toml"), "--state", str(home / "state"))
    network = ("--no-mdns", "--dht", "off", "--listen", LOOPBACK, "--bootstrap", bootstrap)
    served = ("--http", "127.0.0.1:0", "--admin", ANY_PORT, "--quota", "unlimited")
    command = [*PYTHON, "mirror", "--root", root, *PAIR, *places, *network, *served]
    return mesh.node(command, state=home / "state", log=home / "log")


def get(node: Node, path: str) -> bytes:
    with urllib.request.urlopen(f"{node.status()['http'][0]}{path}") as reply:
        body: bytes = reply.read()
    return body


def test_what_a_publisher_says_reaches_a_mirror_of_a_mirror_that_knows_a_digest(
    mesh: Mesh, artifacts: Path
) -> None:
    path, fresh = freshness_key(mesh, "freshness")
    publisher_key, now = mesh.new_key("publisher"), int(time.time())
    body = root_body(
        created_at=now,
        expires_at=None,
        publish=(PublishRole((publisher_key,), channels=("stable",), freshness=FreshnessRule((fresh,))),),
    )
    first = signed_root(body)
    second = next_root(first, name="the second version")
    vouching = ("--freshness-key", path)
    publisher = mesh.serve(artifacts, "--root", written(mesh, first), *vouching)
    publisher.wait_for_head(1)
    near = mirror(mesh, "near", str(mesh.directory / "root-1.json"), publisher.address)
    far = mirror(mesh, "far", f"sha256:{first.digest}", near.address)
    far.wait_for_head(1)
    assert get(far, "/root.json") == first.raw

    publish = ("root", "publish", "--state", str(publisher.state))
    early = mesh.run(*publish, written(mesh, next_root(second)))
    assert early.status == 1
    assert "the file of version 2 is missing; version 1 is in force" in early.stderr
    published = mesh.run(*publish, written(mesh, second))
    assert published.status == 0, published.stderr
    assert f"in force    version 2 of the root of the second version, sha256:{second.digest}" in (
        published.stdout
    )
    wait_until(lambda: get(far, "/root.json") == second.raw, "the second root at the far mirror")
    assert get(far, "/root/1.json") == first.raw

    write_artifacts(artifacts, seed=2)
    assert mesh.run("publish", "--state", str(publisher.state)).status == 0
    done = mesh.run("yank", "stable", "--reason", "it does not boot", "--state", str(publisher.state))
    assert done.status == 0, done.stderr
    far.wait_for_head(3)
    wait_until(lambda: json.loads(get(far, "/stable/x86_64/yanks.json")) != [], "the yank at the far mirror")
    assert get(far, "/yanks.json") == get(near, "/yanks.json")

    def newest() -> int:
        statement = Freshness.parse(get(far, "/stable/x86_64/freshness.json"))
        assert statement.body.fleet == first.digest
        return statement.body.head_version

    wait_until(lambda: newest() == 3, "the statement about the third version")
    for node in (publisher, near, far):
        assert "poisoners" not in {one["code"] for one in node.status()["problems"]}
