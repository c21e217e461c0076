"""What the disk changes of what a mirror holds is found before a client finds it, and mended piece by piece."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from p2pboot.store.snapshots.walking import PAYLOAD_SUFFIX
from p2pboot.testing.artifacts import PIECE
from p2pboot.testing.processes import Mesh, Node
from p2pboot.testing.waiting import wait_until
from tests.core.timetoke.samples import payload_of
from tests.integration.images import assert_same_bytes

SNAPSHOT = payload_of(2000)


@pytest.fixture
def trust(mesh: Mesh) -> str:
    return mesh.new_key("publisher")


@pytest.fixture
def publisher(mesh: Mesh, artifacts: Path, trust: str) -> Node:
    return mesh.serve(artifacts)


@pytest.fixture
def mirror(mesh: Mesh, publisher: Node, trust: str) -> Node:
    """One that has read what it holds, and does so again in ten minutes only, or when it is asked to."""
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address)
    mirror.wait_for_head(1)
    scrubbed = mesh.run("store", "scrub", "--state", str(mirror.state))
    assert scrubbed.status == 0, scrubbed.stderr
    return mirror


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def largest_blob(state: Path) -> Path:
    return max((state / "blobs").glob("*/*"), key=lambda path: path.stat().st_size)


def appearance(state: Path) -> list[tuple[Path, int]]:
    """All files and when they were written, but for the shared memory of who reads the database."""
    files = (path for path in state.rglob("*") if not path.name.endswith("-shm"))
    return sorted((path, path.stat().st_mtime_ns) for path in files)


def received(node: Node) -> int:
    return sum(row["received"] for row in node.status()["traffic"])


def test_a_flipped_bit_on_a_mirrors_disk_costs_one_piece_from_a_peer(
    mesh: Mesh, artifacts: Path, mirror: Node, trust: str
) -> None:
    blob = largest_blob(mirror.state)
    whole, before = blob.read_bytes(), received(mirror)
    flip(blob, 5 * PIECE + 7)
    found = mesh.run("store", "scrub", "--state", str(mirror.state), "--json")
    assert found.status == 1, found.stderr
    assert found.document["scrub"]["found"] == 1
    wait_until(lambda: mirror.status()["scrub"]["mended"] == 1, "the blob is mended")
    assert blob.read_bytes() == whole
    assert PIECE <= received(mirror) - before < len(whole) // 4  # a dealer may send a piece unasked
    assert re.search(r"rootfs is mended: [0-9.]+ kB came from peer 12D3KooW", mirror.log.read_text())
    wait_until(lambda: not mirror.status()["problems"], "no problem stands any more")
    assert "stable/x86_64/rootfs: damaged" in mirror.log.read_text()
    done = mesh.fetch(trust, mesh.directory / "out", mirror.address)
    assert done.status == 0, done.stderr
    assert_same_bytes(mesh.directory / "out", artifacts)
    again = mesh.run("store", "scrub", "--state", str(mirror.state), "--json")
    assert again.status == 0, again.stderr
    assert again.document["scrub"]["read_bytes"] == again.document["scrub"]["total_bytes"] > len(whole)


def test_a_stopped_mirrors_store_is_checked_repaired_and_mended_when_it_runs_again(
    mesh: Mesh, artifacts: Path, publisher: Node, mirror: Node, trust: str
) -> None:
    assert mirror.stop() == 0
    state = str(mirror.state)
    assert mesh.run("store", "check", "--state", state).status == 0
    blob = largest_blob(mirror.state)
    whole = blob.read_bytes()
    for piece in (0, 3, 9):
        flip(blob, piece * PIECE)
    seen = appearance(mirror.state)
    checked = mesh.run("store", "check", "--state", state)
    assert checked.status == 1
    assert "damaged    stable/x86_64/rootfs #1: the disk changed pieces 0, 3, 9 of" in checked.stdout
    planned = mesh.run("store", "repair", "--state", state, "--dry-run", "--json")
    assert planned.document["found"][0]["pieces"] == [0, 3, 9]
    assert appearance(mirror.state) == seen
    assert mesh.run("store", "repair", "--state", state).status == 0
    assert not blob.exists()
    again = mesh.mirror(trust, "--bootstrap", publisher.address)
    again.wait_for_head(1)
    assert blob.read_bytes() == whole
    assert received(again) < len(whole) // 4


def test_a_running_mirror_repairs_itself_and_says_when_it_is_done(mesh: Mesh, mirror: Node) -> None:
    blob = largest_blob(mirror.state)
    whole = blob.read_bytes()
    flip(blob, 0)
    checked = mesh.run("store", "check", "--state", str(mirror.state), "--json")
    assert checked.status == 1
    assert blob.exists()  # it changed nothing
    repaired = mesh.run("store", "repair", "--state", str(mirror.state), "--json")
    assert repaired.status == 0, repaired.stderr
    assert repaired.document["damaged"] == []
    assert blob.read_bytes() == whole


def test_snapshots_are_read_as_well_by_who_runs_and_by_who_looks(mesh: Mesh, artifacts: Path) -> None:
    snapshots, config = mesh.directory / "snapshots", mesh.directory / "node.conf.toml"
    snapshots.mkdir()
    config.write_text(f'snapshot_dir = "{snapshots}"\n')
    payload = mesh.directory / "payload.json"
    payload.write_bytes(SNAPSHOT)
    mesh.new_key("publisher")
    key = str(mesh.directory / "publisher" / "node.toml")
    published = mesh.run(
        "snapshot", "publish", str(payload), "--key", key, "--store", str(snapshots), "--json"
    )
    assert published.status == 0, published.stderr
    publisher = mesh.serve(artifacts, "--config", str(config))
    publisher.wait_for_head(1)
    arguments = ("--state", str(publisher.state), "--config", str(config), "--json")
    assert mesh.run("store", "check", *arguments).status == 0
    scrubbed = mesh.run("store", "scrub", *arguments)
    assert scrubbed.status == 0, scrubbed.stderr
    assert scrubbed.document["scrub"]["read_bytes"] > len(SNAPSHOT)
    stored = snapshots / f"{published.document['root']}{PAYLOAD_SUFFIX}"
    flip(stored, 10)
    names = sorted(snapshots.rglob("*"))
    checked = mesh.run("store", "check", *arguments)
    assert checked.status == 1, checked.stderr
    assert [one["subject"] for one in checked.document["found"]] == [str(stored)]
    assert sorted(snapshots.rglob("*")) == names
