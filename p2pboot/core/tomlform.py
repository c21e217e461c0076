"""TOML that a person, or anybody, wrote: parsed, or refused in words that are about the file."""

from __future__ import annotations

from typing import Any


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML document.

    The parser calls itself as deep as the text nests, and Python limits how long a number may be: both come out as what
    is wrong with the text.

    Raises:
        ValueError: it is none; the message says why, and where if that is known.
    """
    import tomllib  # with difflib 5 ms that most commands need not pay

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("it nests too deep") from None
    except ValueError:  # the only one that is not the parser's own
        raise ValueError("it holds a number of too many digits") from None
