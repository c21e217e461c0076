"""Connections carried over in memory, and a small driver on trio for tests against py-libp2p."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import trio

from p2pboot.core.identity import PublicKey, SecretKey
from p2pboot.wire.connection import Connection, Keys
from p2pboot.wire.yamux.events import StreamOpened, StreamReset
from p2pboot.wire.yamux.limits import Limits
from p2pboot.wire.yamux.session import Session
from p2pboot.wire.yamux.stream import Stream

DIALLER = SecretKey(b"d" * 32)
LISTENER = SecretKey(b"l" * 32)


def connection(
    initiator: bool, expected: PublicKey | None = None, limits: Limits | None = None
) -> Connection:
    """One side, with keys that everyone knows."""
    return Connection(
        initiator=initiator,
        keys=Keys(DIALLER if initiator else LISTENER, b"s" * 32, b"e" * 32 if initiator else b"E" * 32),
        session=Session(initiator=initiator, limits=limits),
        expected=expected,
    )


def flights(first: Connection, second: Connection, step: int = 1 << 20) -> Iterator[bytes]:
    """Carry over what either side has to say, in turns, until both are silent; yield each turn's bytes."""
    while first.has_data_to_send or second.has_data_to_send:
        flight = bytearray()
        while first.has_data_to_send:
            flight += first.data_to_send(100_000)
        for at in range(0, len(flight), step):
            second.receive(bytes(flight[at : at + step]))
        yield bytes(flight)
        first, second = second, first


def connect(step: int = 1 << 20, limits: Limits | None = None) -> tuple[Connection, Connection]:
    """Both sides, secured."""
    sides = connection(True, LISTENER.public, limits), connection(False, limits=limits)
    for _ in flights(*sides, step):
        pass
    return sides


class Driver:
    """Drives one connection over a trio stream, plainly."""

    def __init__(self, core: Connection, stream: trio.abc.Stream) -> None:
        self.core = core
        self._stream = stream
        self._changed = trio.Event()
        self._to_send = trio.Event()
        self.accepted: list[Stream] = []

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send)
            async for data in self._stream:
                self.core.receive(data)
                self._note()
            self.core.session.end("the connection has ended")
            self._note()
            nursery.cancel_scope.cancel()

    async def _send(self) -> None:
        while True:
            while data := self.core.data_to_send(200_000):
                await self._stream.send_all(bytes(data))
                self._note()
            self._to_send = trio.Event()
            await self._to_send.wait()

    def _note(self) -> None:
        for event in self.core.events():
            if isinstance(event, StreamOpened):
                self.accepted.append(event.stream)
            assert not isinstance(event, StreamReset) or not event.reason
        self.poke()

    def poke(self) -> None:
        self._to_send.set()
        self._changed.set()
        self._changed = trio.Event()

    async def changed(self) -> None:
        """Wait until something happened, either way."""
        await self._changed.wait()

    async def accept(self) -> Stream:
        while not self.accepted:
            await self.changed()
        return self.accepted.pop(0)

    async def read(self, stream: Stream, size: int | None = None) -> bytes:
        """Exactly `size` bytes, or all until the end."""
        data = bytearray()
        while size is None or len(data) < size:
            part = stream.read(1 << 20 if size is None else size - len(data))
            self.poke()
            if part is None:
                await self.changed()
            elif part:
                data += part
            else:
                break
        return bytes(data)

    async def write(self, stream: Stream, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[stream.write(rest) :]
            self.poke()
            if rest:
                await self.changed()

    def close_write(self, stream: Stream) -> None:
        stream.close_write()
        self.poke()


@asynccontextmanager
async def driving(core: Connection, stream: trio.abc.Stream) -> AsyncIterator[Driver]:
    """Drive a connection while the block runs."""
    driver = Driver(core, stream)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        yield driver
        nursery.cancel_scope.cancel()
