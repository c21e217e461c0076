"""Archives and directories that mean no good: refused by the first thing that is odd, before it costs something."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.manifest import MAX_MANIFEST
from p2pboot.errors import Malformed, P2PBootError
from p2pboot.exports.layout import DESCRIPTION, MAX_DESCRIPTION, is_allowed
from p2pboot.exports.source import open_path, open_pipe
from p2pboot.exports.taking import Taking
from p2pboot.exports.writing import Release, stream_archive, write_directory
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE
from p2pboot.testing.stores import is_intact, offer
from tests.exports.conftest import DETACHED, EVERYTHING, FILES, MANIFEST, gate_of, held_by, silent, take

Entry = tuple[tarfile.TarInfo, bytes]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with Store.open(tmp_path_factory.mktemp("held") / "state") as store:
        offer(store, MANIFEST, FILES, DETACHED)
        stream = io.BytesIO()
        stream_archive(Release(MANIFEST, DETACHED, store.blobs), stream, silent)
    return stream.getvalue()


def entries(archive: bytes) -> list[Entry]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return [(one, opened.extractfile(one).read()) for one in opened]  # type: ignore[union-attr]


def packed(members: list[Entry]) -> bytes:
    packed = b"".join(
        info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512) for info, data in members
    )
    return packed + bytes(1024)


def member(name: str, data: bytes = b"", **said: Any) -> Entry:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in said.items():
        setattr(info, field, value)
    return info, data


class Counted(io.BytesIO):
    """Counts what is read of it, and refuses to give more than can be needed."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.count = 0

    def read(self, length: int | None = -1, /) -> bytes:
        assert length is not None
        assert 0 <= length <= 16 << 20
        data = super().read(length)
        self.count += len(data)
        return data


def attempt(data: bytes, store: Store) -> int:
    """Import an archive; returns how much of it was read. Raises what the import raises."""
    stream = Counted(data)
    source = open_pipe(stream, "the archive")
    try:
        Taking(source, store, gate_of(store)).take(max_artifact_bytes=EVERYTHING)
    finally:
        count = stream.count
        source.close()
    return count


def test_the_archive_itself_is_taken(archive: bytes, other: Store) -> None:
    attempt(archive, other)
    assert held_by(other)


def test_an_archive_of_tar_is_taken_when_the_order_is_right(archive: bytes, other: Store) -> None:
    found = entries(archive)
    for info, _ in found:
        info.name = f"./{info.name}"
    attempt(packed([member("./", type=tarfile.DIRTYPE), *found]), other)
    assert held_by(other)


ODD: dict[str, Callable[[list[Entry]], list[Entry]]] = {
    "a name that leads out": lambda all_: [member("../../etc/passwd", b"x"), *all_],
    "an absolute name": lambda all_: [member("/etc/passwd", b"x"), *all_],
    "a link": lambda all_: [member("kernel", type=tarfile.SYMTYPE, linkname="/etc/passwd"), *all_],
    "a hard link": lambda all_: [*all_[:3], member("kernel", type=tarfile.LNKTYPE, linkname="cmdline")],
    "a device": lambda all_: [member(DESCRIPTION, type=tarfile.CHRTYPE, devmajor=1, devminor=5), *all_],
    "a pipe": lambda all_: [member(DESCRIPTION, type=tarfile.FIFOTYPE), *all_],
    "a long name": lambda all_: [member("././@LongLink", b"x" * 600, type=tarfile.GNUTYPE_LONGNAME), *all_],
    "an extended header": lambda all_: [member("pax", b"20 size=99999999999\n", type=tarfile.XHDTYPE), *all_],
    "a sparse file": lambda all_: [*all_[:5], member("kernel", b"", type=tarfile.GNUTYPE_SPARSE)],
    "a file twice": lambda all_: [*all_[:2], all_[1], *all_[2:]],
    "the description twice": lambda all_: [all_[0], *all_],
    "another order": lambda all_: [all_[0], *reversed(all_[1:])],
    "a file that nobody names": lambda all_: [*all_[:3], member("rootkit", b"x"), *all_[3:]],
    "a file after the last": lambda all_: [*all_, member("rootkit", b"x")],
    "a claim of a terabyte": lambda all_: [*all_[:1], member("manifest.json", b"", size=1 << 40), *all_[1:]],
    "a large description": lambda all_: [member(DESCRIPTION, b" " * (MAX_DESCRIPTION + 1)), *all_[1:]],
    "a manifest that is none": lambda all_: [
        all_[0],
        member("manifest.json", bytes(len(all_[1][1]))),
        *all_[2:],
    ],
    "nothing": lambda all_: [],
    "only directories": lambda all_: [member(f"d{n}", type=tarfile.DIRTYPE) for n in range(1000)],
    "a directory with content": lambda all_: [member("d", b"x", type=tarfile.DIRTYPE), *all_],
}


