"""Replies with the bytes of an artifact, for readers of any speed in little memory.

What is sent was checked against the piece table by `store.blobs.read`. The next bytes are read only when the kernel
has room for them, and no more than it took at once the last time: a client that does not read costs what its kernel
buffer holds and no piece of ours, while a quick one soon gets whole pieces (1 MiB moves seven times as fast as 64 KiB).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from starlette.responses import Response

from p2pboot.errors import P2PBootError
from p2pboot.gateway.http1 import STREAM
from p2pboot.gateway.stream import ClientStream
from p2pboot.store.blobs import BlobStore

log = logging.getLogger(__name__)

SMALLEST_READ: Final = 64 * 1024
LARGEST_READ: Final = 1024 * 1024
READERS: Final = (
    4  # threads that read and hash at the same time; each may hold a piece of up to 16 MiB meanwhile
)

Send = Callable[[dict[str, Any]], Awaitable[None]]


class BlobReader:
    """Reads verified bytes of artifacts in a few threads."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._threads = trio.CapacityLimiter(READERS)

    async def read(self, sha256: str, offset: int, length: int) -> bytes:
        """Read exactly these bytes; raises as `BlobStore.read`."""
        return await trio.to_thread.run_sync(self._blobs.read, sha256, offset, length, limiter=self._threads)


class BlobResponse(Response):
    """Sends a range of an artifact.

    Args:
        reader: of the store.
        sha256: of the artifact.
        first: the first bytes of the range, read already: a reply begins only when they are good.
        start: where the range begins, bytes.
        end: where it ends, exclusive.
        status: 200 or 206.
        headers: complete.
    """

    def __init__(
        self,
        reader: BlobReader,
        sha256: str,
        first: bytes,
        *,
        start: int,
        end: int,
        status: int,
        headers: dict[str, str],
    ) -> None:
        super().__init__(status_code=status, headers=headers)
        self._reader = reader
        self._sha256 = sha256
        self._first = first
        self._start = start
        self._end = end

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        """Send it all; when the artifact breaks on the way the connection ends short, which every client notices."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body"})
            return
        stream: ClientStream = scope["state"][STREAM]
        try:
            await self._send_body(stream, send)
        except P2PBootError as error:
            log.warning("an answer was broken off: %s", error)
            stream.cut()

    async def _send_body(self, stream: ClientStream, send: Send) -> None:
        data, self._first = self._first, b""
        offset = self._start
        size = SMALLEST_READ
        while True:
            offset += len(data)
            await send({"type": "http.response.body", "body": data, "more_body": offset < self._end})
            if offset >= self._end:
                return
            size = next_size(len(data), stream.at_once, size)
            del data  # nothing is held while the client is not reading
            await stream.wait_send_all_might_not_block()
            data = await self._reader.read(self._sha256, offset, piece_end(offset, size, self._end) - offset)


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
