"""What a peer withholds: it always fits its header, and nothing that a stranger puts there breaks or fools anything."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.errors import RemoteProtocolError
from p2pboot.protocol.client import HeadsReply, ask_heads
from p2pboot.protocol.frames import MAX_PAYLOAD, FrameReader, decode_object, encode_frame
from p2pboot.protocol.messages import MAX_HEADS_BYTES, Reply, Status
from p2pboot.protocol.replies import Expected, ReplyReader
from p2pboot.protocol.withheld import MAX_REASON, MAX_WITHHELD, WithheldHead, decode_withheld, encode_withheld

ONE = WithheldHead("stable", "x86_64", "expired", "manifest version 7 expired at 2026-01-01T00:00:00Z")


def header_of(*entries: WithheldHead) -> dict[str, object]:
    """As it is on the wire, beside a body of the largest length."""
    reply = Reply(Status.OK, b"", {"length": MAX_HEADS_BYTES, "withheld": encode_withheld(entries)})
    frames = FrameReader()
    frames.receive_data(reply.encode_header())
    payload = frames.next_frame()
    assert payload is not None
    assert len(payload) <= MAX_PAYLOAD
    return decode_object(payload)


def read_heads(withheld: object) -> HeadsReply:
    """What a client makes of a reply to `heads` with this member."""
    reader = ReplyReader()
    reader.expect(Expected(ask_heads()))
    reader.receive_data(encode_frame({"status": "ok", "length": 2, "withheld": withheld}) + b"[]")
    answer = reader.next_reply()
    assert answer is not None
    assert isinstance(answer.value, HeadsReply)
    return answer.value


def test_what_is_withheld_arrives_as_it_was_sent() -> None:
    other = WithheldHead("testing", "arm64", "incomplete", "manifest version 3 is not complete here")
    assert decode_withheld(header_of(ONE, other)["withheld"]) == (ONE, other)


@pytest.mark.parametrize("text", ["x" * 5000, "ü" * 5000, "😀" * 5000, '"\\' * 5000])
def test_any_number_of_any_texts_fits_into_the_header(text: str) -> None:
    channel = "c" * 64
    entries = [WithheldHead(channel, "riscv64", "expired", text)] * 10_000
    decoded = decode_withheld(header_of(*entries)["withheld"])
    assert 1 <= len(decoded) <= MAX_WITHHELD
    assert {one.text for one in decoded} == {text[:MAX_REASON]}


GARBAGE: dict[str, object] = {
    "null": None,
    "a number": 7,
    "a text": "expired",
    "an object": {"channel": "stable"},
    "numbers": [1] * 1000,
    "nulls": [None],
    "arrays": [[[[[[]]]]]],
    "no channel": [{"arch": "arm64", "reason": "expired", "text": "x"}],
    "a path as channel": [{**asdict(ONE), "channel": "../../etc"}],
    "an arch with a line": [{**asdict(ONE), "arch": "arm64\n"}],
    "a number as reason": [{**asdict(ONE), "reason": 5}],
    "a sentence as reason": [{**asdict(ONE), "reason": "it is late"}],
    "a reason without end": [{**asdict(ONE), "reason": "x" * 33}],
}


@pytest.mark.parametrize("withheld", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_passed_over_and_the_heads_are_taken(withheld: object) -> None:
    assert read_heads(withheld) == HeadsReply((), ())


def test_reply_of_a_server_that_knows_nothing_of_it_is_taken() -> None:
    reader = ReplyReader()
    reader.expect(Expected(ask_heads()))
    reader.receive_data(encode_frame({"status": "ok", "length": 2}) + b"[]")
    answer = reader.next_reply()
    assert answer is not None
    assert answer.value == HeadsReply((), ())


def test_good_entries_among_garbage_are_kept() -> None:
    assert read_heads([7, asdict(ONE), {**asdict(ONE), "later": {"more": []}}]).withheld == (ONE, ONE)


def test_more_entries_than_allowed_are_cut() -> None:
    short = {"channel": "c", "arch": "a", "reason": "expired"}
    assert len(read_heads([short] * 60).withheld) == MAX_WITHHELD


@pytest.mark.parametrize("text", ["\x1b[2J\x1b]0;owned\x07", "a\nb\r\nc", "\u202egnihton", "\x00", "\u2028"])
def test_control_characters_of_a_text_reach_nobody(text: str) -> None:
    (one,) = read_heads([{**asdict(ONE), "text": text}]).withheld
    assert one.text.isprintable()
    assert one.text  # where nothing is left, the word for programs says it


@pytest.mark.parametrize("text", [None, 7, [], {}, ""])
def test_missing_text_is_the_word_for_programs(text: object) -> None:
    (one,) = read_heads([{**asdict(ONE), "text": text}]).withheld
    assert one.text == "expired"


def test_nesting_that_can_not_be_read_is_the_peers_fault_and_nothing_else() -> None:
    depth = 2000
    payload = b'{"status":"ok","length":2,"withheld":' + b"[" * depth + b"]" * depth + b"}"
    assert len(payload) <= MAX_PAYLOAD
    reader = ReplyReader()
    reader.expect(Expected(ask_heads()))
    reader.receive_data(bytes((len(payload) & 0x7F | 0x80, len(payload) >> 7)) + payload + b"[]")
    with pytest.raises(RemoteProtocolError, match="header of the reply to heads"):
        reader.next_reply()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["channel", "arch", "reason", "text"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values)
def test_whatever_is_sent_only_bounded_printable_texts_come_out(value: object) -> None:
    for one in decode_withheld(value):
        assert all(part.isprintable() for part in (one.channel, one.arch, one.reason, one.text))
        assert len(one.text) <= MAX_REASON
