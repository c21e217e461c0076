"""Reads of artifacts that return only bytes checked against the piece table.

Every piece that a read touches is read whole and hashed (0.4 ms a MiB), so neither bit rot nor a file edited
behind our back is ever passed on. Reads of whole pieces return what the kernel delivered, without a copy;
smaller ones keep the verified piece for the next read in a small cache.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cachetools import LRUCache

from p2pboot.core.pieces import PieceSet, PieceTable
from p2pboot.core.timetoke.chunks import RunningHash
from p2pboot.store.algorithms import Algorithm

CACHE_BYTES: Final = 16 * 1024 * 1024  # one piece of the largest length, or sixteen of the usual one

PieceKey = tuple[str, int, int]  # (digest, piece length, index)


class PieceMismatch(Exception):
    """Internal: bytes on disk are not those that the table names.

    Args:
        index: of the piece.
    """

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class PieceCache:
    """Verified pieces, the least recently used dropped first; of bounded size, for any number of threads."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._pieces: LRUCache[PieceKey, bytes] = LRUCache(max_bytes, len)
        self._lock = threading.Lock()

    def get(self, key: PieceKey) -> bytes | None:
        """A piece that is there, now the most recently used."""
        with self._lock:
            return self._pieces.get(key)

    def put(self, key: PieceKey, piece: bytes) -> None:
        """Keep a verified piece."""
        with self._lock:
            if len(piece) <= self._pieces.maxsize:
                self._pieces[key] = piece

    def clear(self) -> None:
        """Forget all pieces."""
        with self._lock:
            self._pieces.clear()


def open_regular(path: Path) -> int:
    """Open a file for reading without ever waiting (as for a pipe that somebody put there).

    Raises:
        OSError: not there, not readable, or not a regular file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return fd


def read_checked(
    fd: int, table: PieceTable, offset: int, length: int, *, digest: str, cache: PieceCache
) -> bytes:
    """Read a range of an artifact.

    Args:
        fd: an open file of the artifact.
        table: of the same artifact.
        offset: where to start, bytes.
        length: how much, bytes, at least 1; the range is inside the artifact.
        digest: of the artifact, for the cache.
        cache: where verified pieces stay for the next small read.

    Raises:
        PieceMismatch: a piece that covers the range is not what the table says, or can not be read from the
            disk.
    """
    first, last = offset // table.piece_length, (offset + length - 1) // table.piece_length
    last_offset, last_length = table.span(last)
    if offset == first * table.piece_length and offset + length == last_offset + last_length:
        return _read_whole_pieces(fd, table, first, last)
    parts: list[memoryview] = []
    for index in range(first, last + 1):
        start, size = table.span(index)
        piece = memoryview(_cached_piece(fd, table, index, digest, cache))
        parts.append(piece[max(offset - start, 0) : min(offset + length - start, size)])
    return b"".join(parts)


def examine(fd: int, table: PieceTable, whole: RunningHash) -> tuple[PieceSet, str]:
    """Read a whole file: which of its pieces are good, and the digest of what could be read, in hex."""
    good = []
    for index, piece in _pieces(fd, table):
        whole.update(piece)
        if table.matches(index, piece):
            good.append(index)
    return PieceSet.of(table.count, good), whole.hexdigest()


def good_pieces(fd: int, table: PieceTable, known: PieceSet) -> PieceSet:
    """Read a file but for the pieces that are known to be good: which of its pieces are good."""
    found = (index for index in known.missing() if table.matches(index, _piece(fd, table, index)))
    return known | PieceSet.of(table.count, found)


def content(fd: int, table: PieceTable, algorithm: Algorithm) -> str:
    """Name the content of a file of which size and every piece are good by its digest.

    Returns:
        64 hex digits; for any other file a text that says what is wrong with it.
    """
    size = os.fstat(fd).st_size
    if size != table.size:
        return f"a size of {size} instead of {table.size} bytes"
    good, digest = examine(fd, table, algorithm.begin())
    return digest if good.complete else f"{len(good.missing())} bad pieces"


def _pieces(fd: int, table: PieceTable) -> Iterator[tuple[int, bytes]]:
    for index in range(table.count):
        yield index, _piece(fd, table, index)


def _piece(fd: int, table: PieceTable, index: int) -> bytes:
    """A piece as it is on the disk, empty when it can not be read."""
    offset, length = table.span(index)
    try:
        return pread_exactly(fd, length, offset, index)
    except PieceMismatch:
        return b""


def _read_whole_pieces(fd: int, table: PieceTable, first: int, last: int) -> bytes:
    start = first * table.piece_length
    last_offset, last_length = table.span(last)
    data = pread_exactly(fd, last_offset + last_length - start, start, first)
    view = memoryview(data)
    for index in range(first, last + 1):
        offset, length = table.span(index)
        if not table.matches(index, view[offset - start : offset - start + length]):
            raise PieceMismatch(index)
    return data


def _cached_piece(fd: int, table: PieceTable, index: int, digest: str, cache: PieceCache) -> bytes:
    key = (digest, table.piece_length, index)
    piece = cache.get(key)
    if piece is None:
        piece = _read_whole_pieces(fd, table, index, index)
        cache.put(key, piece)
    return piece


def pread_exactly(fd: int, length: int, offset: int, index: int) -> bytes:
    """Read exactly `length` bytes; when the file is too short, or the disk fails there, piece `index` is bad.

    Raises:
        PieceMismatch: see above.
        OSError: anything else.
    """
    try:
        data = os.pread(fd, length, offset)
        while len(data) < length:  # a signal or an unusual file system; one read is the rule
            more = os.pread(fd, length - len(data), offset + len(data))
            if not more:
                raise PieceMismatch(index)
            data += more
    except OSError as error:
        if error.errno == errno.EIO:  # a bad sector: like rot, it is mended by fetching the piece again
            raise PieceMismatch(index) from error
        raise
    return data
