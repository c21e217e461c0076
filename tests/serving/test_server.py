"""What the two protocols answer from a real store, asked by the real client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing

from p2pboot.core.manifest import Artifact
from p2pboot.core.pieces import MIB, PieceSet, PieceTable
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.errors import BlobMissing, MachineError
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.protocol.client import (
    PeerLacks,
    PeerRefused,
    Query,
    ask_have,
    ask_heads,
    ask_manifest,
    ask_peers,
    ask_pieces,
    ask_read,
)
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, MAX_PEERS, MAX_READ, Head, Status
from p2pboot.serving.accounts import Serving
from p2pboot.serving.artifacts import ArtifactServer
from p2pboot.serving.heads import PEERS_PER_S, SyncServer
from p2pboot.serving.limits import BURST_S
from p2pboot.serving.memory import FLOOR
from p2pboot.store.blobs import BlobStore
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.hashes import FileIdentity
from p2pboot.store.manifests import Manifests
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, SIZES, Sample, sample
from p2pboot.testing.manifests import ALICE, key_of
from p2pboot.testing.stores import hold
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.records import sign_record
from tests.protocol.streams import stream_pair
from tests.store.samples import manifest

NOWHERE = "ab" * 32


@asynccontextmanager
async def asked(server: ArtifactServer | SyncServer) -> AsyncIterator[RequestStream]:
    near, far = stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.handle, far)
        async with RequestStream(near) as requests:
            yield requests


def artifacts_of(store: Store, serving: Serving | None = None) -> ArtifactServer:
    return ArtifactServer(store.blobs, serving or Serving())


def put_whole(store: Store, *samples: Sample) -> None:
    for each in samples:
        hold(store, each.artifact, each.data)


def pieces_of(artifact: Artifact) -> Query[PieceTable]:
    return ask_pieces(
        artifact.sha256,
        size=artifact.size,
        piece_length=artifact.piece_length,
        table_digest=artifact.table_digest,
    )


# --- artifacts


@pytest.mark.parametrize("size", SIZES)
async def test_whole_artifact_is_served(store: Store, size: int) -> None:
    held = sample(size)
    put_whole(store, held)
    async with asked(artifacts_of(store)) as requests:
        assert await requests.ask(pieces_of(held.artifact)) == held.table
        has = await requests.ask(ask_have(held.sha256, held.table.count))
        assert has.complete
        assert await requests.ask(ask_read(held.sha256, 0, size)) == held.data


async def test_read_is_any_range_and_never_shortened(store: Store) -> None:
    held = sample(3 * PIECE + 17)
    put_whole(store, held)
    size = len(held.data)
    async with asked(artifacts_of(store)) as requests:
        for offset, length in ((0, 1), (PIECE - 1, 2), (5, 2 * PIECE), (size - 1, 1), (size - 17, 17)):
            assert (
                await requests.ask(ask_read(held.sha256, offset, length))
                == held.data[offset : offset + length]
            )


@pytest.mark.parametrize(("beyond", "length"), [(0, 1), (-1, 2), (-100, MAX_READ), (2**53 - 1 - 200, 1)])
async def test_read_beyond_the_artifact_is_out_of_range(store: Store, beyond: int, length: int) -> None:
    held = sample(200)
    put_whole(store, held)
    async with asked(artifacts_of(store)) as requests:
        with pytest.raises(PeerRefused) as caught:
            await requests.ask(ask_read(held.sha256, 200 + beyond, length))
        assert caught.value.status is Status.RANGE
        assert await requests.ask(ask_read(held.sha256, 199, 1)) == held.data[199:]


async def test_what_is_not_held_is_not_found(store: Store) -> None:
    unknown = sample(200)
    async with asked(artifacts_of(store)) as requests:
        for ask in (
            lambda: requests.ask(ask_read(unknown.sha256, 0, 1)),
            lambda: requests.ask(ask_read(unknown.sha256, 2**40, MAX_READ)),
            lambda: requests.ask(pieces_of(unknown.artifact)),
            lambda: requests.ask(ask_have(unknown.sha256, 1)),
        ):
            with pytest.raises(PeerLacks) as caught:
                await ask()
            assert caught.value.status is Status.NOT_FOUND


async def test_of_content_that_is_cut_in_two_ways_each_is_given_as_it_is_asked_for(store: Store) -> None:
    fine, coarse = sample(3 * PIECE), sample(3 * PIECE, piece_length=2 * PIECE)
    put_whole(store, fine, coarse)
    async with asked(artifacts_of(store)) as requests:
        for one, count in ((fine, 3), (coarse, 2)):
            assert await requests.ask(pieces_of(one.artifact)) == one.table
            assert await requests.ask(ask_have(one.sha256, count, one.table.digest)) == PieceSet.full(count)
        for ask in (
            lambda: requests.ask(ask_have(fine.sha256, 3, "0" * 64)),
            lambda: requests.ask(pieces_of(sample(3 * PIECE, piece_length=4 * PIECE).artifact)),
        ):
            with pytest.raises(PeerLacks):
                await ask()


async def test_half_fetched_artifact_is_served_piece_by_piece(store: Store) -> None:
    coming = sample(3 * PIECE + 17)
    partial = store.blobs.begin(coming.sha256, coming.table)
    assert partial is not None
    partial.write(2, coming.piece(2))
    async with asked(artifacts_of(store)) as requests:
        assert await requests.ask(pieces_of(coming.artifact)) == coming.table
        assert await requests.ask(ask_have(coming.sha256, 4)) == PieceSet.from_bytes(b"\x20", 4)
        assert await requests.ask(ask_read(coming.sha256, 2 * PIECE, PIECE)) == coming.piece(2)
        for offset, length in ((0, 1), (PIECE + 1, PIECE), (2 * PIECE, PIECE + 1)):
            with pytest.raises(PeerLacks) as caught:
                await requests.ask(ask_read(coming.sha256, offset, length))
            assert caught.value.status is Status.NOT_FOUND
        with pytest.raises(PeerRefused, match="range"):
            await requests.ask(ask_read(coming.sha256, 3 * PIECE, 18))


async def test_file_that_changed_on_disk_is_gone_before_a_byte_of_it_is_sent(
    store: Store, tmp_path: Path
) -> None:
    held = sample(3 * PIECE)
    file = tmp_path / "kernel"
    file.write_bytes(held.data)
    store.blobs.register_in_place(file, held.sha256, held.table, FileIdentity.of(file.stat()))
    async with asked(artifacts_of(store)) as requests:
        assert await requests.ask(ask_read(held.sha256, 0, 3 * PIECE)) == held.data
        file.write_bytes(held.data[:-1] + b"!")
        with pytest.raises(PeerLacks) as caught:
            await requests.ask(ask_read(held.sha256, PIECE, 2 * PIECE))
        assert caught.value.status is Status.GONE
    assert store.blobs.take_damaged() == (held.sha256,)


async def test_who_was_cut_off_by_a_change_is_told_why_when_it_asks_again(
    store: Store, tmp_path: Path
) -> None:
    held = sample(2 * PIECE)
    file = tmp_path / "kernel"
    file.write_bytes(held.data)
    store.blobs.register_in_place(file, held.sha256, held.table, FileIdentity.of(file.stat()))
    async with asked(artifacts_of(store)) as requests:
        file.write_bytes(bytes(2 * PIECE))
        assert "its file changed" in await reason_of(requests.ask(ask_read(held.sha256, 0, PIECE)))
        assert store.blobs.take_damaged() == (held.sha256,)  # and so it is not known here any more
        for again in (ask_have(held.sha256, 2), ask_read(held.sha256, 0, 1), pieces_of(held.artifact)):
            assert "its file changed" in await reason_of(requests.ask(again))


async def reason_of(request: Awaitable[object]) -> str:
    """What a server says why it does not give this."""
    with pytest.raises(PeerRefused) as caught:
        await request
    return caught.value.reason


async def test_refusal_says_what_its_status_does_not(store: Store, tmp_path: Path) -> None:
    coming = sample(3 * PIECE)
    partial = store.blobs.begin(coming.sha256, coming.table)
    assert partial is not None
    partial.write(0, coming.piece(0))
    held = sample(2 * PIECE, seed=2)
    file = tmp_path / "kernel"
    file.write_bytes(held.data)
    store.blobs.register_in_place(file, held.sha256, held.table, FileIdentity.of(file.stat()))
    async with asked(artifacts_of(store)) as requests:
        for unknown in (
            requests.ask(ask_read(NOWHERE, 0, 1)),
            requests.ask(ask_have(NOWHERE, 1)),
            requests.ask(pieces_of(sample(5).artifact)),
        ):
            assert await reason_of(unknown) == ""
        assert "being fetched here" in await reason_of(requests.ask(ask_read(coming.sha256, PIECE, PIECE)))
        file.write_bytes(held.data[:PIECE])
        told = await reason_of(requests.ask(ask_read(held.sha256, PIECE, PIECE)))
        assert "its file changed" in told
        assert str(tmp_path) not in told


class NothingAtHand:
    """Of a store: what has nothing in memory."""

    def at_hand(self, _sha256: str, _offset: int, _length: int) -> None:
        pass


async def test_failing_disk_costs_one_request(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(NothingAtHand):
        def read(self, _sha256: str, offset: int, length: int) -> bytes:
            if offset == 0:
                raise MachineError("cannot read the disk")
            return b"x" * length

    async with asked(ArtifactServer(cast(BlobStore, Failing()), Serving())) as requests:
        assert (
            await reason_of(requests.ask(ask_read(NOWHERE, 0, 1)))
            == "this node can not read it at the moment"
        )
        assert await requests.ask(ask_read(NOWHERE, 1, 1)) == b"x"
    assert "cannot read the disk" in caplog.text


async def test_many_requests_at_once_get_their_own_bytes(store: Store) -> None:
    held = sample(3 * PIECE + 17)
    put_whole(store, held)
    got: dict[int, bytearray] = {}

    async def read(requests: RequestStream, offset: int) -> None:
        got[offset] = await requests.ask(ask_read(held.sha256, offset, 5))

    offsets = range(0, 3 * PIECE, 1999)
    async with asked(artifacts_of(store)) as requests, trio.open_nursery() as nursery:
        for offset in offsets:
            nursery.start_soon(read, requests, offset)
    assert got == {offset: held.data[offset : offset + 5] for offset in offsets}


async def test_memory_is_free_again_whatever_the_answers_were(store: Store) -> None:
    held = sample(3 * PIECE)
    put_whole(store, held)
    serving = Serving()
    async with asked(artifacts_of(store, serving)) as requests:
        await requests.ask(ask_read(held.sha256, 0, 3 * PIECE))
        await requests.ask(pieces_of(held.artifact))
        for sha256, length in ((NOWHERE, 1), (held.sha256, MAX_READ)):
            with pytest.raises(PeerRefused):
                await requests.ask(ask_read(sha256, 0, length))
    assert serving.memory.free == serving.limits.body_memory
    assert serving.counters.requests == {
        (ARTIFACT_PROTOCOL, "read", "ok"): 1,
        (ARTIFACT_PROTOCOL, "pieces", "ok"): 1,
        (ARTIFACT_PROTOCOL, "read", "not_found"): 1,
        (ARTIFACT_PROTOCOL, "read", "range"): 1,
    }


async def test_long_read_is_checked_whole_before_its_header_and_then_read_bit_by_bit() -> None:
    done: list[tuple[str, int, int]] = []

    class Watching(NothingAtHand):
        def check(self, _sha256: str, offset: int, length: int) -> None:
            done.append(("check", offset, length))

        def read(self, _sha256: str, offset: int, length: int) -> bytes:
            done.append(("read", offset, length))
            return bytes(length)

    async with asked(ArtifactServer(cast(BlobStore, Watching()), Serving())) as requests:
        await requests.ask(ask_read(NOWHERE, 5, MIB))
    assert done[:2] == [("check", 5, MIB), ("read", 5, FLOOR)]
    assert sum(length for what, _, length in done if what == "read") == MIB
    assert [offset for what, offset, _ in done if what == "read"] == sorted(
        {offset for what, offset, _ in done if what == "read"}
    )


async def test_what_just_came_is_given_from_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    coming = sample(2 * PIECE)
    partial = store.blobs.begin(coming.sha256, coming.table)
    assert partial is not None
    assert partial.write(0, coming.piece(0))
    assert partial.take(1, coming.piece(1))
    monkeypatch.setattr(store.blobs, "read", None)  # nobody is to read from the disk
    async with asked(artifacts_of(store)) as requests:
        assert await requests.ask(ask_read(coming.sha256, PIECE, PIECE)) == coming.piece(1)
        assert await requests.ask(ask_read(coming.sha256, PIECE + 7, 5)) == coming.piece(1)[7:12]


async def test_a_long_piece_that_just_came_is_given_bit_by_bit_from_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    coming = sample(8 * PIECE, piece_length=4 * PIECE)
    partial = store.blobs.begin(coming.sha256, coming.table)
    assert partial is not None
    assert partial.write(0, coming.piece(0))
    assert partial.take(1, coming.piece(1))
    monkeypatch.setattr(store.blobs, "read", None)
    monkeypatch.setattr(store.blobs, "check", None)
    async with asked(artifacts_of(store)) as requests:
        assert await requests.ask(ask_read(coming.sha256, 4 * PIECE, 4 * PIECE)) == coming.piece(1)


async def test_rot_in_the_last_piece_of_a_long_read_is_gone_before_a_byte_of_it_is_sent(store: Store) -> None:
    held = sample(20 * PIECE)
    put_whole(store, held)
    path = store.blobs.path(held.sha256)
    path.write_bytes(held.data[:-1] + b"!")
    async with asked(artifacts_of(store)) as requests:
        with pytest.raises(PeerLacks) as caught:
            await requests.ask(ask_read(held.sha256, 0, 20 * PIECE))
        assert caught.value.status is Status.GONE


async def test_largest_read_is_served(store: Store) -> None:
    held = sample(17 * MIB, piece_length=MIB)
    put_whole(store, held)
    async with asked(artifacts_of(store)) as requests:
        assert await requests.ask(ask_read(held.sha256, MIB, MAX_READ)) == held.data[MIB:]


# --- sync

CREATED = 1_800_000_000  # after any release, which is the floor of the clock
EXPIRES = CREATED + 30 * 86_400


def sync_of(store: Store, records: Sequence[bytes] = (), now: int = CREATED) -> SyncServer:
    catalogue = Catalogue(store, Trust(TrustPolicy((Publisher((ALICE.public.keyid,)),))), lambda: now)
    return SyncServer(store.manifests, lambda: records, lambda: now, Serving(), catalogue.withheld)


def publish(store: Store, version: int, *, channel: str = "stable", detached: str | None = None) -> Head:
    held = sample(1, seed=1), sample(2, seed=2, key="initramfs")
    put_whole(store, *(each for each in held if not store.blobs.holds(each.sha256)))
    made = manifest(version, *held, channel=channel, created_at=CREATED)
    store.manifests.put(made, detached)
    store.manifests.set_head(made.digest)
    return Head(channel, "arm64", made.signers, version, made.digest, len(made.raw))


async def test_heads_are_what_is_wholly_held(store: Store) -> None:
    stable, testing = publish(store, 7), publish(store, 3, channel="testing")
    store.manifests.put(manifest(8, sample(5), sample(6, key="initramfs")), None)  # pending
    async with asked(sync_of(store)) as requests:
        assert (await requests.ask(ask_heads())).heads == (stable, testing)
        assert (await requests.ask(ask_heads("testing"))).heads == (testing,)
        assert (await requests.ask(ask_heads("stable", "arm64"))).heads == (stable,)
        assert (await requests.ask(ask_heads("stable", "x86_64"))).heads == ()
        assert (await requests.ask(ask_heads(arch="arm64"))).heads == (stable, testing)


async def test_expired_manifest_is_not_offered_as_a_head(store: Store) -> None:
    head = publish(store, 1)
    async with asked(sync_of(store, now=EXPIRES - 1)) as requests:
        assert (await requests.ask(ask_heads())).heads == (head,)
    async with asked(sync_of(store, now=EXPIRES)) as requests:
        assert (await requests.ask(ask_heads())).heads == ()


async def test_what_is_known_and_not_offered_is_told_with_the_heads(store: Store) -> None:
    stable = publish(store, 7)
    store.manifests.put(
        manifest(3, sample(5), sample(6, key="initramfs"), channel="testing", created_at=CREATED), None
    )
    async with asked(sync_of(store)) as requests:
        everything = await requests.ask(ask_heads())
        assert everything.heads == (stable,)
        (one,) = everything.withheld
        assert (one.channel, one.arch, one.reason) == ("testing", "arm64", "incomplete")
        assert one.text == "manifest version 3 is not complete here"
        assert await requests.ask(ask_heads("testing", "arm64")) == ((), (one,))
        assert await requests.ask(ask_heads("testing")) == ((), (one,))
        assert await requests.ask(ask_heads("stable", "arm64")) == ((stable,), ())
        assert await requests.ask(ask_heads("testing", "x86_64")) == ((), ())
    async with asked(sync_of(store, now=EXPIRES)) as requests:
        late = (await requests.ask(ask_heads())).withheld
        assert {(one.channel, one.reason) for one in late} == {("stable", "expired"), ("testing", "expired")}


@pytest.mark.parametrize("detached", [None, "c2lnbmF0dXJl"])
async def test_manifest_comes_byte_for_byte_with_its_detached_signature(
    store: Store, detached: str | None
) -> None:
    head = publish(store, 1, detached=detached)
    stored = store.manifests.get(head.digest)
    assert stored is not None
    async with asked(sync_of(store)) as requests:
        assert await requests.ask(ask_manifest(head.digest)) == (stored.raw, detached)


async def test_unknown_manifest_is_not_found(store: Store) -> None:
    async with asked(sync_of(store)) as requests:
        with pytest.raises(PeerLacks):
            await requests.ask(ask_manifest(NOWHERE))


async def test_detached_signature_that_fits_no_header_is_left_out(store: Store) -> None:
    head = publish(store, 1, detached="x" * 5000)
    async with asked(sync_of(store)) as requests:
        assert (await requests.ask(ask_manifest(head.digest))).detached is None


async def test_peers_are_some_of_the_records_that_fit(store: Store) -> None:
    records = [b"\x00" * 5000, *(bytes([number]) for number in range(MAX_PEERS + 1))]
    async with asked(sync_of(store, records)) as requests:
        told = set[bytes]()
        for _ in range(100):
            answer = await requests.ask(ask_peers("stable", "arm64"))
            assert len(set(answer)) == MAX_PEERS
            told |= set(answer)
        assert told == set(records[1:])
    async with asked(sync_of(store)) as requests:
        assert await requests.ask(ask_peers()) == ()


async def test_many_ids_of_one_address_are_told_of_peers_no_more_often_than_a_site(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    server, answered = sync_of(store), 0

    async def ask_on(peer_id: str) -> None:
        nonlocal answered
        near, far = stream_pair(left=peer_id)
        nursery.start_soon(server.handle, far)
        async with RequestStream(near) as requests:
            while True:
                await requests.ask(ask_peers())
                answered += 1

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(ask_on, f"peer {number}")
        await trio.sleep(10)
        assert 500 < answered <= PEERS_PER_S * (10 + BURST_S)
        nursery.cancel_scope.cancel()


async def test_who_asked_for_a_manifest_is_told_of_others_who_did(store: Store) -> None:
    digest = publish(store, 1).digest
    server = sync_of(store)
    record = sign_record(key_of("another"), [parse_address("/ip4/10.0.0.1/tcp/4001")], 1)
    near, far = stream_pair(left=key_of("another").public.peer_id)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.handle, far)
        async with RequestStream(near) as requests:
            assert await requests.ask(ask_peers(digest=digest, record=record)) == ()
    async with asked(server) as requests:
        assert await requests.ask(ask_peers()) == ()
        await requests.ask(ask_manifest(digest))
        assert await requests.ask(ask_peers()) == (record,)


async def test_failing_catalogue_costs_one_request(caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        def heads(self, _channel: str | None, _arch: str | None) -> None:
            raise MachineError("the database is locked")

        def get(self, digest: str) -> None:
            raise BlobMissing(digest)

    server = SyncServer(cast(Manifests, Failing()), list, lambda: 0, Serving(), lambda *_: [])
    async with asked(server) as requests:
        with pytest.raises(PeerLacks):
            await requests.ask(ask_heads())
        with pytest.raises(PeerLacks):
            await requests.ask(ask_manifest(NOWHERE))
        assert await requests.ask(ask_peers()) == ()
    assert "the database is locked" in caplog.text
