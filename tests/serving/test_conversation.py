"""One inbound stream: order, backpressure, limits, and that nobody can make us pay for more than they get."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.pieces import KIB, MIB
from p2pboot.errors import RemoteProtocolError
from p2pboot.protocol.frames import FrameReader, encode_prefix
from p2pboot.protocol.messages import (
    ARTIFACT_PROTOCOL,
    MAX_IN_FLIGHT,
    MAX_READ,
    ReadRequest,
    Reply,
    Status,
    encode_request,
)
from p2pboot.serving.accounts import KNOWN_PEERS, PeerAccount, Serving
from p2pboot.serving.conversation import Answer, Reserve, serve_stream
from p2pboot.serving.limits import FULL_SLICE, Limits
from p2pboot.transport.bandwidth import UNLIMITED, Bandwidth, Rates
from p2pboot.transport.interface import StreamReset
from p2pboot.transport.metering import MeteredStream
from tests.protocol.streams import MemoryStream, stream_pair

DIGEST = "0123456789abcdef" * 4
ReadAnswer = Callable[[ReadRequest, Reserve], Awaitable[Reply]]


def read(offset: int = 0, length: int = 1) -> bytes:
    return encode_request(ReadRequest(DIGEST, offset, length))


async def zeros(request: ReadRequest, reserve: Reserve) -> Reply:
    """Any artifact is there, and consists of zeros."""
    await reserve(request.length)
    return Reply(Status.OK, bytes(request.length))


async def offset_as_body(request: ReadRequest, _reserve: Reserve) -> Reply:
    return Reply(Status.OK, str(request.offset).encode())


class Client:
    """The peer's end, played by the test."""

    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream
        self._frames = FrameReader()

    async def header(self) -> dict[str, Any]:
        while (payload := self._frames.next_frame()) is None:
            data = await self.stream.read(self._frames.needed)
            assert data, "the stream ended before a reply"
            self._frames.receive_data(data)
        document = json.loads(payload)
        assert isinstance(document, dict)
        return document

    async def body(self, length: int, *, at_once: int = 1 << 20) -> bytes:
        parts = b""
        while len(parts) < length:
            data = await self.stream.read(min(at_once, length - len(parts)))
            assert data, "the stream ended in a body"
            parts += data
        return parts

    async def reply(self) -> tuple[str, bytes]:
        header = await self.header()
        return header["status"], await self.body(header.get("length", 0))


class Served:
    """A server whose streams are opened by the test; they end with the nursery."""

    def __init__(
        self,
        nursery: trio.Nursery,
        answer: Answer = zeros,
        limits: Limits | None = None,
        rates: Rates = UNLIMITED,
    ) -> None:
        self.serving = Serving(limits)
        self.bandwidth = Bandwidth(rates)
        self.nursery = nursery
        self.ended = trio.Event()  # one stream did
        self._answer = answer

    def connect(self, peer: str = "peer", *, window: int = 256 * KIB) -> tuple[Client, MemoryStream]:
        """The peer's client, and the server's own end of the stream."""
        near, far = stream_pair(window=window, left=peer)
        self.nursery.start_soon(self._serve, far)
        return Client(near), far

    async def _serve(self, stream: MemoryStream) -> None:
        metered = MeteredStream(stream, ARTIFACT_PROTOCOL, self.bandwidth)
        await serve_stream(metered, ARTIFACT_PROTOCOL, self._answer, self.serving)
        self.ended.set()

    def endings(self) -> dict[str, int]:
        return {ending: count for (_, ending), count in self.serving.counters.streams.items()}


# --- order and manners


async def test_pipelined_requests_are_answered_in_order_and_then_the_stream_closes() -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery, offset_as_body)
        client, far = served.connect()
        await client.stream.write(b"".join(read(offset) for offset in range(100)))
        await client.stream.close_write()
        for offset in range(100):
            assert await client.reply() == ("ok", str(offset).encode())
        assert await client.stream.read(1) == b""
    assert not far.was_reset
    assert served.endings() == {"closed": 1}
    assert served.serving.counters.requests == {(ARTIFACT_PROTOCOL, "read", "ok"): 100}


