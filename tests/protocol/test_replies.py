"""What a client accepts as an answer: exactly what was asked for, whoever sends it in whatever slices."""

from __future__ import annotations

import json
import tracemalloc
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.pieces import PieceSet, PieceTable
from p2pboot.errors import RemoteProtocolError
from p2pboot.protocol.client import (
    HeadsReply,
    ManifestReply,
    PeerBusy,
    PeerLacks,
    PeerRefused,
    Query,
    ask_have,
    ask_heads,
    ask_manifest,
    ask_peers,
    ask_pieces,
    ask_read,
)
from p2pboot.protocol.frames import encode_frame, encode_json, encode_prefix
from p2pboot.protocol.messages import (
    MAX_ASKERS_RECORD,
    MAX_HEADS,
    MAX_HEADS_BYTES,
    MAX_PEER_RECORD,
    MAX_PEERS,
    MAX_READ,
    Head,
    PeersRequest,
    Reply,
    Status,
    encode_heads,
    encode_peers,
)
from p2pboot.protocol.replies import Answer, Expected, ReplyReader
from p2pboot.protocol.withheld import WithheldHead, encode_withheld

DIGEST = "0123456789abcdef" * 4
KEYID = f"ed25519:{DIGEST}"
HEAD = Head("stable", "arm64", (KEYID,), 7, DIGEST, 1234)
ENTRY: dict[str, object] = {
    "channel": "stable",
    "arch": "arm64",
    "signers": [KEYID],
    "manifest_version": 7,
    "digest": DIGEST,
    "size": 1234,
}
TABLE = PieceTable(200_000, 65_536, bytes(range(128)))
ASK_TABLE = ask_pieces(DIGEST, size=200_000, piece_length=65_536, table_digest=blake3(TABLE.raw).hexdigest())


def wire(reply: Reply) -> bytes:
    return reply.encode_header() + bytes(reply.body)


def ok(body: bytes, **extra: object) -> bytes:
    return wire(Reply(Status.OK, body, extra))


def slices(data: bytes, size: int) -> Iterator[bytes]:
    return (data[offset : offset + size] for offset in range(0, len(data), size))


def answers_in(data: bytes, *queries: Query[Any], step: int = 1 << 30) -> list[Answer]:
    reader = ReplyReader()
    for query in queries:
        reader.expect(Expected(query))
    answers = []
    for chunk in slices(data, step):
        reader.receive_data(chunk)
        while (answer := reader.next_reply()) is not None:
            answers.append(answer)
    return answers


def answer_in(data: bytes, query: Query[Any], step: int = 1 << 30) -> Any:
    (answer,) = answers_in(data, query, step=step)
    if answer.refusal is not None:
        raise answer.refusal
    return answer.value


WITHHELD = WithheldHead("stable", "arm64", "expired", "manifest version 7 expired at 2026-01-01T00:00:00Z")
BITMAP = PieceSet.from_bytes(b"\xff\x80", 9)
GOOD: dict[str, tuple[Query[Any], bytes, object]] = {
    "heads": (ask_heads(), ok(encode_heads([HEAD])), HeadsReply((HEAD,))),
    "no heads": (ask_heads("stable", "arm64"), ok(b"[]"), HeadsReply(())),
    "heads with unknown members": (
        ask_heads(),
        ok(encode_json([{**ENTRY, "more": {}}])),
        HeadsReply((HEAD,)),
    ),
    "no heads, and why": (
        ask_heads(),
        ok(b"[]", withheld=encode_withheld([WITHHELD])),
        HeadsReply((), (WITHHELD,)),
    ),
    "peers": (ask_peers(), ok(encode_peers([b"one", b"two"])), (b"one", b"two")),
    "manifest": (ask_manifest(DIGEST), ok(b"{}", detached="c2ln"), ManifestReply(b"{}", "c2ln")),
    "manifest, not detached": (ask_manifest(DIGEST), ok(b"{}", detached=None), ManifestReply(b"{}", None)),
    "read": (ask_read(DIGEST, 5, 3), ok(b"abc"), bytearray(b"abc")),
    "table": (ASK_TABLE, ok(TABLE.raw), TABLE),
    "bitmap": (ask_have(DIGEST, 9), ok(b"\xff\x80"), BITMAP),
    "unknown member of the header": (ask_read(DIGEST, 0, 1), ok(b"x", future=1.5), bytearray(b"x")),
}


