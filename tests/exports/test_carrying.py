"""What is exported can be imported, whole or not at all, whatever happens to it on the way."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from p2pboot.core.manifest import Manifest
from p2pboot.core.verdict import Refused
from p2pboot.errors import MachineError, Malformed, P2PBootError, StoreError, UsageError
from p2pboot.exports import writing
from p2pboot.exports.layout import DESCRIPTION, FORMAT, MAX_DOCUMENTS, decode, encode
from p2pboot.exports.writing import Release, stream_archive, write_archive, write_directory
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE
from p2pboot.testing.manifests import ALICE, BOB, EXPIRES, signed_manifest
from p2pboot.testing.stores import is_intact, offer
from tests.exports.conftest import DETACHED, FILES, MANIFEST, gate_of, held_by, silent, take


@pytest.fixture(params=["stick", "stick.tar"])
def carried(request: pytest.FixtureRequest, release: Release, tmp_path: Path) -> Path:
    path = tmp_path / str(request.param)
    write = write_archive if path.suffix else write_directory
    write(release, path, silent)
    return path


@pytest.fixture
def stick(release: Release, tmp_path: Path) -> Path:
    write_directory(release, tmp_path / "stick", silent)
    return tmp_path / "stick"


def test_all_of_it_arrives(carried: Path, other: Store) -> None:
    taken = take(carried, other)
    assert held_by(other)
    assert all(is_intact(other.blobs, one.sha256) for one in MANIFEST.artifacts.values())
    stored = other.manifests.get(MANIFEST.digest)
    assert stored == (MANIFEST.raw, DETACHED)
    zeros = PIECE  # which nobody has to read
    assert taken.read_bytes == sum(map(len, FILES.values())) - zeros
    assert not taken.unchanged


def test_twice_is_nothing_to_do(carried: Path, other: Store) -> None:
    take(carried, other)
    again = take(carried, other)
    assert (again.unchanged, again.read_bytes) == (True, 0)


def test_what_was_imported_can_be_exported_and_is_the_same(
    carried: Path, other: Store, tmp_path: Path
) -> None:
    take(carried, other)
    first, second = io.BytesIO(), io.BytesIO()
    for stream in (first, second):
        stream_archive(Release(MANIFEST, DETACHED, other.blobs), stream, silent)
    assert first.getvalue() == second.getvalue()
    with tarfile.open(fileobj=io.BytesIO(first.getvalue())) as archive:
        kernel = archive.extractfile("kernel")
        assert kernel is not None
        assert kernel.read() == FILES["kernel"]
        assert "cmdline" in archive.getnames()


def test_a_stranger_is_not_believed(carried: Path, other: Store) -> None:
    with pytest.raises(Refused, match="trust"):
        take(carried, other, gate_of(other, trusts=BOB.public.keyid))
    assert other.blobs.files.digests() == set()


def test_what_expired_on_the_way_is_refused(carried: Path, other: Store) -> None:
    with pytest.raises(Refused, match="expired"):
        take(carried, other, gate_of(other, now=EXPIRES + 1))
    assert other.blobs.files.digests() == set()


def newer(store: Store) -> Manifest:
    manifest = signed_manifest(FILES, [ALICE], manifest_version=2)
    offer(store, manifest, FILES)
    gate_of(store).publish(manifest, None)
    return manifest


def test_nothing_older_than_what_was_accepted_is_taken(carried: Path, other: Store) -> None:
    manifest = newer(other)
    with pytest.raises(Refused, match=r"rollback|older"):
        take(carried, other)
    assert held_by(other, manifest)


def test_two_manifests_of_one_number_are_evidence(carried: Path, other: Store) -> None:
    rival = signed_manifest(FILES, [ALICE], version="another")
    assert gate_of(other).enter(rival, source="a peer").ok
    with pytest.raises(Refused, match=r"equivocation|two manifests|signed"):
        take(carried, other)
    assert len(other.trust.equivocations()) == 1


def test_what_it_publishes_itself_is_not_imported(stick: Path, held: Store) -> None:
    gate = gate_of(held)
    gate.catalogue.publishes(("stable", "x86_64"), MANIFEST.signers)
    with pytest.raises(UsageError, match="is published with this state"):
        take(stick, held, gate)


@pytest.mark.parametrize("name", ["kernel", "_export/0.pieces", "manifest.json", "manifest.json.sig"])
def test_one_wrong_byte_is_refused_and_nothing_is_offered(stick: Path, other: Store, name: str) -> None:
    data = bytearray((stick / name).read_bytes())
    data[len(data) // 2] ^= 1
    (stick / name).write_bytes(data)
    with pytest.raises(P2PBootError):
        take(stick, other)
    assert not held_by(other)
    assert MANIFEST.artifacts["kernel"].sha256 not in other.blobs.whole()


def test_an_import_goes_on_where_a_stick_was_pulled_out(stick: Path, other: Store) -> None:
    whole = (stick / "rootfs").read_bytes()
    (stick / "rootfs").unlink()
    with pytest.raises(Malformed, match="rootfs is missing"):
        take(stick, other)
    assert gate_of(other).catalogue.offered() == []
    (stick / "rootfs").write_bytes(whole)
    assert 0 < take(stick, other).read_bytes < sum(map(len, FILES.values())) - PIECE
    assert held_by(other)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_an_archive_that_is_cut_short_is_refused(
    release: Release, other: Store, tmp_path: Path, share: float
) -> None:
    path = tmp_path / "stick.tar"
    size = write_archive(release, path, silent)
    os.truncate(path, int(size * share) - 1024 * (share > 0.99))
    with pytest.raises(P2PBootError):
        take(path, other)
    assert not held_by(other)


def test_a_directory_that_is_being_written_is_refused(stick: Path, other: Store) -> None:
    description = json.loads((stick / DESCRIPTION).read_text())
    (stick / DESCRIPTION).write_text(json.dumps({**description, "complete": False}))
    with pytest.raises(Malformed, match="was not written to its end"):
        take(stick, other)


def test_a_new_export_takes_the_place_of_the_old_one(
    stick: Path, held: Store, tmp_path: Path, other: Store
) -> None:
    (stick / "holiday.jpg").write_bytes(b"somebody's")
    files = {key: FILES[key] for key in ("kernel", "initramfs")}
    manifest = signed_manifest(files, [ALICE], manifest_version=2)
    offer(held, manifest, files)
    write_directory(Release(manifest, None, held.blobs), stick, silent)
    names = {str(path.relative_to(stick)) for path in stick.rglob("*") if path.is_file()}
    assert names == {
        "holiday.jpg", "kernel", "initramfs", "manifest.json",
        "_export/0.pieces", "_export/1.pieces", DESCRIPTION,
    }  # fmt: skip
    take(stick, other)
    assert held_by(other, manifest)


def test_files_of_somebody_else_are_not_overwritten(release: Release, tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot" / "kernel").write_bytes(b"mine")
    with pytest.raises(UsageError, match="kernel already"):
        write_directory(release, tmp_path / "boot", silent)
    assert (tmp_path / "boot" / "kernel").read_bytes() == b"mine"


def test_a_damaged_release_is_not_exported_and_what_was_there_stays(
    release: Release, held: Store, stick: Path, other: Store
) -> None:
    blob = held.blobs.path(MANIFEST.artifacts["kernel"].sha256)
    blob.write_bytes(bytes(blob.stat().st_size))
    with pytest.raises(StoreError, match="kernel"):
        write_directory(release, stick, silent)
    assert not list(stick.rglob("*.tmp"))
    take(stick, other)  # the old one
    assert held_by(other)


def test_a_full_medium_keeps_the_old_export(
    release: Release, stick: Path, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "free_bytes", lambda _directory: 1000)
    with pytest.raises(MachineError, match="disk full"):
        write_directory(release, stick, silent)
    with pytest.raises(MachineError, match="disk full"):
        write_archive(release, stick.with_suffix(".tar"), silent)
    take(stick, other)
    assert held_by(other)


def test_where_files_may_not_be_so_large_they_are_in_parts(
    release: Release, other: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "LARGEST_ON_FAT", PIECE)
    monkeypatch.setattr(writing, "PART_BYTES", PIECE)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PIECE + 100, before[1]))  # SIGXFSZ is ignored by Python
    try:
        write_directory(release, tmp_path / "stick", silent)
        with pytest.raises(MachineError, match=r"more than a file in .* may have"):
            write_archive(release, tmp_path / "stick.tar", silent)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "stick" / "kernel").exists()
    assert [(tmp_path / "stick" / "_export" / f"{n}").exists() for n in ("1.000", "2.000", "2.002")].count(
        True
    ) >= 2
    take(tmp_path / "stick", other)
    assert held_by(other)


def test_an_export_of_a_later_format_is_refused_by_its_number(stick: Path, other: Store) -> None:
    description = json.loads((stick / DESCRIPTION).read_text())
    (stick / DESCRIPTION).write_text(json.dumps({"format": FORMAT + 1, "other": description}))
    with pytest.raises(Malformed, match=f"format {FORMAT + 1}"):
        take(stick, other)


@pytest.mark.parametrize("count", [1, MAX_DOCUMENTS, MAX_DOCUMENTS + 1])
def test_documents_that_nobody_knows_are_read_over_and_bounded(stick: Path, other: Store, count: int) -> None:
    description = json.loads((stick / DESCRIPTION).read_text())
    added: list[dict[str, Any]] = [{"file": f"_export/chain{n}.json", "size": 3} for n in range(count - 1)]
    for one in added:
        (stick / one["file"]).write_bytes(b"new")
    description["documents"] += added
    description["unknown"] = {"member": True}
    (stick / DESCRIPTION).write_text(json.dumps(description))
    if count > MAX_DOCUMENTS:
        with pytest.raises(Malformed, match="documents"):
            take(stick, other)
    else:
        take(stick, other)
        assert held_by(other)


def test_a_description_says_what_it_said(stick: Path) -> None:
    description = decode((stick / DESCRIPTION).read_bytes())
    assert decode(encode(description)) == description
    assert (description.channel, description.arch, description.manifest_version) == ("stable", "x86_64", 1)


_KILLED = """
import os, pathlib, sys
from tests.exports.conftest import *
from p2pboot.exports.writing import write_directory

