"""Frames: how every p2pboot protocol cuts a stream into JSON objects.

Owns the length prefix, its limits and the strict reading of JSON; knows nothing of what the objects mean
(`protocol.messages`) nor where the bytes come from. `docs/protocol-wire.md` is the specification.

A frame is an unsigned varint (LEB128) and that many bytes of JSON. The varint is minimal and takes at most
two bytes, the payload at most 4096. So a reader never holds more than 4098 bytes before it knows what it is
dealing with, and every length has exactly one encoding.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final, TypeVar

from p2pboot.errors import LocalProtocolError, RemoteProtocolError

MAX_PAYLOAD: Final = 4096
MAX_PREFIX: Final = 2
_CONTINUES: Final = 0x80

T = TypeVar("T")


class NotJson(ValueError):
    """Bytes that are no JSON as this protocol reads it; the text says why, without repeating input."""


def encode_prefix(length: int) -> bytes:
    """The minimal varint of a payload length.

    Raises:
        LocalProtocolError: the length is not from 0 to MAX_PAYLOAD.
    """
    if not 0 <= length <= MAX_PAYLOAD:
        raise LocalProtocolError(f"a frame of {length} bytes is not from 0 to {MAX_PAYLOAD}")
    if length < _CONTINUES:
        return bytes((length,))
    return bytes((length & 0x7F | _CONTINUES, length >> 7))


def encode_frame(document: Mapping[str, object]) -> bytes:
    """One JSON object with its prefix, ready to be written.

    Raises:
        LocalProtocolError: the JSON takes more than MAX_PAYLOAD bytes.
    """
    payload = encode_json(document)
    return encode_prefix(len(payload)) + payload


def encode_json(value: object) -> bytes:
    """Compact JSON, members in the order given. Not canonical: nothing here is signed."""
    return _ENCODER.encode(value).encode()


def encode_array(entries: Iterable[object], most: int, max_bytes: int) -> bytes:
    """A body that is an array: the first entries that fit into `most` entries and `max_bytes` bytes."""
    return encode_json(first_fitting(entries, most, max_bytes))


def first_fitting(entries: Iterable[T], most: int, max_bytes: int) -> list[T]:
    """The first entries, at most `most`, whose array takes at most `max_bytes` bytes."""
    fitting: list[T] = []
    left = max_bytes - len("[]")
    for entry in islice(entries, most):
        left -= len(encode_json(entry)) + len(",")
        if left < 0:
            break
        fitting.append(entry)
    return fitting


class FrameReader:
    """Takes bytes as they come and gives payloads, whole and in order.

    Feed it with `receive_data`, then call `next_frame` until it returns None. It is the caller who stops
    feeding when enough frames wait: what was fed and not taken stays here.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def partial(self) -> bool:
        """A frame has begun and is not complete (once `next_frame` has returned None)."""
        return bool(self._buffer)

    @property
    def needed(self) -> int:
        """So many bytes can be fed without going beyond the frame that is being read; at least 1."""
        prefix = _read_prefix(self._buffer)
        return 1 if prefix is None else prefix[0] + prefix[1] - len(self._buffer)

    def receive_data(self, data: bytes | memoryview) -> None:
        """Add bytes from the peer."""
        self._buffer += data

    def next_frame(self) -> bytes | None:
        """The next payload without its prefix, or None when more bytes are needed.

        Raises:
            RemoteProtocolError: the prefix is over-long, not minimal or beyond MAX_PAYLOAD. What follows has
                no meaning any more, so the stream must be reset; every further call raises again.
        """
        prefix = _read_prefix(self._buffer)
        if prefix is None:
            return None
        start, length = prefix
        if len(self._buffer) < start + length:
            return None
        payload = bytes(self._buffer[start : start + length])
        del self._buffer[: start + length]
        return payload

    def receive_eof(self) -> None:
        """The peer writes no more.

        Raises:
            RemoteProtocolError: it stopped inside a frame.
        """
        if self._buffer:
            raise RemoteProtocolError(
                f"the stream ended after {len(self._buffer)} bytes of an incomplete frame"
            )


def _read_prefix(buffer: bytearray) -> tuple[int, int] | None:
    """(bytes of the prefix, length of the payload); None while the prefix is incomplete."""
    if not buffer:
        return None
    first = buffer[0]
    if first < _CONTINUES:
        return 1, first
    if len(buffer) < MAX_PREFIX:
        return None
    second = buffer[1]
    if second >= _CONTINUES:
        raise RemoteProtocolError(f"a frame's length takes more than {MAX_PREFIX} bytes")
    if second == 0:  # 0x85 0x00 is 5 again: a second spelling is a way to make two readers disagree
        raise RemoteProtocolError("a frame's length is not minimally encoded")
    length = first & 0x7F | second << 7
    if length > MAX_PAYLOAD:
        raise RemoteProtocolError(f"a frame of {length} bytes is longer than {MAX_PAYLOAD}")
    return MAX_PREFIX, length


def decode_json(raw: bytes | bytearray) -> object:
    """JSON as RFC 8259 has it, UTF-8 without a byte order mark, and no member twice.

    The caller has bounded `raw`. Stricter than `json.loads`, which takes UTF-16, NaN and repeated members;
    two implementations that take different ones of two equal members would see different requests.

    Raises:
        NotJson: anything else, also what is nested too deeply to be read.
    """
    try:
        return _DECODER.decode(raw.decode("utf-8"))
    except RecursionError:
        raise NotJson("nested too deeply") from None
    except UnicodeDecodeError:
        raise NotJson("not UTF-8") from None
    except NotJson:
        raise
    except ValueError:  # JSONDecodeError, and int()'s refusal of more than 4300 digits
        raise NotJson("not JSON") from None


def decode_object(raw: bytes | bytearray) -> dict[str, object]:
    """`decode_json` where only an object will do; raises NotJson."""
    value = decode_json(raw)
    if not isinstance(value, dict):
        raise NotJson("not a JSON object")
    return value


def decode_array(body: bytearray, most: int) -> list[object]:
    """The entries of an array that a peer sent as a body.

    Raises:
        RemoteProtocolError: no array, or more than `most` entries.
    """
    try:
        value = decode_json(body)
    except NotJson as error:
        raise RemoteProtocolError(f"the body is {error}") from None
    if not isinstance(value, list) or len(value) > most:
        raise RemoteProtocolError(f"the body is not an array of at most {most} entries")
    return value


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotJson("a member occurs twice")
    return members


def _no_constant(_text: str) -> object:
    raise NotJson("NaN and infinities are not JSON")


def _integer(text: str) -> int | float:
    """Integers as they are; `-0` is the float that it is elsewhere, so that no counter takes it for 0."""
    return -0.0 if text == "-0" else int(text)


# Made once: `json.dumps` and `json.loads` make one at each call where they are told anything.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique_members, parse_constant=_no_constant, parse_int=_integer
)