BAD = {
    "empty frame": b"",
    "bad JSON": b"{",
    "array": b"[]",
    "unknown operation": b'{"op":"write"}',
    "upper-case hex": b'{"op":"have","sha256":"%s"}' % DIGEST.upper().encode(),
    "negative": b'{"op":"read","sha256":"%s","offset":-1,"length":1}' % DIGEST.encode(),
    "nested deeply": b"[" * 4096,
}


@pytest.mark.parametrize("payload", BAD.values(), ids=BAD)
async def test_bad_request_is_told_and_the_stream_goes_on(payload: bytes) -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        client, _ = served.connect()
        await client.stream.write(encode_prefix(len(payload)) + payload + read())
        header = await client.header()
        assert header["status"] == "bad_request"
        assert header["reason"]
        assert "length" not in header
        assert await client.reply() == ("ok", b"\0")
        await client.stream.close()
    assert (ARTIFACT_PROTOCOL, "bad_request", "bad_request") in served.serving.counters.requests


@pytest.mark.parametrize("tail", [b"\x80\x00", b"\x80\x80\x01", b"\x81\x20", b"\xff\xff"], ids=bytes.hex)
async def test_overlong_frame_resets_after_what_was_asked_before(tail: bytes) -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        client, far = served.connect()
        await client.stream.write(read() * 3 + tail)
    assert far.was_reset
    assert served.endings() == {"violation": 1}
    assert served.serving.counters.requests == {(ARTIFACT_PROTOCOL, "read", "ok"): 3}


@pytest.mark.parametrize("cut", [1, 2, -1])
async def test_end_inside_a_frame_resets(cut: int) -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        client, far = served.connect()
        await client.stream.write(encode_request(ReadRequest(DIGEST, 0, 1))[:cut])
        await client.stream.close_write()
    assert far.was_reset
    assert served.endings() == {"violation": 1}


async def test_stream_that_is_opened_and_closed_is_closed() -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        client, far = served.connect()
        await client.stream.close()
    assert far.was_closed


@given(st.lists(st.binary(max_size=60) | st.sampled_from([read(), b"\x02{}", b"\x00", b"\x80"]), max_size=8))
def test_garbage_ends_nothing_but_its_stream(chunks: list[bytes]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            served = Served(nursery)
            client, _ = served.connect(window=1 << 20)
            try:
                for chunk in chunks:
                    await client.stream.write(chunk)
                await client.stream.close_write()
                await client.stream.read_all()
            except RemoteProtocolError:
                pass
        assert set(served.endings()) <= {"closed", "violation"}
        assert served.serving.memory.free == served.serving.limits.body_memory

    trio.run(main)


async def test_failing_answer_resets_its_stream_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_request: ReadRequest, _reserve: Reserve) -> Reply:
        raise RuntimeError("a bug")

    async with trio.open_nursery() as nursery:
        served = Served(nursery, fail)
        client, far = served.connect("12D3KooWpeer")
        await client.stream.write(read())
    assert far.was_reset
    assert served.endings() == {"failed": 1}
    assert "12D3KooWpeer" in caplog.text


async def test_error_while_the_node_ends_does_not_come_out() -> None:
    async def fail_when_cancelled(_request: ReadRequest, _reserve: Reserve) -> Reply:
        try:
            await trio.sleep_forever()
        finally:
            raise RuntimeError("a bug in cleaning up")

    async with trio.open_nursery() as nursery:
        served = Served(nursery, fail_when_cancelled)
        client, far = served.connect()
        await client.stream.write(read())
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert far.was_reset


async def test_end_of_the_node_resets_open_streams_and_frees_their_memory() -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        client, far = served.connect()
        await client.stream.write(read(length=MAX_READ) + read(length=MAX_READ))
        await trio.testing.wait_all_tasks_blocked()
        assert served.serving.memory.free < served.serving.limits.body_memory
        nursery.cancel_scope.cancel()
    assert far.was_reset
    assert served.serving.memory.free == served.serving.limits.body_memory
    assert served.endings() == {"cancelled": 1}


