"""Contradicting announcements, kept as files: whoever has both can show them to anybody."""

from __future__ import annotations

import hashlib
from pathlib import Path

from p2pboot.core.timetoke.agreement import Conflict
from p2pboot.store.durable import make_directory, write_file
from p2pboot.store.snapshots.disk import PRIVATE

KEPT: int = 64
"""Documents; a hostile trusted key could sign any number."""


def keep_evidence(directory: Path, conflict: Conflict) -> tuple[Path, ...]:
    """Write both documents of a conflict below a snapshots directory; return their paths.

    Args:
        directory: of the snapshots.
        conflict: what was found.

    Raises:
        MachineError: they can not be written.
    """
    shelf = directory / PRIVATE / "conflicts"
    make_directory(shelf, 0o755)
    paths = []
    for one in (conflict.first, conflict.second):
        name = f"{conflict.sequence}.{hashlib.sha256(one.raw).hexdigest()[:16]}.json"
        path = shelf / name
        if not path.exists() and sum(1 for _ in shelf.iterdir()) < KEPT:
            write_file(path, one.raw)
        paths.append(path)
    return tuple(path for path in paths if path.exists())
