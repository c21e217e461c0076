"""A bad release is taken back, with the commands that an operator types."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from p2pboot.testing.processes import Mesh, Node
from p2pboot.testing.waiting import wait_until
from tests.integration.images import assert_same_bytes, write_artifacts


@pytest.fixture
def trust(mesh: Mesh) -> str:
    return mesh.new_key("publisher")


@pytest.fixture
def good(tmp_path: Path, artifacts: Path) -> Path:
    """A copy of the first release, which is about to be overwritten."""
    return Path(shutil.copytree(artifacts, tmp_path / "good"))


def overwrite(mesh: Mesh, artifacts: Path, publisher: Node) -> None:
    """Publish something else, written over the files of the release before."""
    publisher.wait_for_head(1)
    write_artifacts(artifacts, seed=2)
    done = mesh.run("publish", "--state", str(publisher.state))
    assert done.status == 0, done.stderr


def problems(node: Node) -> list[str]:
    return [one["code"] for one in node.status()["problems"]]


def yank(mesh: Mesh, publisher: Node, *arguments: str) -> tuple[int, str, str]:
    done = mesh.run("yank", "stable", "--state", str(publisher.state), *arguments)
    return done.status, done.stdout, done.stderr


def test_back_to_what_was_overwritten_in_place_and_only_a_mirror_has(
    mesh: Mesh, artifacts: Path, good: Path, trust: str
) -> None:
    publisher = mesh.serve(artifacts)
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address)
    mirror.wait_for_head(1)
    overwrite(mesh, artifacts, publisher)
    mirror.wait_for_head(2)
    status, said, errors = yank(mesh, publisher, "--reason", "does not mount its root", "--back-to", "1")
    assert status == 0, errors
    assert "yanked: stable/x86_64 manifest version 2," in said
    assert "published: the content of manifest version 1 as: stable/x86_64" in said
    publisher.wait_for_head(3)
    mirror.wait_for_head(3)
    # The publisher has it from its own store now: the directory still holds what was yanked.
    mirror.stop()
    publisher.stop()
    publisher = mesh.serve(artifacts)
    publisher.wait_for_head(3)
    wait_until(lambda: problems(publisher) == ["directory-yanked"], "the directory was looked at")
    output = mesh.directory / "out"
    done = mesh.fetch(trust, output, publisher.address)
    assert done.status == 0, done.stderr
    assert_same_bytes(output, good)
    listed = mesh.run("yank", "list", "stable", "--state", str(publisher.state))
    lines = [line.split() for line in listed.stdout.splitlines()]
    assert [(line[0], line[4]) for line in lines] == [("3", "in"), ("2", "yanked:"), ("1", "wholly")]
    # Mended, it is published from the directory again.
    write_artifacts(artifacts, seed=3)
    assert mesh.run("publish", "--state", str(publisher.state)).status == 0
    publisher.wait_for_head(4)


def test_nothing_is_yanked_where_nobody_has_it(mesh: Mesh, artifacts: Path, trust: str) -> None:
    publisher = mesh.serve(artifacts)
    overwrite(mesh, artifacts, publisher)
    status, _, errors = yank(mesh, publisher, "--timeout", "1")
    assert status == 3
    assert "initramfs, kernel, rootfs of version" in errors
    assert "nobody is connected" in errors
    assert publisher.heads() == {("stable", "x86_64"): 2}
    assert not problems(publisher)
    document = mesh.directory / "stable.yank"
    status, _, errors = yank(mesh, publisher, "--leave-none", "--prepare", str(document))
    assert status == 0, errors
    assert "it has all signatures that it needs" in errors
    done = mesh.run("yank", "sign", str(document), "--key", str(mesh.directory / "publisher" / "node.toml"))
    assert done.status == 0, done.stderr
    status, said, errors = yank(mesh, publisher, "--leave-none", "--document", str(document))
    assert status == 0, errors
    assert "in force: nothing of stable/x86_64" in said
    assert mesh.run("publish", "--state", str(publisher.state)).status == 2


def test_nobody_boots_what_was_yanked_from_a_mirror(mesh: Mesh, artifacts: Path, trust: str) -> None:
    publisher = mesh.serve(artifacts)
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address)
    mirror.wait_for_head(1)
    status, _, errors = yank(mesh, publisher, "--leave-none", "--reason", "it has a hole")
    assert status == 0, errors
    wait_until(lambda: bool(mirror.status()["withheld"]), "the mirror heard of it")
    arguments = mesh.fetch_arguments(trust, mesh.directory / "out", mirror.address)
    done = mesh.run(*arguments[:-1], "15")  # all of it: somebody else might have something better
    assert done.status != 0
    assert "it has a hole" in done.stdout + done.stderr
    assert not (mesh.directory / "out" / "manifest.json").exists()
