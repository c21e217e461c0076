from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from p2pboot.core.manifest import Manifest
from p2pboot.errors import BlobMissing, StoreError
from p2pboot.store import blobs
from p2pboot.store.hashes import FileIdentity
from p2pboot.store.partials import PartialBlob
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, Sample, sample
from p2pboot.testing.manifests import ALICE, BOB, CREATED
from p2pboot.testing.stores import hold
from tests.store.samples import manifest

INITRAMFS = sample(2, 100, key="initramfs")


def kernel(seed: int) -> Sample:
    return sample(10, seed)


def mirror(store: Store, version: int, *samples: Sample, channel: str = "stable") -> Manifest:
    made = manifest(version, *samples, channel=channel)
    store.manifests.put(made, None)
    for chosen in samples:
        hold(store, chosen.artifact, chosen.data)
    store.manifests.set_head(made.digest)
    return made


def versions(store: Store) -> list[int]:
    return [head.manifest_version for head in store.manifests.heads()]


def test_what_is_put_comes_back_byte_for_byte(state: Path) -> None:
    made = manifest(7)
    with Store.open(state) as store:
        assert store.manifests.get(made.digest) is None
        store.manifests.put(made, "c2ln")
    with Store.open(state) as store:
        stored = store.manifests.get(made.digest)
        assert stored is not None
        assert (stored.raw, stored.detached) == (made.raw, "c2ln")


def test_a_detached_signature_may_come_later_and_is_not_replaced(store: Store) -> None:
    made = manifest(7)
    for text in (None, "first", None, "second"):
        store.manifests.put(made, text)
    assert store.manifests.get(made.digest) == (made.raw, "first")


def test_heads_say_what_is_wholly_held_and_nothing_else(store: Store) -> None:
    made = mirror(store, 7, kernel(1), INITRAMFS)
    store.manifests.put(manifest(8, kernel(2), INITRAMFS), None)
    (head,) = store.manifests.heads()
    assert (head.channel, head.arch, head.manifest_version) == ("stable", "arm64", 7)
    assert (head.digest, head.size, head.signers) == (made.digest, len(made.raw), made.signers)
    assert (head.created_at, head.expires_at) == (made.created_at, made.expires_at)


def test_heads_can_be_asked_for_one_channel_or_arch(store: Store) -> None:
    mirror(store, 1, kernel(1), INITRAMFS)
    mirror(store, 2, kernel(2), INITRAMFS, channel="testing")
    assert versions(store) == [1, 2]
    assert [head.channel for head in store.manifests.heads(channel="testing")] == ["testing"]
    assert len(store.manifests.heads(arch="arm64")) == 2
    assert store.manifests.heads(arch="x86_64") == []
    assert store.manifests.heads("stable", "x86_64") == []


def test_a_damaged_current_version_gives_way_to_the_previous_one(store: Store) -> None:
    mirror(store, 1, kernel(1), INITRAMFS)
    mirror(store, 2, kernel(2), INITRAMFS)
    assert versions(store) == [2]
    store.blobs.path(kernel(2).sha256).write_bytes(b"short")
    assert versions(store) == [1]
    store.blobs.path(INITRAMFS.sha256).unlink()
    assert versions(store) == []


def test_the_head_moves_only_forward(store: Store) -> None:
    older, newer, twin = manifest(1), manifest(2), manifest(2, text="other")
    for made in (newer, older, twin):
        store.manifests.put(made, None)
    store.manifests.set_head(newer.digest)
    store.manifests.set_head(newer.digest)
    store.manifests.put(older, None)
    for refused in (older, twin):
        store.manifests.put(refused, None)
        with pytest.raises(StoreError, match="can not follow version 2"):
            store.manifests.set_head(refused.digest)


def test_an_unknown_manifest_can_not_be_the_head(store: Store) -> None:
    with pytest.raises(StoreError, match="not in the catalogue"):
        store.manifests.set_head("0" * 64)


def test_current_and_previous_stay_and_older_ones_go(store: Store) -> None:
    made = [mirror(store, version, kernel(version), INITRAMFS) for version in (1, 2, 3)]
    assert store.blobs.holds(kernel(1).sha256)
    removed = store.manifests.retain()
    assert removed == (kernel(1).sha256,)
    assert [store.manifests.get(each.digest) is not None for each in made] == [False, True, True]
    assert [store.blobs.holds(kernel(version).sha256) for version in (1, 2, 3)] == [False, True, True]
    assert store.blobs.holds(INITRAMFS.sha256)  # all three share it
    assert store.manifests.retain() == ()


