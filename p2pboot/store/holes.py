"""Holes: ranges of a file that read as zeros and take no room on the disk.

An image of a root file system is mostly free space. Zeros that are known need not be written, read or moved.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from typing import Final

_KEEP_SIZE: Final = 1  # linux/falloc.h
_PUNCH_HOLE: Final = 2
_ZEROS: Final = bytes(1024 * 1024)
_UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.EPERM})


def is_zeros(data: bytes) -> bool:
    """Whether there is nothing but zeros in at most 1 MiB; as fast as memory where there is something else."""
    return data == (_ZEROS if len(data) == len(_ZEROS) else _ZEROS[: len(data)])


def make_zeros(fd: int, offset: int, length: int) -> None:
    """Make a range inside of a file read as zeros, durably after the next fsync.

    It becomes a hole where the file system has holes, else zeros are written.

    Raises:
        OSError: the disk is full or failed.
    """
    if not _punch(fd, offset, length):
        end = offset + length
        while offset < end:
            offset += os.pwrite(fd, _ZEROS[: end - offset], offset)


def data_ranges(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of what is not a hole in the first `size` bytes of a file, ascending.

    A file system that does not tell has no holes.

    Raises:
        OSError: the disk failed.
    """
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # lseek(2): nothing but a hole up to the end
                return
            if error.errno != errno.EINVAL:
                raise
            start, end = end, size
        if start < end:
            yield start, end - start


def _punch(fd: int, offset: int, length: int) -> bool:
    if _fallocate is None:
        return False
    while _fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length):
        number = ctypes.get_errno()
        if number in _UNSUPPORTED:
            return False
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
    return True


def _find_fallocate() -> ctypes._NamedFuncPointer | None:
    """Python has posix_fallocate(3) only, which makes no holes. Linux alone has this one."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Where addresses have 32 bits, glibc's plain fallocate takes offsets of 32 bits.
    function = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return function


_fallocate: Final = _find_fallocate()
