"""What a node lives through: hundreds of connections, garbage on every protocol, and artifacts larger than memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pboot.testing.processes import PYTHON, Mesh, environment, mesh_in
from p2pboot.testing.waiting import HANG_S
from tests.integration.images import assert_same_bytes, write_artifacts

FLAT_KIB = 24 * 1024
PEAK_KIB = 200 * 1024


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    """Not forked: the memory of these is their own from the first byte."""
    with mesh_in(tmp_path) as mesh:
        yield mesh


def attack(mesh: Mesh, what: str, address: str, count: int) -> None:
    """Run the attacker as a process of its own, as a stranger would be."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.attacker", what, address, str(count)],
        cwd=mesh.directory,
        env=environment(),
        capture_output=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


def test_hundreds_of_connections_and_garbage_leave_a_serving_node_with_flat_memory(
    mesh: Mesh, artifacts: Path
) -> None:
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    publisher.wait_for_head(1)
    attack(mesh, "connect", publisher.address, 50)  # what is allocated once is allocated now
    attack(mesh, "garbage", publisher.address, 2)
    before = publisher.memory_kib()
    attack(mesh, "connect", publisher.address, 250)
    attack(mesh, "garbage", publisher.address, 5)
    assert publisher.memory_kib() - before < FLAT_KIB
    done = mesh.fetch(trust, mesh.directory / "out", publisher.address)
    assert done.status == 0, done.stderr
    assert_same_bytes(mesh.directory / "out", artifacts)
    assert "Traceback" not in publisher.log.read_text()


def test_half_a_gigabyte_takes_little_memory(mesh: Mesh, tmp_path: Path) -> None:
    artifacts = write_artifacts(tmp_path / "artifacts", rootfs_bytes=512 << 20)
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    publisher.wait_for_head(1)
    output = mesh.directory / "out"
    timed = subprocess.run(
        [
            sys.executable,
            "-c",
            "import resource, subprocess, sys; status = subprocess.call(sys.argv[1:], stdout=sys.stderr);"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(status)",
            *PYTHON,
            *mesh.fetch_arguments(trust, output, publisher.address),
        ],
        cwd=mesh.directory,
        env=environment(),
        capture_output=True,
        timeout=HANG_S,
        check=False,
    )
    assert timed.returncode == 0, timed.stderr.decode()
    assert_same_bytes(output, artifacts)
    assert int(timed.stdout) <= PEAK_KIB, "client"
    assert publisher.peak_memory_kib() <= PEAK_KIB, "server"
