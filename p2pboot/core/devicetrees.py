"""Device trees by the hundred: one archive for all of them, because a manifest has room for a few dozen artifacts.

The archive is a POSIX ustar file that any ``tar`` reads, in the one form that its content allows: members sorted by
name, plain files only, mode 0644, no owner, no time, two empty blocks at the end and nothing else. So whoever has the
files can make the archive again, byte for byte, and its hash says that a directory is complete. ``docs/protocol.md``
has the form, ``docs/adr/0007-device-trees.md`` the reasons.

Member names are paths below ``dtbs/``: ``board.dtb``, ``qcom/sm8250-mtp.dtb``, ``overlays/i2c.dtbo``.

Pure: bytes come through a function that reads a range, so a file and a store of checked pieces serve alike.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Final, Self

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import Malformed

ReadRange = Callable[[int, int], bytes]
"""Returns ``length`` bytes from ``offset`` on: called with (offset, length), always inside of the archive."""

MAX_MEMBERS: Final = 8192
"""About six times what arm64's kernel installs."""
MAX_MEMBER_BYTES: Final = 16 * 1024 * 1024
"""A device tree has 20 to 200 KiB; this bounds what is read into memory at once."""
MAX_NAME_BYTES: Final = 100
"""The name field of a ustar header; longer names would need a second field, and have never been seen."""
MAX_DIRECTORIES: Final = 3

ENDINGS: Final = (".dtb", ".dtbo")
_SEGMENT: Final = r"[A-Za-z0-9][A-Za-z0-9._,+@-]*"
_NAME: Final = re.compile(rf"(?:{_SEGMENT}/){{0,{MAX_DIRECTORIES}}}{_SEGMENT}\.dtbo?")

_BLOCK: Final = 512
_END: Final = bytes(2 * _BLOCK)
_WINDOW: Final = 1024 * 1024
"""What is read at once while looking for headers: device trees are small, and checked pieces are of this length."""


@dataclass(frozen=True, slots=True)
class Member:
    """One device tree in an archive.

    Args:
        name: path below ``dtbs/``, with its ending.
        offset: of its content in the archive, bytes.
        size: of its content, 1 to :data:`MAX_MEMBER_BYTES` bytes.
    """

    name: str
    offset: int
    size: int


