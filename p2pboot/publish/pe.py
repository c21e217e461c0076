"""The names of a PE file's sections: what tells a unified kernel image from a kernel.

A UKI is the UAPI group's `unified kernel image`: one EFI program with kernel, initramfs and command line in sections
``.linux``, ``.initrd`` and ``.cmdline``. Its name says nothing: arm64's ``vmlinuz.efi`` is a compressed kernel, which
is a PE file as well. Layout of headers: Microsoft's PE format, sections "MS-DOS Stub", "COFF File Header" and "Section
Table".
"""

from __future__ import annotations

import functools
import os
import struct
from pathlib import Path
from typing import Final

from p2pboot.store.hashes import FileIdentity

UKI_SECTIONS: Final = frozenset({".linux", ".initrd"})

_DOS_HEADER_BYTES: Final = 64
_COFF: Final = struct.Struct(
    "<4sHHIIIHH"
)  # signature, machine, number of sections, …, size of optional header
_SECTION_BYTES: Final = 40
_MAX_OFFSET: Final = 64 * 1024  # of the COFF header; stubs that print "this program…" take less than 1 KiB
_MAX_SECTIONS: Final = 96  # what Windows' loader takes; systemd's stub with all its profiles has fewer


def is_uki(path: Path) -> bool:
    """Whether a file is a unified kernel image: a PE file with both of :data:`UKI_SECTIONS`.

    Reads some KiB at most, and nothing of a file that is as it was the last time. What is no PE file is none.

    Raises:
        OSError: it can not be read.
    """
    return _is_uki(path, FileIdentity.of(path.stat()))


@functools.lru_cache(maxsize=256)  # a running node looks every few seconds
def _is_uki(path: Path, _identity: FileIdentity) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not make it wait
    try:
        return section_names(fd) >= UKI_SECTIONS
    finally:
        os.close(fd)


def section_names(fd: int) -> frozenset[str]:
    """Return the names of an open PE file's sections; none if it is no PE file, or cut off in its headers.

    Raises:
        OSError: it can not be read.
    """
    dos = os.pread(fd, _DOS_HEADER_BYTES, 0)
    if len(dos) < _DOS_HEADER_BYTES or not dos.startswith(b"MZ"):
        return frozenset()
    start = int.from_bytes(dos[60:64], "little")
    coff = os.pread(fd, _COFF.size, start) if start <= _MAX_OFFSET else b""
    if len(coff) < _COFF.size:
        return frozenset()
    signature, _machine, count, _time, _symbols, _symbol_count, optional_bytes, _flags = _COFF.unpack(coff)
    if signature != b"PE\0\0" or not 1 <= count <= _MAX_SECTIONS:
        return frozenset()
    table = os.pread(fd, count * _SECTION_BYTES, start + _COFF.size + optional_bytes)
    if len(table) < count * _SECTION_BYTES:
        return frozenset()
    return frozenset(
        table[at : at + 8].rstrip(b"\0").decode("latin-1") for at in range(0, len(table), _SECTION_BYTES)
    )