def test_each_publisher_channel_and_arch_keeps_its_own(store: Store) -> None:
    mirror(store, 5, kernel(1), INITRAMFS)
    mirror(store, 5, kernel(2), INITRAMFS, channel="testing")
    other = manifest(1, kernel(3), INITRAMFS, keys=(BOB,))
    both = manifest(1, kernel(4), INITRAMFS, keys=(ALICE, BOB))
    for made, seed in ((other, 3), (both, 4)):
        store.manifests.put(made, None)
        hold(store, kernel(seed).artifact, kernel(seed).data)
        store.manifests.set_head(made.digest)
    assert store.manifests.retain() == ()
    assert len(store.manifests.heads()) == 4


def cut_uki(pieces: int) -> Sample:
    return sample(8 * PIECE, key="uki", piece_length=pieces * PIECE)


def test_a_manifest_that_names_another_cut_is_whole_once_that_is_made(store: Store) -> None:
    made = mirror(store, 1, cut_uki(1))
    recut = manifest(1, cut_uki(2), channel="testing")
    store.manifests.put(recut, None)
    assert store.manifests.is_whole(made.digest)
    assert not store.manifests.is_whole(recut.digest)
    hold(store, cut_uki(2).artifact, cut_uki(2).data)
    assert store.manifests.is_whole(made.digest)
    assert store.manifests.is_whole(recut.digest)


def test_the_table_that_the_newest_manifest_names_is_the_one_that_is_given(store: Store) -> None:
    fine, coarse, coarser = (cut_uki(pieces) for pieces in (1, 2, 4))
    mirror(store, 1, fine)
    for cut, channel, created_at in ((coarse, "beta", CREATED + 2), (coarser, "alpha", CREATED + 1)):
        assert store.blobs.table(fine.sha256) != cut.table
        store.manifests.put(manifest(1, cut, channel=channel, created_at=created_at), None)
        hold(store, cut.artifact, cut.data)
    assert store.blobs.table(fine.sha256) == coarse.table
    store.manifests.put(
        manifest(2, cut_uki(8), channel="gamma", created_at=CREATED + 3), None
    )  # not made yet
    assert store.blobs.table(fine.sha256) == coarse.table


def test_tables_that_no_manifest_names_any_more_go_but_the_last_one_of_a_file_does_not(store: Store) -> None:
    fine, coarse = cut_uki(1), cut_uki(2)
    mirror(store, 1, fine)
    recut = manifest(2, coarse)
    store.manifests.put(recut, None)
    store.manifests.drop(lambda row: row.manifest_version == 1)
    assert store.manifests.retain() == ()
    assert store.blobs.table(fine.sha256) == fine.table
    hold(store, coarse.artifact, coarse.data)
    assert len(store.blobs.tables(fine.sha256)) == 2
    assert store.manifests.retain() == ()
    assert store.blobs.tables(fine.sha256) == {coarse.table.digest: coarse.table}
    assert store.blobs.by_table(fine.table.digest) is None
    store.manifests.drop(lambda _row: True)
    store.manifests.retain()
    assert store.blobs._tables.known() == {}


def test_what_an_unfinished_job_needs_stays(store: Store) -> None:
    mirror(store, 1, kernel(1), INITRAMFS)
    store.manifests.put(manifest(2, kernel(2), INITRAMFS), None)
    partial = store.blobs.begin(kernel(2).sha256, kernel(2).table)
    assert partial is not None
    assert store.manifests.retain() == ()
    partial.write(0, kernel(2).data)
    partial.finish()
    assert store.manifests.retain() == ()
    assert store.blobs.holds(kernel(2).sha256)


def test_what_this_process_fetches_stays_even_without_a_manifest(store: Store) -> None:
    partial = store.blobs.begin(kernel(1).sha256, kernel(1).table)
    assert partial is not None
    assert store.manifests.retain() == ()
    partial.write(0, kernel(1).data)
    assert partial.finish().exists()


def test_what_another_process_fetches_stays_too(state: Path, store: Store) -> None:
    with Store.open(state) as other:
        partial = other.blobs.begin(kernel(1).sha256, kernel(1).table)
        assert partial is not None
        partial.write(0, kernel(1).data)
        assert store.manifests.retain() == ()
        assert partial.path.exists()
    assert store.manifests.retain() == (kernel(1).sha256,)


