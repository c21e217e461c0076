"""`/p2pboot/swarm/1`: requests, and what a client makes of replies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.changes import Change, Form
from p2pboot.core.pieces import MAX_PIECES, PieceSet
from p2pboot.errors import RemoteProtocolError
from p2pboot.protocol.client import PeerBusy, Query
from p2pboot.protocol.frames import encode_json
from p2pboot.protocol.messages import BadRequest, Reply, Status, encode_request, parse_request
from p2pboot.protocol.replies import Answer, Expected, ReplyReader
from p2pboot.protocol.swarm import (
    MAX_RUNS,
    SWARM_PROTOCOL,
    ChangesRequest,
    DealRequest,
    SomePiecesRequest,
    decode_changes,
    encode_changes,
    runs_of,
)
from p2pboot.protocol.swarm_client import Changes, ask_changes, ask_deal, ask_some_pieces

TABLE = "ab" * 32
PEER = "12D3KooWLj8jrKmisHQi49zMvj3jkmyRgSUBEHtpwKtxGLY8K44Y"


def parse(**members: Any) -> object:
    return parse_request(SWARM_PROTOCOL, encode_json(members))


def answer(query: Query[Any], reply: Reply) -> Answer:
    reader = ReplyReader()
    reader.expect(Expected(query))
    reader.receive_data(reply.encode_header() + bytes(reply.body))
    found = reader.next_reply()
    assert found is not None
    return found


@pytest.mark.parametrize(
    "request_",
    [
        ChangesRequest(TABLE, 0, 20_000),
        DealRequest(TABLE, ((0, 1), (1, 2), (9, 4)), 3),
        SomePiecesRequest(TABLE, ((MAX_PIECES - 1, 1),)),
    ],
)
def test_requests_come_through(request_: Any) -> None:
    frame = encode_request(request_)
    assert parse_request(SWARM_PROTOCOL, frame[1 if frame[0] < 128 else 2 :]) == request_


def test_the_longest_request_fits_a_frame() -> None:
    want = tuple((index * 1000 + 999, 1000 - 1) for index in range(MAX_RUNS))
    encode_request(DealRequest(TABLE, want, MAX_PIECES))


@pytest.mark.parametrize(
    "want",
    [
        None,
        "0",
        [[0]],
        [[0, 0]],
        [[0, 1, 2]],
        [[-1, 1]],
        [[0, True]],
        [[0.0, 1]],
        [[MAX_PIECES, 1]],
        [[1, MAX_PIECES]],
        [[2 * index, 1] for index in range(MAX_RUNS + 1)],
    ],
)
@pytest.mark.parametrize("op", ["deal", "pieces"])
def test_runs_that_are_none_are_bad_requests(op: str, want: object) -> None:
    assert isinstance(parse(op=op, table=TABLE, want=want, max=1), BadRequest)


@pytest.mark.parametrize(
    "members",
    [
        {"table": TABLE.upper(), "after": 0, "wait_ms": 0},
        {"table": TABLE, "after": -1, "wait_ms": 0},
        {"table": TABLE, "after": 0, "wait_ms": 20_001},
        {"table": TABLE, "after": 2**53, "wait_ms": 1},
        {"table": TABLE, "after": 0},
    ],
)
def test_changes_that_are_bad_requests(members: dict[str, object]) -> None:
    assert isinstance(parse(op="changes", **members), BadRequest)


@pytest.mark.parametrize("most", [0, MAX_PIECES + 1, None, True])
def test_how_much_a_deal_may_be_is_bounded(most: object) -> None:
    assert isinstance(parse(op="deal", table=TABLE, want=[[0, 1]], max=most), BadRequest)


sets = st.integers(1, 300).flatmap(
    lambda count: st.builds(PieceSet, st.just(count), st.integers(0, 2**count - 1))
)


@given(sets)
def test_runs_are_the_first_of_a_set(pieces: PieceSet) -> None:
    runs = runs_of(pieces)
    indices = [index for first, count in runs for index in range(first, first + count)]
    assert indices == list(pieces)[: len(indices)]
    assert len(indices) == len(pieces) or len(runs) == MAX_RUNS


changes = st.builds(
    lambda form, first, count: Change(form, range(first, first + count)),
    st.sampled_from(Form),
    st.integers(0, 65_000),
    st.integers(1, 500),
)


@given(st.lists(changes, max_size=40))
def test_changes_come_through(said: list[Change]) -> None:
    assert decode_changes(encode_changes(said), MAX_PIECES) == tuple(said)


@pytest.mark.parametrize(
    "body", ["00", "0000", "000080", "030001", "000000", "000002", "000200", "0081808001"]
)
def test_changes_of_no_form_are_the_peers_fault(body: str) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_changes(bytes.fromhex(body), 1)


def test_what_a_client_makes_of_changes() -> None:
    query = ask_changes(TABLE, 9, 0, 0)
    bitmap = Reply(Status.OK, bytes.fromhex("8080"), extra={"at": 7, "form": "bitmap"})
    assert answer(query, bitmap).value == Changes(7, PieceSet.of(9, [0, 8]))
    runs = Reply(Status.OK, bytes.fromhex("010203"), extra={"at": 8, "form": "runs"})
    assert answer(query, runs).value == Changes(8, None, (Change(Form.COMING, range(2, 5)),))
    for wrong in ({"at": -1, "form": "runs"}, {"at": 1, "form": "others"}, {"form": "bitmap"}):
        with pytest.raises(RemoteProtocolError):
            answer(query, Reply(Status.OK, b"\0\0", extra=wrong))


def length_of(first: int, count: int) -> int:
    if first + count > 3:
        raise IndexError(first)
    return 10 * count


def test_a_deal_is_told_of_before_its_body_comes() -> None:
    begun: list[tuple[int, int]] = []
    query = ask_deal(
        TABLE, ((0, 3),), 2, length_of=length_of, begun=lambda first, count: begun.append((first, count))
    )
    reader = ReplyReader()
    reader.expect(Expected(query))
    reader.receive_data(Reply(Status.OK, bytes(20), extra={"index": 1, "count": 2}).encode_header())
    assert reader.next_reply() is None
    assert begun == [(1, 2)]
    reader.receive_data(bytes(20))
    got = reader.next_reply()
    assert got is not None
    assert got.value == bytearray(20)


@pytest.mark.parametrize(
    ("index", "count", "size"),
    [(0, 3, 30), (2, 2, 20), (0, 1, 11), (-1, 1, 10), (True, 1, 10), (0, None, 10)],
)
def test_a_deal_that_is_none_is_the_peers_fault(index: object, count: object, size: int) -> None:
    begun: list[tuple[int, int]] = []
    query = ask_deal(
        TABLE, ((0, 3),), 2, length_of=length_of, begun=lambda first, count: begun.append((first, count))
    )
    with pytest.raises(RemoteProtocolError):
        answer(query, Reply(Status.OK, bytes(size), extra={"index": index, "count": count}))
    assert not begun


def test_busy_says_when_and_whom_to_ask() -> None:
    query = ask_some_pieces(TABLE, ((0, 1),), 10)
    refusal = answer(query, Reply.busy(0.3, [PEER] * 20)).refusal
    assert isinstance(refusal, PeerBusy)
    assert refusal.retry_s == 0.3
    assert refusal.ask == (PEER,) * 16


@pytest.mark.parametrize(
    ("extra", "retry_s", "ask"),
    [
        ({}, None, ()),
        ({"retry_ms": -1, "ask": "x"}, None, ()),
        ({"retry_ms": 10**9, "ask": [1, PEER, "12D3KooW", PEER + "x"]}, 60.0, (PEER,)),
        ({"retry_ms": True, "ask": [[PEER]]}, None, ()),
    ],
)
def test_what_a_busy_peer_says_is_bounded(
    extra: dict[str, object], retry_s: float | None, ask: tuple[str, ...]
) -> None:
    refusal = answer(ask_some_pieces(TABLE, ((0, 1),), 10), Reply(Status.BUSY, extra=extra)).refusal
    assert isinstance(refusal, PeerBusy)
    assert (refusal.retry_s, refusal.ask) == (retry_s, ask)
