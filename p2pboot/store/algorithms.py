"""How a store names what it holds: artifacts by their SHA-256, snapshots by their BLAKE3 root."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from blake3 import blake3

from p2pboot.core.dataclass import dataclass
from p2pboot.core.timetoke.chunks import RunningHash


@dataclass(frozen=True, slots=True)
class Algorithm:
    """The digest that is a content's name.

    Args:
        what: stands before a digest in messages.
        begin: a running digest.
    """

    what: str
    begin: Callable[[], RunningHash]


SHA256: Final = Algorithm("artifact sha256:", hashlib.sha256)
BLAKE3: Final = Algorithm("snapshot ", blake3)
