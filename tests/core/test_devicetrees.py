"""The archive of device trees has one form: `tar` reads it, and nothing but that form is taken."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core import devicetrees
from p2pboot.core.devicetrees import Archive, Member, archive_bytes, end, header, layout, padding
from p2pboot.errors import Malformed

TREES = {
    "board.dtb": b"a",
    "overlays/i2c.dtbo": b"b" * 512,
    "qcom/sm8250-mtp.dtb": b"c" * 513,
    "qcom/sm8350.dtb": b"d" * 2_000_000,
}


def written(trees: Mapping[str, bytes]) -> bytes:
    members = layout((name, len(content)) for name, content in trees.items())
    parts = [header(one) + trees[one.name] + padding(one.size) for one in members]
    raw = b"".join(parts) + end()
    assert len(raw) == archive_bytes(members)
    return raw


def read(raw: bytes) -> Archive:
    def span(offset: int, length: int) -> bytes:
        assert offset >= 0
        assert length > 0
        assert offset + length <= len(raw)
        return raw[offset : offset + length]

    return Archive.read(span, len(raw))


RAW = written(TREES)


def test_what_was_written_is_read_again_with_where_it_stands() -> None:
    archive = read(RAW)
    assert [member.name for member in archive.members] == sorted(TREES)
    for member in archive.members:
        assert RAW[member.offset : member.offset + member.size] == TREES[member.name]


def test_tar_reads_it() -> None:
    with tarfile.open(fileobj=io.BytesIO(RAW)) as tar:
        assert {one.name: one.mode for one in tar.getmembers()} == dict.fromkeys(sorted(TREES), 0o644)
        for name, content in TREES.items():
            found = tar.extractfile(name)
            assert found is not None
            assert found.read() == content


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("board", "board.dtb"),
        ("board.dtb", "board.dtb"),
        ("qcom/sm8350", "qcom/sm8350.dtb"),
        ("qcom/sm8350.dtb", "qcom/sm8350.dtb"),
        ("overlays/i2c.dtbo", "overlays/i2c.dtbo"),
        ("overlays/i2c", None),  # without an ending, a device tree is meant
        ("sm8350", None),
        ("qcom", None),
        ("", None),
        ("zzz", None),
        ("../board", None),
    ],
)
def test_a_member_is_found_by_its_path(path: str, name: str | None) -> None:
    found = read(RAW).find(path)
    assert (found.name if found else None) == name


names = st.lists(
    st.from_regex(r"([a-z0-9][a-z+,@._-]{0,8}/){0,3}[A-Z0-9][a-z]{0,6}\.dtbo?", fullmatch=True),
    min_size=1,
    max_size=20,
    unique=True,
)


@given(names, st.data())
def test_any_set_of_files_has_one_archive(chosen: list[str], data: st.DataObject) -> None:
    trees = {name: data.draw(st.binary(min_size=1, max_size=1500)) for name in chosen}
    if any(f"{name}/" in other for name in chosen for other in chosen):
        return  # a file that is a directory as well
    raw = written(trees)
    assert raw == written(dict(reversed(trees.items())))
    assert {one.name: raw[one.offset : one.offset + one.size] for one in read(raw).members} == trees


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "x",
            "x.dts",
            ".dtb",
            "../x.dtb",
            "/x.dtb",
            "a//x.dtb",
            "a/../x.dtb",
            ".a/x.dtb",
            "a/.x.dtb",
            "x.dtb/",
        ),
        *("a/b/c/d/x.dtb", "a b.dtb", "ä.dtb", "x.dtb\n", "x.DTB", "-x.dtb", "a\\x.dtb", "x" * 97 + ".dtb"),
    ],
)
def test_names_that_could_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="device tree"):
        devicetrees.check_member_name(name)


@pytest.mark.parametrize(
    "sizes",
    [
        [],
        [("a.dtb", 1), ("a.dtb", 1)],
        [("a.dtb", 1), ("a.dtb/x.dtb", 1)],
        [("a.dtb", 0)],
        [("a.dtb", devicetrees.MAX_MEMBER_BYTES + 1)],
        [(f"{number}.dtb", 1) for number in range(devicetrees.MAX_MEMBERS + 1)],
    ],
    ids=["none", "twice", "file and directory", "empty", "too large", "too many"],
)
def test_what_can_not_be_one_archive_is_refused(sizes: list[tuple[str, int]]) -> None:
    with pytest.raises(ValueError, match="device tree"):
        layout(sizes)


def changed(offset: int, new: bytes) -> bytes:
    return RAW[:offset] + new + RAW[offset + len(new) :]


def with_header(block: bytes) -> bytes:
    return block + b"x" + padding(1) + end()


def headed(name: str, size: int = 1) -> bytes:
    return header(Member(name, 0, size))


FORGED = {
    "empty": b"",
    "only the end": end(),
    "cut off in a header": RAW[:300],
    "cut off in a member": RAW[:2048],
    "without the end": RAW[:-1024],
    "half an end": RAW[:-512],
    "more than the end": RAW + bytes(512),
    "padded to tar's record": RAW + bytes(-len(RAW) % 10_240),
    "something in the end": RAW[:-1] + b"x",
    "something in the padding": changed(514, b"x"),
    "mode": changed(100, b"0000755"),
    "owner": changed(108, b"0000001"),
    "time": changed(136, b"00000000001"),
    "checksum": changed(148, b"000000"),
    "a link": changed(156, b"2"),
    "a directory": changed(156, b"5"),
    "GNU's magic": changed(257, b"ustar  \0"),
    "owner's name": changed(265, b"root"),
    "prefix": changed(345, b"up"),
    "name not closed": changed(9, b"\0x"),
    "size in base 256": changed(124, b"\x80" + bytes(10) + b"\x01"),
    "size negative": changed(124, b"-0000000001"),
    "size beyond the end": with_header(headed("a.dtb", 5000)),
    "size zero": headed("a.dtb", 0) + end(),
    "size enormous": with_header(headed("a.dtb", devicetrees.MAX_MEMBER_BYTES + 1)),
    "name leads out": with_header(headed("../a.dtb")),
    "name absolute": with_header(headed("/a.dtb")),
    "not sorted": with_header(headed("b.dtb"))[:1024] + with_header(headed("a.dtb")),
    "twice": with_header(headed("a.dtb"))[:1024] + with_header(headed("a.dtb")),
    "file and directory": with_header(headed("a.dtb"))[:1024] + with_header(headed("a.dtb/x.dtb")),
    "too many": b"".join(
        headed(f"{i:05}.dtb") + b"x" + padding(1) for i in range(devicetrees.MAX_MEMBERS + 1)
    )
    + end(),
}


@pytest.mark.parametrize("raw", FORGED.values(), ids=list(FORGED))
def test_every_other_form_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed, match="the archive of device trees"):
        read(raw)


def test_every_changed_byte_outside_of_contents_is_noticed() -> None:
    small = written({"a/b.dtb": b"xyz", "c.dtbo": b"z"})
    for offset in (*range(512), *range(515, 1024 + 512), *range(1537, len(small))):
        with pytest.raises(Malformed):
            read(small[:offset] + bytes([small[offset] ^ 1]) + small[offset + 1 :])


def test_a_whole_kernels_trees_are_read_in_few_large_parts() -> None:
    trees = {f"vendor{number % 50}/board-{number}.dtb": b"%d" % number * 1000 for number in range(1300)}
    raw, calls = written(trees), list[int]()

    def span(offset: int, length: int) -> bytes:
        calls.append(length)
        return raw[offset : offset + length]

    assert len(Archive.read(span, len(raw)).members) == 1300
    assert len(calls) <= len(raw) // (1 << 20) + 1


def test_a_reader_that_gives_less_is_no_endless_loop() -> None:
    with pytest.raises(Malformed, match="ends in the middle"):
        Archive.read(lambda _offset, _length: b"", 5000)
