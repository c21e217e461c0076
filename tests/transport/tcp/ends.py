"""Both ends of one TCP connection, in one event loop; or one of them, and the core of the other played by a test."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from p2pboot.core.identity import SecretKey
from p2pboot.transport.tcp.connection import TcpConnection
from p2pboot.transport.tcp.endpoint import Endpoint
from p2pboot.transport.tcp.sockets import prepare
from p2pboot.transport.tcp.stream import MuxedStream
from p2pboot.wire.connection import Connection
from p2pboot.wire.yamux.limits import Limits
from tests.wire.driving import Driver, connection, driving

KEYS = SecretKey(b"a" * 32), SecretKey(b"b" * 32)


def sockets(buffer: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Two connected ones; with small buffers if so told."""
    with socket.socket() as listener:
        if buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        one = socket.socket()
        if buffer is not None:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        one.connect(listener.getsockname())
        other, _ = listener.accept()
        if buffer is not None:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    for each in (one, other):
        each.setblocking(False)
        prepare(each)
    return one, other


class End:
    """One side: a connection that runs, and the streams that its peer opens."""

    def __init__(
        self, key: SecretKey, sock: socket.socket, *, initiator: bool, limits: Limits | None
    ) -> None:
        self.endpoint = Endpoint(key, limits)
        self._send, self._opened = trio.open_memory_channel[MuxedStream](1000)
        self.connection: TcpConnection = self.endpoint.connection(
            sock, self._send.send_nowait, initiator=initiator, began=trio.current_time()
        )

    async def accept(self) -> MuxedStream:
        return await self._opened.receive()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.endpoint.run)
            await self.connection.run()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def ends(*, buffer: int | None = None, limits: Limits | None = None) -> AsyncIterator[tuple[End, End]]:
    """Both sides, secured."""
    one, other = sockets(buffer)
    dialler = End(KEYS[0], one, initiator=True, limits=limits)
    listener = End(KEYS[1], other, initiator=False, limits=limits)
    async with trio.open_nursery() as nursery:
        for end in (dialler, listener):
            nursery.start_soon(end.run)
        for end in (dialler, listener):
            await end.connection.secured.wait()
        yield dialler, listener
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def against_a_core(*, buffer: int | None = None) -> AsyncIterator[tuple[End, Connection, Driver]]:
    """Ours, accepted, and a dialler whose core a test drives as it likes."""
    one, other = sockets(buffer)
    end = End(KEYS[1], other, initiator=False, limits=None)
    core = connection(True)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(one))
    async with trio.open_nursery() as nursery, stream, driving(core, stream) as driver:
        nursery.start_soon(end.run)
        await end.connection.secured.wait()
        while not core.secured:
            await driver.changed()
        yield end, core, driver
        nursery.cancel_scope.cancel()


async def read_all(stream: MuxedStream) -> bytes:
    received = bytearray()
    while data := await stream.read(1 << 20):
        received += data
    return bytes(received)


async def open_between(one: End, other: End) -> tuple[MuxedStream, MuxedStream]:
    """Both ends of a stream that the first one opens."""
    ours = one.connection.open()
    await ours.write(b"!")
    theirs = await other.accept()
    assert await theirs.read(10) == b"!"
    return ours, theirs
