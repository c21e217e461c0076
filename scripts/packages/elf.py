"""Which processor an ELF file is for, and which shared libraries it asks for.

Enough of the format (System V ABI, chapters 4 and 5) to look at what wheels bring: 64 bits, little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from p2pboot.core.dataclass import dataclass

MAGIC = b"\x7fELF"
MACHINES = {62: "x86_64", 183: "aarch64"}  # e_machine, by the name that the kernel has for it

_HEADER = struct.Struct("<16xHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<qQ")
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB = 0, 1, 5


@dataclass(frozen=True, slots=True)
class Elf:
    """What an ELF file says of itself.

    Args:
        machine: "x86_64", "aarch64", or "e_machine 40" for any other processor.
        needed: the shared libraries that the loader has to find, by their names.
    """

    machine: str
    needed: tuple[str, ...]


def read_elf(data: bytes) -> Elf:
    """What the ELF file with this content says.

    Raises:
        ValueError: it is no ELF file of 64 bits and little-endian, or cut off.
    """
    if data[:4] != MAGIC:
        raise ValueError("not an ELF file")
    if data[4:6] != b"\x02\x01":
        raise ValueError("an ELF file, but not of 64 bits and little-endian")
    try:
        (_, machine, _, _, segments, _, _, _, size, count, *_) = _HEADER.unpack_from(data)
        headers = [_SEGMENT.unpack_from(data, segments + number * size) for number in range(count)]
        if any(offset + length > len(data) for _, _, offset, _, _, length, _, _ in headers):
            raise ValueError("it ends within a segment")
        needed = tuple(_needed(data, headers))
    except (struct.error, ValueError) as error:
        raise ValueError(f"an ELF file that is cut off or damaged ({error})") from None
    return Elf(MACHINES.get(machine, f"e_machine {machine}"), needed)


def _needed(data: bytes, headers: list[tuple[int, ...]]) -> Iterator[str]:
    entries = []
    for kind, _, offset, _, _, length, _, _ in headers:
        if kind == _PT_DYNAMIC:
            entries += list(_DYNAMIC.iter_unpack(data[offset : offset + length // 16 * 16]))
    tags = dict(reversed(entries))
    if _DT_STRTAB not in tags:
        return
    strings = _offset_of(tags[_DT_STRTAB], headers)
    for tag, value in entries:
        if tag == _DT_NULL:
            return
        if tag == _DT_NEEDED:
            start = strings + value
            yield data[start : data.index(b"\0", start)].decode("ascii")


def _offset_of(address: int, headers: list[tuple[int, ...]]) -> int:
    for kind, _, offset, start, _, length, _, _ in headers:
        if kind == _PT_LOAD and start <= address < start + length:
            return offset + address - start
    raise ValueError("its strings are in no segment")
