"""Real processes against peers that lie, freeze, or are slow."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from p2pboot.testing.processes import PYTHON, Mesh, environment, first_line
from p2pboot.testing.waiting import HANG_S, wait_until
from tests.integration.images import assert_same_bytes, write_artifacts


def start_liar(mesh: Mesh, honest_state: Path) -> str:
    """A process that serves a copy of an honest node's store, corrupted; its address."""
    state = mesh.directory / "liar-state"
    shutil.copytree(honest_state, state, ignore=shutil.ignore_patterns("control.sock", "lock"))
    log = mesh.directory / "liar.log"
    return first_line(mesh.start([sys.executable, "-m", "tests.integration.liar", str(state)], log), log)


def test_fetch_completes_beside_a_peer_with_corrupt_pieces_and_names_it(mesh: Mesh, tmp_path: Path) -> None:
    artifacts = write_artifacts(tmp_path / "artifacts", rootfs_bytes=12 << 20)
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts, "--max-upload", "4MB/s")  # so that the other one is asked as well
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


def test_a_peer_that_freezes_in_mid_fetch_does_not_hold_it_up(mesh: Mesh, tmp_path: Path) -> None:
    """Both are slowed down so that the fetch is under way when one of them stops."""
    artifacts = write_artifacts(tmp_path / "artifacts", rootfs_bytes=24 << 20)
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts, "--max-upload", "4MB/s")
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address, "--max-upload", "4MB/s")
    mirror.wait_for_head(1)
    output = mesh.directory / "out"
    fetch = start_fetch(mesh, trust, output, publisher.address, mirror.address)
    wait_until(lambda: written(fetch) > 4 << 20 or fetch.poll() is not None, "the fetch is under way")
    mirror.process.send_signal(signal.SIGSTOP)
    _, stderr = fetch.communicate(timeout=HANG_S)  # it ends while the peer is still frozen
    mirror.process.send_signal(signal.SIGCONT)
    assert fetch.returncode == 0, stderr.decode()
    assert_same_bytes(output, artifacts)


def test_two_capped_peers_share_the_work(mesh: Mesh, tmp_path: Path) -> None:
    """How much faster that is, `make bench` says."""
    artifacts = write_artifacts(tmp_path / "artifacts", rootfs_bytes=30 << 20)
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts, "--max-upload", "5MB/s")
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address, "--max-upload", "5MB/s")
    mirror.wait_for_head(1)
    done = mesh.fetch(trust, mesh.directory / "out", publisher.address, mirror.address)
    assert done.status == 0, done.stderr
    received = [done.document["peers"][node.peer_id]["received_bytes"] for node in (publisher, mirror)]
    assert min(received) > sum(received) / 5


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
        str(HANG_S),
        "--json",
    )
    assert done.status == 0, done.stderr
    document = json.loads(done.stdout)
    assert any(provider["peer_id"] == publisher.peer_id for provider in document["providers"])
