from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pboot.store import holes
from p2pboot.store.holes import data_ranges, is_zeros, make_zeros

BLOCK = 64 * 1024
MIB = 1024 * 1024


def disk_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512


@pytest.fixture
def garbage(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    path = tmp_path / "garbage"
    path.write_bytes(b"x" * 3 * MIB)
    fd = os.open(path, os.O_RDWR)
    yield fd, path
    os.close(fd)


RANGES = [(0, 1), (0, 3 * MIB), (BLOCK, BLOCK), (1, 2 * MIB), (3 * MIB - 7, 7), (MIB, MIB + 1)]


@pytest.mark.parametrize("supported", [True, False])
@pytest.mark.parametrize(("offset", "length"), RANGES)
def test_a_range_becomes_zeros_and_nothing_else_changes(
    garbage: tuple[int, Path], monkeypatch: pytest.MonkeyPatch, supported: bool, offset: int, length: int
) -> None:
    if not supported:
        monkeypatch.setattr(holes, "_fallocate", None)
    fd, path = garbage
    make_zeros(fd, offset, length)
    expected = b"x" * offset + bytes(length) + b"x" * (3 * MIB - offset - length)
    assert path.read_bytes() == expected


def test_zeros_take_no_room(garbage: tuple[int, Path]) -> None:
    fd, path = garbage
    make_zeros(fd, MIB, 2 * MIB)
    os.fsync(fd)
    assert disk_bytes(path) <= MIB + BLOCK


@pytest.mark.parametrize(
    ("number", "raised"), [(errno.EOPNOTSUPP, False), (errno.EINVAL, False), (errno.ENOSPC, True)]
)
def test_what_the_file_system_says_to_a_hole(
    garbage: tuple[int, Path], monkeypatch: pytest.MonkeyPatch, number: int, raised: bool
) -> None:
    def refuse(*_: int) -> int:
        ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(holes, "_fallocate", refuse)
    fd, path = garbage
    if raised:
        with pytest.raises(OSError, match=os.strerror(number)):
            make_zeros(fd, 0, MIB)
        return
    make_zeros(fd, 0, MIB)
    assert path.read_bytes() == bytes(MIB) + b"x" * 2 * MIB


@pytest.mark.parametrize(
    "layout", ["", "x", "0", "0x", "x0", "0x0", "x0x", "00xx00x0"], ids=lambda layout: layout or "empty"
)
def test_what_is_not_in_a_data_range_is_zeros(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        for kind in layout:
            if kind == "x":
                file.write(b"x" * MIB)
            else:
                file.seek(MIB, os.SEEK_CUR)
        file.truncate(len(layout) * MIB)
    fd = os.open(path, os.O_RDONLY)
    ranges = list(data_ranges(fd, len(layout) * MIB))
    os.close(fd)
    rebuilt = bytearray(len(layout) * MIB)
    content = path.read_bytes()
    for offset, length in ranges:
        rebuilt[offset : offset + length] = content[offset : offset + length]
    assert bytes(rebuilt) == content
    assert sum(length for _, length in ranges) == layout.count("x") * MIB


def test_a_file_system_that_does_not_tell_has_no_holes(
    garbage: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "lseek", refuse)
    assert list(data_ranges(garbage[0], 3 * MIB)) == [(0, 3 * MIB)]


@pytest.mark.parametrize("size", [0, 1, 4096, MIB])
def test_zeros_are_told_from_anything_else(size: int) -> None:
    assert is_zeros(bytes(size))
    assert not is_zeros(bytes(size) + b"x")
    assert not is_zeros(b"x" + bytes(size))
