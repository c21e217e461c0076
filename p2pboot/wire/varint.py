"""Unsigned varints (LEB128), as multiformats and protobuf write their lengths.

Spec: https://github.com/multiformats/unsigned-varint
"""

from __future__ import annotations

from p2pboot.errors import RemoteProtocolError

_CONTINUES = 0x80


def encode_varint(value: int) -> bytes:
    """The minimal encoding of a number that is not negative."""
    encoded = bytearray()
    while value >= _CONTINUES:
        encoded.append(value & 0x7F | _CONTINUES)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode_varint(
    data: bytes | bytearray, at: int = 0, *, max_bytes: int, minimal: bool = True
) -> tuple[int, int] | None:
    """Read the number that begins at `at`.

    Args:
        data: the bytes that are there so far.
        at: where it begins.
        max_bytes: how long it may be.
        minimal: refuse a second spelling of a number (multiformats does, protobuf does not).

    Returns:
        The number and the offset behind it; None while it is incomplete.

    Raises:
        RemoteProtocolError: it is longer than `max_bytes`, or not minimal.
    """
    value = 0
    for index, byte in enumerate(data[at : at + max_bytes]):
        value |= (byte & 0x7F) << 7 * index
        if byte < _CONTINUES:
            if minimal and index and not byte:
                raise RemoteProtocolError("a varint is not minimally encoded")
            return value, at + index + 1
    if len(data) - at >= max_bytes:
        raise RemoteProtocolError(f"a varint takes more than {max_bytes} bytes")
    return None
