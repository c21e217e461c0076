"""Everyone finds everyone, and whoever invents peers costs little."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pboot.fetch.asking import acquainting as module
from p2pboot.fetch.asking import neighbours
from p2pboot.fetch.asking.acquainting import (
    ADDRESSES,
    AT_ONCE,
    DIALS_OF_TELLER,
    FIRST_DIAL_S,
    IN_FRONT,
    LATEST_S,
    MEETINGS_OF_TELLER,
    SOME,
    SOONEST_S,
    Acquainting,
)
from p2pboot.fetch.client import fetch
from p2pboot.protocol.messages import MAX_PEERS, SYNC_PROTOCOL, TOLD_S, PeersRequest
from p2pboot.serving.accounts import Serving
from p2pboot.serving.heads import SyncServer
from p2pboot.store.manifests import Manifests
from p2pboot.testing.manifests import NOW, key_of
from p2pboot.testing.network import MemoryNetwork
from p2pboot.transport.interface import Connection, PeerSource, Transport
from p2pboot.transport.nearness import Nearness
from p2pboot.transport.racing import ATTEMPT_DELAY_S
from tests.fetch.world import World, manifest_of

DIGEST = "01" * 32


class Dials:
    """A transport that notes whom it dials."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.record: bytes | None = None
        self.dialled: list[str] = []
        self.under_way = 0
        self.most_at_once = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def own_record(self) -> bytes:
        return self._transport.own_record() if self.record is None else self.record

    async def dial(self, address: str, source: PeerSource | None = None) -> Connection:
        self.dialled.append(address)
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            return await self._transport.dial(address, source)
        finally:
            self.under_way -= 1


class NoManifests:
    def heads(self, *_: object) -> list[object]:
        return []

    def get(self, _digest: str) -> None:
        return None


@dataclass
class Member:
    transport: Transport
    acquainting: Acquainting
    asked: list[PeersRequest] = field(default_factory=list)


