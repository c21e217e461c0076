"""Clients that are not what they should be: strange requests, floods, dribbles, and those that never read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import trio

from p2pboot.gateway import accepting, http1, slots
from p2pboot.gateway.body import LARGEST_READ, SMALLEST_READ, next_size, piece_end
from p2pboot.gateway.slots import Slots
from p2pboot.store.store import Store
from p2pboot.testing.waiting import HANG_S
from tests.fetch.world import FILES
from tests.gateway.clients import BIG, connected, drained, request, status_of
from tests.gateway.world import PAIR, OfferingNode, Running, gateway_settings, put, serving


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/..",
        "/stable/x86_64/../../state.sqlite3",
        "/stable/x86_64/%2e%2e/%2e%2e/state.sqlite3",
        "/stable/x86_64/..%2f..%2fstate.sqlite3",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/stable/x86_64/kernel%00",
        "/stable/x86_64/kernel%00.sig",
        "//etc/passwd",
        "//../kernel",
        "/.%2e/kernel",
        "/stable/%2E./x86_64/kernel",
        "/stable%2fx86_64/kernel",
        "/stable%5cx86_64%5ckernel",
        "/stable/x86%255f64/kernel",
        "/stable/x86_64/kernel%",
        "/stable/x86_64/kernel%5",
        "/stable/x86_64/kernel%0d%0aX:y",
        "/stable/x86_64/kernel%20",
        "/stable/x86_64/k%c3%abrnel",
        "/stable/x86_64/kernel/",
        "/stable/x86_64/kernel/.",
        "/kernel;v=2",
        "/stable/x86_64/dtbs/../kernel",
        "/stable/x86_64/dtbs/a/%2e%2e/b.dtb",
        "/etc/passwd",
        "/stable\\x86_64\\kernel",
        "/blobs/../state.sqlite3",
        "/blobs/ab/../../state.sqlite3.bin",
        "/phase/stable/x86_64/../manifest.json",
        "*",
        "kernel",
        "http:///etc/passwd",
        "http://x/../etc/passwd",
        "file:///etc/passwd",
        "/" + "a" * 1024,
        "/" + "%61" * 400,
        "/" + "a/" * 4000,
        "/" + "a" * 40_000,
        "/kern\x00el",
        "/kern\xe9l",
        "/kern el",
    ],
)
async def test_paths_that_lead_nowhere_get_4xx(gateway: Running, path: str) -> None:
    assert 400 <= status_of(await gateway.raw(request(path))) < 500


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "GET2", "X" * 200]
)
async def test_strange_methods_get_405(gateway: Running, method: str) -> None:
    reply = await gateway.raw(request("/kernel", method=method))
    assert status_of(reply) == 405
    assert b"Allow: GET, HEAD" in reply


@pytest.mark.parametrize(
    "lines",
    [
        ("Host: a b",),
        ("Host: ${ip}",),
        ("Host: x/y",),
        ("Host: x", "Host: x"),
        ("Host: ",),
        ("X: y",),
        ("Host x",),
        ("Host: x", "Content-Length: -1"),
        ("Host: x", "Content-Length: 1", "Content-Length: 2"),
        ("Host: x", "Transfer-Encoding: gzip"),
        ("Host: x", "bad\x01name: y"),
    ],
)
async def test_bad_fields_get_4xx(gateway: Running, lines: tuple[str, ...]) -> None:
    assert 400 <= status_of(await gateway.raw(request("/boot.ipxe", *lines))) < 502


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0" * 64 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_request_ends_the_connection(gateway: Running, raw: bytes) -> None:
    received = await gateway.raw(raw)
    assert received == b"" or 400 <= status_of(received) < 500
    assert (await gateway.get("/health")).status == 200


async def test_header_flood_is_refused(gateway: Running) -> None:
    flood = (
        b"GET /kernel HTTP/1.1\r\nHost: x\r\n"
        + b"X-Flood: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 20_000
    )
    received = await gateway.raw(flood)
    assert received == b"" or status_of(received) == 431


LONG = http1.HEADER_BYTES


@pytest.mark.parametrize("parts", [1, 2, 17])
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /kernel HTTP/1.0\r\nHost: x\r\nX: " + b"a" * (LONG - 38) + b"\r\n\r\n", 200),
        (b"GET /kernel HTTP/1.0\r\nHost: x\r\nX: " + b"a" * (LONG - 37) + b"\r\n\r\n", 431),
        (b"GET /kernel HTTP/1.0\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"HEAD /kernel HTTP/1.0\r\nHost: x\r\n" + b"X: y\r\n" * 3_000 + b"\r\n", 431),
        (b"GET /kernel?" + b"a" * 20_000 + b" HTTP/1.0\r\nHost: x\r\n\r\n", 414),
        (b"GET /boot.ipxe?machine=" + b"a" * 2_000 + b" HTTP/1.0\r\nHost: x\r\n\r\n", 414),
        (b"GET /" + b"a" * 2_000 + b" HTTP/1.0\r\nHost: x\r\n\r\n", 414),
    ],
    ids=["fits", "one too many", "one line", "many lines", "query", "machine", "path"],
)
async def test_head_has_one_limit_however_it_arrives(
    gateway: Running, head: bytes, status: int, parts: int
) -> None:
    async with connected(gateway.port) as client:
        size = -(-len(head) // parts)
        for start in range(0, len(head), size):
            await client.send_all(head[start : start + size])
        assert status_of(await drained(client)) == status
    assert gateway.service._counters.failures == 0


@pytest.mark.parametrize(
    "upgrade", [("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", "Connection: Upgrade, HTTP2-Settings")]
)
async def test_upgrade_to_http2_is_ignored(gateway: Running, upgrade: tuple[str, ...]) -> None:
    reply = await gateway.raw(request(f"{PAIR}/kernel", "Host: x", *upgrade))
    assert status_of(reply) == 200
    assert reply.endswith(FILES["kernel"])


async def test_http2_by_prior_knowledge_is_refused(gateway: Running) -> None:
    received = await gateway.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0")
    assert received == b"" or 400 <= status_of(received) < 500


async def test_websocket_is_refused(gateway: Running) -> None:
    fields = ("Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    text = (
        "GET / HTTP/1.1\r\n"
        + "".join(line + "\r\n" for line in fields)
        + "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert 400 <= status_of(await gateway.raw(text.encode())) < 500


async def test_unwanted_body_is_read_past(gateway: Running) -> None:
    body = b"x" * 3_000_000
    first = b"GET /manifest.json HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    received = await gateway.raw(first + body + request("/health"))
    assert received == b"" or status_of(received) == 200
    assert (await gateway.get("/health")).status == 200


async def test_pipelined_requests_are_answered_in_order(gateway: Running) -> None:
    one = b"HEAD /kernel HTTP/1.1\r\nHost: x\r\n\r\n"
    received = await gateway.raw(one * 50 + request("/health"))
    assert received.count(b"HTTP/1.1 200 OK") == 51
    assert received.endswith(b"\r\n\r\nok\n")


@pytest.mark.parametrize("begun", [b"", b"GET /kernel HTTP/1.1\r\nHost: x\r\nX: "])
async def test_request_that_does_not_arrive_ends_the_connection(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(http1, "HEADER_S", 0.1)
    async with (
        serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway,
        connected(gateway.port, begun) as slow,
    ):
        assert await drained(slow) == b""


async def test_dribbled_header_does_not_prolong_the_time(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "HEADER_S", 0.3)
    async with (
        serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway,
        connected(gateway.port, b"GET / HTTP/1.1\r\n") as slow,
        trio.open_nursery() as nursery,
    ):

        async def dribble() -> None:
            while True:
                try:
                    await slow.send_all(b"X: y\r\n")
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return
                await trio.sleep(0.01)

        nursery.start_soon(dribble)
        assert await drained(slow) == b""
        nursery.cancel_scope.cancel()


async def test_client_that_never_reads_holds_up_nobody(store: Store, tmp_path: Path) -> None:
    put(store, BIG)
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        ask = request(f"{PAIR}/rootfs")
        async with connected(gateway.port, ask, buffer=4096), connected(gateway.port, ask, buffer=4096):
            assert (await gateway.get(f"{PAIR}/rootfs")).body == BIG["rootfs"]
        # Leaving `serving` cancels the gateway while both replies are under way: it must end.


async def test_who_rests_makes_room_when_slots_are_short(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "REST_S", 0.0)
    put(store)
    async with (
        serving(OfferingNode(store), gateway_settings(tmp_path), slots=Slots(2)) as gateway,
        connected(gateway.port) as first,
        connected(gateway.port) as second,
    ):
        assert (await gateway.get("/health")).status == 200
        assert await drained(first) == b""
        await second.send_all(request("/health"))
        assert status_of(await drained(second)) == 200


async def test_without_a_slot_the_answer_is_503(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "WAIT_S", 0.0)
    put(store, BIG)
    few = Slots(1)
    async with serving(OfferingNode(store), gateway_settings(tmp_path), slots=few) as gateway:
        async with connected(gateway.port, request(f"{PAIR}/rootfs"), buffer=4096) as busy:
            assert (await busy.receive_some(9)) == b"HTTP/1.1 "
            assert (await gateway.get("/health")).status == 503
        assert few.refused == 1


async def test_who_waits_for_a_slot_is_served_when_there_is_one(store: Store, tmp_path: Path) -> None:
    put(store, BIG)
    few = Slots(1)
    async with serving(OfferingNode(store), gateway_settings(tmp_path), slots=few) as gateway:
        async with (
            connected(gateway.port, request(f"{PAIR}/rootfs"), buffer=4096) as busy,
            connected(gateway.port, request("/health")) as waiting,
        ):
            assert (await busy.receive_some(9)) == b"HTTP/1.1 "
            await busy.aclose()
            assert status_of(await drained(waiting)) == 200
        assert few.refused == 0


async def test_reply_stops_when_the_client_goes(store: Store, tmp_path: Path) -> None:
    put(store, BIG)
    open_slots = Slots()
    async with serving(OfferingNode(store), gateway_settings(tmp_path), slots=open_slots) as gateway:
        async with connected(gateway.port, request(f"{PAIR}/rootfs"), buffer=4096) as client:
            await client.receive_some(9)
        while len(open_slots):  # noqa: ASYNC110 - the gateway has no event for it
            await trio.sleep(0.001)
        metrics = (await gateway.report("/metrics")).body.decode()
    sent = next(
        line for line in metrics.splitlines() if line.startswith('p2pboot_http_bytes_total{direction="sent"}')
    )
    assert float(sent.split()[1]) < len(BIG["rootfs"])


@pytest.mark.parametrize("sent", [b"", b"GET /", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_closed_connection_gives_its_slot_back_at_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(http1, "HEADER_S", HANG_S)  # nothing else would give it back before
    open_slots = Slots()
    async with serving(OfferingNode(store), gateway_settings(tmp_path), slots=open_slots) as gateway:
        async with connected(gateway.port, sent):
            while not len(open_slots):  # noqa: ASYNC110 - the gateway has no event for it
                await trio.sleep(0.001)
        while len(open_slots):  # noqa: ASYNC110
            await trio.sleep(0.001)


async def test_replies_are_as_old_firmware_wants_them(gateway: Running) -> None:
    reply = await gateway.raw(request("/kernel"))
    assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length: %d\r\n" % len(FILES["kernel"]) in reply
    assert (await gateway.raw(request("/nothing"))).startswith(b"HTTP/1.1 404 Not Found\r\n")


async def test_many_readers_at_once_all_get_the_right_bytes(store: Store, tmp_path: Path) -> None:
    put(store, BIG)
    digest = hashlib.sha256(BIG["rootfs"]).hexdigest()
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:

        async def read() -> None:
            async with connected(gateway.port, request(f"/blobs/{digest}")) as client:
                body = (await drained(client)).partition(b"\r\n\r\n")[2]
                assert hashlib.sha256(body).hexdigest() == digest

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(read)


@pytest.mark.parametrize(
    ("sent", "at_once", "size", "expected"),
    [
        (SMALLEST_READ, SMALLEST_READ, SMALLEST_READ, 2 * SMALLEST_READ),
        (LARGEST_READ, LARGEST_READ, LARGEST_READ, LARGEST_READ),
        (LARGEST_READ, 300_000, LARGEST_READ, 262_144),
        (LARGEST_READ, 0, LARGEST_READ, SMALLEST_READ),
        (LARGEST_READ, 1, LARGEST_READ, SMALLEST_READ),
        (100, 100, LARGEST_READ, LARGEST_READ),
    ],
)
def test_reads_follow_what_the_client_takes(sent: int, at_once: int, size: int, expected: int) -> None:
    assert next_size(sent, at_once, size) == expected


@pytest.mark.parametrize(
    ("offset", "size", "end", "expected"),
    [(0, 8, 100, 8), (5, 8, 100, 8), (8, 8, 100, 16), (98, 8, 100, 100)],
)
def test_reads_end_at_multiples_of_their_size(offset: int, size: int, end: int, expected: int) -> None:
    assert piece_end(offset, size, end) == expected
