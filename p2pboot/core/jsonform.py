"""JSON as documents use it: strict on the way in, one canonical byte string on the way out.

Signed documents are canonical JSON (RFC 8785), and readers compare *bytes*: two documents are the same when
their bytes are, never when two decoded values happen to compare equal (``True == 1 == 1.0``).

Everything here turns any defect of the input into :class:`~p2pboot.errors.Malformed`; no other exception
leaves these functions for any input bytes. Which members a document has is not known here.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any, Final, TypeVar

import msgspec
import rfc8785

from p2pboot.errors import Malformed

MAX_DEPTH: Final = 8
"""How deep objects and arrays may nest; the outermost one is level 1."""

MAX_INTEGER: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly (RFC 7493, 2.2)."""

# Category Cc, the two Unicode line separators, and the characters that re-order what a person reads
# (https://www.unicode.org/reports/tr9/): strings end in headers, iPXE scripts and on terminals.
FORBIDDEN_CHARACTERS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_MSGSPEC_PLACE: Final = re.compile(r"(?P<text>.*) - at `\$(?P<place>.*)`", re.DOTALL)
_MAX_REASON_CHARS: Final = 160
_T = TypeVar("_T")


def canonical(value: Any) -> bytes:
    """Return the RFC 8785 form of a value made of dict, list, str, int, bool and None.

    Raises:
        ValueError: it has no canonical form (an integer beyond 2^53-1, a lone surrogate, another type).
    """
    return rfc8785.dumps(value)


def decode_typed(raw: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[_T], *, place: str = "") -> _T:
    """Decode JSON into a msgspec type, cheaply: members that the type does not name are skipped unread.

    Args:
        raw: the text; its length is the caller's to bound.
        decoder: of a ``msgspec.Struct``, or a container of such; made when its module is imported. msgspec 0.22
            finds out about a type when it is first used, and two threads that do so at the same time can crash
            the process.
        place: where ``raw`` stands in its document, for messages: ``"artifacts.kernel"``.

    Raises:
        Malformed: no JSON, or another shape; the message starts with the place.
    """
    try:
        return decoder.decode(raw)
    except (ValueError, RecursionError) as error:
        raise Malformed(_explain(error, place)) from None


def decode_strict(raw: bytes, *, max_bytes: int) -> Any:
    """Decode JSON of at most ``max_bytes`` and judge every value in it.

    Refused: floats, integers beyond ±(2^53-1), more than :data:`MAX_DEPTH` levels, and control characters in
    strings and member names. Duplicate members are *not* seen here: :func:`decode_canonical` sees them.

    Raises:
        Malformed: saying what and where.
    """
    if len(raw) > max_bytes:
        raise Malformed(f"{len(raw)} bytes are more than the {max_bytes} that are allowed")
    try:
        value = msgspec.json.decode(raw)
    except (ValueError, RecursionError) as error:
        raise Malformed(_explain(error, "")) from None
    try:
        _check_value(value, 1)
    except _DefectError as defect:
        raise Malformed(f"{defect.place()}{defect.reason}") from None
    return value


def decode_canonical(raw: bytes, *, max_bytes: int) -> Any:
    """Like :func:`decode_strict`, and ``raw`` must be the canonical form of what it says.

    One comparison of bytes refuses duplicate members, white space, another order of members and every second
    spelling of a number or string.

    Raises:
        Malformed: saying what and where.
    """
    value = decode_strict(raw, max_bytes=max_bytes)
    try:
        expected = canonical(value)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"has no canonical form: {error}") from None
    if expected != raw:
        raise Malformed(not_canonical(raw, expected))
    return value


def not_canonical(raw: bytes, expected: bytes) -> str:
    """Say why (a member twice) or where bytes leave their canonical form."""
    double = _double_member(raw)
    if double is not None:
        return f"the member {shown(double)} is there twice"
    offset, end = 0, min(len(raw), len(expected))
    while offset < end:  # halving: a stranger can ask for this message, byte by byte would cost 5 ms
        middle = (offset + end + 1) // 2
        offset, end = (middle, end) if raw[:middle] == expected[:middle] else (offset, middle - 1)
    return f"not in canonical form (RFC 8785) from byte {offset} on: {raw[offset : offset + 20]!r}"


def shown(name: str) -> str:
    """A name out of a document, fit for a message: bounded, and harmless on a terminal."""
    name = name[:64]
    return name if name.isprintable() and name else repr(name)


def decode_note(raw: bytes) -> Any:
    """Decode JSON that we wrote ourselves and find on a disk, where anybody may have written it since.

    Raises:
        ValueError: it is none, nests deeper than the parser goes, or has numbers that are none.
    """

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is no number")

    try:
        return json.loads(raw, parse_constant=refuse, parse_float=lambda text: _finite(float(text)))
    except RecursionError:
        raise ValueError("it nests too deep") from None


def _finite(number: float) -> float:
    if number - number != 0:
        raise ValueError("a number is beyond all bounds")
    return number


def _double_member(raw: bytes) -> str | None:
    """Find a member that an object has twice; only a message depends on it."""

    def judge(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                found.append(name)
            seen.add(name)

    found: list[str] = []
    with contextlib.suppress(ValueError, RecursionError):
        json.loads(raw, object_pairs_hook=judge)
    return found[0] if found else None


class _DefectError(Exception):
    """A value that is refused; collects its place on the way out, so that good documents pay nothing."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str | int] = []

    def place(self) -> str:
        steps = [f"[{step}]" if isinstance(step, int) else f".{shown(step)}" for step in reversed(self.path)]
        return "".join(steps).removeprefix(".") + ": " if steps else ""


def _check_value(value: Any, level: int) -> None:
    """Judge one decoded value and what it contains; ``level`` is where it stands if it is a container."""
    kind = type(value)
    if kind is str:
        _check_text(value)
    elif kind is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise _DefectError("the integer is beyond 2^53-1")
    elif kind is float:
        raise _DefectError("a number with fraction or exponent is not allowed")
    elif kind is dict or kind is list:
        if level > MAX_DEPTH:
            raise _DefectError(f"nested more than {MAX_DEPTH} levels deep")
        _check_children(value, level + 1)


def _check_children(container: dict[str, Any] | list[Any], level: int) -> None:
    pairs: Any = enumerate(container)
    if isinstance(container, dict):
        for name in container:
            _check_text(name)
        pairs = container.items()
    for step, child in pairs:
        try:
            _check_value(child, level)
        except _DefectError as defect:
            defect.path.append(step)
            raise


def _check_text(text: str) -> None:
    found = FORBIDDEN_CHARACTERS.search(text)
    if found is not None:
        raise _DefectError(f"control character U+{ord(found[0]):04X} is not allowed")


def _explain(error: Exception, place: str) -> str:
    """Turn what msgspec says into "place: text"."""
    if isinstance(error, RecursionError):
        text = f"nested more than {MAX_DEPTH} levels deep"
    elif isinstance(error, UnicodeDecodeError):
        text = "JSON is malformed: not UTF-8"
    else:
        text = str(error)
    found = _MSGSPEC_PLACE.fullmatch(text)
    if found is not None:
        place = (place + found["place"]).removeprefix(".")
        text = found["text"]
    if not text.startswith("JSON"):
        text = text[:1].lower() + text[1:]
    if not text.isprintable() or len(text) > _MAX_REASON_CHARS:
        text = repr(text[:_MAX_REASON_CHARS])  # the name of an unknown member is in it, and is a stranger's
    return f"{place}: {text}" if place else text
