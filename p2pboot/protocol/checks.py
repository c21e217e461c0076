"""The checks that requests of all protocols share; a request that fails one can not be built."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from typing import Final

from p2pboot.core.digests import is_digest
from p2pboot.errors import LocalProtocolError

_PEER_ID: Final = re.compile(r"12D3KooW[1-9A-HJ-NP-Za-km-z]{44}")


class InvalidRequest(LocalProtocolError):
    """A request with a field that the protocol does not allow."""


def check_digest(value: object, field: str) -> None:
    """Refuse what is not 64 lowercase hex digits."""
    if not is_digest(value):
        raise InvalidRequest(f"{field} is not a string of 64 lowercase hex digits")


def check_integer(value: object, field: str, low: int, high: int) -> None:
    """Refuse what is not an integer in these bounds."""
    # type() and not isinstance(): True is an int in Python and in no other language
    if type(value) is not int or not low <= value <= high:
        raise InvalidRequest(f"{field} is not an integer from {low} to {high}")


def is_keyid(text: object) -> bool:
    """Whether a value is a key id as documents write it."""
    return isinstance(text, str) and text.startswith("ed25519:") and is_digest(text.removeprefix("ed25519:"))


def is_peer_id(text: object) -> bool:
    """Whether a value looks like the peer id of an Ed25519 key; whether it is one, whoever uses it finds out."""
    return isinstance(text, str) and _PEER_ID.fullmatch(text) is not None


def decode_base64(value: object) -> bytes | None:
    """What a text stands for in base64; None for what is no text or spelt otherwise than an encoder would."""
    try:
        data = b64decode(value, validate=True) if isinstance(value, str) else None
    except ValueError:
        return None
    return data if data is not None and b64encode(data).decode() == value else None
