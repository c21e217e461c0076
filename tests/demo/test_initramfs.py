from __future__ import annotations

import gzip
import stat

from hypothesis import given
from hypothesis import strategies as st

from p2pboot.demo.initramfs import INIT, Entry, build_initramfs, cpio

HEADER = 110  # bytes: the magic number and 13 fields of 8 hex digits


def read_cpio(archive: bytes) -> list[Entry]:
    """A reader of its own, written from the format's description."""
    entries: list[Entry] = []
    offset = 0
    while True:
        header = archive[offset : offset + HEADER]
        assert header[:6] == b"070701"
        fields = [int(header[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
        mode, size, major, minor, name_size = fields[1], fields[6], fields[9], fields[10], fields[11]
        start = offset + HEADER
        assert archive[start + name_size - 1] == 0
        name = archive[start : start + name_size - 1].decode()
        start += name_size + -(HEADER + name_size) % 4
        if name == "TRAILER!!!":
            assert archive[start:].strip(b"\0") == b""
            return entries
        entries.append(Entry(name, mode, archive[start : start + size], (major, minor)))
        offset = start + size + -size % 4


names = st.text("abc/é", min_size=1, max_size=9)


@given(st.lists(st.builds(Entry, names, st.just(stat.S_IFREG | 0o644), st.binary(max_size=9)), max_size=4))
def test_what_was_archived_is_read_back(entries: list[Entry]) -> None:
    assert read_cpio(cpio(entries)) == entries


def test_archive_starts_as_the_format_says() -> None:
    archive = cpio([Entry("init", stat.S_IFREG | 0o755, b"x")])
    assert (
        archive[:110]
        == (b"070701" + b"00000001" + b"000081ED" + b"00000000" * 2 + b"00000001" + b"00000000" + b"00000001")
        + b"00000000" * 4
        + b"00000005"
        + b"00000000"
    )
    assert archive[110:124] == b"init\0\0" + b"x\0\0\0" + b"0707"


def test_initramfs_holds_what_the_kernel_needs_to_start() -> None:
    entries = {entry.name: entry for entry in read_cpio(gzip.decompress(build_initramfs(b"\x7fELF")))}
    assert entries["init"] == Entry("init", stat.S_IFREG | 0o755, INIT)
    assert entries["bin/busybox"].data == b"\x7fELF"
    assert entries["bin/sh"] == Entry("bin/sh", stat.S_IFLNK | 0o777, b"busybox")
    assert entries["dev/console"] == Entry("dev/console", stat.S_IFCHR | 0o600, b"", (5, 1))
    assert stat.S_ISDIR(entries["proc"].mode)


def test_parents_come_before_their_children() -> None:
    seen: set[str] = set()
    for entry in read_cpio(gzip.decompress(build_initramfs(b""))):
        parent, _, _ = entry.name.rpartition("/")
        assert parent == "" or parent in seen
        seen.add(entry.name)


def test_same_busybox_gives_the_same_bytes() -> None:
    assert build_initramfs(b"busybox") == build_initramfs(b"busybox")
