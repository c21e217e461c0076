"""What tests can do to the network in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pboot.transport.interface import DialError, Forwarding, StreamReset
from tests.connections import connection_with
from tests.transport.conftest import ECHO, TOPIC, Lab, echo, read_all


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with trio.open_nursery() as nursery:
        yield Lab("memory", nursery)
        nursery.cancel_scope.cancel()


async def test_a_cut_link_ends_streams_and_refuses_dials_until_it_is_healed(lab: Lab) -> None:
    a, b = await lab.pair()
    b.handle(ECHO, echo)
    stream = await a.open_stream(connection_with(a, b), ECHO)
    lab.network.cut(a.peer_id, b.peer_id)
    with pytest.raises(StreamReset):
        await stream.read(1)
    with pytest.raises(DialError, match="no route"):
        await a.dial(b.addresses()[0])
    lab.network.heal(a.peer_id, b.peer_id)
    assert not a.peers()
    assert (await a.dial(b.addresses()[0])).peer_id == b.peer_id


async def test_nothing_moves_while_a_peer_is_frozen(lab: Lab, autojump_clock: MockClock) -> None:
    a, b = await lab.pair()
    b.handle(ECHO, echo)
    stream = await a.open_stream(connection_with(a, b), ECHO)
    lab.network.freeze(b.peer_id)
    with trio.move_on_after(60) as scope:
        await stream.write(b"x" * (1 << 20))
    assert scope.cancelled_caught, "a frozen peer took data"
    with trio.move_on_after(60) as scope:
        await a.open_stream(connection_with(a, b), ECHO)
    assert scope.cancelled_caught, "a frozen peer answered"
    c = await lab.node()
    with trio.move_on_after(60) as scope:
        await c.dial(b.addresses()[0])
    assert scope.cancelled_caught, "a frozen peer took a connection"
    assert b.peer_id in a.peers()
    lab.network.thaw(b.peer_id)
    assert (await c.dial(b.addresses()[0])).peer_id == b.peer_id


async def test_what_waited_for_a_frozen_peer_goes_on_when_it_is_thawed(lab: Lab) -> None:
    a, b = await lab.pair()
    b.handle(ECHO, echo)
    stream = await a.open_stream(connection_with(a, b), ECHO)
    lab.network.freeze(b.peer_id)
    received = []

    async def exchange() -> None:
        await stream.write(b"hello")
        await stream.close_write()
        received.append(await read_all(stream))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange)
        await wait_all_tasks_blocked()
        assert not received
        lab.network.thaw(b.peer_id)
    assert received == [b"hello"]


async def test_a_limited_upload_takes_its_time(lab: Lab, autojump_clock: MockClock) -> None:
    a, b = await lab.pair()

    async def serve(stream: object) -> None:
        await stream.write(bytes(1_000_000))  # type: ignore[attr-defined]

    b.handle(ECHO, serve)
    lab.network.limit_upload(b.peer_id, 100_000)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            stream = await a.open_stream(connection_with(a, b), ECHO)
            nursery.start_soon(read_all, stream)
    assert trio.current_time() - start == pytest.approx(20)


async def test_a_seen_message_is_taken_again_when_it_has_expired(lab: Lab, autojump_clock: MockClock) -> None:
    a, b = await lab.pair()
    validated = 0

    async def validator(_peer_id: str, _payload: bytes) -> Forwarding:
        nonlocal validated
        validated += 1
        return Forwarding.ACCEPT

    await b.subscribe(TOPIC, validator)
    for expected, wait_s in ((1, 100), (1, 30), (2, 0)):
        await a.publish(TOPIC, b"head")
        await trio.sleep(wait_s)
        await wait_all_tasks_blocked()
        assert validated == expected
