"""What a holder's memory comes to that serves many clients at once, for as many bytes as its link carries in an hour.

Nothing caps the links, so that an hour's worth passes in minutes; the clients serve nobody, so that the holder sends
all of it. One client after the other takes each of the places.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import processes
from benchmarks.lab import Lab
from benchmarks.results import GB, MIB, Goal, Table
from benchmarks.storm.contestants import P2PBoot
from benchmarks.storm.rows import Goals, Row
from benchmarks.storm.running import write_image_of
from p2pboot.testing.processes import Node

NAME: Final = "memory"
_CLIENTS: Final = 16
_MBIT: Final = 25
_HOUR_S: Final = 3600
_GOAL_MIB: Final = 200
_FLAT: Final = 1.1
_LOOK_S: Final = 0.5


@dataclass(frozen=True)
class Memory:
    """Of the holder.

    Args:
        samples: (bytes that it had sent, bytes of its memory), in order.
        peak_bytes: at the most.
    """

    samples: Sequence[tuple[int, int]]
    peak_bytes: int

    @property
    def growth(self) -> float:
        """Mean of the last quarter of what was sent, in times of the second: in the first it fills what it keeps."""
        end = self.samples[-1][0]
        quarters = [
            [memory for sent, memory in self.samples if quarter * end <= 4 * sent <= (quarter + 1) * end]
            for quarter in (1, 3)
        ]
        second, last = (sum(each) / max(1, len(each)) for each in quarters)
        return last / second if second else 1.0

    def tables(self) -> Iterator[Table]:
        row = (
            f"{_CLIENTS} clients",
            f"{self.samples[-1][0] / GB:.1f}",
            f"{self.peak_bytes / MIB:.0f}",
            f"{self.samples[-1][1] / MIB:.0f}",
            f"{self.growth:.2f}",
        )
        columns = ("", "GB sent", "peak MiB", "at the end MiB", "last quarter / second")
        yield Table("Memory of a holder", columns, [row])

    def goals(self) -> Iterator[Goal]:
        yield Goal.at_most(f"{NAME}: peak of a holder, MiB", _GOAL_MIB, self.peak_bytes / MIB)
        yield Goal.at_most(f"{NAME}: last quarter / second", _FLAT, self.growth)

    def to_json(self) -> dict[str, Any]:
        return {NAME: {"samples": self.samples, "peak_bytes": self.peak_bytes, "growth": self.growth}}


def measure(*, quick: bool) -> Memory:
    """Have clients fetch again and again until an hour's worth has left the holder; a twentieth of it if quick."""
    row = Row(NAME, _CLIENTS, _MBIT, 64, Goals())
    total = _MBIT * 1e6 / 8 * _HOUR_S / (20 if quick else 1)
    with tempfile.TemporaryDirectory(prefix="p2pboot-storm-") as scratch, Lab().open() as lab:
        directory = Path(scratch)
        image = write_image_of(directory, row.size)
        for number in (*row.holder_numbers, *row.client_numbers):
            lab.machine(number)
        with processes.mesh_in(directory) as mesh:
            contestant = P2PBoot(lab, mesh, image)
            contestant.begin(row)
            holder = contestant.nodes()[0]
            over = threading.Event()

            def fetch_on(number: int) -> None:
                command = [*contestant.command(number), "--serve", "no"]
                while not over.is_set():
                    processes.checked(mesh.complete(command))
                    shutil.rmtree(contestant.file(number).parent)

            with ThreadPoolExecutor(_CLIENTS) as pool:
                running = [pool.submit(fetch_on, number) for number in row.client_numbers]
                try:
                    samples = list(_watched(lab, holder, total))
                finally:
                    over.set()
                for each in running:
                    each.result()
            return Memory(samples, holder.peak_memory_kib() * 1024)


def _watched(lab: Lab, holder: Node, total: float) -> Iterator[tuple[int, int]]:
    sent = 0
    while sent < total:
        time.sleep(_LOOK_S)
        sent = lab.moved()["1"].sent
        yield sent, holder.memory_kib() * 1024
