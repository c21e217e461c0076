# ruff: noqa: D102 - every method is one of the interface, and does what that says
"""Counts what is exchanged with peers, by protocol and direction: a transport around a transport."""

from __future__ import annotations

from collections import Counter
from typing import Final

import trio

from p2pboot.transport.interface import (
    Judge,
    PeerEvent,
    PeerRecord,
    Stream,
    StreamHandler,
    Transport,
    Verdict,
)

SENT: Final = "sent"
RECEIVED: Final = "received"
GOSSIP: Final = "gossip"  # payloads of messages; how often they were forwarded only the network knows


class MeteredTransport:
    """Does what another transport does, and counts.

    Args:
        transport: the network.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.transferred: Counter[tuple[str, str]] = Counter()
        """Bytes by (protocol, SENT or RECEIVED); protocols are those of this program, never a peer's words."""

    @property
    def peer_id(self) -> str:
        return self._transport.peer_id

    def addresses(self) -> tuple[str, ...]:
        return self._transport.addresses()

    def peers(self) -> frozenset[str]:
        return self._transport.peers()

    def peer_addresses(self, peer_id: str) -> tuple[str, ...]:
        return self._transport.peer_addresses(peer_id)

    def peer_records(self) -> tuple[bytes, ...]:
        return self._transport.peer_records()

    def read_peer_record(self, record: bytes) -> PeerRecord | None:
        return self._transport.read_peer_record(record)

    async def dial(self, address: str) -> str:
        return await self._transport.dial(address)

    async def hang_up(self, peer_id: str) -> None:
        await self._transport.hang_up(peer_id)

    async def open_stream(self, peer_id: str, protocol: str) -> Stream:
        stream = await self._transport.open_stream(peer_id, protocol)
        return _MeteredStream(stream, protocol, self.transferred)

    def handle(self, protocol: str, handler: StreamHandler) -> None:
        async def metered(stream: Stream) -> None:
            await handler(_MeteredStream(stream, protocol, self.transferred))

        self._transport.handle(protocol, metered)

    def peer_events(self) -> trio.MemoryReceiveChannel[PeerEvent]:
        return self._transport.peer_events()

    async def subscribe(self, topic: str, judge: Judge) -> None:
        async def metered(peer_id: str, payload: bytes) -> Verdict:
            self.transferred[GOSSIP, RECEIVED] += len(payload)
            return await judge(peer_id, payload)

        await self._transport.subscribe(topic, metered)

    async def unsubscribe(self, topic: str) -> None:
        await self._transport.unsubscribe(topic)

    async def publish(self, topic: str, payload: bytes) -> None:
        self.transferred[GOSSIP, SENT] += len(payload)
        await self._transport.publish(topic, payload)

    def forget_seen(self) -> None:
        self._transport.forget_seen()


class _MeteredStream:
    def __init__(self, stream: Stream, protocol: str, transferred: Counter[tuple[str, str]]) -> None:
        self._stream = stream
        self._protocol = protocol
        self._transferred = transferred

    @property
    def peer_id(self) -> str:
        return self._stream.peer_id

    async def read(self, max_bytes: int) -> bytes:
        data = await self._stream.read(max_bytes)
        self._transferred[self._protocol, RECEIVED] += len(data)
        return data

    async def write(self, data: bytes | memoryview) -> None:
        await self._stream.write(data)
        self._transferred[self._protocol, SENT] += len(data)

    async def close_write(self) -> None:
        await self._stream.close_write()

    async def close(self) -> None:
        await self._stream.close()

    async def reset(self) -> None:
        await self._stream.reset()
