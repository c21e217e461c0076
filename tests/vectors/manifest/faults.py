"""How bad vectors are made: each has one fault, and right signatures wherever that is possible."""

import string
from collections.abc import Callable, Iterator
from typing import Any

from tests.vectors.manifest.form import (
    MINIMAL,
    A,
    Json,
    b64,
    canonical,
    manifest,
    signature,
    small,
)

Faults = Iterator[tuple[str, bytes, str]]  # name, document, words of the message that refuses it


def changed(change: Callable[[Json], object]) -> bytes:
    """A rightly signed document whose body breaks one rule."""
    found = small()
    change(found)
    return manifest(found, A)


def setting(path: str, value: Any) -> bytes:
    def change(found: Json) -> None:
        *way, last = path.split("/")
        for step in way:
            found = found[step]
        found[last] = value

    return changed(change)


def removing(path: str) -> bytes:
    def change(found: Json) -> None:
        *way, last = path.split("/")
        for step in way:
            found = found[step]
        del found[last]

    return changed(change)


def spelled(old: str, new: str) -> bytes:
    """A document in which `new` stands for `old`, in the signed bytes and outside."""
    data = canonical(small()).replace(old.encode(), new.encode("utf-8", "surrogatepass"))
    return around(data)


def around(data: bytes) -> bytes:
    tail = canonical({"signatures": [signature(A, data)], "signed": {"data": b64(data)}})[1:-1]
    at = data.index(b'"signers"')
    return data[:at] + tail + b"," + data[at:]


def outside(old: str, new: str) -> bytes:
    """A document that was changed after it was signed."""
    assert old.encode() in MINIMAL
    return MINIMAL.replace(old.encode(), new.encode(), 1)


def pad_bits(text: str) -> str:
    """Other base64 of the same bytes: the unused bits of the last letter are set."""
    letters = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    at = len(text.rstrip("=")) - 1
    return text[:at] + letters[letters.index(text[at]) + 1] + text[at + 1 :]
