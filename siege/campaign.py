"""One siege: windows of time in which attacks go on, and what the node and honest peers met in each."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from p2pboot.testing.processes import Node, environment
from siege.attacks import ATTACKS
from siege.honest import FETCH_PATIENCE_S, Honest, Sample, within
from siege.room import Room

_NICE_TOGETHER = "10"
"""Strangers have machines of their own: here dozens of them must not keep node and honest peers from the processor."""
_SETTLE_S = 2.0  # between an attack's beginning, or its end, and the first figure
_COMING_UP_S = 60.0
_ENDING_S = 30.0
_LATE_S = 21.0  # until the last manifest of a window has come or is given up


@dataclass(frozen=True)
class Window:
    """What was met while one thing went on.

    Args:
        name: of it.
        seconds: it was looked at.
        cpu: seconds of processor time that the node took a second.
        attackers_cpu: the same of the attackers.
        rss_before_mib, rss_mib: memory of the node when it began, and at the most while it went on.
        disk_mib: by how much the node's state grew.
        fetch, http, gossip: honest jobs.
        machine: a moment's work that has nothing to do with the node.
        counts: what attackers tell.
    """

    name: str
    seconds: float
    cpu: float
    attackers_cpu: float
    rss_before_mib: float
    rss_mib: float
    disk_mib: float
    fetch: Sequence[Sample]
    http: Sequence[Sample]
    gossip: Sequence[Sample]
    machine: Sequence[Sample]
    counts: Mapping[str, int]

    @property
    def document(self) -> dict[str, Any]:
        return asdict(self)


def mean(samples: Sequence[Sample]) -> float | None:
    """The mean time of what did not fail; None where there is nothing."""
    times = [sample.took_s for sample in samples if sample.took_s is not None]
    return sum(times) / len(times) if times else None


def typical(samples: Sequence[Sample]) -> float | None:
    """The median time, where a job that failed took longer than any other; None if most failed."""
    times = sorted(float("inf") if sample.took_s is None else sample.took_s for sample in samples)
    middle = median(times) if times else float("inf")
    return None if middle == float("inf") else middle


class Campaign:
    """Lays siege to the node of a room.

    Args:
        room: with the node.
        inside: what the command line of an attacker begins with, where it is on another machine.
    """

    def __init__(self, room: Room, inside: Sequence[str] = ()) -> None:
        self._room = room
        self._inside = inside
        self._honest = Honest(room)
        self.windows: list[Window] = []

    @contextmanager
    def begun(self) -> Iterator[Campaign]:
        """Have honest peers going on."""
        with self._honest.going_on():
            time.sleep(6)  # until gossip has its mesh
            yield self

    def quiet(self, name: str, seconds: float) -> None:
        """Look at the node while nobody attacks it."""
        self._look(name, [], seconds)
        took_s = typical(self.windows[0].fetch)
        if took_s is None:
            raise SystemExit("honest fetches fail while nobody attacks")
        self._honest.fetch_patience_s = max(FETCH_PATIENCE_S, 8 * took_s)

    def attack(self, name: str, attacks: Sequence[str], seconds: float) -> None:
        """Look at the node while these attacks go on."""
        self._look(name, attacks, seconds)

    def _look(self, name: str, attacks: Sequence[str], seconds: float) -> None:
        node = self._room.node
        _say(f"{name} …")
        _check_alive(node)
        disk, before = self._room.state_bytes, node.memory_kib()
        _forget_peak(node)
        with ExitStack() as stack:
            nice = _NICE_TOGETHER if len(attacks) > 1 else "0"
            attackers = [stack.enter_context(self._attacker(one, nice)) for one in attacks]
            for attacker, one in zip(attackers, attacks, strict=True):
                self._await(attacker, one)
            time.sleep(_SETTLE_S)
            start, cpu, theirs = time.time(), node.cpu_s(), _cpu_s(attackers)
            fetches = []
            while time.time() - start < seconds:
                fetches.append(self._honest.fetch_once())
                time.sleep(0.3)
            _check_alive(node)
            end, used, theirs = time.time(), node.cpu_s() - cpu, _cpu_s(attackers) - theirs
            peak, grown = node.peak_memory_kib(), self._room.state_bytes - disk
            told = [_end(attacker) for attacker in attackers]
        self.windows.append(
            Window(
                name=name,
                seconds=end - start,
                cpu=used / (end - start),
                attackers_cpu=theirs / (end - start),
                rss_before_mib=before / 1024,
                rss_mib=peak / 1024,
                disk_mib=grown / (1 << 20),
                fetch=fetches,
                http=within(self._honest.http, start, end),
                gossip=self._gossip(start, end),
                machine=within(self._honest.spins, start, end),
                counts=told[0] if len(told) == 1 else {},
            )
        )
        time.sleep(_SETTLE_S)

    def _gossip(self, start: float, end: float) -> list[Sample]:
        """Manifests sent in this time; those still on their way may come, or not, until they are given up."""
        due = end + _LATE_S
        while time.time() < due:
            samples = within(self._honest.gossip, start, end)
            if samples and time.time() - end > 3 and all(s.took_s is not None for s in samples[-1:]):
                break
            time.sleep(0.2)
        return within(self._honest.gossip, start, end)

    @contextmanager
    def _attacker(self, name: str, nice: str) -> Iterator[subprocess.Popen[bytes]]:
        network = 1 + list(ATTACKS).index(name)
        told = [name, str(self._room.target_file), str(network), nice]
        command = [*self._inside, sys.executable, "-m", "siege.attacker", *told]
        log = self._log(name)
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment()
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            if said := log.read_text():
                _say(f"{name} said: {said}")

    def _await(self, attacker: subprocess.Popen[bytes], name: str) -> None:
        assert attacker.stdout is not None
        ready, _, _ = select.select([attacker.stdout], [], [], _COMING_UP_S)
        if not ready or not attacker.stdout.readline():
            raise SystemExit(f"{name} did not come up: {_tail(self._log(name))}")

    def _log(self, name: str) -> Path:
        return self._room.directory / f"{name}.log"


def _cpu_s(processes: Sequence[subprocess.Popen[bytes]]) -> float:
    """Seconds of processor time that they took so far."""
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _end(process: subprocess.Popen[bytes]) -> dict[str, int]:
    """End an attack and hear what came of it."""
    try:
        said, _ = process.communicate(timeout=_ENDING_S)
        told: dict[str, int] = json.loads(said)
    except (subprocess.TimeoutExpired, ValueError):
        return {"failed": 1}
    return told


def _check_alive(node: Node) -> None:
    if node.process.poll() is not None:
        raise SystemExit(f"the node has ended with status {node.process.returncode}: {_tail(node.log)}")


def _forget_peak(node: Node) -> None:
    """Have the kernel count the node's peak of memory anew."""
    Path(f"/proc/{node.process.pid}/clear_refs").write_text("5")


def _tail(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
