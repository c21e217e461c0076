"""What strangers cost those who come from other addresses, and the node: slots, turns, memory, hanging up."""

from __future__ import annotations

import itertools
import logging
import struct
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import h11
import pytest
import trio
from trio.testing import MockClock

from p2pboot.core.origins import Party
from p2pboot.gateway import accepting, service, slots
from p2pboot.gateway.body import KEPT_S, ROOM_BYTES, ArtifactBody, Room
from p2pboot.gateway.counters import GatewayCounters
from p2pboot.gateway.http1 import Connection, Shared
from p2pboot.gateway.replies import Reply
from p2pboot.gateway.reports import Reports
from p2pboot.gateway.slots import Progress, Slot, Slots
from p2pboot.gateway.stream import ClientStream
from p2pboot.serving.threads import Turns
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
            for client in honest:  # all of them before any is done
                assert await client.receive_some(12) == b"HTTP/1.1 200"
            for client in honest:
                assert (await drained(client)).endswith(BIG["rootfs"])
        assert few.cut == 2  # the reserve is one slot


async def test_who_chooses_to_be_slow_gives_way_to_others_of_the_same_address(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "SLOW_AFTER_S", 0.2)
    monkeypatch.setattr(accepting, "MEASURE_S", 0.05)
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

    def ready(_self: object, *_told: object) -> Reply:
        answered.append("ready")
        trio.from_thread.run_sync(begun.set)
        trio.from_thread.run(go_on.wait)
        return Reply(200)

    def health(_self: object) -> Reply:
        answered.append("health")
        return Reply(200)

    monkeypatch.setattr(Reports, "ready", ready)
    monkeypatch.setattr(Reports, "health", health)
    ask = request("/ready")
    async with (
        serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway,
        AsyncExitStack() as stack,
    ):
        crowd = [
            await stack.enter_async_context(connected(gateway.port, ask, source=STRANGER)) for _ in range(4)
        ]
        await begun.wait()
        honest = await stack.enter_async_context(connected(gateway.port, request("/health")))
        while len(gateway.service._accepting._shared.turns._waiting) < len(crowd):  # noqa: ASYNC110 - it has no event for it
            await trio.sleep(0.001)
        go_on.set()
        assert status_of(await drained(honest)) == 200
        for client in crowd:
            assert status_of(await drained(client)) == 200
    assert "health" in answered[:3]
    assert answered.count("ready") == len(crowd)


class Stuck:
    """A client that asks, takes ten bytes, and no more."""

    party = Party(STRANGER)

    def __init__(self) -> None:
        self.slot = Slot(self.party, lambda: None, Progress, 0.0)
        self._taking = 10

    async def receive_some(self) -> bytes:
        return ASK

    async def send_all(self, _data: bytes) -> None:
        pass

    async def wait_for_room(self) -> None:
        if not self._taking:
            await trio.sleep_forever()

    async def wait_to_send(self, max_bytes: int) -> int:
        await self.wait_for_room()
        return max_bytes

    def send_some(self, _data: memoryview) -> int:
        taken, self._taking = self._taking, 0
        return taken


@pytest.mark.parametrize("room", [0, ROOM_BYTES])
async def test_who_does_not_read_costs_not_a_byte_of_what_was_read_for_him(
    room: int, autojump_clock: MockClock
) -> None:
    pieces: list[bytes] = []

    async def read(_offset: int, length: int) -> bytes:
        pieces.append(bytes(length))
        return pieces[-1]

    async def answer(_request: h11.Request) -> Reply:
        return Reply(200, {}, ArtifactBody(read, 0, 1 << 30))

    shared = Shared(Turns(1), Room(room), GatewayCounters(), {})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Connection(cast(ClientStream, Stuck()), answer, shared).run)
        await trio.sleep(2 * KEPT_S)
        assert len(pieces) == 1
        pieces.append(bytes(3))
        held, free = (sys.getrefcount(piece) for piece in pieces)
        assert held == free
        with shared.room.keeping(room) as is_room:
            assert is_room
        nursery.cancel_scope.cancel()


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
