"""Opening what a person named: a file, or a pipe at whose other end somebody is. Nothing here waits for ever.

A pipe is legitimate (`<(gpg --decrypt …)` of a shell, /dev/stdin), and opening one in the usual way waits until
somebody comes to its other end, which for a FIFO that lies about may be never.
"""

from __future__ import annotations

import errno
import io
import os
import select
import stat
import time
from pathlib import Path
from typing import IO, Final

from typing_extensions import Buffer, override

from p2pboot.errors import UsageError

PATIENCE_S: Final = 60.0
"""How long a pipe may be silent: a person types a password at its other end."""

COMING_S: Final = 1.0
"""How long nobody may be at the other end: a script may have begun both a moment ago."""

_RETRY_S: Final = 0.05


def open_named(path: Path) -> IO[bytes]:
    """Open a file that a person named, or what he gave in place of one, for reading.

    Reading from a pipe raises UsageError where nobody writes to it, or nothing comes for `PATIENCE_S`.

    Args:
        path: of a file, a pipe or a device.

    Raises:
        OSError: what the system call says; IsADirectoryError for a directory.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            return io.BufferedReader(_Stream(fd, path, is_pipe=stat.S_ISFIFO(mode)))
        return open(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def write_stream(path: Path, data: bytes) -> None:
    """Write to a pipe or device that a person named.

    Raises:
        UsageError: a pipe that nobody reads.
        OSError: what the system call says.
    """
    fd = _open_to_write(path)
    try:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(fd, rest) :]
            except BlockingIOError:
                if not _is_ready(fd, select.POLLOUT, PATIENCE_S):
                    raise UsageError(
                        f"nothing was taken out of {path} for {PATIENCE_S:g} s", remedy="name a file"
                    ) from None
    finally:
        os.close(fd)


class _Stream(io.RawIOBase):
    """A pipe or a terminal, read without waiting longer than somebody who is there needs."""

    def __init__(self, fd: int, path: Path, *, is_pipe: bool) -> None:
        self._fd = fd
        self._path = path
        self._may_be_alone = is_pipe

    @override
    def readable(self) -> bool:
        return True

    @override
    def fileno(self) -> int:
        return self._fd

    @override
    def readinto(self, buffer: Buffer) -> int:
        has_waited = False
        while True:
            try:
                count = os.readv(self._fd, [buffer])
            except BlockingIOError:
                if not _is_ready(self._fd, select.POLLIN, PATIENCE_S):
                    raise UsageError(
                        f"nothing came out of {self._path} for {PATIENCE_S:g} s",
                        remedy="give the file itself",
                    ) from None
                continue
            if count or not self._may_be_alone:
                self._may_be_alone = False
                return count
            if has_waited:
                raise UsageError(
                    f"{self._path} is a pipe that nobody writes to",
                    remedy="give the file itself, or pipe it into this command and name it -",
                )
            # The end at once: nobody is there, or not yet.
            _is_ready(self._fd, select.POLLIN, COMING_S)
            has_waited = True

    @override
    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()


def _open_to_write(path: Path) -> int:
    deadline = time.monotonic() + COMING_S
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > deadline:
                raise UsageError(f"{path} is a pipe that nobody reads", remedy="name a file") from None
        time.sleep(_RETRY_S)


def _is_ready(fd: int, what: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(fd, what)
    return bool(poll.poll(timeout_s * 1000))