@dataclass
class Crowd:
    """Ends of a network in memory that answer `peers`, and ask for them."""

    network: MemoryNetwork
    nursery: trio.Nursery

    async def hold(self, opened: AbstractAsyncContextManager[Transport]) -> Transport:
        """Enter it in a task of its own: fixtures and tests are different ones."""

        async def keep(*, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            async with opened as transport:
                task_status.started(transport)
                await trio.sleep_forever()

        transport: Transport = await self.nursery.start(keep)
        return transport

    async def publisher(self, tell: Callable[[], Sequence[bytes]] | None = None) -> Transport:
        opened = await self.hold(self.network.open(key_of("publisher").public.peer_id))
        self.serve(opened, tell or opened.peer_records)
        return opened

    async def publisher_called(self, name: str) -> Transport:
        opened = await self.hold(self.network.open(key_of(name).public.peer_id))
        self.serve(opened, opened.peer_records)
        return opened

    def serve(self, transport: Transport, tell: Callable[[], Sequence[bytes]]) -> None:
        server = SyncServer(
            cast(Manifests, NoManifests()),
            tell,
            lambda: NOW,
            Serving(),
            lambda *_: [],
            read_record=transport.read_peer_record,
        )
        transport.handle(SYNC_PROTOCOL, server.handle)

    async def client(
        self, name: str, *, serves: bool = True, keeps_apart: bool = False, **options: Any
    ) -> Member:
        opened = self.network.open(key_of(name).public.peer_id, is_client=True)
        transport = await self.hold(opened)
        dials = Dials(transport)
        if serves:
            self.serve(transport, transport.peer_records)
        else:
            dials.record = b""
        if keeps_apart:
            options["usable"] = lambda peer_id: peer_id == key_of("publisher").public.peer_id
        acquainting = Acquainting(cast(Transport, dials), Nearness(), **options)
        self.nursery.start_soon(acquainting.run)
        return Member(cast(Transport, dials), acquainting)


@pytest.fixture
async def crowd() -> AsyncIterator[Crowd]:
    async with trio.open_nursery() as nursery:
        yield Crowd(MemoryNetwork(), nursery)
        nursery.cancel_scope.cancel()


def record_of(name: str, *addresses: str) -> bytes:
    peer_id = key_of(name).public.peer_id
    return " ".join((peer_id, *(f"{address}/p2p/{peer_id}" for address in addresses))).encode()


async def test_eight_that_fetch_the_same_at_the_same_time_find_each_other(
    autojump_clock: MockClock, crowd: Crowd
) -> None:
    publisher = await crowd.publisher()
    members = [await crowd.client(f"client {number}") for number in range(8)]
    other = await crowd.client("of another manifest")
    for member in (*members, other):
        await member.transport.dial(publisher.addresses()[0])
        member.acquainting.look_for(DIGEST if member in members else "02" * 32)
    await trio.sleep(2)
    everybody = {member.transport.peer_id for member in members} | {publisher.peer_id}
    for member in members:
        assert member.transport.peers() == everybody - {member.transport.peer_id}
        assert len(member.transport.connections()) == 8  # nobody twice
    assert other.transport.peers() == {publisher.peer_id}
    dialled = cast(Dials, members[0].transport).dialled
    assert len(dialled) == len(set(dialled))


async def test_eight_fetches_find_each_other_by_the_publisher_alone(
    autojump_clock: MockClock, world: World
) -> None:
    manifest = manifest_of()
    async with world.provider(manifest) as publisher, AsyncExitStack() as stack:
        world.network.limit_upload(publisher.peer_id, 200_000)
        clients = [await stack.enter_async_context(world.client(f"state {number}")) for number in range(8)]
        async with trio.open_nursery() as nursery:
            for number, (transport, store) in enumerate(clients):
                server = SyncServer(
                    store.manifests,
                    transport.peer_records,
                    lambda: NOW,
                    Serving(),
                    lambda *_: [],
                    read_record=transport.read_peer_record,
                )
                transport.handle(SYNC_PROTOCOL, server.handle)
                order = world.order(publisher, directory=world.directory / f"out {number}")
                job: dict[str, Any] = {
                    "transport": transport,
                    "store": store,
                    "progress": world.watcher,
                    "wall": lambda: NOW,
                }
                nursery.start_soon(partial(fetch, order, **job))
            await trio.sleep(2)
            for transport, _ in clients:
                assert len(transport.peers()) == 8
            nursery.cancel_scope.cancel()


async def test_who_serves_nobody_is_told_to_nobody_and_finds_the_others(
    autojump_clock: MockClock, crowd: Crowd
) -> None:
    publisher = await crowd.publisher()
    server, taker = await crowd.client("server"), await crowd.client("taker", serves=False)
    for member in (server, taker):
        await member.transport.dial(publisher.addresses()[0])
        member.acquainting.look_for(DIGEST)
    await trio.sleep(2)
    assert server.transport.peer_id in taker.transport.peers()
    assert taker.transport.addresses()[0] not in cast(Dials, server.transport).dialled


async def test_more_than_a_few_all_know_all(autojump_clock: MockClock, crowd: Crowd) -> None:
    publisher = await crowd.publisher()
    members = [await crowd.client(f"client {number}") for number in range(18)]
    for member in members:
        await member.transport.dial(publisher.addresses()[0])
        member.acquainting.look_for(DIGEST)
    await trio.sleep(4)
    assert {len(member.transport.peers()) for member in members} == {18}


async def test_beyond_that_each_has_some_and_nobody_is_apart(
    autojump_clock: MockClock, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, number in {"FULL_MESH": 6, "FEWEST": 4, "MOST": 6, "FAR": 1}.items():
        monkeypatch.setattr(neighbours, name, number)
    monkeypatch.setattr(module, "FULL_MESH", 6)
    publisher = await crowd.publisher()
    members = [
        await crowd.client(f"client {number}", keeps=lambda peer_id: peer_id == publisher.peer_id)
        for number in range(14)
    ]
    for member in members:
        await member.transport.dial(publisher.addresses()[0])
        member.acquainting.look_for(DIGEST)
        await trio.sleep(1)
    await trio.sleep(60)
    degrees = [len(member.transport.peers()) for member in members]
    assert min(degrees) >= 4
    assert max(degrees) <= 6


async def test_who_joins_later_is_known_to_all(autojump_clock: MockClock, crowd: Crowd) -> None:
    publisher = await crowd.publisher()
    early = [await crowd.client(f"client {number}") for number in range(4)]
    for member in early:
        await member.transport.dial(publisher.addresses()[0])
        member.acquainting.look_for(DIGEST)
    await trio.sleep(3 * TOLD_S)  # and is told of as long as it is there
    late = await crowd.client("late")
    await late.transport.dial(publisher.addresses()[0])
    late.acquainting.look_for(DIGEST)
    await trio.sleep(1)
    assert len(late.transport.peers()) == 5


async def test_a_lost_neighbour_is_found_again(autojump_clock: MockClock, crowd: Crowd) -> None:
    publisher = await crowd.publisher()
    one, other = await crowd.client("one"), await crowd.client("other")
    for member in (one, other):
        await member.transport.dial(publisher.addresses()[0])
        member.acquainting.look_for(DIGEST)
    await trio.sleep(20)
    crowd.network.disconnect(one.transport.peer_id, other.transport.peer_id)
    await trio.sleep(4)
    assert other.transport.peer_id in one.transport.peers()


async def liar(crowd: Crowd, records: Sequence[bytes], *, name: str = "liar") -> Transport:
    """Somebody who tells of these whoever asks, as many as fit, others each time."""
    transport = await crowd.hold(crowd.network.open(key_of(name).public.peer_id))
    crowd.serve(transport, lambda: records)
    return transport


async def test_one_who_invents_thousands_costs_a_few_dials_at_a_time(
    autojump_clock: MockClock, crowd: Crowd
) -> None:
    records = [
        record_of(f"invented {number}", f"/ip4/10.9.{number // 250}.{number % 250}/tcp/1")
        for number in range(600)
    ]
    crowd.network.freeze(key_of("mute").public.peer_id)
    mute = await crowd.hold(crowd.network.open(key_of("mute").public.peer_id))
    records += [record_of(f"mute {number}", mute.addresses()[0].split("/p2p/")[0]) for number in range(60)]
    teller = await liar(crowd, records)
    client = await crowd.client("client")
    await client.transport.dial(teller.addresses()[0])
    client.acquainting.look_for(DIGEST)
    await trio.sleep(SOONEST_S)
    dials = cast(Dials, client.transport)
    assert dials.most_at_once == DIALS_OF_TELLER <= 6
    assert len(dials.dialled) <= 1 + 8 * MAX_PEERS
    assert max(client.acquainting._of_teller.values(), default=0) <= MEETINGS_OF_TELLER


async def test_most_that_is_told_is_invented_and_the_rest_is_found(
    autojump_clock: MockClock, crowd: Crowd
) -> None:
    publisher = await crowd.publisher()
    for number in range(40):
        stranger = await crowd.client(f"invented {number}", keeps_apart=True)
        cast(Dials, stranger.transport).record = record_of(f"invented {number}", "/ip4/10.9.9.9/tcp/1")
        await stranger.transport.dial(publisher.addresses()[0])
        stranger.acquainting.look_for(DIGEST)
    await trio.sleep(1)
    members = [await crowd.client(f"client {number}") for number in range(3)]
    for member in members:
        await member.transport.dial(publisher.addresses()[0])
        member.acquainting.look_for(DIGEST)
    await trio.sleep(5)
    for member in members:
        assert {one.transport.peer_id for one in members} - {
            member.transport.peer_id
        } <= member.transport.peers()


async def test_nine_of_ten_who_are_told_of_are_where_nobody_answers_and_the_rest_is_found_in_seconds(
    autojump_clock: MockClock, crowd: Crowd
) -> None:
    """Invented ones are not refused by anybody: each takes as long as one is patient."""
    mute = await crowd.hold(crowd.network.open(key_of("mute").public.peer_id))
    crowd.network.freeze(mute.peer_id)
    nowhere = mute.addresses()[0].split("/p2p/")[0]
    real = [await crowd.publisher_called(f"real {number}") for number in range(8)]
    records = [one.own_record() for one in real]
    records += [record_of(f"invented {number}", nowhere) for number in range(72)]
    teller = await liar(crowd, records)
    client = await crowd.client("client")
    await client.transport.dial(teller.addresses()[0])
    client.acquainting.look_for(None)
    await trio.sleep(5)
    assert client.transport.peers() & {one.peer_id for one in real}
    await trio.sleep(55)
    assert client.transport.peers() >= {one.peer_id for one in real}
    assert cast(Dials, client.transport).most_at_once <= DIALS_OF_TELLER


async def test_one_who_is_told_of_is_found_at_his_second_address_at_once(
    autojump_clock: MockClock, crowd: Crowd
) -> None:
    mute, real = [await crowd.publisher_called(name) for name in ("mute", "real")]
    crowd.network.freeze(mute.peer_id)
    nowhere, there = (one.addresses()[0].split("/p2p/")[0] for one in (mute, real))
    teller = await liar(crowd, [record_of("real", nowhere, there)])
    client = await crowd.client("client")
    await client.transport.dial(teller.addresses()[0])
    client.acquainting.look_for(None)
    await trio.sleep(2 * ATTEMPT_DELAY_S)
    assert real.peer_id in client.transport.peers()


async def test_who_is_slow_to_answer_has_a_second_chance_after_all_others(
    autojump_clock: MockClock, crowd: Crowd
) -> None:
    slow = [await crowd.publisher_called(f"slow {number}") for number in range(DIALS_OF_TELLER)]
    quick = await crowd.publisher_called("quick")
    for one in slow:
        crowd.network.freeze(one.peer_id)
    teller = await liar(crowd, [one.own_record() for one in (*slow, quick)])
    client = await crowd.client("client")
    await client.transport.dial(teller.addresses()[0])
    client.acquainting.look_for(None)
    await trio.sleep(FIRST_DIAL_S + 0.1)
    assert client.transport.peers() == {teller.peer_id, quick.peer_id}
    await trio.sleep(FIRST_DIAL_S)
    for one in slow:
        crowd.network.thaw(one.peer_id)
    await trio.sleep(0.1)
    assert client.transport.peers() == {teller.peer_id, quick.peer_id, *(one.peer_id for one in slow)}


async def test_one_known_peer_leads_a_fetch_to_eight_providers_it_has_nothing_itself(
    autojump_clock: MockClock, world: World
) -> None:
    manifest = manifest_of()
    async with AsyncExitStack() as stack:
        known = await stack.enter_async_context(world.provider(introduces=True))
        others = [await stack.enter_async_context(world.provider(manifest)) for _ in range(8)]
        for other in others:
            world.network.limit_upload(other.peer_id, 50_000)
            await known.transport.dial(other.address)
        transport, store = await stack.enter_async_context(world.client())
        async with trio.open_nursery() as nursery:
            job = partial(fetch, transport=transport, store=store, progress=world.watcher, wall=lambda: NOW)
            nursery.start_soon(job, world.order(known))
            await trio.sleep(5)
            assert transport.peers() == {known.peer_id, *(other.peer_id for other in others)}
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("teller_at", "told", "is_dialled"),
    [
        ("10.0.0.1", "10.9.9.9", True),
        ("10.0.0.1", "192.0.2.1", True),
        ("10.0.0.1", "127.0.0.1", False),
        ("10.0.0.1", "::1", False),
        ("192.0.2.9", "10.9.9.9", False),
        ("192.0.2.9", "192.0.2.1", True),
        ("192.0.2.9", "127.0.0.1", False),
        ("192.0.2.9", "rebinding.example.net", False),
        ("10.0.0.1", "rebinding.example.net", False),
        ("127.0.0.1", "127.0.0.1", True),
    ],
)
async def test_no_address_is_dialled_that_is_more_private_than_its_teller(
    autojump_clock: MockClock, crowd: Crowd, teller_at: str, told: str, is_dialled: bool
) -> None:
    client = await crowd.client("client")
    kind = "ip6" if ":" in told else "ip4" if told[0].isdigit() else "dns4"
    address = f"/{kind}/{told}/tcp/8080"
    teller = Connection(key_of("teller").public.peer_id, f"/ip4/{teller_at}/tcp/4001", 0)
    await wait_all_tasks_blocked()
    client.acquainting._hear(teller, record_of("a", address))
    await trio.sleep(1)
    assert bool(cast(Dials, client.transport).dialled) is is_dialled


async def test_neither_oneself_nor_own_addresses_nor_who_is_dropped_is_dialled(
    autojump_clock: MockClock, crowd: Crowd
) -> None:
    dropped = key_of("dropped").public.peer_id
    client = await crowd.client("client", usable=lambda peer_id: peer_id != dropped)
    own = client.transport.addresses()[0].split("/p2p/")[0]
    records = [
        record_of("client", "/ip4/10.9.9.9/tcp/1"),
        record_of("another name of it", own),
        record_of("dropped", "/ip4/10.9.9.9/tcp/2"),
        b"rubbish",
        b"",
    ]
    teller = await liar(crowd, records)
    await client.transport.dial(teller.addresses()[0])
    client.acquainting.look_for(DIGEST)
    await trio.sleep(100)
    assert cast(Dials, client.transport).dialled == [teller.addresses()[0]]


async def test_of_one_peer_a_few_addresses_are_tried_once_in_a_minute(
    autojump_clock: MockClock, crowd: Crowd
) -> None:
    addresses = [f"/ip4/10.9.9.{number}/tcp/1" for number in range(1, 17)]
    teller = await liar(crowd, [record_of("many", *addresses)])
    client = await crowd.client("client")
    await client.transport.dial(teller.addresses()[0])
    client.acquainting.look_for(DIGEST)
    await trio.sleep(TOLD_S - 1)
    assert len(cast(Dials, client.transport).dialled) == 1 + ADDRESSES


async def test_few_are_asked_often_and_the_others_now_and_then(
    autojump_clock: MockClock, crowd: Crowd
) -> None:
    client = await crowd.client("client")
    asked = dict[str, int]()
    for number in range(12):
        peer = await liar(crowd, [], name=f"peer {number}")
        serve = peer._handlers[SYNC_PROTOCOL]  # type: ignore[attr-defined]

        async def count(stream: Any, peer_id: str = peer.peer_id, serve: Any = serve) -> None:
            asked[peer_id] = asked.get(peer_id, 0) + 1
            await serve(stream)

        peer.handle(SYNC_PROTOCOL, count)
        await client.transport.dial(peer.addresses()[0])
    client.acquainting.look_for(DIGEST)
    await trio.sleep(SOONEST_S - 0.1)
    assert sorted(asked.values()) == [1] * (AT_ONCE - IN_FRONT) + [3] * IN_FRONT
    await trio.sleep(LATEST_S * 12 / SOME)
    assert len(asked) == 12


async def test_where_one_goes_that_is_asked_often_another_takes_its_place(
    autojump_clock: MockClock, crowd: Crowd
) -> None:
    publisher = await crowd.publisher()
    one, other = await crowd.client("one"), await crowd.client("other")
    for number in range(AT_ONCE):
        peer = await liar(crowd, [], name=f"peer {number}")
        await one.transport.dial(peer.addresses()[0])
    for member in (one, other):
        member.acquainting.look_for(DIGEST)
        await trio.sleep(0.1)
        await member.transport.dial(publisher.addresses()[0])
    await trio.sleep(1)
    assert other.transport.peers() == {publisher.peer_id}
    for number in range(AT_ONCE):
        crowd.network.disconnect(one.transport.peer_id, key_of(f"peer {number}").public.peer_id)
    await trio.sleep(1)
    assert other.transport.peer_id in one.transport.peers()


async def test_nothing_is_asked_before_it_is_known_what_for_and_again_when_that_changes(
    autojump_clock: MockClock, crowd: Crowd
) -> None:
    publisher = await crowd.publisher()
    one, other = await crowd.client("one"), await crowd.client("other")
    for member in (one, other):
        await member.transport.dial(publisher.addresses()[0])
    await trio.sleep(60)
    one.acquainting.look_for(DIGEST)
    await trio.sleep(60)
    assert one.transport.peers() == other.transport.peers() == {publisher.peer_id}
    other.acquainting.look_for("02" * 32)
    await trio.sleep(5)
    other.acquainting.look_for(DIGEST)
    await trio.sleep(1)
    assert one.transport.peer_id in other.transport.peers()


async def test_who_does_not_answer_holds_up_nobody(autojump_clock: MockClock, crowd: Crowd) -> None:
    async def mute(_stream: object) -> None:
        await trio.sleep_forever()

    async def rubbish(stream: Any) -> None:
        await stream.write(b"\xff" * 1000)

    publisher = await crowd.publisher()
    one, other = await crowd.client("one"), await crowd.client("other")
    for name, handler in (("mute", mute), ("rubbish", rubbish), ("speaks nothing", None)):
        peer = await crowd.hold(crowd.network.open(key_of(name).public.peer_id))
        if handler is not None:
            peer.handle(SYNC_PROTOCOL, handler)
        await one.transport.dial(peer.addresses()[0])
    for member in (one, other):
        await member.transport.dial(publisher.addresses()[0])
        member.acquainting.look_for(DIGEST)
    await trio.sleep(2)
    assert other.transport.peer_id in one.transport.peers()
