"""The directories of the store: where each artifact's file lies, what is there, and how it leaves.

`blobs/ab/<sha256>` for whole artifacts (`ab`: the digest's first two digits), `partial/<sha256>` for those on
their way. No path is made of anything but a digest that was checked before.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from p2pboot.core.digests import is_digest
from p2pboot.errors import machine_error
from p2pboot.store.durable import clean_temporaries, fsync_directory, make_directory


class BlobFiles:
    """Files of artifacts; knows nothing of what is in them.

    Methods raise MachineError when the disk fails.
    """

    def __init__(self, directory: Path) -> None:
        """Make the directories that are missing, and clear away what a killed process left half-made."""
        self.directory = directory
        self._whole = directory / "blobs"
        self._partial = directory / "partial"
        make_directory(self._whole)
        make_directory(self._partial)
        for each in self._all():
            clean_temporaries(each)

    def whole(self, sha256: str) -> Path:
        """Where a whole artifact lies or would lie."""
        return self._whole / sha256[:2] / sha256

    def partial(self, sha256: str) -> Path:
        """Where an artifact on its way lies or would lie."""
        return self._partial / sha256

    def digests(self) -> set[str]:
        """Every artifact of which there is a file."""
        return {
            path.name for directory in self._all() for path in _entries(directory) if is_digest(path.name)
        }

    def used_bytes(self) -> int:
        """Sum of the files' sizes, holes included; a partial has its full size from the start."""
        return sum(file_size(path) for directory in self._all() for path in _entries(directory))

    def demote(self, sha256: str) -> None:
        """Make a damaged artifact a partial, of which only the bad pieces are fetched again.

        Not where somebody has a hard link to it: mending would write into a file that is theirs by now.
        """
        path = self.whole(sha256)
        try:
            if path.stat().st_nlink == 1:
                path.replace(self.partial(sha256))
            else:
                path.unlink()
            fsync_directory(path.parent)
        except FileNotFoundError:
            pass  # another thread was faster
        except OSError as error:
            raise machine_error(error, f"take the damaged {path} out of service") from error

    def unlink(self, sha256: str) -> bool:
        """Remove the files of an artifact; False when another process is fetching it."""
        try:
            self.whole(sha256).unlink(missing_ok=True)
        except OSError as error:
            raise machine_error(error, f"remove {self.whole(sha256)}") from error
        try:
            return _unlink_if_idle(self.partial(sha256))
        except OSError as error:
            raise machine_error(error, f"remove {self.partial(sha256)}") from error

    def _all(self) -> list[Path]:
        return [self._partial, *(path for path in _entries(self._whole) if path.is_dir())]


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
    except OSError as error:
        raise machine_error(error, f"list {directory}") from error


def _unlink_if_idle(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
