"""Reads of artifacts that return only bytes checked against the piece table.

Nothing is passed on that was not hashed after it came from the disk (0.4 ms a MiB), so neither bit rot nor a file
edited behind our back ever is. Reads of whole pieces return what the kernel delivered, without a copy. The first
smaller read of a piece hashes all of it, and its *slices*: from then on a byte of it costs one slice, also where a
piece has 16 MiB, and a long reply can be read again slice by slice as its reader takes it.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from blake3 import blake3
from cachetools import LRUCache

from p2pboot.core.digests import DIGEST_BYTES
from p2pboot.core.pieces import KIB, MIB, PieceSet, PieceTable
from p2pboot.core.timetoke.chunks import RunningHash
from p2pboot.store.recent import AHEAD_BYTES

SLICE_BYTES: Final = 64 * KIB
"""What is hashed for the smallest read: the shortest piece, and what the gateway reads at once for slow clients."""

SLICE_DIGESTS_BYTES: Final = 8 * MIB
"""For the digests of slices: of 10 GB in pieces of 1 MiB."""

_ENTRY_BYTES: Final = 256  # that each piece takes beside its digests


class PieceMismatch(Exception):
    """Internal: bytes on disk are not those that the table names.

    Args:
        index: of the piece.
    """

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class SliceDigests:
    """The digests of the slices of pieces, the least recently used dropped first; for any number of threads.

    They are kept by the digest of their piece, and come from bytes that had it. So they hold for whatever file
    is to have that piece, and there is nothing to be forgotten when one changes: what is read is compared each time.
    """

    def __init__(self, max_bytes: int = SLICE_DIGESTS_BYTES) -> None:
        self._digests: LRUCache[bytes, bytes] = LRUCache(
            max_bytes, lambda digests: len(digests) + _ENTRY_BYTES
        )
        self._lock = threading.Lock()

    def get(self, piece: bytes) -> bytes | None:
        """The digests of a piece's slices one after the other, now the most recently used; None: not known."""
        with self._lock:
            return self._digests.get(piece)

    def put(self, piece: bytes, digests: bytes) -> None:
        """Keep the digests of the slices of bytes that have this digest."""
        with self._lock:
            self._digests[piece] = digests


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


def read_checked(fd: int, table: PieceTable, offset: int, length: int, slices: SliceDigests) -> bytes:
    """Read a range of an artifact.

    Args:
        fd: an open file of the artifact.
        table: of the same artifact.
        offset: where to start, bytes.
        length: how much, bytes, at least 1; the range is inside the artifact.
        slices: what is known of pieces that were read before.

    Raises:
        PieceMismatch: what covers the range is not what the table says, or can not be read from the disk.
    """
    first, last = _covered(table, offset, length)
    last_offset, last_length = table.span(last)
    if offset == first * table.piece_length and offset + length == last_offset + last_length:
        return _read_whole_pieces(fd, table, first, last)
    parts = []
    for index in range(first, last + 1):
        start, size = table.span(index)
        begin, end = max(offset - start, 0), min(offset + length - start, size)
        if end - begin == size:
            parts.append(_read_whole_pieces(fd, table, index, index))
        else:
            digests = slices.get(table.digest_of(index)) or _examine_piece(fd, table, index, slices)
            parts.append(_read_slices(fd, table, index, range(begin, end), digests))
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_ahead(fd: int, table: PieceTable, offset: int, length: int, slices: SliceDigests) -> list[bytes]:
    """Read a range, and where it is one whole piece those behind it as well, as far as they are good.

    Arguments and exceptions are those of `read_checked`.

    Returns:
        The range; behind it whole pieces.
    """
    index = offset // table.piece_length
    if (offset, length) != table.span(index):
        return [read_checked(fd, table, offset, length, slices)]
    last = max(index, min(index + AHEAD_BYTES // table.piece_length, table.count) - 1)
    try:
        data = memoryview(
            pread_exactly(fd, table.span(last)[0] + table.span(last)[1] - offset, offset, index)
        )
    except PieceMismatch:  # the file ends early, or the disk fails: maybe only behind the first
        return [read_checked(fd, table, offset, length, slices)]
    good: list[bytes] = []
    for start in range(0, len(data), table.piece_length):
        piece = bytes(data[start : start + table.piece_length])
        if not table.matches(index + len(good), piece):
            break
        good.append(piece)
    if not good:
        raise PieceMismatch(index)
    return good


def check_pieces(fd: int, table: PieceTable, offset: int, length: int, slices: SliceDigests) -> None:
    """Read the pieces that cover a range, whole, so that reading the range bit by bit costs little afterwards.

    Arguments and exceptions are those of `read_checked`; no more than one piece is held in memory.
    """
    first, last = _covered(table, offset, length)
    for index in range(first, last + 1):
        _examine_piece(fd, table, index, slices)


def examine(fd: int, table: PieceTable, whole: RunningHash) -> tuple[PieceSet, str]:
    """Read a whole file: which of its pieces are good, and the digest of what could be read, in hex."""
    good = []
    for index, piece in _pieces(fd, table):
        whole.update(piece)
        if table.matches(index, piece):
            good.append(index)
    return PieceSet.of(table.count, good), whole.hexdigest()


def good_pieces(fd: int, table: PieceTable, among: PieceSet) -> PieceSet:
    """Read some pieces of a file: which of them are good."""
    return PieceSet.of(
        table.count, (index for index in among if table.matches(index, _piece(fd, table, index)))
    )


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


def _covered(table: PieceTable, offset: int, length: int) -> tuple[int, int]:
    """The first and the last piece that cover a range."""
    return offset // table.piece_length, (offset + length - 1) // table.piece_length


def _examine_piece(fd: int, table: PieceTable, index: int, slices: SliceDigests) -> bytes:
    """Check a piece; returns the digests of its slices, which are known afterwards."""
    data = _read_whole_pieces(fd, table, index, index)
    digests = slices.get(table.digest_of(index))
    if digests is None:
        digests = _digests_of(data)
        slices.put(table.digest_of(index), digests)
    return digests


def _read_slices(fd: int, table: PieceTable, index: int, part: range, digests: bytes) -> bytes:
    """Read a part of a piece, in bytes from its start."""
    start, size = table.span(index)
    first, last = part.start // SLICE_BYTES, part[-1] // SLICE_BYTES + 1
    from_byte, to_byte = first * SLICE_BYTES, min(last * SLICE_BYTES, size)
    data = pread_exactly(fd, to_byte - from_byte, start + from_byte, index)
    if _digests_of(data) != digests[first * DIGEST_BYTES : last * DIGEST_BYTES]:
        raise PieceMismatch(index)
    if part == range(from_byte, to_byte):
        return data
    return data[part.start - from_byte : part.stop - from_byte]


def _digests_of(data: bytes) -> bytes:
    """The digests of slices, one after the other."""
    view = memoryview(data)
    return b"".join(blake3(view[at : at + SLICE_BYTES]).digest() for at in range(0, len(data), SLICE_BYTES))


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
