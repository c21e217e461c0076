"""`transport.interface.BareStream` on one of a connection's streams, with the negotiation of its protocol inside.

For both transports.
"""

from __future__ import annotations

from collections.abc import Collection

from typing_extensions import override

from p2pboot.errors import ProtocolError
from p2pboot.transport.interface import BareStream, Connection, StreamReset
from p2pboot.transport.tcp.stream import MuxedStream
from p2pboot.wire.multistream import MAX_LINE, Dialler, Listener


class NegotiatedStream(BareStream):
    """A stream. It is of no use before `negotiate` or `propose`, unless somebody else has negotiated.

    Args:
        muxed: the connection's.
        connection: that it is on, by its name.
    """

    def __init__(self, muxed: MuxedStream, connection: Connection) -> None:
        self._muxed = muxed
        self._connection = connection
        self._dialler: Dialler | None = None  # whose proposal is not answered yet
        self._early = b""  # read together with the end of the negotiation
        self._protocol = ""

    # Agreeing on a protocol.

    async def propose(self, protocol: str) -> None:
        """Propose a protocol on a stream that we opened; more may be written before the peer has agreed.

        Raises:
            StreamReset: it is gone.
        """
        self._protocol = protocol
        self._dialler = Dialler([protocol])
        await self._muxed.write(self._dialler.data_to_send())

    async def agreed(self) -> None:
        """Wait until the peer has taken the protocol that was proposed.

        Raises:
            StreamReset: it does not speak it, or is gone.
        """
        while self._dialler is not None:
            data = await self._muxed.read(MAX_LINE)
            try:
                if not data:
                    raise StreamReset(f"the stream for {self._protocol} ended before the peer took it")
                self._dialler.receive(data)
            except ProtocolError as error:
                await self.reset()
                raise StreamReset(f"{self._connection.peer_id}: {error.message}") from error
            if self._dialler.selected is not None:
                self._early, self._dialler = self._dialler.trailing_data, None

    async def negotiate(self, protocols: Collection[str]) -> str:
        """Agree on the protocol of a stream that the peer has opened.

        Raises:
            StreamReset: it ended before that.
            ProtocolError: there is none in common, or it speaks nonsense.
        """
        listener = Listener(protocols)
        while listener.selected is None:
            data = await self._muxed.read(MAX_LINE)
            if not data:
                raise StreamReset("the stream ended before a protocol was agreed on")
            listener.receive(data)
            await self._muxed.write(listener.data_to_send())
        self._early = listener.trailing_data
        self._protocol = listener.selected
        return listener.selected

    # What it is for.

    @property
    @override
    def connection(self) -> Connection:
        return self._connection

    @property
    @override
    def received(self) -> int:
        return self._muxed.received

    @property
    @override
    def sent(self) -> int:
        return self._muxed.sent

    @override
    async def read(self, max_bytes: int) -> bytes:
        if self._dialler is not None:
            await self.agreed()
        if self._early:
            data, self._early = self._early[:max_bytes], self._early[max_bytes:]
            return data
        return await self._muxed.read(max_bytes)

    @override
    async def read_into(self, target: memoryview, at_least: int = 1) -> int:
        if self._dialler is not None:
            await self.agreed()
        count = len(self._early[: len(target)])
        if count:
            target[:count], self._early = self._early[:count], self._early[count:]
        if count < at_least:
            count += await self._muxed.read_into(target[count:], at_least - count)
        return count

    @override
    async def write(self, data: bytes | memoryview) -> None:
        await self._muxed.write(data)

    @override
    def keep_unsent(self, max_bytes: int) -> None:
        self._muxed.keep_unsent(max_bytes)

    @override
    async def close_write(self) -> None:
        await self._muxed.close_write()

    @override
    async def close(self) -> None:
        await self._muxed.close()

    @override
    async def reset(self) -> None:
        await self._muxed.reset()
