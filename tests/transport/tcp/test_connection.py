"""One connection through real sockets: what its peer may do, what its streams may rely on, when it ends."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.lowlevel
import trio.testing

from p2pboot.core.origins import Party
from p2pboot.errors import RemoteProtocolError
from p2pboot.transport.interface import StreamReset
from p2pboot.transport.tcp.holdings import SLOT, Common
from p2pboot.transport.tcp.pace import Pace
from p2pboot.transport.tcp.stream import MuxedStream
from p2pboot.wire.yamux.frames import DATA, INITIAL_WINDOW, PING, SESSION, SYN, WINDOW_UPDATE, header
from p2pboot.wire.yamux.limits import Limits
from tests.transport.tcp.ends import End, against_a_core, ends, open_between, read_all

SMALL = 8 * 1024
BODY = bytes(range(256)) * 4096
BEAT_S = 10.0


async def read_exactly(stream: MuxedStream, count: int) -> bytes:
    received = bytearray(count)
    assert await stream.read_into(memoryview(received), count) == count
    return bytes(received)


async def beats(clock: trio.testing.MockClock, count: int) -> None:
    """Let the clock that looks after connections strike."""
    for _ in range(count):
        await trio.testing.wait_all_tasks_blocked(0.05)
        clock.jump(BEAT_S)
    await trio.testing.wait_all_tasks_blocked(0.05)


async def test_both_directions_in_bulk_with_all_buffers_full() -> None:
    async with ends(buffer=SMALL) as (one, other):
        streams = [await open_between(one, other) for _ in range(3)]
        received: list[bytes] = []

        async def write(stream: MuxedStream) -> None:
            await stream.write(BODY)
            await stream.close_write()

        async def read(stream: MuxedStream) -> None:
            received.append(await read_all(stream))

        async with trio.open_nursery() as nursery:
            for pair in streams:
                for stream in pair:
                    nursery.start_soon(write, stream)
            await trio.testing.wait_all_tasks_blocked(0.05)  # nothing goes any more: all windows are used up
            for pair in streams:
                for stream in pair:
                    nursery.start_soon(read, stream)
        assert received == [BODY] * 6


async def test_a_link_that_is_not_known_to_be_fast_is_given_one_message_at_a_time() -> None:
    async with ends() as (one, other):
        ours, _ = await open_between(one, other)
        await trio.testing.wait_all_tasks_blocked(0.05)
        connection = one.connection
        connection._pace = Pace()
        connection._set_pace()
        before = connection._taken
        ours._core.write(bytes(200_000))
        connection.flush()
        connection.flush()
        assert 0 < connection._taken - before <= connection._pace.batch_bytes(crowded=False)


@pytest.mark.parametrize(("writers", "longest"), [(1, 8192), (2, 4096)])
async def test_frames_are_short_only_while_several_streams_want_to_send(writers: int, longest: int) -> None:
    async with ends() as (one, other):
        streams = [(await open_between(one, other))[0] for _ in range(writers)]
        await trio.testing.wait_all_tasks_blocked(0.01)
        connection = one.connection
        connection._pace = Pace()
        for _ in range(30):
            connection._pace.note(32_768, 32_768 / 200_000)
        connection._set_pace()
        for stream in streams:
            stream._core.write(bytes(100_000))
        before = connection._taken
        connection.flush()
        assert connection._taken - before == longest + 30


async def test_a_cancelled_write_leaves_the_connection_whole() -> None:
    async with ends(buffer=SMALL) as (one, other):
        ours, theirs = await open_between(one, other)
        still, there = await open_between(one, other)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ours.write, bytearray(BODY))
                await trio.testing.wait_all_tasks_blocked(0.05)
                scope.cancel()
        await ours.reset()
        with pytest.raises(StreamReset):
            await read_all(theirs)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(still.write, BODY)
            piece = bytearray(len(BODY))
            assert await there.read_into(memoryview(piece), len(piece)) == len(piece)
        assert piece == BODY


async def test_a_cancelled_read_gives_the_buffer_back() -> None:
    async with ends() as (one, other):
        ours, theirs = await open_between(one, other)
        target = bytearray(1000)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(theirs.read_into, memoryview(target), 1000)
                await trio.testing.wait_all_tasks_blocked(0.05)
                scope.cancel()
        before = bytes(target)
        await ours.write(b"x" * 100)
        assert await theirs.read(1000) == b"x" * 100
        assert target == before


async def test_what_came_is_counted_read_or_not() -> None:
    async with ends() as (one, other):
        ours, theirs = await open_between(one, other)
        await ours.write(b"x" * 1000)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert theirs.received == 1001
        assert await theirs.read(10) == b"x" * 10
        assert theirs.received == 1001


async def test_the_end_is_told_to_everybody_who_waits() -> None:
    async with ends() as (one, other):
        ours, theirs = await open_between(one, other)
        assert one.connection.streams == (ours,)
        async with trio.open_nursery() as nursery:

            async def reader() -> None:
                with pytest.raises(StreamReset):
                    await theirs.read(1)

            nursery.start_soon(reader)
            await trio.testing.wait_all_tasks_blocked(0.05)
            await one.connection.hang_up()
        await other.connection.closed.wait()
        await one.connection.closed.wait()
        assert isinstance(other.connection.failure, RemoteProtocolError)
        with pytest.raises(StreamReset):
            one.connection.open()
        with pytest.raises(StreamReset):
            await ours.write(b"x")
        await one.connection.hang_up()  # once more is nothing


async def test_hanging_up_on_one_who_does_not_read_is_bounded(mock_clock: trio.testing.MockClock) -> None:
    async with against_a_core(buffer=SMALL) as (end, _core, driver):
        driver._stream.receive_some = _nothing  # type: ignore[method-assign, assignment]
        ours = end.connection.open()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_write_in_vain, ours)
            await trio.testing.wait_all_tasks_blocked(0.05)
            nursery.start_soon(end.connection.hang_up)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert end.connection.failure is None  # it waits for its goodbye to go out
            mock_clock.jump(0.5)
        await end.connection.closed.wait()


async def _nothing() -> None:
    await trio.sleep_forever()


async def _write_in_vain(stream: MuxedStream) -> None:
    with pytest.raises(StreamReset):
        await stream.write(bytes(4 << 20))


NONSENSE = {
    "version": header(0, 0, 0, 0)[:1].replace(b"\0", b"\1") + header(DATA, 0, 1, 0)[1:],
    "type 9": header(9, 0, 1, 0),
    "was never opened": header(DATA, 0, 2, 5),
    "opened twice": header(WINDOW_UPDATE, SYN, 1, 0) * 2,
    "ours to open": header(WINDOW_UPDATE, SYN, 2, 0),
    "more data on stream 1": header(WINDOW_UPDATE, SYN, 1, 0) + header(DATA, 0, 1, 9 << 20),
    "pings at once": header(PING, SYN, SESSION, 7) * 500,
    "was not sent": header(PING, 2, SESSION, 7),
    "without end": b"".join(
        header(WINDOW_UPDATE, flags, 2 * n + 1, 0) for n in range(600) for flags in (SYN, 8)
    ),
}


@pytest.mark.parametrize("said", NONSENSE)
async def test_what_a_peer_does_wrong_ends_the_connection_with_one_line(
    said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "p2pboot.transport.tcp")
    async with against_a_core() as (end, core, driver):
        core.session._scheduler.add_ping(NONSENSE[said])
        driver.poke()
        await end.connection.closed.wait()
    (record,) = caplog.records
    assert said in record.getMessage()
    assert end.connection.peer.peer_id in record.getMessage()
    assert str(end.connection.failure) in record.getMessage()


async def test_a_damaged_message_ends_the_connection_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "p2pboot.transport.tcp")
    async with against_a_core() as (end, _core, driver):
        await driver._stream.send_all(b"\x00\x20" + bytes(32))
        await end.connection.closed.wait()
    (record,) = caplog.records
    assert "damaged" in record.getMessage()


async def test_strangers_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "p2pboot.transport.tcp")
    async with against_a_core() as (end, _core, driver):
        while end.endpoint._workspace.reports.try_take(1, trio.current_time()):
            pass
        await driver._stream.send_all(b"\x00\x20" + bytes(32))
        await end.connection.closed.wait()
    assert not caplog.records


async def test_a_peer_is_not_blamed_for_what_it_sent_before_sending_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "p2pboot.transport.tcp")
    async with ends() as (near, far):
        far.connection.open()
        far.connection.flush()
        near.connection._socket.shutdown(socket.SHUT_WR)
        near.connection.open()
        near.connection.flush()
        assert isinstance(near.connection.failure, OSError)
        await near.connection.closed.wait()
    assert not caplog.records


@asynccontextmanager
async def crowded() -> AsyncIterator[tuple[End, End]]:
    """Both sides, of which the listener shares 128 KiB with somebody who holds all of it."""
    async with ends(limits=Limits(window=INITIAL_WINDOW)) as (one, other):
        common = other.connection._holding._common = Common(bytes_=4 * SLOT)
        common.holdings.add(other.connection._holding)
        common.bytes.take(Party("192.0.2.1"), 4)
        common.bytes.take(Party("127.0.0.1"), 4)
        yield one, other
        common.bytes.give_back(Party("127.0.0.1"), 4)


async def test_where_memory_is_short_a_peer_is_read_from_as_far_as_somebody_here_reads() -> None:
    async with crowded() as (one, other):
        ours, theirs = await open_between(one, other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.write, BODY)
            await trio.testing.wait_all_tasks_blocked(0.05)
            unread = other.connection._core.session.unread
            assert 0 < unread <= SLOT + 65_536
            assert other.connection._pause is not None
            assert await read_exactly(theirs, len(BODY)) == BODY


async def test_where_memory_is_short_little_waits_to_be_sent() -> None:
    async with crowded() as (one, other):
        ours, theirs = await open_between(one, other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(theirs.write, BODY)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert 0 < other.connection._core.session.unsent <= SLOT + Limits().least_unsent
            assert await read_exactly(ours, len(BODY)) == BODY


async def test_when_others_need_less_reading_goes_on() -> None:
    async with crowded() as (one, other):
        ours, theirs = await open_between(one, other)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ours.write, BODY)
                await trio.testing.wait_all_tasks_blocked(0.05)
                common, before = other.connection._holding._common, theirs.received
                common.bytes.capacity = 1000
                common.note_room()
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert theirs.received > before
                scope.cancel()
        await ours.reset()


async def test_a_stream_that_nobody_reads_does_not_keep_the_others_waiting_for_ever(
    mock_clock: trio.testing.MockClock,
) -> None:
    async with crowded() as (one, other):
        ours, theirs = await open_between(one, other)
        still, there = await open_between(one, other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_write_in_vain, ours)
            await beats(mock_clock, 1)
            nursery.start_soon(still.write, b"x")
            await beats(mock_clock, 4)
            assert await there.read(1) == b"x"
        with pytest.raises(StreamReset):
            await theirs.read(1)


# What the clock notices.


async def _swallow(_data: bytes) -> None:
    await trio.lowlevel.checkpoint()


async def test_a_peer_that_answers_nothing_is_given_up(
    mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "p2pboot.transport.tcp")
    async with against_a_core() as (end, _core, driver):
        driver._stream.send_all = _swallow  # type: ignore[method-assign, assignment]
        await beats(mock_clock, 4)
        assert end.connection.failure is None
        await beats(mock_clock, 1)
        await end.connection.closed.wait()
    (record,) = caplog.records
    assert "has not answered for 30 s" in record.getMessage()


async def test_a_quiet_peer_that_answers_pings_is_kept(mock_clock: trio.testing.MockClock) -> None:
    async with ends() as (one, other):
        await beats(mock_clock, 12)
        ours, theirs = await open_between(one, other)
        await ours.write(b"x")
        assert await theirs.read(1) == b"x"


async def test_a_window_that_stays_shut_ends_its_stream_and_no_other(
    mock_clock: trio.testing.MockClock,
) -> None:
    async with ends() as (one, other):
        ours, theirs = await open_between(one, other)
        still, there = await open_between(one, other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_write_in_vain, ours)
            await beats(mock_clock, 3)
            assert nursery.child_tasks
            await beats(mock_clock, 2)
        with pytest.raises(StreamReset):
            await read_all(theirs)
        await still.write(b"x")
        assert await there.read(1) == b"x"


async def test_a_reader_that_takes_a_byte_now_and_then_is_never_reset(
    mock_clock: trio.testing.MockClock,
) -> None:
    async with ends() as (one, other):
        ours, theirs = await open_between(one, other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.write, bytes(2 << 20))
            for _ in range(8):
                assert len(await theirs.read(1)) == 1
                await beats(mock_clock, 2)
            assert len(await theirs.read(1)) == 1
            nursery.cancel_scope.cancel()
        await ours.reset()


async def test_a_stream_that_was_closed_here_and_never_by_the_peer_is_forgotten(
    mock_clock: trio.testing.MockClock,
) -> None:
    async with ends() as (one, other):
        ours, theirs = await open_between(one, other)
        await ours.close()
        await beats(mock_clock, 2)
        assert one.connection._core.session.streams
        await beats(mock_clock, 3)
        assert not one.connection._core.session.streams
        with pytest.raises(StreamReset):
            await theirs.write(b"x")


async def test_nothing_is_looked_after_where_nothing_is(mock_clock: trio.testing.MockClock) -> None:
    async with ends() as (one, _other):
        one.connection.abort()
        await one.connection.closed.wait()
        assert not one.endpoint._workspace._connections
        assert not one.endpoint._workspace._some.is_set()


async def test_goodbye_is_said_last() -> None:
    async with against_a_core() as (end, core, driver):
        ours = end.connection.open()
        await ours.write(b"x" * 100_000)
        await ours.close_write()
        await end.connection.hang_up()
        stream = await driver.accept()
        while stream.unread < 100_000:
            await driver.changed()
        while not core.session._peer_left:
            await driver.changed()
