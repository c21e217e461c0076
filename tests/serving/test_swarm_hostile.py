"""Whatever strangers ask of the swarm, others are served, and nothing is left of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing

from p2pboot.core.changes import MAX_CHANGES, Change, ChangeRing, Form
from p2pboot.core.origins import party_of
from p2pboot.core.pieces import PieceSet
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.protocol.client import PeerBusy, PeerLacks
from p2pboot.protocol.messages import Reply, Status, encode_request
from p2pboot.protocol.swarm import (
    ChangesRequest,
    DealRequest,
    SomePiecesRequest,
    encode_changes,
)
from p2pboot.protocol.swarm_client import Changes, ask_changes, ask_deal, ask_some_pieces
from p2pboot.serving import deals, hearing
from p2pboot.serving.accounts import TURNS, Serving
from p2pboot.serving.contents import Contents
from p2pboot.serving.deals import IDLE_S
from p2pboot.serving.hearing import CHANGES_PER_S, REST_S, hear
from p2pboot.serving.limits import Limits
from p2pboot.serving.swarm import SwarmServer
from p2pboot.serving.telling import AT_ONCE, AT_ONCE_PER_S, _Pulse
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, Sample, sample
from p2pboot.testing.stores import hold
from p2pboot.transport.interface import Connection, Stream, StreamReset, Transport
from tests.protocol.streams import MemoryStream, stream_pair

pytestmark = pytest.mark.usefixtures("inline_threads")

IMAGE = sample(8 * PIECE)
COUNT = IMAGE.table.count
TABLE = IMAGE.table.digest


class Network:
    """A network in which everybody is connected, and the liar answers with what the test says."""

    def __init__(self) -> None:
        self.present: set[str] = set()
        self.replies: Iterator[bytes] | None = None
        self.asked = 0

    def peers(self) -> frozenset[str]:
        return frozenset(self.present)

    async def open_stream(self, connection: Connection, _protocol: str) -> Stream:
        if self.replies is None or connection.peer_id != "liar":
            raise StreamReset("it serves nothing")
        near, far = stream_pair()
        trio.lowlevel.spawn_system_task(self._answer, far, self.replies)
        return cast(Stream, near)

    async def _answer(self, far: MemoryStream, replies: Iterator[bytes]) -> None:
        for reply in replies:
            try:
                await far.read(4096)
                self.asked += 1
                await far.write(reply)
            except StreamReset:
                return


class Served:
    """A server of the image, and its clients."""

    def __init__(self, nursery: trio.Nursery, store: Store, limits: Limits) -> None:
        self.network = Network()
        contents = Contents()
        contents.add(store.blobs)
        self.serving = Serving(limits)
        self.server = SwarmServer(cast(Transport, self.network), self.serving, contents)
        self._nursery = nursery

    def connect(self, peer: str, at: str, window: int = 256 * 1024) -> MemoryStream:
        near, far = stream_pair(window=window)
        far.connection = Connection(peer, f"/ip4/{at}/tcp/4001/p2p/{peer}", 0)
        self.network.present.add(peer)
        self._nursery.start_soon(self.server.handle, far)
        return near

    @asynccontextmanager
    async def asked_by(self, peer: str, at: str) -> AsyncIterator[RequestStream]:
        async with RequestStream(cast(Stream, self.connect(peer, at))) as requests:
            yield requests


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state") as opened:
        hold(opened, IMAGE.artifact, IMAGE.data)
        yield opened


@asynccontextmanager
async def serving(store: Store, limits: Limits | None = None) -> AsyncIterator[Served]:
    async with trio.open_nursery() as nursery:
        yield Served(nursery, store, limits or Limits())
        nursery.cancel_scope.cancel()


def deal(image: Sample = IMAGE, *want: tuple[int, int]) -> tuple[object, list[int]]:
    dealt: list[int] = []
    query = ask_deal(
        image.table.digest,
        want,
        1,
        length_of=lambda first, _count: image.table.span(first)[1],
        begun=lambda first, _count: dealt.append(first),
    )
    return query, dealt


async def take(requests: RequestStream, *want: tuple[int, int], image: Sample = IMAGE) -> int:
    query, dealt = deal(image, *want)
    assert await requests.ask(query) == image.piece(dealt[0])  # type: ignore[arg-type]
    return dealt[0]


def sample_held(store: Store) -> Sample:
    """A third artifact of the store."""
    image = sample(PIECE, 2)
    hold(store, image.artifact, image.data)
    return image


def piece(index: int) -> bytes:
    return encode_request(SomePiecesRequest(TABLE, ((index, 1),)))


async def test_who_waits_for_changes_keeps_nobody_from_being_served(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(store, Limits(streams=160)) as served:
        for number in range(64):
            for _ in range(2):
                waiting = served.connect(f"peer {number}", "10.0.0.9")
                await waiting.write(encode_request(ChangesRequest(f"{number:064x}", 0, 20_000)))
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        async with served.asked_by("other", "10.0.0.1") as requests:
            assert await requests.ask(ask_some_pieces(TABLE, ((3, 1),), PIECE)) == IMAGE.piece(3)
            await take(requests)
        assert trio.current_time() == began
        assert len(served.server.telling._waiting) == 64 > TURNS
        await trio.sleep(21)
        assert not served.server.telling._waiting
        assert not served.server.contents._awaited


async def test_of_a_flood_of_requests_for_changes_nothing_is_left(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(store, Limits(artifact_requests_per_s=50)) as served:
        flood = served.connect("peer", "10.0.0.9")
        requests = [encode_request(ChangesRequest(f"{number:064x}", 1, 0)) for number in range(300)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood.write, b"".join(requests))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(flood.close_write)
            answered = await flood.read_all()
        assert answered.count(b"not_found") >= 200
        assert answered.count(b"busy") == 300 - answered.count(b"not_found") > 0
        assert not served.server.telling._waiting
        assert not served.server.telling._pulses
        assert not served.server.contents._awaited


async def test_who_does_not_take_what_it_was_dealt_was_dealt_nothing(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(store, Limits(stall_s=3)) as served:
        slow = served.connect("slow", "10.0.0.9", window=1024)
        await slow.write(encode_request(DealRequest(TABLE, (), 1)) * 2)
        await trio.testing.wait_all_tasks_blocked()
        async with served.asked_by("other", "10.0.0.1") as requests:
            others = {await take(requests) for _ in range(COUNT - 1)}
            assert len(others) == COUNT - 1
            with pytest.raises(PeerBusy) as refused:
                await take(requests)
            assert refused.value.retry_s == pytest.approx(0.3)
            await trio.sleep(4)  # and less than until what nobody reports is undealt again
            assert slow.was_reset
            assert {await take(requests)} == set(range(COUNT)) - others


async def test_who_is_gone_was_dealt_nothing(store: Store, autojump_clock: trio.testing.MockClock) -> None:
    async with serving(store) as served:
        async with served.asked_by("gone", "10.0.0.9") as requests:
            for _ in range(COUNT):
                await take(requests)
        async with served.asked_by("other", "10.0.0.1") as requests:
            with pytest.raises(PeerBusy):
                await take(requests)
            served.network.present.remove("gone")
            assert len({await take(requests) for _ in range(COUNT)}) == COUNT


async def test_many_ids_of_one_address_have_one_share(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(store) as served:
        for number in range(40):
            for _ in range(2):
                await served.connect(f"peer {number}", "10.0.0.9", window=1024).write(piece(0) * 4)
        others = [served.connect(f"other {number}", f"10.0.1.{number}", window=1024) for number in range(4)]
        await trio.testing.wait_all_tasks_blocked()
        going = Counter(sending.party.origin for sending in served.server.uplink._going)
        assert going == {"10.0.0.9": 80}  # alone it may have all
        for other in others:
            await other.write(piece(1) * 3)
        await trio.testing.wait_all_tasks_blocked()
        going = Counter(sending.party.origin for sending in served.server.uplink._going)
        assert going.keys() == {"10.0.0.9", *(f"10.0.1.{number}" for number in range(4))}
        await trio.sleep(Limits().stall_s * 0.9)  # nobody takes anything
        await served.connect("late", "10.0.0.9").write(piece(2))
        late = served.connect("later", "10.0.0.9")
        await late.write(piece(2))
        began = trio.current_time()
        assert b"busy" in await late.read(4096)
        assert trio.current_time() == began + 2


async def test_who_waits_for_his_own_reply_is_not_told_that_others_go_first(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(store) as served:
        for number in range(4):
            await served.connect(f"slow {number}", f"10.0.1.{number}", window=1024).write(piece(0))
        own = served.connect("own", "10.0.0.1", window=PIECE // 2)
        await own.write(piece(1) * 2)
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(10)  # longer than others are waited for
        await own.close_write()
        assert (await own.read_all()).count(IMAGE.piece(1)) == 2


async def test_what_clients_claim_is_heard_no_faster_than_it_can_be_digested(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    lie = Reply(
        Status.OK,
        encode_changes(
            Change(Form.HELD, range(index % COUNT, index % COUNT + 1)) for index in range(MAX_CHANGES)
        ),
        {"at": 7, "form": "runs"},
    )
    async with serving(store) as served:
        served.network.replies = iter(lambda: lie.encode_header() + bytes(lie.body), None)
        async with served.asked_by("liar", "10.0.0.9") as liar, served.asked_by("b", "10.0.0.1") as other:
            await take(liar)
            await trio.sleep(10)
            most = 10 / (REST_S + MAX_CHANGES / CHANGES_PER_S)
            assert 1 < served.network.asked <= most + 1
            dealt = {await take(other, (0, COUNT)) for _ in range(COUNT)}
            assert dealt == set(range(COUNT))  # claimed, and given all the same


@pytest.mark.parametrize(
    "reply",
    [b"\x02{}", b"\xff\xff\xff", Reply(Status.OK, b"\x00" * 9000, {"at": 1, "form": "runs"}).encode_header()],
    ids=["no status", "no frame", "too long"],
)
async def test_who_answers_nonsense_is_not_heard_and_dealt_all_the_same(
    store: Store, reply: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(store) as served:
        served.network.replies = iter([reply])
        async with served.asked_by("liar", "10.0.0.9") as requests:
            first = await take(requests)
            await trio.testing.wait_all_tasks_blocked()
            assert served.network.asked == 1
            assert await take(requests) != first
            assert served.network.asked == 1


async def test_deals_of_more_tables_than_are_remembered_are_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(deals, "TABLES", 2)
    images = [sample(PIECE, seed) for seed in (1, 2, 3)]
    for image in images:
        hold(store, image.artifact, image.data)
    async with serving(store) as served, served.asked_by("peer", "10.0.0.9") as requests:
        assert await take(requests, image=images[0]) == 0
        assert await take(requests, image=images[1]) == 0
        with pytest.raises(PeerLacks):
            await take(requests, image=images[2])
        await trio.sleep(IDLE_S + 1)
        assert await take(requests, image=images[2]) == 0
        assert served.server.deals._tables.keys() == {images[1].table.digest, images[2].table.digest}
        assert served.server.deals._places.used == 2


async def test_who_stays_is_remembered_and_who_is_gone_is_not(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    other = sample(PIECE, 1)
    hold(store, other.artifact, other.data)
    async with serving(store) as served, served.asked_by("new", "10.0.0.1") as requests:
        async with served.asked_by("stays", "10.0.0.9") as stays:
            await take(stays)
        await trio.sleep(2 * IDLE_S)
        await take(requests, image=other)
        assert TABLE in served.server.deals._tables
        served.network.present.remove("stays")
        await trio.sleep(2 * IDLE_S)
        await take(requests, image=sample_held(store))
        assert served.server.deals._tables.keys() == {other.table.digest, sample_held(store).table.digest}


async def test_clients_of_all_tables_together_are_bounded_by_address(
    store: Store, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(deals, "CLIENTS", 16)
    async with serving(store) as served:
        refused = 0
        for number in range(20):
            async with served.asked_by(f"peer {number}", "10.0.0.9") as requests:
                try:
                    await take(requests)
                except PeerBusy:
                    refused += 1
        assert served.server.deals._places.used == 14  # the reserve is for others
        async with served.asked_by("other", "10.0.0.1") as requests:
            with pytest.raises(PeerBusy) as busy:  # of eight pieces all were dealt
                await take(requests)
            assert busy.value.retry_s == pytest.approx(0.3)
        assert (
            party_of("/ip4/10.0.0.1/tcp/1", "other") in served.server.deals._tables[TABLE]._clients.values()
        )


async def test_who_is_asked_for_changes_and_is_mute_costs_a_task_for_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = Network()
    network.replies = iter([b""])
    told: list[Changes] = []
    began = trio.current_time()
    await hear(
        cast(Transport, network), Connection("liar", "/ip4/10.0.0.9/tcp/1", 0), TABLE, COUNT, told.append
    )
    assert not told
    assert trio.current_time() - began == 25


async def test_many_ids_of_one_address_are_heard_no_more_often_together_than_one(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(hearing, "CHANGES_PER_S", 10)
    lie = Reply(Status.OK, encode_changes([Change(Form.HELD, range(1))] * 5), {"at": 7, "form": "runs"})
    network, told = Network(), Counter[str]()
    network.replies = iter(lambda: lie.encode_header() + bytes(lie.body), None)
    async with trio.open_nursery() as nursery:
        for address in ("10.0.0.1", *["10.0.0.9"] * 9):
            connection = Connection("liar", f"/ip4/{address}/tcp/1", 1)
            note = partial(lambda address, _: told.update([address]), address)
            nursery.start_soon(hear, network, connection, TABLE, COUNT, note)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    each = 60 / (REST_S + 5 * 2 / 10)
    assert told["10.0.0.1"] == pytest.approx(each, abs=2)
    assert told["10.0.0.9"] <= 9 * (1 + 60 / (REST_S + 5 * 2 * 9 / 10))


async def test_where_all_places_are_taken_the_address_gives_way_that_has_most(
    store: Store, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(deals, "CLIENTS", 16)
    async with serving(store) as served:
        for number in range(20):
            async with served.asked_by(f"peer {number}", f"10.0.0.{7 + number // 15}") as requests:
                with suppress(PeerBusy):
                    await take(requests)
        clients = served.server.deals._tables[TABLE]._clients
        assert len(clients) == served.server.deals._places.used == 16
        async with served.asked_by("other", "10.0.0.1") as requests:
            await take(requests)  # what the first of them was dealt
        assert "other" in clients
        assert "peer 0" not in clients
        assert len(clients) == served.server.deals._places.used == 16


async def test_few_answers_are_kept_for_who_asks_from_everywhere(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ring = ChangeRing(1)
    ring.append([Change(Form.HELD, range(1))] * 500)
    pulse = _Pulse(ring, 0.1)
    for after in range(1, 500):
        assert pulse.reply(after, PieceSet(COUNT)).extra == {"at": 501, "form": "runs"}
    assert len(pulse._told) < 50


async def test_who_waits_for_nothing_is_answered_no_more_often_with_many_ids(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(store, Limits(artifact_requests_per_s=10_000)) as served:
        asked = encode_request(ChangesRequest(TABLE, 0, 0)) * 1000
        async with trio.open_nursery() as nursery:
            for number in range(10):
                stream = served.connect(f"peer {number}", "10.0.0.9", window=10**6)
                nursery.start_soon(stream.write, asked)
            await trio.sleep(10)
            answered = served.serving.counters.requests["/p2pboot/swarm/1", "changes", "ok"]
            assert 1000 < answered <= AT_ONCE + 10 * AT_ONCE_PER_S + 10
            began = trio.current_time()
            async with served.asked_by("other", "10.0.0.1") as requests:
                await requests.ask(ask_changes(TABLE, COUNT, 0, 0))
                assert trio.current_time() == began
            nursery.cancel_scope.cancel()
