"""Real processes against peers that lie, freeze, or are slow."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.processes import (
    DEADLINE_S,
    PYTHON,
    Mesh,
    assert_same_bytes,
    environment,
    first_line,
    wait_until,
    write_artifacts,
)


def start_liar(mesh: Mesh, honest_state: Path) -> str:
    """A process that serves a copy of an honest node's store, corrupted; its address."""
    state = mesh.directory / "liar-state"
    shutil.copytree(honest_state, state, ignore=shutil.ignore_patterns("control.sock", "lock"))
    log = mesh.directory / "liar.log"
    return first_line(mesh.start([sys.executable, "-m", "tests.integration.liar", str(state)], log), log)


def test_fetch_completes_beside_a_peer_with_corrupt_pieces_and_names_it(mesh: Mesh, tmp_path: Path) -> None:
    artifacts = write_artifacts(tmp_path / "artifacts", rootfs_bytes=12 << 20)
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address)
    mirror.wait_for_head(1)
    mirror.stop()
    liar = start_liar(mesh, mirror.state)
    done = mesh.fetch(trust, mesh.directory / "out", liar, publisher.address)
    assert done.status == 0, done.stderr
    assert_same_bytes(mesh.directory / "out", artifacts)
    liar_id = liar.rpartition("/p2p/")[2]
    assert liar_id in done.document["dropped_peers"]
    assert publisher.peer_id not in done.document["dropped_peers"]


def test_only_a_corrupt_peer_leaves_nothing_under_a_final_name(mesh: Mesh, artifacts: Path) -> None:
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address)
    mirror.wait_for_head(1)
    mirror.stop()
    publisher.stop()
    liar = start_liar(mesh, mirror.state)
    output = mesh.directory / "out"
    done = mesh.fetch(trust, output, liar)
    assert done.status == 1, done.stderr
    assert liar.rpartition("/p2p/")[2] in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in output.iterdir() if not path.name.startswith(".")] == []


@pytest.mark.alone
def test_a_peer_that_freezes_in_mid_fetch_costs_little(mesh: Mesh, tmp_path: Path) -> None:
    """Both are slowed down so that the fetch is under way when one of them stops."""
    artifacts = write_artifacts(tmp_path / "artifacts", rootfs_bytes=24 << 20)
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts, "--max-upload", "4MB/s")
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address, "--max-upload", "4MB/s")
    mirror.wait_for_head(1)
    output = mesh.directory / "out"
    fetch = start_fetch(mesh, trust, output, publisher.address, mirror.address)
    wait_until(lambda: written(fetch) > 4 << 20, "the fetch is under way")
    mirror.process.send_signal(signal.SIGSTOP)
    left = 26 * (1 << 20) - written(fetch)
    began = time.monotonic()
    stdout, stderr = fetch.communicate(timeout=DEADLINE_S)
    took = time.monotonic() - began
    mirror.process.send_signal(signal.SIGCONT)
    assert fetch.returncode == 0, stderr.decode()
    assert_same_bytes(output, artifacts)
    assert took < left / 4e6 + 5, stdout  # at the other's pace, and less than five seconds lost


@pytest.mark.alone
def test_two_capped_peers_are_nearly_twice_as_fast_as_one(mesh: Mesh, tmp_path: Path) -> None:
    artifacts = write_artifacts(tmp_path / "artifacts", rootfs_bytes=30 << 20)
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts, "--max-upload", "5MB/s")
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address, "--max-upload", "5MB/s")
    mirror.wait_for_head(1)

    def transfer_s(name: str, *peers: str) -> float:
        done = mesh.fetch(trust, mesh.directory / name, *peers)
        assert done.status == 0, done.stderr
        return float(done.document["transfer_s"])

    alone = transfer_s("one", publisher.address)
    together = transfer_s("two", publisher.address, mirror.address)
    assert alone / together >= 1.7


def start_fetch(mesh: Mesh, trust: str, output: Path, *peers: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*PYTHON, *mesh.fetch_arguments(trust, output, *peers)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=mesh.directory,
        env=environment(),
    )


def written(process: subprocess.Popen[bytes]) -> int:
    """Bytes that a process has written to files so far."""
    try:
        lines = Path(f"/proc/{process.pid}/io").read_text().splitlines()
    except (PermissionError, ProcessLookupError):  # it just ended; only root may look at it then
        return 0
    for line in lines:
        if line.startswith("wchar:"):
            return int(line.split()[1])
    raise AssertionError("no wchar")


def test_json_is_one_document(mesh: Mesh, artifacts: Path) -> None:
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    publisher.wait_for_head(1)
    done = mesh.run(
        "discover",
        "--bootstrap",
        publisher.address,
        "--trust",
        trust,
        "--no-mdns",
        "--timeout",
        "5",
        "--json",
    )
    assert done.status == 0, done.stderr
    document = json.loads(done.stdout)
    assert any(provider["peer_id"] == publisher.peer_id for provider in document["providers"])
