"""The store on disk: files by hand, restarts, rot, and what a reader can see while something is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2pboot.core.pieces import MIN_PIECE
from p2pboot.core.timetoke.chunks import payload_root
from p2pboot.core.timetoke.errors import (
    SignatureEmpty,
    SignatureLengthError,
    SignatureMismatch,
    SignatureUndecodable,
    SnapshotChanged,
    SnapshotMissing,
)
from p2pboot.errors import MachineError
from p2pboot.store import durable
from p2pboot.store.hashes import FileIdentity
from p2pboot.store.snapshots import disk
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from tests.core.timetoke.samples import ALICE, CHUNK, NAMES, VECTORS, announce, payload_of, sign

PAYLOAD = payload_of(2000)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


def opened(directory: Path) -> DiskSnapshotStore:
    return DiskSnapshotStore(directory, chunk_length=CHUNK)


def visible(directory: Path) -> set[str]:
    return {name for name in os.listdir(directory) if not name.startswith(".")}


def test_payload_and_signature_are_two_files_with_exactly_these_bytes(directory: Path) -> None:
    root = opened(directory).insert(PAYLOAD, sign(PAYLOAD))
    assert visible(directory) == {f"{root}.json", f"{root}.json.sig"}
    assert (directory / f"{root}.json").read_bytes() == PAYLOAD
    assert (directory / f"{root}.json.sig").read_text() == sign(PAYLOAD)


def test_an_unsigned_payload_has_no_signature_file(directory: Path) -> None:
    root = opened(directory).insert(PAYLOAD)
    assert visible(directory) == {f"{root}.json"}


def test_a_restart_changes_nothing(directory: Path) -> None:
    root = opened(directory).insert(PAYLOAD, sign(PAYLOAD))
    again = opened(directory)
    assert again.roots() == (root,)
    assert b"".join(chunk.data for chunk in again.stream(root)) == PAYLOAD
    assert again.signature(root) == sign(PAYLOAD)


def test_files_dropped_in_by_hand_are_found_and_removed_ones_are_gone(directory: Path) -> None:
    store = opened(directory)
    assert store.roots() == ()
    for name in NAMES:
        for suffix in (".json", ".json.sig"):
            (directory / (name + suffix)).write_bytes((VECTORS / (name + suffix)).read_bytes())
    roots = [payload_root((VECTORS / f"{name}.json").read_bytes()) for name in NAMES]
    assert store.roots() == tuple(sorted(roots))
    assert store.signature(roots[0]) == (VECTORS / f"{NAMES[0]}.json.sig").read_text()
    (directory / f"{NAMES[0]}.json").unlink()
    assert not store.has_snapshot(roots[0])
    with pytest.raises(SnapshotMissing):
        store.chunk(roots[0], 0)


def test_what_is_no_snapshot_file_is_left_alone(directory: Path) -> None:
    store = opened(directory)
    (directory / "notes.txt").write_text("x")
    (directory / ".hidden.json").write_text("x")
    (directory / "empty.json").write_text("")
    (directory / "directory.json").mkdir()
    (directory / "dangling.json").symlink_to("nowhere")
    os.mkfifo(directory / "pipe.json")
    assert store.roots() == ()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"", SignatureEmpty),
        (b"\n", SignatureEmpty),
        (b"???", SignatureUndecodable),
        (b"\xff" * 88, SignatureUndecodable),
        (b"AAAA", SignatureLengthError),
    ],
)
def test_a_damaged_signature_file_is_an_error_that_names_it(
    directory: Path, text: bytes, error: type[Exception]
) -> None:
    store = opened(directory)
    root = store.insert(PAYLOAD)
    (directory / f"{root}.json.sig").write_bytes(text)
    with pytest.raises(error, match=r"\.json\.sig"):
        store.signature(root)
    with pytest.raises(error):
        store.chunk(root, 0)


def test_a_signature_file_that_does_not_match_is_an_error(directory: Path) -> None:
    root = opened(directory).insert(PAYLOAD, sign(PAYLOAD + b" "))
    with pytest.raises(SignatureMismatch, match=r"\.json\.sig"):
        DiskSnapshotStore(directory, keys=[ALICE.public]).signature(root)


def test_an_unreadable_signature_is_an_error_of_the_machine_and_not_a_missing_one(directory: Path) -> None:
    store = opened(directory)
    root = store.insert(PAYLOAD)
    (directory / f"{root}.json.sig").mkdir()
    with pytest.raises(MachineError, match=r"\.json\.sig"):
        store.signature(root)


def test_a_changed_file_is_another_snapshot(directory: Path) -> None:
    store = opened(directory)
    root = store.insert(PAYLOAD, sign(PAYLOAD))
    path = directory / f"{root}.json"
    path.write_bytes(PAYLOAD + b"\n")
    assert not store.has_snapshot(root)
    assert store.roots() == (payload_root(PAYLOAD + b"\n"),)


def test_a_file_that_changes_right_after_a_look_is_looked_at_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the directory's time tells of new names; content changes without it."""
    store = opened(directory)
    root = store.insert(PAYLOAD, sign(PAYLOAD))
    assert store.roots() == (root,)
    monkeypatch.setattr(store._files, "_is_fresh", lambda: True)
    (directory / f"{root}.json").write_bytes(PAYLOAD[:-1])
    assert not store.has_snapshot(root)
    assert store.why_missing(root) == "its file has other content: it is damaged"


def test_rot_that_leaves_the_file_looking_the_same_is_noticed_when_a_chunk_is_read(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(directory)
    root = store.insert(PAYLOAD, sign(PAYLOAD))
    with (directory / f"{root}.json").open("r+b") as file:
        file.seek(CHUNK + 5)
        file.write(b"\x00")
    monkeypatch.setattr(
        FileIdentity, "of", lambda _status, known=store._files.by_name[f"{root}.json"]: known.identity
    )
    store.chunk(root, 0)
    with pytest.raises(SnapshotChanged, match=root):
        store.chunk(root, 1)


def test_the_signature_gets_its_name_right_before_the_payload(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sees the payload sees its signature, wherever the writer is stopped."""
    store = opened(directory)
    seen: list[set[str]] = []
    sync = durable.fsync_directory

    def watch(path: Path) -> None:
        sync(path)
        seen.append(visible(directory))

    monkeypatch.setattr(durable, "fsync_directory", watch)
    root = store.insert(PAYLOAD, sign(PAYLOAD))
    signature, payload = f"{root}.json.sig", f"{root}.json"
    assert seen == [{signature}, {signature, payload}]


def test_a_full_disk_exposes_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(directory)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "write_at", full)
    with pytest.raises(MachineError, match="disk full"):
        store.insert(PAYLOAD, sign(PAYLOAD))
    assert visible(directory) == set()
    assert [name for name in os.listdir(directory) if name.endswith(".tmp")] == []


def test_an_announced_snapshot_is_cut_as_announced(directory: Path) -> None:
    opened(directory).insert(PAYLOAD, sign(PAYLOAD))
    store = DiskSnapshotStore(directory)  # another default
    announcement = announce(PAYLOAD)
    store.announcements.put(announcement)
    assert store.table(announcement.root).piece_length == CHUNK
    assert store.table(announcement.root).digest == announcement.facts.chunk_table
    assert CHUNK == MIN_PIECE
