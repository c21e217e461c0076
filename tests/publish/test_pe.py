"""Unified kernel images are told from kernels by their PE sections, whatever else is in the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2pboot.publish.pe import is_uki
from tests.publish.pe_files import EFI_ZBOOT, UKI, pe_file


def judge(tmp_path: Path, content: bytes) -> bool:
    path = tmp_path / "file"
    path.write_bytes(content)
    return is_uki(path)


@pytest.mark.parametrize(
    "content",
    [
        UKI,
        pe_file(".initrd", ".linux"),
        pe_file(".linux", ".initrd", lfanew=0x40),
        pe_file(".linux", ".initrd", optional=0xE0),
        pe_file(".linux", ".initrd", optional=0),
        pe_file(*[f".s{i}" for i in range(94)], ".linux", ".initrd", size=1 << 20),
    ],
    ids=["ukify", "any order", "no stub", "PE32", "no optional header", "96 sections"],
)
def test_a_pe_file_with_kernel_and_initramfs_is_a_uki(tmp_path: Path, content: bytes) -> None:
    assert judge(tmp_path, content)


@pytest.mark.parametrize(
    "content",
    [
        EFI_ZBOOT,
        pe_file(".text", ".linux"),
        pe_file(".initrd", ".text"),
        pe_file(".linux2", ".initrd"),
        pe_file("linux", "initrd"),
        pe_file(*[f".s{i}" for i in range(95)], ".linux", ".initrd"),
        UKI.replace(b"PE\0\0", b"PE\0\1"),
        b"XX" + UKI[2:],
        UKI[:0x80],
        UKI[:0x180],
        b"MZ" + bytes(300_000),
        b"MZ" + bytes(58) + b"\xff\xff\xff\xff" + UKI[64:],
        b"MZ",
        b"\x1f\x8b.linux.initrd",
    ],
)
def test_anything_else_is_none(tmp_path: Path, content: bytes) -> None:
    assert not judge(tmp_path, content)


def test_every_cut_of_a_uki_is_judged_without_an_error(tmp_path: Path) -> None:
    whole = len(UKI.rstrip(b"\x90"))
    for length in range(whole):
        assert not judge(tmp_path, UKI[:length])
    assert judge(tmp_path, UKI[:whole])


def test_a_file_that_is_as_it_was_is_not_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(UKI)
    assert is_uki(path)

    def opened(*_: object) -> int:
        raise AssertionError("opened")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", opened)
        assert is_uki(path)
    (tmp_path / "new").write_bytes(EFI_ZBOOT)
    (tmp_path / "new").rename(path)
    assert not is_uki(path)
