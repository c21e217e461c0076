"""The bytes of an artifact as a body, for readers of any speed in little memory.

What is sent was checked against the piece table by `store.blobs.read`. The next bytes are read only when the kernel
has room for them and our limits allow them, and no more than it took at once the last time. What it does not take is
dropped and read again, unless the client is quick and there is `Room`: so one that does not read costs what its kernel
buffer holds and not a byte of ours. A quick one soon gets whole pieces: 1 MiB moves seven times as fast as 64 KiB.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol, runtime_checkable

SMALLEST_READ: Final = 64 * 1024
LARGEST_READ: Final = 1024 * 1024
ROOM_BYTES: Final = 16 * 1024 * 1024
KEPT_S: Final = 0.25
"""How long it is waited for a client with bytes in hand; reading them again takes less than a hundredth of it."""

Read = Callable[[int, int], Awaitable[bytes]]
"""Reads verified bytes of an artifact: where they start, and how many, exactly."""


class Room:
    """The memory for bytes that clients did not take at once, of all connections together.

    Args:
        max_bytes: what all may keep.
    """

    def __init__(self, max_bytes: int = ROOM_BYTES) -> None:
        self._free = max_bytes

    @contextmanager
    def keeping(self, size: int) -> Iterator[bool]:
        """Keep some bytes as long as the block lasts, if there is room for them: it is told whether there is."""
        if size > self._free:
            yield False
            return
        self._free -= size
        try:
            yield True
        finally:
            self._free += size


class ArtifactBody:
    """A range of an artifact, to be read once from its start to its end.

    Args:
        read: from the artifact.
        start: where the range begins, bytes.
        end: where it ends, exclusive.
        told: of bytes that were sent, how many; quick.
    """

    def __init__(
        self, read: Read, start: int, end: int, told: Callable[[int], None] = lambda _size: None
    ) -> None:
        self._read = read
        self._told = told
        self._offset = start
        self._end = end
        self._first = b""

    def __len__(self) -> int:
        """How many bytes are still to be sent."""
        return self._end - self._offset

    async def open(self) -> None:
        """Read the first bytes: a reply begins only when they are good. Raises what reading raises."""
        self._first = await self.read(self.until(SMALLEST_READ))

    def until(self, size: int) -> int:
        """How many bytes there are up to a multiple of `size`, or the end."""
        return piece_end(self._offset, size, self._end) - self._offset

    async def read(self, size: int) -> bytes:
        """Read the next bytes, at most so many; the same ones until they are `taken`. Raises what reading raises."""
        first, self._first = self._first, b""
        return first[:size] or await self._read(self._offset, size)

    def taken(self, size: int) -> None:
        """So many of the bytes that were read are sent."""
        self._offset += size
        self._told(size)


@runtime_checkable
class LiveBody(Protocol):
    """A body that comes about while it is sent, and has no length."""

    patience_s: float
    """How long a client may take for one part, seconds; one that takes longer is dropped."""

    async def next_part(self) -> bytes:
        """Wait for the next bytes; b"" where there are no more."""

    def close(self) -> None:
        """It is not read any further. Idempotent."""


def next_size(sent: int, taken: int, size: int) -> int:
    """How much to read next, a power of two: more when all of the last bytes were taken at once, else what was.

    Args:
        sent: bytes of the last send.
        taken: how many of them the kernel took.
        size: how much was to be read the last time.
    """
    wanted = size * 2 if taken >= sent else 1 << max(taken.bit_length() - 1, 0)
    return max(SMALLEST_READ, min(wanted, LARGEST_READ))


def piece_end(offset: int, size: int, end: int) -> int:
    """Where to stop reading: at a multiple of `size`, so that soon whole pieces are read."""
    return min((offset // size + 1) * size, end)
