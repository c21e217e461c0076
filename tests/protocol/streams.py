"""A pair of connected streams in memory, with a window: a writer waits when its reader does not read."""

from __future__ import annotations

import trio

from p2pboot.transport.interface import Connection, StreamReset


class _Pipe:
    """One direction; at most `window` bytes are on their way."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.buffer = bytearray()
        self.ended = False
        self.changed = trio.Condition()


class _Link:
    """What both ends share: a reset ends both directions at once."""

    def __init__(self, window: int) -> None:
        self.pipes = (_Pipe(window), _Pipe(window))
        self.reset = False


class MemoryStream:
    """One end; satisfies `p2pboot.transport.interface.Stream`. What it did is kept for assertions."""

    def __init__(self, link: _Link, side: int, peer_id: str) -> None:
        self._link = link
        self._in, self._out = link.pipes[side], link.pipes[1 - side]
        self._closed = False
        self.connection = Connection(peer_id, f"/ip4/10.0.0.1/tcp/4001/p2p/{peer_id}", side)
        self.received = self.sent = 0
        self.held_back = False
        self.writes: list[int] = []

    @property
    def was_reset(self) -> bool:
        return self._link.reset

    @property
    def was_closed(self) -> bool:
        return self._closed and not self._link.reset

    @property
    def unread(self) -> int:
        """Bytes that wait to be read at this end."""
        return len(self._in.buffer)

    def _check(self) -> None:
        if self._link.reset or self._closed:
            raise StreamReset("the stream was reset")

    async def read(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        async with self._in.changed:
            while not self._in.buffer and not self._in.ended and not self._link.reset:
                await self._in.changed.wait()
            self._check()
            data = bytes(self._in.buffer[:max_bytes])
            del self._in.buffer[:max_bytes]
            self.received += len(data)
            self._in.changed.notify_all()
            return data

    async def read_into(self, target: memoryview, at_least: int = 1) -> int:
        filled = 0
        while filled < at_least and (data := await self.read(len(target) - filled)):
            target[filled : filled + len(data)] = data
            filled += len(data)
        return filled

    async def pay(self, max_bytes: int) -> int:
        return max_bytes

    async def write(self, data: bytes | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.writes.append(len(data))
        rest = bytes(data)
        async with self._out.changed:
            while True:
                self._check()
                if self._out.ended:
                    raise StreamReset("written after the end")
                room = self._out.window - len(self._out.buffer)
                self._out.buffer += rest[:room]
                self.sent += len(rest[:room])
                rest = rest[room:]
                self._out.changed.notify_all()
                if not rest:
                    return
                await self._out.changed.wait()

    def keep_unsent(self, max_bytes: int) -> None:
        pass

    async def close_write(self) -> None:
        async with self._out.changed:
            self._out.ended = True
            self._out.changed.notify_all()

    async def close(self) -> None:
        await self.close_write()
        self._closed = True

    async def reset(self) -> None:
        if not self._closed:
            self._link.reset = True
        for pipe in self._link.pipes:
            async with pipe.changed:
                pipe.changed.notify_all()

    async def read_all(self) -> bytes:
        """Everything until the peer closes."""
        parts = []
        while data := await self.read(1 << 20):
            parts.append(data)
        return b"".join(parts)


def stream_pair(
    *, window: int = 256 * 1024, left: str = "left", right: str = "right"
) -> tuple[MemoryStream, MemoryStream]:
    """Two ends; the first one talks to peer `right`, the second one to peer `left`."""
    link = _Link(window)
    return MemoryStream(link, 0, right), MemoryStream(link, 1, left)