async def test_reset_by_the_peer_frees_the_memory() -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        client, _ = served.connect()
        await client.stream.write(read(length=MAX_READ))
        await trio.testing.wait_all_tasks_blocked()
        await client.stream.reset()
    assert served.serving.memory.free == served.serving.limits.body_memory
    assert served.endings() == {"gone": 1}


# --- what goes on at the same time


async def test_what_is_beyond_the_window_stays_unread() -> None:
    started = 0

    async def never(_request: ReadRequest, _reserve: Reserve) -> Reply:
        nonlocal started
        started += 1
        await trio.sleep_forever()
        raise AssertionError

    async with trio.open_nursery() as nursery:
        served = Served(nursery, never)
        client, far = served.connect(window=1 << 20)
        await client.stream.write(read() * 2000)
        await trio.testing.wait_all_tasks_blocked()
        assert started == 1
        taken = 2000 * len(read()) - far.unread
        assert taken <= MAX_IN_FLIGHT * len(read()) + 4096
        nursery.cancel_scope.cancel()


async def test_next_reply_is_prepared_while_one_is_written_and_no_more() -> None:
    prepared: list[int] = []

    async def note(request: ReadRequest, reserve: Reserve) -> Reply:
        prepared.append(request.offset)
        return await zeros(request, reserve)

    async with trio.open_nursery() as nursery:
        served = Served(nursery, note)
        client, _ = served.connect(window=64 * KIB)
        await client.stream.write(b"".join(read(offset, MIB) for offset in range(5)))
        await trio.testing.wait_all_tasks_blocked()  # the first reply fills the window
        assert prepared == [0, 1]
        await client.reply()
        await trio.testing.wait_all_tasks_blocked()
        assert prepared == [0, 1, 2]
        nursery.cancel_scope.cancel()


async def test_small_reply_is_one_write() -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        client, far = served.connect()
        await client.stream.write(read(length=1000))
        await client.reply()
        await client.stream.close()
    assert len(far.writes) == 1


async def test_large_reply_is_written_in_slices() -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        client, far = served.connect()
        await client.stream.write(read(length=MIB))
        assert await client.reply() == ("ok", bytes(MIB))
        await client.stream.close()
    assert max(far.writes) == FULL_SLICE
    assert served.serving.counters.bytes_sent == {ARTIFACT_PROTOCOL: sum(far.writes)}


# --- memory


async def test_hostile_readers_never_get_more_memory_than_there_is(
    mock_clock: trio.testing.MockClock,
) -> None:
    """On a clock that stands still: nobody loses his memory because filling it took long."""
    peak = 0

    async def measure(request: ReadRequest, reserve: Reserve) -> Reply:
        nonlocal peak
        await reserve(request.length)
        peak = max(peak, served.serving.limits.body_memory - served.serving.memory.free)
        return Reply(Status.OK, bytes(request.length))

    async with trio.open_nursery() as nursery:
        served = Served(nursery, measure)
        for peer in range(10):
            for _ in range(10):
                client, _ = served.connect(f"peer {peer}", window=1)
                nursery.start_soon(client.stream.write, read(length=MAX_READ) * 4)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert peak == served.serving.limits.body_memory


async def test_one_peer_gets_no_more_than_its_share(mock_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        limits = served.serving.limits
        for _ in range(10):
            client, _ = served.connect("greedy", window=4096)
            await client.stream.write(read(length=MAX_READ) * 2)
        await trio.testing.wait_all_tasks_blocked()
        assert served.serving.memory.free == limits.body_memory - limits.peer_body_memory
        nursery.cancel_scope.cancel()


async def test_readers_that_do_not_read_can_not_starve_the_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery, limits=Limits(stall_s=1e6))
        for peer in range(4):
            client, _ = served.connect(f"hostile {peer}", window=4096)
            await client.stream.write(read(length=MAX_READ))
        await trio.sleep(1000)
        assert served.serving.memory.free == 0  # nobody else wants it: slow is allowed
        honest, _ = served.connect("honest")
        await honest.stream.write(read(length=MIB))
        with trio.fail_after(2 * served.serving.limits.patience_s):
            assert await honest.reply() == ("ok", bytes(MIB))
        nursery.cancel_scope.cancel()
    assert served.endings()["stalled"] == 4


