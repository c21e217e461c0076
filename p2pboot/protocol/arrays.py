"""Bodies that are JSON arrays: bounded in entries and bytes, on both sides."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from p2pboot.errors import RemoteProtocolError
from p2pboot.protocol.frames import NotJson, decode_json, encode_json


def encode_array(entries: Iterable[object], most: int, max_bytes: int) -> bytes:
    """The first entries that fit into `most` entries and `max_bytes` bytes."""
    encoded: list[bytes] = []
    left = max_bytes - len("[]")
    for entry in islice(entries, most):
        text = encode_json(entry)
        left -= len(text) + len(",")
        if left < 0:
            break
        encoded.append(text)
    return b"[" + b",".join(encoded) + b"]"


def decode_array(body: bytearray, most: int) -> list[object]:
    """The entries of an array that a peer sent.

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
