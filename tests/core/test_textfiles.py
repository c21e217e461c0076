from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.textfiles import OtherEncoding, decode_text


@given(st.text(st.characters(exclude_characters="\r\0", codec="utf-8")))
def test_the_text_is_the_same_however_an_editor_saved_it(text: str) -> None:
    text = text.removeprefix("\ufeff")
    for saved in (text, "\ufeff" + text, text.replace("\n", "\r\n")):
        assert decode_text(saved.encode()) == text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_is_named(encoding: str) -> None:
    name = encoding[:6].upper()
    with pytest.raises(OtherEncoding, match=f"is saved as {name}"):
        decode_text("console=ttyS0".encode(encoding))


@pytest.mark.parametrize("data", [b"caf\xe9", b"\x80", b"\xef\xbb", bytes(range(256))])
def test_what_is_no_text_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        decode_text(data)


@pytest.mark.parametrize("data", [b"", b"a", b"\0", b"\0\0", b"a\0\0", b"ab\0d"])
def test_few_bytes_are_taken_for_what_they_are(data: bytes) -> None:
    assert decode_text(data).encode() == data
