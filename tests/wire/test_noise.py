"""Noise: every byte is checked against other implementations, and no stranger gets past it."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.identity import SecretKey
from p2pboot.errors import LocalProtocolError, RemoteProtocolError
from p2pboot.wire.noise.handshake import Handshake
from p2pboot.wire.noise.payload import Payload, decode_payload, encode_payload
from p2pboot.wire.noise.transport import (
    MAX_MESSAGE,
    MAX_MESSAGES,
    MAX_PLAINTEXT,
    OVERHEAD,
    Framer,
    Opener,
    Sealer,
)
from p2pboot.wire.protobuf import bytes_field, number_field
from tests.vectors.wire import make
from tests.wire.vectors import VECTORS, cut, each_step, feed

KEY = bytes(range(32))
PAYLOADS = VECTORS["payload"]
STATIC_PUBLIC = bytes.fromhex(PAYLOADS["static_public"])
IDENTITY = SecretKey(make.SEED)


def test_vectors_are_what_the_script_makes() -> None:
    assert make.vectors() == VECTORS


def both_sides(vector: dict[str, Any]) -> tuple[Handshake, Handshake]:
    initiator, responder = (
        Handshake(
            initiator=role == "initiator",
            static=bytes.fromhex(vector[f"{role}_static"]),
            ephemeral=bytes.fromhex(vector[f"{role}_ephemeral"]),
            prologue=bytes.fromhex(vector["prologue"]),
        )
        for role in ("initiator", "responder")
    )
    return initiator, responder


def seal(sealer: Sealer, plaintext: bytes) -> bytes:
    buffer = bytearray(len(plaintext) + OVERHEAD)
    assert sealer.seal_into(plaintext, memoryview(buffer)) == len(buffer)
    return bytes(buffer)


class Receiver:
    """Framer and opener together, keeping what was in the messages."""

    def __init__(self, key: bytes) -> None:
        self.framer = Framer()
        self.opener = Opener(key, bytearray(MAX_PLAINTEXT))
        self.plaintexts: list[bytes] = []

    def receive(self, data: bytes) -> None:
        self.framer.receive(data)
        for message in self.framer.messages():
            self.plaintexts.append(bytes(self.opener.open(message)))


@pytest.mark.parametrize("vector", VECTORS["noise_xx"], ids=["libp2p", "with prologue"])
@each_step
def test_handshake_and_messages_are_those_of_noiseprotocol(vector: dict[str, Any], step: int) -> None:
    sides = both_sides(vector)
    steps = [(bytes.fromhex(each["payload"]), bytes.fromhex(each["message"])) for each in vector["messages"]]
    for index, (payload, message) in enumerate(steps[:3]):
        writer, reader = sides if index % 2 == 0 else reversed(sides)
        assert writer.write(payload) == message
        assert reader.read(message) == payload
    assert {side.handshake_hash.hex() for side in sides} == {vector["handshake_hash"]}
    assert sides[0].remote_static == sides[1].static_public
    for index, (payload, message) in enumerate(steps[3:]):
        writer, reader = reversed(sides) if index % 2 == 0 else sides
        framed = seal(Sealer(writer.split()[0]), payload)
        assert framed == len(message).to_bytes(2, "big") + message
        receiver = Receiver(reader.split()[1])
        for piece in cut(framed, step):
            receiver.receive(piece)
        assert receiver.plaintexts == [payload]


def handshake(initiator: bool, static: int = 1, ephemeral: int = 2) -> Handshake:
    return Handshake(initiator=initiator, static=bytes([static] * 32), ephemeral=bytes([ephemeral] * 32))


def test_handshake_out_of_turn_is_our_own_fault() -> None:
    dialler, listener = handshake(True), handshake(False)
    with pytest.raises(LocalProtocolError):
        listener.write()
    with pytest.raises(LocalProtocolError):
        dialler.read(b"")
    with pytest.raises(LocalProtocolError):
        dialler.split()


@pytest.mark.parametrize("length", [0, 31, 79, 95])
def test_short_handshake_message_is_refused(length: int) -> None:
    dialler, listener = handshake(True), handshake(False, 3, 4)
    first = dialler.write()
    if length < 32:
        with pytest.raises(RemoteProtocolError, match="short"):
            listener.read(first[:length])
        return
    listener.read(first)
    with pytest.raises(RemoteProtocolError):
        dialler.read(listener.write()[:length])


@given(st.integers(0, 100), st.integers(1, 255))
def test_changed_handshake_message_is_refused(position: int, flip: int) -> None:
    dialler, listener = handshake(True), handshake(False, 3, 4)
    listener.read(dialler.write())
    message = bytearray(listener.write(b"hello"))
    message[position % len(message)] ^= flip
    with pytest.raises(RemoteProtocolError):
        dialler.read(bytes(message))


def test_key_of_low_order_is_refused() -> None:
    """With it the secret would be known to everybody, whatever our key is."""
    listener = handshake(False)
    listener.read(bytes(32))
    with pytest.raises(RemoteProtocolError, match="impossible"):
        listener.write()


@pytest.mark.parametrize("name", PAYLOADS["good"])
def test_payload_of_py_libp2p_is_read(name: str) -> None:
    payload = decode_payload(bytes.fromhex(PAYLOADS["good"][name]), STATIC_PUBLIC)
    assert payload.identity.hex == PAYLOADS["identity"]
    assert payload.muxers == (("/yamux/1.0.0", "/mplex/6.7.0") if name == "muxers" else ())


def test_payload_is_written_as_py_libp2p_writes_it() -> None:
    assert encode_payload(IDENTITY, STATIC_PUBLIC, ()).hex() == PAYLOADS["good"]["plain"]
    muxers = ("/yamux/1.0.0", "/mplex/6.7.0")
    assert encode_payload(IDENTITY, STATIC_PUBLIC, muxers).hex() == PAYLOADS["good"]["muxers"]


def test_identity_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(RemoteProtocolError, match="Secp256k1"):
        decode_payload(bytes.fromhex(PAYLOADS["secp256k1"]), STATIC_PUBLIC)


GOOD = encode_payload(IDENTITY, STATIC_PUBLIC, ("/yamux/1.0.0",))
KEY_FIELD = bytes_field(1, number_field(1, 1) + bytes_field(2, IDENTITY.public.raw))
BAD_PAYLOADS = {
    "nothing": b"",
    "no signature": KEY_FIELD,
    "signature of another key": KEY_FIELD + bytes_field(2, IDENTITY.sign(b"something else")),
    "cut off": GOOD[:-1],
    "a number for a key": number_field(1, 7),
    "unknown kind of key": bytes_field(1, number_field(1, 99) + bytes_field(2, bytes(32))),
    "short key": bytes_field(1, number_field(1, 1) + bytes_field(2, bytes(31))),
    "too long": GOOD + bytes_field(15, bytes(4096)),
    "too many muxers": GOOD + bytes_field(4, bytes_field(2, b"/m") * 17),
    "long muxer": GOOD + bytes_field(4, bytes_field(2, b"m" * 257)),
    "field within a group": b"\x0b",
    "endless varint": b"\xff" * 11,
}


@pytest.mark.parametrize("raw", BAD_PAYLOADS.values(), ids=list(BAD_PAYLOADS))
def test_bad_payload_is_refused(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_payload(raw, STATIC_PUBLIC)


def test_payload_for_another_static_key_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="signed"):
        decode_payload(GOOD, bytes(32))


@given(st.binary(max_size=200))
def test_no_payload_does_worse_than_being_refused(raw: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert isinstance(decode_payload(raw, STATIC_PUBLIC), Payload)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=8), st.integers(1, 700))
def test_messages_come_out_as_they_went_in(lengths: list[int], step: int) -> None:
    sealer, receiver = Sealer(KEY), Receiver(KEY)
    plaintexts = [bytes([index]) * length for index, length in enumerate(lengths)]
    wire = b"".join(seal(sealer, plaintext) for plaintext in plaintexts)
    for piece in cut(wire, step):
        receiver.receive(piece)
    assert receiver.plaintexts == plaintexts
    assert not receiver.framer.partial


def test_longest_message_fits() -> None:
    receiver = Receiver(KEY)
    wire = seal(Sealer(KEY), b"x" * MAX_PLAINTEXT)
    assert len(wire) == 2 + MAX_MESSAGE
    receiver.receive(wire)
    assert receiver.plaintexts == [b"x" * MAX_PLAINTEXT]


def test_wants_bytes_is_what_the_message_lacks() -> None:
    """It goes into SO_RCVLOWAT: one byte too many and the connection sleeps for ever."""
    receiver = Receiver(KEY)
    wire = seal(Sealer(KEY), b"x" * 100)
    assert receiver.framer.wants_bytes == 2
    for at in range(len(wire)):
        receiver.receive(wire[at : at + 1])
        left = len(wire) - at - 1
        assert receiver.framer.wants_bytes == (1 if at == 0 else left or 2)
    assert receiver.plaintexts == [b"x" * 100]


def test_replayed_and_reordered_messages_are_refused() -> None:
    sealer = Sealer(KEY)
    first, second = seal(sealer, b"one"), seal(sealer, b"two")
    for wire in (first + first, second + first):
        with pytest.raises(RemoteProtocolError, match="out of order"):
            Receiver(KEY).receive(wire)


@pytest.mark.parametrize("length", [0, 15])
def test_message_without_room_for_its_tag_is_refused(length: int) -> None:
    with pytest.raises(RemoteProtocolError, match="short"):
        Receiver(KEY).receive(length.to_bytes(2, "big") + bytes(length))


@each_step
def test_framer_refuses_a_length_before_it_buffers(step: int) -> None:
    framer = Framer(100)

    def receive(piece: bytes) -> None:
        framer.receive(piece)
        list(framer.messages())

    with pytest.raises(RemoteProtocolError, match="101"):
        feed(receive, b"\x00\x65", step)


def test_numbers_of_messages_are_never_used_twice() -> None:
    sealer, opener = Sealer(KEY), Opener(KEY, bytearray(64))
    sealer._count = opener._count = MAX_MESSAGES - 1
    last = seal(sealer, b"last")
    assert bytes(opener.open(memoryview(last)[2:])) == b"last"
    with pytest.raises(LocalProtocolError):
        seal(sealer, b"one more")
    with pytest.raises(RemoteProtocolError, match="used up"):
        opener.open(memoryview(last)[2:])
