"""Where one request ends and the next begins, and what a connection does with a body, half a connection, or no time.

A proxy may see another end of a request than the gateway does. What is then a request to one of the two and a body to
the other ("request smuggling") would be answered to somebody else: so after a request like that nothing is read.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import trio

from p2pboot.gateway import http1
from p2pboot.gateway.replies import Reply
from p2pboot.gateway.slots import Slots
from p2pboot.store.store import Store
from tests.gateway.clients import BIG, connected, drained, request, status_of
from tests.gateway.world import PAIR, OfferingNode, Running, gateway_settings, put, serving

HIDDEN = request("/health")
CHUNKED = "Transfer-Encoding: chunked"


def get(*lines: str, body: str = "", version: str = "1.1", end: str = "\r\n") -> bytes:
    """A request that leaves the connection open, with any lines and anything behind them."""
    head = end.join([f"GET /kernel HTTP/{version}", "Host: x", *lines, "", ""])
    return (head + body).encode("latin-1")


@pytest.mark.parametrize(
    "first",
    [
        get("Content-Length: 0"),
        get("Content-Length: 4", body="abcd"),
        get("Content-Length: 4", "Content-Length: 4", body="abcd"),
        get("Content-Length: 4, 4", body="abcd"),
        get(CHUNKED, body="0\r\n\r\n"),
        get("Transfer-Encoding: CHUNKED", body="4\r\nabcd\r\n0\r\nX: y\r\n\r\n"),
        get("Transfer-Encoding:\r\n chunked", body="0\r\n\r\n"),
        get("Content-Length:\r\n\t4", body="abcd"),
        get("X: y\r\n z"),
        get("X: y\nZ: z"),
        get(end="\n"),
        get("X: y\n"),
        get(CHUNKED, body="0\r\n\r\n", version="1.0"),
    ],
    ids=repr,
)
async def test_nothing_is_read_behind_a_request_that_others_may_see_longer(
    gateway: Running, first: bytes
) -> None:
    received = await gateway.raw(first + HIDDEN)
    assert status_of(received) == 200
    assert b"\r\nConnection: close\r\n" in received
    assert received.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "first",
    [
        get("Content-Length: 5", CHUNKED, body="0\r\n\r\n"),
        get(CHUNKED, "Content-Length: 5", body="0\r\n\r\n"),
        get("X: y\r\n" + CHUNKED, "content-length:0", body="0\r\n\r\n"),
        get(CHUNKED, CHUNKED, body="0\r\n\r\n"),
        get("Transfer-Encoding : chunked", body="0\r\n\r\n"),
        get("Transfer-Encoding: xchunked", body="0\r\n\r\n"),
        get("Transfer-Encoding: chunked, identity", body="0\r\n\r\n"),
        get("Transfer-Encoding: \x0bchunked", body="0\r\n\r\n"),
        get("Transfer-Encoding: chunked\x00", body="0\r\n\r\n"),
        get("Content-Length: +4", body="abcd"),
        get("Content-Length: 0x4", body="abcd"),
        get("Content-Length: 4 4", body="abcd"),
        get("Content-Length: 4, 5", body="abcd"),
        get("Content-Length: 4", "Content-Length: 5", body="abcd"),
        get("Content-Length: ", body="abcd"),
        get("Content-Length: " + "9" * 30),
        get(CHUNKED, body="0x0\r\n\r\n"),
        get(CHUNKED, body="-1\r\n\r\n"),
        get(CHUNKED, body="4\r\nabcde\r\n0\r\n\r\n"),
        get(CHUNKED, body="4\r\nabcd\n0\r\n\r\n"),
        get(CHUNKED, body="f" * 21 + "\r\n"),
        get(CHUNKED, body="0;" + "x" * 40_000),
        get(CHUNKED, body="0\r\n" + "X: y\r\n" * 10_000),
        get("X: y\rZ: z"),
        get(" X: y"),
        b"GET /kernel HTTP/1.1\r\n X: y\r\nHost: x\r\n\r\n",
        b"GET /kernel\r\n\r\n",  # HTTP/0.9
        b"GET  /kernel HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET\t/kernel HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /kernel HTTP/1.1 \r\nHost: x\r\n\r\n",
        b"GET /kernel http/1.1\r\nHost: x\r\n\r\n",
        b"GET /kernel HTTP/1.10\r\nHost: x\r\n\r\n",
        b"\r\nGET /kernel HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://user@x/kernel HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=lambda raw: repr(raw[:80]),
)
async def test_nothing_is_read_behind_a_request_that_is_none(gateway: Running, first: bytes) -> None:
    received = await gateway.raw(first + HIDDEN)
    if received:  # else the connection was reset: more had been sent than was read
        assert 400 <= status_of(received) < 502
        assert received.count(b"HTTP/1.1 ") == 1
        assert b"\r\nConnection: close\r\n" in received
    assert b"p2pboot_http_failures_total 0.0" in (await gateway.report("/metrics")).body


async def test_refused_requests_are_counted(gateway: Running) -> None:
    await gateway.raw(b"GET /kernel\r\n\r\n")
    assert b'requests_total{route="other",status="400"} 1.0' in (await gateway.report("/metrics")).body


async def test_body_of_any_length_is_no_excuse_for_a_head_with_one(gateway: Running) -> None:
    received = await gateway.raw(get(CHUNKED, body="x\r\n").replace(b"GET", b"HEAD"))
    assert status_of(received) == 400
    assert received.endswith(b"\r\n\r\n")


async def test_who_asks_before_sending_a_body_is_answered_without(
    gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "HEADER_S", math.inf)
    received = await gateway.raw(get("Expect: 100-continue", "Content-Length: 1000000"))
    assert status_of(received) == 200
    assert b"\r\nConnection: close\r\n" in received


@pytest.mark.parametrize(
    "first",
    [
        get(CHUNKED, body="ffffffffffffffffffff\r\n"),
        get(CHUNKED, body="2\r\nab\r\n"),
        get("Content-Length: 99999999999999999999"),
        get("Content-Length: 10", body="abcd"),
    ],
)
async def test_body_that_does_not_end_is_not_waited_for(
    gateway: Running, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(http1, "HEADER_S", 0.1)
    assert status_of(await gateway.raw(first)) == 200


async def test_body_without_end_is_not_read_to_its_end(
    gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "HEADER_S", math.inf)
    monkeypatch.setattr(http1, "BODY_BYTES", 100_000)
    first = get("Content-Length: 99999999999999999999", body="x" * 100_000)
    assert status_of(await gateway.raw(first)) == 200


async def test_connection_has_a_last_request(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "REQUESTS", 3)
    received = await gateway.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 5)
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert received.count(b"Connection: close") == 1
    assert b"Connection: close" in received.rpartition(b"HTTP/1.1 ")[2]


async def test_http_1_0_gets_one_reply_whatever_it_wishes(gateway: Running) -> None:
    received = await gateway.raw(b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2)
    assert received.count(b"HTTP/1.1 200 OK") == received.count(b"Connection: close") == 1


async def test_connection_goes_on_in_http1_after_a_wish_for_another_protocol(gateway: Running) -> None:
    wish = get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
    received = await gateway.raw(wish + HIDDEN)
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.endswith(b"\r\n\r\nok\n")


@pytest.mark.parametrize("answers", [1, 3])
async def test_client_that_says_no_more_still_gets_its_replies(
    store: Store, tmp_path: Path, answers: int
) -> None:
    put(store, BIG)
    ask = f"GET {PAIR}/rootfs HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    async with (
        serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway,
        connected(gateway.port, ask * answers) as client,
    ):
        await client.send_eof()
        received = await drained(client)
    assert received.count(b"HTTP/1.1 200 OK\r\n") == answers
    assert received.endswith(BIG["rootfs"])


async def test_client_that_goes_unanswered_is_counted_so(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store)
    node = OfferingNode(store)
    slots = Slots()
    arrived, gone = trio.Event(), trio.Event()
    async with serving(node, gateway_settings(tmp_path), slots=slots) as gateway:

        def health(_self: object) -> Reply:
            trio.from_thread.run_sync(arrived.set)
            trio.from_thread.run(gone.wait)
            return Reply(200)

        with monkeypatch.context() as patch:
            patch.setattr("p2pboot.gateway.reports.Reports.health", health)
            client = await trio.open_tcp_stream("127.0.0.1", gateway.port)
            client.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
            await client.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            await arrived.wait()
            await client.aclose()
            gone.set()
            while len(slots):  # noqa: ASYNC110 - the gateway has no event for it
                await trio.sleep(0.001)
        metrics = (await gateway.report("/metrics")).body
    assert b'requests_total{route="report",status="0"} 1.0' in metrics
