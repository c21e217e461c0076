"""The announcements that a store holds: small files in a directory of their own.

One for each signer and snapshot, `<root>.<signer's 64 hex>.json`, the newest few of each signer. What does
not parse is left alone and not offered.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from p2pboot.core.identity import KEYID_PREFIX
from p2pboot.core.timetoke.announcement import MAX_ANNOUNCEMENT, Announcement
from p2pboot.errors import Malformed, SignatureError, machine_error
from p2pboot.store.durable import clean_temporaries, make_directory, write_file

logger = logging.getLogger(__name__)

KEPT_PER_SIGNER: Final = 16
"""Newest sequences of one signer; a follower needs one, an auditor a few."""

_NAME: Final = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{64}\.json")
_LOCK: Final = "lock"


class AnnouncementShelf:
    """Announcements on disk; any number of threads and processes.

    Args:
        directory: made when the first announcement is put there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._read: dict[str, Announcement] = {}  # by file name: a file never changes but to a newer sequence
        self._stamps: dict[str, int] = {}

    def all(self) -> tuple[Announcement, ...]:
        """Every announcement, highest sequence first.

        Raises:
            MachineError: the directory can not be read.
        """
        with self._lock:
            self._refresh()
            return tuple(sorted(self._read.values(), key=lambda one: (-one.sequence, one.signer)))

    def get(self, signer: str, root: str) -> Announcement | None:
        """The announcement of one snapshot by one signer (a key id)."""
        return next((one for one in self.all() if one.signer == signer and one.root == root), None)

    def of_root(self, root: str) -> tuple[Announcement, ...]:
        """All announcements of one snapshot."""
        return tuple(one for one in self.all() if one.root == root)

    def chunk_length(self, root: str) -> int | None:
        """Into what an announced snapshot is cut; None when nobody announced it."""
        return next((one.facts.chunk_length for one in self.of_root(root)), None)

    def last_sequence(self) -> int:
        """The highest sequence of anybody; 0 when there is none."""
        return max((one.sequence for one in self.all()), default=0)

    def put(self, announcement: Announcement) -> None:
        """Keep an announcement, unless a newer one of the same signer and snapshot is there.

        Raises:
            MachineError: it can not be written.
        """
        known = self.get(announcement.signer, announcement.root)
        if known is not None and known.sequence >= announcement.sequence:
            return
        make_directory(self._directory, 0o755)
        write_file(self._directory / _name(announcement), announcement.raw)
        with self._lock:
            self._refresh()
            self._drop_oldest(announcement.signer)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Choose a sequence and put its announcement while nobody else, in any process, does."""
        make_directory(self._directory, 0o755)
        try:
            fd = os.open(self._directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise machine_error(error, f"lock {self._directory}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            clean_temporaries(self._directory)
            yield
        finally:
            os.close(fd)

    def _refresh(self) -> None:
        try:
            entries = [entry for entry in os.scandir(self._directory) if _NAME.fullmatch(entry.name)]
            stamps = {entry.name: entry.stat().st_mtime_ns for entry in entries}
        except FileNotFoundError:
            stamps = {}
        except OSError as error:
            raise machine_error(error, f"read {self._directory}") from error
        for name in self._stamps.keys() - stamps.keys():
            self._read.pop(name, None)
        for name, stamp in stamps.items():
            if self._stamps.get(name) != stamp:
                self._load(name)
        self._stamps = stamps

    def _load(self, name: str) -> None:
        self._read.pop(name, None)
        path = self._directory / name
        try:
            with path.open("rb") as file:
                announcement = Announcement.parse(file.read(MAX_ANNOUNCEMENT + 1))
        except (OSError, Malformed, SignatureError) as error:
            logger.warning("%s is no announcement and is not offered: %s", path, error)
            return
        if _name(announcement) == name:
            self._read[name] = announcement

    def _drop_oldest(self, signer: str) -> None:
        own = sorted((one for one in self._read.values() if one.signer == signer), key=lambda o: o.sequence)
        for one in own[:-KEPT_PER_SIGNER]:
            with contextlib.suppress(OSError):
                (self._directory / _name(one)).unlink()
            self._read.pop(_name(one), None)
            self._stamps.pop(_name(one), None)


def _name(announcement: Announcement) -> str:
    return f"{announcement.root}.{announcement.signer.removeprefix(KEYID_PREFIX)}.json"
