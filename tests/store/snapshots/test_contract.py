"""One suite for every snapshot store."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pboot import DiskSnapshotStore, MemorySnapshotStore, SnapshotStore
from p2pboot.core.pieces import MIN_PIECE
from p2pboot.core.timetoke.chunks import payload_root
from p2pboot.core.timetoke.errors import (
    ChunkMissing,
    SignatureEmpty,
    SignatureLengthError,
    SignatureMismatch,
    SignatureMissing,
    SignatureUndecodable,
    SnapshotMissing,
    SnapshotSignatureError,
)
from tests.core.timetoke.samples import ALICE, BOB, payload_of, sign

SIZES = [1, MIN_PIECE - 1, MIN_PIECE, MIN_PIECE + 1, 5 * MIN_PIECE + 3]
Open = Callable[..., SnapshotStore]


@pytest.fixture(params=["memory", "disk"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Open a store; on disk always the same directory."""

    def open_it(**options: Any) -> SnapshotStore:
        options = {"chunk_length": MIN_PIECE, **options}
        if request.param == "memory":
            return MemorySnapshotStore(**options)
        return DiskSnapshotStore(tmp_path / "snapshots", **options)

    return open_it


def unique(tag: str, size: int = 100) -> bytes:
    """A payload that no other test uses: what is warned of is remembered for the life of the process."""
    return (tag.encode() * (size // len(tag) + 1))[:size]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_inserted_comes_back_chunk_by_chunk(open_store: Open, size: int) -> None:
    store, payload = open_store(), unique("chunks", size)
    root = store.insert(payload, sign(payload))
    assert root == payload_root(payload)
    assert store.has_snapshot(root)
    assert store.roots() == (root,)
    chunks = list(store.stream(root))
    assert b"".join(chunk.data for chunk in chunks) == payload
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert {(chunk.root, chunk.total) for chunk in chunks} == {(root, -(-size // MIN_PIECE))}
    assert store.chunk(root, len(chunks) - 1) == chunks[-1]
    assert store.signature(root) == sign(payload)
    with store.payload(root) as whole:
        assert bytes(whole) == payload


def test_nothing_is_no_snapshot(open_store: Open) -> None:
    store = open_store()
    with pytest.raises(ValueError, match="below 1 byte"):
        store.insert(b"")
    assert store.roots() == ()


@pytest.mark.parametrize("root", ["00" * 32, "", "xyz", "../../etc/passwd", "AB" * 32])
def test_what_is_not_there_is_missing(open_store: Open, root: str) -> None:
    store = open_store()
    assert not store.has_snapshot(root)
    for ask in (store.table, store.signature, store.stream, lambda r: store.chunk(r, 0)):
        with pytest.raises(SnapshotMissing):
            ask(root)
    with pytest.raises(SnapshotMissing), store.payload(root):
        pass


@pytest.mark.parametrize("index", [-1, 2, 10**9])
def test_a_chunk_beyond_the_end_is_missing(open_store: Open, index: int) -> None:
    store, payload = open_store(), unique("beyond", MIN_PIECE + 1)
    root = store.insert(payload, sign(payload))
    with pytest.raises(ChunkMissing, match="0 to 1"):
        store.chunk(root, index)


def test_an_unsigned_snapshot_is_served_with_one_warning_in_the_life_of_the_process(open_store: Open) -> None:
    payload = unique(f"unsigned {id(open_store)}")
    warnings: list[str] = []
    stores = [open_store(warn=warnings.append), open_store(warn=warnings.append)]
    for each in stores:  # a second one of the same process is silent
        root = each.insert(payload)
        assert each.signature(root) is None
        assert list(each.stream(root))
        each.chunk(root, 0)
    store = stores[-1]
    root = store.insert(payload)
    assert len(warnings) == 1
    assert root in warnings[0]
    other = store.insert(payload + b"x")
    store.signature(other)
    assert len(warnings) == 2


def test_a_store_that_requires_signatures_refuses_what_has_none(open_store: Open) -> None:
    warnings: list[str] = []
    store = open_store(require_signatures=True, warn=warnings.append)
    root = store.insert(unique("required"))
    for ask in (store.signature, store.stream, lambda r: store.chunk(r, 0)):
        with pytest.raises(SignatureMissing, match=root):
            ask(root)
    assert store.has_snapshot(root)
    assert warnings == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", SignatureEmpty),
        (" \n", SignatureEmpty),
        ("nonsense!", SignatureUndecodable),
        (base64.b64encode(bytes(63)).decode(), SignatureLengthError),
    ],
)
def test_what_is_no_signature_is_never_kept(
    open_store: Open, text: str, error: type[SnapshotSignatureError]
) -> None:
    store, payload = open_store(), unique("never kept")
    with pytest.raises(error):
        store.insert(payload, text)
    assert store.roots() == ()


def test_known_keys_make_a_foreign_signature_an_error(open_store: Open) -> None:
    payload = unique("foreign")
    store = open_store(keys=[ALICE.public])
    root = store.insert(payload, sign(payload, BOB))
    for ask in (store.signature, store.stream, lambda r: store.chunk(r, 0)):
        with pytest.raises(SignatureMismatch, match=ALICE.public.keyid):
            ask(root)
    assert store.insert(payload, sign(payload, ALICE)) == root
    assert store.signature(root) == sign(payload, ALICE)
    store.chunk(root, 0)


def test_a_signature_can_come_later_and_white_space_and_key_version_are_kept(open_store: Open) -> None:
    store, payload = open_store(), unique("later")
    root = store.insert(payload)
    text = f"3:{sign(payload)}\n"
    assert store.insert(payload, text) == root
    assert store.signature(root) == text.strip()
    assert store.signature_text(root) == text
    store.insert(payload)
    assert store.signature(root) == text.strip()


def test_a_draft_that_is_not_committed_leaves_nothing(open_store: Open) -> None:
    store = open_store()
    with store.draft() as draft:
        draft.write(payload_of(10))
        root, _, payload = draft.seal()
        assert bytes(payload) == payload_of(10)
        assert not store.has_snapshot(root)
    assert store.roots() == ()


def test_one_payload_is_kept_once(open_store: Open) -> None:
    store, payload = open_store(), unique("once")
    assert store.insert(payload, sign(payload)) == store.insert(payload, sign(payload))
    assert len(store.roots()) == 1
