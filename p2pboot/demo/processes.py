"""The demo's processes: starts p2pboot as a user would, and ends exactly what it started."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pboot.errors import NotFoundError, P2PBootError, machine_error

FIRST_LINE_S: Final = 30.0  # importing libp2p takes 1.5 s; a small machine may be ten times slower
COMMAND_S: Final = 60.0
END_S: Final = 5.0
_PROGRAM: Final = (sys.executable, "-m", "p2pboot")
_INHERITED: Final = str(Path(__file__).parents[2])  # so that a checkout that is not installed works as well


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended: its exit status and what it printed."""

    status: int
    stdout: str
    stderr: str


class Processes:
    """Runs p2pboot commands in one directory; use `processes_in`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: list[subprocess.Popen[bytes]] = []

    def run(self, *arguments: str) -> Finished:
        """Run a command to its end.

        Raises:
            NotFoundError: it does not end.
            MachineError: it can not be started.
        """
        process = self._start(arguments, subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=COMMAND_S)
        except subprocess.TimeoutExpired:
            raise NotFoundError(f"p2pboot {arguments[0]} does not end") from None
        return Finished(process.returncode, out.decode(), err.decode())

    def start_node(self, *arguments: str, log: Path) -> Node:
        """Start `serve` or `mirror` and wait for its address.

        Raises:
            P2PBootError: it ended, or said nothing in time; names its log.
            MachineError: it can not be started.
        """
        with log.open("wb") as errors:
            process = self._start(arguments, errors.fileno())
        assert process.stdout is not None  # noqa: S101 - `_start` asked for a pipe
        ready, _, _ = select.select([process.stdout], [], [], FIRST_LINE_S)
        address = process.stdout.readline().decode().strip() if ready else ""
        if not address:
            raise P2PBootError(f"p2pboot {arguments[0]} did not come up", remedy=f"its log is {log}")
        return Node(process, address)

    def _start(self, arguments: Sequence[str], errors: int) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(filter(None, (_INHERITED, os.environ.get("PYTHONPATH"))))
        try:
            process = subprocess.Popen(
                [*_PROGRAM, *arguments],
                cwd=self._directory,
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        except OSError as error:
            raise machine_error(error, f"start p2pboot {arguments[0]}") from error
        self._running.append(process)
        return process

    def end(self) -> None:
        """End all that still run: asked first, then killed."""
        left = [process for process in self._running if process.poll() is None]
        for process in left:
            process.terminate()
        deadline = time.monotonic() + END_S
        for process in left:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for process in self._running:
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


@dataclass(frozen=True, slots=True)
class Node:
    """A running `serve` or `mirror` and the address that it printed."""

    process: subprocess.Popen[bytes]
    address: str

    def stop(self) -> int:
        """End it in order; returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            raise P2PBootError("a node did not end on SIGTERM") from None


@contextmanager
def processes_in(directory: Path) -> Iterator[Processes]:
    """Processes that are all gone at the end: also on SIGTERM and when the terminal closes."""
    processes = Processes(directory)
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield processes
    finally:
        for number in before:
            signal.signal(number, signal.SIG_IGN)  # nothing may interrupt the ending of the others
        processes.end()
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
