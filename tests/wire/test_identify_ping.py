"""identify and ping: what strangers say of themselves is bounded."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.identity import SecretKey
from p2pboot.errors import RemoteProtocolError
from p2pboot.wire.identify import (
    MAX_ADDRESSES,
    MAX_IDENTIFY,
    MAX_PROTOCOLS,
    IdentifyReader,
    Identity,
    encode_identify,
)
from p2pboot.wire.ping import Ping
from p2pboot.wire.protobuf import bytes_field, number_field
from p2pboot.wire.varint import encode_varint
from tests.vectors.wire.make import SEED
from tests.wire.vectors import VECTORS, each_step, feed

FULL = Identity(
    public_key=SecretKey(SEED).public,
    listen_addresses=(bytes.fromhex("047f000001060fa1"), bytes.fromhex("29" + "00" * 15 + "01060fa1")),
    protocols=("/ipfs/id/1.0.0", "/meshsub/1.1.0"),
    observed_address=bytes.fromhex("047f0000010600ff"),
    protocol_version="ipfs/0.1.0",
    agent_version="vector/1",
    signed_record=b"an envelope",
)


def framed(message: bytes) -> bytes:
    return encode_varint(len(message)) + message


def read(data: bytes, step: int = 1 << 20) -> Identity:
    reader = IdentifyReader()
    feed(reader.receive, data, step)
    return reader.receive_eof()


@each_step
def test_answer_of_py_libp2p_is_read(step: int) -> None:
    assert read(framed(bytes.fromhex(VECTORS["identify"]["full"])), step) == FULL
    assert read(framed(bytes.fromhex(VECTORS["identify"]["empty"])), step) == Identity()


@each_step
def test_what_is_written_is_what_is_read(step: int) -> None:
    assert read(encode_identify(FULL), step) == FULL


def test_answer_in_several_messages_is_put_together() -> None:
    """go-libp2p sends a long record in a message of its own."""
    record = Identity(signed_record=b"r" * 3000)
    assert read(encode_identify(Identity(agent_version="go")) + encode_identify(record)) == Identity(
        agent_version="go", signed_record=b"r" * 3000
    )


def test_long_lists_are_kept_in_part() -> None:
    many = Identity(listen_addresses=(b"a",) * 20, protocols=tuple(f"/{n}" for n in range(100)))
    kept = read(encode_identify(many))
    assert kept.listen_addresses == (b"a",) * MAX_ADDRESSES
    assert kept.protocols == many.protocols[:MAX_PROTOCOLS]


BAD = {
    "cut off": encode_identify(FULL)[:-1],
    "cut off in its length": b"\x80",
    "length of a gigabyte": b"\xff\xff\xff\xff\x03",
    "long address": framed(bytes_field(2, bytes(257))),
    "long protocol": framed(bytes_field(3, b"p" * 257)),
    "long record": framed(bytes_field(8, bytes(4097))),
    "no text": framed(bytes_field(6, b"\xff")),
    "a number for an address": framed(number_field(2, 1)),
    "no key": framed(bytes_field(1, b"\x08\x01")),
    "no protobuf": framed(b"\xff"),
}


@pytest.mark.parametrize("data", BAD.values(), ids=list(BAD))
def test_bad_answer_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read(data)


def test_endless_answer_is_cut_while_it_comes() -> None:
    reader = IdentifyReader()
    reader.receive(bytes(MAX_IDENTIFY))
    with pytest.raises(RemoteProtocolError):
        reader.receive(b"\0")


@given(st.binary(max_size=100))
def test_no_answer_does_worse_than_being_refused(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert isinstance(read(data), Identity)


@each_step
def test_ping_is_answered_when_all_came_back(step: int) -> None:
    ping = Ping(bytes(range(32)))
    assert ping.wants_bytes == 32
    feed(ping.receive, bytes(range(32)), step)
    assert ping.wants_bytes == 0


@pytest.mark.parametrize("answer", [bytes(32), bytes(range(33))])
def test_wrong_answer_to_a_ping_is_refused(answer: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Ping(bytes(range(32))).receive(answer)
