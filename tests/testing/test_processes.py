"""Processes of the program: what is started is ended, and what it took is known."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from p2pboot.errors import MachineError, NotFoundError
from p2pboot.testing.processes import Processes

SLEEPS = [sys.executable, "-c", "import signal, sys; print('here', flush=True); signal.pause()"]


def test_a_command_that_does_not_end_is_killed_and_named(tmp_path: Path) -> None:
    processes = Processes(tmp_path, patience_s=0.0)
    with pytest.raises(NotFoundError, match=r"signal\.pause.*does not end"):
        processes.complete(SLEEPS)


def test_a_command_that_is_not_there_is_the_machines_fault(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="start absent"):
        Processes(tmp_path).complete(["absent"])


def test_what_a_command_printed_and_took_is_its_own(tmp_path: Path) -> None:
    code = "import sys; taken = bytearray(100 << 20); print('[1]'); sys.exit('one\\ntwo')"
    done = Processes(tmp_path).complete([sys.executable, "-c", code])
    assert (done.status, done.document, done.last_line) == (1, [1], "two")
    assert done.peak_bytes > 100 << 20
    assert done.cpu_s > 0


@pytest.mark.parametrize("grace_s", [0.0, 5.0])
def test_all_are_gone_at_the_end_even_a_frozen_one(tmp_path: Path, grace_s: float) -> None:
    processes = Processes(tmp_path, grace_s=grace_s)
    nodes = [processes.node(SLEEPS, state=tmp_path, log=tmp_path / "log") for _ in range(2)]
    assert nodes[0].address == "here"
    nodes[1].freeze()
    processes.end()
    number = signal.SIGTERM if grace_s else signal.SIGKILL
    assert [node.process.poll() for node in nodes] == [-number, -number]
    with pytest.raises(ProcessLookupError):
        os.kill(nodes[1].process.pid, 0)
