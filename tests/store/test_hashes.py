from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from p2pboot.store import hashes
from p2pboot.store.hashes import FileIdentity, HashedFile
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, sample

HASHED = HashedFile(sample(PIECE + 1).sha256, sample(PIECE + 1).table)
IDENTITY = FileIdentity(device=1, inode=2, size=PIECE + 1, mtime_ns=3, ctime_ns=4)


def test_what_was_hashed_is_remembered_durably(state: Path) -> None:
    with Store.open(state) as store:
        assert store.hashes.get(IDENTITY) is None
        store.hashes.put(IDENTITY, HASHED)
    with Store.open(state) as store:
        assert store.hashes.get(IDENTITY) == HASHED


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(FileIdentity)])
def test_a_file_of_which_anything_differs_is_not_known(store: Store, field: str) -> None:
    store.hashes.put(IDENTITY, HASHED)
    assert store.hashes.get(dataclasses.replace(IDENTITY, **{field: 9})) is None


def test_identities_of_the_largest_numbers_are_kept(store: Store) -> None:
    identity = FileIdentity(2**64 - 1, 2**64 - 1, 2**63 - 1, 2**63, -1)
    store.hashes.put(identity, HASHED)
    assert store.hashes.get(identity) == HASHED


def test_a_changed_file_replaces_its_old_entry(store: Store) -> None:
    changed = dataclasses.replace(IDENTITY, mtime_ns=5, ctime_ns=5)
    other = HashedFile(sample(1).sha256, sample(1).table)
    store.hashes.put(IDENTITY, HASHED)
    store.hashes.put(changed, other)
    assert store.hashes.get(IDENTITY) is None
    assert store.hashes.get(changed) == other
    store.hashes.put(changed, HASHED)
    assert store.hashes.get(changed) == HASHED


def test_a_forgotten_file_is_hashed_again(store: Store) -> None:
    store.hashes.put(IDENTITY, HASHED)
    store.hashes.forget(IDENTITY)
    assert store.hashes.get(IDENTITY) is None


def test_the_cache_is_bounded_and_drops_the_oldest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "MAX_ENTRIES", 3)
    identities = [dataclasses.replace(IDENTITY, inode=inode) for inode in range(5)]
    for identity in identities:
        store.hashes.put(identity, HASHED)
    assert [store.hashes.get(identity) is not None for identity in identities] == [False] * 2 + [True] * 3


def test_the_identity_changes_with_the_content_and_not_with_reading(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    before = FileIdentity.of(path.stat())
    path.read_bytes()
    assert FileIdentity.of(path.stat()) == before
    os.utime(path, ns=(before.mtime_ns, before.mtime_ns + 1))
    assert FileIdentity.of(path.stat()) != before
