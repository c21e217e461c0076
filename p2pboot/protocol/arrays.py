"""Bodies that are JSON arrays: bounded in entries and bytes, on both sides."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

from p2pboot.errors import RemoteProtocolError
from p2pboot.protocol.frames import NotJson, decode_json, encode_json

T = TypeVar("T")


def encode_array(entries: Iterable[object], most: int, max_bytes: int) -> bytes:
    """The array of the first entries that fit into `most` entries and `max_bytes` bytes."""
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
