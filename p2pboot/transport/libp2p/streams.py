"""`transport.interface.BareStream` on one of a connection's streams: no layer of libp2p lies between."""

from __future__ import annotations

from typing import Final

import trio
from typing_extensions import override

from p2pboot.errors import ProtocolError
from p2pboot.transport.interface import BareStream, Connection, StreamReset
from p2pboot.transport.tcp.stream import MuxedStream
from p2pboot.wire.multistream import MAX_LINE, Dialler

NEGOTIATION_S: Final = 10


class Libp2pStream(BareStream):
    """A stream, already negotiated.

    Args:
        muxed: the connection's.
        connection: that it is on.
        early: what came together with the end of the negotiation.
    """

    def __init__(self, muxed: MuxedStream, connection: Connection, early: bytes = b"") -> None:
        self._muxed = muxed
        self._connection = connection
        self._early = early

    @classmethod
    async def propose(cls, muxed: MuxedStream, connection: Connection, protocol: str) -> Libp2pStream:
        """Agree with the peer on what is spoken on a stream that was opened here.

        Raises:
            StreamReset: the peer is gone, or does not speak `protocol`.
        """
        try:
            with trio.fail_after(NEGOTIATION_S):
                early = await _propose(muxed, protocol)
        except (ProtocolError, trio.TooSlowError) as error:
            await muxed.reset()
            raise StreamReset(f"{connection.peer_id} opens no stream for {protocol}") from error
        except BaseException:
            await muxed.reset()
            raise
        return cls(muxed, connection, early)

    @property
    @override
    def connection(self) -> Connection:
        return self._connection

    @property
    @override
    def received(self) -> int:
        return self._muxed.received

    @override
    async def read(self, max_bytes: int) -> bytes:
        if self._early:
            data, self._early = self._early[:max_bytes], self._early[max_bytes:]
        else:
            data = await self._muxed.read(max_bytes)
        return data

    @override
    async def read_into(self, target: memoryview, at_least: int = 1) -> int:
        head = min(len(self._early), len(target))
        if head:
            target[:head], self._early = self._early[:head], self._early[head:]
        count = head
        if head < at_least:
            count += await self._muxed.read_into(target[head:], at_least - head)
        return count

    @override
    async def write(self, data: bytes | memoryview) -> None:
        await self._muxed.write(data)

    @override
    async def close_write(self) -> None:
        await self._muxed.close_write()

    @override
    async def close(self) -> None:
        await self._muxed.close()

    @override
    async def reset(self) -> None:
        await self._muxed.reset()


async def _propose(muxed: MuxedStream, protocol: str) -> bytes:
    """Agree with the peer; return what it sent behind its agreement."""
    dialler = Dialler([protocol])
    await muxed.write(dialler.data_to_send())
    while dialler.selected is None:
        data = await muxed.read(MAX_LINE)
        if not data:
            raise StreamReset("the stream ended before a protocol was agreed on")
        dialler.receive(data)
    return dialler.trailing_data