def test_leftovers_that_nothing_names_go(state: Path) -> None:
    with Store.open(state) as store:
        hold(store, kernel(1).artifact, kernel(1).data)
        partial = store.blobs.begin(kernel(2).sha256, kernel(2).table)
        assert partial is not None
        partial.write(0, kernel(2).data)
    with Store.open(state) as store:
        assert set(store.manifests.retain()) == {kernel(1).sha256, kernel(2).sha256}
        assert store.blobs.used_bytes() == 0


def test_files_in_place_are_not_touched_when_their_manifest_goes(store: Store, tmp_path: Path) -> None:
    for version in (1, 2, 3):
        path = tmp_path / f"vmlinuz-{version}"
        path.write_bytes(kernel(version).data)
        store.blobs.register_in_place(
            path, kernel(version).sha256, kernel(version).table, FileIdentity.of(path.stat())
        )
        mirror(store, version, kernel(version), INITRAMFS)
    assert store.manifests.retain() == ()
    assert (tmp_path / "vmlinuz-1").read_bytes() == kernel(1).data
    assert versions(store) == [3]


def test_what_is_pending_below_a_number_is_superseded_in_its_channel_and_arch_only(store: Store) -> None:
    for version in (3, 9, 1):
        store.manifests.put(manifest(version), None)
    store.manifests.put(manifest(2, keys=(BOB,)), None)
    store.manifests.put(manifest(4, channel="testing"), None)
    store.manifests.drop_superseded(manifest(9))
    assert [(row.channel, row.manifest_version) for row in store.manifests.pending()] == [
        ("stable", 9),
        ("testing", 4),
    ]


def test_moving_the_head_drops_pending_ones_that_it_overtakes(store: Store) -> None:
    made = {version: manifest(version) for version in (1, 2, 3)}
    for each in made.values():
        store.manifests.put(each, None)
    store.manifests.set_head(made[2].digest)
    assert [row.digest for row in store.manifests.pending()] == [made[3].digest]
    assert store.manifests.get(made[1].digest) is None


def test_what_came_back_late_is_not_to_be_fetched(store: Store) -> None:
    mirror(store, 5, kernel(1), INITRAMFS)
    for version in (4, 6):
        store.manifests.put(manifest(version), None)
    store.manifests.put(manifest(4, channel="testing"), None)
    assert [(row.channel, row.manifest_version) for row in store.manifests.pending()] == [
        ("stable", 6),
        ("testing", 4),
    ]


def test_dropped_manifests_release_their_artifacts(store: Store) -> None:
    stable = [mirror(store, version, kernel(version), INITRAMFS) for version in (1, 2)]
    testing = mirror(store, 1, kernel(3), INITRAMFS, channel="testing")
    store.manifests.drop(lambda row: row.channel == "stable")
    assert [store.manifests.get(made.digest) for made in stable] == [None, None]
    assert [head.digest for head in store.manifests.heads()] == [testing.digest]
    assert set(store.manifests.retain()) == {kernel(1).sha256, kernel(2).sha256}


def test_one_content_under_two_names_is_held_once(store: Store) -> None:
    twin = sample(10, 1, key="rescue")
    made = mirror(store, 1, kernel(1), INITRAMFS, twin)
    assert store.manifests.is_whole(made.digest)
    assert store.blobs.used_bytes() == 10 + 2


def test_retention_does_not_come_between_a_table_and_its_first_piece(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaner = threading.Thread(target=store.manifests.retain)

    def open_late(*values: Any, **options: Any) -> PartialBlob:
        cleaner.start()
        cleaner.join(0.1)  # it can not end before `begin` does
        return PartialBlob(*values, **options)

    monkeypatch.setattr(blobs, "PartialBlob", open_late)
    partial = store.blobs.begin(kernel(1).sha256, kernel(1).table)
    cleaner.join()
    assert partial is not None
    partial.write(0, kernel(1).data)
    partial.finish()
    assert store.blobs.holds(kernel(1).sha256)


def test_retention_and_mirroring_at_once_lose_nothing(store: Store) -> None:
    """What is put is there when the head moves, however often another thread clears up in between."""
    stop = threading.Event()
    lost: list[int] = []

    def clear_up() -> None:
        while not stop.is_set():
            store.manifests.retain()

    cleaner = threading.Thread(target=clear_up)
    cleaner.start()
    try:
        for version in range(1, 16):
            mirror(store, version, kernel(version % 3), INITRAMFS)
            try:
                store.blobs.read(kernel(version % 3).sha256, 0, 10)
            except BlobMissing:
                lost.append(version)
    finally:
        stop.set()
        cleaner.join()
    assert lost == []
    assert versions(store) == [15]
