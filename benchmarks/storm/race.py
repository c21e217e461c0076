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
from dataclasses import asdict, dataclass
from math import inf, isfinite
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
        file: where it leaves the image.
        log: where its stderr goes.
        expected: whether it is to be done.
    """

    number: int
    at_s: float
    command: Sequence[str]
    file: Path
    log: Path
    expected: bool = True


@dataclass
class Client:
    """One that was started.

    Args:
        number: of its machine.
        began_s: seconds after the beginning.
        file: where it leaves the image.
        done_s: when it had printed its document; None as long as it has not.
        expected: whether it is to be done; not who was killed on purpose, or only plays along.
        status: its exit status, once it has one.
        cpu_s: what it took, user and system, once it ended.
        peak_bytes: of its memory, likewise.
        document: what it printed.
    """

    number: int
    began_s: float
    file: Path
    done_s: float | None = None
    expected: bool = True
    status: int | None = None
    cpu_s: float = 0.0
    peak_bytes: int = 0
    document: Any = None

    @property
    def took_s(self) -> float:
        """From the start of its command; infinite where it never was done."""
        return inf if self.done_s is None else self.done_s - self.began_s

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"file": self.file.name, "took_s": or_null(self.took_s)}


@dataclass(frozen=True)
class Look:
    """What had gone over all cables at a moment.

    Args:
        at_s: seconds after the beginning.
        moved: since the beginning; by machine's number as text, or by rack.
        busy_s: since the beginning, of all cores together, with anything of this machine.
    """

    at_s: float
    moved: Mapping[str, Moved]
    busy_s: float = 0.0

    def of(self, number: int) -> Moved:
        """What went over one machine's cable."""
        return self.moved.get(str(number), Moved())


@dataclass(frozen=True)
class Seen:
    """A race that is over.

    Args:
        clients: in the order in which they started.
        looks: at all cables, a few each second.
    """

    clients: Sequence[Client]
    looks: Sequence[Look]


def or_null(value: float) -> float | None:
    """As JSON has it: what never came is null."""
    return value if isfinite(value) else None


class Watch:
    """Looks at cables and cores, from one moment on.

    Args:
        moved: what went over the cables so far.
    """

    def __init__(self, moved: Callable[[], Mapping[str, Moved]]) -> None:
        self._moved, self._zero = moved, moved()
        self._busy_s, self._began = _busy_s(), time.monotonic()

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def look(self) -> Look:
        moved = {name: each.since(self._zero.get(name, Moved())) for name, each in self._moved().items()}
        return Look(self.now, moved, _busy_s() - self._busy_s)


def _busy_s() -> float:
    fields = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:8]]
    user, nice, system, _idle, _waiting, irq, softirq = fields
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


class Race:
    """Run clients side by side.

    Args:
        watch: begins with the race.
        referee: is told at each look how far it is, and may end somebody.
        patience_s: after that what is not done is given up.
    """

    def __init__(
        self,
        watch: Watch,
        referee: Callable[[Race, Look], None],
        patience_s: float,
    ) -> None:
        self._watch, self._referee, self._patience_s = watch, referee, patience_s
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._printed: dict[int, bytes] = {}
        self._silent: set[int] = set()
        self._selector = selectors.DefaultSelector()
        self.clients: dict[int, Client] = {}
        self._looks: list[Look] = []

    def run(self, starts: Sequence[Start], directory: Path) -> Seen:
        """Start everybody when due and wait until all are done who are to be; all have ended afterwards."""
        waiting = sorted(starts, key=lambda start: start.at_s)
        look_at = 0.0
        try:
            while (waiting or self._undone()) and (now := self._watch.now) < self._patience_s:
                while waiting and waiting[0].at_s <= now:
                    self._start(waiting.pop(0), directory)
                self._read(min(_TICK_S, max(0.0, waiting[0].at_s - now)) if waiting else _TICK_S)
                if now >= look_at:
                    look_at = now + _SAMPLE_S
                    self._look()
            self._look()
        finally:
            self._end()
        return Seen(list(self.clients.values()), self._looks)

    def kill(self, number: int) -> None:
        """End one at once; nothing is expected of it any more."""
        self.clients[number].expected = False
        self._signal(number, signal.SIGKILL)

    def _undone(self) -> bool:
        return any(
            each.done_s is None and each.expected and each.status is None for each in self.clients.values()
        )

    def _start(self, start: Start, directory: Path) -> None:
        now = self._watch.now
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
        self.clients[start.number] = Client(start.number, now, start.file, expected=start.expected)

    def _read(self, wait_s: float) -> None:
        """Take what clients print, and note who ended; whoever closes its output may still run."""
        for key, _ in self._selector.select(wait_s):
            if came := os.read(key.fd, 65536):
                self._hear(key.data, came)
            else:
                self._selector.unregister(key.fileobj)
                self._silent.add(key.data)
        self._silent -= {number for number in self._silent if self._reap(number, os.WNOHANG)}

    def _hear(self, number: int, came: bytes) -> None:
        client = self.clients[number]
        self._printed[number] += came
        try:
            client.document = json.loads(self._printed[number])
        except ValueError:
            return
        if client.done_s is None and client.document.get("ok", True):
            client.done_s = self._watch.now

    def _look(self) -> None:
        self._looks.append(self._watch.look())
        self._referee(self, self._looks[-1])

    def _end(self) -> None:
        """Ask all to end, and kill who does not."""
        for number in self._processes:
            self._signal(number, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        for number in self._processes:
            while not self._reap(number, os.WNOHANG):
                if time.monotonic() > deadline:
                    self._signal(number, signal.SIGKILL)
                    self._reap(number, 0)
                    break
                time.sleep(_TICK_S)
        self._selector.close()

    def _signal(self, number: int, signal_number: int) -> None:
        """Not `Popen.send_signal`, which would reap it."""
        if self._processes[number].returncode is None:
            os.kill(self._processes[number].pid, signal_number)

    def _reap(self, number: int, options: int) -> bool:
        """Note what one took that ended; False where it still runs."""
        process, client = self._processes[number], self.clients[number]
        if process.returncode is None:
            # Not `wait`, which does not say what the process took.
            pid, status, usage = os.wait4(process.pid, options)
            if not pid:
                return False
            process.returncode = client.status = os.waitstatus_to_exitcode(status)
            client.cpu_s, client.peak_bytes = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
            assert process.stdout is not None
            process.stdout.close()
        return True
