"""A state's rows are read against the signed documents in it: what contradicts them goes before it is served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pboot.core.manifest import sign_detached
from p2pboot.store.audit import audit
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, content, table_of
from p2pboot.testing.manifests import ALICE, BOB, signed_manifest
from p2pboot.testing.stores import offer

FILES = {"kernel": content("kernel", 2 * PIECE + 1), "initramfs": content("initramfs", 9)}
MANIFEST = signed_manifest(FILES, [ALICE])
EVIL_FILES = {**FILES, "kernel": content("evil", 2 * PIECE + 1)}
EVIL = signed_manifest(EVIL_FILES, [BOB], manifest_version=9)
KERNEL = MANIFEST.artifacts["kernel"].sha256


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state") as store:
        offer(store, MANIFEST, FILES, sign_detached(MANIFEST.raw, ALICE))
        yield store


def plant(store: Store, statement: str, *values: object) -> None:
    with store._database.transaction() as sql:
        sql.execute(statement, values)
    store.blobs._tables._cached.clear()  # as in the process that opens the state next


def test_what_is_right_stays(store: Store) -> None:
    assert audit(store) == ()
    assert store.manifests.is_whole(MANIFEST.digest)
    stored = store.manifests.get(MANIFEST.digest)
    assert stored is not None
    assert stored.detached


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("raw", EVIL.raw),
        ("raw", b"{}"),
        ("raw", MANIFEST.raw.replace(b"kernel", b"colonel")),
        ("signers", BOB.public.keyid),
        ("channel", "testing"),
        ("arch", "arm64"),
        ("manifest_version", 10**6),
        ("expires_at", 2**40),
        ("created_at", 1),
    ],
)
def test_a_row_that_its_document_does_not_say_goes(store: Store, column: str, value: object) -> None:
    plant(store, f"UPDATE manifests SET {column} = ?", value)
    assert [MANIFEST.digest in one for one in audit(store)] == [True]
    assert store.manifests.heads() == []


def test_a_planted_manifest_under_the_name_of_a_trusted_key_goes(store: Store) -> None:
    offer(store, EVIL, EVIL_FILES)
    plant(store, "UPDATE manifests SET signers = ? WHERE digest = ?", ALICE.public.keyid, EVIL.digest)
    assert len(audit(store)) == 1
    assert [row.digest for row in store.manifests.heads()] == [MANIFEST.digest]


def test_a_manifest_names_all_its_artifacts_or_is_none(store: Store) -> None:
    plant(store, "DELETE FROM manifest_artifacts WHERE sha256 = ?", KERNEL)
    assert len(audit(store)) == 1
    assert store.manifests.heads() == []


def test_a_detached_signature_that_is_none_goes_alone(store: Store) -> None:
    plant(store, "UPDATE manifests SET detached = ?", sign_detached(MANIFEST.raw, BOB))
    assert len(audit(store)) == 1
    stored = store.manifests.get(MANIFEST.digest)
    assert stored is not None
    assert stored.detached is None


@pytest.mark.parametrize("raw", [table_of(EVIL_FILES["kernel"]).raw, b"short"], ids=["evil", "short"])
def test_a_planted_table_goes_and_the_artifact_is_read_against_the_signed_one(
    store: Store, raw: bytes
) -> None:
    path = store.blobs.path(KERNEL)
    path.write_bytes(EVIL_FILES["kernel"])
    plant(store, "UPDATE tables SET digests = ? WHERE digest = ?", raw, KERNEL)
    assert [KERNEL in one for one in audit(store)] == [True]
    assert not store.blobs.holds(KERNEL)
    partial = store.blobs.begin(KERNEL, table_of(FILES["kernel"]))
    assert partial is not None
    assert len(partial.held) == 0


def test_an_artifact_that_is_right_needs_nobody_when_its_table_was_planted(store: Store) -> None:
    plant(store, "UPDATE tables SET digests = ? WHERE digest = ?", b"short", KERNEL)
    audit(store)
    assert store.blobs.begin(KERNEL, table_of(FILES["kernel"])) is None
    assert store.manifests.is_whole(MANIFEST.digest)
