"""`transport.interface.Stream` on one of a connection's streams, with the negotiation of its protocol inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pboot.errors import ProtocolError
from p2pboot.transport.interface import Connection, StreamReset
from p2pboot.wire.multistream import Dialler, Listener

if TYPE_CHECKING:
    from collections.abc import Collection

    from p2pboot.transport.tcp.stream import MuxedStream

_LINE_BYTES = 1024


class LightStream:
    """A stream.

    Args:
        muxed: the connection's.
        connection: that it is on.
        dialler: what proposed the protocol, for a stream that we open; the peer's answer is awaited by the first
            read.
    """

    def __init__(self, muxed: MuxedStream, connection: Connection, dialler: Dialler | None = None) -> None:
        self._muxed = muxed
        self._connection = connection
        self._dialler = dialler
        self._early = b""  # read together with the end of the negotiation

    @classmethod
    async def propose(cls, muxed: MuxedStream, connection: Connection, protocol: str) -> LightStream:
        """Propose a protocol on a stream that we opened; more may be written before the peer has agreed.

        Raises:
            StreamReset: it is gone.
        """
        dialler = Dialler([protocol])
        await muxed.write(dialler.data_to_send())
        return cls(muxed, connection, dialler)

    @property
    def connection(self) -> Connection:
        """The connection that it is on."""
        return self._connection

    @property
    def received(self) -> int:
        """Bytes that have come from the peer so far, read or not; those of the negotiation are counted, too."""
        return self._muxed.received

    async def negotiate(self, protocols: Collection[str]) -> str:
        """Agree on the protocol of a stream that the peer has opened.

        Raises:
            StreamReset: it ended before that.
            ProtocolError: there is none in common, or it speaks nonsense.
        """
        listener = Listener(protocols)
        while listener.selected is None:
            data = await self._muxed.read(_LINE_BYTES)
            if not data:
                raise StreamReset("the stream ended before a protocol was agreed on")
            listener.receive(data)
            await self._muxed.write(listener.data_to_send())
        self._early = listener.trailing_data
        return listener.selected

    async def agreed(self) -> None:
        """Wait until the peer has taken the protocol that was proposed.

        Raises:
            StreamReset: it does not speak it, or is gone.
        """
        while self._dialler is not None and self._dialler.selected is None:
            data = await self._muxed.read(_LINE_BYTES)
            try:
                if not data:
                    raise StreamReset("the stream ended before a protocol was agreed on")
                self._dialler.receive(data)
            except ProtocolError as error:
                raise StreamReset(error.message) from error
        if self._dialler is not None:
            self._early, self._dialler = self._dialler.trailing_data, None

    async def read(self, max_bytes: int) -> bytes:
        """1 to `max_bytes` bytes as soon as there are any, b"" at the orderly end; StreamReset otherwise."""
        await self.agreed()
        if self._early:
            data, self._early = self._early[:max_bytes], self._early[max_bytes:]
            return data
        return await self._muxed.read(max_bytes)

    async def read_into(self, target: memoryview, at_least: int = 1) -> int:
        """As `MuxedStream.read_into`."""
        await self.agreed()
        head = len(self._early[: len(target)])
        if not head:
            return await self._muxed.read_into(target, at_least)
        target[:head], self._early = self._early[:head], self._early[head:]
        if head >= at_least:
            return head
        return head + await self._muxed.read_into(target[head:], at_least - head)

    async def write(self, data: bytes | memoryview) -> None:
        """Hand over all of `data`; waits while the peer's window is full. StreamReset when it is gone."""
        await self._muxed.write(data)

    async def close_write(self) -> None:
        """Half-close: nothing more will be written; reading goes on. StreamReset when the peer is gone."""
        await self._muxed.close_write()

    async def close(self) -> None:
        """Close both directions in order. Bounded, idempotent, raises nothing."""
        await self._muxed.close()

    async def reset(self) -> None:
        """Abort both directions. Bounded, idempotent, raises nothing."""
        await self._muxed.reset()
