"""The page's script, stylesheet and icon: files of their own, so that the page needs nothing inline.

A page names each with a part of its digest, which the answer passes over like every query: after an upgrade a browser
asks anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

from p2pboot.core.dataclass import dataclass

CACHE: Final = "max-age=300"
_TYPES: Final = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: its bytes, their SHA-256 in hex, and its media type."""

    body: bytes
    digest: str
    media_type: str


@cache
def assets() -> Mapping[str, Asset]:
    """All of them, by name; read once. Blocks."""
    static = files("p2pboot.gateway.admin") / "static"
    found = {name: (static / name).read_bytes() for name in _TYPES}
    return {name: Asset(body, hashlib.sha256(body).hexdigest(), _TYPES[name]) for name, body in found.items()}
