"""What `tests/conftest.py` promises every test, tried on tests that break it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_BEHIND = {
    "directory": "os.chdir('/')",
    "environment": "os.environ['LEFT'] = 'behind'",
    "umask": "os.umask(0o123)",
    "signals": "signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
    "path": "sys.path.insert(0, '/nowhere')",
}
PUT_BACK = {
    "level": "logging.getLogger('p2pboot').setLevel(logging.CRITICAL)",
    "command": "from p2pboot.cli import logs; logs.configure(verbose=False, quiet=True)",
    "interval": "sys.setswitchinterval(0.7)",
}
THEM = """
import logging, os, signal, sys

first = []

def state():
    own = logging.getLogger("p2pboot")
    return own.level, logging.root.level, list(logging.root.handlers), sys.getswitchinterval()
"""


def run_tests(directory: Path, bodies: Mapping[str, str]) -> str:
    """Run tests of these names in their order; what the runner says."""
    tests = "".join(f"\ndef test_{name}():\n    {body}\n" for name, body in bodies.items())
    (directory / "test_them.py").write_text(THEM + tests)
    plugins = ["-p", "tests.conftest", "-p", "no:randomly", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins, "test_them.py"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_who_leaves_something_behind_fails_himself(tmp_path: Path) -> None:
    said = run_tests(tmp_path, LEFT_BEHIND | {"last": "pass"})
    for name in LEFT_BEHIND:
        assert f"ERROR test_them.py::test_{name} " in said, said
    assert f"{len(LEFT_BEHIND) + 1} passed, {len(LEFT_BEHIND)} errors" in said


def test_what_the_program_changes_on_purpose_is_put_back(tmp_path: Path) -> None:
    bodies = {"before": "first.append(state())"}
    for name, change in PUT_BACK.items():
        bodies[name] = f"{change}; assert state() != first[0]"
        bodies[f"after_{name}"] = "assert state() == first[0]"
    said = run_tests(tmp_path, bodies)
    assert f"{len(bodies)} passed" in said, said
