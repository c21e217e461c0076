"""The gateway within the limits of bandwidth, on the clock that jumps; and what it counts."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from p2pboot.core.identity import SecretKey
from p2pboot.core.origins import party_of
from p2pboot.core.pieces import KIB
from p2pboot.gateway.stream import ClientStream
from p2pboot.store.store import Store
from p2pboot.testing.network import MemoryNetwork
from p2pboot.transport.bandwidth import Bandwidth, Rates
from p2pboot.transport.interface import Stream
from p2pboot.transport.traffic import HTTP, RECEIVED, SENT
from tests.fetch.world import FILES
from tests.gateway.world import OfferingNode, gateway_settings, put, serving

MB = 1_000_000
BULK = "/test/bulk/1"
READER, WRITER = (SecretKey(bytes([number]) * 32).public.peer_id for number in (1, 2))


@contextmanager
def connection(
    bandwidth: Bandwidth, client: str = "192.0.2.7", *, is_proxy: bool = False
) -> Iterator[tuple[ClientStream, trio.SocketStream]]:
    """Both ends of a connection with an HTTP client."""
    near, far = socket.socketpair()
    near.setblocking(False)
    stream = ClientStream(near, party_of(client), bandwidth.meter(client, HTTP, is_many=is_proxy))
    try:
        with far:
            yield stream, trio.SocketStream(trio.socket.from_stdlib_socket(far))
    finally:
        stream.cut()


async def drain(far: trio.SocketStream) -> None:
    async for _ in far:
        pass


async def seconds_to_send(bandwidth: Bandwidth, size: int, *clients: str, is_proxy: bool = False) -> float:
    began = trio.current_time()
    async with trio.open_nursery() as reading:
        async with trio.open_nursery() as sending:
            for client in clients:
                sending.start_soon(_send, bandwidth, size, client, is_proxy)
        reading.cancel_scope.cancel()
    return trio.current_time() - began


async def _send(bandwidth: Bandwidth, size: int, client: str, is_proxy: bool) -> None:
    with connection(bandwidth, client, is_proxy=is_proxy) as (stream, far):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain, far)
            for _ in range(size // (64 * KIB)):
                await stream.send_all(bytes(64 * KIB))
            nursery.cancel_scope.cancel()


async def test_all_clients_together_keep_the_total(autojump_clock: MockClock) -> None:
    bandwidth = Bandwidth(Rates(upload=MB))
    assert await seconds_to_send(bandwidth, 4 * MB, "192.0.2.7", "192.0.2.8") == pytest.approx(8, rel=0.05)


async def test_a_client_with_two_connections_has_one_budget(autojump_clock: MockClock) -> None:
    bandwidth = Bandwidth(Rates(upload_per_peer=MB))
    clients = ("192.0.2.7", "192.0.2.7", "192.0.2.8")
    assert await seconds_to_send(bandwidth, 4 * MB, *clients) == pytest.approx(8, rel=0.05)


async def test_a_proxy_stands_for_many(autojump_clock: MockClock) -> None:
    rates = Rates(upload=2 * MB, upload_per_peer=100_000)
    took = await seconds_to_send(Bandwidth(rates), 16 * MB, "192.0.2.10", is_proxy=True)
    assert took == pytest.approx(8, rel=0.05)


async def test_requests_are_downloads(autojump_clock: MockClock) -> None:
    bandwidth = Bandwidth(Rates(download=10_000))
    with connection(bandwidth) as (stream, far):
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(far.send_all, bytes(100_000))
            received = 0
            while received < 100_000:
                received += len(await stream.receive_some())
        assert trio.current_time() - began == pytest.approx(10, abs=1.5)
    assert bandwidth.traffic[HTTP, RECEIVED] == 100_000


@asynccontextmanager
async def bulk_stream(bandwidth: Bandwidth) -> AsyncIterator[Stream]:
    """A stream between nodes in memory, of which one has the bandwidth and the other one reads all it gets."""

    async def read_everything(stream: Stream) -> None:
        while await stream.read(1 << 20):
            pass

    network = MemoryNetwork()
    async with network.open(READER) as reader, network.open(WRITER, bandwidth) as writer:
        reader.handle(BULK, read_everything)
        yield await writer.open_stream(await writer.dial(reader.addresses()[0]), BULK)


async def test_peers_and_clients_share_one_total_equally(autojump_clock: MockClock) -> None:
    bandwidth = Bandwidth(Rates(upload=MB))
    with trio.move_on_after(8):
        async with bulk_stream(bandwidth) as stream, trio.open_nursery() as nursery:
            nursery.start_soon(_send, bandwidth, 100 * MB, "192.0.2.7", False)
            nursery.start_soon(_send, bandwidth, 100 * MB, "192.0.2.7", False)
            await stream.write(bytes(100 * MB))
    by_peer = bandwidth.traffic.by_peer()
    over_http, to_peer = by_peer["192.0.2.7"][HTTP, SENT], by_peer[READER][BULK, SENT]
    assert over_http + to_peer == pytest.approx(8 * MB, rel=0.05)
    assert over_http == pytest.approx(to_peer, rel=0.05)


async def test_what_a_limit_lets_through_slowly_is_read_in_small_parts(autojump_clock: MockClock) -> None:
    """512 connections that wait for the limit with a whole piece each would hold half a gigabyte."""
    with connection(Bandwidth(Rates(upload=MB))) as (stream, _):
        assert 0 < await stream.wait_to_send(64 * KIB) < 64 * KIB


async def test_a_gateway_uses_its_nodes_bandwidth(store: Store, tmp_path: Path) -> None:
    put(store)
    node = OfferingNode(store)
    node.bandwidth.reconfigure(Rates(upload_per_peer=1 << 40))
    settings = gateway_settings(tmp_path)
    async with serving(node, settings) as gateway:
        await gateway.get("/kernel")
    counts = node.bandwidth.traffic.by_peer()["127.0.0.1"]
    assert counts[HTTP, SENT] > len(FILES["kernel"])
    assert counts[HTTP, RECEIVED] > 0
    assert node.bandwidth.meter("127.0.0.1", HTTP)._sender.bucket is not None


async def test_a_trusted_proxy_has_no_limit_of_one_peer(store: Store, tmp_path: Path) -> None:
    put(store)
    node = OfferingNode(store)
    node.bandwidth.reconfigure(Rates(upload_per_peer=1 << 40))
    settings = gateway_settings(tmp_path, **{"gateway.trusted_proxies": ("127.0.0.0/8",)})
    async with serving(node, settings) as gateway:
        await gateway.get("/kernel")
        assert node.bandwidth.meter("127.0.0.1", HTTP)._sender.bucket is None
