"""The demo's processes: all are gone at the end, also on SIGTERM and when the terminal closes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from p2pboot.testing.processes import Processes

PATIENCE_S: Final = 60.0  # importing libp2p takes 1.5 s; a small machine may be ten times slower
END_S: Final = 5.0


@contextmanager
def processes_in(directory: Path) -> Iterator[Processes]:
    """Make the processes of a directory, and end what still runs afterwards."""
    processes = Processes(directory, patience_s=PATIENCE_S, grace_s=END_S)
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
