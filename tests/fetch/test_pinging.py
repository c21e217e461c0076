"""How far away peers are."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from p2pboot.fetch.asking.pinging import PING_S, PINGS, round_trip
from p2pboot.testing.manifests import key_of
from p2pboot.testing.network import MemoryNetwork
from p2pboot.transport.interface import Stream, StreamHandler
from p2pboot.wire.ping import PING_BYTES, PING_PROTOCOL


def after(*waits_s: float) -> StreamHandler:
    """Answer pings, each after so long; none after these."""

    async def handle(stream: Stream) -> None:
        for wait_s in waits_s:
            data = await stream.read(PING_BYTES)
            await trio.sleep(wait_s)
            await stream.write(data)

    return handle


async def wrongly(stream: Stream) -> None:
    await stream.read(PING_BYTES)
    await stream.write(bytes(PING_BYTES))
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("answer", "took_s", "in_s"),
    [
        (after(0.3, 0.1, 0.2), 0.1, 0.6),  # the quickest counts
        (after(0.3), 0.3, 0.3),  # it has enough after one
        (after(0.1, 5.0), 0.1, PING_S),
        (after(5.0), None, PING_S),
        (after(), None, 0),
        (wrongly, None, 0),
        (None, None, 0),  # it does not speak the protocol
    ],
)
async def test_round_trip(
    autojump_clock: MockClock, answer: StreamHandler | None, took_s: float | None, in_s: float
) -> None:
    network = MemoryNetwork()
    one, other = (key_of(name).public.peer_id for name in ("one", "other"))
    async with network.open(one) as own, network.open(other) as peer:
        if answer is not None:
            peer.handle(PING_PROTOCOL, answer)
        connection = await own.dial(peer.addresses()[0])
        began = trio.current_time()
        took = await round_trip(own, connection)
        assert took == (None if took_s is None else pytest.approx(took_s))
        assert trio.current_time() - began == pytest.approx(in_s)
    assert PINGS == 3
