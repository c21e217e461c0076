"""One running node per state directory: a lock that the kernel releases however its owner ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from p2pboot.errors import MachineError, machine_error
from p2pboot.store.ownership import NotOurs, open_own_file, opened_state

_LONGEST_CONTENT: Final = 32  # bytes: a process id


class DirectoryLock:
    """The exclusive claim on a state directory; also a context manager.

    The file's content, the owner's process id, only serves the message of whoever comes second.
    """

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    @classmethod
    def take(cls, directory: Path) -> DirectoryLock:
        """Claim `directory` (which exists), or say who has it.

        Raises:
            NotOurs: the directory or the lock file is another user's, or a link, or the file is no lock.
            MachineError: another process owns the directory, or the lock file can not be opened.
        """
        path = directory / "lock"
        with opened_state(directory) as fd_directory:
            try:
                fd = open_own_file("lock", os.O_RDWR | os.O_CREAT, 0o600, directory=fd_directory, shown=path)
            except OSError as error:
                raise machine_error(error, f"open {path}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _require_lock(fd, path)
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        except NotOurs:
            os.close(fd)
            raise
        except BlockingIOError:
            owner = os.pread(fd, _LONGEST_CONTENT, 0).decode("ascii", "replace").strip()
            os.close(fd)
            who = f"process {owner}" if owner.isdigit() else "another process"
            raise MachineError(
                f"{directory} is in use by {who}",
                remedy="stop that process, or choose another --state directory",
            ) from None
        except OSError as error:
            os.close(fd)
            raise machine_error(error, f"lock {path}") from error
        return cls(fd)

    def release(self) -> None:
        """Give the claim up; idempotent."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def _require_lock(fd: int, path: Path) -> None:
    """A hard link may give any file of ours that name, and what is in a lock is written over."""
    content = os.pread(fd, _LONGEST_CONTENT + 1, 0)
    if content.strip() and not content.strip().isdigit():
        raise NotOurs(f"{path} is no lock file", remedy="move it away, and find out who put it there")
