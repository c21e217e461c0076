"""Bytes to values: reads a payload from any buffer, a record at a time.

Works on `bytes` and on mapped files alike: a payload of 1 GiB is read with the memory of one record. Takes
every payload that the source system writes, in any version of its serialiser, and what its own reader takes:
any white space, any order of members, any JSON number for a float. Members that are not known are skipped,
as there. Refused: a member twice or missing, another type, a number out of range, NaN and infinities, text
that is not Unicode, anything after the end.

Almost every record is in the writer's own form, which one regular expression recognises; all others go
through the JSON parser. Both ways accept the same values.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from p2pboot.core.digests import is_digest
from p2pboot.core.timetoke.errors import SnapshotMalformed
from p2pboot.core.timetoke.numbers import U128_MAX, read_f32
from p2pboot.core.timetoke.records import RECORD_FIELDS, TimetokeRecord

if TYPE_CHECKING:
    from mmap import mmap

MAX_VALUE_BYTES: Final = 16 * 1024 * 1024
"""One record, or one unknown member: what a hostile payload can make a reader hold in memory."""

_NUMBER_BYTES: Final = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?"
_UNSIGNED: Final = rb"(0|[1-9][0-9]{0,38}+)"
_WRITTEN_RECORD: Final = re.compile(
    rb'\{"identity":"([^"\\\x00-\x1f]*+)","balance":' + _UNSIGNED + rb',"epoch_accrual":' + _UNSIGNED
    + rb',"decay_rate":(' + _NUMBER_BYTES + rb'),"last_update":' + _UNSIGNED
    + rb',"last_sync":' + _UNSIGNED + rb',"last_decay":' + _UNSIGNED + rb"\}"
)  # fmt: skip
_BLANKS: Final = re.compile(rb"[ \t\n\r]*+")
_STRING: Final = re.compile(rb'"(?:[^"\\\x00-\x1f]++|\\.)*+"', re.DOTALL)
_SCALAR: Final = re.compile(rb"[-+0-9.eEa-zA-Z]++")
_BRACKETS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\]]', re.DOTALL)
_UNSIGNED_TEXT: Final = re.compile(r"0|[1-9][0-9]*")
_U128_DIGITS: Final = len(str(U128_MAX))


Payload: TypeAlias = "bytes | bytearray | mmap"


class SnapshotReader:
    """The records of a payload; iterate over it as often as you like.

    Args:
        payload: bytes or a mapped file; it must not change meanwhile.
    """

    def __init__(self, payload: Payload) -> None:
        self._payload = payload
        self._timetoke_root: str | None = None

    @property
    def timetoke_root(self) -> str:
        """The timetoke root that the payload states. Quick, unless it stands after the records.

        Raises:
            SnapshotMalformed: there is none.
        """
        if self._timetoke_root is None:
            deque(self._walk(records=False), maxlen=0)
        if self._timetoke_root is None:
            raise SnapshotMalformed("timetoke_root is missing")
        return self._timetoke_root

    def __iter__(self) -> Iterator[TimetokeRecord]:
        """Read record after record; what is wrong with the payload shows when the iteration gets there.

        Raises:
            SnapshotMalformed: saying what is wrong, and at which byte.
        """
        return self._walk(records=True)

    def count(self) -> int:
        """Read everything and return how many records there are.

        Raises:
            SnapshotMalformed: as the iteration.
        """
        return sum(1 for _ in self)

    def _walk(self, *, records: bool) -> Iterator[TimetokeRecord]:
        """Go over the payload's members; without `records` stop as soon as the timetoke root is known."""
        seen: set[str] = set()
        at = self._expect(b"{", self._skip_blanks(0))
        at = self._skip_blanks(at)
        while self._byte(at) != b"}" or seen:
            name, at = self._name(at)
            if name in seen:
                raise self._malformed(at, f"the member {name[:40]!r} is there twice")
            seen.add(name)
            if name == "timetoke_root":
                at = self._read_root(at)
                if not records:
                    return
            elif name == "records":
                at = yield from self._records(at)
            else:
                _, at = self._value(at)
            at = self._skip_blanks(at)
            if self._byte(at) == b"}":
                break
            at = self._skip_blanks(self._expect(b",", at))
        missing = {"timetoke_root", "records"} - seen
        if missing:
            raise self._malformed(at, f"{min(missing)} is missing")
        end = self._skip_blanks(at + 1)
        if end != len(self._payload):
            raise self._malformed(end, "there is something after the end")

    def _records(self, at: int) -> Generator[TimetokeRecord, None, int]:
        """Yield the elements of the array at a byte, and return where it ends."""
        at = self._skip_blanks(self._expect(b"[", at))
        if self._byte(at) == b"]":
            return at + 1
        payload, number = self._payload, 0
        while True:
            match = _WRITTEN_RECORD.match(payload, at, at + MAX_VALUE_BYTES)
            try:
                if match is not None:
                    record, at = _written_record(match), match.end()
                else:
                    raw, end = self._value(at)
                    record, at = decode_record(raw), end
            except (ValueError, TypeError) as error:
                raise self._malformed(at, f"record {number}: {error}") from None
            yield record
            number += 1
            at = self._skip_blanks(at)
            if self._byte(at) == b"]":
                return at + 1
            at = self._skip_blanks(self._expect(b",", at))

    def _read_root(self, at: int) -> int:
        raw, end = self._value(at)
        root = _decoded(raw, self._malformed, at)
        if not is_digest(root):
            raise self._malformed(at, "timetoke_root is not a text of 64 lowercase hex digits")
        self._timetoke_root = str(root)
        return end

    def _name(self, at: int) -> tuple[str, int]:
        if self._byte(at) != b'"':
            raise self._malformed(at, "expected the name of a member")
        raw, end = self._value(at)
        name = _decoded(raw, self._malformed, at)
        return str(name), self._skip_blanks(self._expect(b":", self._skip_blanks(end)))

    def _value(self, at: int) -> tuple[bytes, int]:
        """Cut out the JSON value that begins at a byte, without judging what is inside."""
        limit = at + MAX_VALUE_BYTES
        first = self._byte(at)
        if first in (b"{", b"["):
            end = self._closing(at, limit)
        else:
            match = (_STRING if first == b'"' else _SCALAR).match(self._payload, at, limit)
            end = None if match is None else match.end()
        if end is None:
            raise self._malformed(at, f"no JSON value, cut off, or longer than {MAX_VALUE_BYTES} bytes")
        return bytes(self._payload[at:end]), end

    def _closing(self, at: int, limit: int) -> int | None:
        depth = 0
        for match in _BRACKETS.finditer(self._payload, at, limit):
            token = self._payload[match.start() : match.start() + 1]
            if token in b"{[":
                depth += 1
            elif token in b"}]":
                depth -= 1
                if depth == 0:
                    return match.end()
        return None

    def _skip_blanks(self, at: int) -> int:
        if self._byte(at) not in (b" ", b"\n", b"\r", b"\t"):  # nearly always
            return at
        match = _BLANKS.match(self._payload, at)
        return at if match is None else match.end()

    def _expect(self, token: bytes, at: int) -> int:
        if self._byte(at) != token:
            raise self._malformed(at, f"expected {token.decode()!r}")
        return at + 1

    def _byte(self, at: int) -> bytes:
        return bytes(self._payload[at : at + 1])

    def _malformed(self, at: int, reason: str) -> SnapshotMalformed:
        return SnapshotMalformed(f"no snapshot payload: at byte {at}: {reason}")


