"""The number formats: against the source system's own serialiser, and for every float by sampling."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.timetoke.numbers import F32_MAX, f32_bits, f32_of_bits, f32_text, read_f32, round_f32
from tests.core.timetoke.samples import VECTORS

finite_bits = st.integers(0, 2**32 - 1).filter(lambda bits: (bits >> 23) & 0xFF != 0xFF)


def nearest_f32_bits(exact: Fraction) -> int:
    """The slow and certain way: bisect the positive floats, ties to even."""
    low, high = 0, f32_bits(F32_MAX)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if Fraction(f32_of_bits(middle)) <= exact else (low, middle - 1)
    below, above = (
        Fraction(f32_of_bits(low)),
        Fraction(f32_of_bits(low + 1)) if low < f32_bits(F32_MAX) else None,
    )
    if above is None or exact - below < above - exact:
        return low
    return low + 1 if above - exact < exact - below or low % 2 else low


def test_every_golden_float_is_written_and_read_as_by_the_source_system() -> None:
    lines = (VECTORS / "f32.txt").read_text().splitlines()
    assert len(lines) > 2000
    for line in lines:
        bits, text = line.split()
        assert f32_text(f32_of_bits(int(bits))) == text
        assert f32_bits(read_f32(text)) == int(bits)


@given(finite_bits)
def test_every_finite_float_keeps_its_bits(bits: int) -> None:
    text = f32_text(f32_of_bits(bits))
    assert f32_bits(read_f32(text)) == bits
    assert len(text) <= 16


@given(finite_bits)
def test_no_shorter_text_names_the_same_float(bits: int) -> None:
    digits = f32_text(abs(f32_of_bits(bits))).partition("e")[0].replace(".", "").strip("0")
    value = abs(f32_of_bits(bits))
    if len(digits) < 2:
        return
    shorter = f"{value:.{len(digits) - 2}e}"
    assert read_f32(shorter) != value


@given(st.integers(0, 2**31), st.integers(0, 5000), st.integers(-60, 30))
def test_a_decimal_is_rounded_once_to_the_nearest_float(mantissa: int, tail: int, exponent: int) -> None:
    text = f"{mantissa}.{tail:04}e{exponent}"
    exact = Fraction(text)
    if exact < Fraction(F32_MAX):
        assert f32_bits(read_f32(text)) == nearest_f32_bits(exact)


@pytest.mark.parametrize("bits", [0x3F800000, 0x3F800001, 0x00000000, 0x00000001, 0x007FFFFF, 0x4B800000])
@pytest.mark.parametrize("nudge", [-1, 0, 1])
def test_what_is_nearly_halfway_is_not_rounded_twice(bits: int, nudge: int) -> None:
    """A 64-bit float in between would end exactly halfway, and then go to the even neighbour."""
    middle = (Fraction(f32_of_bits(bits)) + Fraction(f32_of_bits(bits + 1))) / 2
    digits = middle * 10**160 + nudge
    assert digits.denominator == 1
    text = f"{digits.numerator}e-160"
    assert float(text) == float(middle)
    assert f32_bits(read_f32(text)) == nearest_f32_bits(Fraction(text))


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("0", 0),
        ("-0", 1 << 31),
        ("1", 0x3F800000),
        ("1e+13", 0x551184E7),
        ("1E13", 0x551184E7),
        ("16777217", 0x4B800000),
        ("1e-400", 0),
        ("340282346638528859811704183484516925440", 0x7F7FFFFF),
        ("340282356779733661637539395458142568447", 0x7F7FFFFF),
    ],
)
def test_any_json_number_is_read(text: str, bits: int) -> None:
    assert f32_bits(read_f32(text)) == bits


@pytest.mark.parametrize(
    "text", ["340282356779733661637539395458142568448", "1e39", "-1e39", "1e400", "9" * 5000, "1" + "0" * 400]
)
def test_what_is_beyond_the_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"range|too long"):
        read_f32(text)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e39])
def test_what_is_no_finite_f32_is_not_rounded_to_one(value: float) -> None:
    with pytest.raises(ValueError, match=r"range|finite"):
        round_f32(value)


def test_minus_zero_and_zero_have_different_texts() -> None:
    assert (f32_text(0.0), f32_text(-0.0), f32_text(0.0)) == ("0.0", "-0.0", "0.0")
