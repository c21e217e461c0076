"""What strangers cost those who come from other addresses, and the node: slots, turns, memory, hanging up."""

from __future__ import annotations

import gc
import itertools
import logging
import struct
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from p2pboot.gateway import http1, service, slots
from p2pboot.gateway.body import SMALLEST_READ
from p2pboot.gateway.reports import Reports
from p2pboot.gateway.slots import Slots
from p2pboot.store.store import Store
from tests.gateway.clients import BIG, connected, drained, request, status_of
from tests.gateway.world import PAIR, OfferingNode, Running, gateway_settings, put, serving

STRANGER = "127.0.0.2"
ASK = request(f"{PAIR}/rootfs")


async def test_one_address_keeps_nobody_else_out(store: Store, tmp_path: Path) -> None:
    put(store, BIG)
    few = Slots(8)
    async with (
        serving(OfferingNode(store), gateway_settings(tmp_path), slots=few) as gateway,
        AsyncExitStack() as attack,
    ):
        for _ in range(12):
            await attack.enter_async_context(connected(gateway.port, ASK, buffer=4096, source=STRANGER))
        async with AsyncExitStack() as stack:
            honest = [await stack.enter_async_context(connected(gateway.port, ASK)) for _ in range(3)]
            for client in honest:
                assert (await drained(client)).endswith(BIG["rootfs"])
        assert few.refused == 0


async def test_who_chooses_to_be_slow_gives_way_to_others_of_the_same_address(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "SLOW_AFTER_S", 0.2)
    monkeypatch.setattr(service, "MEASURE_S", 0.05)
    put(store, BIG)
    async with (
        serving(OfferingNode(store), gateway_settings(tmp_path), slots=Slots(2)) as gateway,
        connected(gateway.port, ASK, buffer=4096),
        connected(gateway.port, ASK, buffer=4096),
        connected(gateway.port, ASK) as honest,
    ):
        assert (await drained(honest)).endswith(BIG["rootfs"])


async def test_connections_of_a_trusted_proxy_are_of_many(store: Store, tmp_path: Path) -> None:
    put(store, BIG)
    settings = gateway_settings(tmp_path, **{"gateway.trusted_proxies": (f"{STRANGER}/32",)})
    few = Slots(4)
    async with serving(OfferingNode(store), settings, slots=few) as gateway, AsyncExitStack() as stack:
        behind = [
            await stack.enter_async_context(connected(gateway.port, ASK, buffer=4096, source=STRANGER))
            for _ in range(4)
        ]
        for client in behind:
            assert await client.receive_some(9) == b"HTTP/1.1 "
        async with connected(gateway.port, ASK):
            for client in behind:
                assert await client.receive_some(1)
        assert few.cut == 0


async def test_requests_of_one_address_wait_for_each_other(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LOOKUPS", 1)
    put(store)
    answered: list[str] = []
    begun, go_on = trio.Event(), trio.Event()

    def page(_self: object) -> bytes:
        answered.append("page")
        trio.from_thread.run_sync(begun.set)
        trio.from_thread.run(go_on.wait)
        return b"page"

    def problem(_self: object) -> None:
        answered.append("health")

    monkeypatch.setattr(Reports, "page", page)
    monkeypatch.setattr(Reports, "problem", problem)
    ask = request("/", "Host: 127.0.0.1")
    async with (
        serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway,
        AsyncExitStack() as stack,
    ):
        crowd = [
            await stack.enter_async_context(connected(gateway.port, ask, source=STRANGER)) for _ in range(4)
        ]
        await begun.wait()
        honest = await stack.enter_async_context(connected(gateway.port, request("/health")))
        while len(gateway.service._shared.turns._waiting) < len(crowd):  # noqa: ASYNC110 - it has no event for it
            await trio.sleep(0.001)
        go_on.set()
        assert status_of(await drained(honest)) == 200
        for client in crowd:
            assert status_of(await drained(client)) == 200
    assert "health" in answered[:3]
    assert answered.count("page") == len(crowd)


async def test_who_does_not_read_costs_not_a_byte_of_what_was_read_for_him(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "KEPT_S", 0.01)
    put(store, BIG)
    read = store.blobs.read
    pieces: list[bytes] = []

    def reading(digest: str, offset: int, length: int) -> bytes:
        data = read(digest, offset, length)
        pieces.append(data)
        return data

    monkeypatch.setattr(store.blobs, "read", reading)
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway, AsyncExitStack() as stack:
        for _ in range(4):
            client = await stack.enter_async_context(connected(gateway.port, ASK, buffer=4096))
            assert await client.receive_some(9) == b"HTTP/1.1 "
        spare = bytes(2)
        pieces.append(spare)
        del spare
        unheld = sys.getrefcount(pieces[-1])

        def held() -> int:
            gc.collect()
            return sum(sys.getrefcount(pieces[at]) > unheld for at in range(len(pieces)))

        while held() or len(pieces) < 5:  # noqa: ASYNC110 - it has no event for it
            await trio.sleep(0.005)
    assert sum(map(len, pieces)) > 4 * SMALLEST_READ


STATES = [
    b"",
    b"GET",
    b"GET /kernel HTTP/1.1\r\nHost: x\r\n",
    request("/kernel"),
    b"GET /kernel HTTP/1.1\r\nHost: x\r\n\r\n" * 3,
    b"GET /kernel HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
    b"GET /kernel HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
    b"GET /kernel HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    b"HEAD /kernel HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\nabc",
    b"POST / HTTP/1.0\r\nContent-Length: 9\r\n\r\nabc",
    b"\x16\x03\x01",
    b"GET /kernel HTTP/1.1\r\nX: " + b"a" * 20_000,
    ASK,
    f"GET {PAIR}/rootfs HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 2,
]
RESET = struct.pack("ii", 1, 0)


async def test_who_hangs_up_in_whatever_state_is_no_fault_of_ours(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(store, BIG)
    every = Slots()
    async with serving(OfferingNode(store), gateway_settings(tmp_path), slots=every) as gateway:
        for sent, by_reset, is_late in itertools.product(STATES, (False, True), (False, True)):
            async with connected(gateway.port, sent, buffer=4096) as client:
                if is_late and sent.endswith(b"\r\n\r\n"):
                    await client.receive_some(1)
                if by_reset:
                    client.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET)
        while len(every):  # noqa: ASYNC110 - the gateway has no event for it
            await trio.sleep(0.001)
        assert gateway.service._counters.failures == 0
        assert (await gateway.get("/health")).status == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_body_in_chunks_of_a_byte_is_not_read_for_long(gateway: Running) -> None:
    chunks = b"1\r\na\r\n" * 100_000
    head = b"GET /kernel HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    received = await gateway.raw(head + chunks)
    assert received == b"" or status_of(received) == 200
