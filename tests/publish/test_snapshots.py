"""The producer: signed before anything is exposed, and announced in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2pboot import DiskSnapshotStore, MemorySnapshotStore, TimetokeRecord, TimetokeSnapshotProducer
from p2pboot.core.timetoke.errors import SnapshotMalformed
from p2pboot.core.timetoke.reader import Payload, SnapshotReader
from p2pboot.errors import SignatureError, UsageError
from p2pboot.publish.snapshots import announce
from p2pboot.store.filenames import DATABASE_NAME
from p2pboot.store.ownership import PRIVATE
from p2pboot.store.resolving import Way, find_doubt, go_on
from tests.core.timetoke.samples import (
    ALICE,
    BOB,
    CREATED_AT,
    INDEX,
    NAMES,
    TIMETOKE_ROOT,
    VECTOR_KEY,
    VECTORS,
    payload_of,
    record,
    sign,
)


@pytest.mark.parametrize("entry", INDEX["snapshots"], ids=NAMES)
def test_golden_snapshots_are_published_byte_for_byte(entry: dict[str, Any], tmp_path: Path) -> None:
    raw = (VECTORS / f"{entry['name']}.json").read_bytes()
    store = DiskSnapshotStore(tmp_path)
    handle = TimetokeSnapshotProducer(store, VECTOR_KEY).publish(SnapshotReader(raw), entry["timetoke_root"])
    assert handle.root == entry["root"]
    assert handle.record_count == entry["records"]
    assert handle.total_chunks == 1
    assert handle.signature == (VECTORS / f"{entry['name']}.json.sig").read_text()
    assert store.path(handle.root).read_bytes() == raw
    assert store.signature(handle.root) == handle.signature


def test_a_producer_without_a_key_gives_no_signature() -> None:
    store = MemorySnapshotStore()
    handle = TimetokeSnapshotProducer(store).publish([record()], TIMETOKE_ROOT)
    assert handle.signature is None
    assert store.signature(handle.root) is None


class Broken:
    def sign(self, payload: Payload) -> bytes:
        raise OSError("the signing device is gone")


class Short:
    def sign(self, payload: Payload) -> bytes:
        return bytes(63)


def test_a_signer_that_fails_exposes_nothing(tmp_path: Path) -> None:
    store = DiskSnapshotStore(tmp_path)
    with pytest.raises(OSError, match="signing device"):
        TimetokeSnapshotProducer(store, Broken()).publish([record()], TIMETOKE_ROOT)
    with pytest.raises(SignatureError, match="63 bytes"):
        TimetokeSnapshotProducer(store, Short()).publish([record()], TIMETOKE_ROOT)
    assert store.roots() == ()
    assert [path.name for path in tmp_path.iterdir()] == []


def test_records_that_fail_expose_nothing() -> None:
    def failing() -> Iterator[TimetokeRecord]:
        yield record()
        raise RuntimeError("the source broke off")

    store = MemorySnapshotStore()
    with pytest.raises(RuntimeError):
        TimetokeSnapshotProducer(store, ALICE).publish(failing(), TIMETOKE_ROOT)
    with pytest.raises(ValueError, match="timetoke root"):
        TimetokeSnapshotProducer(store, ALICE).publish([], "nonsense")
    assert store.roots() == ()


def test_a_whole_payload_is_taken_as_it_is() -> None:
    payload = payload_of(3).replace(b":0.975,", b": 9.75e-1 ,")
    store = MemorySnapshotStore()
    handle = TimetokeSnapshotProducer(store, ALICE).publish_payload([payload[:100], payload[100:]])
    assert handle.signature == sign(payload)
    assert handle.record_count == 3
    with store.payload(handle.root) as kept:
        assert bytes(kept) == payload


@pytest.mark.parametrize(
    ("parts", "error"),
    [([b'{"records":[]}'], SnapshotMalformed), ([b"junk"], SnapshotMalformed), ([], UsageError)],
)
def test_what_is_no_payload_is_not_published(parts: list[bytes], error: type[Exception]) -> None:
    store = MemorySnapshotStore()
    with pytest.raises(error):
        TimetokeSnapshotProducer(store, ALICE).publish_payload(parts)
    assert store.roots() == ()


def test_sequences_count_up_and_are_never_used_twice(tmp_path: Path) -> None:
    store = DiskSnapshotStore(tmp_path)
    shelf = store.announcements
    producer = TimetokeSnapshotProducer(store, ALICE)
    handles = [producer.publish([record(number)], TIMETOKE_ROOT) for number in range(4)]

    def announced(number: int, sequence: int | None = None) -> tuple[int, bool]:
        done = announce(
            handles[number], store=store, shelf=shelf, key=ALICE, created_at=CREATED_AT, sequence=sequence
        )
        return done.announcement.sequence, done.is_new

    assert announced(0) == (1, True)
    assert announced(0) == (1, False)
    assert announced(1) == (2, True)
    assert announced(2, 10) == (10, True)
    assert announced(2, 10) == (10, False)
    assert announced(3) == (11, True)
    with pytest.raises(UsageError, match="sequence 10 is taken"):
        announced(3, 10)
    with pytest.raises(UsageError, match="under sequence 11 already"):
        announced(3, 9)
    again = announce(handles[0], store=store, shelf=shelf, key=BOB, created_at=CREATED_AT, sequence=1)
    assert again.is_new


def test_what_is_not_signed_is_not_announced(tmp_path: Path) -> None:
    store = DiskSnapshotStore(tmp_path)
    handle = TimetokeSnapshotProducer(store).publish([record()], TIMETOKE_ROOT)
    with pytest.raises(ValueError, match="without a signature"):
        announce(handle, store=store, shelf=store.announcements, key=ALICE, created_at=CREATED_AT)


def test_sequences_whose_announcements_are_lost_are_not_used_again(tmp_path: Path) -> None:
    """As after the database was lost, and made anew from the record beside it."""
    store = DiskSnapshotStore(tmp_path)
    producer = TimetokeSnapshotProducer(store, ALICE)
    handles = [producer.publish([record(number)], TIMETOKE_ROOT) for number in range(3)]
    options: dict[str, Any] = {
        "store": store,
        "shelf": store.announcements,
        "key": ALICE,
        "created_at": CREATED_AT,
    }
    for handle in handles[:2]:
        announce(handle, **options)
    (tmp_path / PRIVATE / DATABASE_NAME).write_bytes(b"")
    found = find_doubt(tmp_path / PRIVATE)
    assert found is not None
    go_on(tmp_path / PRIVATE, found, Way.TRUST_RECORD)
    for sequence in (1, 2):
        with pytest.raises(UsageError, match="up to 2, and the announcements are lost"):
            announce(handles[2], sequence=sequence, **options)
    assert announce(handles[2], **options).announcement.sequence == 3
