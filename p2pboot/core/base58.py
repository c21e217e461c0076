"""Base58 with Bitcoin's alphabet (base58btc), the way in which peer ids are written.

https://datatracker.ietf.org/doc/html/draft-msporny-base58-03. Its time is quadratic in the length: whoever reads
what strangers send bounds it first.
"""

from __future__ import annotations

from typing import Final

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUES: Final = {character: value for value, character in enumerate(_ALPHABET)}


def encode(data: bytes) -> str:
    """Write bytes; each zero byte at the beginning becomes a ``1``."""
    number = int.from_bytes(data)
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_ALPHABET[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(digits))


def decode(text: str) -> bytes:
    """Read bytes.

    Raises:
        ValueError: a character that is not of the alphabet.
    """
    number = 0
    for character in text:
        value = _VALUES.get(character)
        if value is None:
            raise ValueError(f"{character!r} is no base58 digit")
        number = number * 58 + value
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8)
