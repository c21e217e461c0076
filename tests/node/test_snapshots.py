"""Snapshots on whole nodes in memory: gossip's verdicts, following, and what a server answers."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from p2pboot.config.storage import StoreSettings
from p2pboot.core.identity import SecretKey
from p2pboot.core.policy import Publisher
from p2pboot.core.problems import Code
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.node.problems import Problems
from p2pboot.node.snapshot_problems import LISTED_UNSIGNED, SnapshotProblems
from p2pboot.node.snapshots import SnapshotNode
from p2pboot.protocol.client import PeerLacks, PeerRefused
from p2pboot.protocol.messages import Status
from p2pboot.protocol.snapshot_client import (
    ask_announcement,
    ask_chunk,
    ask_chunks,
    ask_info,
    ask_snapshot_heads,
)
from p2pboot.protocol.snapshots import SNAPSHOT_PROTOCOL, SNAPSHOT_TOPIC, SnapshotHead
from p2pboot.serving.accounts import Serving
from p2pboot.serving.contents import Contents
from p2pboot.serving.snapshots import SnapshotServer
from p2pboot.store.hashes import FileIdentity
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from p2pboot.testing.network import MemoryNetwork
from p2pboot.transport.interface import Forwarding, Gossip
from tests.connections import connection_with
from tests.core.timetoke.samples import ALICE, BOB, CHUNK, announce, payload_of, sign
from tests.fetch.snapshots.world import ANNOUNCEMENT, PAYLOAD, ROOT, TOTAL

OLD, NEW = payload_of(10), payload_of(20)
TRUSTED = Publisher((ALICE.public.keyid,))


def peer(number: int) -> str:
    return SecretKey(number.to_bytes(32, "big")).public.peer_id


@asynccontextmanager
async def node(
    network: MemoryNetwork,
    directory: Path,
    number: int,
    trusted: Publisher | None = TRUSTED,
    problems: Problems | None = None,
    limits: Callable[[], StoreSettings] = StoreSettings,
    poisoned: Callable[[str, str], None] = lambda _peer_id, _what: None,
) -> AsyncIterator[tuple[SnapshotNode, DiskSnapshotStore, Gossip]]:
    store = DiskSnapshotStore(directory / f"node{number}", chunk_length=CHUNK)
    async with network.open(peer(number)) as transport, trio.open_nursery() as nursery:
        running = SnapshotNode(
            store,
            transport,
            Serving(),
            trusted=trusted,
            problems=problems or Problems(lambda: 7),
            contents=Contents(),
            announce_interval_s=300,
            sync_interval_s=15,
            limits=limits,
            poisoned=poisoned,
        )
        await nursery.start(running.run)
        yield running, store, transport
        nursery.cancel_scope.cancel()


def put(store: DiskSnapshotStore, payload: bytes, sequence: int) -> str:
    root = store.insert(payload, sign(payload))
    store.announcements.put(announce(payload, ALICE, sequence))
    return root


async def until(happened: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not happened():  # noqa: ASYNC110 - on the disk, which sends no events
            await trio.sleep(0.5)


async def test_a_follower_gets_what_is_published_and_passes_it_on(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path
) -> None:
    network = MemoryNetwork()
    async with (
        node(network, tmp_path, 1, None) as (_, source, first),
        node(network, tmp_path, 2) as (_, middle, second),
        node(network, tmp_path, 3) as (_, last, third),
    ):
        await second.dial(first.addresses()[0])
        await third.dial(second.addresses()[0])  # never talks to the first
        root = put(source, OLD, 1)
        await until(lambda: last.has_snapshot(root))
        newer = put(source, NEW, 2)
        await until(lambda: last.has_snapshot(newer))
        assert middle.signature(newer) == sign(NEW)
        assert last.announcements.get(ALICE.public.keyid, newer) == announce(NEW, ALICE, 2)


async def test_a_follower_writes_the_signature_as_published_also_beside_what_it_had_unsigned(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path
) -> None:
    network = MemoryNetwork()
    async with (
        node(network, tmp_path, 1, None) as (_, source, first),
        node(network, tmp_path, 2) as (_, follower, second),
    ):
        follower.insert(OLD)
        await second.dial(first.addresses()[0])
        for sequence, payload in enumerate((OLD, NEW), start=1):
            root = source.insert(payload, f"1:{sign(payload)}\n")
            source.announcements.put(announce(payload, ALICE, sequence))
            await until(lambda root=root: follower.has_snapshot(root) and has_signature(follower, root))  # type: ignore[misc]
            assert follower.signature_text(root) == f"1:{sign(payload)}\n"


async def test_a_follower_gives_a_copy_its_key_version_back(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path
) -> None:
    network = MemoryNetwork()
    before = DiskSnapshotStore(tmp_path / "node2", chunk_length=CHUNK)
    before.insert(OLD, sign(OLD))
    before.announcements.put(announce(OLD, ALICE, 1))
    async with (
        node(network, tmp_path, 1, None) as (_, source, first),
        node(network, tmp_path, 2) as (_, follower, second),
    ):
        root = source.insert(OLD, f"1:{sign(OLD)}\n")
        source.announcements.put(announce(OLD, ALICE, 1))
        await second.dial(first.addresses()[0])
        await until(lambda: follower.signature_text(root) == f"1:{sign(OLD)}\n")


def has_signature(store: DiskSnapshotStore, root: str) -> bool:
    return store.path(root).with_name(f"{root}.json.sig").exists()


async def test_rot_in_a_followed_snapshot_is_found_without_anybody_asking_and_mended(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a disk does it, which changes no date: the file looks as it did when it was hashed."""
    network = MemoryNetwork()
    async with (
        node(network, tmp_path, 1, None) as (_, source, first),
        node(network, tmp_path, 2) as (_, follower, second),
    ):
        await second.dial(first.addresses()[0])
        root = put(source, OLD, 1)
        await until(lambda: follower.has_snapshot(root))
        path = follower.path(root)
        path.write_bytes(OLD[:-2] + b" }")
        rotten = FileIdentity.of(path.stat())
        file = dataclasses.replace(follower.blobs.in_place(root)[0], identity=rotten)
        follower._files.add(path.name, file, signed=True)
        assert follower.has_snapshot(root)
        await until(lambda: path.read_bytes() == OLD and follower.has_snapshot(root))


