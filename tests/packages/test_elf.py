"""ELF files say for which processor they are, and what they need."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from scripts.packages.elf import MACHINES, read_elf
from tests.packages.elves import AARCH64, ARM, X86_64, elf


def test_processor_and_libraries_are_read() -> None:
    found = read_elf(elf(AARCH64, "libc.so.6", "libm.so.6"))
    assert found.machine == "aarch64"
    assert found.needed == ("libc.so.6", "libm.so.6")
    assert read_elf(elf(X86_64)).machine == "x86_64"
    assert read_elf(elf(X86_64)).needed == ()


def test_another_processor_is_named_by_its_number() -> None:
    assert read_elf(elf(ARM)).machine == "e_machine 40"


@pytest.mark.skipif(
    platform.machine() not in MACHINES.values() or sys.platform != "linux",
    reason="programs of this machine are no ELF files of a kind that is read",
)
def test_what_runs_here_is_for_this_processor() -> None:
    found = read_elf(Path("/bin/sh").read_bytes())
    assert found.machine == platform.machine()
    assert "libc.so.6" in found.needed


def test_a_file_that_is_cut_off_is_called_so() -> None:
    whole = elf(X86_64, "libc.so.6")
    for length in range(len(whole)):
        with pytest.raises(ValueError, match="ELF file"):
            read_elf(whole[:length])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ((0, b"\x00"), "not an ELF file"),
        ((4, b"\x01"), "not of 64 bits"),
        ((5, b"\x02"), "not of 64 bits and little-endian"),
        ((64 + 16, b"\xff" * 8), "damaged"),  # where the loaded segment begins
        ((64, b"\x07"), "damaged"),  # and that it is one
    ],
)
def test_a_damaged_file_is_called_so(damage: tuple[int, bytes], said: str) -> None:
    data = bytearray(elf(X86_64, "libc.so.6"))
    data[damage[0] : damage[0] + len(damage[1])] = damage[1]
    with pytest.raises(ValueError, match=said):
        read_elf(bytes(data))
