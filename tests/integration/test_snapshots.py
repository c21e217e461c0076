"""Snapshots between real processes: published, served, followed, and synced beside a liar and one that stops."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from p2pboot.testing.processes import LOOPBACK, PYTHON, Mesh, Node, first_line
from p2pboot.testing.waiting import wait_until
from tests.core.timetoke.samples import TIMETOKE_ROOT, payload_of

RECORDS = 60_000


@pytest.fixture
def payload() -> bytes:
    return payload_of(RECORDS)


def publish(mesh: Mesh, payload: bytes, store: str = "snapshots", *options: str) -> tuple[str, str]:
    """Publish into a store of this mesh; the root and the signer's key id."""
    file = mesh.directory / "payload.json"
    file.write_bytes(payload)
    key = str(mesh.directory / "snapshot.toml")
    done = mesh.run("snapshot", "publish", str(file), "--store", store, "--key", key, "--json", *options)
    assert done.status == 0, done.stderr
    assert done.document["timetoke_root"] == TIMETOKE_ROOT
    return done.document["root"], done.document["signer"]


def serve(mesh: Mesh, name: str, store: Path, *options: str) -> Node:
    home = mesh.directory / name
    home.mkdir()
    arguments = ["--snapshots", str(store), "--key", str(home / "key.toml"), "--state", str(home / "state")]
    command = [
        *PYTHON,
        "serve",
        *arguments,
        "--no-mdns",
        "--listen",
        LOOPBACK,
        "--quota",
        "unlimited",
        *options,
    ]
    process = mesh.start(command, home / "log")
    return Node(process, first_line(process, home / "log"), home / "state", home / "log")


def wait_for_told(node: Node, snapshots: dict[str, Any]) -> None:
    """Wait until this is what a node says of its snapshots."""
    wait_until(lambda: bool(node.status()["snapshots"] == snapshots), f"{node.log}: {snapshots}")


def copy_of(mesh: Mesh, name: str) -> Path:
    target = mesh.directory / name
    shutil.copytree(mesh.directory / "snapshots", target)
    return target


def misbehave(mesh: Mesh, how: str) -> str:
    log = mesh.directory / f"{how}.log"
    store = str(copy_of(mesh, f"{how}-store"))
    command = [sys.executable, "-m", "tests.integration.snapshot_liar", store, how]
    return first_line(mesh.start(command, log), log)


def sync(mesh: Mesh, trust: str, *peers: str, output: str = "out") -> list[str]:
    arguments = ["snapshot", "sync", "latest", "--trust", trust, "-o", output, "--json", "--no-mdns"]
    for peer in peers:
        arguments += ["--bootstrap", peer]
    return [*arguments, "--timeout", "40"]


def test_a_consumer_syncs_from_three_providers_of_which_one_lies_and_one_stops(
    mesh: Mesh, payload: bytes
) -> None:
    root, trust = publish(mesh, payload)
    honest = serve(mesh, "honest", mesh.directory / "snapshots", "--max-upload", "3MB/s")
    liar, stopper = misbehave(mesh, "lies"), misbehave(mesh, "stops")
    done = mesh.run(*sync(mesh, trust, liar, stopper, honest.address))
    assert done.status == 0, done.stderr
    out = mesh.directory / "out"
    assert (out / f"{root}.json").read_bytes() == payload
    published = (mesh.directory / "snapshots" / f"{root}.json.sig").read_bytes()
    assert (out / f"{root}.json.sig").read_bytes() == published
    liar_id, stopper_id = liar.rpartition("/p2p/")[2], stopper.rpartition("/p2p/")[2]
    assert set(done.document["dropped_peers"]) == {liar_id}
    assert "chunk" in done.document["dropped_peers"][liar_id]
    assert set(done.document["stopped_peers"]) == {stopper_id}
    assert "chunk" in done.document["stopped_peers"][stopper_id]
    verified = mesh.run("snapshot", "verify", str(out / f"{root}.json"), "--public-key", trust)
    assert verified.status == 0, verified.stderr


def test_a_node_follows_a_signer_and_serves_what_it_got(mesh: Mesh, payload: bytes) -> None:
    root, trust = publish(mesh, payload)
    provider = serve(mesh, "provider", mesh.directory / "snapshots")
    follower = serve(
        mesh,
        "follower",
        mesh.directory / "followed",
        *("--snapshot-trust", trust, "--bootstrap", provider.address, "--sync-interval", "1s"),
    )
    followed = mesh.directory / "followed"
    wait_until((followed / f"{root}.json").exists, f"{follower.log}: the first snapshot")
    newer = payload_of(1000)
    second, _ = publish(mesh, newer)
    wait_until((followed / f"{second}.json").exists, f"{follower.log}: the second snapshot")
    for node, follows in ((provider, False), (follower, True)):
        wait_for_told(node, {"held": 2, "bytes": len(payload) + len(newer), "follows": follows})
        assert node.status()["role"] == "snapshots"
    provider.stop()
    done = mesh.run(*sync(mesh, trust, follower.address))
    assert done.status == 0, done.stderr
    assert done.document["sequence"] == 2
    assert (mesh.directory / "out" / f"{second}.json").read_bytes() == newer


