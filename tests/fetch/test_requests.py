"""One stream, many callers: everyone gets the reply to their own request, or the reason why there is none."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from p2pboot.errors import RemoteProtocolError
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.protocol.client import (
    PeerBusy,
    PeerLacks,
    ask_have,
    ask_heads,
    ask_manifest,
    ask_peers,
    ask_read,
)
from p2pboot.protocol.frames import FrameReader
from p2pboot.protocol.messages import MAX_IN_FLIGHT, Head, Reply, Status, encode_heads
from p2pboot.transport.interface import StreamReset
from tests.protocol.streams import MemoryStream, stream_pair

DIGEST = "0123456789abcdef" * 4
HEAD = Head("stable", "arm64", (f"ed25519:{DIGEST}",), 7, DIGEST, 1234)


class Server:
    """The other end, played by the test: takes requests and answers when it is told to."""

    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream
        self._frames = FrameReader()

    async def request(self) -> dict[str, object]:
        while (payload := self._frames.next_frame()) is None:
            data = await self.stream.read(4096)
            assert data, "the client wrote no further request"
            self._frames.receive_data(data)
        document = json.loads(payload)
        assert isinstance(document, dict)
        return document

    async def reply(self, body: bytes = b"", status: Status = Status.OK, **extra: object) -> None:
        await self.stream.write(Reply(status, body, extra).encode_header() + body)


@asynccontextmanager
async def connected(window: int = 1 << 16) -> AsyncIterator[tuple[RequestStream, Server]]:
    near, far = stream_pair(window=window, right="12D3KooWserver")
    async with RequestStream(near) as requests:
        yield requests, Server(far)


def byte_of(request: dict[str, object]) -> bytes:
    offset = request["offset"]
    assert isinstance(offset, int)
    return bytes([offset])


async def test_every_operation_has_its_request_and_its_result() -> None:
    async with connected() as (requests, server), trio.open_nursery() as nursery:
        nursery.start_soon(answer_everything, server)
        assert await requests.ask(ask_heads("stable", "arm64")) == ((HEAD,), ())
        assert await requests.ask(ask_peers()) == (b"record",)
        assert await requests.ask(ask_manifest(DIGEST)) == (b"{}", "c2ln")
        assert (await requests.ask(ask_have(DIGEST, 9))).to_bytes() == b"\xff\x80"
        assert await requests.ask(ask_read(DIGEST, 65, 1)) == b"A"


async def answer_everything(server: Server) -> None:
    assert await server.request() == {"op": "heads", "channel": "stable", "arch": "arm64"}
    await server.reply(encode_heads([HEAD]))
    assert await server.request() == {"op": "peers"}
    await server.reply(b'["cmVjb3Jk"]')
    assert await server.request() == {"op": "manifest", "digest": DIGEST}
    await server.reply(b"{}", detached="c2ln")
    assert await server.request() == {"op": "have", "sha256": DIGEST}
    await server.reply(b"\xff\x80")
    assert await server.request() == {"op": "read", "sha256": DIGEST, "offset": 65, "length": 1}
    await server.reply(b"A")


async def test_concurrent_callers_get_their_own_replies() -> None:
    got: dict[int, bytearray] = {}

    async def ask(requests: RequestStream, offset: int) -> None:
        got[offset] = await requests.ask(ask_read(DIGEST, offset, 1))

    async with connected() as (requests, server), trio.open_nursery() as nursery:
        for offset in range(40):  # more than the window
            nursery.start_soon(ask, requests, offset)
        for _ in range(40):
            await server.reply(byte_of(await server.request()))
    assert got == {offset: bytearray([offset]) for offset in range(40)}


async def test_requests_are_sent_without_waiting_for_replies() -> None:
    async with connected() as (requests, server), trio.open_nursery() as nursery:
        for offset in range(3):
            nursery.start_soon(requests.ask, ask_read(DIGEST, offset, 1))
        asked = [await server.request() for _ in range(3)]
        for request in asked:
            await server.reply(byte_of(request))


async def test_no_more_than_the_window_is_asked_at_once() -> None:
    async with connected() as (requests, server):
        async with trio.open_nursery() as nursery:
            for offset in range(MAX_IN_FLIGHT + 1):
                nursery.start_soon(requests.ask, ask_read(DIGEST, offset, 1))
            for _ in range(MAX_IN_FLIGHT):
                await server.request()
            await trio.testing.wait_all_tasks_blocked()
            assert server.stream.unread == 0
            assert requests.outstanding == MAX_IN_FLIGHT
            await server.reply(b"x")
            await server.request()
            for _ in range(MAX_IN_FLIGHT):
                await server.reply(b"x")
        assert requests.outstanding == 0


@pytest.mark.parametrize(
    ("status", "error"),
    [(Status.NOT_FOUND, PeerLacks), (Status.GONE, PeerLacks), (Status.BUSY, PeerBusy)],
)
async def test_refusal_reaches_its_caller_and_the_stream_goes_on(
    status: Status, error: type[Exception]
) -> None:
    async def serve(server: Server) -> None:
        await server.request()
        await server.reply(status=status)
        await server.request()
        await server.reply(b"x")

    async with connected() as (requests, server), trio.open_nursery() as nursery:
        nursery.start_soon(serve, server)
        with pytest.raises(error):
            await requests.ask(ask_read(DIGEST, 0, 1))
        assert await requests.ask(ask_read(DIGEST, 0, 1)) == b"x"


async def test_cancelled_caller_leaves_the_others_their_replies() -> None:
    got: list[bytearray] = []

    async def ask(requests: RequestStream, offset: int, scope: trio.CancelScope) -> None:
        with scope:
            got.append(await requests.ask(ask_read(DIGEST, offset, 1)))

    scopes = [trio.CancelScope() for _ in range(3)]
    async with connected() as (requests, server):
        async with trio.open_nursery() as nursery:
            for offset, scope in enumerate(scopes):
                nursery.start_soon(ask, requests, offset, scope)
            asked = [await server.request() for _ in scopes]
            scopes[1].cancel()
            await trio.testing.wait_all_tasks_blocked()
            for request in asked:
                await server.reply(byte_of(request))
        await trio.testing.wait_all_tasks_blocked()  # the unwanted reply may be the last one
        assert requests.outstanding == 0
    assert sorted(got) == [b"\x00", b"\x02"]


async def test_caller_cancelled_in_the_middle_of_its_body_leaves_the_stream_usable() -> None:
    async with connected() as (requests, server), trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(cancellable_read, requests, 5, scope)
        await server.request()
        header = Reply(Status.OK, b"hello").encode_header()
        await server.stream.write(header + b"he")
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        await server.stream.write(b"llo")
        nursery.start_soon(answer_once, server, b"next!")
        assert await requests.ask(ask_read(DIGEST, 0, 5)) == b"next!"


async def cancellable_read(requests: RequestStream, length: int, scope: trio.CancelScope) -> None:
    with scope:
        await requests.ask(ask_read(DIGEST, 0, length))
    assert scope.cancelled_caught


async def answer_once(server: Server, body: bytes) -> None:
    await server.request()
    await server.reply(body)


async def test_request_that_is_cancelled_before_it_is_sent_is_not_sent() -> None:
    async with connected(window=100) as (requests, server), trio.open_nursery() as nursery:
        first, second = trio.CancelScope(), trio.CancelScope()
        nursery.start_soon(cancellable_read, requests, 1, first)
        await trio.testing.wait_all_tasks_blocked()  # it is sent in part only: the window is small
        nursery.start_soon(cancellable_read, requests, 2, second)
        await trio.testing.wait_all_tasks_blocked()
        second.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert (await server.request())["length"] == 1
        await trio.testing.wait_all_tasks_blocked()
        assert server.stream.unread == 0
        assert requests.outstanding == 1
        first.cancel()


async def test_closing_with_nothing_unanswered_closes_in_order() -> None:
    async with connected() as (requests, server), trio.open_nursery() as nursery:
        nursery.start_soon(answer_once, server, b"x")
        await requests.ask(ask_read(DIGEST, 0, 1))
    assert await server.stream.read(1) == b""
    assert not server.stream.was_reset


async def test_leaving_with_requests_unanswered_resets_and_wakes_everybody() -> None:
    async def ask(requests: RequestStream) -> None:
        with pytest.raises(StreamReset, match="closed on this side"):
            await requests.ask(ask_read(DIGEST, 0, 1))

    near, far = stream_pair()
    async with trio.open_nursery() as nursery, RequestStream(near) as requests:
        nursery.start_soon(ask, requests)
        await Server(far).request()
    assert far.was_reset


async def test_error_of_the_body_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with connected():
            raise KeyError("mine")


async def test_cancelling_the_owner_ends_it_at_once() -> None:
    near, far = stream_pair()
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(own_and_read, near, scope)
        await Server(far).request()
        scope.cancel()
    assert far.was_reset


async def own_and_read(stream: MemoryStream, scope: trio.CancelScope) -> None:
    with scope:
        async with RequestStream(stream) as requests:
            await requests.ask(ask_read(DIGEST, 0, 1))
    assert scope.cancelled_caught


async def test_violation_ends_the_stream_for_everyone_and_names_the_peer() -> None:
    failures: list[RemoteProtocolError] = []

    async def ask(requests: RequestStream) -> None:
        with pytest.raises(RemoteProtocolError, match=r"12D3KooWserver.*length") as caught:
            await requests.ask(ask_read(DIGEST, 0, 1))
        failures.append(caught.value)

    async with connected() as (requests, server):
        async with trio.open_nursery() as nursery:
            for _ in range(MAX_IN_FLIGHT + 2):
                nursery.start_soon(ask, requests)
            await server.request()
            await server.reply(b"xy")
        assert len(set(map(id, failures))) == MAX_IN_FLIGHT + 2
        assert not any(isinstance(failure, StreamReset) for failure in failures)
        for _ in range(MAX_IN_FLIGHT + 1):
            await ask(requests)
        assert server.stream.was_reset
    await ask(requests)  # the first reason stays


async def test_unasked_bytes_end_the_stream() -> None:
    async with connected() as (requests, server):
        await server.stream.write(b"\x02{}")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(RemoteProtocolError, match="not asked for"):
            await requests.ask(ask_heads())


@pytest.mark.parametrize(
    "sent", [0, 1, 10, -1], ids=["nothing", "in the header", "more of it", "in the body"]
)
async def test_end_before_the_reply_is_complete_is_a_reset(sent: int) -> None:
    async def serve(server: Server) -> None:
        await server.request()
        await server.stream.write((Reply(Status.OK, b"hello").encode_header() + b"hello")[:sent])
        await server.stream.close()

    async with connected() as (requests, server), trio.open_nursery() as nursery:
        nursery.start_soon(serve, server)
        with pytest.raises(StreamReset, match="owing the reply to"):
            await requests.ask(ask_read(DIGEST, 0, 5))


async def test_reset_by_the_peer_reaches_every_caller() -> None:
    async def ask(requests: RequestStream) -> None:
        with pytest.raises(StreamReset):
            await requests.ask(ask_heads())

    async with connected() as (requests, server), trio.open_nursery() as nursery:
        nursery.start_soon(ask, requests)
        nursery.start_soon(ask, requests)
        await server.request()
        await server.stream.reset()


async def test_peer_that_reads_nothing_does_not_hold_up_the_end() -> None:
    near, far = stream_pair(window=10)
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(own_and_read, near, scope)
        await trio.testing.wait_all_tasks_blocked()
        assert far.unread == 10
        scope.cancel()
    assert far.was_reset


async def test_progress_is_the_time_of_the_last_byte(autojump_clock: trio.testing.MockClock) -> None:
    async with connected() as (requests, server):
        await trio.sleep(100)  # an idle stream owes us nothing
        async with trio.open_nursery() as nursery:
            nursery.start_soon(requests.ask, ask_read(DIGEST, 0, 5))
            await server.request()
            asked_at = trio.current_time()
            await trio.sleep(3)
            assert requests.last_progress == asked_at
            await server.stream.write(Reply(Status.OK, b"hello").encode_header() + b"hel")
            await trio.sleep(4)
            assert requests.last_progress == asked_at + 3
            nursery.start_soon(
                requests.ask, ask_read(DIGEST, 5, 1)
            )  # one more does not excuse the silence on the first
            await server.request()
            assert requests.last_progress == asked_at + 3
            await server.stream.write(b"lo")
            await server.reply(b"x")
        assert requests.last_progress == asked_at + 7


async def test_bytes_of_a_body_that_trickles_in_are_progress(autojump_clock: trio.testing.MockClock) -> None:
    body = bytes(10_000)
    async with connected() as (requests, server), trio.open_nursery() as nursery:
        nursery.start_soon(requests.ask, ask_read(DIGEST, 0, len(body)))
        await server.request()
        asked_at = trio.current_time()
        await server.stream.write(Reply(Status.OK, body).encode_header())
        for second in range(1, 10):
            await trio.sleep(1)
            await server.stream.write(body[:1000])
            await trio.testing.wait_all_tasks_blocked()
            assert requests.last_progress == asked_at + second
        await trio.sleep(5)
        assert requests.last_progress == asked_at + 9
        await server.stream.write(body[:1000])


async def test_a_body_comes_into_the_memory_that_its_query_makes() -> None:
    memory = bytearray(b"?????")
    async with connected() as (requests, server), trio.open_nursery() as nursery:
        nursery.start_soon(answer_once, server, b"hello")
        assert await requests.ask(ask_read(DIGEST, 0, 5, lambda _: memory)) is memory
    assert memory == b"hello"


async def test_large_body_arrives_whole() -> None:
    body = bytes(range(256)) * 4096 * 4  # 4 MiB through a window of 64 KiB
    async with connected() as (requests, server), trio.open_nursery() as nursery:
        nursery.start_soon(answer_once, server, body)
        assert await requests.ask(ask_read(DIGEST, 0, len(body))) == body
