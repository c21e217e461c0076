"""The bytes of an artifact as a body, for readers of any speed in little memory.

What is sent was checked against the piece table by `store.blobs.read`. The next bytes are read only when the kernel
has room for them, and no more than it took at once the last time: a client that does not read costs what its kernel
buffer holds and no piece of ours, while a quick one soon gets whole pieces (1 MiB moves seven times as fast as 64 KiB).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

SMALLEST_READ: Final = 64 * 1024
LARGEST_READ: Final = 1024 * 1024
Read = Callable[[int, int], Awaitable[bytes]]
"""Reads verified bytes of an artifact: where they start, and how many, exactly."""


class ArtifactBody:
    """A range of an artifact, to be read once from its start to its end.

    Args:
        read: from the artifact.
        start: where the range begins, bytes.
        end: where it ends, exclusive.
    """

    def __init__(self, read: Read, start: int, end: int) -> None:
        self._read = read
        self._offset = start
        self._end = end
        self._first = b""

    def __len__(self) -> int:
        """How many bytes are still to be read."""
        return self._end - self._offset

    async def open(self) -> None:
        """Read the first bytes: a reply begins only when they are good. Raises what reading raises."""
        self._first = await self._next(SMALLEST_READ)

    async def read(self, size: int) -> bytes:
        """Read on, up to a multiple of `size`; not at the end. Raises what reading raises."""
        data, self._first = self._first or await self._next(size), b""
        self._offset += len(data)
        return data

    async def _next(self, size: int) -> bytes:
        return await self._read(self._offset, piece_end(self._offset, size, self._end) - self._offset)


def next_size(sent: int, at_once: int, size: int) -> int:
    """How much to read next, a power of two: more when all of the last bytes were taken at once, else what was.

    Args:
        sent: bytes of the last send.
        at_once: how many of them (headers and all) the kernel took without waiting.
        size: how much was to be read the last time.
    """
    wanted = size * 2 if at_once >= sent else 1 << max(at_once.bit_length() - 1, 0)
    return max(SMALLEST_READ, min(wanted, LARGEST_READ))


def piece_end(offset: int, size: int, end: int) -> int:
    """Where to stop reading: at a multiple of `size`, so that soon whole pieces are read."""
    return min((offset // size + 1) * size, end)