def test_a_killed_sync_resumes(mesh: Mesh, payload: bytes) -> None:
    root, trust = publish(mesh, payload)
    provider = serve(mesh, "provider", mesh.directory / "snapshots", "--max-upload", "2MB/s")
    log = mesh.directory / "sync.log"
    process = mesh.start([*PYTHON, *sync(mesh, trust, provider.address)], log)
    partial = mesh.directory / "out" / ".p2pboot" / "partial" / root

    def has_chunks() -> bool:
        return partial.exists() and any(partial.read_bytes()[: 2 << 20])

    wait_until(has_chunks, "the first chunks are there")
    process.kill()
    process.wait()
    assert not (mesh.directory / "out" / f"{root}.json").exists()
    done = mesh.run(*sync(mesh, trust, provider.address))
    assert done.status == 0, done.stderr
    assert done.document["resumed_bytes"] > 0
    assert done.document["resumed_bytes"] + done.document["downloaded_bytes"] >= len(payload)
    assert (mesh.directory / "out" / f"{root}.json").read_bytes() == payload


def test_a_store_of_the_source_system_goes_through_two_nodes_unchanged(mesh: Mesh) -> None:
    """Its key has a version, its files end with a newline and lie in a directory, and some are unsigned."""
    payload, unsigned, store = payload_of(100), payload_of(7), mesh.directory / "snapshots"
    key = mesh.directory / "snapshot.toml"
    key.write_text(f'version = 1\nsecret_key = "{"07" * 32}"\n')
    key.chmod(0o600)
    root, trust = publish(mesh, payload)
    published = (store / f"{root}.json.sig").read_text() + "\n"
    assert published.startswith("1:")
    (store / "manifest").mkdir()
    for suffix, content in [(".json", payload.decode()), (".json.sig", published)]:
        (store / f"{root}{suffix}").unlink()
        (store / "manifest" / f"{root}{suffix}").write_text(content)
    (store / "manifest" / "old.json").write_bytes(unsigned)
    config = mesh.directory / "node.toml"
    config.write_text(f'snapshot_dir = "{store}"\n')
    home = mesh.directory / "provider"
    home.mkdir()
    arguments = ["--config", str(config), "--key", str(home / "key.toml"), "--state", str(home / "state")]
    process = mesh.start([*PYTHON, "serve", *arguments, "--no-mdns", "--listen", LOOPBACK], home / "log")
    provider = Node(process, first_line(process, home / "log"), home / "state", home / "log")

    def problems() -> list[dict[str, str]]:
        found = mesh.run("status", "--state", str(home / "state"), "--json")
        return [one for one in found.document["problems"] if one["code"] == "unsigned-snapshot"]

    wait_until(lambda: len(problems()) == 1, f"{home / 'log'}: the unsigned snapshot is named")
    assert problems()[0]["subject"] == str(store / "manifest" / "old.json")
    old_root = problems()[0]["text"].split()[1]

    followed = mesh.directory / "followed"
    follower = serve(mesh, "follower", followed, "--snapshot-trust", trust, "--bootstrap", provider.address)
    wait_until((followed / f"{root}.json").exists, f"{follower.log}: the snapshot")
    done = mesh.run(*sync(mesh, trust, follower.address))
    assert done.status == 0, done.stderr
    for directory in (followed, mesh.directory / "out"):
        assert (directory / f"{root}.json").read_bytes() == payload
        assert (directory / f"{root}.json.sig").read_text() == published

    asked = sync(mesh, trust, provider.address, output="unsigned")
    asked[2] = old_root
    refused = mesh.run(*asked)
    assert refused.status == 1
    assert "it has no signature" in refused.stderr
    assert "--allow-unsigned" in refused.stderr
    assert [path for path in (mesh.directory / "unsigned").iterdir() if not path.name.startswith(".")] == []
    taken = mesh.run(*asked, "--allow-unsigned")
    assert taken.status == 0, taken.stderr
    assert taken.document["signed"] is False
    assert "has no signature" in taken.stderr
    (store / "manifest" / "old.json.sig").touch()
    again = sync(mesh, trust, provider.address, output="again")
    again[2] = old_root
    refused = mesh.run(*again)
    assert refused.status == 1
    assert "its signature file is empty" in refused.stderr


def test_a_consumer_goes_by_whom_the_newest_root_names(mesh: Mesh) -> None:
    """The first root named another key; who knows only that one learns the second from the provider."""
    root, signer = publish(mesh, payload_of(RECORDS))
    key, first, second = (str(mesh.directory / name) for name in ("root.toml", "root-1.json", "root-2.json"))
    keyid = mesh.run("key", "generate", "--key", key, "--json").document["keyid"]
    former = mesh.new_key("former")
    said = ("--root-key", keyid, "--publish-key", former, "--snapshot-key", mesh.new_key("announcer"))
    made = mesh.run("root", "init", "--name", "fleet", *said, "--key", key, "--out", first)
    assert made.status == 0, made.stderr
    made = mesh.run("root", "set", first, "--snapshot-key", signer, "--out", second)
    assert made.status == 0, made.stderr
    made = mesh.run("root", "sign", second, "--from", first, "--yes", "--key", key)
    assert made.status == 0, made.stderr
    node = serve(mesh, "provider", mesh.directory / "snapshots", "--root", second)
    arguments = sync(mesh, "", node.address)
    at = arguments.index("--trust")
    arguments[at : at + 2] = ["--root", first]
    done = mesh.run(*arguments)
    assert done.status == 0, done.stderr
    assert done.document["root"] == root
