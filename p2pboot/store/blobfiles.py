"""The directories of the store: where each artifact's file lies, what is there, and how it leaves.

`blobs/ab/<digest>` for whole artifacts (`ab`: the digest's first two digits), `partial/<digest>` for those on
their way. No path is made of anything but a digest that was checked before.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from typing_extensions import override

from p2pboot.core.digests import is_digest
from p2pboot.errors import MachineError, machine_error
from p2pboot.store.durable import clean_temporaries, fsync_directory, make_directory
from p2pboot.store.holes import data_ranges
from p2pboot.store.ownership import STATE, check_real_directory, opened_state


class BlobFiles:
    """Files of artifacts; knows nothing of what is in them.

    Methods raise MachineError when the disk fails.
    """

    def __init__(self, directory: Path) -> None:
        """Look at the directories below `directory`; those that are missing are made with the first file in them."""
        self.directory = directory
        self._whole = directory / "blobs"
        self._partial = directory / "partial"

    def prepare(self) -> None:
        """Make the directories that are missing, and clear away what a killed process left half-made."""
        for each in (self._whole, self._partial):
            make_directory(each)
            check_real_directory(each, STATE)
        for each in self.directories():
            check_real_directory(each, STATE)
            clean_temporaries(each)
        self.sweep()

    def sweep(self) -> None:
        """Remove what killed processes began and nobody ever showed a piece of; makes nothing.

        What can not be removed takes no room either, and may stay.
        """
        with contextlib.suppress(MachineError), opened_state(self.directory):
            check_real_directory(self._partial, STATE)
            for digest in self.partials():
                with contextlib.suppress(OSError):
                    _unlink_if_idle(self.partial(digest), only_empty=True)

    def make_room(self, digest: str) -> None:
        """Make the directory of an artifact that is to come, where nobody else leads it elsewhere.

        Raises:
            NotOurs: the directories are others', or others may write there, or one is a link.
        """
        make_directory(self.directory)
        with opened_state(self.directory):
            for each in (self._whole, self._partial, self.whole(digest).parent):
                check_real_directory(each, STATE)
            make_directory(self._partial)

    def whole(self, digest: str) -> Path:
        """Where a whole artifact lies or would lie."""
        return self._whole / digest[:2] / digest

    def partial(self, digest: str) -> Path:
        """Where an artifact on its way lies or would lie."""
        return self._partial / digest

    def digests(self) -> set[str]:
        """Every artifact of which there is a file."""
        return {
            path.name
            for directory in self.directories()
            for path in _entries(directory)
            if is_digest(path.name)
        }

    def partials(self) -> set[str]:
        """Every artifact of which there is a file that is on its way."""
        return {path.name for path in _entries(self._partial) if is_digest(path.name)}

    def sizes(self) -> dict[str, int]:
        """The size of every artifact's file, holes included; a partial has its full size from the start."""
        return {
            path.name: file_size(path)
            for directory in self.directories()
            for path in _entries(directory)
            if is_digest(path.name)
        }

    def demote(self, digest: str) -> None:
        """Make a damaged artifact a partial, of which only the bad pieces are fetched again.

        Not where somebody has a hard link to it: mending would write into a file that is theirs by now.
        """
        path = self.whole(digest)
        try:
            if path.stat().st_nlink == 1:
                make_directory(self._partial)
                path.replace(self.partial(digest))
            else:
                path.unlink()
            fsync_directory(path.parent)
        except FileNotFoundError:
            pass  # another thread was faster
        except OSError as error:
            raise machine_error(error, f"take the damaged {path} out of service") from error

    def unlink(self, digest: str) -> bool:
        """Remove the files of an artifact; False when another process is fetching it."""
        try:
            self.whole(digest).unlink(missing_ok=True)
        except OSError as error:
            raise machine_error(error, f"remove {self.whole(digest)}") from error
        try:
            return _unlink_if_idle(self.partial(digest))
        except OSError as error:
            raise machine_error(error, f"remove {self.partial(digest)}") from error

    def directories(self) -> list[Path]:
        """Where files of artifacts are: those that exist."""
        found = [self._partial] if self._partial.is_dir() else []
        return [*found, *(path for path in _entries(self._whole) if path.is_dir())]


class ReadBlobFiles(BlobFiles):
    """The same where nothing is changed: what would be moved or removed stays where it is."""

    @override
    def prepare(self) -> None:
        pass

    @override
    def sweep(self) -> None:
        pass

    @override
    def demote(self, digest: str) -> None:
        pass

    @override
    def unlink(self, digest: str) -> bool:
        return False


def file_size(path: Path) -> int:
    """Bytes in a file, 0 when there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise machine_error(error, f"look at {path}") from error


def _entries(directory: Path) -> list[Path]:
    try:
        return [directory / name for name in os.listdir(directory)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise machine_error(error, f"list {directory}") from error


def _unlink_if_idle(path: Path, *, only_empty: bool = False) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not only_empty or not any(data_ranges(fd, os.fstat(fd).st_size)):
            path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
