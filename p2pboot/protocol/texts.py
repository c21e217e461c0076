"""Texts that one node says to the people at another: short, and without anything that a terminal would obey.

Both sides use this: the one to send nothing that is cut off elsewhere, the other because a stranger wrote it.
"""

from __future__ import annotations

from typing import Final

MAX_REASON: Final = 200
"""Characters of an explanation; what is longer is cut."""


def readable(value: object) -> str:
    """The printable characters among the first MAX_REASON of a text; "" for what is no text."""
    if not isinstance(value, str):
        return ""
    return "".join(character for character in value[:MAX_REASON] if character.isprintable()).strip()
