"""The measured loop of a raw stream, the same for every transport: 1 MiB writes one way, up to 1 MiB reads.

Streams that fill a buffer of the reader's do: that is how a fetch reads.

A request is the number of bytes wanted; the answer is these bytes, then the sender's processor time for them
(µs) and its peak memory. The first, small transfer is not measured: windows have grown when the second begins.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from p2pboot.testing.processes import own_peak_bytes

PROTOCOL = "/p2pboot-benchmark/bulk/1"
CHUNK = 1 << 20
_WARM_UP = 16 << 20
_NUMBER = 8


class Stream(Protocol):
    """What libp2p's streams and ours have in common."""

    async def read(self, n: int, /) -> bytes: ...

    async def write(self, data: bytes, /) -> None: ...


async def serve(stream: Stream) -> None:
    """Answer requests until one asks for nothing."""
    chunk = b"\xa5" * CHUNK
    while wanted := int.from_bytes(await _read_exactly(stream, _NUMBER)):
        began = time.process_time()
        for _ in range(wanted // CHUNK):
            await stream.write(chunk)
        spent_us = int((time.process_time() - began) * 1e6)
        await stream.write(spent_us.to_bytes(_NUMBER) + own_peak_bytes().to_bytes(_NUMBER))


async def receive(stream: Stream, size: int) -> dict[str, Any]:
    """Ask for `size` bytes, a multiple of 1 MiB, and say what they cost."""
    await _ask(stream, _WARM_UP)
    await _read_exactly(stream, 2 * _NUMBER)
    began, cpu = time.perf_counter(), time.process_time()
    await _ask(stream, size)
    elapsed, spent = time.perf_counter() - began, time.process_time() - cpu
    trailer = await _read_exactly(stream, 2 * _NUMBER)
    await stream.write(bytes(_NUMBER))
    return {
        "seconds": elapsed,
        "server_cpu_s": int.from_bytes(trailer[:_NUMBER]) / 1e6,
        "client_cpu_s": spent,
        "server_peak_bytes": int.from_bytes(trailer[_NUMBER:]),
        "client_peak_bytes": own_peak_bytes(),
    }


async def _ask(stream: Stream, size: int) -> None:
    await stream.write(size.to_bytes(_NUMBER))
    left, fill, buffer = size, getattr(stream, "read_into", None), memoryview(bytearray(CHUNK))
    while left:
        most = min(left, CHUNK)
        left -= len(await _some(stream, most)) if fill is None else await fill(buffer[:most], most)


async def _read_exactly(stream: Stream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await _some(stream, size - len(data))
    return data


async def _some(stream: Stream, most: int) -> bytes:
    data = await stream.read(most)
    if not data:
        raise EOFError("the stream ended in the middle of a transfer")
    return data
