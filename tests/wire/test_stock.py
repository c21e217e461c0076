"""Our stack against py-libp2p's stock classes: Noise, multistream-select and Yamux, either side dialling."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.abc import ISecureConn
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import IOException
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamReset
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream

from p2pboot.wire.multistream import Dialler, Listener, NoCommonProtocol
from p2pboot.wire.yamux.frames import INITIAL_WINDOW
from p2pboot.wire.yamux.limits import Limits
from p2pboot.wire.yamux.stream import StreamWasReset
from tests.wire.driving import DIALLER, LISTENER, Driver, connection, driving

YAMUX = TProtocol("/yamux/1.0.0")


class Pipe(ReadWriteCloser):
    """What py-libp2p wants of a socket, on one of trio's streams in memory."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._received = b""

    async def read(self, n: int | None = None) -> bytes:
        while n is None or len(self._received) < n:
            try:
                data = await self._stream.receive_some(65_536)
            except (trio.ClosedResourceError, trio.BrokenResourceError) as error:
                raise IOException("closed") from error
            self._received += data
            if not data or n is None:
                break
        taken, self._received = self._received[:n], self._received[n or len(self._received) :]
        return taken

    async def write(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.ClosedResourceError, trio.BrokenResourceError) as error:
            raise IOException("closed") from error

    async def close(self) -> None:
        await self._stream.aclose()

    def get_remote_address(self) -> tuple[str, int] | None:
        return None


async def secured(pipe: Pipe, *, stock_dials: bool) -> tuple[ISecureConn, Yamux]:
    """py-libp2p's side up to its muxer."""
    pair = create_new_key_pair(DIALLER.seed if stock_dials else LISTENER.seed)
    noise = NoiseTransport(pair, noise_privkey=create_noise_key_pair().private_key)
    raw = RawConnection(pipe, stock_dials)
    if stock_dials:
        await MultiselectClient().select_one_of([TProtocol("/noise")], MultiselectCommunicator(raw), 5)
        conn = await noise.secure_outbound(raw, ID.from_base58(LISTENER.public.peer_id))
        await MultiselectClient().select_one_of([YAMUX], MultiselectCommunicator(conn), 5)
    else:
        await Multiselect({TProtocol("/noise"): None}).negotiate(MultiselectCommunicator(raw), 5)
        conn = await noise.secure_inbound(raw)
        await Multiselect({YAMUX: None}).negotiate(MultiselectCommunicator(conn), 5)
    return conn, Yamux(conn, conn.get_remote_peer(), is_initiator=stock_dials)


@asynccontextmanager
async def meeting(*, stock_dials: bool) -> AsyncIterator[tuple[Driver, Yamux]]:
    """Ours and theirs, connected."""
    left, right = trio.testing.memory_stream_pair()
    core = connection(not stock_dials, None if stock_dials else LISTENER.public)
    with trio.fail_after(60):
        async with driving(core, left) as driver, trio.open_nursery() as nursery:
            conn, muxer = await secured(Pipe(right), stock_dials=stock_dials)
            assert str(conn.get_remote_peer()) == (LISTENER if stock_dials else DIALLER).public.peer_id
            while not core.secured:
                await driver.changed()
            assert core.peer == (DIALLER if stock_dials else LISTENER).public
            nursery.start_soon(muxer.start)
            await muxer.event_started.wait()
            yield driver, muxer
            nursery.cancel_scope.cancel()


async def read_all(stream: YamuxStream) -> bytes:
    data = b""
    while True:
        try:
            data += await stream.read(100_000)
        except MuxedStreamEOF:
            return data


both_ways = pytest.mark.parametrize("stock_dials", [True, False], ids=["stock dials", "we dial"])
BODY = bytes(range(256)) * 1200  # more than the first window


@both_ways
async def test_streams_that_we_open(stock_dials: bool) -> None:
    async with meeting(stock_dials=stock_dials) as (driver, muxer):
        ours = driver.core.session.open()
        driver.poke()
        theirs = cast(YamuxStream, await muxer.accept_stream())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.write, ours, BODY)
            received = b""
            while len(received) < len(BODY):
                received += await theirs.read(100_000)
        driver.close_write(ours)
        assert received + await read_all(theirs) == BODY
        async with trio.open_nursery() as nursery:
            nursery.start_soon(theirs.write, BODY)
            assert await driver.read(ours, len(BODY)) == BODY
        await theirs.close()
        assert await driver.read(ours) == b""
        assert not driver.core.session.streams


@both_ways
async def test_streams_that_stock_opens(stock_dials: bool) -> None:
    async with meeting(stock_dials=stock_dials) as (driver, muxer):
        opened = [await muxer.open_stream() for _ in range(3)]
        for n, theirs in enumerate(opened):
            await theirs.write(bytes([n]) * 1000)
            await theirs.close()
        for n in range(3):
            ours = await driver.accept()
            assert await driver.read(ours) == bytes([n]) * 1000
            await driver.write(ours, b"answer")
            driver.close_write(ours)
        for theirs in opened:
            assert await read_all(theirs) == b"answer"
        assert not driver.core.session.streams


