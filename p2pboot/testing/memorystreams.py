"""Streams of the network in memory: two pipes with a window each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import trio
from typing_extensions import override

from p2pboot.transport.interface import BareStream, Connection, StreamReset

WINDOW: Final = 256 * 1024
"""What one direction of a stream holds unread, as Yamux."""


class Owner(Protocol):
    """The node at one end."""

    async def spend(self, size: int) -> None:
        """Wait until so many bytes may be sent."""


class Pipe:
    """One direction of a stream.

    Args:
        stopped: whether nothing moves, because an end of it is frozen.
    """

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._buffer = bytearray()
        self._ended = self._broken = False
        self._stopped = stopped
        self._taken = 0
        self.sent = 0
        """Bytes that ever were put in."""
        self._change = trio.Event()

    @property
    def is_open(self) -> bool:
        """Whether more can be sent."""
        return not (self._ended or self._broken)

    @property
    def received(self) -> int:
        """Bytes that ever arrived."""
        return self._taken + len(self._buffer)

    def poke(self) -> None:
        """Wake whoever waits, to look again."""
        self._change.set()
        self._change = trio.Event()

    def end(self) -> None:
        """Nothing more is sent."""
        self._ended = True
        self.poke()

    def break_off(self) -> None:
        """Both ends see a reset."""
        self._broken = True
        self._buffer.clear()
        self.poke()

    async def send(self, data: memoryview) -> None:
        """Put everything in, as there is room. Raises StreamReset."""
        await trio.lowlevel.checkpoint()
        while data:
            if not self.is_open:
                raise StreamReset("the stream is closed for writing")
            room = 0 if self._stopped() else WINDOW - len(self._buffer)
            if room <= 0:
                await self._change.wait()
                continue
            self._buffer += data[:room]
            self.sent += len(data[:room])
            data = data[room:]
            self.poke()

    async def receive(self, max_bytes: int) -> bytes:
        """Take out what there is, at least a byte; b"" at the end. Raises StreamReset."""
        await trio.lowlevel.checkpoint()
        while not self._broken and (self._stopped() or not (self._buffer or self._ended)):
            await self._change.wait()
        if self._broken:
            raise StreamReset("the stream was reset")
        taken = bytes(self._buffer[:max_bytes])
        del self._buffer[:max_bytes]
        self._taken += len(taken)
        self.poke()
        return taken


class MemoryStream(BareStream):
    """One node's end of a stream.

    Args:
        owner: the node.
        connection: as the node knows it.
        outgoing: to the other end.
        incoming: from there.
    """

    def __init__(self, owner: Owner, connection: Connection, outgoing: Pipe, incoming: Pipe) -> None:
        self._owner, self._connection = owner, connection
        self._outgoing, self._incoming = outgoing, incoming
        self._done = False

    @property
    @override
    def connection(self) -> Connection:
        return self._connection

    @property
    @override
    def received(self) -> int:
        return self._incoming.received

    @property
    @override
    def sent(self) -> int:
        return self._outgoing.sent

    @override
    def keep_unsent(self, max_bytes: int) -> None:
        pass  # what is not in the pipe is in the writer's hands

    @override
    async def read(self, max_bytes: int) -> bytes:
        if self._done:
            raise StreamReset("the stream is closed")
        return await self._incoming.receive(max_bytes)

    @override
    async def read_into(self, target: memoryview, at_least: int = 1) -> int:
        filled = 0
        while filled < at_least:
            data = await self.read(len(target) - filled)
            if not data:
                break
            target[filled : filled + len(data)] = data
            filled += len(data)
        return filled

    @override
    async def write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            part = rest[:WINDOW]
            await self._owner.spend(len(part))
            await self._outgoing.send(part)
            rest = rest[len(part) :]

    @override
    async def close_write(self) -> None:
        await trio.lowlevel.checkpoint()
        self._outgoing.end()

    @override
    async def close(self) -> None:
        if not self._done:
            self._done = True
            self._outgoing.end()

    @override
    async def reset(self) -> None:
        if not self._done:
            self._done = True
            self._outgoing.break_off()
            self._incoming.break_off()
