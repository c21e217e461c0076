"""How long `manifest build` takes: cold (every byte is hashed) and warm (every file is only looked at).

Whole processes, as a person starts them; the files are in the page cache both times.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.results import MB, MIB, Table, median, run_alone
from benchmarks.sample import ARCH, CHANNEL, write_artifacts


@dataclass(frozen=True)
class Builds:
    """Seconds of each build of the same directory, in turns."""

    size: int
    cold_s: Sequence[float]
    warm_s: Sequence[float]

    def tables(self) -> Iterator[Table]:
        cold, warm = median(self.cold_s), median(self.warm_s)
        rows = [
            ("cold: SHA-256 and blake3 of everything", f"{cold:.2f}", f"{self.size / cold / MB:.0f}", "1"),
            ("warm: nothing changed", f"{warm:.2f}", "", f"{warm / cold:.2f}"),
        ]
        yield Table(
            f"`manifest build` of {self.size // MIB} MiB, median of {len(self.cold_s)} runs, with start-up",
            ("", "s", "MB/s", "of cold"),
            rows,
        )

    def to_json(self) -> dict[str, Any]:
        return {"manifest_build": {"bytes": self.size, "cold_s": self.cold_s, "warm_s": self.warm_s}}


def measure(size: int, rounds: int, directory: Path | None = None) -> Builds:
    """Build cold, then warm, `rounds` times; `size` is in bytes, a multiple of 1 MiB."""
    cold: list[float] = []
    warm: list[float] = []
    with tempfile.TemporaryDirectory(prefix="p2pboot-bench-", dir=directory) as name:
        scratch = Path(name)
        write_artifacts(scratch, size)
        processes.run([*processes.PROGRAM, "key", "generate", "--key", str(scratch / "key.toml"), "--json"])
        for _ in range(rounds):
            cold.append(_build(scratch))
            warm.append(_build(scratch))
            shutil.rmtree(scratch / "state")
    return Builds(size, cold, warm)


def _build(scratch: Path) -> float:
    command = [*processes.PROGRAM, "manifest", "build", str(scratch / "artifacts" / CHANNEL / ARCH), "--json"]
    command += ["--channel", CHANNEL, "--arch", ARCH, "--key", str(scratch / "key.toml")]
    command += ["--state", str(scratch / "state"), "-o", str(scratch / "manifest.json")]
    began = time.perf_counter()
    processes.run(command)
    return time.perf_counter() - began


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, metavar="MIB", help="to hash  [default: 512, quick 128]")
    parser.add_argument("--rounds", type=int, metavar="N", help="cold and warm each  [default: 5, quick 2]")
    parser.add_argument(
        "--directory", type=Path, metavar="DIR", help="for artifacts and state  [default: temporary]"
    )


def measure_as_told(arguments: argparse.Namespace) -> Builds:
    size = arguments.size or (128 if arguments.quick else 512)
    return measure(size * MIB, arguments.rounds or (2 if arguments.quick else 5), arguments.directory)


if __name__ == "__main__":
    run_alone("Measure building manifests, cold and warm.", measure_as_told, options)
