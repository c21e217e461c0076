"""Device trees by the hundred are one artifact, made of the files as they are and only when they changed."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from p2pboot.core.devicetrees import Archive
from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Manifest
from p2pboot.core.timestamps import parse_time
from p2pboot.errors import ArtifactError, MachineError
from p2pboot.publish import archive as archive_module
from p2pboot.publish.archive import files_to_publish
from p2pboot.publish.build import BuildOptions, Built, build
from p2pboot.publish.presigned import take_presigned
from p2pboot.publish.scan import Tree
from p2pboot.store.hashing import ChangedWhileHashing
from p2pboot.store.store import Store
from tests.publish.trees import scan

KEY, FLEET = SecretKey(b"\x01" * 32), SecretKey(b"\x02" * 32)
NOW = parse_time("2025-11-26T12:00:00Z")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return image_with(
        tmp_path / "image", {"qcom/a.dtb": b"a", "ti/b.dtb": b"b" * 600, "overlays/c.dtbo": b"c"}
    )


def image_with(leaf: Path, trees: dict[str, bytes]) -> Path:
    for name, content in {
        "vmlinuz": b"k",
        "initrd": b"i",
        **{f"dtbs/{k}": v for k, v in trees.items()},
    }.items():
        path = leaf / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return leaf


def tree_of(image: Path) -> Tree:
    (tree,) = scan(image, "stable", "arm64")
    return tree


def built(image: Path, store: Store, key: SecretKey = KEY) -> Built:
    return build(tree_of(image), BuildOptions(name="x"), keys=[key], store=store, now=NOW)


def archives(store: Store) -> set[Path]:
    return set(store.path.glob("archives/*/*.tar"))


def test_all_device_trees_are_one_artifact_that_lies_in_the_state_directory(
    image: Path, store: Store
) -> None:
    done = built(image, store)
    assert list(done.manifest.artifacts) == ["dtbs.tar", "initramfs", "kernel"]
    (path,) = archives(store)
    assert path in {file.path for file in done.files}
    artifact = done.manifest.artifacts["dtbs.tar"]
    assert (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size) == (
        artifact.sha256,
        artifact.size,
    )
    with tarfile.open(path) as tar:
        assert tar.getnames() == ["overlays/c.dtbo", "qcom/a.dtb", "ti/b.dtb"]


def test_a_whole_kernels_device_trees_are_published(tmp_path: Path, store: Store) -> None:
    """What arm64's `make dtbs_install` leaves: 1,300 trees of 50 vendors."""
    trees = {f"vendor{number % 50}/board-{number}.dtb": b"%d" % number for number in range(1300)}
    done = built(image_with(tmp_path / "image", trees), store)
    (path,) = archives(store)
    raw = path.read_bytes()
    found = Archive.read(lambda offset, length: raw[offset : offset + length], len(raw))
    assert {one.name: raw[one.offset : one.offset + one.size] for one in found.members} == trees
    assert len(done.raw) < 10_000


