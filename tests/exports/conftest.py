"""A store that holds a release, and what it looks like when it is carried."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pboot.core.manifest import Manifest, sign_detached
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.exports.source import open_path
from p2pboot.exports.taking import Taken, Taking
from p2pboot.exports.writing import Release
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.gate import Gate
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, content
from p2pboot.testing.manifests import ALICE, NOW, signed_manifest
from p2pboot.testing.stores import offer

FILES = {
    "kernel": content("kernel", 2 * PIECE + 5),
    "initramfs": content("initramfs", 700),
    "rootfs": bytes(PIECE) + content("rootfs", PIECE),
    "dtbs/board": content("board", 300),
}
MANIFEST = signed_manifest(FILES, [ALICE], cmdline="quiet")
DETACHED = sign_detached(MANIFEST.raw, ALICE)
EVERYTHING = 1 << 40


def silent(_name: str, _done: int, _size: int) -> None:
    pass


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "held") as store:
        offer(store, MANIFEST, FILES, DETACHED)
        yield store


@pytest.fixture
def release(held: Store) -> Release:
    return Release(MANIFEST, DETACHED, held.blobs)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    """A state that nothing was brought into."""
    with Store.open(tmp_path / "other") as store:
        yield store


def gate_of(store: Store, *, trusts: str = ALICE.public.keyid, now: int = NOW) -> Gate:
    policy = TrustPolicy((Publisher((trusts,)),))
    return Gate(store, Catalogue(store, Trust(policy), lambda: now))


def take(path: Path, store: Store, gate: Gate | None = None) -> Taken:
    source = open_path(path)
    try:
        taking = Taking(source, store, gate or gate_of(store))
        return taking.take(max_artifact_bytes=EVERYTHING)
    finally:
        source.close()


def held_by(store: Store, manifest: Manifest = MANIFEST) -> bool:
    row = store.manifests.row(manifest.digest)
    return row is not None and row.role == "current" and store.manifests.is_whole(manifest.digest)
