"""Makes ELF files, as far as a loader looks at them first, and wheels that hold such files."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

X86_64, AARCH64, ARM = 62, 183, 40  # e_machine

_BASE = 0x400000  # where the file is in memory


def elf(machine: int, *needed: str) -> bytes:
    """A shared library for a processor that needs others."""
    strings = b"\0"
    dynamic = b""
    for name in needed:
        dynamic += struct.pack("<qQ", 1, len(strings))  # DT_NEEDED
        strings += name.encode() + b"\0"
    at = 64 + 2 * 56  # behind the header and two segments
    end = at + len(dynamic) + 2 * 16
    dynamic += struct.pack("<qQqQ", 5, _BASE + end, 0, 0)  # DT_STRTAB, DT_NULL
    size = end + len(strings)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 4, 0, _BASE, _BASE, size, size, 4096)
    tables = struct.pack("<IIQQQQQQ", 2, 4, at, _BASE + at, _BASE + at, len(dynamic), len(dynamic), 8)
    return header + load + tables + dynamic + strings


def wheel(directory: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """A wheel with these files and what pip wants to find in it.

    Args:
        directory: where it is put.
        name: "some_package-1.0-py3-none-any".
        files: by their path.
    """
    package, version, *_ = name.split("-")
    metadata = f"{package}-{version}.dist-info"
    held = {
        **files,
        f"{metadata}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode(),
        f"{metadata}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {name.split('-', 2)[2]}\n".encode(),
    }
    record = f"{metadata}/RECORD"
    file = directory / f"{name}.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, data in held.items():
            archive.writestr(path, data)
        archive.writestr(record, "".join(f"{path},,\n" for path in (*held, record)))
    return file
