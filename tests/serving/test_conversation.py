"""One inbound stream: order, backpressure, limits, and that nobody can make us pay for more than they get."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.pieces import KIB, MIB, MIN_PIECE
from p2pboot.errors import RemoteProtocolError
from p2pboot.protocol.frames import FrameReader, encode_prefix
from p2pboot.protocol.messages import (
    ARTIFACT_PROTOCOL,
    MAX_IN_FLIGHT,
    MAX_READ,
    LongBody,
    ReadRequest,
    Reply,
    Status,
    encode_request,
)
from p2pboot.serving.accounts import KNOWN_PEERS, TURNS, PeerAccount, Serving, StreamAccount
from p2pboot.serving.conversation import Answer, Reserve, serve_stream
from p2pboot.serving.limits import FULL_SLICE, Limits
from p2pboot.serving.memory import CEILING, FLOOR, PARTS, SHORT_REPLY
from p2pboot.store.errors import BlobGone
from p2pboot.transport.bandwidth import UNLIMITED, Bandwidth, Rates
from p2pboot.transport.interface import Connection, StreamReset
from p2pboot.transport.metering import MeteredStream
from tests.protocol.streams import MemoryStream, stream_pair

DIGEST = "0123456789abcdef" * 4
ReadAnswer = Callable[[ReadRequest, Reserve], Awaitable[Reply]]


def read(offset: int = 0, length: int = 1) -> bytes:
    return encode_request(ReadRequest(DIGEST, offset, length))


async def zeros(request: ReadRequest, _reserve: Reserve) -> Reply:
    """Any artifact is there, and consists of zeros; it is in memory."""
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
        is_trusted: Callable[[str], bool] = lambda _peer_id: False,
    ) -> None:
        self.serving = Serving(limits, is_trusted)
        self.bandwidth = Bandwidth(rates)
        self.nursery = nursery
        self.ended = trio.Event()  # one stream did
        self._answer = answer

    def connect(
        self, peer: str = "peer", *, window: int = 256 * KIB, at: str = "10.0.0.1"
    ) -> tuple[Client, MemoryStream]:
        """The peer's client, and the server's own end of the stream."""
        near, far = stream_pair(window=window, left=peer)
        far.connection = Connection(peer, f"/ip4/{at}/tcp/4001/p2p/{peer}", 0)
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


async def test_bad_requests_have_one_rate_for_all_peers_of_an_address(autojump_clock: None) -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery, limits=Limits(bad_requests_per_s=1))
        clients = [served.connect(peer)[0] for peer in ("a", "b", "c")]
        neighbour, _ = served.connect("d", at="10.0.0.2")
        for client in clients:
            await client.stream.write((encode_prefix(1) + b"{") * 8)
        for _ in range(8):
            for client in clients:
                assert (await client.header())["status"] == "bad_request"
        # 24 of them, 4 at once: a stream's first one after that is read before it waits
        assert trio.current_time() >= 24 - 4 - len(clients)
        await neighbour.stream.write(encode_prefix(1) + b"{" + read())
        assert (await neighbour.header())["status"] == "bad_request"
        before = trio.current_time()
        assert await neighbour.reply() == ("ok", b"\0")
        assert trio.current_time() == before
        nursery.cancel_scope.cancel()


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


async def test_short_replies_are_prepared_when_the_one_before_is_written() -> None:
    prepared: list[int] = []

    async def note(request: ReadRequest, reserve: Reserve) -> Reply:
        prepared.append(request.offset)
        return await zeros(request, reserve)

    async with trio.open_nursery() as nursery:
        served = Served(nursery, note)
        client, _ = served.connect(window=KIB)
        await client.stream.write(b"".join(read(offset, 2 * KIB) for offset in range(3)))
        await trio.testing.wait_all_tasks_blocked()
        assert prepared == [0]
        await client.reply()
        await trio.testing.wait_all_tasks_blocked()
        assert prepared == [0, 1]
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


class Zeros:
    """An artifact of zeros that is read as its reader takes it; `reads` are the parts that were read."""

    def __init__(self) -> None:
        self.reads: list[int] = []

    async def answer(self, request: ReadRequest, reserve: Reserve) -> Reply:
        at_once = await reserve(request.length)
        if not at_once:
            return await zeros(request, reserve)

        async def part(_offset: int, length: int) -> bytes:
            self.reads.append(length)
            return bytes(length)

        return Reply(Status.OK, long_body=LongBody(await part(0, at_once), request.length, part))


async def test_stream_whose_peer_takes_nothing_holds_little_however_much_is_asked() -> None:
    artifact = Zeros()
    async with trio.open_nursery() as nursery:
        served = Served(nursery, artifact.answer)
        for peer in range(10):
            client, _ = served.connect(f"peer {peer}", window=4 * KIB)
            await client.stream.write(read(length=MAX_READ) * MAX_IN_FLIGHT)
        await trio.testing.wait_all_tasks_blocked()
        assert artifact.reads == [FLOOR] * 10
        nursery.cancel_scope.cancel()


async def test_who_has_taken_something_gets_a_few_short_pieces_read_at_once() -> None:
    artifact = Zeros()
    async with trio.open_nursery() as nursery:
        served = Served(nursery, artifact.answer)
        client, _ = served.connect()
        free = served.serving.memory.free
        await client.stream.write(read(length=4 * FLOOR))
        assert await client.reply() == ("ok", bytes(4 * FLOOR))
        assert artifact.reads == [FLOOR] * 4
        await client.stream.write(read(length=SHORT_REPLY))
        assert await client.reply() == ("ok", bytes(SHORT_REPLY))
        assert artifact.reads == [FLOOR] * 4  # all at once
        await client.stream.close()
    assert served.serving.memory.free == free


async def test_short_pieces_are_read_one_by_one_where_there_is_no_memory() -> None:
    artifact = Zeros()
    async with trio.open_nursery() as nursery:
        served = Served(nursery, artifact.answer, Limits(body_memory=4))
        client, _ = served.connect()
        for _ in range(2):
            await client.stream.write(read(length=2 * FLOOR))
            assert await client.reply() == ("ok", bytes(2 * FLOOR))
        await client.stream.close()
    assert artifact.reads == [FLOOR] * 4


async def test_quick_peer_gets_large_parts_and_one_that_becomes_slow_small_ones_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    artifact = Zeros()
    async with trio.open_nursery() as nursery:
        served = Served(nursery, artifact.answer)
        memory, client = served.serving.memory, served.connect()[0]
        await client.stream.write(read(length=MAX_READ))
        await client.reply()
        assert artifact.reads[0] == FLOOR
        assert max(artifact.reads) == CEILING
        assert memory.free == served.serving.limits.body_memory - PARTS * (CEILING - FLOOR)
        await client.stream.write(read(length=MAX_READ))
        await client.header()
        for _ in range(64):
            await trio.sleep(10)
            await client.body(256 * KIB)
        assert artifact.reads[-1] == FLOOR
        assert memory.free == served.serving.limits.body_memory
        await client.stream.close()


async def test_whoever_comes_is_served_at_once_beside_any_number_of_slow_readers() -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery, Zeros().answer)
        for peer in range(50):
            client, _ = served.connect(f"slow {peer}", window=4 * KIB)
            await client.stream.write(read(length=MIB) * 3)
        await trio.testing.wait_all_tasks_blocked()
        honest, _ = served.connect("honest")
        await honest.stream.write(read(length=MIB))
        assert await honest.reply() == ("ok", bytes(MIB))
        assert not served.endings()  # and nobody is the worse for it
        nursery.cancel_scope.cancel()


async def test_body_that_is_there_as_a_whole_has_memory_or_its_peer_is_told_busy() -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        for _ in range(5):
            client, _ = served.connect(window=1)
            nursery.start_soon(client.stream.write, read(length=MAX_READ))
        await trio.testing.wait_all_tasks_blocked()
        assert served.serving.memory.free <= MAX_READ
        client, _ = served.connect()
        await client.stream.write(read(length=MAX_READ))
        assert await client.header() == {"status": "busy", "reason": "too much waits for slow readers"}
        nursery.cancel_scope.cancel()


async def test_reply_that_can_not_be_read_to_its_end_ends_its_stream(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def part(_offset: int, _length: int) -> bytes:
        raise BlobGone(DIGEST)

    async def answer(request: ReadRequest, reserve: Reserve) -> Reply:
        first = bytes(await reserve(request.length))
        return Reply(Status.OK, long_body=LongBody(first, request.length, part))

    async with trio.open_nursery() as nursery:
        served = Served(nursery, answer)
        client, _ = served.connect()
        await client.stream.write(read(length=MIB))
        with pytest.raises(StreamReset):
            await client.reply()
    assert served.endings() == {"failed": 1}
    assert "ends early" in caplog.text
    assert "Traceback" not in caplog.text


# --- turns


class Counted:
    """Takes a second to answer with a byte, and knows whose turn it was, by the offset that was asked for."""

    def __init__(self) -> None:
        self.turns: list[int] = []

    async def answer(self, request: ReadRequest, reserve: Reserve) -> Reply:
        await reserve(request.length)
        await trio.sleep(1)
        self.turns.append(request.offset)
        return Reply(Status.OK, b"x")


async def turns_of(asked: list[tuple[str, str, bytes]]) -> list[int]:
    """Have everybody ask at once (peer, address, requests) while the node is at work; returns whose turns came then."""
    counted = Counted()
    async with trio.open_nursery() as nursery:
        served = Served(nursery, counted.answer)
        before = [(f"before {number}", "192.0.2.99", read(999)) for number in range(TURNS)]
        for peer, address, requests in [*before, *asked]:
            client, _ = served.connect(peer, at=address)
            await client.stream.write(requests)
            await client.stream.close_write()
            for _ in range(10):  # until it waits; the clock stands still
                await trio.lowlevel.checkpoint()
    return counted.turns[TURNS:]


async def test_request_waits_behind_one_of_each_other_origin_however_many_peers_that_has(
    autojump_clock: trio.testing.MockClock,
) -> None:
    strangers = [(f"id {number}", "192.0.2.1", read(number) * 3) for number in range(40)]
    turns = await turns_of([*strangers, ("honest", "192.0.2.2", read(100) * 3)])
    assert max(index // TURNS for index, offset in enumerate(turns) if offset == 100) <= 2 * 2


async def test_peers_of_one_origin_take_turns_too(autojump_clock: trio.testing.MockClock) -> None:
    streams = [("many", "192.0.2.1", read(1) * 3)] * 10
    turns = await turns_of([*streams, ("few", "192.0.2.1", read(100) * 3)])
    assert max(index // TURNS for index, offset in enumerate(turns) if offset == 100) <= 2 * 2


async def test_long_read_counts_as_many_turns(autojump_clock: trio.testing.MockClock) -> None:
    long = [("a", "192.0.2.1", read(1, 8 * MIB))] * 8
    short = [("b", "192.0.2.2", read(100, MIB))] * 14
    assert (await turns_of([*long, *short])).index(1, TURNS) >= 7


async def test_who_gives_up_a_reply_pays_for_it() -> None:
    artifact, given_up = Zeros(), trio.Event()

    async def answer(request: ReadRequest, reserve: Reserve) -> Reply:
        if not given_up.is_set():
            return await artifact.answer(request, reserve)
        return await counted.answer(request, reserve)

    counted = Counted()
    async with trio.open_nursery() as nursery:
        served = Served(nursery, answer)
        quitter, _ = served.connect("quitter", at="192.0.2.1", window=1)
        turns = served.serving.turns[ARTIFACT_PROTOCOL]
        charged: list[tuple[str, float]] = []
        turns.charge = lambda party, turns: charged.append((party.origin, turns))  # type: ignore[method-assign]
        await quitter.stream.write(read(length=4 * MIB))
        await trio.testing.wait_all_tasks_blocked()
        assert charged == [("192.0.2.1", 3)]  # beyond its own turn
        await quitter.stream.reset()
        await served.ended.wait()
        assert charged[1:] == [("192.0.2.1", 4)]


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
        assert 1 <= (trio.current_time() - begun) / served.serving.limits.stall_s < 1.2
        with pytest.raises(StreamReset):
            await client.stream.read(1)
    assert served.endings() == {"stalled": 1}
    assert served.serving.memory.free == served.serving.limits.body_memory


async def test_reader_of_a_byte_in_half_a_minute_is_served(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        client, _ = served.connect(window=1)
        await client.stream.write(read(length=20))
        await client.header()
        for _ in range(20):
            await trio.sleep(served.serving.limits.stall_s - 4)
            assert await client.stream.read(1) == b"\0"
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


@pytest.mark.parametrize(
    ("length", "answered"),
    [
        (1, 4),  # four at once, each counts 1
        (MIN_PIECE - 1, 4),
        (MIN_PIECE, 20),  # 5/32 each, and a whole one has to be left when it comes
        (MIB, 3),  # 35/32
        (4 * MIB, 1),
    ],
)
async def test_requests_for_pieces_count_by_what_they_give(
    autojump_clock: trio.testing.MockClock, length: int, answered: int
) -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery, limits=Limits(artifact_requests_per_s=1))
        client, _ = served.connect()
        statuses = []
        for _ in range(answered + 1):
            await client.stream.write(read(0, length))
            header = await client.header()
            statuses.append(header["status"])
            await client.body(header.get("length", 0))
        assert statuses == ["ok"] * answered + ["busy"]
        await client.stream.close()


async def test_what_is_not_there_counts_as_a_request(autojump_clock: trio.testing.MockClock) -> None:
    async def nothing(_request: ReadRequest, _reserve: Reserve) -> Reply:
        return Reply(Status.NOT_FOUND)

    async with trio.open_nursery() as nursery:
        served = Served(nursery, nothing, limits=Limits(artifact_requests_per_s=1))
        client, _ = served.connect()
        await client.stream.write(read(0, MIN_PIECE) * 5)
        statuses = [(await client.header())["status"] for _ in range(5)]
        assert statuses == ["not_found"] * 4 + ["busy"]
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


async def open_idle(served: Served, peer: str, at: str, count: int = 1) -> list[MemoryStream]:
    streams = [served.connect(peer, at=at)[1] for _ in range(count)]
    await trio.testing.wait_all_tasks_blocked()
    return streams


async def test_when_it_is_full_the_idlest_of_who_has_most_goes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """64 ids of one address with 16 streams each, as far as there is room; then another of the same comes."""
    async with trio.open_nursery() as nursery:
        served = Served(nursery, limits=Limits(streams=64, streams_per_peer=8))
        held = []
        for number in range(7):
            held += await open_idle(served, f"id {number}", "192.0.2.1", 8)
            await trio.sleep(1)
        assert not any(stream.was_closed for stream in held)  # 56 of 64: all but the reserve
        honest, _ = served.connect("honest", at="192.0.2.1")
        await honest.stream.write(read())
        assert await honest.reply() == ("ok", b"\0")
        assert [stream.was_closed for stream in held[:8]].count(True) == 1
        assert not any(stream.was_closed for stream in held[8:])
        assert served.endings() == {"gave_way": 1}
        nursery.cancel_scope.cancel()


async def test_newcomers_of_other_origins_find_a_reserve_and_then_have_as_much_as_anybody() -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery, limits=Limits(streams=64, streams_per_peer=8))
        for number in range(7):
            await open_idle(served, f"id {number}", "192.0.2.1", 8)
        for number in range(4):
            others = await open_idle(served, f"other {number}", f"192.0.2.{number + 2}", 8)
            assert not any(stream.was_closed or stream.was_reset for stream in others)
        assert served.endings()["gave_way"] == 32 + 56 - 64
        nursery.cancel_scope.cancel()


async def test_stream_that_is_owed_a_reply_goes_after_idle_ones_and_is_reset() -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery, Zeros().answer, limits=Limits(streams=8, streams_per_peer=8))
        busy, busy_end = served.connect("many", at="192.0.2.1", window=1)
        await busy.stream.write(read(length=MIB))
        await trio.testing.wait_all_tasks_blocked()
        idle = await open_idle(served, "many", "192.0.2.1", 6)
        for number in range(2, 7):
            await open_idle(served, "other", f"192.0.2.{number}")
        assert [stream.was_closed for stream in idle].count(True) == 4
        assert not busy_end.was_reset
        nursery.cancel_scope.cancel()


async def test_who_has_most_does_not_drive_out_anybody() -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery, limits=Limits(streams=8))
        few = await open_idle(served, "few", "192.0.2.1")
        many = await open_idle(served, "many", "192.0.2.1", 6)
        client, _ = served.connect("many", at="192.0.2.1")
        await client.stream.write(read())
        assert await client.header() == {"status": "busy", "reason": "too many streams are open"}
        assert not any(stream.was_closed for stream in few + many)
        nursery.cancel_scope.cancel()


async def test_peer_that_the_operator_named_may_use_the_reserve() -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery, limits=Limits(streams=8), is_trusted=lambda peer_id: peer_id == "mirror")
        crowd = await open_idle(served, "crowd", "192.0.2.1", 7)
        await open_idle(served, "mirror", "192.0.2.1")
        assert not any(stream.was_closed for stream in crowd)
        nursery.cancel_scope.cancel()


async def test_so_many_refused_streams_that_they_are_too_many_are_dropped() -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery, limits=Limits(streams=16, streams_per_peer=1))
        for number in range(14):
            await open_idle(served, f"id {number}", "192.0.2.1", 2)
        assert served.endings() == {"dropped": 14 - 3}
        nursery.cancel_scope.cancel()


async def test_accounts_of_strangers_do_not_pile_up() -> None:
    serving = Serving()
    accounts: dict[int, PeerAccount] = {}

    def stream_of(peer: str) -> AbstractContextManager[StreamAccount]:
        return serving.stream_of(Connection(peer, "/ip4/192.0.2.1/tcp/1", 0), lambda: None)

    with stream_of("stays"):
        for number in range(KNOWN_PEERS + 100):
            with stream_of(f"peer {number}") as stream:
                accounts[number] = stream.peer
        for number, is_known in [(KNOWN_PEERS + 99, True), (101, True), (100, False)]:  # and "stays"
            with stream_of(f"peer {number}") as stream:
                assert (stream.peer is accounts[number]) is is_known


async def test_refusing_takes_a_turn_as_well() -> None:
    go_on = trio.Event()

    async def slow(_request: ReadRequest, _reserve: Reserve) -> Reply:
        await go_on.wait()
        return Reply(Status.OK)

    async with trio.open_nursery() as nursery:
        served = Served(nursery, slow)
        busy = [served.connect(f"busy {number}")[0] for number in range(TURNS)]
        for client in busy:
            await client.stream.write(read())
        await trio.testing.wait_all_tasks_blocked()
        refused, _ = served.connect("refused", at="10.0.0.2")
        await refused.stream.write(encode_prefix(1) + b"{")
        await trio.testing.wait_all_tasks_blocked()
        assert not refused.stream.unread
        go_on.set()
        assert await refused.reply() == ("bad_request", b"")
        nursery.cancel_scope.cancel()
