"""A stream of which every byte is counted and paid for, whichever transport it is of."""

from __future__ import annotations

from typing_extensions import override

from p2pboot.transport.bandwidth import Bandwidth
from p2pboot.transport.interface import BareStream, Connection, Stream


class MeteredStream(Stream):
    """A stream within the limits of bandwidth.

    Args:
        stream: a transport's own; nobody else reads from it or writes to it.
        protocol: what is spoken on it.
        bandwidth: that it may use.
    """

    def __init__(self, stream: BareStream, protocol: str, bandwidth: Bandwidth) -> None:
        self._stream = stream
        self._meter = bandwidth.meter(stream.connection.peer_id, protocol)

    @property
    @override
    def connection(self) -> Connection:
        return self._stream.connection

    @property
    @override
    def received(self) -> int:
        return self._stream.received

    @property
    @override
    def sent(self) -> int:
        return self._stream.sent

    @property
    @override
    def held_back(self) -> bool:
        return self._meter.held_back

    @override
    async def read(self, max_bytes: int) -> bytes:
        data = await self._stream.read(await self._meter.may_receive(max_bytes))
        self._meter.received(len(data))
        return data

    @override
    async def read_into(self, target: memoryview, at_least: int = 1) -> int:
        filled = 0
        while True:
            room = await self._meter.may_receive(len(target) - filled)
            wanted = min(room, at_least - filled)
            count = await self._stream.read_into(target[filled : filled + room], wanted)
            self._meter.received(count)
            filled += count
            if count < wanted or filled >= at_least:
                return filled

    @override
    async def pay(self, max_bytes: int) -> int:
        return await self._meter.pay(max_bytes)

    @override
    async def write(self, data: bytes | memoryview) -> None:
        rest: bytes | memoryview = data
        while True:
            size = await self._meter.pay(len(rest)) if rest else 0
            await self._stream.write(rest if size == len(rest) else rest[:size])
            self._meter.sent(size)
            if size == len(rest):
                return
            rest = memoryview(rest)[size:]

    @override
    def keep_unsent(self, max_bytes: int) -> None:
        self._stream.keep_unsent(max_bytes)

    @override
    async def close_write(self) -> None:
        await self._stream.close_write()

    @override
    async def close(self) -> None:
        self._meter.close()
        await self._stream.close()

    @override
    async def reset(self) -> None:
        self._meter.close()
        await self._stream.reset()
