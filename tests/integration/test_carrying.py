"""A release is carried by hand with real processes: from a publisher onto a stick, and from there into other states."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pboot.testing.processes import Mesh, Node
from tests.integration.images import assert_same_bytes, write_artifacts

RELEASE = "stable/x86_64"


@pytest.fixture
def trust(mesh: Mesh) -> str:
    return mesh.new_key("publisher")


@pytest.fixture
def publisher(mesh: Mesh, artifacts: Path, trust: str) -> Node:
    publisher = mesh.serve(artifacts)
    publisher.wait_for_head(1)
    return publisher


def carry_out(mesh: Mesh, target: Path, state: Path) -> Path:
    done = mesh.run("store", "export", RELEASE, str(target), "--state", str(state), "--json")
    assert done.status == 0, done.stderr
    return target


def carry_in(mesh: Mesh, source: Path, state: Path, *trust: str) -> dict[str, object]:
    done = mesh.run("store", "import", str(source), "--state", str(state), "--json", *trust)
    assert done.status == 0, done.stderr
    return dict(done.document)


@pytest.mark.parametrize("medium", ["stick", "stick.tar"])
def test_what_was_carried_into_a_state_is_served_from_it_without_its_publisher(
    mesh: Mesh, artifacts: Path, publisher: Node, trust: str, medium: str
) -> None:
    stick = carry_out(mesh, mesh.directory / medium, publisher.state)
    assert publisher.stop() == 0
    state = mesh.directory / "mirror" / "state"
    imported = carry_in(mesh, stick, state, "--trust", trust)
    assert imported["unchanged"] is False
    assert imported["read_bytes"] == imported["size"]
    again = carry_in(mesh, stick, state, "--trust", trust)
    assert again["unchanged"] is True
    assert again["read_bytes"] == 0
    mirror = mesh.mirror(trust)
    done = mesh.fetch(trust, mesh.directory / "out", mirror.address)
    assert done.status == 0, done.stderr
    assert_same_bytes(mesh.directory / "out", artifacts)


def test_a_directory_has_the_files_that_a_fetch_gives(mesh: Mesh, artifacts: Path, publisher: Node) -> None:
    assert_same_bytes(carry_out(mesh, mesh.directory / "stick", publisher.state), artifacts)
    assert (mesh.directory / "stick" / "manifest.json.sig").exists()


def test_a_node_that_runs_takes_it_itself_and_offers_it_at_once(
    mesh: Mesh, artifacts: Path, publisher: Node, trust: str
) -> None:
    """Alone in the world: it knows nobody who has it."""
    first = carry_out(mesh, mesh.directory / "first", publisher.state)
    write_artifacts(artifacts, seed=2)
    assert mesh.run("publish", "--state", str(publisher.state)).status == 0
    second = carry_out(mesh, mesh.directory / "second.tar", publisher.state)
    mirror = mesh.mirror(trust)
    for number, stick in enumerate((first, second), start=1):
        carry_in(mesh, stick, mirror.state)
        assert mirror.heads() == {("stable", "x86_64"): number}
    assert carry_in(mesh, second, mirror.state)["unchanged"] is True
    done = mesh.fetch(trust, mesh.directory / "out", mirror.address)
    assert done.status == 0, done.stderr
    assert_same_bytes(mesh.directory / "out", artifacts)
    older = mesh.run("store", "import", str(first), "--state", str(mirror.state))
    assert older.status == 1
    assert "rollback" in older.stderr or "older" in older.stderr, older.stderr
    stranger = mesh.new_key("stranger")
    other = mesh.run("store", "import", str(second), "--state", str(mirror.state), "--trust", stranger)
    assert other.status == 2, other.stderr