async def test_a_signer_that_contradicts_itself_does_not_end_the_following(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path
) -> None:
    network = MemoryNetwork()
    async with (
        node(network, tmp_path, 1, None) as (_, source, first),
        node(network, tmp_path, 2) as (_, follower, second),
    ):
        await second.dial(first.addresses()[0])
        source.insert(OLD, sign(OLD))
        source.announcements.put(announce(OLD, ALICE, 1, timetoke_root="00" * 32))
        await trio.sleep(120)
        assert follower.roots() == ()
        newer = put(source, NEW, 2)
        await until(lambda: follower.has_snapshot(newer))


async def test_who_trusts_nobody_follows_nobody(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path
) -> None:
    network = MemoryNetwork()
    async with (
        node(network, tmp_path, 1, None) as (_, source, first),
        node(network, tmp_path, 2, None) as (_, store, second),
    ):
        await second.dial(first.addresses()[0])
        put(source, OLD, 1)
        await trio.sleep(60)
        assert store.roots() == ()


async def test_gossip_verdicts(autojump_clock: MockClock, inline_threads: None, tmp_path: Path) -> None:
    trusted = Publisher((ALICE.public.keyid, BOB.public.keyid))
    poisoners: list[tuple[str, str]] = []
    poisoned = lambda *told: poisoners.append(told)  # noqa: E731
    async with node(MemoryNetwork(), tmp_path, 1, trusted, poisoned=poisoned) as (running, _, _):

        async def verdict(payload: bytes) -> Forwarding:
            return await running._hear(SNAPSHOT_TOPIC, peer(9), payload)

        good = announce(OLD, ALICE, 5).raw
        assert await verdict(good) is Forwarding.ACCEPT
        assert (
            await verdict(good) is Forwarding.ACCEPT
        )  # else announcements that are repeated die at the first hop
        assert await verdict(announce(OLD, ALICE, 4).raw) is Forwarding.IGNORE
        assert await verdict(announce(NEW, BOB, 5).raw) is Forwarding.ACCEPT  # a liar must not silence others
        assert await verdict(announce(NEW, ALICE, 5).raw) is Forwarding.IGNORE
        document = json.loads(announce(NEW, ALICE, 6).raw)
        forged = good.replace(b'"sequence":5', b'"sequence":7')
        assert poisoners == []
        assert await verdict(forged) is Forwarding.REJECT
        ((peer_id, what),) = poisoners
        assert peer_id == peer(9)
        assert what.startswith("an announcement of a snapshot: ")
        stranger = announce(NEW, SecretKey(bytes([9]) * 32), 6).raw
        assert await verdict(stranger) is Forwarding.IGNORE
        for junk in (b"", b"{}", good + b" ", b"x" * 70_000, json.dumps(document).encode()):
            assert await verdict(junk) is Forwarding.REJECT


async def test_a_conflict_leaves_both_documents_on_the_disk(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path
) -> None:
    async with node(MemoryNetwork(), tmp_path, 1) as (running, store, _):
        first, second = announce(OLD, ALICE, 5), announce(NEW, ALICE, 5)
        for one in (first, second):
            await running._hear(SNAPSHOT_TOPIC, peer(9), one.raw)
        shelf = store.directory / ".p2pboot" / "conflicts"
        await until(lambda: shelf.exists() and len(list(shelf.iterdir())) == 2)
        assert {path.read_bytes() for path in shelf.iterdir()} == {first.raw, second.raw}


