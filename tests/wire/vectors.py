"""The vectors, and the ways in which bytes arrive."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors/wire/wire.json").read_text())
YAMUX = {name: bytes.fromhex(frame) for name, frame in VECTORS["yamux"].items()}
TRAILING = b"what follows"


def cut(data: bytes, step: int) -> Iterator[bytes]:
    """Pieces of at most `step` bytes."""
    for at in range(0, len(data), step):
        yield data[at : at + step]


def feed(receive: Callable[[bytes], object], data: bytes, step: int) -> None:
    """Hand `data` over in pieces."""
    for piece in cut(data, step):
        receive(piece)


STEPS = [1, 7, 1 << 20]
each_step = pytest.mark.parametrize("step", STEPS, ids=["byte by byte", "in sevens", "whole"])
