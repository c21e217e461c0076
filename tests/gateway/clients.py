"""Clients that write their requests by hand, and read when they like."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from p2pboot.testing.artifacts import content
from tests.fetch.world import FILES

BIG = {**FILES, "rootfs": content("big", 24 << 20)}  # more than the kernel buffers for one connection


def request(path: str, *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    fields = "".join(f"{line}\r\n" for line in lines or ("Host: x",))
    return f"{method} {path} HTTP/{version}\r\n{fields}Connection: close\r\n\r\n".encode("latin-1")


def status_of(reply: bytes) -> int:
    assert reply.startswith(b"HTTP/1.1 "), reply[:100]
    return int(reply[9:12])


@asynccontextmanager
async def connected(
    port: int, sent: bytes = b"", *, buffer: int = 0, source: str = "127.0.0.1"
) -> AsyncIterator[trio.SocketStream]:
    raw = socket.socket()
    raw.bind((source, 0))
    if buffer:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    raw.setblocking(False)
    sock = trio.socket.from_stdlib_socket(raw)
    await sock.connect(("127.0.0.1", port))
    async with trio.SocketStream(sock) as stream:
        if sent:
            await stream.send_all(sent)
        yield stream


async def drained(stream: trio.SocketStream) -> bytes:
    received = bytearray()
    try:
        async for data in stream:
            received += data
    except trio.BrokenResourceError:
        pass
    return bytes(received)