@pytest.mark.parametrize("step", [1, 7, 1 << 30], ids=["byte by byte", "in sevens", "whole"])
@pytest.mark.parametrize(("query", "data", "expected"), GOOD.values(), ids=GOOD)
def test_answer_is_read_in_any_slices(query: Query[Any], data: bytes, expected: object, step: int) -> None:
    assert answer_in(data, query, step) == expected


@pytest.mark.parametrize("step", [1, 7, 1 << 30], ids=["byte by byte", "in sevens", "whole"])
def test_answers_come_in_the_order_of_the_queries(step: int) -> None:
    data = b"".join(data for _, data, _ in GOOD.values())
    answers = answers_in(data, *(query for query, _, _ in GOOD.values()), step=step)
    assert [answer.value for answer in answers] == [expected for _, _, expected in GOOD.values()]


@pytest.mark.parametrize(("query", "data", "_expected"), GOOD.values(), ids=GOOD)
def test_incomplete_answer_is_no_answer(query: Query[Any], data: bytes, _expected: object) -> None:
    assert answers_in(data[:-1], query) == []


@pytest.mark.parametrize(("query", "data", "_expected"), GOOD.values(), ids=GOOD)
def test_trailing_byte_is_a_violation(query: Query[Any], data: bytes, _expected: object) -> None:
    with pytest.raises(RemoteProtocolError, match="not asked for"):
        answers_in(data + b"\x02", query)


def test_bytes_before_any_query_are_a_violation() -> None:
    with pytest.raises(RemoteProtocolError, match="not asked for"):
        answers_in(b"\x02")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (Status.NOT_FOUND, PeerLacks),
        (Status.GONE, PeerLacks),
        (Status.BUSY, PeerBusy),
        (Status.RANGE, PeerRefused),
        (Status.BAD_REQUEST, PeerRefused),
    ],
)
def test_refusal_is_typed_and_the_stream_goes_on(status: Status, error: type[PeerRefused]) -> None:
    query = ask_read(DIGEST, 0, 1)
    refused, good = answers_in(wire(Reply(status)) + ok(b"x"), query, query)
    assert type(refused.refusal) is error
    assert refused.refusal.status is status
    assert good.value == b"x"


def test_reason_of_a_refusal_is_bounded_and_printable() -> None:
    reply = Reply(Status.BAD_REQUEST, extra={"reason": "no\x1b[31m\n" + "x" * 3000})
    with pytest.raises(PeerRefused) as caught:
        answer_in(wire(reply), ask_heads())
    assert "\x1b" not in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300


def frame(payload: bytes) -> bytes:
    return encode_prefix(len(payload)) + payload


def header(**members: object) -> bytes:
    return encode_frame(members)


BAD_HEADERS = {
    "not JSON": b"\x02{]",
    "empty frame": b"\x00",
    "array": b"\x02[]",
    "twice the same member": frame(b'{"status":"ok","length":1,"length":1}'),
    "no status": header(length=1),
    "unknown status": header(status="fine", length=1),
    "status of another type": header(status=["ok"], length=1),
    "no length": header(status="ok"),
    "length true": header(status="ok", length=True),
    "length float": header(status="ok", length=1.0),
    "length negative": header(status="ok", length=-1),
    "length too small": header(status="ok", length=0),
    "length too large": header(status="ok", length=2),
    "length huge": header(status="ok", length=2**63),
    "prefix over-long": b"\x80\x80\x01",
    "prefix not minimal": b"\x80\x00",
    "header beyond 4096": b"\x81\x20",
}