def export(number):
    left = [number]
    def killing(step):
        def call(*args, **named):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), 9)
            return step(*args, **named)
        return call
    os.replace, os.unlink = killing(os.replace), killing(os.unlink)
    with Store.open(pathlib.Path(sys.argv[1])) as store:
        write_directory(Release(MANIFEST, DETACHED, store.blobs), pathlib.Path(sys.argv[2]), silent)

for line in sys.stdin:
    child = os.fork()
    if not child:
        try:
            export(int(line))
        except BaseException:
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Exports in a child for each number that it reads, with so many renames and removals until it is killed."""


def test_an_export_that_is_killed_leaves_the_old_one_or_says_that_it_is_none(
    release: Release, stick: Path, tmp_path: Path
) -> None:
    """Killed at each of its renames in turn, by itself: what is on the stick is whole, or refused."""
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "held"), str(stick)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as forking:
        assert forking.stdin is not None
        assert forking.stdout is not None
        for number in range(1, 40):
            forking.stdin.write(f"{number}\n")
            forking.stdin.flush()
            status = int(forking.stdout.readline())
            with Store.open(tmp_path / f"killed{number}") as other:
                with contextlib.suppress(Malformed):  # not written to its end
                    take(stick, other)
                    assert held_by(other)
                if not held_by(other):
                    assert not decode((stick / DESCRIPTION).read_bytes()).complete
            if status == 0:
                break
            assert status == -signal.SIGKILL
    assert number > 2
    assert not list(stick.rglob("*.tmp"))


@pytest.mark.parametrize("key", ["con", "nul.img", "weird.", "p2pboot", "kernel.pieces", "manifest.json.old"])
def test_an_artifact_may_be_called_anything_that_a_manifest_allows(
    held: Store, other: Store, tmp_path: Path, key: str
) -> None:
    files = {**FILES, key: b"content"}
    manifest = signed_manifest(files, [ALICE], manifest_version=2)
    offer(held, manifest, files)
    odd = Release(manifest, None, held.blobs)
    write_directory(odd, tmp_path / "stick", silent)
    names = [path.name for path in (tmp_path / "stick").rglob("*")]
    assert not {"con", "nul.img", "weird."} & {*names}
    take(tmp_path / "stick", other)
    assert held_by(other, manifest)


def test_the_same_content_under_two_names_arrives_once(held: Store, other: Store, tmp_path: Path) -> None:
    files = {**FILES, "copy": FILES["kernel"]}
    manifest = signed_manifest(files, [ALICE], manifest_version=2)
    offer(held, manifest, files)
    for path, write in ((tmp_path / "stick", write_directory), (tmp_path / "stick.tar", write_archive)):
        write(Release(manifest, None, held.blobs), path, silent)
        with Store.open(tmp_path / f"into {path.name}") as store:
            assert take(path, store).read_bytes == sum(map(len, FILES.values())) - PIECE
            assert held_by(store, manifest)


def test_the_description_in_the_protocol_is_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    example = text.partition("## 7. Exports")[2].partition("```json\n")[2].partition("```")[0]
    description = decode(example.encode())
    assert decode(encode(description)) == description
    assert [one.key for one in description.artifacts] == ["kernel"]
    assert description.documents[0].file == "cmdline"
    assert description.complete
