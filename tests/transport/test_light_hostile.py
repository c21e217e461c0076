"""What strangers do to a light transport, after which it still serves; of Yamux, see `tcp/test_connection`."""

from __future__ import annotations

import logging
import random

import pytest
import trio

from p2pboot.core.identity import SecretKey
from p2pboot.transport.interface import Connection, StreamReset, Transport
from p2pboot.transport.light import open_light
from p2pboot.transport.light.transport import LightTransport
from p2pboot.transport.metering import MeteredStream
from p2pboot.transport.tcp.negotiated import NegotiatedStream
from p2pboot.transport.tcp.stream import MuxedStream
from p2pboot.wire.multistream import GREETING, encode_line
from p2pboot.wire.yamux.limits import Limits
from p2pboot.wire.yamux.session import Session
from tests.connections import connection_with
from tests.transport import attacker
from tests.transport.conftest import ECHO, Lab, echo, wait_connected

NOISE = random.Random(20260101).randbytes(4096)


@pytest.fixture
async def node(light_lab: Lab) -> Transport:
    node = await light_lab.node()
    node.handle(ECHO, echo)
    return node


@pytest.fixture
async def stranger(light_lab: Lab, node: Transport) -> LightTransport:
    stranger: Transport = await light_lab.node()
    await stranger.dial(node.addresses()[0])
    await wait_connected(node, stranger.peer_id)
    assert isinstance(stranger, LightTransport)
    return stranger


async def still_serves(node: Transport) -> None:
    async with open_light(SecretKey(b"n" * 32)) as client:
        stream = await client.open_stream(await client.dial(node.addresses()[0]), ECHO)
        await stream.write(b"still there?")
        assert await stream.read(100) == b"still there?"
        await stream.close()


def session_of(stranger: LightTransport) -> Session:
    (tcp,) = stranger._live.values()
    return tcp._core.session


def raw_stream(stranger: LightTransport) -> MuxedStream:
    """A stream on which nothing is agreed yet."""
    (tcp,) = stranger._live.values()
    return tcp.open()


@pytest.mark.parametrize(
    "garbage",
    [
        NOISE,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        attacker.MULTISTREAM + NOISE,
        b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # a line of 2**63 bytes
        attacker.MULTISTREAM + b"\xff\xff\xff\x7f" + NOISE,  # a line of 256 MiB
        attacker.MULTISTREAM + attacker.line(b"\xff\xfe"),  # not UTF-8
        attacker.MULTISTREAM + attacker.line(b"/noise") + b"\x00\x20" + NOISE[:32],
        attacker.MULTISTREAM + attacker.line(b"/noise") + b"\xff\xff" + NOISE,
        attacker.MULTISTREAM + attacker.line(b"/noise") + b"\x00\x00\x00\x00",
    ],
)
async def test_garbage_before_a_session_is_hung_up_on(
    node: Transport, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "p2pboot.transport.tcp")
    async with attacker.tcp(node) as stream:
        await stream.send_all(garbage)
        await stream.send_eof()
        assert len(await attacker.drain(stream)) < 1000
    await still_serves(node)
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}


@pytest.mark.parametrize("protocol", ["/plaintext/2.0.0", "/secio/1.0.0", "/tls/1.0.0"])
async def test_nothing_but_noise_is_spoken(node: Transport, protocol: str) -> None:
    async with attacker.tcp(node) as stream:
        await stream.send_all(
            attacker.MULTISTREAM + attacker.line(protocol.encode()) + attacker.line(b"/noise")
        )
        expected = attacker.MULTISTREAM + attacker.line(b"na") + attacker.line(b"/noise")
        received = b""
        while len(received) < len(expected):
            received += await stream.receive_some()
        assert received == expected


async def test_a_peer_that_ignores_the_window_is_hung_up_on(
    node: Transport, stranger: LightTransport, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "p2pboot.transport.tcp")
    done = trio.Event()
    node.handle("/test/idle/1", lambda _stream: done.wait())
    stream = await stranger.open_stream(next(iter(stranger.connections())), "/test/idle/1")
    assert isinstance(stream, MeteredStream)
    assert isinstance(stream._stream, NegotiatedStream)
    stream._stream._muxed._core.send_window = 1 << 30
    with pytest.raises(StreamReset):
        await stream.write(bytes(64 << 20))
    await wait_connected(node, stranger.peer_id, connected=False)
    assert "more data on stream" in caplog.records[0].getMessage()
    done.set()
    await still_serves(node)


async def test_streams_beyond_the_limit_are_reset(node: Transport, stranger: LightTransport) -> None:
    session = session_of(stranger)
    session.limits = Limits(outbound_streams=1000)
    streams = [raw_stream(stranger) for _ in range(200)]
    for stream in streams:
        with_a_line = encode_line(GREETING)
        try:
            await stream.write(with_a_line)
        except StreamReset:
            break
    answered = 0
    for stream in streams:
        try:
            answered += bool(await stream.read(100))
        except StreamReset:
            break
    assert answered <= 128
    await still_serves(node)
    assert stranger.peer_id in node.peers()


@pytest.mark.parametrize("protocol", ["/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", ECHO, ""])
async def test_garbage_on_a_stream_ends_at_most_that_stream(
    node: Transport, stranger: LightTransport, protocol: str
) -> None:
    for garbage in (b"\x05hello", NOISE, b"\xff" * 20, b"\xff\xff\xff\x7f", b"\x00" * 50, b""):
        for end in ("close", "reset"):
            stream = raw_stream(stranger)
            if protocol:
                await stream.write(encode_line(GREETING) + encode_line(protocol))
            await stream.write(garbage)
            await getattr(stream, end)()
    await still_serves(node)
    assert stranger.peer_id in node.peers()


async def test_a_pushed_identity_is_not_taken(node: Transport, stranger: LightTransport) -> None:
    with pytest.raises(StreamReset):
        await stranger.open_stream(connection_with(stranger, node), "/ipfs/id/push/1.0.0")


@pytest.mark.parametrize("answer", [b"", NOISE, b"\xff" * 100_000, b"\x05\x0a\x03abc"])
async def test_a_peer_that_says_nonsense_of_itself_is_served_all_the_same(
    light_lab: Lab, node: Transport, answer: bytes
) -> None:
    stranger = await light_lab.node()
    asked = trio.Event()

    async def lie(stream: object) -> None:
        asked.set()
        await stream.write(answer)  # type: ignore[attr-defined]

    stranger.handle("/ipfs/id/1.0.0", lie)
    stranger.handle(ECHO, echo)
    await stranger.dial(node.addresses()[0])
    await asked.wait()
    await wait_connected(node, stranger.peer_id)
    connection: Connection = connection_with(node, stranger)
    stream = await node.open_stream(connection, ECHO)
    await stream.write(b"hello")
    assert await stream.read(10) == b"hello"
    assert not node.peer_records()
    assert not node.peer_addresses(stranger.peer_id)


async def test_a_handshake_that_stalls_holds_up_nobody(node: Transport) -> None:
    async with attacker.tcp(node) as one, attacker.tcp(node) as two:
        await one.send_all(attacker.MULTISTREAM[:5])
        await two.send_all(attacker.MULTISTREAM + attacker.line(b"/noise"))
        await still_serves(node)


async def test_nobody_can_be_connected_to_itself(light_lab: Lab, node: Transport) -> None:
    twin = await light_lab.node(key=SecretKey(b"t" * 32))
    async with open_light(SecretKey(b"t" * 32)) as same:
        with pytest.raises(Exception, match="itself"):
            await same.dial(twin.addresses()[0])
    assert not twin.peers()
    await still_serves(node)