def check_member_name(name: str) -> str:
    """Return ``name`` if a device tree may be called so below ``dtbs/``.

    Raises:
        ValueError: one line for a person.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"device tree name {name[:120]!r} is not allowed: letters, digits and . _ , + @ -, in at most"
            f" {MAX_DIRECTORIES} directories, ending in .dtb or .dtbo"
        )
    if len(name) > MAX_NAME_BYTES:
        raise ValueError(f"device tree name {name[:120]!r} is longer than {MAX_NAME_BYTES} characters")
    return name


def check_member_names(names: Iterable[str]) -> None:
    """Refuse names that can not be in one archive.

    Raises:
        ValueError: too many, none, one that is not allowed, one twice, or a directory that is called like a file.
    """
    ordered = sorted(names)
    if not 1 <= len(ordered) <= MAX_MEMBERS:
        raise ValueError(f"{len(ordered)} device trees, must be 1 to {MAX_MEMBERS}")
    for name in ordered:
        check_member_name(name)
    for before, name in pairwise(ordered):
        if before == name:
            raise ValueError(f"device tree {name} is there twice")
    files = set(ordered)
    for name in ordered:
        for parent in _parents(name):
            if parent in files:
                raise ValueError(f"{parent} is a device tree and the directory of {name}")


def _parents(name: str) -> list[str]:
    steps = name.split("/")
    return ["/".join(steps[:count]) for count in range(1, len(steps))]


def layout(sizes: Iterable[tuple[str, int]]) -> tuple[Member, ...]:
    """Return where each member stands in the archive of these files.

    Args:
        sizes: (name, bytes) of each, in any order.

    Raises:
        ValueError: :func:`check_member_names`, or a size that is not from 1 to :data:`MAX_MEMBER_BYTES`.
    """
    ordered = sorted(sizes)
    check_member_names(name for name, _ in ordered)
    members, offset = [], 0
    for name, size in ordered:
        if not 1 <= size <= MAX_MEMBER_BYTES:
            raise ValueError(f"device tree {name} has {size} bytes, must be 1 to {MAX_MEMBER_BYTES}")
        members.append(Member(name, offset + _BLOCK, size))
        offset += _BLOCK + size + len(padding(size))
    return tuple(members)


def archive_bytes(members: Iterable[Member]) -> int:
    """Return the size of the archive of these members, from :func:`layout`."""
    return max(member.offset + member.size + len(padding(member.size)) for member in members) + len(_END)


def header(member: Member) -> bytes:
    """Return the 512 bytes before a member's content (POSIX.1-1988, ustar)."""
    block = b"".join(
        (
            member.name.encode("ascii").ljust(100, b"\0"),
            b"0000644\0",  # mode
            b"0000000\0" * 2,  # owner, group
            b"%011o\0" % member.size,
            b"%011o\0" % 0,  # time
            b" " * 8,  # the checksum, as it counts
            b"0",  # a plain file
            bytes(100),
            b"ustar\x0000",
            bytes(64),  # names of owner and group
            b"0000000\0" * 2,  # device
            bytes(155 + 12),
        )
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padding(size: int) -> bytes:
    """Return the zeros after a content of ``size`` bytes."""
    return bytes(-size % _BLOCK)


def end() -> bytes:
    """Return what follows the last member."""
    return _END


@dataclass(frozen=True, slots=True)
class Archive:
    """What is in an archive of device trees, which has exactly the one form that its content allows.

    Args:
        members: sorted by name.
    """

    members: tuple[Member, ...]

    @classmethod
    def read(cls, read: ReadRange, size: int) -> Self:
        """Read the headers of an archive, and the zeros between members; contents are passed over.

        Args:
            read: gives ranges of its bytes, which are verified already: what is wrong here was signed so.
            size: of the archive, bytes.

        Raises:
            Malformed: it has not exactly the form that :func:`header` and :func:`layout` give.
        """
        window = _Window(read, size)
        found: list[tuple[str, int]] = []
        offset = 0
        while (block := window.bytes(offset, _BLOCK)) != _END[:_BLOCK]:
            if len(found) == MAX_MEMBERS:
                raise Malformed(f"the archive of device trees has more than {MAX_MEMBERS} members")
            member = _member(block, offset)
            gap = window.bytes(member.offset + member.size, -member.size % _BLOCK)
            if gap != padding(member.size):
                raise Malformed(f"the archive of device trees has something between members, at {offset}")
            found.append((member.name, member.size))
            offset = member.offset + member.size + len(gap)
        try:
            members = layout(found)
        except ValueError as error:
            raise Malformed(f"the archive of device trees: {error}") from None
        if [member.name for member in members] != [name for name, _ in found]:
            raise Malformed("the archive of device trees is not sorted")
        if size != offset + len(_END) or window.bytes(offset, len(_END)) != _END:
            raise Malformed("the archive of device trees does not end where it should")
        return cls(members)

    def find(self, path: str) -> Member | None:
        """Return the device tree of this path below ``dtbs/``, with or without its ending; None if there is none.

        Without an ending ``.dtb`` is meant: that is how an artifact of its own would be called.
        """
        return self._named(path) or self._named(f"{path}.dtb")

    def _named(self, name: str) -> Member | None:
        index = bisect_left(self.members, name, key=lambda member: member.name)
        found = self.members[index : index + 1]
        return found[0] if found and found[0].name == name else None


def _member(block: bytes, offset: int) -> Member:
    """Read a header by writing it again: so there is no second spelling of anything in it."""
    try:
        name = block[:100].rstrip(b"\0").decode("ascii")
        size = int(block[124:135].decode("ascii"), 8)
        member = Member(name, offset + _BLOCK, size)
        check_member_name(name)
    except ValueError:
        raise Malformed(f"the archive of device trees has no header of a device tree at {offset}") from None
    if not 1 <= size <= MAX_MEMBER_BYTES or header(member) != block:
        raise Malformed(f"the archive of device trees has no header of a device tree at {offset}")
    return member


class _Window:
    """Reads an archive in large aligned parts, however small the parts are that are looked at."""

    def __init__(self, read: ReadRange, size: int) -> None:
        self._read = read
        self._size = size
        self._start = 0
        self._held = b""

    def bytes(self, offset: int, length: int) -> bytes:
        """Return these bytes.

        Raises:
            Malformed: the archive ends before.
        """
        if offset + length > self._size:
            raise Malformed("the archive of device trees ends in the middle of a member")
        got = b""
        while len(got) < length:
            at = offset + len(got)
            if not self._start <= at < self._start + len(self._held):
                self._start = at - at % _WINDOW
                self._held = self._read(self._start, min(_WINDOW, self._size - self._start))
                if not self._held:
                    raise Malformed("the archive of device trees ends in the middle of a member")
            got += self._held[at - self._start : at - self._start + length - len(got)]
        return got
