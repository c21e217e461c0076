"""Which bytes of a representation a request asks for, and whether it needs any: RFC 9110, sections 13 and 14.

Only the sizes, the entity tag and the header fields go in; nothing here knows of files or connections.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from p2pboot.core.dataclass import dataclass

_RANGE: Final = re.compile(r"bytes=[ \t]*([0-9]{0,20})-([0-9]{0,20})[ \t]*", re.IGNORECASE)
_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')

GetList = Callable[[str], Sequence[str]]
"""Every field of that name in a request, in the order of the lines."""


@dataclass(frozen=True, slots=True)
class Whole:
    """200: all of it."""


@dataclass(frozen=True, slots=True)
class Part:
    """206: the bytes from `start` up to, but not including, `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """416: nothing of what is asked for exists."""


@dataclass(frozen=True, slots=True)
class NotModified:
    """304: the client has it already."""


@dataclass(frozen=True, slots=True)
class PreconditionFailed:
    """412: the client wanted another one."""


Selection = Whole | Part | OutOfRange | NotModified | PreconditionFailed


def select(method: str, fields: GetList, *, size: int, tag: str) -> Selection:
    """Decide what is sent of a representation.

    The order of the conditions is that of RFC 9110, section 13.2.2. There is no date to compare with: the digest
    says more than any date could.

    Args:
        method: GET or HEAD; a range is only defined for GET.
        fields: the request's header fields.
        size: of the representation, bytes, at least 1.
        tag: its strong entity tag, without the quotes.
    """
    if (wanted := fields("if-match")) and not _names(wanted, tag, weak=False):
        return PreconditionFailed()
    if (known := fields("if-none-match")) and _names(known, tag, weak=True):
        return NotModified()
    if method != "GET":
        return Whole()
    ranges = fields("range")
    if len(ranges) != 1 or not _still_the_same(fields("if-range"), tag):
        return Whole()
    return parse_range(ranges[0], size)


def parse_range(text: str, size: int) -> Whole | Part | OutOfRange:
    """Read a Range field.

    What is not understood is ignored, as section 14.2 wants it, and so are several ranges at once: no client that
    boots asks for them, and they are a known way to make a server work (RFC 9110, section 17.15).
    """
    match = _RANGE.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        return Whole()
    if not match[1]:
        wanted = int(match[2])
        return Part(max(size - wanted, 0), size) if wanted else OutOfRange()
    start = int(match[1])
    last = int(match[2]) if match[2] else size - 1
    if match[2] and last < start:
        return Whole()
    return Part(start, min(last + 1, size)) if start < size else OutOfRange()


def _still_the_same(if_range: Sequence[str], tag: str) -> bool:
    """If-Range: only a strong tag that is ours; a date never is."""
    return not if_range or (len(if_range) == 1 and if_range[0].strip() == f'"{tag}"')


def _names(fields: Sequence[str], tag: str, *, weak: bool) -> bool:
    """Whether a list of entity tags has ours in it; in the weak comparison `W/` makes no difference."""
    joined = ",".join(fields)
    if joined.strip() == "*":
        return True
    return any(match[2] == tag and (weak or not match[1]) for match in _TAG.finditer(joined))
