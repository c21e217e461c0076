"""What a store finds in its directory: subdirectories, links, and why the rest is left out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from p2pboot.core.timetoke.chunks import payload_root
from p2pboot.core.timetoke.errors import SignatureUndecodable
from p2pboot.errors import MachineError
from p2pboot.store import hashing
from p2pboot.store.snapshots import walking
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from tests.core.timetoke.samples import ALICE, CHUNK, announce, payload_of, sign
from tests.permissions import permissions_applied

ONE, OTHER = payload_of(3), payload_of(4)
ROOT, OTHER_ROOT = payload_root(ONE), payload_root(OTHER)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "snapshots").mkdir()
    return tmp_path / "snapshots"


def put(path: Path, payload: bytes, signature: str | None = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(payload)
    if signature is not None:
        path.with_name(path.name + ".sig").write_text(signature or sign(payload))
    return path


def opened(directory: Path) -> DiskSnapshotStore:
    return DiskSnapshotStore(directory, chunk_length=CHUNK, warn=lambda _: None)


def reasons(directory: Path) -> dict[str, str]:
    return {one.name: one.reason for one in opened(directory).survey().left_out}


def read_all(store: DiskSnapshotStore, root: str) -> bytes:
    return b"".join(chunk.data for chunk in store.stream(root))


def test_the_source_systems_layout_is_found_and_served(directory: Path) -> None:
    manifest = b'{"version": 1, "segments": []}\n'
    put(directory / "manifest" / "chunks.json", manifest, f"1:{sign(manifest)}")
    put(directory / "a" / "b" / "c.json", ONE)
    store = opened(directory)
    assert store.roots() == tuple(sorted([payload_root(manifest), ROOT]))
    assert read_all(store, payload_root(manifest)) == manifest
    assert store.signature(payload_root(manifest)) == f"1:{sign(manifest)}"
    assert read_all(store, ROOT) == ONE
    assert store.survey().unsigned == ()


def test_what_appears_in_a_directory_that_was_looked_at_is_found_at_once(directory: Path) -> None:
    (directory / "deep").mkdir()
    store = opened(directory)
    assert store.roots() == ()
    put(directory / "deep" / "x.json", ONE)
    assert store.roots() == (ROOT,)
    (directory / "deep" / "x.json").unlink()
    assert store.roots() == ()


@pytest.mark.parametrize("form", ["absolute", "relative", "hard", "configmap"])
def test_a_store_of_links_is_served(directory: Path, tmp_path: Path, form: str) -> None:
    real = put(tmp_path / "elsewhere" / "x.json", ONE)
    if form == "configmap":  # as Kubernetes mounts one: the files are links through ..data, which is swapped
        (tmp_path / "elsewhere").rename(directory / "..2026_01")
        (directory / "..data").symlink_to("..2026_01")
    for name in ("x.json", "x.json.sig"):
        if form == "hard":
            os.link(real.parent / name, directory / name)
        elif form == "configmap":
            (directory / name).symlink_to(Path("..data") / name)
        else:
            target = real.parent / name
            link = Path(os.path.relpath(target, directory)) if form == "relative" else target
            (directory / name).symlink_to(link)
    store = opened(directory)
    assert store.roots() == (ROOT,)
    assert read_all(store, ROOT) == ONE
    assert store.signature(ROOT) == sign(ONE)
    assert store.survey().left_out == ()


def test_a_link_that_leads_elsewhere_later_is_another_snapshot(directory: Path, tmp_path: Path) -> None:
    for version, payload in [("1", ONE), ("2", OTHER)]:
        put(tmp_path / version / "x.json", payload)
    link = directory / "x.json"
    link.symlink_to(tmp_path / "1" / "x.json")
    store = opened(directory)
    assert store.roots() == (ROOT,)
    link.unlink()
    link.symlink_to(tmp_path / "2" / "x.json")
    assert not store.has_snapshot(ROOT)
    assert store.roots() == (OTHER_ROOT,)


def test_the_directory_itself_may_be_a_link(directory: Path, tmp_path: Path) -> None:
    put(directory / "x.json", ONE)
    (tmp_path / "linked").symlink_to(directory)
    assert opened(tmp_path / "linked").roots() == (ROOT,)


def test_nothing_is_written_through_a_link(directory: Path, tmp_path: Path) -> None:
    real = put(tmp_path / "elsewhere" / "x.json", ONE, "1:" + sign(OTHER))
    own = directory / f"{ROOT}.json"
    own.symlink_to(real)
    own.with_name(own.name + ".sig").symlink_to(real.with_name("x.json.sig"))
    store = opened(directory)
    store.insert(ONE, sign(ONE))
    assert store.signature(ROOT) == sign(ONE)
    assert not own.with_name(own.name + ".sig").is_symlink()
    assert real.with_name("x.json.sig").read_text() == "1:" + sign(OTHER)
    (directory / f"{OTHER_ROOT}.json").symlink_to(tmp_path / "nowhere")
    store.insert(OTHER, sign(OTHER))
    assert not (tmp_path / "nowhere").exists()
    assert read_all(store, OTHER_ROOT) == OTHER


def test_what_is_left_out_is_named_with_its_reason(directory: Path, tmp_path: Path) -> None:
    put(directory / "good.json", ONE)
    put(tmp_path / "elsewhere" / "x.json", OTHER)
    (directory / "notes.txt").write_text("x")
    (directory / "empty.json").touch()
    (directory / "dangling.json").symlink_to("nowhere")
    (directory / "loop.json").symlink_to("loop.json")
    (directory / "linked").symlink_to(tmp_path / "elsewhere")
    (directory / "up").symlink_to("..")
    (directory / "lonely.json.sig").write_text(sign(ONE))
    os.mkfifo(directory / "pipe.json")
    put(directory / "a b" / "with blanks ü.json", OTHER)
    (directory / ".hidden.json").write_text("x")
    (directory / "lost+found").mkdir()
    found = reasons(directory)
    assert {name: words.split(":")[0] for name, words in found.items()} == {
        "notes.txt": "is not named *.json",
        "empty.json": "is empty",
        "dangling.json": "is a link to nothing",
        "loop.json": "is a link to nothing",
        "linked": "is a link to a directory, and these are not followed",
        "up": "is a link to a directory, and these are not followed",
        "lonely.json.sig": "is the signature of a snapshot that is not here",
        "pipe.json": "is no regular file",
    }
    assert opened(directory).roots() == tuple(sorted([ROOT, OTHER_ROOT]))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_left_out(directory: Path) -> None:
    put(directory / "secret.json", ONE).chmod(0)
    (directory / "closed").mkdir(mode=0)
    try:
        assert set(reasons(directory)) == {"secret.json", "closed/"}
    finally:
        (directory / "closed").chmod(0o700)


def test_a_file_that_can_not_be_opened_is_left_out_with_the_systems_word(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(directory / "x.json", ONE)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(hashing, "_hash", refuse)
    assert reasons(directory) == {"x.json": "can not be read: Permission denied"}


def test_depth_directories_and_entries_are_bounded(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = directory.joinpath(*"abcdefgh")
    put(deep / "in.json", ONE)
    put(deep / "i" / "out.json", OTHER)
    assert reasons(directory) == {"a/b/c/d/e/f/g/h/i/": "lies below 8 other directories, which is too deep"}
    monkeypatch.setattr(walking, "MAX_DIRECTORIES", 3)
    assert opened(directory).roots() == ()
    monkeypatch.setattr(walking, "MAX_DIRECTORIES", 100)
    monkeypatch.setattr(walking, "MAX_ENTRIES", 1)
    assert opened(directory).survey().left_out_count == 2


def test_many_left_out_are_counted_and_only_the_first_remembered(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "MAX_LEFT_OUT", 5)
    for number in range(12):
        (directory / f"{number}.bin").touch()
    survey = opened(directory).survey()
    assert (len(survey.left_out), survey.left_out_count) == (5, 12)


def test_of_two_copies_the_signed_one_is_served(directory: Path) -> None:
    put(directory / f"{ROOT}.json", ONE, None)
    put(directory / "manifest" / "copy.json", ONE)
    store = opened(directory)
    assert store.survey().unsigned == ()
    assert store.signature(ROOT) == sign(ONE)
    (directory / "manifest" / "copy.json.sig").unlink()
    assert [one.root for one in store.survey().unsigned] == [ROOT]


def test_a_signature_that_is_a_link_to_nothing_is_no_missing_one(directory: Path) -> None:
    beside = put(directory / "x.json", ONE, None).with_name("x.json.sig")
    beside.symlink_to("nowhere")
    store = opened(directory)
    with pytest.raises(SignatureUndecodable, match="link to nothing"):
        store.signature(ROOT)
    assert store.survey().unsigned == ()
    assert "link to nothing" in store.survey().damaged[0].reason
    beside.unlink()
    os.mkfifo(beside)  # opening it must not wait for a writer
    with pytest.raises(SignatureUndecodable, match="no regular file"):
        store.signature(ROOT)


def test_damaged_signatures_are_counted_and_mended_ones_are_not(directory: Path) -> None:
    beside = put(directory / "x.json", ONE, " ").with_name("x.json.sig")
    store = opened(directory)
    assert [(one.name, one.reason) for one in store.survey().damaged] == [
        ("x.json", "is not served: its signature is empty")
    ]
    beside.write_text(sign(ONE))
    assert store.survey().damaged == ()


def test_unsigned_snapshots_are_warned_of_at_the_scan(directory: Path) -> None:
    payload = payload_of(
        5, "bb" * 32
    )  # no other test's: what is warned of is remembered for the life of the process
    path = put(directory / "deep" / "old.json", payload, None)
    warnings: list[str] = []
    for _ in range(2):
        DiskSnapshotStore(directory, warn=warnings.append).roots()
    assert len(warnings) == 1
    assert payload_root(payload) in warnings[0]
    assert str(path) in warnings[0]


def test_a_file_that_grows_is_read_again_when_it_stands_still(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(directory / "x.json", ONE[:-5], None)
    reads: list[Path] = []
    hashed = hashing._hash

    def growing(found: Path, *rest: Any) -> None:
        reads.append(found)
        if len(reads) == 1:
            path.write_bytes(ONE)
        hashed(found, *rest)

    monkeypatch.setattr(hashing, "_hash", growing)
    store = opened(directory)
    assert store.survey().left_out[0].reason == "is being written"
    assert store.roots() == (ROOT,)
    assert len(reads) == 2


def test_a_directory_that_can_not_be_cleaned_is_an_error_unless_it_can_only_be_read(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(directory / "x.json", ONE)
    monkeypatch.setattr(
        "p2pboot.store.snapshots.disk.clean_temporaries",
        lambda _: (_ for _ in ()).throw(MachineError("can not clean up")),
    )
    with pytest.raises(MachineError):
        opened(directory)
    directory.chmod(0o555)
    with permissions_applied():
        assert opened(directory).roots() == (ROOT,)


def test_an_announced_snapshot_in_a_directory_is_cut_as_announced(directory: Path) -> None:
    put(directory / "deep" / f"{ROOT}.json", ONE)
    store = DiskSnapshotStore(directory, warn=lambda _: None)
    store.announcements.put(announce(ONE, ALICE))
    assert store.table(ROOT).piece_length == CHUNK


def test_a_key_version_that_was_missing_is_added(directory: Path) -> None:
    put(directory / "x.json", ONE)
    store = opened(directory)
    store.insert(ONE, f"1:{sign(ONE)}")
    assert (directory / "x.json.sig").read_text() == f"1:{sign(ONE)}"
    store.insert(ONE, sign(ONE))  # says less
    assert (directory / "x.json.sig").read_text() == f"1:{sign(ONE)}"


def test_only_what_is_a_snapshot_is_counted_as_unsigned(directory: Path) -> None:
    put(directory / "records.json", ONE, None)
    put(directory / "late root.json", b'{"records": [], "timetoke_root": "' + b"ab" * 32 + b'"}', None)
    put(directory / "manifest" / "chunks.json", b'{"version": 1, "segments": []}', None)
    put(directory / "snapshot_sessions.json", b'{"sessions": []}', None)
    warnings: list[str] = []
    store = DiskSnapshotStore(directory, warn=warnings.append)
    assert {(one.path.name, one.kind) for one in store.survey().unsigned} == {
        ("records.json", "records"),
        ("late root.json", "records"),
        ("chunks.json", "manifest of chunks"),
    }
    assert not any("sessions" in line for line in warnings)
    assert len(store.roots()) == 4  # whoever knows its root may have it, as ever
