"""Evidence: two signed documents that cannot both be honest."""

from __future__ import annotations

import hashlib


def digest_of(raw: bytes) -> str:
    """What a document that is evidence is called: SHA-256 of its bytes, hex."""
    return hashlib.sha256(raw).hexdigest()
