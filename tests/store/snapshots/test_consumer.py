"""The consumer: in order, each wrong chunk with its own error, and nothing visible before all is right."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from p2pboot import (
    MemorySnapshotStore,
    TimetokeSnapshot,
    TimetokeSnapshotConsumer,
    TimetokeSnapshotError,
    TimetokeSnapshotProducer,
)
from p2pboot.core.pieces import MAX_PIECE, MIN_PIECE
from p2pboot.core.timetoke.chunks import MAX_TOTAL, SnapshotChunk
from p2pboot.core.timetoke.errors import (
    ChunkCorrupt,
    ChunkError,
    ChunkLengthMismatch,
    ChunkOutOfOrder,
    DuplicateChunk,
    ExcessChunk,
    ForeignChunk,
    RootMismatch,
    SignatureEmpty,
    SignatureMismatch,
    SignatureMissing,
    SnapshotMalformed,
    SnapshotMissing,
    TotalMismatch,
)
from tests.core.timetoke.samples import ALICE, BOB, TIMETOKE_ROOT, payload_of, record, sign

PAYLOAD = payload_of(1500)
SOURCE = MemorySnapshotStore(chunk_length=MIN_PIECE)
ROOT = SOURCE.insert(PAYLOAD, sign(PAYLOAD))
CHUNKS = list(SOURCE.stream(ROOT))
TABLE = SOURCE.table(ROOT)


def consumer(store: MemorySnapshotStore, **options: Any) -> TimetokeSnapshotConsumer:
    options = {"total_chunks": len(CHUNKS), "signature": sign(PAYLOAD), "keys": [ALICE.public], **options}
    return TimetokeSnapshotConsumer(store, options.pop("root", ROOT), **options)


@pytest.fixture
def store() -> MemorySnapshotStore:
    return MemorySnapshotStore(chunk_length=MIN_PIECE)


def changed(number: int, **changes: Any) -> SnapshotChunk:
    return dataclasses.replace(CHUNKS[number], **changes)


@pytest.mark.parametrize("table", [None, TABLE])
def test_all_chunks_in_order_make_a_snapshot_and_its_handle(store: MemorySnapshotStore, table: Any) -> None:
    assert len(CHUNKS) > 3
    with consumer(store, table=table) as receiving:
        for chunk in CHUNKS[:-1]:
            assert receiving.ingest_chunk(chunk) is None
            assert not store.has_snapshot(ROOT)
        handle = receiving.ingest_chunk(CHUNKS[-1])
    assert handle is not None
    assert (handle.root, handle.total_chunks, handle.record_count) == (ROOT, len(CHUNKS), 1500)
    assert (handle.timetoke_root, handle.signature) == (TIMETOKE_ROOT, sign(PAYLOAD))
    assert b"".join(chunk.data for chunk in store.stream(ROOT)) == PAYLOAD
    assert store.signature(ROOT) == sign(PAYLOAD)


LIES: list[tuple[SnapshotChunk, type[ChunkError]]] = [
    (CHUNKS[0], DuplicateChunk),
    (CHUNKS[2], ChunkOutOfOrder),
    (changed(1, root="00" * 32), ForeignChunk),
    (changed(1, total=len(CHUNKS) + 1), TotalMismatch),
    (changed(1, total=0), TotalMismatch),
    (changed(1, index=len(CHUNKS)), ExcessChunk),
    (changed(1, index=-1), ExcessChunk),
    (changed(1, data=CHUNKS[1].data[:-1]), ChunkLengthMismatch),
    (changed(1, data=CHUNKS[1].data + b"x"), ChunkLengthMismatch),
    (changed(1, data=b""), ChunkLengthMismatch),
]


@pytest.mark.parametrize("table", [None, TABLE])
@pytest.mark.parametrize(("lie", "error"), LIES)
def test_a_wrong_chunk_has_its_own_error_and_the_right_one_may_follow(
    store: MemorySnapshotStore, lie: SnapshotChunk, error: type[ChunkError], table: Any
) -> None:
    with consumer(store, table=table) as receiving:
        receiving.ingest_chunk(CHUNKS[0])
        with pytest.raises(error) as caught:
            receiving.ingest_chunk(lie)
        assert type(caught.value) is error
        assert caught.value.index == lie.index
        assert receiving.next_index == 1
        for chunk in CHUNKS[1:]:
            receiving.ingest_chunk(chunk)
    assert store.has_snapshot(ROOT)


def test_with_the_table_wrong_content_is_refused_at_once(store: MemorySnapshotStore) -> None:
    lie = changed(0, data=b"x" + CHUNKS[0].data[1:])
    with consumer(store, table=TABLE) as receiving:
        with pytest.raises(ChunkCorrupt, match="chunk 0"):
            receiving.ingest_chunk(lie)
        for chunk in CHUNKS:
            receiving.ingest_chunk(chunk)
    assert store.has_snapshot(ROOT)


def test_without_the_table_wrong_content_shows_at_the_end_and_exposes_nothing(
    store: MemorySnapshotStore,
) -> None:
    with consumer(store) as receiving:
        receiving.ingest_chunk(changed(0, data=b"x" + CHUNKS[0].data[1:]))
        for chunk in CHUNKS[1:-1]:
            receiving.ingest_chunk(chunk)
        with pytest.raises(RootMismatch) as caught:
            receiving.ingest_chunk(CHUNKS[-1])
    assert caught.value.expected == ROOT
    assert store.roots() == ()


def test_a_chunk_after_the_last_is_one_too_many(store: MemorySnapshotStore) -> None:
    with consumer(store) as receiving:
        for chunk in CHUNKS:
            receiving.ingest_chunk(chunk)
        with pytest.raises(ExcessChunk):
            receiving.ingest_chunk(CHUNKS[-1])


@pytest.mark.parametrize("total", [0, -1, MAX_TOTAL + 1, 10**18])
def test_a_declared_number_of_chunks_is_bounded_before_anything_is_allocated(
    store: MemorySnapshotStore, total: int
) -> None:
    with pytest.raises(ValueError, match="65536 chunks"):
        consumer(store, total_chunks=total)


def test_the_number_of_chunks_must_be_the_tables(store: MemorySnapshotStore) -> None:
    with pytest.raises(ValueError, match="table"):
        consumer(store, total_chunks=len(CHUNKS) + 1, table=TABLE)


@pytest.mark.parametrize("length", [0, MAX_PIECE + 1, 1 << 25])
def test_a_length_that_no_chunk_may_have_is_refused(store: MemorySnapshotStore, length: int) -> None:
    with consumer(store) as receiving, pytest.raises(ChunkLengthMismatch):
        receiving.ingest_chunk(changed(0, data=bytes(length)))


@pytest.mark.parametrize("length", [1, 16, 1000, 3 * MIN_PIECE])
def test_in_one_process_chunks_may_have_any_length(length: int) -> None:
    small = payload_of(2) if length < 1000 else PAYLOAD
    store = MemorySnapshotStore(chunk_length=length)
    root = TimetokeSnapshotProducer(store, ALICE).publish_payload([small]).root
    assert all(len(chunk.data) == length for chunk in list(store.stream(root))[:-1])
    for target in (MemorySnapshotStore(chunk_length=length), MemorySnapshotStore()):
        total = store.table(root).count
        with TimetokeSnapshotConsumer(target, root, total_chunks=total) as receiving:
            for chunk in store.stream(root):
                receiving.ingest_chunk(chunk)
        with target.payload(root) as arrived:
            assert bytes(arrived) == small


@pytest.mark.parametrize("length", [0, -1, MAX_PIECE + 1])
def test_no_store_cuts_into_nothing_or_into_more_than_16_mib(length: int) -> None:
    with pytest.raises(ValueError, match="chunk length"):
        MemorySnapshotStore(chunk_length=length)


def test_more_chunks_than_a_snapshot_may_have_are_refused() -> None:
    with pytest.raises(ValueError, match="65536"):
        MemorySnapshotStore(chunk_length=1).insert(bytes(MAX_TOTAL + 1))


def test_the_round_trip_of_the_source_systems_own_test() -> None:
    records = [record(number, epoch_accrual=0, decay_rate=1.0) for number in (1, 2)]
    producer = TimetokeSnapshotProducer(MemorySnapshotStore(chunk_length=16), ALICE)
    handle = producer.publish(records, bytes([0xAB]) * 32)
    assert (handle.record_count, producer.has_snapshot(handle.root)) == (2, True)
    store = MemorySnapshotStore(chunk_length=16)
    with TimetokeSnapshotConsumer(store, handle.root, total_chunks=handle.total_chunks) as consumer:
        for index in range(handle.total_chunks):
            assert (consumer.received_chunks(), consumer.is_finished()) == (index, False)
            received = consumer.ingest_chunk(producer.chunk(handle.root, index))
            assert (received is None) == (index + 1 < handle.total_chunks)
        assert consumer.is_finished()
        assert consumer.expected_root() == handle.root
        assert [chunk.index for chunk in producer.stream(handle.root)] == list(range(handle.total_chunks))
        with pytest.raises(TimetokeSnapshotError):
            consumer.ingest_chunk(producer.chunk(handle.root, handle.total_chunks - 1))
    with store.payload(handle.root) as payload:
        snapshot = TimetokeSnapshot.from_bytes(bytes(payload))
    assert (snapshot.timetoke_root, list(snapshot.records)) == ("ab" * 32, records)


def test_whatever_is_wrong_with_a_snapshot_has_one_base() -> None:
    producer = TimetokeSnapshotProducer(MemorySnapshotStore())
    for ask in (producer.stream, lambda root: producer.chunk(root, 0)):
        with pytest.raises(TimetokeSnapshotError):
            ask("00" * 32)
    for error in (ChunkError, RootMismatch, SignatureEmpty, SnapshotMalformed, SnapshotMissing):
        assert issubclass(error, TimetokeSnapshotError)


def complete(receiving: TimetokeSnapshotConsumer) -> None:
    for chunk in CHUNKS:
        receiving.ingest_chunk(chunk)


def test_a_signature_of_another_key_is_refused_and_nothing_is_exposed(store: MemorySnapshotStore) -> None:
    with consumer(store, signature=sign(PAYLOAD, BOB)) as receiving, pytest.raises(SignatureMismatch):
        complete(receiving)
    assert store.roots() == ()


def test_a_signature_is_needed_only_where_it_is_required(store: MemorySnapshotStore) -> None:
    with pytest.raises(SignatureMissing):
        consumer(store, signature=None, require_signature=True)
    with pytest.raises(SignatureEmpty):
        consumer(store, signature="")
    with consumer(store, signature=None) as receiving:
        complete(receiving)
    assert store.has_snapshot(ROOT)


def test_another_timetoke_root_than_expected_is_refused(store: MemorySnapshotStore) -> None:
    with (
        consumer(store, timetoke_root="00" * 32) as receiving,
        pytest.raises(SnapshotMalformed, match="timetoke"),
    ):
        complete(receiving)
    assert store.roots() == ()


def test_what_is_no_payload_is_refused_though_root_and_signature_are_right(
    store: MemorySnapshotStore,
) -> None:
    junk = b"{}" * 10
    root = SOURCE.insert(junk, sign(junk))
    receiving = consumer(store, root=root, total_chunks=1, signature=sign(junk))
    with receiving, pytest.raises(SnapshotMalformed):
        receiving.ingest_chunk(SOURCE.chunk(root, 0))
    assert store.roots() == ()
