"""What became of a dial is in the error, not in its words."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator

import pytest
import trio

from p2pboot.core.identity import SecretKey
from p2pboot.core.swarmkey import SwarmKey
from p2pboot.testing.manifests import ALICE, BOB
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import DialError, DialFailure, Transport
from p2pboot.transport.light import open_light
from p2pboot.transport.tcp import sockets


@pytest.fixture
async def me() -> AsyncIterator[Transport]:
    async with open_light(SecretKey(b"m" * 32)) as transport:
        yield transport


async def failure_of(me: Transport, address: str) -> DialFailure:
    with pytest.raises(DialError) as raised:
        await me.dial(address)
    return raised.value.failure


async def test_a_port_where_nobody_listens(me: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert await failure_of(me, f"/ip4/127.0.0.1/tcp/{port}") is DialFailure.REFUSED


@pytest.mark.parametrize(
    ("number", "failure"),
    [
        (errno.ETIMEDOUT, DialFailure.TIMEOUT),
        (errno.ENETUNREACH, DialFailure.UNREACHABLE),
        (errno.EHOSTUNREACH, DialFailure.UNREACHABLE),
        (errno.EINVAL, DialFailure.UNREACHABLE),
        (errno.EPERM, DialFailure.NOT_PERMITTED),
        (errno.ENOBUFS, DialFailure.OTHER),
    ],
)
async def test_the_systems_own_reason_is_found(
    monkeypatch: pytest.MonkeyPatch, number: int, failure: DialFailure
) -> None:
    async def fail(*_: object) -> None:
        raise OSError("all attempts to connect failed") from OSError(number, os.strerror(number))

    monkeypatch.setattr(trio, "open_tcp_stream", fail)
    with pytest.raises(DialError, match=os.strerror(number)) as raised:
        await sockets.dial_tcp(parse_address("/ip4/192.0.2.1/tcp/4001"))
    assert raised.value.failure is failure


async def test_an_interface_that_is_not_there(me: Transport) -> None:
    with pytest.raises(DialError, match="no such interface") as raised:
        await me.dial("/ip6zone/nowhere0/ip6/fe80::1/tcp/1")
    assert raised.value.failure is DialFailure.UNREACHABLE


async def test_somebody_else_and_somebody_with_another_swarm_key(me: Transport) -> None:
    async with (
        open_light(ALICE, ["/ip4/127.0.0.1/tcp/0"]) as other,
        open_light(BOB, ["/ip4/127.0.0.1/tcp/0"], swarm_key=SwarmKey(b"k" * 32)) as private,
    ):
        address = other.addresses()[0].partition("/p2p/")[0]
        assert await failure_of(me, f"{address}/p2p/{BOB.public.peer_id}") is DialFailure.OTHER_PEER
        assert await failure_of(me, private.addresses()[0]) is DialFailure.NOT_LIBP2P
        assert await failure_of(other, other.addresses()[0]) is DialFailure.ITSELF


async def test_what_hangs_up_and_what_has_no_name(me: Transport) -> None:
    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, hang_up, 0)
        port = listeners[0].socket.getsockname()[1]
        assert await failure_of(me, f"/ip4/127.0.0.1/tcp/{port}") is DialFailure.HUNG_UP
        nursery.cancel_scope.cancel()
    assert await failure_of(me, "/dns4/nobody.invalid/tcp/1") is DialFailure.UNRESOLVED
