"""How fast one core hashes a file, and how fast the disk takes it: the bounds of everything verified.

    python -m benchmarks.hashing [FILE]

The time is that of hashing alone; the file comes from the page cache, 1 MiB (a piece) at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from blake3 import blake3

from benchmarks.results import MB, MIB, Table

_DEFAULT_BYTES = 256 * MIB


def measure(path: Path) -> dict[str, float]:
    """Seconds for all bytes of a file: SHA-256 of the whole, blake3 of each MiB, and writing it with fsync."""
    whole, spent = hashlib.sha256(), {"sha256": 0.0, "blake3": 0.0, "write": 0.0}

    def timed(name: str, work: Callable[[bytes], object], data: bytes) -> None:
        began = time.perf_counter()
        work(data)
        spent[name] += time.perf_counter() - began

    with path.open("rb") as source, tempfile.TemporaryFile(dir=path.parent, buffering=0) as copy:
        while data := source.read(MIB):
            timed("sha256", whole.update, data)
            timed("blake3", lambda piece: blake3(piece).digest(), data)
            timed("write", copy.write, data)
        timed("write", lambda _nothing: os.fsync(copy.fileno()), b"")
    return spent


def main(arguments: Sequence[str]) -> None:
    """With a file: one JSON document, for `benchmarks.throughput`. Without: a table."""
    if arguments:
        print(json.dumps(measure(Path(arguments[0]))))
        return
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(_DEFAULT_BYTES // MIB):
            file.write(os.urandom(MIB))
        file.flush()
        spent = measure(Path(file.name))
    rows = [(name, f"{_DEFAULT_BYTES / seconds / MB:.0f}") for name, seconds in spent.items()]
    print(Table("One core, 256 MiB", ("", "MB/s"), rows).render())


if __name__ == "__main__":
    main(sys.argv[1:])
