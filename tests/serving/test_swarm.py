"""What `/p2pboot/swarm/1` answers from a real store, in a network in memory."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from p2pboot.core.changes import Change, Form
from p2pboot.core.pieces import PieceSet
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.protocol.client import PeerBusy, PeerLacks, PeerRefused, Query
from p2pboot.protocol.messages import Status
from p2pboot.protocol.swarm import SWARM_PROTOCOL, Runs
from p2pboot.protocol.swarm_client import Changes, ask_changes, ask_deal, ask_some_pieces
from p2pboot.serving.accounts import TURNS, Serving
from p2pboot.serving.contents import KNOWN_S, Content, Contents
from p2pboot.serving.swarm import NEVER_S, SwarmServer
from p2pboot.serving.telling import GATHER_S, WHOLE
from p2pboot.store.hashes import FileIdentity
from p2pboot.store.partials import PartialBlob
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, sample, table_of
from p2pboot.testing.manifests import ALICE, key_of
from p2pboot.testing.network import MemoryNetwork
from p2pboot.testing.stores import hold
from p2pboot.transport.interface import Gossip

pytestmark = pytest.mark.usefixtures("inline_threads")

IMAGE = sample(7 * PIECE + 17)
TABLE = IMAGE.table
COUNT = TABLE.count
NOWHERE = "ab" * 32


def id_of(name: str) -> str:
    return key_of(name).public.peer_id


class Holder:
    """A node that serves a store, and its clients."""

    def __init__(self, network: MemoryNetwork, transport: Gossip, store: Store) -> None:
        self.network = network
        self.transport = transport
        self.store = store
        self.serving = Serving()
        self.contents = Contents()
        self.contents.add(store.blobs)
        self.server = SwarmServer(transport, self.serving, self.contents)
        transport.handle(SWARM_PROTOCOL, self.server.handle)

    @asynccontextmanager
    async def asked(self, client: Gossip) -> AsyncIterator[RequestStream]:
        connection = await client.dial(self.transport.addresses()[0])
        async with RequestStream(await client.open_stream(connection, SWARM_PROTOCOL)) as requests:
            yield requests

    @asynccontextmanager
    async def asked_by(self, name: str) -> AsyncIterator[RequestStream]:
        async with self.network.open(id_of(name)) as client, self.asked(client) as requests:
            yield requests


@pytest.fixture
async def holder(store: Store) -> AsyncIterator[Holder]:
    network = MemoryNetwork()
    async with network.open(id_of("holder")) as transport:
        yield Holder(network, transport, store)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state") as opened:
        yield opened


def begin(store: Store) -> PartialBlob:
    partial = store.blobs.begin(IMAGE.artifact.sha256, TABLE)
    assert partial is not None
    return partial


def bring(partial: PartialBlob, *indices: int) -> None:
    """Write pieces, and tell of them."""
    for index in indices:
        offset, length = TABLE.span(index)
        partial.write(index, IMAGE.data[offset : offset + length])
    partial.changes.append(Change(Form.HELD, range(index, index + 1)) for index in indices)


def changes(after: int, wait_ms: int = 20_000) -> Query[Changes]:
    return ask_changes(TABLE.digest, COUNT, after, wait_ms)


def data_of(*runs: range) -> bytes:
    return b"".join(IMAGE.data[run.start * PIECE : run.stop * PIECE] for run in runs)


def deal(want: Runs, most: int = 1) -> tuple[Query[bytearray], list[range]]:
    dealt: list[range] = []

    def length_of(first: int, count: int) -> int:
        return sum(TABLE.span(index)[1] for index in range(first, first + count))

    def begun(first: int, count: int) -> None:
        dealt.append(range(first, first + count))

    return ask_deal(TABLE.digest, want, most, length_of=length_of, begun=begun), dealt


def pieces(*runs: range) -> Query[bytearray]:
    want = tuple((run.start, len(run)) for run in runs)
    return ask_some_pieces(TABLE.digest, want, len(data_of(*runs)))


# --- changes


async def test_changes_tell_all_that_is_there_and_then_what_comes(
    holder: Holder, autojump_clock: trio.testing.MockClock
) -> None:
    partial = begin(holder.store)
    bring(partial, 2)
    async with holder.asked_by("a") as requests, trio.open_nursery() as nursery:
        all_of_it = await requests.ask(changes(0))
        assert all_of_it.held == PieceSet.of(COUNT, [2])
        began = trio.current_time()

        async def later() -> None:
            await trio.sleep(3)
            bring(partial, 5, 1)
            partial.changes.append([Change(Form.COMING, range(3, 4))])
            await trio.sleep(GATHER_S / 2)
            bring(partial, 6)

        nursery.start_soon(later)
        news = await requests.ask(changes(all_of_it.at))
        assert trio.current_time() - began == pytest.approx(3 + GATHER_S)
        assert news.held is None
        assert news.changes == (
            Change(Form.HELD, range(1, 2)),
            Change(Form.HELD, range(5, 7)),
            Change(Form.COMING, range(3, 4)),
        )
        assert news.at == all_of_it.at + 4


async def test_what_arrives_is_looked_for_once_and_what_is_whole_by_one_of_many_who_ask(
    holder: Holder, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    look = holder.contents.look

    def note(table: str) -> Content | None:
        looks.append(table)
        return look(table)

    monkeypatch.setattr(holder.contents, "look", note)
    partial = begin(holder.store)
    bring(partial, 2)
    async with holder.asked_by("a") as requests:
        for _ in range(3):
            assert await requests.ask(pieces(range(2, 3))) == data_of(range(2, 3))
            await trio.sleep(2 * KNOWN_S)
    assert looks == [TABLE.digest]
    bring(partial, 0, 1, *range(3, COUNT))
    partial.finish()

    async def ask(name: str) -> None:
        async with holder.asked_by(name) as requests:
            assert await requests.ask(pieces(range(2, 3))) == data_of(range(2, 3))

    async with trio.open_nursery() as nursery:
        for number in range(9):
            nursery.start_soon(ask, f"client {number}")
    assert 2 <= len(looks) <= 1 + TURNS


async def test_changes_wait_for_a_table_that_is_not_known_yet(
    holder: Holder, autojump_clock: trio.testing.MockClock
) -> None:
    async with holder.asked_by("a") as requests, trio.open_nursery() as nursery:

        async def later() -> None:
            await trio.sleep(2)
            begin(holder.store)

        nursery.start_soon(later)
        told = await requests.ask(changes(0))
        assert told.held == PieceSet(COUNT)
        with pytest.raises(PeerLacks):
            await requests.ask(ask_changes(NOWHERE, COUNT, 0, 100))


async def test_who_has_everything_says_so_and_has_nothing_to_add(
    holder: Holder, autojump_clock: trio.testing.MockClock
) -> None:
    hold(holder.store, IMAGE.artifact, IMAGE.data)
    async with holder.asked_by("a") as requests:
        began = trio.current_time()
        assert await requests.ask(changes(0)) == Changes(WHOLE, PieceSet.full(COUNT))
        assert trio.current_time() == began
        assert await requests.ask(changes(WHOLE, 7000)) == Changes(WHOLE, None)
        assert trio.current_time() == began + 7


async def test_of_two_requests_over_one_connection_the_older_is_answered_at_once(
    holder: Holder, autojump_clock: trio.testing.MockClock
) -> None:
    partial = begin(holder.store)
    async with (
        holder.network.open(id_of("a")) as client,
        holder.asked(client) as one,
        holder.asked(client) as other,
    ):
        at = (await one.ask(changes(0))).at
        began = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def older() -> None:
                assert await one.ask(changes(at)) == Changes(at, None)
                assert trio.current_time() == began + 1
                bring(partial, 4)

            nursery.start_soon(older)
            await trio.sleep(1)
            assert (await other.ask(changes(at))).changes == (Change(Form.HELD, range(4, 5)),)


async def test_two_connections_of_one_peer_are_two_followers(
    holder: Holder, autojump_clock: trio.testing.MockClock
) -> None:
    partial = begin(holder.store)
    async with holder.asked_by("a") as one, holder.asked_by("a") as other, trio.open_nursery() as nursery:
        at = (await one.ask(changes(0))).at

        async def follow(requests: RequestStream) -> None:
            began = trio.current_time()
            assert (await requests.ask(changes(at))).changes == (Change(Form.HELD, range(4, 5)),)
            assert trio.current_time() - began == pytest.approx(3 + GATHER_S)

        nursery.start_soon(follow, one)
        nursery.start_soon(follow, other)
        await trio.sleep(3)
        bring(partial, 4)


# --- deals


async def test_all_clients_are_dealt_other_pieces(holder: Holder) -> None:
    hold(holder.store, IMAGE.artifact, IMAGE.data)
    dealt: list[range] = []
    async with holder.asked_by("a") as one, holder.asked_by("b") as other:
        for requests in (one, other) * (COUNT // 2):
            query, runs = deal(((0, COUNT),))
            assert await requests.ask(query) == data_of(*runs)
            dealt += runs
    assert sorted(run.start for run in dealt) == list(range(COUNT))


async def test_what_is_dealt_is_chosen_when_the_former_is_handed_over(
    holder: Holder, autojump_clock: trio.testing.MockClock
) -> None:
    hold(holder.store, IMAGE.artifact, IMAGE.data)
    holder.network.limit_upload(id_of("holder"), PIECE)
    dealt: list[tuple[str, range]] = []

    async def take(name: str, requests: RequestStream) -> None:
        query, runs = deal(((0, COUNT),))
        await requests.ask(query)
        dealt.append((name, runs[0]))

    async with holder.asked_by("a") as one, holder.asked_by("b") as other, trio.open_nursery() as nursery:
        nursery.start_soon(take, "a", one)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(take, "a", one)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(take, "b", other)
    assert sorted(dealt, key=str) == [("a", range(1)), ("a", range(2, 3)), ("b", range(1, 2))]


async def test_who_has_a_part_deals_nothing(holder: Holder) -> None:
    begin(holder.store)
    async with holder.asked_by("a") as requests:
        with pytest.raises(PeerLacks):
            await requests.ask(deal(((0, COUNT),))[0])


async def test_who_got_it_with_others_deals_nothing_and_keeps_no_place(
    holder: Holder, autojump_clock: trio.testing.MockClock
) -> None:
    partial = begin(holder.store)
    async with holder.asked_by("a") as requests:
        await requests.ask(changes(0))
        bring(partial, 0)
        await requests.ask(pieces(range(1)))
        bring(partial, *range(1, COUNT))
        partial.finish()
        await trio.sleep(1)
        assert (await requests.ask(changes(0))).at == WHOLE
        with pytest.raises(PeerLacks):
            await requests.ask(deal(((0, COUNT),))[0])
        assert await requests.ask(pieces(range(COUNT))) == data_of(range(COUNT))
        assert not holder.server.uplink._going


async def test_who_got_it_alone_deals_although_the_publisher_followed_how_it_came(
    holder: Holder, autojump_clock: trio.testing.MockClock
) -> None:
    partial = begin(holder.store)
    async with holder.asked_by("publisher") as requests:
        await requests.ask(changes(0))
        bring(partial, *range(COUNT))
        partial.finish()
        await trio.sleep(1)
    async with holder.asked_by("a") as requests:
        assert await requests.ask(deal(((0, COUNT),))[0])


async def test_a_client_is_heard_until_it_is_gone(
    holder: Holder, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    hold(holder.store, IMAGE.artifact, IMAGE.data)
    with Store.open(tmp_path / "client") as store:
        partial = begin(store)
        async with holder.network.open(id_of("a")) as client:
            Holder(holder.network, client, store)
            async with holder.asked(client) as requests:
                query, runs = deal(((0, COUNT),))
                await requests.ask(query)
            bring(partial, runs[0].start)
            await trio.sleep(1)  # it asks nothing any more, and is connected
            deals = holder.server.deals.known(TABLE.digest)
            assert deals is not None
            assert list(deals.ask("b", ((runs[0].start, 1),))) == [id_of("a")]
        async with holder.asked_by("b") as other:
            await other.ask(deal(((0, COUNT),))[0])
        assert list(deals.ask("b", ((0, COUNT),))) == []


# --- pieces


async def test_pieces_come_one_after_the_other(holder: Holder) -> None:
    hold(holder.store, IMAGE.artifact, IMAGE.data)
    async with holder.asked_by("a") as requests:
        for runs in ([range(COUNT - 1, COUNT)], [range(1), range(3, 6), range(7, 8)], [range(COUNT)]):
            assert await requests.ask(pieces(*runs)) == data_of(*runs)


async def test_a_piece_that_is_not_there_is_not_found(holder: Holder) -> None:
    bring(begin(holder.store), 3)
    async with holder.asked_by("a") as requests:
        assert await requests.ask(pieces(range(3, 4))) == data_of(range(3, 4))
        with pytest.raises(PeerLacks):
            await requests.ask(pieces(range(3, 5)))


async def test_a_file_that_changed_and_is_served_no_more_is_gone_for_whoever_was_given_of_it(
    holder: Holder, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "image"
    path.write_bytes(IMAGE.data)
    identity = FileIdentity.of(path.stat())
    holder.store.blobs.register_in_place(path, IMAGE.artifact.sha256, TABLE, identity)
    async with holder.asked_by("a") as requests:
        assert await requests.ask(pieces(range(1, 3))) == data_of(range(1, 3))
        holder.store.blobs.serve_in_place([])
        await trio.sleep(KNOWN_S + 0.1)
        with pytest.raises(PeerLacks) as refused:
            await requests.ask(pieces(range(1, 3)))
        assert refused.value.status is Status.GONE


async def test_pieces_that_there_are_not_are_out_of_range(holder: Holder) -> None:
    begin(holder.store)
    async with holder.asked_by("a") as requests:
        with pytest.raises(PeerRefused) as refused:
            await requests.ask(ask_some_pieces(TABLE.digest, ((COUNT - 1, 2),), 1))
    assert refused.value.status is Status.RANGE


# --- snapshots


async def test_snapshots_are_given_by_their_tables_as_long_as_they_may_be(
    holder: Holder, tmp_path: Path
) -> None:
    snapshots = DiskSnapshotStore(
        tmp_path / "snapshots", chunk_length=PIECE, require_signatures=True, warn=lambda _: None
    )
    holder.contents.add(snapshots.blobs, snapshots.check_signature)
    payload = IMAGE.data
    unsigned, signed = payload[PIECE:], payload
    snapshots.insert(unsigned)
    root = snapshots.insert(signed, base64.b64encode(ALICE.sign(signed)).decode())
    async with holder.asked_by("a") as requests:
        assert (await requests.ask(changes(0))).held == PieceSet.full(COUNT)
        query, runs = deal(((0, COUNT),))
        assert await requests.ask(query) == data_of(*runs)
        with pytest.raises(PeerLacks):
            await requests.ask(ask_some_pieces(table_of(unsigned).digest, ((0, 1),), PIECE))
        assert snapshots.table(root) == TABLE


async def test_who_is_given_nothing_hears_what_changes(holder: Holder) -> None:
    bring(begin(holder.store), 2)
    holder.server.gives = lambda _connection: False
    async with holder.asked_by("a") as requests:
        assert (await requests.ask(changes(0))).held == PieceSet.of(COUNT, [2])
        with pytest.raises(PeerBusy) as refused:
            await requests.ask(pieces(range(2, 3)))
        assert refused.value.retry_s == NEVER_S
