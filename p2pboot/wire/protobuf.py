"""As much of protobuf's wire format as Noise's payload and identify need.

Spec: https://protobuf.dev/programming-guides/encoding/. Callers bound the length of what is read here, and take
the fields that they know; unknown ones are passed over, as protobuf wants it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from p2pboot.errors import RemoteProtocolError
from p2pboot.wire.varint import decode_varint, encode_varint

_VARINT: Final = 0
_BYTES: Final = 2
_FIXED: Final = {1: 8, 5: 4}  # wire type to length
_MAX_VARINT: Final = 10


def number_field(number: int, value: int) -> bytes:
    """One field that holds a number (or an enum's)."""
    return encode_varint(number << 3 | _VARINT) + encode_varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """One field that holds bytes, a text or a message."""
    return encode_varint(number << 3 | _BYTES) + encode_varint(len(value)) + value


def read_fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Go through a message's fields in the order in which they are written.

    Returns:
        Field number, and an int for a varint or bytes for anything else.

    Raises:
        RemoteProtocolError: it is no message, or ends within a field.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire_type == _BYTES:
            length, at = _varint(message, at)
        elif wire_type in _FIXED:
            length = _FIXED[wire_type]
        else:
            raise RemoteProtocolError(f"a protobuf field has wire type {wire_type}")
        if length > len(message) - at:
            raise RemoteProtocolError("a protobuf message ends within a field")
        yield number, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    found = decode_varint(message, at, max_bytes=_MAX_VARINT, minimal=False)
    if found is None:
        raise RemoteProtocolError("a protobuf message ends within a field")
    return found


def expect_bytes(value: int | bytes, what: str) -> bytes:
    """Return a field's bytes.

    Raises:
        RemoteProtocolError: it holds a number.
    """
    if isinstance(value, int):
        raise RemoteProtocolError(f"{what} is a number instead of bytes")
    return value


def expect_text(value: int | bytes, what: str, max_bytes: int) -> str:
    """Return a field's text.

    Raises:
        RemoteProtocolError: it holds a number, is longer than `max_bytes`, or not UTF-8.
    """
    raw = expect_bytes(value, what)
    if len(raw) > max_bytes:
        raise RemoteProtocolError(f"{what} of {len(raw)} bytes is longer than {max_bytes}")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError(f"{what} is not UTF-8") from None
