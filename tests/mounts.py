"""Scripts that mount file systems of their own, which nobody else sees and which are gone when they end."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_with_mounts(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount a tmpfs; the test is skipped where this user can not."""
    return _unshared(_way() or pytest.skip("no mount namespaces for this user on this machine"), script)


@functools.cache
def _way() -> tuple[str, ...] | None:
    """How this user comes to a mount namespace; None when there is no way."""
    ways = [("unshare", "--mount"), ("unshare", "--map-root-user", "--mount")]
    for way in ways[os.geteuid() != 0 :]:
        try:
            if _unshared(way, "mount -t tmpfs tmpfs /mnt").returncode == 0:
                return way
        except FileNotFoundError:
            return None
    return None


def _unshared(way: tuple[str, ...], script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*way, "sh", "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
