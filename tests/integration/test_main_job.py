"""The main job with real processes: publish, announce, mirror, discover, fetch, verify."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from p2pboot.testing.processes import Mesh
from p2pboot.testing.waiting import wait_until
from tests.integration.images import assert_same_bytes, write_artifacts


def test_client_that_knows_only_the_mirror_gets_the_publishers_bytes(mesh: Mesh, artifacts: Path) -> None:
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address)
    mirror.wait_for_head(1)
    output = mesh.directory / "out"
    done = mesh.fetch(trust, output, mirror.address)
    assert done.status == 0, done.stderr
    assert_same_bytes(output, artifacts)
    manifest = json.loads((output / "manifest.json").read_bytes())
    assert manifest["provider"]["peer_id"] == publisher.peer_id
    assert (output / "manifest.json.sig").exists()


def test_publisher_may_be_gone_before_the_client_comes(mesh: Mesh, artifacts: Path) -> None:
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address)
    mirror.wait_for_head(1)
    assert publisher.stop(signal.SIGTERM) == 0
    done = mesh.fetch(trust, mesh.directory / "out", mirror.address)
    assert done.status == 0, done.stderr
    assert_same_bytes(mesh.directory / "out", artifacts)


@pytest.mark.parametrize("alone", ["gossip", "sync"])
def test_gossip_and_sync_each_deliver_alone(mesh: Mesh, artifacts: Path, alone: str) -> None:
    """The mirror is connected before the second version is published, so that either way has something to carry."""
    configuration = mesh.directory / "node.conf.toml"
    configuration.write_text(
        f"[network]\ngossip = {str(alone == 'gossip').lower()}\nsync = {str(alone == 'sync').lower()}\n"
        "sync_interval = '1s'\n"
    )
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts, "--config", str(configuration))
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address, "--config", str(configuration))
    mirror.wait_for_head(1)
    write_artifacts(artifacts, seed=2)
    assert mesh.run("publish", "--state", str(publisher.state)).status == 0
    mirror.wait_for_head(2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_node_cleanly(mesh: Mesh, artifacts: Path, number: signal.Signals) -> None:
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address)
    mirror.wait_for_head(1)
    for node in (mirror, publisher):
        assert node.stop(number) == 0
        assert "Traceback" not in node.log.read_text()


def test_mirror_finds_a_publisher_that_comes_back(mesh: Mesh, artifacts: Path) -> None:
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    port = publisher.address.split("/")[4]
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address)
    mirror.wait_for_head(1)
    publisher.stop(signal.SIGKILL)
    wait_until(lambda: not mirror.status()["peers"], "the mirror notices the loss")
    write_artifacts(artifacts, seed=3)
    mesh.serve(artifacts, "--listen", f"/ip4/127.0.0.1/tcp/{port}")
    mirror.wait_for_head(2)


def test_a_changed_file_is_published_without_a_restart(mesh: Mesh, artifacts: Path) -> None:
    mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    publisher.wait_for_head(1)
    write_artifacts(artifacts, seed=4)
    publisher.wait_for_head(2)  # ten quiet seconds later


def test_second_fetch_of_the_same_version_downloads_nothing(mesh: Mesh, artifacts: Path) -> None:
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    publisher.wait_for_head(1)
    output = mesh.directory / "out"
    first = mesh.fetch(trust, output, publisher.address)
    assert first.status == 0, first.stderr
    assert first.document["downloaded_bytes"] > 0
    second = mesh.fetch(trust, output, publisher.address)
    assert second.status == 0, second.stderr
    assert second.document["downloaded_bytes"] == 0
    assert_same_bytes(output, artifacts)


def test_foreign_key_is_not_trusted(mesh: Mesh, artifacts: Path) -> None:
    mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    publisher.wait_for_head(1)
    done = mesh.fetch(mesh.new_key("stranger"), mesh.directory / "out", publisher.address)
    assert done.status in (1, 3)
    assert not (mesh.directory / "out" / "kernel").exists()
    assert "Traceback" not in done.stderr


def test_nobody_there_is_status_three(mesh: Mesh) -> None:
    trust = mesh.new_key("publisher")
    arguments = mesh.fetch_arguments(trust, mesh.directory / "out", "/ip4/127.0.0.1/tcp/1")
    done = mesh.run(*arguments[:-1], "3")
    assert done.status == 3, done.stderr
    assert "Traceback" not in done.stderr
