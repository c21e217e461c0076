"""Answering libp2p's pings: a few at a time, so that nobody has us do nothing else."""

from __future__ import annotations

from typing import Final

from p2pboot.transport.interface import BareStream
from p2pboot.transport.tcp.connection import TcpConnection
from p2pboot.wire.ping import PING_BYTES

_LABOUR: Final = 40.0  # of one ping, in units of `labour`


async def answer_pings(stream: BareStream, connection: TcpConnection) -> None:
    """Send back what comes, until the peer has enough. Of one that pings without end the rest waits for its turn.

    Args:
        stream: that the peer opened for it.
        connection: that it is on.

    Raises:
        StreamReset: it ended.
    """
    while data := await stream.read(PING_BYTES):
        await connection.work(_LABOUR)
        await stream.write(data)
