"""How far away a peer is: the time that libp2p's ping takes there and back, over a connection that is up."""

from __future__ import annotations

import secrets
from typing import Final

import trio

from p2pboot.errors import ProtocolError
from p2pboot.transport.interface import Connection, Stream, Transport
from p2pboot.wire.ping import PING_BYTES, PING_PROTOCOL, Ping

PINGS: Final = 3
"""Of which the quickest counts: what holds up the others is work, at either end, and not the way."""

PING_S: Final = 2.0
"""For all of them."""


async def round_trip(transport: Transport, connection: Connection) -> float | None:
    """The shortest round trip of a few, in seconds; None where the peer answers no ping, or not in `PING_S`."""
    least: float | None = None
    with trio.move_on_after(PING_S):
        try:
            stream = await transport.open_stream(connection, PING_PROTOCOL)
            try:
                for _ in range(PINGS):
                    took = await _ping(stream)
                    least = took if least is None else min(least, took)
            finally:
                await stream.close()
        except ProtocolError:
            return least
    return least


async def _ping(stream: Stream) -> float:
    payload = secrets.token_bytes(PING_BYTES)
    ping = Ping(payload)
    began = trio.current_time()
    await stream.write(payload)
    while ping.wants_bytes:
        data = await stream.read(ping.wants_bytes)
        if not data:
            raise ProtocolError("the peer has enough of pings")
        ping.receive(data)
    return trio.current_time() - began
