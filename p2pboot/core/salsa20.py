"""Salsa20's core, of which one block is wanted at a time: HSalsa20, and the keystream that a fingerprint is made of.

Sources: D. J. Bernstein, "Salsa20 specification" (2005) and "Extending the Salsa20 nonce" (2011). It takes a fifth of a
millisecond; what encrypts a connection is a library's.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

KEY_BYTES: Final = 32

_WORDS: Final = Struct("<16I")
_SIGMA: Final = b"expand 32-byte k"
_MASK: Final = 0xFFFFFFFF
# Which words a quarter-round takes: first down the columns, each from its diagonal on, then along the rows.
_DOUBLE_ROUND: Final = (
    *((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11)),
    *((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14)),
)
_DOUBLE_ROUNDS: Final = 10
_DERIVED: Final = (0, 5, 10, 15, 6, 7, 8, 9)  # words of HSalsa20's result


def hsalsa20(key: bytes, nonce: bytes) -> bytes:
    """Derive a key of 32 bytes from one of 32 bytes and the first 16 bytes of XSalsa20's nonce."""
    words = _rounds(_matrix(key, nonce))
    return Struct("<8I").pack(*(words[n] for n in _DERIVED))


def first_block(key: bytes, nonce: bytes) -> bytes:
    """The first 64 bytes of Salsa20's keystream for a key of 32 bytes and a nonce of 8."""
    matrix = _matrix(key, nonce + bytes(8))
    return _WORDS.pack(*((a + b) & _MASK for a, b in zip(matrix, _rounds(matrix), strict=True)))


def _matrix(key: bytes, middle: bytes) -> tuple[int, ...]:
    """Constants on the diagonal, the key's halves between them, nonce and counter in the middle."""
    if len(key) != KEY_BYTES or len(middle) != 16:
        raise ValueError("Salsa20 has keys of 32 bytes, and 16 bytes of nonce and counter")
    sigma = (_SIGMA[at : at + 4] for at in range(0, 16, 4))
    return _WORDS.unpack(next(sigma) + key[:16] + next(sigma) + middle + next(sigma) + key[16:] + next(sigma))


def _rounds(matrix: tuple[int, ...]) -> list[int]:
    x = list(matrix)
    for _ in range(_DOUBLE_ROUNDS):
        for a, b, c, d in _DOUBLE_ROUND:
            x[b] ^= _turned(x[a] + x[d], 7)
            x[c] ^= _turned(x[b] + x[a], 9)
            x[d] ^= _turned(x[c] + x[b], 13)
            x[a] ^= _turned(x[d] + x[c], 18)
    return x


def _turned(word: int, bits: int) -> int:
    word &= _MASK
    return (word << bits | word >> (32 - bits)) & _MASK
