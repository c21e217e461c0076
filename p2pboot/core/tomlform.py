"""TOML that a person, or anybody, wrote: parsed, or refused in words that are about the file."""

from __future__ import annotations

from typing import Any, Final

_TOO_MANY_DIGITS: Final = "it holds a number of too many digits"
_GIANT_BITS: Final = 4096  # 1,233 digits; Python writes up to 4,300


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML document.

    The parser calls itself as deep as the text nests, and Python limits how long a number may be: both come out as what
    is wrong with the text.

    Raises:
        ValueError: it is none; the message says why, and where if that is known.
    """
    import tomllib  # with difflib 5 ms that most commands need not pay

    try:
        document = tomllib.loads(text)
        is_giant = _holds_giant(document)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("it nests too deep") from None
    except ValueError:  # the only one that is not the parser's own
        raise ValueError(_TOO_MANY_DIGITS) from None
    if is_giant:
        raise ValueError(_TOO_MANY_DIGITS)
    return document


def _holds_giant(value: object) -> bool:
    """Whether there is a number that can not even be shown: hexadecimal ones are read whatever their length."""
    if isinstance(value, dict):
        return any(map(_holds_giant, value.values()))
    if isinstance(value, list):
        return any(map(_holds_giant, value))
    return isinstance(value, int) and value.bit_length() > _GIANT_BITS
