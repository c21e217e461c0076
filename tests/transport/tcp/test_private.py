"""Sockets of a private mesh: an outsider gets a nonce, silence, and an end; who dials with another key is told so."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import outcome
import pytest
import trio

from p2pboot.core.swarmkey import SwarmKey
from p2pboot.transport import limits
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import DialError
from p2pboot.transport.limits import Admission, ConnectionLimits, Refused
from p2pboot.transport.tcp import endpoint as endpoint_module
from p2pboot.transport.tcp.accepting import accepted
from p2pboot.transport.tcp.connection import TcpConnection
from p2pboot.transport.tcp.endpoint import Endpoint
from p2pboot.transport.tcp.stream import MuxedStream
from p2pboot.wire.connection import Keys
from p2pboot.wire.private import NONCE_BYTES, PrivateConnection
from tests.transport.conftest import until
from tests.transport.tcp.ends import KEYS, sockets

KEY, OTHER = SwarmKey(b"k" * 32), SwarmKey(b"o" * 32)
GREETING = b"\x13/multistream/1.0.0\n\x07/noise\n"


def take_stream(_stream: MuxedStream) -> None:
    """Nobody opens one."""


@asynccontextmanager
async def listening(key: SwarmKey | None) -> AsyncIterator[str]:
    """A node's end that accepts whoever comes, at an address."""
    ours, admission = Endpoint(KEYS[0], swarm_key=key), Admission[TcpConnection](ConnectionLimits(), print)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)

    async def serve(sock: socket.socket) -> None:
        with suppress(Exception):
            async with accepted(ours, admission, sock, take_stream, nursery) as tcp:
                await tcp.closed.wait()

    async def accept() -> None:
        while True:
            await trio.lowlevel.wait_readable(listener.fileno())
            sock, _ = listener.accept()
            sock.setblocking(False)
            nursery.start_soon(serve, sock)

    async with trio.open_nursery() as nursery:
        with listener:
            nursery.start_soon(ours.run)
            nursery.start_soon(accept)
            yield f"/ip4/127.0.0.1/tcp/{listener.getsockname()[1]}"
            nursery.cancel_scope.cancel()


async def dial(address: str, key: SwarmKey | None) -> str:
    """Dial, and return who answers."""
    ours = Endpoint(KEYS[1], swarm_key=key)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run)
        found = await outcome.acapture(ours.dial, parse_address(address), take_stream, nursery)
        nursery.cancel_scope.cancel()
    return found.unwrap().peer_id


@pytest.fixture
def short_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests in which every handshake has to run out of time."""
    monkeypatch.setattr(limits, "HANDSHAKE_S", 0.2)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests in which nobody answers who dials."""
    monkeypatch.setattr(endpoint_module, "_ANSWER_S", 0.05)


async def seen_by(outsider: bytes, *, bytewise: bool = False) -> tuple[bytes, Exception | None]:
    """What somebody sees who sends this to a node in a private mesh, and how the node's end of it ended."""
    ours, theirs = sockets()
    admission = Admission[TcpConnection](ConnectionLimits(), print)
    endpoint, failure = Endpoint(KEYS[0], swarm_key=KEY), None
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    got = bytearray()

    async def send() -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            for part in [outsider[n : n + 1] for n in range(len(outsider))] if bytewise else [outsider]:
                await stream.send_all(part)

    async def receive() -> None:
        with suppress(trio.BrokenResourceError):
            async for data in stream:
                got.extend(data)

    async with trio.open_nursery() as nursery, stream:
        nursery.start_soon(endpoint.run)
        async with trio.open_nursery() as talking:
            talking.start_soon(send)
            talking.start_soon(receive)
            try:
                async with accepted(endpoint, admission, ours, take_stream, nursery):
                    pytest.fail("it was taken in")
            except Exception as error:
                failure = error
        nursery.cancel_scope.cancel()
    return bytes(got), failure


@pytest.mark.parametrize(
    "outsider",
    [b"", b"\0" * NONCE_BYTES, GREETING, b"GET / HTTP/1.1\r\n\r\n" * 10, bytes(range(251)) * 4000],
    ids=["nothing", "a nonce", "a greeting in the clear", "HTTP", "a million bytes"],
)
async def test_an_outsider_sees_a_nonce_and_nothing_after_until_its_time_is_up(
    outsider: bytes, short_handshakes: None
) -> None:
    seen, failure = await seen_by(outsider)
    assert len(seen) == NONCE_BYTES
    assert isinstance(failure, Refused)
    assert failure.message == "the handshake took too long"


async def test_a_nonce_byte_by_byte_is_one_and_junk_after_it_is_not_answered(short_handshakes: None) -> None:
    seen, failure = await seen_by(b"n" * 24 + GREETING, bytewise=True)
    assert len(seen) == NONCE_BYTES
    assert isinstance(failure, Refused)


async def test_no_two_connections_have_one_nonce(short_handshakes: None) -> None:
    assert (await seen_by(b""))[0] != (await seen_by(b""))[0]


async def test_who_repeats_what_a_member_said_is_not_answered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "p2pboot")
    keys = Keys(KEYS[1], b"s" * 32, b"e" * 32)
    said = bytes(PrivateConnection(KEY, b"m" * NONCE_BYTES, initiator=True, keys=keys).data_to_send(1000))
    async with listening(KEY) as address:
        port = parse_address(address).port
        async with await trio.open_tcp_stream("127.0.0.1", port) as member:
            await member.send_all(said)
            seen = 0
            while seen <= NONCE_BYTES:
                seen += len(await member.receive_some())
        async with await trio.open_tcp_stream("127.0.0.1", port) as outsider:
            await outsider.send_all(said)
            await until(lambda: "it sends what somebody else sent before" in caplog.text)
            assert len(await outsider.receive_some()) == NONCE_BYTES


async def test_who_is_kept_out_is_in_the_log_and_no_stranger_fills_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "p2pboot")
    async with listening(KEY) as address:
        for _ in range(12):
            with pytest.raises(DialError):
                await dial(address, None)
    lines = [one.getMessage() for one in caplog.records if "kept out" in one.getMessage()]
    assert 1 <= len(lines) <= 9
    assert "kept out who came from 127.0.0.1:" in lines[0]
    assert "is it the same swarm key?" in lines[0]


async def test_one_key_connects() -> None:
    async with listening(KEY) as address:
        assert await dial(address, KEY) == KEYS[0].public.peer_id


@pytest.mark.parametrize(
    ("theirs", "ours", "words"),
    [
        (KEY, OTHER, "is it the same swarm key?"),
        (None, KEY, "or have another swarm key, or none"),
        (KEY, None, "is it in a private mesh (--swarm-key FILE)?"),
    ],
    ids=["another key", "a key, to one without", "without, to one with a key"],
)
async def test_who_dials_with_another_key_is_told_so_in_a_line(
    theirs: SwarmKey | None, ours: SwarmKey | None, words: str, impatient: None
) -> None:
    async with listening(theirs) as address:
        with pytest.raises(DialError) as caught:
            await dial(address, ours)
    error = caught.value
    assert error.message.startswith(address)
    assert words in error.message
    assert "\n" not in error.message
    assert error.remedy


async def test_a_peer_that_sends_junk_after_its_nonce_is_not_waited_for() -> None:
    """As one with another key that says the first word, which go-libp2p does."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, lambda stream: stream.send_all(b"j" * 100), 0)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(DialError, match="is it the same swarm key"):
            await dial(f"/ip4/127.0.0.1/tcp/{port}", KEY)
        nursery.cancel_scope.cancel()
