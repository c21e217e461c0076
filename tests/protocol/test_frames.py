"""Frames: every length has one encoding, and nothing but JSON is taken for JSON."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.errors import LocalProtocolError, RemoteProtocolError
from p2pboot.protocol.frames import (
    MAX_PAYLOAD,
    FrameReader,
    NotJson,
    decode_json,
    decode_object,
    encode_frame,
    encode_prefix,
)

# Length → prefix: both sides of one byte's end, and the largest payload.
PREFIXES = {0: "00", 1: "01", 127: "7f", 128: "8001", 300: "ac02", 4095: "ff1f", 4096: "8020"}

BROKEN_PREFIXES = {
    "non-minimal zero": "8000",
    "non-minimal five": "8500",
    "longer than 4096": "8120",
    "longest of two bytes": "ff7f",
    "three bytes": "808001",
    "three bytes, non-minimal": "808000",
    "ten bytes": "ffffffffffffffffff01",
}


@pytest.mark.parametrize(("length", "prefix"), PREFIXES.items())
def test_length_has_its_minimal_encoding(length: int, prefix: str) -> None:
    assert encode_prefix(length).hex() == prefix


@pytest.mark.parametrize("length", [-1, MAX_PAYLOAD + 1])
def test_length_beyond_the_limit_is_not_encoded(length: int) -> None:
    with pytest.raises(LocalProtocolError):
        encode_prefix(length)


def test_object_beyond_the_limit_is_not_encoded() -> None:
    encode_frame({"a": "x" * (MAX_PAYLOAD - len('{"a":""}'))})
    with pytest.raises(LocalProtocolError):
        encode_frame({"a": "x" * (MAX_PAYLOAD - len('{"a":""}') + 1)})


def feed(reader: FrameReader, data: bytes, *, step: int) -> list[bytes]:
    frames = []
    for offset in range(0, len(data), step):
        reader.receive_data(data[offset : offset + step])
        while (frame := reader.next_frame()) is not None:
            frames.append(frame)
    return frames


def frames_in(data: bytes, *, step: int) -> list[bytes]:
    reader = FrameReader()
    frames = feed(reader, data, step=step)
    assert not reader.partial
    reader.receive_eof()
    return frames


@given(
    payloads=st.lists(st.sampled_from(list(PREFIXES)).map(lambda n: b"x" * n), min_size=1, max_size=6),
    step=st.sampled_from([1, 2, 3, 4096, 1 << 20]),
)
def test_frames_come_out_as_they_went_in(payloads: list[bytes], step: int) -> None:
    data = b"".join(encode_prefix(len(payload)) + payload for payload in payloads)
    assert frames_in(data, step=step) == payloads


@pytest.mark.parametrize("prefix", BROKEN_PREFIXES.values(), ids=BROKEN_PREFIXES)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "byte by byte"])
def test_overlong_prefix_breaks_the_stream_for_good(prefix: str, whole: bool) -> None:
    data = bytes.fromhex(prefix) + b"{}" * 9
    reader = FrameReader()
    with pytest.raises(RemoteProtocolError):
        feed(reader, data, step=len(data) if whole else 1)
    reader.receive_data(b"\x02{}")
    with pytest.raises(RemoteProtocolError):
        reader.next_frame()


def test_first_byte_of_a_long_prefix_is_no_violation_yet() -> None:
    reader = FrameReader()
    reader.receive_data(b"\x80")
    assert reader.next_frame() is None
    assert reader.partial


def test_frame_before_a_broken_one_is_delivered() -> None:
    reader = FrameReader()
    reader.receive_data(b"\x02{}\x80\x00")
    assert reader.next_frame() == b"{}"
    with pytest.raises(RemoteProtocolError):
        reader.next_frame()


@pytest.mark.parametrize("data", [b"\x80", b"\x02", b"\x02{"])
def test_end_inside_a_frame_is_a_violation(data: bytes) -> None:
    reader = FrameReader()
    reader.receive_data(data)
    assert reader.next_frame() is None
    with pytest.raises(RemoteProtocolError):
        reader.receive_eof()


@given(st.binary(max_size=600))
def test_needed_never_leads_beyond_the_frame(tail: bytes) -> None:
    data = encode_prefix(len(tail)) + tail + b"body"
    reader = FrameReader()
    fed = 0
    while (frame := reader.next_frame()) is None:
        needed = reader.needed
        assert needed >= 1
        reader.receive_data(data[fed : fed + needed])
        fed += needed
    assert frame == tail
    assert fed == len(data) - len(b"body")


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_random_bytes_raise_nothing_but_a_violation(chunks: list[bytes]) -> None:
    reader = FrameReader()
    try:
        for chunk in chunks:
            reader.receive_data(chunk)
            while (frame := reader.next_frame()) is not None:
                assert len(frame) <= MAX_PAYLOAD
        reader.receive_eof()
    except RemoteProtocolError:
        pass


NOT_JSON = {
    "nothing": b"",
    "space only": b" ",
    "truncated": b'{"a":1',
    "trailing data": b"{} {}",
    "two members of one name": b'{"a":1,"a":1}',
    "the same, deep inside": b'{"a":[{"b":1,"b":2}]}',
    "NaN": b'{"a":NaN}',
    "infinity": b'{"a":-Infinity}',
    "not UTF-8": b'{"a":"\xff"}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-16 without mark": '{"a":1}'.encode("utf-16-le"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "single quotes": b"{'a':1}",
    "control character": b'{"a":"\n"}',
    "leading zero": b'{"a":01}',
    "comment": b"{}//",
    "deep arrays": b"[" * 4096,
    "deep arrays, closed": b"[" * 2048 + b"]" * 2048,
    "deep objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "an integer too long to convert": b"1" * 5000,
}


@pytest.mark.parametrize("raw", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_strict_json_is_refused(raw: bytes) -> None:
    with pytest.raises(NotJson):
        decode_json(raw)


@pytest.mark.parametrize("raw", [b"[]", b"1", b'"{}"', b"null", b"true"])
def test_only_an_object_is_an_object(raw: bytes) -> None:
    decode_json(raw)
    with pytest.raises(NotJson):
        decode_object(raw)


def test_minus_zero_is_not_the_integer_zero() -> None:
    value = decode_json(b"-0")
    assert isinstance(value, float)
    assert math.copysign(1, value) == -1
    assert type(decode_json(b"0")) is int


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_random_bytes_are_json_or_refused(raw: bytes) -> None:
    try:
        value = decode_json(raw)
    except NotJson:
        return
    assert json.loads(raw) == value
