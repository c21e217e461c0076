"""One stream of a session, opened when there is something to ask on it."""

from __future__ import annotations

from typing import Any, TypeVar

import trio

from p2pboot.fetch.asking.requests import RequestStream, open_stream
from p2pboot.protocol.client import Query
from p2pboot.transport.interface import Connection, Transport

T = TypeVar("T")


class Line:
    """Asks on a stream of its own, which stays open until the session ends.

    Args:
        transport: the network.
        connection: with the peer.
        protocol: of the stream.
        nursery: holds the stream while it lasts.
    """

    def __init__(
        self, transport: Transport, connection: Connection, protocol: str, nursery: trio.Nursery
    ) -> None:
        self._transport = transport
        self._connection = connection
        self._protocol = protocol
        self._nursery = nursery
        self._opening = trio.Lock()
        self._requests: RequestStream | None = None

    async def open(self) -> RequestStream:
        """Open it, unless it is open.

        Raises:
            NoAnswer, NoStream, NoRoom: it does not open.
        """
        async with self._opening:
            if self._requests is None:
                requests: RequestStream = await self._nursery.start(self._hold)
                self._requests = requests
        return self._requests

    async def _hold(self, task_status: Any) -> None:
        stream = await open_stream(self._transport, self._connection, self._protocol)
        async with RequestStream(stream) as requests:
            task_status.started(requests)
            await trio.sleep_forever()

    async def ask(self, query: Query[T]) -> T:
        """Ask on it; see `RequestStream.ask`, and `open`."""
        return await (self._requests or await self.open()).ask(query)

    def silence_s(self) -> float:
        """For how long the peer has owed something here and not sent a byte, seconds."""
        requests = self._requests
        if requests is None or not requests.outstanding:
            return 0.0
        return trio.current_time() - requests.last_progress
