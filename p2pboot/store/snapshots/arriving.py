"""A snapshot while its chunks arrive in any order, and the step that makes it visible.

::

    DIR/.p2pboot/partial/<root>   chunks so far, each checked before it was written
    DIR/.p2pboot/whole/<root>     complete and of the right root, its signature not checked yet

Nothing of this is served or listed. A fetch that was killed is resumed from what lies here.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from blake3 import blake3

from p2pboot.core.pieces import PieceTable
from p2pboot.errors import machine_error
from p2pboot.store.durable import make_directory
from p2pboot.store.partials import PartialBlob
from p2pboot.store.reading import RunningHash
from p2pboot.store.snapshots.disk import PRIVATE, DiskSnapshotStore


class PartialSnapshot(PartialBlob):
    """A snapshot on its way: as an artifact, but the whole is named by its BLAKE3 root."""

    @property
    def _name(self) -> str:
        return f"snapshot {self.digest}"

    def _new_hash(self) -> RunningHash:
        return blake3()


class ArrivingSnapshots:
    """Where a store's snapshots arrive.

    Args:
        store: gets them when they are complete and verified.
    """

    def __init__(self, store: DiskSnapshotStore) -> None:
        self.store = store
        self._partials = store.directory / PRIVATE / "partial"
        self._wholes = store.directory / PRIVATE / "whole"

    def begin(self, root: str, table: PieceTable) -> PartialSnapshot:
        """Start or resume a snapshot; what is there already is hashed again.

        Raises:
            MachineError: disk full, or another process is fetching it into this directory.
        """
        for directory in (self._partials, self._wholes):
            make_directory(directory)
        path, whole = self._partials / root, self._wholes / root
        self._drop_others(root)
        return PartialSnapshot(path, whole, digest=root, table=table, ended=lambda _partial: None)

    def is_complete(self, root: str) -> bool:
        """Whether all chunks are there and make up the root, and only verifying is left to do."""
        return (self._wholes / root).exists()

    @contextmanager
    def complete(self, root: str) -> Iterator[mmap.mmap]:
        """The payload of a snapshot that is complete and waits for being verified; mapped.

        Raises:
            MachineError: it can not be read.
        """
        path = self._wholes / root
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as payload:
                yield payload
        except OSError as error:
            raise machine_error(error, f"read {path}") from error

    def expose(self, root: str, signature: str | None) -> Path:
        """Make a verified snapshot visible, its signature first; return its path.

        Raises:
            MachineError: the disk is full or fails.
        """
        path = self._wholes / root
        try:
            with path.open("rb") as file:
                self.store.expose(root, None, path, file.fileno(), signature)
        except OSError as error:
            raise machine_error(error, f"read {path}") from error
        self.discard(root)  # still there when the store has it already
        return self.store.path(root)

    def discard(self, root: str) -> None:
        """Throw away a complete snapshot that is not what it should be."""
        with suppress(OSError):
            (self._wholes / root).unlink()

    def _drop_others(self, root: str) -> None:
        """Remove what fetches of other snapshots left that nobody goes on with: a newer one is wanted now."""
        for path in self._partials.iterdir():
            if path.name != root:
                with suppress(OSError):
                    _unlink_unless_locked(path)


def _unlink_unless_locked(path: Path) -> None:
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(fd)
