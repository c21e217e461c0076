"""State sync between whole peers: what is agreed on arrives byte for byte, and liars cost a chunk at most."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from blake3 import blake3
from trio.testing import MockClock

from p2pboot.core.pieces import MAX_PIECE, MAX_PIECES, PieceTable
from p2pboot.core.policy import Publisher
from p2pboot.core.timetoke.announcement import Announcement
from p2pboot.core.timetoke.chunks import DEFAULT_CHUNK, ChunkTableBuilder, payload_root
from p2pboot.core.timetoke.errors import (
    AnnouncementConflict,
    SignatureMismatch,
    SignaturesTooFew,
    SnapshotMalformed,
)
from p2pboot.core.timetoke.signatures import PayloadSignature
from p2pboot.errors import FetchError, MachineError, NotFoundError
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.fetch.snapshots.chunks import ByRootDialect
from p2pboot.fetch.snapshots.signature_texts import choose_text, text_with_version
from p2pboot.protocol.messages import SYNC_PROTOCOL, Reply, Status
from p2pboot.protocol.snapshots import SNAPSHOT_PROTOCOL, ChunkRequest, ChunksRequest, InfoRequest
from p2pboot.serving.accounts import Serving
from p2pboot.serving.conversation import Reserve
from p2pboot.serving.heads import NothingOffered, SyncServer
from p2pboot.serving.snapshots import SnapshotServer
from p2pboot.store.filenames import DATABASE_NAME
from p2pboot.store.hashes import FileIdentity, HashedFile
from p2pboot.store.ownership import PRIVATE
from p2pboot.store.resolving import Way, find_doubt, go_on
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from p2pboot.store.snapshots.files import REMEMBERED_BYTES
from p2pboot.store.store import Store
from p2pboot.store.tables import TableIndex
from p2pboot.transport.interface import Connection
from tests.core.timetoke.samples import ALICE, BOB, CAROL, CHUNK, announce, payload_of, sign
from tests.fetch.snapshots.world import (
    ANNOUNCEMENT,
    PAYLOAD,
    ROOT,
    TOTAL,
    LyingServer,
    RawLiar,
    RawLie,
    SnapshotWorld,
    Tamper,
    endless,
    stop_in_the_middle,
)
from tests.fetch.world import Watcher

OLDER, NEWER = payload_of(10), payload_of(20)


async def test_the_latest_snapshot_arrives_from_several_peers_at_once(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    async with AsyncExitStack() as stack:
        providers = [await stack.enter_async_context(world.provider(PAYLOAD, ANNOUNCEMENT)) for _ in range(3)]
        result = await world.sync(*providers)
    assert (result.root, result.sequence, result.unchanged) == (ROOT, 1, False)
    assert [one.raw for one in result.announcements] == [ANNOUNCEMENT.raw]
    assert set(result.ledger.received) == {provider.peer_id for provider in providers}
    assert result.ledger.downloaded_bytes == len(PAYLOAD)
    assert TOTAL > 20
    world.assert_synced()


async def test_one_known_peer_that_has_nothing_leads_to_those_who_have_it(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    async with (
        world.network.open(world.new_peer_id()) as known,
        world.provider(PAYLOAD, ANNOUNCEMENT) as one,
        world.provider(PAYLOAD, ANNOUNCEMENT) as other,
    ):
        for provider in (one, other):
            await known.dial(provider.addresses()[0])
        introducing = SyncServer(
            NothingOffered(),
            known.peer_records,
            lambda: 0,
            Serving(),
            lambda _channel, _arch: (),
            read_record=known.read_peer_record,
        )
        known.handle(SYNC_PROTOCOL, introducing.handle)
        result = await world.sync(known)
        assert set(result.ledger.received) == {one.peer_id, other.peer_id}
    world.assert_synced()


async def test_a_second_sync_downloads_nothing_and_a_newer_sequence_is_followed(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    async with world.provider(OLDER, announce(OLDER, sequence=1)) as old:
        await world.sync(old)
        again = await world.sync(old)
        assert again.unchanged
        assert again.ledger.downloaded_bytes == 0
        async with world.provider(NEWER, announce(NEWER, sequence=2)) as new:
            latest = await world.sync(old, new)
            assert latest.sequence == 2
        behind = await world.sync(old)  # the peers that are left know less than we do
        assert (behind.sequence, behind.unchanged) == (2, True)
        lose_database(world.directory / "out")
        with pytest.raises(NotFoundError):
            await world.sync(old, timeout_s=3.0)


def lose_database(output: Path) -> None:
    """Of what was announced only the numbers are left."""
    state = output / PRIVATE
    (state / DATABASE_NAME).write_bytes(b"")
    found = find_doubt(state)
    assert found is not None
    go_on(state, found, Way.TRUST_RECORD)


async def with_a_liar(world: SnapshotWorld, server: object, watcher: Watcher) -> None:
    """Sync from one honest peer and a liar; assert what must hold whatever the lie is."""
    async with (
        world.provider(PAYLOAD, ANNOUNCEMENT, server=server) as liar,  # type: ignore[arg-type]
        world.provider(PAYLOAD, ANNOUNCEMENT) as honest,
    ):
        result = await world.sync(honest, liar, watcher=watcher)
    world.assert_synced()
    named = {**result.ledger.dropped, **result.ledger.stopped}
    assert set(named) == {liar.peer_id}
    assert "chunk " in named[liar.peer_id]
    assert ROOT in named[liar.peer_id]
    assert result.ledger.wasted_bytes <= CHUNK


def wrong_bytes(_server: LyingServer, _request: ChunkRequest, reply: Reply) -> Reply:
    return Reply(Status.OK, bytes(reply.body[:-1]) + b"\x00", reply.extra)


def wrong_total(_server: LyingServer, _request: ChunkRequest, reply: Reply) -> Reply:
    return Reply(Status.OK, reply.body, {**(reply.extra or {}), "total": TOTAL + 1})


def endless_total(_server: LyingServer, _request: ChunkRequest, reply: Reply) -> Reply:
    return Reply(Status.OK, reply.body, {**(reply.extra or {}), "total": 10**18})


def too_short(_server: LyingServer, _request: ChunkRequest, reply: Reply) -> Reply:
    return Reply(Status.OK, bytes(reply.body[:-1]), reply.extra)


def too_long(_server: LyingServer, _request: ChunkRequest, reply: Reply) -> Reply:
    return Reply(Status.OK, bytes(reply.body) + b"x", reply.extra)


def repeated(server: LyingServer, request: ChunkRequest, _reply: Reply) -> Awaitable[Reply]:
    """The same chunk whatever is asked, and it says so."""
    return server.honest(request, (server.asked[0] + 1) % (TOTAL - 1))


async def _disguised(server: LyingServer, request: ChunkRequest, reply: Reply) -> Reply:
    other = await server.honest(request, (request.index + 1) % (TOTAL - 1))
    return Reply(Status.OK, other.body, reply.extra)


def repeated_in_disguise(server: LyingServer, request: ChunkRequest, reply: Reply) -> Awaitable[Reply]:
    return _disguised(server, request, reply)


def reordered(server: LyingServer, request: ChunkRequest, _reply: Reply) -> Awaitable[Reply]:
    return server.honest(request, TOTAL - 2 - request.index % (TOTAL - 1))


def of_another_root(_server: LyingServer, _request: ChunkRequest, reply: Reply) -> Reply:
    return Reply(Status.OK, reply.body, {**(reply.extra or {}), "root": "00" * 32})


def without_header(_server: LyingServer, _request: ChunkRequest, reply: Reply) -> Reply:
    return Reply(Status.OK, reply.body)


@pytest.mark.parametrize(
    "tamper",
    [
        wrong_bytes,
        wrong_total,
        endless_total,
        too_short,
        too_long,
        repeated,
        repeated_in_disguise,
        reordered,
        of_another_root,
        without_header,
    ],
)
async def test_a_lie_costs_one_chunk_at_most_and_names_liar_and_chunk(
    autojump_clock: MockClock, world: SnapshotWorld, watcher: Watcher, tamper: Tamper
) -> None:
    await with_a_liar(world, partial(LyingServer, tamper=tamper), watcher)


@pytest.mark.parametrize("lie", [endless, stop_in_the_middle])
async def test_a_stream_that_never_ends_or_stops_costs_one_chunk_at_most(
    autojump_clock: MockClock, world: SnapshotWorld, watcher: Watcher, lie: RawLie
) -> None:
    await with_a_liar(world, partial(RawLiar, lie=lie), watcher)


async def test_only_liars_bring_nothing_and_are_all_named(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    server = partial(LyingServer, tamper=wrong_bytes)
    async with (
        world.provider(PAYLOAD, ANNOUNCEMENT, server=server) as one,
        world.provider(PAYLOAD, ANNOUNCEMENT, server=server) as other,
    ):
        with pytest.raises((FetchError, NotFoundError)) as caught:
            await world.sync(one, other)
    assert one.peer_id in caught.value.message
    assert other.peer_id in caught.value.message
    assert [path.name for path in (world.directory / "out").iterdir() if not path.name.startswith(".")] == []


async def test_a_killed_sync_resumes_with_the_chunks_that_are_there(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    store = DiskSnapshotStore(world.directory / "out")
    source = world.store()
    partial_snapshot = store.blobs.begin(ROOT, source.table(ROOT))
    assert partial_snapshot is not None
    for index in range(0, TOTAL, 2):
        partial_snapshot.write(index, source.chunk(ROOT, index).data)
    partial_snapshot.close()
    async with world.provider(PAYLOAD, ANNOUNCEMENT) as provider:
        result = await world.sync(provider)
    assert result.ledger.resumed_bytes >= (TOTAL // 2) * CHUNK
    assert result.ledger.downloaded_bytes + result.ledger.resumed_bytes == len(PAYLOAD)
    world.assert_synced()


async def test_a_sync_killed_before_verifying_downloads_nothing_again(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    store, source = DiskSnapshotStore(world.directory / "out"), world.store()
    arriving = store.blobs.begin(ROOT, source.table(ROOT))
    assert arriving is not None
    for index in range(TOTAL):
        arriving.write(index, source.chunk(ROOT, index).data)
    arriving.finish()
    async with world.provider(PAYLOAD, ANNOUNCEMENT) as provider:
        result = await world.sync(provider)
    assert result.ledger.downloaded_bytes == 0
    world.assert_synced()


async def test_a_missing_signature_beside_a_payload_is_added_without_a_download(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    DiskSnapshotStore(world.directory / "out", chunk_length=CHUNK).insert(PAYLOAD)
    async with world.provider(PAYLOAD, ANNOUNCEMENT) as provider:
        result = await world.sync(provider)
    assert result.ledger.downloaded_bytes == 0
    world.assert_synced()


EVIL = PAYLOAD[:-2] + b" }"


@pytest.mark.parametrize("named", [False, True])
async def test_what_the_state_says_of_a_payload_is_no_proof(
    autojump_clock: MockClock, world: SnapshotWorld, named: bool
) -> None:
    """A file of the right name and size, and notes that make it the right one: as who had the disk can leave it."""
    options: dict[str, Any] = {"root": ROOT, "require_signatures": False} if named else {}
    provides = world.provider(signature=None) if named else world.provider(PAYLOAD, ANNOUNCEMENT)
    async with provides as provider:
        path = (await world.sync(provider, **options)).path
        path.unlink()
        path.write_bytes(EVIL)
        with Store.of_snapshots(path.parent / ".p2pboot") as state:
            table = ChunkTableBuilder(DEFAULT_CHUNK if named else CHUNK)
            table.update(PAYLOAD)
            state.hashes.put(FileIdentity.of(path.stat()), HashedFile(ROOT, table.finish()[1]))
        result = await world.sync(provider, **options)
    assert not result.unchanged
    assert result.path.read_bytes() == PAYLOAD


async def test_a_payload_that_waits_to_be_verified_is_read_whole(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    store, built = DiskSnapshotStore(world.directory / "out"), ChunkTableBuilder(CHUNK)
    built.update(EVIL)
    evil, table = built.finish()
    assert isinstance(table, PieceTable)
    arriving = store.blobs.begin(evil, table)
    assert arriving is not None
    for index in range(table.count):
        offset, length = table.span(index)
        arriving.write(index, EVIL[offset : offset + length])
    where = world.directory / "out/.p2pboot/blobs" / ROOT[:2]
    where.mkdir(parents=True)
    arriving.finish().rename(where / ROOT)
    with Store.of_snapshots(world.directory / "out/.p2pboot") as state:
        TableIndex(state._database).put(ROOT, table)
    async with world.provider(signature=None) as provider:
        result = await world.sync(provider, root=ROOT, require_signatures=False)
    assert result.path.read_bytes() == PAYLOAD


# m of n


TWO_OF_THREE = Publisher(tuple(key.public.keyid for key in (ALICE, BOB, CAROL)), 2)


async def test_announcements_of_several_signers_add_up(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    async with world.provider(OLDER, announce(OLDER, ALICE, 7)) as one:
        with pytest.raises(NotFoundError, match="2 trusted signers"):
            await world.sync(one, trusted=TWO_OF_THREE)
        async with world.provider(OLDER, announce(OLDER, BOB, 7)) as other:
            result = await world.sync(one, other, trusted=TWO_OF_THREE)
    assert {one.signer for one in result.announcements} == {ALICE.public.keyid, BOB.public.keyid}


async def test_a_conflict_is_reported_with_both_documents_and_nothing_is_taken(
    autojump_clock: MockClock, world: SnapshotWorld, watcher: Watcher
) -> None:
    first, second = announce(OLDER, ALICE, 7), announce(NEWER, BOB, 7)
    trusted = Publisher((ALICE.public.keyid, BOB.public.keyid))
    async with world.provider(OLDER, first) as one, world.provider(NEWER, second) as other:
        with pytest.raises(AnnouncementConflict) as caught:
            await world.sync(one, other, trusted=trusted, watcher=watcher)
    assert {caught.value.first, caught.value.second} == {first.raw, second.raw}
    kept = [path.read_bytes() for path in (world.directory / "out/.p2pboot/conflicts").iterdir()]
    assert sorted(kept) == sorted([first.raw, second.raw])
    assert "conflicts" in watcher.notes[0]


async def test_the_transfer_goes_on_beside_the_grace_for_who_has_not_answered(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    async with world.provider(PAYLOAD, ANNOUNCEMENT) as slow, world.provider() as mute:
        world.network.limit_upload(slow.peer_id, len(PAYLOAD) / 1.5)
        result, took_s = await world.sync_beside_mute(slow, mute=mute)
    assert took_s < 2.5  # 2 s of grace, and 1.5 s of transfer
    assert not result.unchanged
    world.assert_synced()


async def test_a_contradiction_ends_a_transfer_and_leaves_nothing_of_it(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    first, second = announce(OLDER, ALICE, 7), announce(NEWER, BOB, 7)
    trusted = Publisher((ALICE.public.keyid, BOB.public.keyid))
    async with (
        world.provider(OLDER, first) as one,
        world.provider(NEWER, second) as other,
        world.provider() as mute,
    ):
        with pytest.raises(AnnouncementConflict):
            await world.sync_beside_mute(one, mute=mute, late=other, trusted=trusted)
    assert world.visible() == []
    store = DiskSnapshotStore(world.directory / "out")
    assert not store.blobs.holds(first.root)
    assert store.blobs.held(first.root) is None


async def test_a_threshold_outvotes_a_hostile_key_and_the_result_has_the_evidence(
    autojump_clock: MockClock,
    world: SnapshotWorld,
) -> None:
    async with (
        world.provider(OLDER, announce(OLDER, ALICE, 7), announce(OLDER, BOB, 7)) as one,
        world.provider(NEWER, announce(NEWER, CAROL, 7)) as other,
    ):
        result = await world.sync(one, other, trusted=TWO_OF_THREE)
    assert result.root == announce(OLDER).root
    conflicts = result.to_json()["conflicts"]
    assert conflicts
    for conflict in conflicts:
        assert CAROL.public.keyid in {json.loads(text)["signer"] for text in conflict["documents"]}


async def test_a_table_that_one_of_two_signers_made_up_does_not_stop_the_sync(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    false = announce(PAYLOAD, BOB, 1, chunk_table="00" * 32)
    async with world.provider(PAYLOAD, ANNOUNCEMENT, false) as provider:
        result = await world.sync(provider, trusted=TWO_OF_THREE)
    assert result.root == ROOT
    world.assert_synced()  # with the signature that the provider has


async def test_a_signer_that_did_not_sign_the_payload_does_not_count(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    announcement = announce(OLDER, ALICE, 1, payload_signature=sign(NEWER, ALICE))
    async with world.provider(OLDER, announcement) as provider:
        with pytest.raises(SignatureMismatch, match=ALICE.public.keyid):
            await world.sync(provider)
    assert not DiskSnapshotStore(world.directory / "out").roots()


async def test_another_timetoke_root_than_announced_is_the_signers_fault(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    async with world.provider(OLDER, announce(OLDER, timetoke_root="00" * 32)) as provider:
        with pytest.raises(SnapshotMalformed, match="announced"):
            await world.sync(provider)
    assert not DiskSnapshotStore(world.directory / "out").roots()


async def test_strangers_announcements_are_not_even_asked_for(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    async with world.provider(OLDER, announce(OLDER, BOB)) as provider:
        with pytest.raises(NotFoundError, match=f"others did: {BOB.public.keyid}") as caught:
            await world.sync(provider, timeout_s=3.0)
    assert caught.value.remedy is not None
    assert caught.value.remedy.startswith("check --trust")


async def test_a_store_of_which_nothing_was_announced_is_told_apart_from_wrong_trust(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    async with world.provider(OLDER) as provider:
        with pytest.raises(NotFoundError, match=r"announced$") as caught:
            await world.sync(provider, timeout_s=3.0)
    assert caught.value.remedy is not None
    assert "snapshot publish" in caught.value.remedy


async def test_nobody_there_is_said_at_the_end_of_patience(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    with pytest.raises(NotFoundError, match="no peer answered"):
        await world.sync(timeout_s=1.0)


# by root alone


async def test_a_snapshot_without_announcement_is_fetched_by_its_root(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    async with world.provider() as provider:
        result = await world.sync(provider, root=ROOT)
    assert result.announcements == ()
    world.assert_synced()


async def test_by_root_an_announcement_is_used_where_there_is_one(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    async with world.provider(PAYLOAD, ANNOUNCEMENT) as one, world.provider(PAYLOAD, ANNOUNCEMENT) as other:
        result = await world.sync(one, other, root=ROOT)
    assert result.sequence == 1
    assert len(result.ledger.received) == 2


async def test_by_root_a_liar_is_dropped_and_another_peer_asked(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    async with (
        world.provider(server=partial(LyingServer, tamper=wrong_bytes)) as liar,
        world.provider() as honest,
    ):
        result = await world.sync(liar, honest, root=ROOT)
    world.assert_synced()
    assert set(result.ledger.dropped) <= {liar.peer_id}


async def test_by_root_the_signature_must_be_a_trusted_keys(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    async with world.provider(signature=sign(PAYLOAD, BOB)) as provider:
        with pytest.raises(FetchError, match="not the signature of"):
            await world.sync(provider, root=ROOT)


async def test_by_root_an_unsigned_snapshot_is_refused_unless_that_is_allowed(
    autojump_clock: MockClock,
    world: SnapshotWorld,
) -> None:
    async with world.provider(signature=None) as provider:
        with pytest.raises(FetchError, match="it has no signature") as caught:
            await world.sync(provider, root=ROOT)
        assert "--allow-unsigned" in (caught.value.remedy or "")
        assert world.visible() == []
        result = await world.sync(provider, root=ROOT, require_signatures=False)
        assert not result.signed
        assert result.to_json()["signed"] is False
        world.assert_synced(signature=None)
        with pytest.raises(FetchError, match="it has no signature"):  # also what is there already
            await world.sync(provider, root=ROOT)


async def test_by_root_one_signature_in_a_file_is_no_two_of_three(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    async with world.provider() as provider:
        with pytest.raises(SignaturesTooFew, match="2 of the trusted keys"):
            await world.sync(provider, root=ROOT, trusted=TWO_OF_THREE)
        assert world.visible() == []
        assert (await world.sync(provider, root=ROOT)).signed  # one of one
        with pytest.raises(SignaturesTooFew):  # also of what is there already
            await world.sync(provider, root=ROOT, trusted=TWO_OF_THREE)
    async with world.provider(PAYLOAD, ANNOUNCEMENT, announce(PAYLOAD, BOB)) as announced:
        assert (await world.sync(announced, root=ROOT, trusted=TWO_OF_THREE)).signed


# the text of the signature


TEXTS = [
    f"1:{sign(PAYLOAD)}\n",
    f"4294967295:{sign(PAYLOAD)}",
    f"{sign(PAYLOAD)}\r\n",
    f"\ufeff+1:{sign(PAYLOAD)} ",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("root", [None, ROOT])
async def test_the_signature_file_is_byte_for_byte_as_published(
    autojump_clock: MockClock, world: SnapshotWorld, text: str, root: str | None
) -> None:
    async with world.provider(PAYLOAD, ANNOUNCEMENT, signature=text) as provider:
        await world.sync(provider, root=root)
    world.assert_synced(signature=text)


async def test_a_mirror_of_a_mirror_has_the_same_text(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    text = TEXTS[0]
    async with world.provider(PAYLOAD, ANNOUNCEMENT, signature=text) as provider:
        await world.sync(provider)
    (world.directory / "out").rename(world.directory / f"peer{world.next_number()}")
    async with world.existing_provider() as mirror:
        await world.sync(mirror)
    world.assert_synced(signature=text)


async def test_a_signature_that_is_added_later_has_the_text_too(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    DiskSnapshotStore(world.directory / "out", chunk_length=CHUNK).insert(PAYLOAD)
    async with world.provider(PAYLOAD, ANNOUNCEMENT, signature=TEXTS[0]) as provider:
        await world.sync(provider)
    world.assert_synced(signature=TEXTS[0])


@pytest.mark.parametrize("root", [None, ROOT])
@pytest.mark.parametrize("announcements", [(), (ANNOUNCEMENT,)])
async def test_a_copy_that_lost_the_key_version_gets_it_from_the_next_sync(
    autojump_clock: MockClock,
    world: SnapshotWorld,
    root: str | None,
    announcements: tuple[Announcement, ...],
) -> None:
    copy = DiskSnapshotStore(world.directory / "out", chunk_length=CHUNK)
    copy.insert(PAYLOAD, sign(PAYLOAD))
    for one in (ANNOUNCEMENT,) if root is None else announcements:
        copy.announcements.put(one)
    async with world.provider(PAYLOAD, *announcements, signature=TEXTS[0]) as provider:
        result = await world.sync(provider, root=root)
    assert (result.unchanged, result.ledger.downloaded_bytes) == (True, 0)
    assert copy.signature_text(ROOT) == TEXTS[0]


def test_only_the_same_signature_with_a_key_version_replaces_one_that_is_kept() -> None:
    plain = sign(PAYLOAD)
    kept = PayloadSignature.parse(plain)
    for texts, expected in [
        ([], None),
        ([f"{plain}\n", f"{plain}\n"], None),
        (["", "nonsense", f"v1:{plain}", f"1:{sign(PAYLOAD, CAROL)}"], None),
        ([f"1:{plain}\n"], f"1:{plain}\n"),
        ([f"7:{plain}", plain, plain], None),
        ([f"7:{plain}", f"1:{plain}", f"1:{plain}"], f"1:{plain}"),
    ]:
        said = {f"peer{number}": text for number, text in enumerate(texts)}
        assert text_with_version(said, kept) == expected


async def test_a_transfer_that_needs_nobody_any_more_asks_for_the_text(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    store, source = DiskSnapshotStore(world.directory / "out"), world.store()
    arriving = store.blobs.begin(ROOT, source.table(ROOT))
    assert arriving is not None
    for index in range(TOTAL):
        arriving.write(index, source.chunk(ROOT, index).data)
    arriving.finish()
    async with world.provider(PAYLOAD, ANNOUNCEMENT, signature=TEXTS[0]) as provider:
        await world.sync(provider)
    world.assert_synced(signature=TEXTS[0])


@pytest.mark.parametrize("lie", [f"1:{sign(NEWER)}\n", f"1:{sign(PAYLOAD, CAROL)}"])
async def test_a_peer_that_lies_about_the_text_is_named_and_not_believed(
    autojump_clock: MockClock, world: SnapshotWorld, watcher: Watcher, lie: str
) -> None:
    async with world.provider(PAYLOAD, ANNOUNCEMENT, signature=lie) as liar:
        await world.sync(liar, watcher=watcher)
    world.assert_synced()  # the announcement's form
    assert any(peer == liar.peer_id and "is not the signature of" in said for peer, said in watcher.peers)


async def test_of_several_texts_most_peers_decide(autojump_clock: MockClock, world: SnapshotWorld) -> None:
    key_1, key_7, plain = f"1:{sign(PAYLOAD)}\n", f"7:{sign(PAYLOAD)}\n", sign(PAYLOAD)
    for texts, expected in [
        ([key_1, key_1, key_7], key_1),
        ([plain, plain, key_7], plain),
        ([plain, key_1], key_1),  # of equally many the one that says more
        (["", "nonsense", "v1:" + plain], plain),
        ([], plain),
    ]:
        said = {f"peer{number}": text for number, text in enumerate(texts)}
        assert choose_text(said, [ALICE.public], PAYLOAD, known_good=[plain]).text == expected


# what the other side knows


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "its signature file is empty"),
        (b"v1:" + sign(PAYLOAD).encode(), "before the colon in its signature file is no key version"),
        (b"1:" + sign(PAYLOAD).encode()[1:], "no base64 text of a signature"),
        (b"AAAA", "64 bytes"),
    ],
)
@pytest.mark.parametrize("announcements", [(), (ANNOUNCEMENT,)])
async def test_why_a_snapshot_is_not_served_is_told_to_who_asks(
    autojump_clock: MockClock,
    world: SnapshotWorld,
    text: bytes,
    reason: str,
    announcements: tuple[Announcement, ...],
) -> None:
    async with world.provider(PAYLOAD, *announcements) as provider:
        (world.last_store().path(ROOT).with_name(f"{ROOT}.json.sig")).write_bytes(text)
        with pytest.raises(FetchError, match=reason) as caught:
            await world.sync(provider, root=ROOT)
        assert provider.peer_id in caught.value.message
        assert str(world.directory) not in caught.value.message  # where it lies is nobody's business
    assert world.visible() == []


async def test_a_damaged_file_of_that_name_is_told(autojump_clock: MockClock, world: SnapshotWorld) -> None:
    async with world.provider() as provider:
        world.last_store().path(ROOT).write_bytes(PAYLOAD[:-1])
        with pytest.raises(FetchError, match="it is damaged"):
            await world.sync(provider, root=ROOT)


async def test_a_manifest_of_chunks_is_fetched_by_its_root(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    manifest = b'{"version": 1, "segments": [{"segment_name": "a.bin", "size_bytes": 1}]}\n'
    text = f"1:{sign(manifest)}"
    async with world.provider(manifest, signature=text) as provider:
        result = await world.sync(provider, root=payload_root(manifest))
    assert result.path.read_bytes() == manifest
    assert result.path.with_name(result.path.name + ".sig").read_text() == text


async def test_a_root_that_nobody_has_is_not_found(
    autojump_clock: MockClock, world: SnapshotWorld, tmp_path: Path
) -> None:
    async with world.provider() as provider:
        with pytest.raises(NotFoundError, match="00000"):
            await world.sync(provider, root="00" * 32)
        await trio.lowlevel.checkpoint()


# several peers, and what their word is worth


async def test_by_root_the_chunks_come_from_several_peers_at_once(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    async with world.provider() as one, world.provider() as other:
        result = await world.sync(one, other, root=ROOT)
    world.assert_synced()
    assert set(result.ledger.received) == {one.peer_id, other.peer_id}
    assert result.ledger.downloaded_bytes == len(PAYLOAD)


async def test_by_root_a_killed_sync_resumes(autojump_clock: MockClock, world: SnapshotWorld) -> None:
    source = world.store()
    partial_snapshot = DiskSnapshotStore(world.directory / "out").blobs.begin(ROOT, source.table(ROOT))
    assert partial_snapshot is not None
    for index in range(0, TOTAL, 2):
        partial_snapshot.write(index, source.chunk(ROOT, index).data)
    partial_snapshot.close()
    async with world.provider() as provider:
        result = await world.sync(provider, root=ROOT)
    assert result.ledger.resumed_bytes >= (TOTAL // 2) * CHUNK
    assert result.ledger.downloaded_bytes + result.ledger.resumed_bytes == len(PAYLOAD)
    world.assert_synced()


FORGED = 7
"""The chunk that liars replace by another one, in their tables as well."""


class Forger(SnapshotServer):
    """Says that one chunk is another one, and sends it so: every chunk is what its table names."""

    async def _answer(self, request: Any, reserve: Reserve) -> Reply:
        reply = await super()._answer(request, reserve)
        if isinstance(request, ChunkRequest) and request.index == FORGED:
            return Reply(reply.status, b"x" * len(reply.body), reply.extra)
        if isinstance(request, ChunksRequest):
            table = bytearray(reply.body)
            table[FORGED * 32 : FORGED * 32 + 32] = blake3(b"x" * CHUNK).digest()
            return Reply(reply.status, bytes(table), reply.extra)
        return reply


@pytest.mark.parametrize("liars", [1, 2])
async def test_by_root_who_stands_by_a_false_table_is_named_and_what_is_good_is_kept(
    autojump_clock: MockClock, world: SnapshotWorld, liars: int
) -> None:
    async with AsyncExitStack() as stack:
        lying = [await stack.enter_async_context(world.provider(server=Forger)) for _ in range(liars)]
        honest = await stack.enter_async_context(world.provider())
        result = await world.sync(*lying, honest, root=ROOT)
    world.assert_synced()
    if liars == 2:  # their table was tried first
        assert set(result.ledger.dropped) == {liar.peer_id for liar in lying}
        assert all(ROOT in why and "chunk table" in why for why in result.ledger.dropped.values())
        assert result.ledger.received[honest.peer_id] == CHUNK
    assert honest.peer_id not in result.ledger.dropped


async def test_by_root_only_forgers_bring_nothing_and_are_all_named(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    async with world.provider(server=Forger) as one, world.provider(server=Forger) as other:
        with pytest.raises(FetchError, match="chunk table") as caught:
            await world.sync(one, other, root=ROOT)
    assert one.peer_id in caught.value.message
    assert other.peer_id in caught.value.message
    assert world.visible() == []
    assert list((world.directory / "out" / ".p2pboot" / "partial").iterdir()) == []


async def test_by_root_a_signature_that_is_not_trusted_costs_nobody_the_payload(
    autojump_clock: MockClock, world: SnapshotWorld, watcher: Watcher
) -> None:
    async with (
        world.provider(signature=sign(PAYLOAD, BOB)) as other,
        world.provider(signature=TEXTS[0]) as honest,
    ):
        result = await world.sync(other, honest, root=ROOT, watcher=watcher)
    world.assert_synced(signature=TEXTS[0])
    assert result.ledger.downloaded_bytes == len(PAYLOAD)
    assert any(peer == other.peer_id and "is not the signature of" in said for peer, said in watcher.peers)


async def test_what_was_fetched_is_not_hashed_once_more(
    autojump_clock: MockClock, world: SnapshotWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(PAYLOAD) > REMEMBERED_BYTES
    async with world.provider(PAYLOAD, ANNOUNCEMENT) as provider:
        world.last_store().roots()  # the provider's own files
        hashed: list[int] = []
        monkeypatch.setattr(ChunkTableBuilder, "update", lambda _self, data: hashed.append(len(data)))
        result = await world.sync(provider)
        assert result.path.read_bytes() == PAYLOAD
        again = DiskSnapshotStore(world.directory / "out")
        assert again.roots() == (ROOT,)
        assert again.table(ROOT).digest == ANNOUNCEMENT.facts.chunk_table
    assert hashed == []


async def test_by_root_what_is_good_is_kept_where_the_true_table_has_longer_chunks(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    store = DiskSnapshotStore(world.directory / "longer", chunk_length=2 * CHUNK)
    store.insert(PAYLOAD, sign(PAYLOAD))
    async with (
        world.provider(server=Forger) as one,
        world.provider(server=Forger) as other,
        world.network.open(world.new_peer_id()) as honest,
    ):
        honest.handle(SNAPSHOT_PROTOCOL, SnapshotServer(store, Serving()).handle)
        result = await world.sync(one, other, honest, root=ROOT)
    world.assert_synced()
    assert result.ledger.received[honest.peer_id] == 2 * CHUNK


async def test_of_two_servers_with_one_key_the_one_gives_it_that_has_it(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    async with (
        world.provider(PAYLOAD[:-1]) as other,
        world.provider(PAYLOAD, ANNOUNCEMENT, twin_of=other) as provider,
    ):
        await world.sync(other, provider)
    world.assert_synced()


async def test_by_root_servers_with_one_key_have_one_vote(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    async with (
        world.provider(server=Forger) as forger,
        world.provider(server=Forger, twin_of=forger) as second,
        world.provider(server=Forger, twin_of=forger) as third,
        world.provider() as one,
        world.provider() as other,
    ):
        result = await world.sync(forger, second, third, one, other, root=ROOT)
    world.assert_synced()
    assert result.ledger.dropped == {}
    assert result.ledger.received[forger.peer_id] == 0


@pytest.mark.parametrize("server", [SnapshotServer, Forger])
async def test_by_root_a_peer_that_comes_later_is_asked_for_its_own_table(
    autojump_clock: MockClock, world: SnapshotWorld, server: type[SnapshotServer]
) -> None:
    table = world.store().table(ROOT)
    dialect = ByRootDialect(ROOT, table, backers=[Connection("another", "", 0)], others=[])
    async with (
        world.provider(server=server) as provider,
        world.network.open(world.new_peer_id()) as client,
    ):
        connection = await client.dial(provider.addresses()[0])
        async with RequestStream(await client.open_stream(connection, SNAPSHOT_PROTOCOL)) as requests:
            held = await dialect.holdings(requests, dialect.wanted)
            assert await dialect.holdings(requests, dialect.wanted) == held
    assert held.complete is (server is SnapshotServer)
    assert (connection in dialect.backers) is held.complete


class WordBreaker(Forger):
    """Stands by a false table, and does not even send what that names."""

    async def _answer(self, request: Any, reserve: Reserve) -> Reply:
        reply = await super()._answer(request, reserve)
        return Reply(reply.status, bytes(len(reply.body)), reply.extra) if is_chunk(request) else reply


def is_chunk(request: object) -> bool:
    return isinstance(request, ChunkRequest) and request.index != FORGED


async def test_by_root_a_table_that_nobody_stands_by_any_more_is_given_up_for_another(
    autojump_clock: MockClock, world: SnapshotWorld
) -> None:
    async with (
        world.provider(server=WordBreaker) as one,
        world.provider(server=WordBreaker) as other,
        world.provider() as honest,
    ):
        result = await world.sync(one, other, honest, root=ROOT)
    world.assert_synced()
    assert set(result.ledger.dropped) == {one.peer_id, other.peer_id}
    assert all("chunk " in why for why in result.ledger.dropped.values())
    assert result.transfer_s < 10  # of the patience of 20: nobody is waited for who is gone


class Boaster(SnapshotServer):
    """Says that the snapshot is as large as any may be."""

    digest = b"x" * 32

    async def _answer(self, request: Any, reserve: Reserve) -> Reply:
        if isinstance(request, InfoRequest):
            facts = {"size": MAX_PIECES * MAX_PIECE, "chunk_length": MAX_PIECE, "total": MAX_PIECES}
            return Reply(Status.OK, b"", {**facts, "signature": sign(PAYLOAD)})
        if isinstance(request, ChunksRequest):
            return Reply(Status.OK, self.digest * MAX_PIECES)
        return await super()._answer(request, reserve)


class ZeroBoaster(Boaster):
    """And that it is nothing but zeros, which nobody would have to send."""

    digest = blake3(bytes(MAX_PIECE)).digest()


@pytest.mark.parametrize("server", [Boaster, ZeroBoaster])
async def test_by_root_a_size_that_somebody_claims_holds_nothing_up(
    autojump_clock: MockClock,
    world: SnapshotWorld,
    server: type[SnapshotServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk has room for the honest one only, however full it is."""
    monkeypatch.setattr("p2pboot.store.room.free_bytes", lambda _directory: 2 * len(PAYLOAD))
    async with (
        world.provider(server=server) as one,
        world.provider(server=server) as other,
    ):
        with pytest.raises(MachineError if server is Boaster else FetchError, match=r"disk full|of zeros"):
            await world.sync(one, other, root=ROOT)
        async with world.provider() as honest:
            result = await world.sync(one, other, honest, root=ROOT)
    world.assert_synced()
    assert set(result.ledger.received) == {honest.peer_id}
