"""Requests as strangers send them, and replies as they go out."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.errors import LocalProtocolError
from p2pboot.protocol.frames import FrameReader
from p2pboot.protocol.messages import (
    ARTIFACT_PROTOCOL,
    MAX_ASKERS_RECORD,
    MAX_COUNTER,
    MAX_HEADS,
    MAX_HEADS_BYTES,
    MAX_PEER_RECORD,
    MAX_PEERS,
    MAX_PEERS_BYTES,
    MAX_READ,
    SYNC_PROTOCOL,
    BadRequest,
    FreshnessRequest,
    HaveRequest,
    Head,
    HeadsRequest,
    ManifestRequest,
    PeersRequest,
    PiecesRequest,
    ReadRequest,
    Reply,
    Request,
    RootsRequest,
    Status,
    YanksRequest,
    encode_heads,
    encode_peers,
    encode_request,
    manifest_topic,
    parse_request,
)

DIGEST = "0123456789abcdef" * 4
PROTOCOLS = (SYNC_PROTOCOL, ARTIFACT_PROTOCOL)

digests = st.text("0123456789abcdef", min_size=64, max_size=64)
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)
channels = st.none() | names
archs = st.sampled_from([None, "x86_64", "arm64", "riscv64"])
sync_requests = (
    st.builds(HeadsRequest, channels, archs)
    | st.builds(
        PeersRequest,
        channels,
        archs,
        st.none() | digests,
        st.none() | st.binary(min_size=1, max_size=200).map(lambda record: b64encode(record).decode()),
        channels,
    )
    | st.builds(ManifestRequest, digests)
)
artifact_requests = (
    st.builds(ReadRequest, digests, st.integers(0, MAX_COUNTER), st.integers(1, MAX_READ))
    | st.builds(PiecesRequest, digests, st.none() | digests)
    | st.builds(HaveRequest, digests, st.none() | digests)
)
requests = sync_requests.map(lambda r: (SYNC_PROTOCOL, r)) | artifact_requests.map(
    lambda r: (ARTIFACT_PROTOCOL, r)
)


def sync(**members: object) -> Request | BadRequest:
    return parse_request(SYNC_PROTOCOL, json.dumps(members).encode())


def read(**changes: object) -> Request | BadRequest:
    members: dict[str, object] = {"op": "read", "sha256": DIGEST, "offset": 0, "length": 1, **changes}
    return parse_request(ARTIFACT_PROTOCOL, json.dumps(members).encode())


@given(requests)
def test_request_is_read_as_it_was_written(pair: tuple[str, Request]) -> None:
    protocol, request = pair
    reader = FrameReader()
    reader.receive_data(encode_request(request))
    payload = reader.next_frame()
    assert payload is not None
    assert not reader.partial
    assert parse_request(protocol, payload) == request


def test_absent_filters_are_not_written() -> None:
    assert encode_request(HeadsRequest())[1:] == b'{"op":"heads"}'


@pytest.mark.parametrize("op", ["heads", "peers"])
def test_a_filter_that_is_null_is_absent(op: str) -> None:
    request = sync(op=op, channel=None, arch=None)
    assert isinstance(request, HeadsRequest | PeersRequest)
    assert request == sync(op=op)


def test_unknown_members_are_ignored() -> None:
    assert sync(op="heads", future={"deep": [1.5, True]}) == HeadsRequest()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"heads", b"{}", b'{"op":null}', b'{"op":["heads"]}', b'{"op":"HEADS"}']
)
def test_what_names_no_operation_is_a_bad_request(protocol: str, payload: bytes) -> None:
    assert isinstance(parse_request(protocol, payload), BadRequest)


def test_operations_belong_to_their_protocol() -> None:
    assert isinstance(sync(op="read", sha256=DIGEST, offset=0, length=1), BadRequest)
    assert isinstance(parse_request(ARTIFACT_PROTOCOL, b'{"op":"heads"}'), BadRequest)


NOT_DIGESTS = {
    "upper case": DIGEST.upper(),
    "one upper-case digit": "A" + DIGEST[1:],
    "too short": DIGEST[1:],
    "too long": DIGEST + "0",
    "with its algorithm": "sha256:" + DIGEST,
    "trailing newline": DIGEST + "\n",
    "wide digits": "\uff11" * 64,
    "empty": "",
    "number": 7,
    "null": None,
    "list": [DIGEST],
}


@pytest.mark.parametrize("value", NOT_DIGESTS.values(), ids=NOT_DIGESTS)
def test_digest_is_64_lowercase_hex_digits(value: object) -> None:
    assert isinstance(sync(op="manifest", digest=value), BadRequest)
    assert isinstance(read(sha256=value), BadRequest)


@pytest.mark.parametrize("op", ["pieces", "have"])
def test_a_table_may_be_named_and_null_is_absent(op: str) -> None:
    def of(**members: object) -> Request | BadRequest:
        return parse_request(ARTIFACT_PROTOCOL, json.dumps({"op": op, "sha256": DIGEST, **members}).encode())

    named = of(table="f" * 64)
    assert isinstance(named, PiecesRequest | HaveRequest)
    assert named.table == "f" * 64
    assert of() == of(table=None)
    assert of() != named
    wrong = {name: value for name, value in NOT_DIGESTS.items() if name != "null"}
    assert all(isinstance(of(table=value), BadRequest) for value in wrong.values())


NOT_COUNTS = [-1, True, False, 0.0, 1.0, 1e3, "1", None, [1], {}, MAX_COUNTER + 1, 10**30]


@pytest.mark.parametrize("field", ["offset", "length"])
@pytest.mark.parametrize("value", NOT_COUNTS, ids=str)
def test_numbers_are_plain_integers_in_range(field: str, value: object) -> None:
    assert isinstance(read(**{field: value}), BadRequest)


def test_minus_zero_is_no_offset() -> None:
    raw = b'{"op":"read","sha256":"%s","offset":-0,"length":1}' % DIGEST.encode()
    assert isinstance(parse_request(ARTIFACT_PROTOCOL, raw), BadRequest)
    assert isinstance(parse_request(ARTIFACT_PROTOCOL, raw.replace(b"-0", b"0")), ReadRequest)


@pytest.mark.parametrize(
    ("length", "allowed"), [(0, False), (1, True), (MAX_READ, True), (MAX_READ + 1, False)]
)
def test_length_of_a_read_is_bounded(length: int, *, allowed: bool) -> None:
    assert isinstance(read(length=length), ReadRequest if allowed else BadRequest)


@pytest.mark.parametrize("missing", ["sha256", "offset", "length"])
def test_every_member_of_a_read_is_required(missing: str) -> None:
    members = {"op": "read", "sha256": DIGEST, "offset": 0, "length": 1}
    del members[missing]
    assert isinstance(parse_request(ARTIFACT_PROTOCOL, json.dumps(members).encode()), BadRequest)


@pytest.mark.parametrize(
    "channel", ["", "Stable", "../x", "-x", "a" * 65, "stable\n", "ä", 7, True, ["stable"]]
)
def test_channel_is_a_name(channel: object) -> None:
    assert isinstance(sync(op="heads", channel=channel), BadRequest)
    assert isinstance(sync(op="peers", channel=channel), BadRequest)


@pytest.mark.parametrize("arch", ["aarch64", "amd64", "X86_64", "mips64", "", 64, ["arm64"], {"arm64": 1}])
def test_arch_is_one_of_the_canonical_names(arch: object) -> None:
    assert isinstance(sync(op="heads", arch=arch), BadRequest)
    assert isinstance(sync(op="peers", arch=arch), BadRequest)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        *(("digest", value) for value in ("", DIGEST[1:], DIGEST.upper(), 7, True, [DIGEST])),
        *(("record", value) for value in ("", "eA", "eA==\n", "e A==", "eB==", "ä", 7, True, ["eA=="])),
        ("record", b64encode(bytes(MAX_PEER_RECORD + 1)).decode()),
        *(("site", value) for value in ("", "Rack 7", "-x", "a" * 65, 7, True, ["rack"])),
    ],
)
def test_what_an_asker_for_peers_says_of_itself_is_well_formed(member: str, value: object) -> None:
    assert isinstance(sync(op="peers", **{member: value}), BadRequest)


def test_the_record_of_an_asker_comes_in_base64() -> None:
    request = sync(op="peers", digest=DIGEST, record="b25l", site="rack-7")
    assert request == PeersRequest(None, None, DIGEST, "b25l", "rack-7")
    assert isinstance(request, PeersRequest)
    assert request.record_bytes == b"one"
    assert PeersRequest().record_bytes is None


def test_a_request_for_peers_has_room_for_the_longest_record_whatever_else_is_in_it() -> None:
    name, record = "a" * 64, b64encode(bytes(MAX_ASKERS_RECORD)).decode()
    frame = encode_request(PeersRequest(name, "riscv64", DIGEST, record, name))
    assert parse_request(SYNC_PROTOCOL, frame[2:]) == PeersRequest(name, "riscv64", DIGEST, record, name)


def test_reason_repeats_nothing_of_the_input() -> None:
    request = sync(op="heads", channel="<script>")
    assert isinstance(request, BadRequest)
    assert "script" not in request.reason


def test_invalid_request_can_not_be_built() -> None:
    with pytest.raises(LocalProtocolError):
        ReadRequest(DIGEST, 0, 0)
    with pytest.raises(LocalProtocolError):
        HeadsRequest(arch="aarch64")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=70) | digests,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    protocol=st.sampled_from(PROTOCOLS),
    members=st.fixed_dictionaries(
        {"op": st.sampled_from(["heads", "manifest", "peers", "read", "pieces", "have"]) | json_values},
        optional=dict.fromkeys(
            ("channel", "arch", "digest", "record", "site", "sha256", "offset", "length"), json_values
        ),
    ),
)
def test_any_object_is_a_request_or_a_bad_one(protocol: str, members: dict[str, object]) -> None:
    request = parse_request(protocol, json.dumps(members).encode())
    if not isinstance(request, BadRequest):
        assert request.op == members["op"]


@given(protocol=st.sampled_from(PROTOCOLS), payload=st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_bad_one(protocol: str, payload: bytes) -> None:
    assert parse_request(protocol, payload) is not None


def header_of(reply: Reply) -> object:
    reader = FrameReader()
    reader.receive_data(reply.encode_header())
    payload = reader.next_frame()
    assert payload is not None
    return json.loads(payload)


def test_only_ok_has_a_length() -> None:
    assert header_of(Reply(Status.OK, b"12345")) == {"status": "ok", "length": 5}
    assert header_of(Reply(Status.NOT_FOUND)) == {"status": "not_found"}


def test_detached_signature_travels_in_the_header() -> None:
    assert header_of(Reply(Status.OK, b"{}", {"detached": None})) == {
        "status": "ok",
        "length": 2,
        "detached": None,
    }


def head(number: int, signers: int = 1) -> Head:
    keyids = tuple(f"ed25519:{DIGEST}" for _ in range(signers))
    return Head("a" * 64, "x86_64", keyids, MAX_COUNTER - number, DIGEST, 65_536)


def test_heads_are_cut_at_their_number() -> None:
    body = encode_heads(head(number) for number in range(MAX_HEADS + 1))
    assert len(json.loads(body)) == MAX_HEADS
    assert len(body) <= MAX_HEADS_BYTES


def test_heads_are_cut_at_their_size() -> None:
    body = encode_heads(head(number, signers=100) for number in range(MAX_HEADS))
    assert 1 < len(json.loads(body)) < MAX_HEADS
    assert MAX_HEADS_BYTES - 10_000 < len(body) <= MAX_HEADS_BYTES


def test_peer_records_are_cut_at_number_and_size() -> None:
    largest = b"x" * MAX_PEER_RECORD
    body = encode_peers([b"", largest + b"x", *[largest] * (MAX_PEERS + 1)])
    assert len(json.loads(body)) == MAX_PEERS
    assert len(body) <= MAX_PEERS_BYTES


def test_topic_names_channel_and_arch() -> None:
    assert manifest_topic("stable", "arm64") == "/p2pboot/1/manifests/stable/arm64"


def test_roots_are_asked_for_from_the_beginning_where_no_version_is_said() -> None:
    assert (
        sync(op="roots", fleet=DIGEST)
        == sync(op="roots", fleet=DIGEST, after=None)
        == RootsRequest(DIGEST, 0)
    )
    for after in (-1, True, "1", 1.5):
        assert isinstance(sync(op="roots", fleet=DIGEST, after=after), BadRequest)
    yanks = sync(op="yanks", channel="stable", arch="x86_64", after=DIGEST)
    assert yanks == YanksRequest("stable", "x86_64", DIGEST)
    for after in (1, "", DIGEST.upper()):
        assert isinstance(sync(op="yanks", channel="stable", arch="x86_64", after=after), BadRequest)
    for op in ("freshness", "yanks"):
        assert isinstance(sync(op=op, channel="stable", arch="x86_64"), FreshnessRequest | YanksRequest)
        assert isinstance(sync(op=op, arch="x86_64"), BadRequest)
        assert isinstance(sync(op=op, channel="stable", arch="aarch64"), BadRequest)
