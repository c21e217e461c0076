"""The streams of those who watch."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pboot.errors import StoreError
from p2pboot.gateway.admin import events
from p2pboot.gateway.admin.events import INTERVAL_S, STREAMS, Events, EventStream, Kind, Seen
from p2pboot.gateway.slots import SLOTS
from p2pboot.store.store import Store
from tests.gateway.clients import connected, request
from tests.gateway.world import OfferingNode, Running, gateway_settings, put, serving

ENCODE = {kind: lambda parts: json.dumps(parts).encode() for kind in Kind}
BEGINNING = f"retry: {events.RETRY_MS}\n\n".encode()


class World:
    """A node whose state is `parts`, and who looked when."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {"a": "0", "b": "0"}
        self.looked: list[tuple[float, frozenset[Kind]]] = []
        self.fail: Callable[[], None] = lambda: None

    async def look(self, kinds: frozenset[Kind]) -> Seen:
        self.looked.append((trio.current_time(), kinds))
        self.fail()
        return Seen({kind: dict(self.parts) for kind in kinds})


@pytest.fixture
def world() -> World:
    return World()


async def begun(streams: Events, kind: Kind = Kind.PAGE) -> EventStream:
    stream = streams.open(kind)
    assert stream is not None
    assert await stream.next_part() == BEGINNING
    return stream


async def test_nothing_is_looked_at_while_nobody_watches(
    world: World, nursery: trio.Nursery, autojump_clock: object
) -> None:
    streams = Events(world.look, ENCODE)
    nursery.start_soon(streams.run)
    await trio.sleep(3600)
    assert world.looked == []
    stream = await begun(streams)
    assert json.loads(await stream.next_part()) == world.parts
    stream.close()
    stream.close()
    looked = len(world.looked)
    await trio.sleep(3600)
    assert len(world.looked) - looked <= 1


async def test_one_look_a_second_is_for_all(
    world: World, nursery: trio.Nursery, autojump_clock: object
) -> None:
    streams = Events(world.look, ENCODE)
    watching = [await begun(streams, kind) for kind in (Kind.PAGE, Kind.DOCUMENT, Kind.PAGE)]
    nursery.start_soon(streams.run)
    for number in range(5):
        world.parts = {"a": str(number)}
        assert [json.loads(await one.next_part()) for one in watching] == [world.parts] * 3
    times = [when for when, _ in world.looked]
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps == pytest.approx([INTERVAL_S] * 4)
    assert {kinds for _, kinds in world.looked} == {frozenset(Kind)}


async def test_only_what_changed_is_told(world: World, nursery: trio.Nursery, autojump_clock: object) -> None:
    streams = Events(world.look, ENCODE)
    nursery.start_soon(streams.run)
    stream = await begun(streams)
    await stream.next_part()
    world.parts["b"] = "1"
    assert json.loads(await stream.next_part()) == {"b": "1"}
    other = await begun(streams)
    assert json.loads(await other.next_part()) == world.parts
    assert (await stream.next_part()).startswith(b":")  # still there, and nothing new


async def test_who_is_slow_gets_the_newest_only(
    world: World, nursery: trio.Nursery, autojump_clock: object
) -> None:
    streams = Events(world.look, ENCODE)
    nursery.start_soon(streams.run)
    stream = await begun(streams)
    for number in range(100):
        world.parts["a"] = str(number)
        await trio.sleep(INTERVAL_S)
    assert json.loads(await stream.next_part()) == {"a": "99", "b": "0"}


@pytest.mark.parametrize("error", [StoreError("the disk is gone"), ZeroDivisionError()])
async def test_a_look_that_fails_ends_nothing(
    world: World,
    nursery: trio.Nursery,
    autojump_clock: object,
    error: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        raise error

    streams = Events(world.look, ENCODE)
    world.fail = fail
    nursery.start_soon(streams.run)
    stream = await begun(streams)
    await trio.sleep(3 * INTERVAL_S)
    world.fail = lambda: None
    assert json.loads(await stream.next_part()) == world.parts
    assert len(caplog.records) >= 3


async def read_until(stream: trio.SocketStream, end: bytes) -> bytes:
    received = bytearray()
    while end not in received:
        data = await stream.receive_some()
        assert data, bytes(received)
        received += data
    return bytes(received)


async def test_the_document_comes_as_events(gateway: Running) -> None:
    async with connected(gateway.admin.port, request("/events", "Host: localhost")) as client:
        received = await read_until(client, b"}\n\n")
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"Content-Type: text/event-stream" in head
    assert b"Cache-Control: no-store" in head
    assert BEGINNING in body
    document = json.loads(body.partition(b"data: ")[2].partition(b"\n\n")[0])
    assert document == json.loads((await gateway.report("/status")).body)


async def test_more_than_sixteen_are_refused_and_take_no_slot_of_who_boots(gateway: Running) -> None:
    async with trio.open_nursery() as nursery:

        async def watch(number: int, task_status: Any) -> None:
            path = ("/events", "/events/page")[number % 2]
            async with connected(gateway.admin.port, request(path, "Host: localhost")) as client:
                await read_until(client, BEGINNING)
                task_status.started()
                await trio.sleep_forever()

        for number in range(STREAMS):
            await nursery.start(watch, number)
        refused = await gateway.report("/events")
        assert refused.status == 503
        assert refused["Retry-After"]
        assert (await gateway.report("/events", method="HEAD")).status == 200
        assert (await gateway.report("/status")).status == 200
        assert (await gateway.get("/kernel")).status == 200
        assert gateway.service.counted[1].limit == SLOTS
        assert len(gateway.service.counted[1]) <= 1
        nursery.cancel_scope.cancel()
    while gateway.admin.watching:  # noqa: ASYNC110 - there is no event for it
        await trio.sleep(0.001)


async def test_who_goes_gives_the_place_back_though_nothing_changes(
    gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "QUIET_LOOKS", 10**9)
    for _ in range(3):
        async with connected(gateway.admin.port, request("/events/page", "Host: localhost")) as client:
            await read_until(client, b"event: page")
            assert gateway.admin.watching == 1
        while gateway.admin.watching:  # noqa: ASYNC110 - there is no event for it
            await trio.sleep(0.001)
    assert gateway.admin._counters.failures == 0


async def test_who_takes_nothing_is_dropped(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store)
    monkeypatch.setattr(EventStream, "patience_s", 0.01)
    monkeypatch.setattr(events, "INTERVAL_S", 0.001)

    class Chatty(OfferingNode):
        count = 0

        async def status(self, *, watched: bool = True) -> dict[str, object]:
            self.count += 1
            return {"count": self.count, "filler": "x" * 200_000}

    async with (
        serving(Chatty(store), gateway_settings(tmp_path)) as gateway,
        connected(gateway.admin.port, request("/events", "Host: localhost"), buffer=4096) as client,
    ):
        while not gateway.admin.watching:  # noqa: ASYNC110 - there is no event for it
            await trio.sleep(0.001)
        while gateway.admin.watching:  # noqa: ASYNC110
            await trio.sleep(0.001)
        with pytest.raises((trio.BrokenResourceError, AssertionError)):
            await read_until(client, b"never")
        assert gateway.admin._counters.failures == 0
