"""Times as they are written in documents, and durations as people write them.

Inside the program a time is an int: whole seconds since 1970-01-01T00:00:00Z. In a document it is exactly
``YYYY-MM-DDTHH:MM:SSZ``: one spelling for one instant, since signed bytes must have one form.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

MAX_TIME: Final = 253_402_300_799
"""9999-12-31T23:59:59Z, the last instant that the form can state; in unix seconds."""

_TIME: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z")
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhdw])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def format_time(unix_s: int) -> str:
    """Write a time as ``YYYY-MM-DDTHH:MM:SSZ``.

    Raises:
        ValueError: before 1970 or after the year 9999.
    """
    if not 0 <= unix_s <= MAX_TIME:
        raise ValueError(f"time {unix_s} is outside 1970 to 9999")
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock_text(unix_s: float) -> str:
    """Write what a machine's clock says in the same form, to the second; the nearest time that has it.

    A clock whose battery is empty may say anything, and whoever tells of that must not fail of it.
    """
    return format_time(int(min(max(unix_s, 0), MAX_TIME)))


def parse_time(text: str) -> int:
    """Read exactly ``YYYY-MM-DDTHH:MM:SSZ``; return unix seconds.

    Raises:
        ValueError: another form, a date that does not exist, a leap second, or a year before 1970.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"time {text[:40]!r} is not of the form YYYY-MM-DDTHH:MM:SSZ")
    year, month, day, hour, minute, second = (int(part) for part in match.groups())
    if year < 1970:
        raise ValueError(f"time {text!r} is before 1970")
    try:
        return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())
    except ValueError:
        raise ValueError(f"time {text!r} does not exist") from None


def parse_duration(text: str) -> int:
    """Read a duration such as ``45s``, ``90m``, ``12h``, ``30d`` or ``2w``; return seconds, at least 1.

    Raises:
        ValueError: another form, or zero.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"duration {text[:40]!r} is not a whole number with s, m, h, d or w, such as 30d")
    seconds = int(match[1]) * _UNIT_S[match[2]]
    if seconds == 0:
        raise ValueError(f"duration {text!r} must be longer than zero")
    return seconds
