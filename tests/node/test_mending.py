"""What the disk changed is named, until it is whole again or somebody wrote it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pboot.core.policy import TrustPolicy
from p2pboot.core.problems import Code
from p2pboot.core.trust import Trust
from p2pboot.errors import ArtifactError
from p2pboot.node.mending import Mending
from p2pboot.store import holdings
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.errors import BlobGone
from p2pboot.store.hashes import FileIdentity, HashedFile
from p2pboot.store.hashing import hash_file
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, content
from p2pboot.testing.manifests import ALICE, NOW, signed_manifest
from p2pboot.testing.stores import hold, is_intact, offer

FILES = {name: content(name, 3 * PIECE) for name in ("kernel", "initramfs", "rootfs")}
MANIFEST = signed_manifest(FILES, [ALICE])
ROOTFS = MANIFEST.artifacts["rootfs"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state") as store:
        yield store


def mending_of(store: Store, **given: int) -> Mending:
    catalogue = Catalogue(store, Trust(TrustPolicy()), lambda: NOW)
    return Mending(
        store, catalogue, lambda digest: given if digest == MANIFEST.digest else {}, lambda _: None
    )


def test_a_damaged_artifact_is_a_problem_until_it_is_whole_again(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    offer(store, MANIFEST, FILES)
    mending = mending_of(store, PEER=PIECE)
    assert mending.look() == []
    with store.blobs.path(ROOTFS.sha256).open("r+b") as file:
        file.write(b"rot")
    assert not store.blobs.scrub(ROOTFS.sha256, 0)
    for _ in range(2):
        (problem,) = mending.look()
        assert (problem.code, problem.subject) == (Code.DAMAGED, "stable/x86_64/rootfs")
    assert (mending.damaged, mending.mended) == (1, 0)
    hold(store, ROOTFS, FILES["rootfs"])
    with caplog.at_level(logging.INFO, "p2pboot"):
        assert mending.look() == []
    assert "stable/x86_64/rootfs is mended: 65.5 kB came from peer PEER" in caplog.text
    assert (mending.damaged, mending.mended) == (1, 1)
    assert store.blobs.damage() == ()


def test_what_nobody_needs_any_more_is_no_problem(store: Store) -> None:
    offer(store, MANIFEST, FILES)
    mending = mending_of(store)
    os.truncate(store.blobs.path(ROOTFS.sha256), 5)
    assert not store.blobs.holds(ROOTFS.sha256)
    assert len(mending.look()) == 1
    store.manifests.drop(lambda _row: True)
    assert mending.look() == []
    assert (mending.damaged, mending.mended) == (1, 0)


def rotten(store: Store, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A publisher's file of which the disk changed the content: its dates say that nobody wrote it."""
    monkeypatch.setattr(holdings, "TICK_NS", -(10**18))  # however long ago it was written
    path = directory / "rootfs"
    path.write_bytes(FILES["rootfs"])
    hashed = hash_file(path, cache=store.hashes, piece_length=PIECE)
    path.write_bytes(FILES["rootfs"][:-3] + b"rot")
    identity = FileIdentity.of(path.stat())
    store.hashes.put(identity, HashedFile(hashed.digest, hashed.table))
    store.blobs.register_in_place(path, hashed.digest, hashed.table, identity)
    return path


def test_a_publishers_file_is_named_and_never_taken_for_a_new_version(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, mending = rotten(store, tmp_path, monkeypatch), mending_of(store)
    with pytest.raises(BlobGone):
        store.blobs.read(ROOTFS.sha256, 2 * PIECE, PIECE)
    (problem,) = mending.look()
    assert (problem.code, problem.subject) == (Code.DAMAGED, str(path))
    assert store.hashes.get(FileIdentity.of(path.stat())) is None
    with pytest.raises(ArtifactError, match="is damaged on the disk"):
        hash_file(path, cache=store.hashes)
    path.write_bytes(FILES["rootfs"])
    assert mending.look() == []
    restored = hash_file(path, cache=store.hashes, piece_length=PIECE)
    assert restored.digest == ROOTFS.sha256
    store.blobs.register_in_place(path, restored.digest, restored.table, restored.identity)
    assert is_intact(store.blobs, ROOTFS.sha256)


def test_a_file_that_somebody_touched_is_what_it_is_now(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, mending = rotten(store, tmp_path, monkeypatch), mending_of(store)
    assert not store.blobs.scrub(ROOTFS.sha256, 2)
    assert len(mending.look()) == 1
    os.utime(path, (1, 1))
    assert mending.look() == []
    assert hash_file(path, cache=store.hashes).digest != ROOTFS.sha256
