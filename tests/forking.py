"""Processes of the program that are forked from one which has imported it: real ones, without their 1.5 s of imports.

What is forked has its own memory, sockets, signals and end, as one that was started. It differs in what it is seen as
(`/proc/<pid>/cmdline` is the zygote's) and in the memory that it begins with: a test that looks at those, or that is
about the start itself, starts processes with `p2pboot.testing.processes.mesh_in`.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from p2pboot.testing.processes import PYTHON, Mesh, environment
from p2pboot.testing.waiting import HANG_S

_ROOT = Path(__file__).parents[1]


class Zygote:
    """A process that forks for commands; with `network` it has imported what only networked ones need.

    Args:
        directory: its home, and that of commands whose environment nobody says.
        network: whether it imports all there is.
    """

    def __init__(self, directory: Path, *, network: bool) -> None:
        ours, theirs = socket.socketpair()
        what = "network" if network else "offline"
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py")), str(theirs.fileno()), what],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(_ROOT), "HOME": str(directory), "COLUMNS": "100"},
        )
        theirs.close()
        self._connection = ours
        self._lines = ours.makefile("rw")
        self._one_at_a_time = threading.Lock()

    def ask(self, **order: Any) -> dict[str, Any]:
        """Give an order, of those that `tests/zygote.py` knows, and return the answer."""
        with self._one_at_a_time:
            self._lines.write(json.dumps(order) + "\n")
            self._lines.flush()
            answer: dict[str, Any] = json.loads(self._lines.readline())
        return answer

    def close(self) -> None:
        """End it; what it forked has to have ended."""
        self._lines.close()
        self._connection.close()
        assert self._process.wait(HANG_S) == 0


class Forked(subprocess.Popen[bytes]):
    """What `subprocess.Popen` is of a child, of a child of the zygote: only that one can reap it.

    Args:
        zygote: has to have imported what the command needs.
        command: begins with `PYTHON`.
        directory: in which it runs.
        errors: a descriptor that its stderr is appended to.
    """

    def __init__(self, zygote: Zygote, command: Sequence[str], directory: Path, errors: int) -> None:
        self._child_created = False  # for what is inherited: nothing is to be reaped when this object goes
        self.args, self.returncode = command, None
        self.stdin = self.stderr = None
        self._zygote, self._reaping = zygote, threading.Lock()
        self.taken = (0.0, 0.0, 0)
        """Once it has ended: seconds of the user and of the system, and KiB of memory at the most."""
        reading, writing = os.pipe()
        ours = f"/proc/{os.getpid()}/fd"
        self.pid = zygote.ask(
            args=command[len(PYTHON) :],
            cwd=str(directory),
            stdout=f"{ours}/{writing}",
            stderr=f"{ours}/{errors}",
            append=True,
            environment=environment(),
        )["pid"]
        os.close(writing)
        self.stdout = os.fdopen(reading, "rb")
        self._end = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        """Return its exit status, None while it runs."""
        return self.returncode if self._has_ended(0) else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, `timeout` seconds at the most; returns its exit status."""
        if not self._has_ended(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        status: int = self.returncode
        return status

    def communicate(self, input: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Read what it still prints, and wait for its end; it has no input, and its stderr went to a file."""
        assert input is None
        assert self.stdout is not None
        with self.stdout:
            printed = self.stdout.read()
        self.wait(timeout)
        return printed, b""

    def _has_ended(self, timeout: float | None) -> bool:
        with self._reaping:
            if self.returncode is None and select.select([self._end], [], [], timeout)[0]:
                answer = self._zygote.ask(wait=self.pid, block=True)
                self.returncode, self.taken = answer["status"], answer["taken"]
                os.close(self._end)
            return self.returncode is not None


class ForkingMesh(Mesh):
    """A mesh whose nodes and commands are forked; any other command is started as ever."""

    def __init__(self, directory: Path, zygote: Zygote) -> None:
        super().__init__(directory)
        self._zygote = zygote

    def _launch(self, command: Sequence[str], errors: int) -> subprocess.Popen[bytes]:
        if tuple(command[: len(PYTHON)]) != PYTHON:
            return super()._launch(command, errors)
        return Forked(self._zygote, command, self.directory, errors)

    def _reap(self, process: subprocess.Popen[bytes]) -> tuple[float, float, int]:
        if not isinstance(process, Forked):
            return super()._reap(process)
        process.wait()
        return process.taken


@contextmanager
def forking_mesh_in(directory: Path, zygote: Zygote) -> Iterator[ForkingMesh]:
    """Make a mesh whose processes have all ended afterwards."""
    mesh = ForkingMesh(directory, zygote)
    try:
        yield mesh
    finally:
        mesh.end()
