"""Weighing an RPC before it is decoded: what counts, what is refused, and that nothing is missed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.pubsub.pb import rpc_pb2

from p2pboot.core.identity import SecretKey
from p2pboot.errors import RemoteProtocolError
from p2pboot.wire.protobuf import bytes_field, number_field
from p2pboot.wire.pubsub import (
    MAX_FIELDS,
    MAX_MESSAGES,
    TooMuch,
    is_of_other_kind,
    signed_bytes,
    signer_of,
    weigh,
)


def control(*messages: bytes) -> bytes:
    return bytes_field(3, b"".join(messages))


def test_each_kind_is_counted() -> None:
    rpc = (
        bytes_field(1, number_field(1, 1) + bytes_field(2, b"topic"))
        + bytes_field(2, bytes_field(2, b"data") + bytes_field(4, b"topic"))
        + control(
            bytes_field(1, bytes_field(1, b"topic") + bytes_field(2, bytes(32)) * 3),
            bytes_field(2, bytes_field(1, bytes(32)) * 2),
            bytes_field(3, bytes_field(1, b"topic")),
            bytes_field(4, bytes_field(1, b"topic") + bytes_field(2, bytes_field(1, b"peer")) * 4),
            bytes_field(5, bytes_field(1, bytes(32))),
        )
    )
    weight = weigh(rpc)
    assert weight.size == len(rpc)
    assert (weight.subscriptions, weight.messages, weight.controls, weight.ids) == (1, 1, 9, 6)
    assert weight.fields == 3 + 3 + 1 + 5 + 3 + 2 + 10 + 2


def test_a_submessage_that_comes_twice_counts_twice() -> None:
    one = control(bytes_field(3, bytes_field(1, b"topic")))
    assert weigh(one * 5).controls == 5


def test_nothing_is_in_an_empty_rpc() -> None:
    assert weigh(b"").fields == 0


@pytest.mark.parametrize(
    "rpc",
    [
        bytes_field(2, b"") * (MAX_MESSAGES + 1),
        b"\x12\x00" * 524_288,  # a MiB of empty messages
        bytes_field(99, b"") * (MAX_FIELDS + 1),  # of fields that nobody knows
        bytes_field(2, b"").join([number_field(7, 1) * (MAX_FIELDS + 1), b""]),
        bytes_field(2, bytes_field(99, b"") * MAX_FIELDS),  # within a message
        bytes_field(2, bytes_field(4, b"") * MAX_FIELDS),
        bytes_field(1, b"") * (MAX_FIELDS + 1),
        control(bytes_field(1, bytes_field(2, b"") * MAX_FIELDS)),
        control(bytes_field(4, bytes_field(2, b"") * MAX_FIELDS)),
        control(*[bytes_field(3, b"")] * MAX_FIELDS),
        control() * (MAX_FIELDS + 1),
    ],
    ids=range(11),
)
def test_more_than_any_honest_node_sends_is_too_much(rpc: bytes) -> None:
    with pytest.raises(TooMuch):
        weigh(rpc)


def test_as_much_as_is_allowed_is_not_too_much() -> None:
    assert weigh(bytes_field(2, b"") * MAX_MESSAGES).messages == MAX_MESSAGES
    assert weigh(bytes_field(99, b"") * MAX_FIELDS).fields == MAX_FIELDS


@pytest.mark.parametrize(
    "rpc",
    [
        b"hello",
        b"\x12",  # no length
        b"\x12\x05abc",  # ends within a field
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a length of 2**64 - 1
        b"\x12" + b"\x80" * 10 + b"\x01",  # a number of eleven bytes
        b"\x02\x00",  # field number 0
        b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x00",  # a field number that there is not
        b"\x13\x14",  # a group
        b"\x16\x00",  # a wire type that there is not
        b"\x0d\x00\x00",  # four bytes that are two
        b"\x12\x04\x12\x05ab",  # longer than the message that it is in
        control(b"\x0a\x09"),
    ],
    ids=range(12),
)
def test_what_is_no_rpc_is_refused(rpc: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        weigh(rpc)
    assert not isinstance(caught.value, TooMuch)


def test_a_number_may_be_spelt_longer_than_it_is() -> None:
    assert weigh(b"\x12\x80\x00").messages == 1
    assert weigh(b"\x92\x80\x00\x00").messages == 1


def test_deep_nesting_is_one_field() -> None:
    deep = b""
    for _ in range(2000):
        deep = bytes_field(3, deep)
    # Below the messages that there are, bytes are bytes: nobody goes further down.
    assert weigh(deep).fields <= 5


@given(st.binary(max_size=300))
def test_what_the_decoder_takes_is_weighed_and_nothing_is_missed(raw: bytes) -> None:
    rpc = rpc_pb2.RPC()
    try:
        rpc.ParseFromString(raw)
    except Exception:
        return
    try:
        weight = weigh(raw)
    except RemoteProtocolError:
        return  # stricter than the decoder: groups, say
    assert weight.messages == len(rpc.publish)
    assert weight.subscriptions == len(rpc.subscriptions)


IDS = st.lists(st.binary(max_size=40), max_size=5)
TOPICS = st.text(max_size=10)


@given(
    st.lists(TOPICS, max_size=4),
    st.lists(st.tuples(TOPICS, IDS), max_size=4),
    st.lists(IDS, max_size=4),
    st.lists(st.tuples(TOPICS, IDS), max_size=4),
)
def test_the_weight_is_that_of_what_is_decoded(
    topics: list[str],
    ihaves: list[tuple[str, list[bytes]]],
    iwants: list[list[bytes]],
    prunes: list[tuple[str, list[bytes]]],
) -> None:
    rpc = rpc_pb2.RPC()
    for topic in topics:
        rpc.publish.add(data=b"data", topicIDs=[topic])
        rpc.subscriptions.add(subscribe=True, topicid=topic)
        rpc.control.graft.add(topicID=topic)
    for topic, ids in ihaves:
        rpc.control.ihave.add(topicID=topic, messageIDs=ids)
    for ids in iwants:
        rpc.control.iwant.add(messageIDs=ids)
        rpc.control.idontwant.add(messageIDs=ids)
    for topic, peers in prunes:
        prune = rpc.control.prune.add(topicID=topic)
        for peer in peers:
            prune.peers.add(peerID=peer)
    weight = weigh(rpc.SerializeToString())
    assert weight.messages == weight.subscriptions == len(topics)
    assert weight.controls == (
        len(topics) + len(ihaves) + 2 * len(iwants) + len(prunes) + sum(len(peers) for _, peers in prunes)
    )
    assert weight.ids == sum(len(ids) for _, ids in ihaves) + 2 * sum(map(len, iwants))


def test_a_message_is_signed_as_the_library_does() -> None:
    key = SecretKey(b"s" * 32)
    message = rpc_pb2.Message(
        data=b"data" * 100, topicIDs=["topic"], from_id=key.public.peer_id_bytes, seqno=b"\x00" * 8
    )
    signed = signed_bytes(sender=message.from_id, data=message.data, seqno=message.seqno, topic="topic")
    assert signed == b"libp2p-pubsub:" + message.SerializeToString()


def test_only_ed25519_signs() -> None:
    key = SecretKey(b"s" * 32).public
    assert signer_of(key.peer_id_bytes) == key
    for sender in (b"", b"\x00", bytes(38), key.peer_id_bytes + b"x", b"\x12\x20" + bytes(32)):
        assert signer_of(sender) is None


@pytest.mark.parametrize(
    ("sender", "is_one"),
    [
        (b"\x12\x20" + bytes(32), True),
        (b"\x00\x25\x08\x02\x12\x21" + bytes(33), True),
        (b"\x12\x20" + bytes(31), False),
        (SecretKey(b"s" * 32).public.peer_id_bytes, False),
        (b"", False),
    ],
)
def test_ids_of_other_keys_are_told_from_garbage(sender: bytes, is_one: bool) -> None:
    assert is_of_other_kind(sender) is is_one