def decode_record(raw: bytes) -> TimetokeRecord:
    """Read one record from its JSON text.

    Raises:
        ValueError, TypeError: saying what is wrong with it.
    """
    value = _parse(raw)
    if not isinstance(value, _Members):
        raise ValueError("is not an object")
    found: dict[str, Any] = {}
    for name, content in value:
        if name in found:
            raise ValueError(f"the member {name} is there twice")
        if name in _CONVERT:
            found[name] = _CONVERT[name](name, content)
    missing = [name for name in RECORD_FIELDS if name not in found]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    return TimetokeRecord(**found)


def _written_record(match: re.Match[bytes]) -> TimetokeRecord:
    identity, balance, accrual, rate, update, sync, decay = match.groups()
    return TimetokeRecord(
        identity.decode(),
        int(balance),
        int(accrual),
        read_f32(rate.decode()),
        int(update),
        int(sync),
        int(decay),
    )


class _Members(list[tuple[str, Any]]):
    """A JSON object, members in order, also those that are there twice."""


class _Number(str):
    """The text of a JSON number: its type decides how it is read."""

    __slots__ = ()


def _no_constant(_text: str) -> Any:
    raise ValueError("NaN and infinities are not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_Members, parse_int=_Number, parse_float=_Number, parse_constant=_no_constant
)


def _parse(raw: bytes) -> Any:
    try:
        return _DECODER.decode(raw.decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg}") from None


def _decoded(raw: bytes, malformed: Callable[[int, str], SnapshotMalformed], at: int) -> Any:
    try:
        return _parse(raw)
    except ValueError as error:
        raise malformed(at, str(error)) from None


def _text(name: str, value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"{name} is not a text")
    return value


def _unsigned(name: str, value: Any) -> int:
    if not isinstance(value, _Number) or _UNSIGNED_TEXT.fullmatch(value) is None:
        raise ValueError(f"{name} is not an unsigned integer")
    if len(value) > _U128_DIGITS:
        raise ValueError(f"{name} is beyond 128 bits")
    return int(value)


def _float(name: str, value: Any) -> float:
    if not isinstance(value, _Number):
        raise ValueError(f"{name} is not a number")
    return read_f32(value)


_CONVERT: Final[dict[str, Callable[[str, Any], Any]]] = {
    **dict.fromkeys(RECORD_FIELDS, _unsigned),
    "identity": _text,
    "decay_rate": _float,
}