@pytest.mark.parametrize("data", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_bad_header_is_a_violation(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        answers_in(data + b" ", ask_read(DIGEST, 0, 1))


@pytest.mark.parametrize(
    "body",
    [b"{}", b"[", b"null", b"[]]", b"[1.0,", b"[" * 5000, b"\xff\xff", b"[[1],{}]", b'[{"a":1,"a":1}]'],
)
def test_body_that_is_not_the_array_is_a_violation(body: bytes) -> None:
    for query in (ask_heads(), ask_peers()):
        with pytest.raises(RemoteProtocolError):
            answers_in(ok(body), query)


BAD_MEMBERS: list[tuple[str, object]] = [
    ("channel", "../x"),
    ("channel", None),
    ("arch", "ARM"),
    ("signers", []),
    ("signers", [DIGEST]),
    ("signers", [KEYID, 7]),
    ("signers", [KEYID.upper()]),
    ("signers", KEYID),
    ("manifest_version", 0),
    ("manifest_version", True),
    ("manifest_version", 2**53),
    ("manifest_version", 1.0),
    ("digest", DIGEST.upper()),
    ("size", 0),
    ("size", 65_537),
    ("size", True),
]


@pytest.mark.parametrize(("member", "value"), BAD_MEMBERS, ids=str)
def test_head_with_a_wrong_member_is_a_violation(member: str, value: object) -> None:
    with pytest.raises(RemoteProtocolError, match="heads"):
        answers_in(ok(encode_json([{**ENTRY, member: value}])), ask_heads())


@pytest.mark.parametrize("member", ENTRY)
def test_head_without_a_member_is_a_violation(member: str) -> None:
    entry = {name: value for name, value in ENTRY.items() if name != member}
    with pytest.raises(RemoteProtocolError):
        answers_in(ok(encode_json([entry])), ask_heads())


def test_more_entries_than_allowed_are_a_violation() -> None:
    with pytest.raises(RemoteProtocolError, match="at most 256"):
        answers_in(ok(encode_json([0] * (MAX_HEADS + 1))), ask_heads())
    with pytest.raises(RemoteProtocolError, match="at most 32"):
        answers_in(ok(encode_json(["eA=="] * (MAX_PEERS + 1))), ask_peers())


@pytest.mark.parametrize("record", ["", "a", "e A==", "eA", "eA==\n", "ä", 1, None])
def test_record_that_is_not_base64_is_a_violation(record: object) -> None:
    with pytest.raises(RemoteProtocolError, match="base64"):
        answers_in(ok(encode_json([record])), ask_peers())


def test_record_beyond_its_limit_is_a_violation() -> None:
    record = b64encode(b"x" * (MAX_PEER_RECORD + 1)).decode()
    with pytest.raises(RemoteProtocolError):
        answers_in(ok(encode_json([record])), ask_peers())


def test_an_own_record_that_a_request_has_no_room_for_is_left_out() -> None:
    largest = bytes(MAX_ASKERS_RECORD)
    assert ask_peers(record=largest).request == PeersRequest(record=b64encode(largest).decode())
    assert ask_peers(record=largest + b"x").request == PeersRequest()
    assert ask_peers(record=b"").request == PeersRequest()


def test_nothing_is_allocated_for_a_body_beyond_its_limit() -> None:
    with pytest.raises(RemoteProtocolError, match="length"):
        answers_in(header(status="ok", length=MAX_HEADS_BYTES + 1), ask_heads())


@pytest.mark.parametrize("detached", [7, ["x"], "x" * 257])
def test_detached_that_is_no_short_text_is_a_violation(detached: object) -> None:
    with pytest.raises(RemoteProtocolError, match="detached"):
        answers_in(ok(b"{}", detached=detached), ask_manifest(DIGEST))


def test_table_that_the_manifest_does_not_name_is_a_violation() -> None:
    with pytest.raises(RemoteProtocolError, match="piece table"):
        answers_in(ok(TABLE.raw[::-1]), ASK_TABLE)


def test_padding_in_a_bitmap_is_a_violation() -> None:
    with pytest.raises(RemoteProtocolError, match="padding"):
        answers_in(ok(b"\xff\xc0"), ask_have(DIGEST, 9))


def test_abandoned_answer_is_read_past_and_not_kept() -> None:
    reader = ReplyReader()
    reader.expect(Expected(ask_read(DIGEST, 0, 5), abandoned=True))
    reader.expect(Expected(ask_read(DIGEST, 5, 2)))
    reader.receive_data(ok(b"hello") + ok(b"wo"))
    assert reader.next_reply() == Answer(None)
    assert reader.next_reply() == Answer(bytearray(b"wo"))
    assert reader.outstanding == 0


def test_nothing_is_allocated_for_an_abandoned_body() -> None:
    reader = ReplyReader()
    reader.expect(Expected(ask_read(DIGEST, 0, MAX_READ), abandoned=True))
    reader.receive_data(header(status="ok", length=MAX_READ))
    tracemalloc.start()
    try:
        assert reader.next_reply() is None
        assert tracemalloc.get_traced_memory()[1] < MAX_READ // 16
    finally:
        tracemalloc.stop()


def test_answer_abandoned_halfway_is_not_kept_either() -> None:
    reader = ReplyReader()
    expected = Expected(ask_read(DIGEST, 0, 5))
    reader.expect(expected)
    data = ok(b"hello")
    reader.receive_data(data[:-2])
    assert reader.next_reply() is None
    expected.abandoned = True
    reader.receive_data(data[-2:])
    assert reader.next_reply() == Answer(None)


def fill_space(reader: ReplyReader, data: bytes) -> bytes:
    """Put the beginning of `data` where the body belongs; return the rest."""
    space = reader.body_space
    assert space is not None
    space[:] = data[: len(space)]
    reader.body_filled()
    return data[len(space) :]


@pytest.mark.parametrize("early", [0, 1, 4])
def test_a_body_may_be_put_where_it_belongs(early: int) -> None:
    memory: list[bytearray] = []

    def make(length: int) -> bytearray:
        memory.append(bytearray(b"?" * length))
        return memory[-1]

    reader = ReplyReader()
    reader.expect(Expected(ask_read(DIGEST, 0, 5, make)))
    reader.expect(Expected(ask_read(DIGEST, 5, 2)))
    assert reader.body_space is None
    begun = header(status="ok", length=5) + b"hello"[:early]
    reader.receive_data(begun)
    assert reader.next_reply() is None
    assert fill_space(reader, b"hello"[early:]) == b""
    answer = reader.next_reply()
    assert answer == Answer(bytearray(b"hello"))
    assert answer.value is memory[0]
    assert reader.body_space is None
    reader.receive_data(ok(b"wo"))
    assert reader.next_reply() == Answer(bytearray(b"wo"))


def test_an_abandoned_body_has_a_place_that_is_small() -> None:
    body = bytes(200_000)
    reader = ReplyReader()
    reader.expect(Expected(ask_read(DIGEST, 0, len(body)), abandoned=True))
    reader.expect(Expected(ask_read(DIGEST, 5, 2)))
    reader.receive_data(header(status="ok", length=len(body)))
    assert reader.next_reply() is None
    rest, steps = body, 0
    while rest:
        rest, steps = fill_space(reader, rest), steps + 1
        if rest:
            assert reader.next_reply() is None
    assert steps > 2
    assert reader.next_reply() == Answer(None)
    reader.receive_data(ok(b"wo"))
    assert reader.next_reply() == Answer(bytearray(b"wo"))


def test_data_that_was_not_taken_is_kept() -> None:
    reader = ReplyReader()
    reader.expect(Expected(ask_read(DIGEST, 0, 5)))
    for chunk in slices(ok(b"hello"), 3):
        reader.receive_data(chunk)
    assert reader.next_reply() == Answer(bytearray(b"hello"))


@given(
    st.lists(
        st.binary(max_size=40)
        | st.sampled_from([header(status="ok", length=3), header(status="busy"), b"abc"])
    )
)
def test_random_bytes_raise_nothing_but_a_violation(chunks: list[bytes]) -> None:
    reader = ReplyReader()
    for _ in range(3):
        reader.expect(Expected(ask_read(DIGEST, 0, 3)))
        reader.expect(Expected(ask_manifest(DIGEST)))
    try:
        for chunk in chunks:
            reader.receive_data(chunk)
            while reader.next_reply() is not None:
                pass
    except RemoteProtocolError:
        pass


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(list(ENTRY)), inner, max_size=6)
    ),
    max_leaves=12,
)


@given(st.lists(json_values | st.fixed_dictionaries(dict.fromkeys(ENTRY, json_values)), max_size=3))
def test_random_heads_are_heads_or_a_violation(entries: list[object]) -> None:
    body = json.dumps(entries).encode()
    try:
        answer = answer_in(ok(body), ask_heads())
    except RemoteProtocolError:
        return
    assert len(answer.heads) == len(entries)
