"""Files that survive a power cut: what has its final name is whole and on the disk.

The order is always the same: write under a temporary name in the same directory, fsync the file, rename,
fsync the directory. A temporary name is `.<name>.p2pboot-<16 hex>.tmp`; its writer holds a lock (flock) on
the file as long as it needs it, so that `clean_temporaries` can tell what a killed process left from what a
living one still writes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from p2pboot.errors import MachineError, machine_error
from p2pboot.store.holes import data_ranges, is_zeros, make_zeros

COPY_BYTES: Final = 1024 * 1024
_LONGEST_STEM: Final = 200  # a file name is at most 255 bytes
_TEMPORARY: Final = re.compile(r"\..*\.p2pboot-[0-9a-f]{16}\.tmp", re.DOTALL)
_NO_PREALLOCATION: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV})
_NO_HARD_LINK: Final = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}
)
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def write_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Make `path` contain exactly `data`, durably; readers see the old content or the new one.

    Args:
        path: in a directory that exists.
        data: the whole content.
        mode: permissions from creation on (the umask applies).

    Raises:
        MachineError: disk full, no permission, no such directory; `path` is then what it was.
    """
    try:
        with temporary_file(path, mode) as (temporary, fd):
            write_at(fd, data, 0)
            put_in_place(fd, temporary, path)
    except OSError as error:
        raise machine_error(error, f"write {path}") from error


