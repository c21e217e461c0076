"""One row, run by one contestant: a lab, the holders, the race, and what it came to."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final

from benchmarks import processes
from benchmarks.lab import Lab
from benchmarks.sample import ARCH, CHANNEL
from benchmarks.storm.contestants import CONTESTANTS, Contestant, P2PBoot
from benchmarks.storm.mirrors import hear_of_a_version
from benchmarks.storm.race import Client, Look, Race, Seen, Start, Watch, or_null
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
        looks: at all cables, a few each second.
        copies: by the holders' counters; None where they do not count.
        egress: what left the holders' machines, with all headers, in sizes of the image.
        cpu_s: of all processes, user and system, from their starts to their ends.
        busy: share of both cores that was busy with anything, during the race.
        own: share of both cores that these processes took, over the race.
        holder_peak_bytes: of the memory of the largest holder.
        into_racks: copies that went over each uplink into a rack.
        poisoners: peer ids.
        wrong: numbers of clients whose file is not the image, or not there, though it was to be.
    """

    contestant: str
    row: Row
    clients: Sequence[Client]
    looks: Sequence[Look]
    copies: float | None
    egress: float
    cpu_s: float
    busy: float
    own: float
    holder_peak_bytes: int
    into_racks: Sequence[float] = ()
    wrong: Sequence[int] = ()
    poisoners: Sequence[str] = ()

    @property
    def finishers(self) -> list[Client]:
        """Those of whom it was expected."""
        return [client for client in self.clients if client.expected]

    @property
    def last(self) -> float:
        return max(client.took_s for client in self.finishers) / self.row.unit_s

    @property
    def mean(self) -> float:
        took = [client.took_s for client in self.finishers]
        return sum(took) / len(took) / self.row.unit_s

    @property
    def transfer(self) -> float | None:
        """The longest transfer alone, as the clients tell it; None where they do not."""
        told = [client.document["transfer_s"] for client in self._telling]
        return max(told) / self.row.unit_s if told else None

    @property
    def start_s(self) -> float | None:
        """What clients took before their transfers began, and after; the mean. None where they do not tell."""
        spent = [client.took_s - client.document["transfer_s"] for client in self._telling]
        return sum(spent) / len(spent) if spent else None

    @property
    def wasted(self) -> float | None:
        """Share of the image that came to a client for nothing, the mean: second copies and wrong bytes."""
        told = [client.document["wasted_bytes"] for client in self._telling]
        return sum(told) / len(told) / self.row.size if told else None

    @property
    def named(self) -> Mapping[str, int]:
        """By peer id how many clients dropped it for what it gave."""
        return Counter(peer for client in self._telling for peer in client.document["dropped_peers"])

    @property
    def _telling(self) -> list[Client]:
        return [client for client in self.finishers if client.document and "transfer_s" in client.document]

    def to_json(self) -> dict[str, Any]:
        return {
            "contestant": self.contestant,
            "row": asdict(self.row),
            "last": or_null(self.last),
            "mean": or_null(self.mean),
            "transfer": self.transfer,
            "start_s": self.start_s,
            "wasted": self.wasted,
            "named": self.named,
            "poisoners": list(self.poisoners),
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
                asdict(client) | {"file": client.file.name, "took_s": or_null(client.took_s)}
                for client in self.clients
            ],
            "looks": {
                "at_s": [round(look.at_s, 2) for look in self.looks],
                "moved": {
                    name: [[look.moved[name].sent, look.moved[name].received] for look in self.looks]
                    for name in (self.looks[-1].moved if self.looks else ())
                },
            },
        }


