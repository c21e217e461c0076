"""One row, run by one contestant: a lab, the holders, the race, and what it came to."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final

from benchmarks import processes
from benchmarks.lab import Lab, Moved
from benchmarks.sample import ARCH, CHANNEL
from benchmarks.storm.contestants import CONTESTANTS, Contestant
from benchmarks.storm.race import Client, Race, Start
from benchmarks.storm.rows import Row
from p2pboot.testing.artifacts import write_image

_SMALL: Final = 4096
_IMAGE: Final = "rootfs.squashfs"
_PATIENCE: Final = 25.0  # units
_PATIENCE_S: Final = 120.0


@dataclass(frozen=True)
class Outcome:
    """What one run came to; times and bytes are told in the row's units.

    Args:
        contestant: who ran.
        row: what.
        clients: each of them, in the order in which they started.
        copies: by the holders' counters; None where they do not count.
        egress: what left the holders' machines, with all headers, in sizes of the image.
        cpu_s: of all processes, user and system, from their starts to their ends.
        busy: share of both cores that was busy with anything, during the race.
        own: share of both cores that these processes took, over the race.
        holder_peak_bytes: of the memory of the largest holder.
        into_racks: copies that went over each uplink into a rack.
        wrong: numbers of clients whose file is not the image, or not there, though it was to be.
    """

    contestant: str
    row: Row
    clients: Sequence[Client]
    copies: float | None
    egress: float
    cpu_s: float
    busy: float
    own: float
    holder_peak_bytes: int
    into_racks: Sequence[float] = ()
    wrong: Sequence[int] = field(default=())

    @property
    def finishers(self) -> list[Client]:
        """Those of whom it was expected."""
        return [client for client in self.clients if not client.ended]

    @property
    def last(self) -> float:
        return max(client.took_s for client in self.finishers) / self.row.unit_s

    @property
    def mean(self) -> float:
        took = [client.took_s for client in self.finishers]
        return sum(took) / len(took) / self.row.unit_s

    @property
    def start_s(self) -> float | None:
        """What clients took before their transfers began, and after; the mean. None where they do not tell."""
        told = [client for client in self.finishers if client.document and "transfer_s" in client.document]
        spent = [client.took_s - client.document["transfer_s"] for client in told]
        return sum(spent) / len(spent) if spent else None

    def to_json(self) -> dict[str, Any]:
        return {
            "contestant": self.contestant,
            "row": asdict(self.row),
            "last": self.last,
            "mean": self.mean,
            "start_s": self.start_s,
            "bound": self.row.bound,
            "copies": self.copies,
            "egress": self.egress,
            "cpu_s": self.cpu_s,
            "busy": self.busy,
            "own": self.own,
            "holder_peak_bytes": self.holder_peak_bytes,
            "into_racks": list(self.into_racks),
            "wrong": list(self.wrong),
            "clients": [
                asdict(client) | {"took": client.took_s / self.row.unit_s} for client in self.clients
            ],
        }


def run(name: str, row: Row) -> Outcome:
    """Run a row once.

    Args:
        name: of the contestant.
        row: what is to be run.
    """
    with tempfile.TemporaryDirectory(prefix="p2pboot-storm-") as scratch, Lab().open() as lab:
        directory = Path(scratch)
        image = _write_image(directory, row)
        _build(lab, row)
        with processes.mesh_in(directory) as mesh:
            contestant = CONTESTANTS[name](lab, mesh, image)
            contestant.begin(row)
            for number in range(1, row.holders + 1):
                lab.cap(number, row.holder_link)
            return _race(contestant, row, lab, image)


def _write_image(directory: Path, row: Row) -> Path:
    """The image is one large file; what else a manifest has to name is small."""
    leaf = directory / "artifacts" / CHANNEL / ARCH
    sizes = {"vmlinuz": _SMALL, "initramfs.img": _SMALL, _IMAGE: row.size}
    return write_image(leaf, sizes) / _IMAGE


def _build(lab: Lab, row: Row) -> None:
    for rack in range(1, row.racks + 1):
        lab.rack(rack, row.holder_link)
    for number in range(1, row.holders + 1):
        lab.machine(number)
    for number in _clients(row):
        rack = 1 + (number - row.holders - 1) * row.racks // row.clients if row.racks else 0
        lab.machine(number, row.client_link, rack=rack)


def _clients(row: Row) -> range:
    return range(row.holders + 1, row.holders + row.clients + 1)


def _race(contestant: Contestant, row: Row, lab: Lab, image: Path) -> Outcome:
    directory = image.parents[3]
    starts = [
        Start(number, place * row.every_s, contestant.command(number), directory / f"log{number}")
        for place, number in enumerate(_clients(row))
    ]
    race = Race(lab.moved, _Referee(row, contestant), _PATIENCE_S + _PATIENCE * row.unit_s)
    moved_before, busy_before, began = lab.moved(), _busy_s(), time.monotonic()
    clients = race.run(starts, directory)
    elapsed_s, moved, busy_s = time.monotonic() - began, lab.moved(), _busy_s() - busy_before
    holders = [node for node in contestant.nodes() if node.process.poll() is None]
    cpu_s = sum(client.cpu_s for client in clients) + sum(node.cpu_s() for node in holders)
    cores = os.cpu_count() or 1
    sent = [_since(moved, moved_before, str(number)).sent for number in range(1, row.holders + 1)]
    uplinks = [_since(moved, moved_before, f"rack{rack}").received for rack in range(1, row.racks + 1)]
    return Outcome(
        contestant=contestant.name,
        row=row,
        clients=clients,
        copies=contestant.copies(row) if holders else None,
        egress=sum(sent) / row.size,
        cpu_s=cpu_s,
        busy=busy_s / (elapsed_s * cores),
        own=cpu_s / (elapsed_s * cores),
        holder_peak_bytes=max((node.peak_memory_kib() * 1024 for node in holders), default=0),
        into_racks=[size / row.size for size in uplinks],
        wrong=_wrong(contestant, clients, image),
    )


def _wrong(contestant: Contestant, clients: Sequence[Client], image: Path) -> list[int]:
    wanted = _digest(image)
    return [
        client.number
        for client in clients
        if (client.done_s is not None and _digest(contestant.file(client.number)) != wanted)
        or (client.done_s is None and not client.ended)
    ]


def _digest(file: Path) -> str:
    if not file.exists():
        return ""
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


class _Referee:
    """Ends whom the row says, when it says."""

    def __init__(self, row: Row, contestant: Contestant) -> None:
        self._row, self._contestant = row, contestant
        self._to_kill = list(_clients(row))[: round(row.clients * row.killed)]

    def __call__(self, race: Race, _now: float, moved: Mapping[str, Moved]) -> None:
        if self._row.stop_at is not None and moved["1"].sent >= self._row.stop_at * self._row.size:
            self._contestant.nodes()[0].process.kill()
        for number in list(self._to_kill):
            if number in race.clients and moved[str(number)].received >= self._row.size / 2:
                race.kill(number)
                self._to_kill.remove(number)


def _since(now: Mapping[str, Moved], before: Mapping[str, Moved], name: str) -> Moved:
    zero = before.get(name, Moved())
    return Moved(now[name].sent - zero.sent, now[name].received - zero.received)


def _busy_s() -> float:
    """Seconds in which cores did anything, of all programs of this machine, so far."""
    fields = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:8]]
    user, nice, system, _idle, _waiting, irq, softirq = fields
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