@both_ways
async def test_more_than_the_first_window_is_granted_to_stock(stock_dials: bool) -> None:
    """It adds the delta of our SYN or ACK to its window, as everybody does."""
    async with meeting(stock_dials=stock_dials) as (driver, muxer):
        ours = driver.core.session.open()
        driver.poke()
        theirs = cast(YamuxStream, await muxer.accept_stream())
        await theirs.write(bytes(INITIAL_WINDOW + 1))
        assert len(await driver.read(ours, INITIAL_WINDOW + 1)) == INITIAL_WINDOW + 1
        other = await muxer.open_stream()
        await driver.accept()
        while other.send_window == INITIAL_WINDOW:
            await trio.testing.wait_all_tasks_blocked()
        assert other.send_window == Limits().window


@both_ways
async def test_resets_either_way(stock_dials: bool) -> None:
    async with meeting(stock_dials=stock_dials) as (driver, muxer):
        theirs = await muxer.open_stream()
        ours = await driver.accept()
        ours.reset()
        driver.poke()
        with pytest.raises(
            (MuxedStreamReset, MuxedStreamEOF)
        ):  # it takes one for the other when a reader waits
            await theirs.read(1)
        theirs = await muxer.open_stream()
        ours = await driver.accept()
        await theirs.reset()
        with pytest.raises(StreamWasReset):
            await driver.read(ours)


@both_ways
async def test_pings_either_way(stock_dials: bool, autojump_clock: trio.testing.MockClock) -> None:
    async with meeting(stock_dials=stock_dials) as (driver, muxer):
        driver.core.session.ping(12345)
        driver.poke()
        while driver.core.session.awaits_pong:
            await driver.changed()
        await trio.sleep(1)  # of the test's own time: it pings after half a second
        assert muxer._ping_id == 1
        assert muxer._ping_event.is_set()


@settings(max_examples=15)
@given(
    st.booleans(),
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0, 1, 65_507, 300_000]), st.integers(0, 70_000)),
        min_size=1,
        max_size=5,
    ),
)
def test_echoes_of_any_length_on_many_streams(stock_dials: bool, plan: list[tuple[bool, int, int]]) -> None:
    """Each stream is opened by one side, which writes, half-closes, and reads what the other one sends back."""

    async def echo_ours(driver: Driver, count: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(_echo_ours, driver, await driver.accept())

    async def echo_theirs(muxer: Yamux, count: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(_echo_theirs, cast(YamuxStream, await muxer.accept_stream()))

    async def main() -> None:
        async with meeting(stock_dials=stock_dials) as (driver, muxer), trio.open_nursery() as nursery:
            nursery.start_soon(echo_ours, driver, sum(1 for stock_opens, *_ in plan if stock_opens))
            nursery.start_soon(echo_theirs, muxer, sum(1 for stock_opens, *_ in plan if not stock_opens))
            for stock_opens, *lengths in plan:
                body = bytes(sum(lengths))
                ask: Callable[..., Any] = _ask_theirs if stock_opens else _ask_ours
                nursery.start_soon(ask, muxer if stock_opens else driver, body)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def _echo_ours(driver: Driver, stream: Any) -> None:
    await driver.write(stream, await driver.read(stream))
    driver.close_write(stream)


async def _echo_theirs(stream: YamuxStream) -> None:
    await stream.write(await read_all(stream))
    await stream.close()


async def _ask_ours(driver: Driver, body: bytes) -> None:
    stream = driver.core.session.open()
    await driver.write(stream, body)
    driver.close_write(stream)
    assert await driver.read(stream) == body


async def _ask_theirs(muxer: Yamux, body: bytes) -> None:
    stream = await muxer.open_stream()
    await stream.write(body)
    await stream.close()
    assert await read_all(stream) == body


PROPOSALS = [["/a"], ["/x", "/a"], ["/x", "/y", "/b"], ["/x"]]


@pytest.mark.parametrize("protocols", PROPOSALS, ids=" ".join)
async def test_multistream_dialler_against_stock(protocols: list[str]) -> None:
    left, right = trio.testing.memory_stream_pair()
    dialler = Dialler(protocols)
    stock = Multiselect({TProtocol("/a"): None, TProtocol("/b"): None})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stock.negotiate, MultiselectCommunicator(Pipe(right)), 5)
        try:
            while dialler.selected is None:
                await left.send_all(dialler.data_to_send())
                dialler.receive(await left.receive_some(1000))
            assert dialler.selected == next(name for name in protocols if name in ("/a", "/b"))
        except NoCommonProtocol:
            assert protocols == ["/x"]
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("protocols", PROPOSALS[:3], ids=" ".join)
async def test_multistream_listener_against_stock(protocols: list[str]) -> None:
    left, right = trio.testing.memory_stream_pair()
    listener = Listener(["/a", "/b"])
    async with trio.open_nursery() as nursery:

        async def stock() -> None:
            communicator = MultiselectCommunicator(Pipe(right))
            chosen = await MultiselectClient().select_one_of(list(map(TProtocol, protocols)), communicator, 5)
            assert chosen == listener.selected

        nursery.start_soon(stock)
        while listener.selected is None:
            listener.receive(await left.receive_some(1000))
            await left.send_all(listener.data_to_send())