# --- time


async def test_idle_stream_is_closed_in_order(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        client, far = served.connect()
        await trio.sleep(served.serving.limits.idle_s - 1)
        await client.stream.write(read())
        await client.reply()
        await trio.sleep(served.serving.limits.idle_s - 1)
        await client.stream.write(read())
        await client.reply()
        last = trio.current_time()
        assert await client.stream.read(1) == b""
        assert trio.current_time() - last == pytest.approx(served.serving.limits.idle_s)
    assert far.was_closed
    assert served.endings() == {"idle": 1}


async def test_stream_is_not_idle_while_a_reply_is_due(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(_request: ReadRequest, _reserve: Reserve) -> Reply:
        await trio.sleep(10_000)
        return Reply(Status.OK, b"x")

    async with trio.open_nursery() as nursery:
        client, _ = Served(nursery, slow).connect()
        await client.stream.write(read())
        assert await client.reply() == ("ok", b"x")
        await client.stream.close()


async def test_request_that_trickles_in_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        client, _ = served.connect()
        begun = trio.current_time()
        nursery.start_soon(trickle, client.stream, read(), served.serving.limits.frame_s / 10)
        with pytest.raises(StreamReset):
            await client.stream.read(1)
        assert trio.current_time() - begun == pytest.approx(served.serving.limits.frame_s)
        nursery.cancel_scope.cancel()
    assert served.endings() == {"violation": 1}


async def test_every_request_has_its_own_time_to_arrive(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        client, _ = served.connect()
        for _ in range(3):
            nursery.start_soon(trickle, client.stream, read(), served.serving.limits.frame_s / 200)
            assert await client.reply() == ("ok", b"\0")
            await trio.sleep(2 * served.serving.limits.frame_s)
        await client.stream.close()
    assert served.endings() == {"closed": 1}


async def trickle(stream: MemoryStream, data: bytes, pause_s: float) -> None:
    for byte in data:
        await stream.write(bytes([byte]))
        await trio.sleep(pause_s)


async def test_reader_that_stops_reading_is_reset(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        client, _ = served.connect(window=64 * KIB)
        await client.stream.write(read(length=MIB))
        begun = trio.current_time()
        await served.ended.wait()
        assert trio.current_time() - begun == pytest.approx(served.serving.limits.stall_s)
        with pytest.raises(StreamReset):
            await client.stream.read(1)
    assert served.endings() == {"stalled": 1}
    assert served.serving.memory.free == served.serving.limits.body_memory


async def test_slow_reader_is_served_as_long_as_it_reads(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        client, _ = served.connect(window=16 * KIB)
        await client.stream.write(read(length=MIB))
        await client.header()
        for _ in range(64):
            await trio.sleep(1.5)  # 256 KiB take 24 s, less than the 30 s that are allowed
            await client.body(16 * KIB)
        await client.stream.close()
    assert served.endings() == {"closed": 1}


# --- rates and numbers


async def test_who_asks_too_much_is_told_busy_and_served_again_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery, limits=Limits(artifact_requests_per_s=1))  # and 4 at once
        client, _ = served.connect()
        begun = trio.current_time()
        await client.stream.write(read() * 12)
        headers = []
        for _ in range(12):
            header = await client.header()
            await client.body(header.get("length", 0))
            headers.append(header)
        assert [header["status"] for header in headers] == ["ok"] * 4 + ["busy", "ok"] * 4
        assert headers[4] == {"status": "busy", "reason": "too many requests"}
        assert trio.current_time() - begun == pytest.approx(4)
        await client.stream.close()


async def test_new_stream_is_no_new_allowance(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery, limits=Limits(artifact_requests_per_s=1))
        statuses = []
        for peer in ("a", "a", "b"):
            client, _ = served.connect(peer)
            await client.stream.write(read() * 4)
            await client.stream.close_write()
            statuses.append([(await client.reply())[0] for _ in range(4)])
            assert await client.stream.read(1) == b""
    assert statuses[0] == statuses[2] == ["ok"] * 4
    assert statuses[1][0] == "busy"


async def test_stream_over_the_limit_is_told_busy_and_far_over_it_is_dropped() -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery, limits=Limits(streams_per_peer=2))
        kept = [served.connect()[0] for _ in range(2)]
        await trio.testing.wait_all_tasks_blocked()
        over = [served.connect() for _ in range(2)]
        await trio.testing.wait_all_tasks_blocked()
        _, dropped = served.connect()
        await trio.testing.wait_all_tasks_blocked()
        assert dropped.was_reset
        for client, far in over:
            await client.stream.write(read() * 2)
            assert await client.header() == {"status": "busy", "reason": "too many streams are open"}
            assert await client.stream.read(1) == b""
            assert not far.was_reset
        other, _ = served.connect("another peer")
        for client in (*kept, other):
            await client.stream.write(read())
            assert await client.reply() == ("ok", b"\0")
            await client.stream.close()
    assert served.endings() == {"dropped": 1, "refused": 2, "closed": 3}


async def test_stream_over_the_limit_on_which_nothing_is_asked_is_closed_soon(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery, limits=Limits(streams_per_peer=1))
        first, _ = served.connect()
        await trio.testing.wait_all_tasks_blocked()
        second, _ = served.connect()
        begun = trio.current_time()
        assert await second.stream.read(1) == b""
        assert trio.current_time() - begun == pytest.approx(served.serving.limits.frame_s)
        await first.stream.close()


async def test_streams_of_all_peers_together_are_limited() -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery, limits=Limits(streams=3))
        clients = []
        for peer in range(4):
            clients.append(served.connect(f"peer {peer}")[0])
            await trio.testing.wait_all_tasks_blocked()
        await clients[3].stream.write(read())
        assert await clients[3].reply() == ("busy", b"")
        for client in clients:
            await client.stream.close()


async def test_accounts_of_strangers_do_not_pile_up() -> None:
    serving = Serving()
    accounts: dict[int, PeerAccount] = {}
    with serving.stream_of("stays"):
        for number in range(KNOWN_PEERS + 100):
            with serving.stream_of(f"peer {number}") as accounts[number]:
                pass
        for number, is_known in [(KNOWN_PEERS + 99, True), (101, True), (100, False)]:  # and "stays"
            with serving.stream_of(f"peer {number}") as account:
                assert (account is accounts[number]) == is_known


# --- limits of bandwidth


async def test_upload_limit_is_kept_in_small_steps(autojump_clock: trio.testing.MockClock) -> None:
    rate = 1_000_000
    async with trio.open_nursery() as nursery:
        served = Served(nursery, rates=Rates(upload=rate))
        client, _ = served.connect()
        await client.stream.write(read(length=5 * rate))
        begun = trio.current_time()
        await client.header()
        pauses, last = [], begun
        for _ in range(5 * rate // 50_000):
            await client.body(50_000)
            pauses.append(trio.current_time() - last)
            last = trio.current_time()
        assert trio.current_time() - begun == pytest.approx(5, rel=0.05)
        assert max(pauses) < 0.2
        await client.stream.close()


async def test_who_waits_for_our_limit_is_not_stalled(autojump_clock: trio.testing.MockClock) -> None:
    """Two peers at 2 kB/s: each waits longer for its turn than it may take to accept a slice."""
    async with trio.open_nursery() as nursery:
        served = Served(nursery, limits=Limits(stall_s=1), rates=Rates(upload=2_000))
        clients = [served.connect(peer)[0] for peer in ("a", "b")]
        for client in clients:
            await client.stream.write(read(length=20_000))
        for client in clients:
            assert (await client.reply())[0] == "ok"
            await client.stream.close()
    assert served.endings() == {"closed": 2}
