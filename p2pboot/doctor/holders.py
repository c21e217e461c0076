"""Which processes listen on a TCP port, as far as /proc tells this user; Linux only, else nobody is known."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

_PROC: Final = Path("/proc")
_LISTEN: Final = "0A"
_MAX_PROCESSES: Final = 20_000


class Holder(NamedTuple):
    """A process that listens.

    Args:
        pid: its id.
        name: as the kernel calls it.
    """

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


def holders_of(port: int, proc: Path = _PROC) -> list[Holder]:
    """Who listens on a port at any address; empty where that is another user's secret. Blocking, raises nothing.

    Args:
        port: TCP.
        proc: where the kernel tells of processes.
    """
    wanted = {f"socket:[{inode}]" for inode in _inodes(port, proc)}
    if not wanted:
        return []
    pids = sorted(int(entry.name) for entry in _entries(proc) if entry.name.isdigit())[:_MAX_PROCESSES]
    return [Holder(pid, _name(proc / str(pid))) for pid in pids if _holds(proc / str(pid) / "fd", wanted)]


def _inodes(port: int, proc: Path) -> set[str]:
    found = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (proc / "self/net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if len(fields) > 9 and fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found


def _entries(directory: Path) -> list[Path]:
    with suppress(OSError):
        return list(directory.iterdir())
    return []


def _holds(descriptors: Path, wanted: set[str]) -> bool:
    for entry in _entries(descriptors):
        with suppress(OSError):
            if os.readlink(entry) in wanted:
                return True
    return False


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a program"
