"""A fetch that is killed at any moment resumes, fetches little twice, and never leaves a wrong byte at the end."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from p2pboot.testing.processes import Mesh
from p2pboot.testing.waiting import HANG_S, wait_until
from tests.integration.images import FINAL_NAMES, write_artifacts
from tests.integration.test_bad_peers import start_fetch, written

KILLS = int(os.environ.get("P2PBOOT_KILLS", "10"))
IN_FLIGHT_BYTES = 32 << 20  # what a fetch keeps outstanding at most; a kill can not lose more
OTHER_WRITES_BYTES = 1 << 20  # what one run writes besides artifacts: SQLite's journal, messages
ROOTFS_BYTES = 100 << 20


def test_killed_fetches_resume(mesh: Mesh, tmp_path: Path) -> None:
    """Each run takes up what the killed one before it left; one that comes to its end is checked, then all anew."""
    artifacts = write_artifacts(tmp_path / "artifacts", rootfs_bytes=ROOTFS_BYTES)
    total = sum(path.stat().st_size for path in artifacts.rglob("*") if path.is_file())
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    publisher.wait_for_head(1)
    chance = random.Random(20261122)
    output = mesh.directory / "out"
    kills = killed_in_a_row = stored = 0
    while kills < KILLS or killed_in_a_row > 0:
        fetch = start_fetch(mesh, trust, output, publisher.address)
        if kills < KILLS:
            moment = random_moment(chance, fetch, output, total // 3)
            wait_until(lambda: fetch.poll() is not None or moment(), "a moment to kill", every_s=0.002)  # noqa: B023
            if fetch.poll() is None:
                stored += max(0, written(fetch) - OTHER_WRITES_BYTES)
                fetch.kill()
        stdout, stderr = fetch.communicate(timeout=HANG_S)
        assert_nothing_wrong(output, artifacts)
        if fetch.returncode < 0:
            kills, killed_in_a_row = kills + 1, killed_in_a_row + 1
            continue
        assert fetch.returncode == 0, stderr.decode()
        assert all((output / name).exists() for name in FINAL_NAMES)
        result = json.loads(stdout)
        assert result["downloaded_bytes"] <= max(0, total - stored) + killed_in_a_row * IN_FLIGHT_BYTES
        assert result["wasted_bytes"] == 0
        shutil.rmtree(output)
        killed_in_a_row = stored = 0


def random_moment(
    chance: random.Random, fetch: subprocess.Popen[bytes], output: Path, most_bytes: int
) -> Callable[[], bool]:
    """Now, after some bytes, or when the first file, or the last one, just got its final name."""
    limit = chance.randrange(most_bytes)
    return chance.choice(
        [
            lambda: written(fetch) > 0,
            lambda: written(fetch) >= limit,
            lambda: written(fetch) >= limit,
            lambda: written(fetch) >= limit,
            lambda: any((output / name).exists() for name in FINAL_NAMES),
            (output / "manifest.json").exists,
        ]
    )


def assert_nothing_wrong(output: Path, artifacts: Path) -> None:
    """Whatever is there under a final name is whole and right, and a manifest stands only beside a whole set."""
    for final, source in FINAL_NAMES.items():
        path = output / final
        if path.exists():
            assert path.read_bytes() == (artifacts / "stable" / "x86_64" / source).read_bytes(), final
        assert path.exists() or not (output / "manifest.json").exists()
