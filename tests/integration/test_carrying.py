"""A release is carried by hand with real processes: from a publisher onto a stick, and from there into other states."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import FreshnessRule, PublishRole
from p2pboot.testing.processes import PYTHON, Mesh, Node
from p2pboot.testing.trustdocs import root_body, signed_root
from p2pboot.testing.waiting import wait_until
from tests.integration.images import assert_same_bytes, write_artifacts
from tests.mounts import run_with_mounts

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


def carry_in(mesh: Mesh, source: Path, state: Path, *trust: str) -> dict[str, Any]:
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


def test_a_medium_that_is_full_or_can_only_be_read(mesh: Mesh, publisher: Node, trust: str) -> None:
    program, state = " ".join(PYTHON), publisher.state
    stick, mirror = mesh.directory / "stick", mesh.directory / "mirror"
    export = f"{program} store export {RELEASE} {stick} --state {state}"
    # With the source named, mount leaves out what the kernel says of it, as an owner whom a user's namespace has not.
    again = f"tmpfs {stick}"
    done = run_with_mounts(
        f"""
        mkdir {stick}
        mount -t tmpfs -o size=1m {again}
        {export}; echo "full: $?"
        test -z "$(ls {stick}/_export 2>/dev/null)" && echo nothing left
        mount -o remount,size=50m {again} && {export} && mount -o remount,ro {again}
        {export}; echo "read-only: $?"
        {program} store import {stick} --trust {trust} --state {mirror}; echo "import: $?"
        mount -o remount,rw,size=100m {again}
        {program} store export {RELEASE} {stick}/new.tar --state {mirror}; echo "carried on: $?"
        """
    )
    for line in ("full: 4", "nothing left", "read-only: 4", "import: 0", "carried on: 0"):
        assert line in done.stdout, done.stdout + done.stderr
    assert "disk full: " in done.stderr
    assert "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr


def test_fat_keeps_all_of_it(mesh: Mesh, publisher: Node, trust: str) -> None:
    """Written to a FAT file system and read back with mtools: names and contents are what they were."""
    if shutil.which("mkfs.vfat") is None or shutil.which("mcopy") is None:
        pytest.skip("no dosfstools or mtools on this machine")
    stick = carry_out(mesh, mesh.directory / "stick", publisher.state)
    image, back = mesh.directory / "fat.img", mesh.directory / "back"
    image.touch()
    os.truncate(image, 64 << 20)
    back.mkdir()
    for command in (
        ["mkfs.vfat", str(image)],
        ["mcopy", "-s", "-i", str(image), *map(str, stick.iterdir()), "::/"],
        ["mcopy", "-s", "-n", "-i", str(image), "::/*", str(back)],
    ):
        subprocess.run(command, check=True, capture_output=True)
    assert carry_in(mesh, back, mesh.directory / "state", "--trust", trust)["unchanged"] is False


def test_through_a_pipe_and_with_what_a_node_that_runs_does_not_take(
    mesh: Mesh, publisher: Node, trust: str
) -> None:
    program = " ".join(PYTHON)
    export = f"{program} store export {RELEASE} - --state {publisher.state}"
    state = mesh.directory / "piped"
    piped = mesh.complete(
        ["sh", "-c", f"{export} | {program} store import - --trust {trust} --state {state}"]
    )
    assert piped.status == 0, piped.stderr
    refused = mesh.complete(["sh", "-c", f"{export} | {program} store import - --state {publisher.state}"])
    assert refused.status == 2
    assert "save the archive to a file first" in refused.stderr
    own = carry_out(mesh, mesh.directory / "own.tar", publisher.state)
    refused = mesh.run("store", "import", str(own), "--state", str(publisher.state))
    assert refused.status == 2
    assert "is published with this state" in refused.stderr


def test_without_a_home_or_in_somebody_elses_state_it_says_what_to_do(
    mesh: Mesh, publisher: Node, trust: str
) -> None:
    stick = carry_out(mesh, mesh.directory / "stick.tar", publisher.state)
    program = " ".join(PYTHON)
    others = mesh.directory / "others"
    others.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(others, 12345, 12345)
        refused = mesh.run("store", "import", str(stick), "--trust", trust, "--state", str(others))
        assert refused.status == 4, refused.stderr
        assert "belongs to user 12345" in refused.stderr
    # Nobody whom the system knows; he may read, since the checkout can be where only root looks.
    somebody = "setpriv --reuid 12346 --inh-caps +dac_read_search --ambient-caps +dac_read_search"
    for command in (f"store import {stick} --trust {trust}", "store usage", f"store export {RELEASE} x"):
        done = mesh.complete(["sh", "-c", f"cd / && HOME= XDG_STATE_HOME= {somebody} {program} {command}"])
        if "setpriv" in done.stderr:
            pytest.skip("no setpriv for this user")
        assert done.status in (2, 4), done.stderr
        assert "Traceback" not in done.stderr


def test_what_a_node_is_fetching_it_takes_from_a_stick_all_the_same(
    mesh: Mesh, publisher: Node, trust: str
) -> None:
    """What came already over a slow line is kept, and the rest comes from the stick."""
    stick = carry_out(mesh, mesh.directory / "stick", publisher.state)
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address, "--max-download", "100kB/s")

    def is_under_way() -> bool:
        return any(path.stat().st_blocks for path in (mirror.state / "partial").glob("*"))

    wait_until(is_under_way, "something came over the line")
    publisher.freeze()  # or all of it has come before the commands below have begun
    planned = mesh.run("store", "gc", "--state", str(mirror.state), "--json")
    assert planned.document["garbage"] == []
    assert is_under_way()
    imported = carry_in(mesh, stick, mirror.state)
    assert mirror.heads() == {("stable", "x86_64"): 1}
    assert imported["size"] > imported["read_bytes"]


def fleet_of(mesh: Mesh, publisher: str, fresh: str) -> Path:
    """A root that names them, and takes nothing without a freshness statement."""
    now = int(time.time())
    rule = FreshnessRule((fresh,), required=True)
    body = root_body(
        created_at=now - 60,
        expires_at=now + 86_400,
        publish=(PublishRole((publisher,), channels=("stable",), freshness=rule),),
    )
    path = mesh.directory / "root.json"
    path.write_bytes(signed_root(body).raw)
    return path


def test_what_says_whether_it_is_to_be_believed_is_carried_with_it(
    mesh: Mesh, artifacts: Path, trust: str
) -> None:
    """A mirror that knows the root, and nobody: without the statement on the stick it would take nothing."""
    root = fleet_of(mesh, trust, mesh.new_key("vouching"))
    vouching = str(mesh.directory / "vouching" / "node.toml")
    publisher = mesh.serve(artifacts, "--root", str(root), "--freshness-key", vouching)
    publisher.wait_for_head(1)
    stick = mesh.directory / "stick"
    carried = (carry_out(mesh, stick, publisher.state) / "_export").glob("*.json")
    assert {path.name for path in carried} == {"export.json", "roots-0.json", "freshness-0.json"}
    digest = f"sha256:{Root.parse(root.read_bytes()).digest}"
    state = mesh.directory / "alone"
    imported = carry_in(mesh, stick, state, "--root", digest)
    assert imported["documents"] == {"roots": {"news": 1}, "freshness": {"news": 1}}
    state = mesh.directory / "mirror" / "state"
    (mesh.directory / "mirror").mkdir()
    config = mesh.directory / "mirror.toml"
    config.write_text(f'[[trust]]\nroot = "{digest}"\n')
    places = ["--key", str(state.parent / "node.toml"), "--state", str(state), "--config", str(config)]
    network = ["--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"]
    command = [*PYTHON, "mirror", *places, *network, "--channel", "stable", "--arch", "x86_64"]
    mirror = mesh.node(command, state=state, log=state.parent / "log")
    other = mesh.run("store", "import", str(stick), "--state", str(state), "--root", "sha256:" + "ab" * 32)
    assert other.status == 2, other.stderr
    carry_in(mesh, stick, state, "--root", str(root))
    assert mirror.heads() == {("stable", "x86_64"): 1}
    assert carry_in(mesh, stick, state, "--root", digest)["unchanged"] is True
