"""A client answers for what it has: to whom, on one account, and how long it stays."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import click
import pytest
import trio

from p2pboot.cli.sharing import IDLE_S, LONGEST_IDLE_S, Linger, Sharing, read_linger
from p2pboot.core.identity import SecretKey
from p2pboot.errors import UsageError
from p2pboot.fetch.asking.requests import RequestStream, requests_to
from p2pboot.protocol.client import ask_peers, ask_read
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, SYNC_PROTOCOL, ArtifactRequest, Reply, Status
from p2pboot.serving.accounts import Serving
from p2pboot.serving.artifacts import ArtifactServer
from p2pboot.serving.conversation import Reserve, serve_stream
from p2pboot.serving.limits import ServingCounters
from p2pboot.serving.server import Server
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import Sample, sample
from p2pboot.testing.network import MemoryNetwork
from p2pboot.testing.stores import hold
from p2pboot.transport.interface import Connection, Stream, StreamReset, Transport
from p2pboot.transport.interfaces import Listing, OwnAddress, Reach
from p2pboot.transport.nearness import Nearness

PEERS = [SecretKey(letter * 32).public.peer_id for letter in (b"a", b"b")]


def connection(host: str) -> Connection:
    kind = "ip6" if ":" in host else "ip4"
    return Connection(PEERS[1], f"/{kind}/{host}/tcp/4001/p2p/{PEERS[1]}", 1)


@pytest.mark.parametrize(
    ("serve", "host", "served"),
    [
        ("lan", "10.1.2.3", True),
        ("lan", "172.31.0.1", True),
        ("lan", "192.168.7.7", True),
        ("lan", "169.254.1.1", True),
        ("lan", "127.0.0.1", True),
        ("lan", "::1", True),
        ("lan", "fe80::1", True),
        ("lan", "fd12::1", True),
        ("lan", "::ffff:10.1.2.3", True),
        ("lan", "64:ff9b::a01:203", True),
        ("lan", "8.8.8.8", False),
        ("lan", "::ffff:8.8.8.8", False),
        ("lan", "2a00:1450::1", False),
        ("lan", "100.64.0.1", False),
        ("any", "8.8.8.8", True),
        ("no", "10.1.2.3", False),
    ],
)
def test_who_is_served_depends_on_where_a_peer_is(serve: str, host: str, served: bool) -> None:
    assert Sharing(serve).serves(connection(host)) is served  # type: ignore[arg-type]


@pytest.mark.parametrize(("serve", "served"), [("lan", True), ("any", True), ("no", False)])
def test_in_a_private_mesh_everybody_counts_as_a_neighbour(serve: str, served: bool) -> None:
    sharing = Sharing(serve)  # type: ignore[arg-type]
    sharing.is_private = True
    assert sharing.serves(connection("8.8.8.8")) is served


def test_the_same_subnet_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnAddress(ip_address("198.51.100.5"), "eth0", 2, Reach.PHYSICAL, prefix=24)
    monkeypatch.setattr("p2pboot.transport.interfaces.list_own", lambda: Listing((own,)))
    assert Sharing("lan").serves(connection("198.51.100.77"))
    assert not Sharing("lan").serves(connection("198.51.101.77"))


class World:
    """A client that shares a sample, and its neighbour."""

    def __init__(self, client: Transport, other: Transport, held: Sample, sharing: Sharing) -> None:
        self.client, self.other, self.held, self.sharing = client, other, held, sharing

    async def ask(self) -> bytes:
        connection = await self.other.dial(self.client.addresses()[0])
        async with RequestStream(await self.other.open_stream(connection, ARTIFACT_PROTOCOL)) as requests:
            return bytes(await requests.ask(ask_read(self.held.sha256, 0, 1000)))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Serving]:
    """The accounts that were made."""
    accounts: list[Serving] = []

    class Noted(Serving):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            accounts.append(self)

    monkeypatch.setattr("p2pboot.serving.accounts.Serving", Noted)
    return accounts


@asynccontextmanager
async def world(directory: Path, sharing: Sharing) -> AsyncIterator[World]:
    held, network = sample(1000), MemoryNetwork()
    with Store.open(directory) as store:
        hold(store, held.artifact, held.data)
        async with network.open(PEERS[0]) as client, network.open(PEERS[1]) as other:
            sharing.offer(client, ARTIFACT_PROTOCOL, lambda serving: ArtifactServer(store.blobs, serving))
            yield World(client, other, held, sharing)


class Ready(Server):
    """Answers at once, without a thread, so that a clock that jumps waits for nothing else."""

    protocol = ARTIFACT_PROTOCOL

    async def handle(self, stream: Stream) -> None:
        await serve_stream(stream, self.protocol, self._answer, self._serving)

    async def _answer(self, request: ArtifactRequest, reserve: Reserve) -> Reply:
        return Reply(Status.OK, sample(1000).data)


@asynccontextmanager
async def lingering(linger: Linger) -> AsyncIterator[World]:
    network, sharing = MemoryNetwork(), Sharing("any", linger=linger)
    async with network.open(PEERS[0]) as client, network.open(PEERS[1]) as other:
        sharing.offer(client, ARTIFACT_PROTOCOL, Ready)
        yield World(client, other, sample(1000), sharing)


async def test_streams_are_answered_from_the_store_on_one_account(
    tmp_path: Path, made: list[Serving]
) -> None:
    async with world(tmp_path, Sharing("lan")) as it:
        assert made == []
        for _ in range(2):
            assert await it.ask() == it.held.data
    assert len(made) == 1


async def test_whoever_is_not_served_makes_nothing_be_loaded(
    tmp_path: Path, made: list[Serving], monkeypatch: pytest.MonkeyPatch
) -> None:
    sharing = Sharing("lan")
    monkeypatch.setattr(Sharing, "serves", lambda _self, _connection: False)
    async with world(tmp_path, sharing) as it:
        with pytest.raises(StreamReset):
            await it.ask()
    assert made == []


async def test_a_provider_that_is_served_nothing_hears_what_came_of_what_it_gave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Sharing, "serves", lambda _self, _connection: False)
    network, sharing = MemoryNetwork(), Sharing("lan")
    async with network.open(PEERS[0]) as client, network.open(PEERS[1]) as provider:
        sharing.offer(client, ARTIFACT_PROTOCOL, Ready, tells=True)
        ask = ask_read(sample(1000).sha256, 0, 1000)
        stranger = await provider.dial(client.addresses()[0])
        with pytest.raises(StreamReset):
            async with RequestStream(await provider.open_stream(stranger, ARTIFACT_PROTOCOL)) as requests:
                await requests.ask(ask)
        await provider.hang_up(stranger)
        await client.dial(provider.addresses()[0])
        (connection,) = provider.connections()
        async with RequestStream(await provider.open_stream(connection, ARTIFACT_PROTOCOL)) as requests:
            assert await requests.ask(ask) == sample(1000).data


async def test_who_gives_nothing_speaks_no_protocol(tmp_path: Path) -> None:
    async with world(tmp_path, Sharing("no")) as it:
        with pytest.raises(StreamReset, match="opens no stream"):
            await it.ask()
    assert Sharing("no").listening() == ()


async def test_it_stays_until_nobody_has_asked_for_a_while(autojump_clock: trio.abc.Clock) -> None:
    async with lingering(Linger(LONGEST_IDLE_S, IDLE_S)) as it:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_at, it, 20.0, 45.0)
            await it.sharing.stay()
        assert 45 + IDLE_S <= trio.current_time() - began <= 45 + IDLE_S + 2


async def ask_at(it: World, *times: float) -> None:
    began = trio.current_time()
    for each in times:
        await trio.sleep_until(began + each)
        await it.ask()


async def test_something_goes_on_as_long_as_it_stays(autojump_clock: trio.abc.Clock) -> None:
    ran: list[float] = []

    async def run() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ran.append(trio.current_time() - began)

    for linger, expected in ((Linger(7), [7.0]), (Linger(0), [])):
        ran.clear()
        sharing = Sharing("any", linger=linger)
        sharing.meanwhile(run)
        began = trio.current_time()
        await sharing.stay()
        assert ran == pytest.approx(expected)


@pytest.mark.parametrize("is_served", [True, False])
async def test_who_is_served_is_told_of_others_who_fetch_the_same(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch, is_served: bool
) -> None:
    monkeypatch.setattr(Sharing, "serves", lambda *_: is_served)
    network, sharing, nearness, digest = MemoryNetwork(), Sharing("lan"), Nearness("rack-7"), "01" * 32
    async with AsyncExitStack() as stack:
        client, one, other = [
            await stack.enter_async_context(network.open(SecretKey(letter * 32).public.peer_id))
            for letter in (b"c", b"d", b"e")
        ]
        sharing.introduce(client, nearness)
        told = []
        for asker in (one, other):
            connection = await asker.dial(client.addresses()[0])
            query = ask_peers(digest=digest, record=asker.own_record(), site="rack-7")
            with suppress(StreamReset):
                async with requests_to(asker, connection, SYNC_PROTOCOL) as requests:
                    told.append(set(await requests.ask(query)))
        assert [one.own_record() in records for records in told] == ([False, True] if is_served else [])
        assert {nearness._sites.get(each.peer_id) for each in (one, other)} == {
            "rack-7" if is_served else None
        }


async def test_it_does_not_stay_longer_than_was_said(autojump_clock: trio.abc.Clock) -> None:
    for linger, stays_s in ((Linger(0), 0.0), (Linger(60), 60.0), (Linger(LONGEST_IDLE_S, IDLE_S), 600.0)):
        async with lingering(linger) as it:
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask_at, it, *map(float, range(10, 1000, 10)))
                await it.sharing.stay()
                assert trio.current_time() - began == pytest.approx(stays_s)
                nursery.cancel_scope.cancel()


async def test_who_only_looks_around_does_not_keep_it_here(autojump_clock: trio.abc.Clock) -> None:
    async with lingering(Linger(LONGEST_IDLE_S, IDLE_S)) as it:
        await it.ask()
        counters = it.sharing._account().counters
        async with trio.open_nursery() as nursery:
            for op in ("heads", "changes", "peers"):
                nursery.start_soon(count_often, counters, op, 50)
            began = trio.current_time()
            await it.sharing.stay()
            assert trio.current_time() - began == pytest.approx(IDLE_S)
            nursery.cancel_scope.cancel()


async def test_a_long_reply_that_is_being_taken_keeps_it_here(autojump_clock: trio.abc.Clock) -> None:
    async with lingering(Linger(LONGEST_IDLE_S, IDLE_S)) as it:
        await it.ask()
        counters = it.sharing._account().counters

        async def send_slowly() -> None:
            for _ in range(100):
                await trio.sleep(1)
                counters.bytes_sent[ARTIFACT_PROTOCOL] += 8192

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_slowly)
            await it.sharing.stay()
        assert 100 <= trio.current_time() - began <= 101 + IDLE_S


async def count_often(counters: ServingCounters, op: str, size: int) -> None:
    while True:
        await trio.sleep(3)
        counters.requests[ARTIFACT_PROTOCOL, op, "ok"] += 1
        counters.bytes_sent[ARTIFACT_PROTOCOL] += size


@pytest.mark.parametrize(
    ("text", "linger"),
    [
        ("0", Linger(0)),
        ("60s", Linger(60)),
        ("2h", Linger(7200)),
        ("until-idle", Linger(600, 30)),
        ("forever", Linger(math.inf)),
    ],
)
def test_how_long_to_stay_is_read(text: str, linger: Linger) -> None:
    assert read_linger(None, None, text) == linger


@pytest.mark.parametrize("text", ["", "60", "-1s", "soon", "1.5h", "until idle"])
def test_what_is_no_time_to_stay_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="until-idle"):
        read_linger(None, None, text)


def options(**said: object) -> dict[str, object]:
    return {"listen": (), "serve": "lan", "linger": Linger(0), **said}


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"serve": "no", "linger": Linger(60)}, "--linger"),
        ({"serve": "no", "listen": ("/ip4/127.0.0.1/tcp/0",)}, "--listen"),
        ({"listen": ("localhost:1",)}, "--listen"),
        ({"listen": ("/dns4/somewhere/tcp/0",)}, "--listen"),
    ],
)
def test_what_can_not_be_is_refused(said: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Sharing.of(options(**said))


def test_it_listens_where_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Sharing.of(options(listen=("/ip4/127.0.0.1/tcp/7",))).listening() == ("/ip4/127.0.0.1/tcp/7",)
    monkeypatch.setattr("p2pboot.transport.addresses.can_listen", lambda kind: kind == "ip4")
    assert Sharing.of(options()).listening() == ("/ip4/0.0.0.0/tcp/0",)
