"""The numbers of a payload: unsigned integers of up to 128 bits, and 32-bit floats in their shortest form.

A float is written as serde_json 1.0.145 writes an `f32` (crate ryu, `pretty::format32`): the shortest decimal
digits that identify it among 32-bit floats, the closest one to the exact value. For `0.DIGITS · 10^point`:

======================  =================================  ========================
``-5 <= point <= 0``     ``0.`` zeros digits               ``0.000001``
``1 <= point <= 13``     digits with a point, or ``.0``    ``123456.79``, ``100.0``
otherwise                one digit, the rest, exponent     ``1e-7``, ``1.2345e20``
======================  =================================  ========================

A reader takes any JSON number for a float and rounds its exact value once, to the nearest 32-bit float, ties
to even. Going through a 64-bit float rounds twice, and is wrong when the first rounding ends exactly between
two 32-bit floats: that case is recognised and decided on the exact value.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from functools import lru_cache
from typing import Final

U64_MAX: Final = 2**64 - 1
U128_MAX: Final = 2**128 - 1
F32_MAX: Final = (2 - 2**-23) * 2.0**127
MAX_NUMBER_CHARS: Final = 4096
"""Longest number text that is read: the exact decimal value of any 64-bit float takes at most 1,077."""

_F32: Final = struct.Struct("<f")
_U32: Final = struct.Struct("<I")
_F64: Final = struct.Struct("<d")
_U64: Final = struct.Struct("<Q")
_SIGN: Final = 1 << 31
_FRACTION: Final = (1 << 23) - 1
_EXPONENT: Final = 0xFF << 23
_HALFWAY_MASK: Final = (1 << 28) - 1  # a value halfway between two f32 has at most 25 significant bits of 53
_OVERFLOW: Final = 2.0**128 - 2.0**103  # halfway between the largest f32 and the next power of two
_LAST_PLAIN: Final = 13
_MAX_DIGITS: Final = 9  # always identify a 32-bit float
_SAFE_DIGITS: Final = 6  # FLT_DIG: no two decimals of so many digits are one normal f32


def round_f32(value: float) -> float:
    """Return the 32-bit float nearest to a finite float.

    Raises:
        ValueError: NaN, an infinity, or beyond the range of 32-bit floats.
    """
    try:
        rounded: float = _F32.unpack(_F32.pack(value))[0]
    except OverflowError:
        raise ValueError(f"{value!r} is beyond the range of a 32-bit float") from None
    if not math.isfinite(rounded):
        raise ValueError(f"{value!r} is not a finite number")
    return rounded


def f32_bits(value: float) -> int:
    """Return the IEEE 754 bits of a 32-bit float."""
    bits: int = _U32.unpack(_F32.pack(value))[0]
    return bits


def f32_of_bits(bits: int) -> float:
    """Return the 32-bit float with these IEEE 754 bits."""
    value: float = _F32.unpack(_U32.pack(bits))[0]
    return value


def read_f32(text: str) -> float:
    """Return the 32-bit float nearest to a JSON number.

    Args:
        text: a number by RFC 8259, section 6; the caller has checked its form.

    Raises:
        ValueError: the text is too long, or its value beyond the range.
    """
    if len(text) > MAX_NUMBER_CHARS:
        raise ValueError(f"a number of {len(text)} characters is too long")
    wide = float(text)
    try:
        rounded: float = _F32.unpack(_F32.pack(wide))[0]
    except OverflowError:
        rounded = math.inf
    if rounded != wide and not _U64.unpack(_F64.pack(wide))[0] & _HALFWAY_MASK and not math.isinf(wide):
        rounded = _decide_halfway(text, wide, rounded)
    if math.isinf(rounded):
        raise ValueError("the number is beyond the range of a 32-bit float")
    return rounded


def f32_text(value: float) -> str:
    """Write a finite 32-bit float; `value` must be one exactly (see `round_f32`)."""
    return _text_of_bits(f32_bits(value))  # by bits: 0.0 and -0.0 are equal, and have different texts


def _decide_halfway(text: str, wide: float, rounded: float) -> float:
    """Correct `rounded` where `wide` lies halfway between two 32-bit floats and the exact value does not."""
    exact, middle = Fraction(text), Fraction(wide)
    if exact == middle:
        return rounded
    if abs(wide) == _OVERFLOW:
        return math.copysign(F32_MAX if abs(exact) < abs(middle) else math.inf, wide)
    if math.isinf(rounded):
        return rounded
    lower, upper = sorted((rounded, _neighbour(rounded, up=wide > rounded)))
    if Fraction(lower) + Fraction(upper) != 2 * middle:
        return rounded
    return upper if exact > middle else lower


def _neighbour(value: float, *, up: bool) -> float:
    bits = f32_bits(value)
    if value == 0:
        return f32_of_bits(1 if up else _SIGN | 1)
    away_from_zero = up == (value > 0)
    return f32_of_bits(bits + 1 if away_from_zero else bits - 1)


@lru_cache(maxsize=16_384)
def _text_of_bits(bits: int) -> str:
    value = f32_of_bits(bits)
    sign = "-" if bits & _SIGN else ""
    if value == 0:
        return f"{sign}0.0"
    digits, point = _shortest(bits & ~_SIGN)
    return sign + _place_point(digits, point)


def _place_point(digits: str, point: int) -> str:
    """Write 0.DIGITS · 10^point."""
    if 0 < point <= _LAST_PLAIN:
        return f"{digits[:point].ljust(point, '0')}.{digits[point:] or '0'}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1}"


def _shortest(bits: int) -> tuple[str, int]:
    """Return the digits and the position of the point for the bits of a positive 32-bit float."""
    value = f32_of_bits(bits)
    first = _SAFE_DIGITS if bits & _EXPONENT else 1
    # Below a power of two the next float is only half as far away: the nearest decimal of so many digits may
    # then miss while the next one above still hits.
    power_of_two = not bits & _FRACTION
    for count in range(first, _MAX_DIGITS):
        nearest = _scientific(value, count)
        for digits, point in (nearest, _next_up(*nearest)) if power_of_two else (nearest,):
            if read_f32(f"0.{digits}e{point}") == value:
                return digits.rstrip("0"), point
    digits, point = _scientific(value, _MAX_DIGITS)
    return digits.rstrip("0"), point


def _scientific(value: float, count: int) -> tuple[str, int]:
    mantissa, _, exponent = f"{value:.{count - 1}e}".partition("e")
    return mantissa.replace(".", ""), int(exponent) + 1


def _next_up(digits: str, point: int) -> tuple[str, int]:
    following = str(int(digits) + 1)
    return following, point + len(following) - len(digits)
