"""Accepted sockets that become no connection: nothing stays open, and nothing ends but them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from p2pboot.transport.limits import Admission, ConnectionLimits, Refused
from p2pboot.transport.tcp.accepting import accepted
from p2pboot.transport.tcp.connection import TcpConnection
from p2pboot.transport.tcp.endpoint import Endpoint
from p2pboot.transport.tcp.stream import MuxedStream
from tests.transport.tcp.ends import KEYS, sockets


class Hasty(Admission[TcpConnection]):
    """Gives up each handshake before it begins."""

    def __init__(self) -> None:
        super().__init__(ConnectionLimits(), lambda _connection: None)

    @contextmanager
    def handshake(self, origin: str) -> Iterator[None]:
        with trio.CancelScope() as scope:
            scope.cancel()
            yield
        raise Refused(f"{origin} has to go")


def take_stream(_stream: MuxedStream) -> None:
    """Nobody opens one."""


async def test_a_handshake_that_has_to_go_before_it_began_closes_its_socket_and_nothing_else() -> None:
    endpoint = Endpoint(KEYS[0])
    for _ in range(10):  # who has the next turn, its task or the connection's, is chance
        ours, theirs = sockets()
        async with trio.open_nursery() as nursery:
            with pytest.raises(Refused):
                async with accepted(endpoint, Hasty(), ours, take_stream, nursery):
                    pass
        assert ours.fileno() == -1
        assert theirs.recv(1) == b""
        theirs.close()