def run(name: str, row: Row) -> Outcome:
    """Run a row once.

    Args:
        name: of the contestant.
        row: what is to be run.
    """
    with tempfile.TemporaryDirectory(prefix="p2pboot-storm-") as scratch, Lab().open() as lab:
        directory = Path(scratch)
        image = write_image_of(directory, _SMALL if row.mirrors else row.size)
        _build(lab, row)
        with processes.mesh_in(directory) as mesh:
            contestant = CONTESTANTS[name](lab, mesh, image)
            contestant.begin(row)
            for number in row.holder_numbers:
                lab.cap(number, row.holder_link)
            if isinstance(contestant, P2PBoot) and row.mirrors:
                seen = hear_of_a_version(contestant, row, lab, image)
            else:
                seen = _fetch(contestant, row, lab, directory)
            return _outcome(contestant, row, seen, image)


def write_image_of(directory: Path, size: int) -> Path:
    """Make what is published: one large file; what else a manifest has to name is small."""
    leaf = directory / "artifacts" / CHANNEL / ARCH
    sizes = {"vmlinuz": _SMALL, "initramfs.img": _SMALL, _IMAGE: size}
    return write_image(leaf, sizes) / _IMAGE


def _build(lab: Lab, row: Row) -> None:
    for rack in range(1, row.racks + 1):
        lab.rack(rack, row.holder_link)
    for number in row.holder_numbers:
        lab.machine(number)
    for place, number in enumerate(row.client_numbers):
        lab.machine(number, row.client_link, rack=1 + place * row.racks // row.clients if row.racks else 0)
    for number in row.poisoner_numbers:
        lab.machine(number, row.client_link)


def _fetch(contestant: Contestant, row: Row, lab: Lab, directory: Path) -> Seen:
    starts = [
        Start(
            number=number,
            at_s=place * row.every_s,
            command=contestant.command(number),
            file=contestant.file(number),
            log=directory / f"log{number}",
        )
        for place, number in enumerate(row.client_numbers)
    ]
    race = Race(Watch(lab.moved), _Referee(row, contestant), _PATIENCE_S + _PATIENCE * row.unit_s)
    if isinstance(contestant, P2PBoot):
        starts += [
            Start(
                number, 0.0, contestant.poison(number), directory, directory / f"log{number}", expected=False
            )
            for number in row.poisoner_numbers
        ]
    return race.run(starts, directory)


def _outcome(contestant: Contestant, row: Row, seen: Seen, image: Path) -> Outcome:
    end = seen.looks[-1]
    clients = [client for client in seen.clients if client.number in row.client_numbers]
    holders = [node for node in contestant.nodes() if node.process.poll() is None]
    cpu_s = sum(client.cpu_s for client in seen.clients) + sum(node.cpu_s() for node in holders)
    core_s = end.at_s * (os.cpu_count() or 1)
    return Outcome(
        contestant=contestant.name,
        row=row,
        clients=clients,
        looks=seen.looks,
        copies=contestant.copies(row) if len(holders) == row.holders else None,
        egress=sum(end.of(number).sent for number in row.holder_numbers) / row.size,
        cpu_s=cpu_s,
        busy=end.busy_s / core_s,
        own=cpu_s / core_s,
        holder_peak_bytes=max((node.peak_memory_kib() * 1024 for node in holders), default=0),
        into_racks=[end.moved[f"rack{rack}"].received / row.size for rack in range(1, row.racks + 1)],
        wrong=_wrong(clients, image),
        poisoners=contestant.poisoners if isinstance(contestant, P2PBoot) else (),
    )


def _wrong(clients: Sequence[Client], image: Path) -> list[int]:
    wanted = _digest(image)
    return [
        client.number
        for client in clients
        if client.expected and (client.done_s is None or _digest(client.file) != wanted)
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
        self._to_kill = set(row.client_numbers[: round(row.clients * row.killed)])

    def __call__(self, race: Race, look: Look) -> None:
        if self._row.stop_at is not None and look.of(1).sent >= self._row.stop_at * self._row.size:
            self._contestant.nodes()[0].process.kill()
        for number in self._to_kill & race.clients.keys():
            if look.of(number).received >= self._row.size / 2:
                race.kill(number)
                self._to_kill.remove(number)
