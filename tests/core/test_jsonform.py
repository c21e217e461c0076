import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.jsonform import MAX_DEPTH, canonical, decode_canonical, decode_strict
from p2pboot.errors import Malformed

PLAIN_TEXT = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cf"]),
    max_size=8,
)
INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | INTEGERS | PLAIN_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PLAIN_TEXT, inner, max_size=4),
    max_leaves=12,
)


def depth(value: object) -> int:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max((depth(item) for item in inner), default=0)
    return 0


@given(DOCUMENTS)
def test_canonical_form_reads_back_as_the_same_document(value: object) -> None:
    raw = canonical(value)
    if depth(value) > MAX_DEPTH:
        with pytest.raises(Malformed, match="nested"):
            decode_canonical(raw, max_bytes=len(raw))
    else:
        assert decode_canonical(raw, max_bytes=len(raw)) == value == json.loads(raw)


@given(st.binary(max_size=40) | st.text('{}[]",:0123456789.eE-+ntfu\\ax', max_size=40).map(str.encode))
def test_no_bytes_raise_anything_but_malformed(raw: bytes) -> None:
    try:
        value = decode_canonical(raw, max_bytes=1000)
    except Malformed:
        return
    assert canonical(value) == raw


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "input data was truncated"),
        (b"\xff", "JSON is malformed"),
        (b'"\xff"', "JSON is malformed: not UTF-8"),
        (b"[" * 100_000, "nested more than 8 levels deep"),
        (b"1.5", "a number with fraction or exponent is not allowed"),
        (b'{"a":[{"b":1e3}]}', "a[0].b: a number with fraction or exponent"),
        (b'{"a":[0,9007199254740992]}', "a[1]: the integer is beyond 2^53-1"),
        (b'{"a":{"b":"\\u0007"}}', "a.b: control character U+0007"),
        (b'{"a":{"b\\n":1}}', "a: control character U+000A"),
        (b'{"a":1,"a":1}', "the member a is there twice"),
        (b'[{"\xe2\x80\xae":1,"\xe2\x80\xae":1}]', "control character U+202E"),
        (b'{"a":1,"a":2,"a":3}', "the member a is there twice"),
        (b'{"b":1,"a":2}', "not in canonical form (RFC 8785) from byte 2 on"),
        (b"[1] ", "not in canonical form (RFC 8785) from byte 3 on"),
        (b" [1]", "not in canonical form (RFC 8785) from byte 0 on"),
        (b'["\\u0041"]', "not in canonical form (RFC 8785) from byte 2 on"),
        (b"-0", "not in canonical form"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(raw: bytes, says: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode_canonical(raw, max_bytes=200_000)
    assert says in caught.value.message


def test_size_is_bounded_before_anything_is_decoded() -> None:
    assert decode_strict(b"[1]", max_bytes=3) == [1]
    with pytest.raises(Malformed, match="4 bytes are more than the 3"):
        decode_strict(b"[11]", max_bytes=3)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_eight_levels_are_allowed_and_nine_are_not(opening: str) -> None:
    closing = {"[": "]", '{"a":': "}"}[opening]

    def nested(levels: int) -> bytes:
        return (opening * levels + "1" + closing * levels).encode()

    decode_canonical(nested(8), max_bytes=1000)
    with pytest.raises(Malformed, match="nested more than 8"):
        decode_canonical(nested(9), max_bytes=1000)


def test_members_sort_by_utf_16_and_not_by_code_point() -> None:
    # RFC 8785, 3.2.3: U+1F600 begins with the unit D83D, which sorts before U+FB33.
    assert canonical({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'.encode()


def test_hostile_names_come_out_of_messages_harmless_and_bounded() -> None:
    with pytest.raises(Malformed) as caught:
        decode_strict(json.dumps({"\x1b[31m" + "x" * 10_000: 1.5}).encode(), max_bytes=20_000)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 300
