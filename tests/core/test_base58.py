import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multiformats import multibase

from p2pboot.core import base58

LIBRARY = multibase.get("base58btc")


@given(st.binary(max_size=60))
@example(b"")
@example(bytes(3))
@example(b"\0\0\x01")
@example(b"Hello World!")
def test_it_equals_that_of_the_multiformats_library(data: bytes) -> None:
    text = base58.encode(data)
    assert "z" + text == LIBRARY.encode(data)
    assert base58.decode(text) == data


def test_the_vectors_of_the_draft() -> None:
    assert base58.encode(b"Hello World!") == "2NEpo7TZRRrLZSi2U"
    assert base58.encode(bytes.fromhex("0000287fb4cd")) == "11233QC4"


@pytest.mark.parametrize("text", ["0", "O", "I", "l", "12D3Koo!", "é", " 2"])
def test_what_is_no_digit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no base58 digit"):
        base58.decode(text)