def test_it_is_made_anew_only_when_a_device_tree_changed(
    image: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = built(image, store)
    (path,) = archives(store)
    written = path.stat().st_ino

    def read_again(*_: object) -> bytes:
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr(archive_module, "_read", read_again)
        assert built(image, store).raw == first.raw
    assert path.stat().st_ino == written
    (image / "dtbs/qcom/new").write_bytes(b"A")
    (image / "dtbs/qcom/new").rename(image / "dtbs/qcom/a.dtb")
    assert built(image, store).manifest.artifacts["dtbs.tar"] != first.manifest.artifacts["dtbs.tar"]


@pytest.mark.parametrize("what", ["other content", "more content", "a pipe"])
def test_one_that_somebody_left_under_its_name_is_not_signed(image: Path, store: Store, what: str) -> None:
    first = built(image, store)
    (path,) = archives(store)
    right = path.read_bytes()
    path.unlink()
    if what == "a pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(right + b"x" if what == "more content" else right.replace(b"bbb", b"BBB"))
    assert built(image, store).raw == first.raw
    assert path.read_bytes() == right


def test_a_link_in_the_place_of_the_archives_leads_nowhere(image: Path, tmp_path: Path, store: Store) -> None:
    victim = tmp_path / "victim"
    (victim / "kept").mkdir(parents=True)
    (victim / "kept/source").write_bytes(b"/nowhere")
    (store.path / "archives").symlink_to(victim)
    with pytest.raises(MachineError, match="archives is a symbolic link"):
        built(image, store)
    assert (victim / "kept").exists()


def test_the_one_in_force_stays_until_the_next_but_one(image: Path, store: Store) -> None:
    """What is published is offered on while its successor is hashed and signed."""
    seen = []
    for content in (b"1", b"22", b"333"):
        (image / "dtbs/qcom/a.dtb").write_bytes(content)
        files = files_to_publish(tree_of(image), store.path, interrupt=lambda: None)
        path = files["dtbs.tar"]
        os.utime(path, ns=(len(content), len(content)))  # one after the other, whatever the clock's tick
        seen.append(path)
        assert archives(store) == set(seen[-2:])


def test_a_touched_file_makes_no_other_content(image: Path, store: Store) -> None:
    first = built(image, store)
    os.utime(image / "dtbs/ti/b.dtb", (1, 1))
    again = built(image, store)
    assert (again.raw, again.unchanged) == (first.raw, True)


def test_what_is_not_used_any_more_is_removed(image: Path, tmp_path: Path, store: Store) -> None:
    other = image_with(tmp_path / "other", {"x/y.dtb": b"x"})
    built(image, store)
    built(other, store)
    assert len(archives(store)) == 2
    shutil.rmtree(other / "dtbs")
    built(other, store)
    assert len(archives(store)) == 1, "the other directory's is its own"
    shutil.rmtree(image)
    built(other, store)
    assert not archives(store), "its directory is gone"


def test_a_device_tree_that_changes_while_it_is_read_is_still_being_written(
    image: Path, store: Store
) -> None:
    tree = tree_of(image)
    path = image / "dtbs/qcom/a.dtb"
    looked_at = 0

    def interrupt() -> None:
        nonlocal looked_at
        looked_at += 1
        if looked_at == 2:
            path.write_bytes(b"more than before")

    with pytest.raises(ChangedWhileHashing, match=r"a\.dtb changed"):
        files_to_publish(tree, store.path, interrupt=interrupt)
    assert not archives(store)
    path.unlink()
    with pytest.raises(ChangedWhileHashing, match=r"a\.dtb changed"):
        files_to_publish(tree, store.path, interrupt=lambda: None)


def test_an_interrupted_one_leaves_nothing(image: Path, store: Store) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt() -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        files_to_publish(tree_of(image), store.path, interrupt=interrupt)
    assert not [path for path in store.path.glob("archives/*/*") if path.name != "source"]


def test_a_full_disk_is_the_machines_fault(
    image: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive_module, "write_at", full)
    with pytest.raises(MachineError, match="No space left"):
        files_to_publish(tree_of(image), store.path, interrupt=lambda: None)


def test_an_enormous_device_tree_is_refused_by_name(image: Path, store: Store) -> None:
    with (image / "dtbs/qcom/a.dtb").open("wb") as file:
        file.truncate(17 << 20)
    with pytest.raises(ArtifactError, match=r"qcom/a\.dtb has 17825792 bytes"):
        built(image, store)


# A manifest that others signed


def presigned(image: Path, store: Store) -> Manifest | None:
    taken = take_presigned(tree_of(image), own_keyid=KEY.public.keyid, store=store, now=NOW)
    return None if taken is None else taken.manifest


def test_fetched_device_trees_are_published_again_byte_for_byte(
    image: Path, tmp_path: Path, store: Store
) -> None:
    with Store.open(tmp_path / "elsewhere") as elsewhere:
        manifest = built(image, elsewhere, FLEET).manifest
    (image / "manifest.json").write_bytes(manifest.raw)
    assert presigned(image, store) == manifest
    (path,) = archives(store)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == manifest.artifacts["dtbs.tar"].sha256


def test_the_signed_manifest_says_whether_there_is_an_archive(tmp_path: Path, store: Store) -> None:
    """Another program may archive a few trees, or name many one by one."""
    few = image_with(tmp_path / "few", {"a.dtb": b"a", "b.dtb": b"b"})
    tree = tree_of(few)
    assert not tree.archived
    archived = dataclasses.replace(
        tree,
        files={key: path for key, path in tree.files.items() if not key.startswith("dtbs/")},
        archived=tree.device_trees,
    )
    with Store.open(tmp_path / "elsewhere") as elsewhere:
        done = build(archived, BuildOptions(name="x"), keys=[FLEET], store=elsewhere, now=NOW)
    assert "dtbs.tar" in done.manifest.artifacts
    (few / "manifest.json").write_bytes(done.raw)
    assert presigned(few, store) == done.manifest

    many = image_with(tmp_path / "many", {f"board-{number}.dtb": b"%d" % number for number in range(40)})
    tree = tree_of(many)
    single = {f"dtbs/{name.removesuffix('.dtb')}": path for name, path in tree.archived.items()}
    one_by_one = dataclasses.replace(tree, files={**tree.files, **single}, archived={})
    with Store.open(tmp_path / "elsewhere") as elsewhere:
        done = build(one_by_one, BuildOptions(name="x"), keys=[FLEET], store=elsewhere, now=NOW)
    (many / "manifest.json").write_bytes(done.raw)
    assert presigned(many, store) == done.manifest


@pytest.mark.parametrize("change", ["content", "more", "less"])
def test_device_trees_that_are_not_what_was_signed_are_refused(
    image: Path, tmp_path: Path, store: Store, change: str
) -> None:
    with Store.open(tmp_path / "elsewhere") as elsewhere:
        (image / "manifest.json").write_bytes(built(image, elsewhere, FLEET).raw)
    match change:
        case "content":
            (image / "dtbs/qcom/a.dtb").write_bytes(b"z")
        case "more":
            (image / "dtbs/qcom/z.dtb").write_bytes(b"z")
        case _:
            (image / "dtbs/qcom/a.dtb").unlink()
    with pytest.raises(ArtifactError, match=r"is not the dtbs\.tar that .* names"):
        presigned(image, store)
