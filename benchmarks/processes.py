"""Processes of a benchmark: what is measured runs in its own, so that neither memory nor a busy core is shared.

What is started here is ended here. The measuring process itself stays small: Linux counts its memory at the
moment of starting towards the peak of the child.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ("-m", "p2pboot")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Finished:
    """A process that ended well: what it printed, its processor time (user and system) and its peak memory."""

    document: Any
    cpu_s: float
    peak_bytes: int


class Server:
    """A process that runs until it is ended; what it printed first is its address."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.address = address
        self._pid = process.pid

    def cpu_s(self) -> float:
        """Seconds of processor time so far, in steps of a hundredth."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def stop(self) -> None:
        """Freeze the process: it keeps its connections and says nothing."""
        os.kill(self._pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def peak_bytes(self) -> int:
        return int(_status(self._pid, "VmHWM:")) * 1024


@contextmanager
def server(arguments: Sequence[str]) -> Iterator[Server]:
    """Run a Python process with these arguments and wait for its first line."""
    with tempfile.TemporaryFile("w+") as errors:
        process = _start(arguments, errors)
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            if not address:
                raise SystemExit(_failure(arguments, errors))
            yield Server(process, address)
        finally:
            process.send_signal(signal.SIGCONT)  # a frozen one would not see the next
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def run(arguments: Sequence[str]) -> Finished:
    """Run a Python process that prints one JSON document, to its end."""
    with tempfile.TemporaryFile("w+") as errors:
        process = _start(arguments, errors)
        assert process.stdout is not None
        with process.stdout:
            text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(_failure(arguments, errors) + text)
    return Finished(json.loads(text or "null"), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def own_peak_bytes() -> int:
    return int(_status("self", "VmHWM:")) * 1024


def _start(arguments: Sequence[str], errors: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        cwd=ROOT,
    )


def _status(pid: int | str, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(name))


def _failure(arguments: Sequence[str], errors: Any) -> str:
    errors.seek(0)
    return f"`python {' '.join(arguments)}` failed:\n{errors.read()}"