@asynccontextmanager
async def asking(tmp_path: Path, store: DiskSnapshotStore) -> AsyncIterator[RequestStream]:
    network = MemoryNetwork()
    async with network.open(peer(1)) as server, network.open(peer(2)) as client:
        server.handle(SNAPSHOT_PROTOCOL, SnapshotServer(store, Serving()).handle)
        await client.dial(server.addresses()[0])
        async with RequestStream(
            await client.open_stream(connection_with(client, server), SNAPSHOT_PROTOCOL)
        ) as requests:
            yield requests


@pytest.fixture
def store(tmp_path: Path) -> DiskSnapshotStore:
    store = DiskSnapshotStore(tmp_path / "store", chunk_length=CHUNK)
    store.insert(PAYLOAD, f" {sign(PAYLOAD)}\n")
    store.announcements.put(ANNOUNCEMENT)
    store.announcements.put(announce(NEW))  # of what is not here
    return store


async def test_every_request_is_answered(store: DiskSnapshotStore, tmp_path: Path) -> None:
    signer = ALICE.public.keyid
    async with asking(tmp_path, store) as requests:
        assert await requests.ask(ask_snapshot_heads()) == (SnapshotHead(signer, 1, ROOT),)
        assert await requests.ask(ask_announcement(signer, ROOT)) == ANNOUNCEMENT.raw
        info = await requests.ask(ask_info(ROOT))
        assert (info.size, info.chunk_length, info.total) == (len(PAYLOAD), CHUNK, TOTAL)
        assert info.signature == f" {sign(PAYLOAD)}\n"
        table = await requests.ask(
            ask_chunks(
                ROOT,
                size=len(PAYLOAD),
                chunk_length=CHUNK,
                digest=ANNOUNCEMENT.facts.chunk_table,
            )
        )
        assert table == store.table(ROOT)
        for index in (0, TOTAL - 1):
            offset, length = table.span(index)
            chunk = await requests.ask(ask_chunk(ROOT, index, total=TOTAL, length=length))
            assert chunk == PAYLOAD[offset : offset + length]


async def test_what_is_not_there_is_said_in_order(store: DiskSnapshotStore, tmp_path: Path) -> None:
    async with asking(tmp_path, store) as requests:
        with pytest.raises(PeerLacks):
            await requests.ask(ask_info("00" * 32))
        with pytest.raises(PeerLacks):
            await requests.ask(ask_chunk("00" * 32, 0, total=1, length=1))
        with pytest.raises(PeerLacks):
            await requests.ask(ask_announcement(BOB.public.keyid, ROOT))
        with pytest.raises(PeerRefused) as caught:
            await requests.ask(ask_chunk(ROOT, TOTAL, total=TOTAL + 1, length=1))
        assert caught.value.status is Status.RANGE
        assert await requests.ask(ask_snapshot_heads())


async def test_a_snapshot_with_a_damaged_signature_is_not_served(
    store: DiskSnapshotStore, tmp_path: Path
) -> None:
    (store.directory / f"{ROOT}.json.sig").write_text("")
    async with asking(tmp_path, store) as requests:
        with pytest.raises(PeerLacks):
            await requests.ask(ask_info(ROOT))
        with pytest.raises(PeerLacks):
            await requests.ask(ask_chunk(ROOT, 0, total=TOTAL, length=CHUNK))


async def test_who_asks_is_told_why_and_not_where(store: DiskSnapshotStore, tmp_path: Path) -> None:
    (store.directory / f"{ROOT}.json.sig").write_text("")
    unsigned = DiskSnapshotStore(tmp_path / "store", require_signatures=True).insert(NEW)
    strict = DiskSnapshotStore(tmp_path / "store", require_signatures=True)
    async with asking(tmp_path, strict) as requests:
        for root, reason in [
            (ROOT, "its signature file is empty"),
            (unsigned, "it has no signature, and this server requires one"),
            ("00" * 32, ""),
        ]:
            with pytest.raises(PeerLacks) as caught:
                await requests.ask(ask_info(root))
            assert caught.value.reason == reason
        (store.directory / f"{unsigned}.json").write_bytes(NEW + b" ")
        with pytest.raises(PeerLacks, match="it is damaged"):
            await requests.ask(ask_info(unsigned))


def test_a_store_in_odd_chunks_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="power of two"):
        SnapshotServer(DiskSnapshotStore(tmp_path, chunk_length=16), Serving())


# what is wrong with the store