@contextlib.contextmanager
def staged(src: Path, final: Path) -> Iterator[tuple[Path, int]]:
    """The content of `src` under a temporary name beside `final`: a hard link, or a copy with holes for zeros.

    Yields the name and an open descriptor; at the end the name is gone, unless it was given another. With a hard link,
    who edits the new file in place edits `src`.

    Raises:
        MachineError: disk full, or `src` is not a regular file.
        OSError: what else the system calls say.
    """
    source = os.open(src, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise MachineError(f"cannot place {src} as {final}: not a regular file")
        temporary = _temporary_name(final)
        if _link(source, src, temporary):
            try:
                yield temporary, source
            finally:
                # Also after a rename: between two names of one file, rename(2) does nothing.
                temporary.unlink(missing_ok=True)
        else:
            with temporary_file(final, 0o644) as (temporary, fd):
                _copy(source, fd, final.parent)
                yield temporary, fd
    finally:
        os.close(source)


def write_temporary(final: Path, data: bytes) -> Path:
    """Write a file under a temporary name beside `final`, durably, and return the name.

    Nothing holds a lock on it: for directories where one process alone works.

    Raises:
        OSError: what the system calls say; there is no file then.
    """
    return stream_temporary(final, (data,))


def stream_temporary(final: Path, chunks: Iterable[bytes]) -> Path:
    """As `write_temporary`, of content that comes in parts; zeros are left out where that makes holes.

    Raises:
        OSError: what the system calls say; there is no file then. So it is with whatever the parts' origin raises.
    """
    temporary, fd = _create_locked(final, 0o644)
    try:
        offset = 0
        for chunk in chunks:
            for start in range(0, len(chunk), COPY_BYTES):
                part = chunk[start : start + COPY_BYTES]
                if not is_zeros(part):
                    write_at(fd, part, offset)
                offset += len(part)
        os.ftruncate(fd, offset)
        os.fsync(fd)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    return temporary


def put_in_place(fd: int, temporary: Path, final: Path) -> None:
    """Give a written file its final name, durably.

    Raises:
        OSError: what the system call says.
    """
    os.fsync(fd)
    temporary.replace(final)
    fsync_directory(final.parent)


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable.

    Raises:
        OSError: the disk failed. A file system that can not do it for directories is no error.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # fsync(2): "fd is bound to a special file which does not support it"
            raise
    finally:
        os.close(fd)


def make_directory(path: Path, mode: int = 0o700) -> None:
    """Make a directory and what is missing above it, durably; one that exists is left as it is.

    Raises:
        MachineError: it can not be made.
    """
    missing: list[Path] = []
    while not path.is_dir():
        missing.append(path)
        if path == path.parent:
            break
        path = path.parent
    for directory in reversed(missing):
        try:
            with contextlib.suppress(FileExistsError):
                directory.mkdir(mode)
            if not directory.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            fsync_directory(directory.parent)
        except OSError as error:
            raise machine_error(error, f"make the directory {directory}") from error


def preallocate(fd: int, size: int, ranges: Iterable[tuple[int, int]], directory: Path) -> None:
    """Give an open file exactly `size` bytes, so that a full disk is noticed before anything is downloaded.

    Args:
        fd: of the file.
        size: bytes.
        ranges: (offset, length) of what will be written. It gets its room on the disk now; what was a hole
            elsewhere stays one.
        directory: where the file is.

    Raises:
        MachineError: not enough space; the message has the directory and both sizes.
    """
    wanted = list(ranges)
    needed = sum(length for _, length in wanted)
    try:
        os.ftruncate(fd, size)
        _allocate(fd, wanted, needed, directory)
    except OSError as error:
        raise disk_error(error, needed, directory) from error


def disk_error(error: OSError, needed: int, directory: Path) -> MachineError:
    """Say what a failed write into `directory` means; for a full disk with the bytes needed and available."""
    if error.errno not in _FULL:
        return machine_error(error, f"write {needed} bytes into {directory}")
    return disk_full(needed, free_bytes(directory), directory)


def disk_full(needed: int, available: int, directory: Path) -> MachineError:
    """Say that there is no room in `directory`; both numbers are bytes."""
    return MachineError(
        f"disk full: {needed} bytes are needed in {directory}, {available} are available",
        remedy="free some space or use a directory on another disk",
    )


def free_bytes(directory: Path) -> int:
    """How many bytes an unprivileged process may still write on the directory's file system."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def clean_temporaries(directory: Path) -> None:
    """Remove what killed processes left in `directory` under temporary names.

    What a living process is still writing stays.

    Raises:
        MachineError: the directory can not be read or changed.
    """
    try:
        for name in os.listdir(directory):
            if _TEMPORARY.fullmatch(name):
                _remove_if_abandoned(directory / name)
    except OSError as error:
        raise machine_error(error, f"clean up {directory}") from error


def temporaries(directory: Path) -> list[Path]:
    """The files in a directory that have a temporary name, of living processes and of others.

    Raises:
        MachineError: the directory can not be read.
    """
    try:
        return [directory / name for name in sorted(os.listdir(directory)) if _TEMPORARY.fullmatch(name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise machine_error(error, f"list {directory}") from error


def write_at(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`; safe from several threads for ranges that do not overlap.

    Raises:
        OSError: what the system call says.
    """
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest = rest[written:]
        offset += written


def _allocate(fd: int, ranges: list[tuple[int, int]], needed: int, directory: Path) -> None:
    try:
        for offset, length in ranges:
            os.posix_fallocate(fd, offset, length)
    except OSError as error:
        if error.errno not in _NO_PREALLOCATION:
            raise
        missing = needed - os.fstat(fd).st_blocks * 512  # st_blocks counts 512-byte units, stat(2)
        if missing > free_bytes(directory):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None


@contextlib.contextmanager
def temporary_file(final: Path, mode: int) -> Iterator[tuple[Path, int]]:
    """A new locked file beside `final`; gone at the end, unless it was renamed.

    Yields its name and an open descriptor.

    Raises:
        OSError: what the system calls say.
    """
    temporary, fd = _create_locked(final, mode)
    try:
        yield temporary, fd
    finally:
        temporary.unlink(missing_ok=True)
        os.close(fd)


def _create_locked(final: Path, mode: int) -> tuple[Path, int]:
    while True:
        temporary = _temporary_name(final)
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        _try_lock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return temporary, fd
        os.close(fd)  # a cleaning process took it for abandoned before it was locked


def _temporary_name(final: Path) -> Path:
    stem = os.fsdecode(os.fsencode(final.name)[:_LONGEST_STEM])
    return final.parent / f".{stem}.p2pboot-{secrets.token_hex(8)}.tmp"


def _link(source: int, src: Path, temporary: Path) -> bool:
    """Link `src`, of which `source` is open, and say whether that was possible."""
    _try_lock(source, fcntl.LOCK_SH)
    try:
        os.link(src, temporary)
    except OSError as error:
        if error.errno in _NO_HARD_LINK:
            return False
        raise
    if os.path.samestat(os.fstat(source), temporary.lstat()):
        return True
    temporary.unlink()  # a symbolic link, or `src` was replaced meanwhile
    return False


def _copy(source: int, fd: int, directory: Path) -> None:
    size = os.fstat(source).st_size
    ranges = list(data_ranges(source, size))
    preallocate(fd, size, ranges, directory)
    for start, length in ranges:
        _copy_range(source, fd, start, start + length)
    if os.fstat(source).st_size < size:
        raise OSError(errno.EIO, "the file became shorter while it was copied")


def _copy_range(source: int, fd: int, offset: int, end: int) -> None:
    while chunk := os.pread(source, min(COPY_BYTES, end - offset), offset):
        if is_zeros(chunk):  # written out by somebody else: a new file reads as zeros all the same
            make_zeros(fd, offset, len(chunk))
        else:
            write_at(fd, chunk, offset)
        offset += len(chunk)
    if offset != end:
        raise OSError(errno.EIO, "the file became shorter while it was copied")


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except (
        OSError
    ):  # held by another, or a file system without locks: then nothing is ever taken for abandoned
        return False
    return True


def _remove_if_abandoned(path: Path) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if _try_lock(fd, fcntl.LOCK_EX):
            path.unlink(missing_ok=True)
    finally:
        os.close(fd)
