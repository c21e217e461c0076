"""What nobody needs any more in a state directory, and removing it: `p2pboot store gc`.

A node clears up whenever what is needed changes; this finds what is left where that never came to its end: artifacts
that no manifest names, partial ones that nobody goes on with, temporary files of processes that were killed. What a
process is bringing in or writing holds a lock, and is left alone.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any, Final

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import machine_error
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.durable import clean_temporaries, temporaries
from p2pboot.store.parking import is_over
from p2pboot.store.store import Store

ORPHAN: Final = "orphan"
PARTIAL: Final = "partial"
TEMPORARY: Final = "temporary"


@dataclass(frozen=True, slots=True)
class Garbage:
    """One file that nobody needs.

    Args:
        kind: "orphan": an artifact that no manifest names; "partial": what a fetch left that nobody goes on with;
            "temporary": of a process that was killed.
        path: of the file.
        disk_bytes: what it takes of the disk, holes not counted.
    """

    kind: str
    path: Path
    disk_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON document."""
        return {"kind": self.kind, "path": str(self.path), "disk_bytes": self.disk_bytes}


def collect_garbage(store: Store, catalogue: Catalogue, *, dry_run: bool) -> list[Garbage]:
    """Remove what nobody needs.

    Args:
        store: open for changes, or only looked at where this is a dry run.
        catalogue: of the same store.
        dry_run: only find it.

    Returns:
        What was removed, or would be.

    Raises:
        StoreError: the database is damaged.
        MachineError: something can not be looked at or removed.
    """
    found = _find(store, catalogue)
    if dry_run:
        return found
    catalogue.tidy()
    for directory in _directories(store):
        clean_temporaries(directory)
    return [one for one in found if not os.path.lexists(one.path)]


def _find(store: Store, catalogue: Catalogue) -> list[Garbage]:
    files, now = store.blobs.files, catalogue.clock().now
    named = store.manifests.artifacts()
    rows = store.manifests.all()
    parked = {row.digest for row in rows if is_over(row.parked_at, now)}
    over = {row.digest for row in rows if row.expires_at <= now and row.role == "pending"} | parked
    kept: set[str] = set().union(*(digests for digest, digests in named.items() if digest not in parked))
    wanted: set[str] = set().union(*(digests for digest, digests in named.items() if digest not in over))
    found = []
    for digest in sorted(files.digests()):
        if digest not in kept and os.path.exists(files.whole(digest)):
            found.append(_garbage(ORPHAN, files.whole(digest)))
        if digest not in wanted and os.path.exists(files.partial(digest)) and _is_idle(files.partial(digest)):
            found.append(_garbage(PARTIAL, files.partial(digest)))
    for directory in _directories(store):
        found += [_garbage(TEMPORARY, path) for path in temporaries(directory) if _is_idle(path)]
    return found


def _directories(store: Store) -> list[Path]:
    return [store.path, *store.blobs.files.directories()]


def _garbage(kind: str, path: Path) -> Garbage:
    return Garbage(kind, path, disk_bytes(path))


def disk_bytes(path: Path) -> int:
    """What a file takes of the disk, holes not counted; 0 when there is none.

    Raises:
        MachineError: it can not be looked at.
    """
    try:
        return path.lstat().st_blocks * 512  # st_blocks counts 512-byte units, stat(2)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise machine_error(error, f"look at {path}") from error


def _is_idle(path: Path) -> bool:
    """Whether no process works on a file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
