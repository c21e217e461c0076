"""The clients of one run: started when they are due, looked at while they run, ended, and what each came to.

A client is done when what it printed is one JSON document, whatever it does afterwards. One loop in one thread, so that
the processors are left to those who are measured.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.lab import Moved
from p2pboot.testing.processes import environment

_TICK_S: Final = 0.05
_SAMPLE_S: Final = 0.25
_GRACE_S: Final = 5.0


@dataclass(frozen=True)
class Start:
    """What is to run.

    Args:
        number: of its machine.
        at_s: seconds after the beginning.
        command: with all that leads onto the machine.
        log: where its stderr goes.
    """

    number: int
    at_s: float
    command: Sequence[str]
    log: Path


@dataclass
class Client:
    """One that was started.

    Args:
        number: of its machine.
        began_s: seconds after the beginning.
        done_s: when it had printed its document; None as long as it has not.
        ended: whether it was killed on purpose, so that nothing is expected of it.
        status: its exit status, once it has one.
        cpu_s: what it took, user and system, once it ended.
        peak_bytes: of its memory, likewise.
        document: what it printed.
        received: (seconds after the beginning, bytes that came over its cable), a few each second.
        sent: likewise what went out.
    """

    number: int
    began_s: float
    done_s: float | None = None
    ended: bool = False
    status: int | None = None
    cpu_s: float = 0.0
    peak_bytes: int = 0
    document: Any = None
    received: list[tuple[float, int]] = field(default_factory=list)
    sent: list[tuple[float, int]] = field(default_factory=list)

    @property
    def took_s(self) -> float:
        """From the start of its command; infinite where it never was done."""
        return float("inf") if self.done_s is None else self.done_s - self.began_s


class Race:
    """Run clients side by side.

    Args:
        moved: looks at all cables.
        referee: is told at each look how far it is (seconds, bytes by machine), and may end somebody.
        patience_s: after that what is not done is given up.
    """

    def __init__(
        self,
        moved: Callable[[], Mapping[str, Moved]],
        referee: Callable[[Race, float, Mapping[str, Moved]], None],
        patience_s: float,
    ) -> None:
        self._moved, self._referee, self._patience_s = moved, referee, patience_s
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._printed: dict[int, bytes] = {}
        self._selector = selectors.DefaultSelector()
        self._zero: Mapping[str, Moved] = {}
        self.clients: dict[int, Client] = {}

    def run(self, starts: Sequence[Start], directory: Path) -> list[Client]:
        """Start everybody when due and wait until all are done who are to be; all have ended afterwards."""
        waiting = sorted(starts, key=lambda start: start.at_s)
        self._zero = self._moved()
        began, looked_at = time.monotonic(), 0.0
        try:
            while waiting or self._undone():
                now = time.monotonic() - began
                if now > self._patience_s:
                    break
                while waiting and waiting[0].at_s <= now:
                    self._start(waiting.pop(0), directory, time.monotonic() - began)
                self._read(began, min(_TICK_S, max(0.0, waiting[0].at_s - now)) if waiting else _TICK_S)
                if (now := time.monotonic() - began) >= looked_at:
                    looked_at = now + _SAMPLE_S
                    self._look(now)
            self._look(time.monotonic() - began)
        finally:
            self._end()
        return [self.clients[start.number] for start in starts if start.number in self.clients]

    def kill(self, number: int) -> None:
        """End one at once; nothing is expected of it any more."""
        self.clients[number].ended = True
        self._processes[number].send_signal(signal.SIGKILL)

    def _undone(self) -> bool:
        return any(
            each.done_s is None and not each.ended and each.status is None for each in self.clients.values()
        )

    def _start(self, start: Start, directory: Path, now: float) -> None:
        with start.log.open("ab") as log:
            process = subprocess.Popen(
                start.command,
                cwd=directory,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._selector.register(process.stdout, selectors.EVENT_READ, start.number)
        self._processes[start.number], self._printed[start.number] = process, b""
        self.clients[start.number] = Client(start.number, now)

    def _read(self, began: float, wait_s: float) -> None:
        for key, _ in self._selector.select(wait_s):
            number, client = key.data, self.clients[key.data]
            came = os.read(key.fd, 65536)
            if not came:
                self._selector.unregister(key.fileobj)
                self._reap(number)
                continue
            self._printed[number] += came
            if client.done_s is None:
                try:
                    client.document = json.loads(self._printed[number])
                except ValueError:
                    continue
                client.done_s = time.monotonic() - began

    def _look(self, now: float) -> None:
        moved = self._moved()
        since = {
            name: Moved(each.sent - self._zero[name].sent, each.received - self._zero[name].received)
            for name, each in moved.items()
        }
        for client in self.clients.values():
            if each := since.get(str(client.number)):
                client.received.append((now, each.received))
                client.sent.append((now, each.sent))
        self._referee(self, now, since)

    def _end(self) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        for number in self._processes:
            self._reap(number, deadline)
        self._selector.close()

    def _reap(self, number: int, deadline: float = float("inf")) -> None:
        """Wait for one that was told to end, or closed what it prints to, and note what it took."""
        process, client = self._processes[number], self.clients[number]
        if process.returncode is not None:
            return
        while True:
            late = time.monotonic() > deadline
            if late:
                process.kill()
            # Not `wait`, which does not say what the process took.
            pid, status, usage = os.wait4(
                process.pid, os.WNOHANG if deadline < float("inf") and not late else 0
            )
            if pid:
                break
            time.sleep(_TICK_S)
        process.returncode = client.status = os.waitstatus_to_exitcode(status)
        client.cpu_s, client.peak_bytes = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
        assert process.stdout is not None
        process.stdout.close()
