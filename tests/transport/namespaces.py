"""Network namespaces for tests that need interfaces of their own; they take root and iproute2."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_numbers = count()


@contextmanager
def namespace(*commands: str) -> Iterator[list[str]]:
    """Make one, run `ip` commands in it, and give what a command line begins with to run in it.

    It shows its own /sys, as `ip netns exec` mounts it anew. Loopback is up.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("making network namespaces takes root and iproute2")
    name = f"p2pt{os.getpid()}n{next(_numbers)}"
    made = subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
    try:
        for command in ("link set lo up", *commands):
            subprocess.run(["ip", "-n", name, *command.split()], check=True)
        yield ["ip", "netns", "exec", name]
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def run_python(inside: list[str], code: str) -> object:
    """Run code there that prints one JSON value."""
    done = subprocess.run([*inside, sys.executable, "-c", code], check=True, capture_output=True, cwd=_ROOT)
    return json.loads(done.stdout)
