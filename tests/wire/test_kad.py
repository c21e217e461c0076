"""Kademlia's messages: as others write them, and whatever else may come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.errors import LocalProtocolError, RemoteProtocolError
from p2pboot.wire.kad import (
    MAX_ADDRESSES,
    MAX_CLOSER,
    MAX_FRAME,
    MAX_FURTHER,
    MAX_PROVIDERS,
    KadPeer,
    Message,
    MessageReader,
    MessageType,
    Record,
    decode_message,
    encode_message,
)
from p2pboot.wire.protobuf import bytes_field, number_field
from p2pboot.wire.varint import decode_varint, encode_varint
from tests.wire.vectors import VECTORS, each_step, feed

STOCK = {name: bytes.fromhex(text) for name, text in VECTORS["kad"].items()}
KEY = b"/phase/stable/arm64/manifest"
URL = b"http://192.0.2.7:8080/phase/stable/arm64/manifest.json"
NEAR = KadPeer(
    bytes.fromhex("002408011220") + b"\7" * 32,
    (bytes.fromhex("040a000001060fa1"), bytes.fromhex("29fd" + "00" * 14 + "01060fa1")),
)
FAR = KadPeer(bytes.fromhex("002408011220") + b"\10" * 32)
OURS = {
    "put": Message(MessageType.PUT_VALUE, KEY, Record(KEY, URL)),
    "get": Message(MessageType.GET_VALUE, KEY),
    "value": Message(MessageType.GET_VALUE, KEY, Record(KEY, URL), closer=(NEAR, FAR)),
    "add provider": Message(MessageType.ADD_PROVIDER, KEY, providers=(NEAR,)),
    "providers": Message(MessageType.GET_PROVIDERS, KEY, closer=(FAR,), providers=(NEAR,)),
    "find": Message(MessageType.FIND_NODE, NEAR.id),
    "found": Message(MessageType.FIND_NODE, closer=(NEAR, FAR)),
    "ping": Message(MessageType.PING),
}

peers = st.builds(
    KadPeer, st.binary(max_size=40), st.lists(st.binary(max_size=30), max_size=MAX_ADDRESSES).map(tuple)
)
records = st.builds(Record, st.binary(max_size=40), st.binary(max_size=200), st.integers(0, (1 << 32) - 1))
messages = st.builds(
    Message,
    st.sampled_from(MessageType),
    st.binary(max_size=128),
    st.none() | records,
    st.lists(records, max_size=5).map(tuple),
    st.lists(peers, max_size=5).map(tuple),
    st.lists(peers, max_size=5).map(tuple),
)


def without_length(encoded: bytes) -> bytes:
    found = decode_varint(encoded, max_bytes=3)
    assert found is not None
    length, begin = found
    assert len(encoded) == begin + length
    return encoded[begin:]


@pytest.mark.parametrize("name", OURS)
def test_messages_are_those_that_others_write(name: str) -> None:
    assert without_length(encode_message(OURS[name])) == STOCK[name]
    assert decode_message(STOCK[name]) == OURS[name]


def test_what_only_others_send_is_passed_over() -> None:
    assert decode_message(STOCK["foreign"]) == Message(
        MessageType.GET_VALUE, KEY, Record(KEY, URL), closer=(KadPeer(NEAR.id),)
    )


def test_further_values_are_no_business_of_who_does_not_know_them() -> None:
    from libp2p.kad_dht.pb.kademlia_pb2 import Message as StockMessage

    ours = Message(MessageType.GET_VALUE, KEY, Record(KEY, URL, ttl_s=60), further=(Record(KEY, b"x"),))
    raw = without_length(encode_message(ours))
    stock = StockMessage()
    stock.ParseFromString(raw)
    assert (stock.type, stock.key, stock.record.key, stock.record.value) == (1, KEY, KEY, URL)
    assert decode_message(raw) == ours
    assert [record.value for record in ours.records] == [URL, b"x"]


@given(messages)
def test_what_is_written_is_read_again(message: Message) -> None:
    assert decode_message(without_length(encode_message(message))) == message


@given(st.binary(max_size=300))
def test_whatever_comes_is_read_or_refused(raw: bytes) -> None:
    try:
        decode_message(raw)
    except RemoteProtocolError:
        return


@each_step
def test_messages_are_cut_out_of_what_arrives(step: int) -> None:
    reader, found = MessageReader(), []

    def receive(data: bytes) -> None:
        reader.receive(data)
        while (message := reader.next()) is not None:
            found.append(message)

    feed(receive, b"".join(map(encode_message, OURS.values())) + b"\x05\x08", step)
    assert found == list(OURS.values())
    assert not reader.is_between


@pytest.mark.parametrize("length", [MAX_FRAME + 1, 4 << 20, 1 << 60])
def test_a_long_message_is_refused_by_its_length(length: int) -> None:
    reader = MessageReader()
    reader.receive(encode_varint(length))
    with pytest.raises(RemoteProtocolError):
        reader.next()


def test_the_longest_message_is_read() -> None:
    raw = bytes_field(2, b"k" * (MAX_FRAME - 4))
    assert len(raw) == MAX_FRAME
    reader = MessageReader()
    reader.receive(encode_varint(len(raw)) + raw[:-1])
    assert reader.next() is None
    reader.receive(raw[-1:])
    found = reader.next()
    assert found is not None
    assert len(found.key) == MAX_FRAME - 4


def test_nothing_longer_is_written() -> None:
    with pytest.raises(LocalProtocolError):
        encode_message(Message(MessageType.GET_VALUE, b"k" * MAX_FRAME))


@pytest.mark.parametrize(
    "raw",
    [
        number_field(1, 6),
        bytes_field(1, b"x"),
        number_field(2, 1),
        number_field(3, 1),
        number_field(8, 1),
        bytes_field(3, number_field(1, 1)),
        bytes_field(8, number_field(2, 1)),
        bytes_field(3, b"\x0a\x05abc"),
        b"\x08",
        number_field(1, 1) + number_field(99, 1) * 3000,
        bytes_field(8, number_field(99, 1) * 3000),
    ],
)
def test_what_no_honest_peer_sends_is_refused(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_message(raw)


def test_of_many_the_first_are_looked_at() -> None:
    many = KadPeer(b"id", tuple(bytes([number]) for number in range(MAX_ADDRESSES + 5)))
    raw = (
        number_field(1, 1)
        + bytes_field(8, bytes_field(1, b"id") + b"".join(bytes_field(2, one) for one in many.addresses))
        + bytes_field(8, bytes_field(1, b"c")) * MAX_CLOSER
        + bytes_field(9, bytes_field(1, b"p")) * (MAX_PROVIDERS + 1)
        + bytes_field(2500, bytes_field(2, b"v")) * (MAX_FURTHER + 1)
    )
    message = decode_message(raw)
    assert len(message.closer) == MAX_CLOSER
    assert message.closer[0].addresses == many.addresses[:MAX_ADDRESSES]
    assert len(message.providers) == MAX_PROVIDERS
    assert len(message.further) == MAX_FURTHER