@pytest.mark.parametrize("odd", ODD)
def test_what_is_odd_is_refused(archive: bytes, other: Store, odd: str) -> None:
    with pytest.raises(P2PBootError):
        attempt(packed(ODD[odd](entries(archive))), other)
    assert not held_by(other)


class Endless(Counted):
    """A million members without content, made while they are read."""

    def __init__(self, first: bytes) -> None:
        super().__init__(first + b"".join(member(f"f{n}")[0].tobuf(tarfile.GNU_FORMAT) for n in range(1000)))


def test_of_a_million_members_one_is_looked_at(archive: bytes, other: Store) -> None:
    members = entries(archive)
    first = packed(members[:1])[:-1024]
    stream = Endless(first)
    source = open_pipe(stream, "the archive")
    with pytest.raises(Malformed, match=r"where manifest\.json belongs"):
        Taking(source, other, gate_of(other))
    assert stream.count == len(first) + 512


def described(change: Callable[[dict[str, Any]], object]) -> Callable[[list[Entry]], list[Entry]]:
    def build(all_: list[Entry]) -> list[Entry]:
        said = json.loads(all_[0][1])
        change(said)
        return [member(DESCRIPTION, json.dumps(said).encode()), *all_[1:]]

    return build


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a file outside": lambda said: said["artifacts"][0]["parts"][0].update(file="../kernel"),
    "an absolute file": lambda said: said["artifacts"][0]["parts"][0].update(file="/etc/shadow"),
    "a device's name": lambda said: said["artifacts"][0]["parts"][0].update(file="con"),
    "one file for two": lambda said: said["artifacts"][0]["parts"][0].update(file="manifest.json"),
    "a larger artifact": lambda said: said["artifacts"][0].update(size=1 << 50),
    "a larger artifact in larger parts": lambda said: (
        said["artifacts"][0].update(size=1 << 50),
        said["artifacts"][0]["parts"][0].update(size=1 << 50),
    ),
    "a larger manifest": lambda said: said["manifest"].update(size=MAX_MANIFEST + 1),
    "a larger signature": lambda said: said["detached"].update(size=1 << 30),
    "a larger table": lambda said: said["artifacts"][0]["table"].update(size=1 << 40),
    "a negative size": lambda said: said["artifacts"][0]["parts"].append(
        {"file": "_export/9.001", "size": -5}
    ),
    "parts without end": lambda said: said["artifacts"][0].update(
        parts=[{"file": f"_export/0.{n}", "size": 0} for n in range(5000)]
    ),
    "parts that do not end with a piece": lambda said: said["artifacts"][0].update(
        parts=[
            {"file": "_export/9.000", "size": 7},
            {"file": "_export/9.001", "size": said["artifacts"][0]["size"] - 7},
        ]
    ),
    "no artifact": lambda said: said.update(artifacts=[]),
    "an artifact twice": lambda said: said["artifacts"].append(said["artifacts"][0]),
    "another artifact": lambda said: said["artifacts"][0].update(key="evil"),
    "another digest": lambda said: said["artifacts"][0].update(sha256="0" * 64),
    "no format": lambda said: said.pop("format"),
    "format 0": lambda said: said.update(format=0),
    "a format of text": lambda said: said.update(format="1"),
    "a huge format": lambda said: said.update(format=10**40),
    "a document of a gigabyte": lambda said: said["documents"].append({"file": "_export/x", "size": 1 << 30}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_description_that_lies_is_refused_before_anything_is_written(
    archive: bytes, other: Store, lie: str
) -> None:
    with pytest.raises(P2PBootError):
        attempt(packed(described(LIES[lie])(entries(archive))), other)
    assert not held_by(other)
    assert other.blobs.files.digests() == set()


def refused(data: bytes, store: Store) -> P2PBootError | None:
    try:
        attempt(data, store)
    except P2PBootError as error:
        return error
    return None


@given(data=st.data())
def test_no_change_of_any_byte_brings_in_anything_else(
    archive: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever is done to an archive: it is refused in one line, or what it brings in is what was signed."""
    changed = bytearray(archive)
    where = st.integers(0, 512 * 12) | st.integers(0, len(archive) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(where)
        match data.draw(st.sampled_from(["flip", "cut", "double", "drop"])):
            case "flip" if at < len(changed):
                changed[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del changed[at:]
            case "double":
                changed[at:at] = changed[at : at + 512]
            case _:
                del changed[at : at + 512]
    with Store.open(tmp_path_factory.mktemp("state") / "state") as store:
        refusal = refused(bytes(changed), store)
        if refusal is None:
            assert held_by(store)
        else:
            assert "\n" not in refusal.message
            assert gate_of(store).catalogue.offered() == []
        assert all(is_intact(store.blobs, digest) for digest in store.blobs.whole())


# -- directories -----------------------------------------------------------------------------------------------------


@pytest.fixture
def stick(tmp_path: Path, held: Store) -> Path:
    write_directory(Release(MANIFEST, DETACHED, held.blobs), tmp_path / "stick", silent)
    return tmp_path / "stick"


def replaced(path: Path, how: Callable[[Path], object]) -> None:
    path.unlink()
    how(path)


@pytest.mark.parametrize(
    "name", [DESCRIPTION, "manifest.json", "kernel", "_export/0.pieces", "dtbs/board.dtb"]
)
@pytest.mark.parametrize("how", ["link", "pipe", "directory", "hole"])
def test_what_is_no_regular_file_of_its_size_is_refused(
    stick: Path, other: Store, tmp_path: Path, name: str, how: str
) -> None:
    whole = (stick / name).read_bytes()
    (tmp_path / "elsewhere").write_bytes(whole)
    match how:
        case "link":
            replaced(stick / name, lambda path: path.symlink_to(tmp_path / "elsewhere"))
        case "pipe":
            replaced(stick / name, os.mkfifo)
        case "directory":
            replaced(stick / name, Path.mkdir)
        case _:
            os.truncate(stick / name, 1 << 40)
    with pytest.raises(P2PBootError) as raised:
        take(stick, other)
    assert raised.value.remedy
    assert not held_by(other)


def test_a_directory_that_is_a_link_is_not_followed(stick: Path, other: Store, tmp_path: Path) -> None:
    (stick / "dtbs").rename(tmp_path / "trees")
    (stick / "dtbs").symlink_to(tmp_path / "trees")
    with pytest.raises(P2PBootError):
        take(stick, other)


def describe(path: Path) -> bytes:
    source = open_path(path)
    try:
        return source.document(DESCRIPTION, most=PIECE)
    finally:
        source.close()


def test_what_is_no_export_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "text.tar").write_bytes(b"Dear all,\n" * 100)
    for name in ("photos", "text.tar", "missing", "empty.tar"):
        if name == "empty.tar":
            (tmp_path / name).touch()
        with pytest.raises(P2PBootError) as raised:
            describe(tmp_path / name)
        assert raised.value.remedy


@given(st.text(max_size=120) | st.from_regex(r"(_export/|dtbs/)?[a-z0-9._-]{1,70}(\.dtb)?", fullmatch=True))
def test_a_name_that_is_allowed_is_harmless_everywhere(name: str) -> None:
    if is_allowed(name):
        parts = name.split("/")
        assert len(parts) <= 2
        for part in parts:
            assert part.isascii()
            assert part == part.lower()
            assert part not in ("", ".", "..")
            assert part[-1] not in ". "
            assert part.partition(".")[0] not in ("con", "nul", "aux", "prn", "com1", "lpt1")
            assert len(part) <= 110
