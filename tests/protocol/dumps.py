"""Hex dumps in `docs/protocol-wire.md`: who sends, up to 16 bytes in hex, and what they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from p2pboot.wire.varint import encode_varint

PAGE = (Path(__file__).parents[2] / "docs" / "protocol-wire.md").read_text(encoding="utf-8")
LINE = re.compile(r"(client|server| {6})  (?=.{47}  )((?:[0-9a-f]{2} )*[0-9a-f]{2}) +.*")
"""Who sends, at most 16 bytes in 47 columns, and from column 57 on what they are."""


class Exchange(NamedTuple):
    client: bytes
    server: bytes


def read_dump(marker: str, check_note: Callable[[bytes, str], None]) -> Exchange:
    """What each side sends in the block behind a marker; every line's note is checked."""
    found = re.search(rf"<!-- {marker} -->\n```text\n(.*?)\n```", PAGE, re.DOTALL)
    assert found, f"no block {marker} in docs/protocol-wire.md"
    sent = {"client": b"", "server": b""}
    side = ""
    for line in found[1].splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        side = match[1].strip() or side
        raw = bytes.fromhex(match[2])
        check_note(raw, line[57:])
        sent[side] += raw
    return Exchange(sent["client"], sent["server"])


def read_values(name: str, width: int) -> dict[str, str]:
    """Label → value of a vector; a line that begins with blanks continues the one before."""
    found = re.search(rf"<!-- vector: {name} -->\n```text\n(.*?)\n```", PAGE, re.DOTALL)
    assert found, f"no vector {name} in docs/protocol-wire.md"
    values: dict[str, str] = {}
    label = ""
    for line in found[1].splitlines():
        label = line[:width].strip() or label
        values[label] = values.get(label, "") + line[width:]
    return values


def check_text_or_length(raw: bytes, note: str) -> None:
    """A note in quotes is the text of the bytes, `message of N bytes` the length that they encode; others are free."""
    if note.startswith('"'):
        assert note == f'"{raw.decode("ascii")}"'
    elif length := re.fullmatch(r"message of (\d+) bytes", note):
        assert raw == encode_varint(int(length[1]))
