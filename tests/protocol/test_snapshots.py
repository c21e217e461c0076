"""Requests and replies of the snapshot protocol: what a stranger may send, and what a client takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.pieces import MAX_PIECES
from p2pboot.errors import RemoteProtocolError
from p2pboot.protocol.client import Query
from p2pboot.protocol.frames import FrameReader, encode_frame
from p2pboot.protocol.messages import BadRequest, Reply, Request, Status, encode_request, parse_request
from p2pboot.protocol.replies import Answer, Expected, ReplyReader
from p2pboot.protocol.snapshot_client import (
    SnapshotInfo,
    ask_announcement,
    ask_chunk,
    ask_chunks,
    ask_info,
    ask_snapshot_heads,
)
from p2pboot.protocol.snapshots import (
    MAX_SNAPSHOT_HEADS,
    SNAPSHOT_PROTOCOL,
    AnnouncementRequest,
    ChunkRequest,
    ChunksRequest,
    InfoRequest,
    SnapshotHead,
    SnapshotHeadsRequest,
    encode_snapshot_heads,
)
from tests.core.timetoke.samples import facts_of, payload_of

ROOT, KEYID = "0123456789abcdef" * 4, "ed25519:" + "ab" * 32
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
keyids = digests.map(lambda digest: "ed25519:" + digest)
requests = (
    st.builds(SnapshotHeadsRequest)
    | st.builds(AnnouncementRequest, keyids, digests)
    | st.builds(InfoRequest, digests)
    | st.builds(ChunksRequest, digests)
    | st.builds(ChunkRequest, digests, st.integers(0, MAX_PIECES - 1))
)


@given(requests)
def test_request_is_read_as_it_was_written(request: Request) -> None:
    reader = FrameReader()
    reader.receive_data(encode_request(request))
    payload = reader.next_frame()
    assert payload is not None
    assert parse_request(SNAPSHOT_PROTOCOL, payload) == request


@pytest.mark.parametrize(
    "members",
    [
        {"op": "manifest", "digest": ROOT},
        {"op": "info"},
        {"op": "info", "root": ROOT.upper()},
        {"op": "chunks", "root": ROOT[:-1]},
        {"op": "chunk", "root": ROOT},
        {"op": "chunk", "root": ROOT, "index": -1},
        {"op": "chunk", "root": ROOT, "index": 1.0},
        {"op": "chunk", "root": ROOT, "index": True},
        {"op": "chunk", "root": ROOT, "index": MAX_PIECES},
        {"op": "announcement", "root": ROOT},
        {"op": "announcement", "root": ROOT, "signer": "ab" * 32},
        {"op": "announcement", "root": ROOT, "signer": KEYID.upper()},
    ],
)
def test_what_is_no_request_is_a_bad_request(members: dict[str, object]) -> None:
    assert isinstance(parse_request(SNAPSHOT_PROTOCOL, json.dumps(members).encode()), BadRequest)


def test_unknown_members_are_ignored() -> None:
    raw = json.dumps({"op": "heads", "channel": 7, "more": []}).encode()
    assert parse_request(SNAPSHOT_PROTOCOL, raw) == SnapshotHeadsRequest()


def answer(query: Query[Any], header: Mapping[str, object], body: bytes = b"") -> Answer | None:
    reader = ReplyReader()
    reader.expect(Expected(query))
    reader.receive_data(encode_frame({"status": "ok", "length": len(body), **header}) + body)
    return reader.next_reply()


def test_at_most_so_many_heads_are_sent_and_taken() -> None:
    heads = [SnapshotHead(KEYID, 2**53 - 1, ROOT)] * (MAX_SNAPSHOT_HEADS + 5)
    taken = answer(ask_snapshot_heads(), {}, encode_snapshot_heads(heads))
    assert taken is not None
    assert taken.value == tuple(heads[:MAX_SNAPSHOT_HEADS])


@pytest.mark.parametrize(
    "entry",
    [
        {"signer": KEYID, "sequence": -1, "root": ROOT},
        {"signer": KEYID, "sequence": True, "root": ROOT},
        {"signer": KEYID, "sequence": 2**53, "root": ROOT},
        {"signer": "x", "sequence": 1, "root": ROOT},
        {"signer": KEYID, "sequence": 1, "root": "x"},
        {"signer": KEYID, "sequence": 1},
        [],
    ],
)
def test_a_head_that_is_none_is_the_peers_fault(entry: object) -> None:
    with pytest.raises(RemoteProtocolError):
        answer(ask_snapshot_heads(), {}, json.dumps([entry]).encode())


def test_info_is_read() -> None:
    header = {"size": 3 * 65_536 + 1, "chunk_length": 65_536, "total": 4, "signature": None}
    taken = answer(ask_info(ROOT), header)
    assert taken is not None
    assert taken.value == SnapshotInfo(3 * 65_536 + 1, 65_536, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"total": 5},
        {"total": 10**18},
        {"total": True},
        {"total": None},
        {"size": 0},
        {"size": -1},
        {"size": 2**60, "total": 2**44},
        {"size": 1.0},
        {"chunk_length": 1},
        {"chunk_length": 0},
        {"chunk_length": 1 << 30},
        {"signature": 7},
        {"signature": "x" * 1025},
    ],
)
def test_an_info_that_contradicts_itself_or_the_limits_is_refused(changes: dict[str, object]) -> None:
    header = {"size": 3 * 65_536 + 1, "chunk_length": 65_536, "total": 4, "signature": None, **changes}
    with pytest.raises(RemoteProtocolError, match=r"chunks|integer|signature|info of snapshot"):
        answer(ask_info(ROOT), header)


@pytest.mark.parametrize(
    "changes",
    [
        {"root": "00" * 32},
        {"root": None},
        {"index": 6},
        {"index": 5.0},
        {"index": True},
        {"total": 10},
        {"total": "9"},
        {"length": 99},
        {"length": 101},
        {"length": 10**15},
    ],
)
def test_a_chunks_header_that_is_another_ones_is_refused_and_the_chunk_named(
    changes: dict[str, object],
) -> None:
    query = ask_chunk(ROOT, 5, total=9, length=100)
    good: dict[str, object] = {"root": ROOT, "index": 5, "total": 9}
    taken = answer(query, good, bytes(100))
    assert taken is not None
    assert taken.value == bytes(100)
    with pytest.raises(RemoteProtocolError, match=f"chunk 5 of snapshot {ROOT}"):
        answer(query, {**good, **changes}, bytes(100))


def test_a_table_must_be_the_announced_one() -> None:
    facts = facts_of(payload_of(2000))
    query = ask_chunks(facts.root, size=facts.size, chunk_length=facts.chunk_length, digest=facts.chunk_table)
    with pytest.raises(RemoteProtocolError, match="digest"):
        answer(query, {}, bytes(32 * facts.total_chunks))
    with pytest.raises(RemoteProtocolError, match="length"):
        answer(query, {}, bytes(32 * facts.total_chunks + 32))


def test_an_announcement_is_bounded() -> None:
    with pytest.raises(RemoteProtocolError, match="length"):
        answer(ask_announcement(KEYID, ROOT), {}, bytes(4097))


def test_an_answer_with_a_header_only_is_encoded() -> None:
    assert b'"length":0,"total":4' in Reply(Status.OK, b"", {"total": 4}).encode_header()