def watched(store: DiskSnapshotStore, *, required: bool = False) -> tuple[Problems, Callable[[], None]]:
    problems = Problems(lambda: 7)
    told = SnapshotProblems(problems, store.directory, require_signatures=required)
    return problems, lambda: told.report(store.survey())


async def test_a_node_names_what_is_unsigned_without_being_asked(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "p2pboot")
    store = DiskSnapshotStore(tmp_path / "store", warn=lambda _: None)
    roots = [store.insert(payload_of(number, "0a" * 32)) for number in (1, 2)]
    problems = Problems(lambda: 7)
    async with MemoryNetwork().open(peer(1)) as transport, trio.open_nursery() as nursery:
        running = SnapshotNode(
            store,
            transport,
            Serving(),
            trusted=None,
            problems=problems,
            contents=Contents(),
            announce_interval_s=300,
            sync_interval_s=15,
        )
        await nursery.start(running.run)
        await until(lambda: len(problems.all()) == 2)
        await trio.sleep(60)
        found = problems.all()
        assert {problem.code for problem in found} == {Code.UNSIGNED_SNAPSHOT}
        assert {problem.subject for problem in found} == {str(store.path(root)) for root in roots}
        for root in roots:
            assert sum(root in line and "no signature" in line for line in caplog.messages) == 1
            assert any(root in (problem.remedy or "") for problem in found)
        store.keep_signature(roots[0], sign(payload_of(1, "0a" * 32)))
        await until(lambda: len(problems.all()) == 1)
        nursery.cancel_scope.cancel()


def test_of_many_unsigned_snapshots_each_is_named_once_and_the_list_stays_short(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "p2pboot")
    store = DiskSnapshotStore(tmp_path / "store", warn=lambda _: None)
    roots = [store.insert(payload_of(0, f"{number:064x}")) for number in range(100)]
    problems, look = watched(store)
    for _ in range(3):
        look()
    for root in roots:
        assert sum(f"snapshot {root} has no signature" in line for line in caplog.messages) == 1
    assert len(problems.all()) == LISTED_UNSIGNED + 1
    assert any("60 more snapshots" in problem.text for problem in problems.all())
    for root in roots:
        store.keep_signature(root, sign(b"x"))
    store.survey()
    look()
    assert problems.all() == ()


def test_what_can_not_be_served_is_a_problem_with_its_reason(tmp_path: Path) -> None:
    store = DiskSnapshotStore(tmp_path / "store", require_signatures=True)
    damaged, unsigned = store.insert(OLD), store.insert(NEW)
    (store.directory / f"{damaged}.json.sig").write_text("")
    (store.directory / "dangling.json").symlink_to("nowhere")
    (store.directory / "notes.txt").write_text("nobody expects this to be served")
    problems, look = watched(store, required=True)
    look()
    found = {Path(problem.subject).name: problem for problem in problems.all()}
    assert set(found) == {f"{damaged}.json", f"{unsigned}.json", "dangling.json"}
    assert "its signature is empty" in found[f"{damaged}.json"].text
    assert "signatures are required" in found[f"{unsigned}.json"].text
    assert "a link to nothing" in found["dangling.json"].text
    (store.directory / f"{damaged}.json.sig").write_text(sign(OLD))
    (store.directory / f"{unsigned}.json.sig").write_text(sign(NEW))
    (store.directory / "dangling.json").unlink()
    look()
    assert problems.all() == ()


async def test_a_store_that_goes_away_is_one_problem_until_it_is_back(
    autojump_clock: MockClock, inline_threads: None, tmp_path: Path
) -> None:
    store = DiskSnapshotStore(tmp_path / "store")
    problems = Problems(lambda: 7)
    async with MemoryNetwork().open(peer(1)) as transport, trio.open_nursery() as nursery:
        running = SnapshotNode(
            store,
            transport,
            Serving(),
            trusted=None,
            problems=problems,
            contents=Contents(),
            announce_interval_s=300,
            sync_interval_s=15,
        )
        await nursery.start(running.run)
        store.directory.rename(tmp_path / "away")
        await until(lambda: [p.code for p in problems.all()] == [Code.UNREADABLE_SNAPSHOT])
        (tmp_path / "away").rename(store.directory)
        await until(lambda: problems.all() == ())
        nursery.cancel_scope.cancel()


async def test_an_unsigned_snapshot_is_served_unless_signatures_are_required(tmp_path: Path) -> None:
    for required in (False, True):
        store = DiskSnapshotStore(tmp_path / "store", require_signatures=required)
        root = store.insert(NEW)
        async with asking(tmp_path, store) as requests:
            if required:
                with pytest.raises(PeerLacks):
                    await requests.ask(ask_info(root))
            else:
                assert (await requests.ask(ask_info(root))).signature is None
