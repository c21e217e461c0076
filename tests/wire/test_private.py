"""Connections in a private mesh: with one key they are as any other, with another one nothing is said to each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_secretbox

from p2pboot.core.swarmkey import SwarmKey
from p2pboot.errors import RemoteProtocolError
from p2pboot.wire.connection import Begun, EndedEarly, Keys, NotGreeted, OtherSwarmKey, Secured
from p2pboot.wire.multistream import NoCommonProtocol, encode_line
from p2pboot.wire.private import NONCE_BYTES, Keystream, PrivateConnection, Replays
from p2pboot.wire.yamux.events import StreamOpened
from tests.wire.driving import DIALLER, LISTENER, connection, flights
from tests.wire.sessions import of_type
from tests.wire.vectors import each_step, feed

KEY, OTHER = SwarmKey(b"k" * 32), SwarmKey(b"o" * 32)
NONCES = b"D" * NONCE_BYTES, b"L" * NONCE_BYTES
GREETING = encode_line("/multistream/1.0.0") + encode_line("/noise")


def private(initiator: bool, key: SwarmKey = KEY, replays: Replays | None = None) -> PrivateConnection:
    return PrivateConnection(
        key,
        NONCES[not initiator],
        replays,
        initiator=initiator,
        keys=Keys(DIALLER if initiator else LISTENER, b"s" * 32, b"e" * 32 if initiator else b"E" * 32),
    )


def encrypted(data: bytes, nonce: bytes, key: SwarmKey = KEY) -> bytes:
    buffer = bytearray(data)
    Keystream(key, nonce).apply(memoryview(buffer))
    return bytes(buffer)


def test_keystream_is_nacl_s() -> None:
    """NaCl, tests/stream3.c."""
    key = SwarmKey(bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389"))
    nonce = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
    expected = bytes.fromhex("eea6a7251c1e72916d11c2cb214d3c252539121d8e234e652d651fa4c8cff880")
    assert encrypted(bytes(32), nonce, key) == expected


@given(
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=24, max_size=24),
    st.binary(max_size=300),
    st.data(),
)
def test_it_is_the_cipher_of_libsodium_s_secretbox_however_it_is_cut(
    key: bytes, nonce: bytes, message: bytes, data: st.DataObject
) -> None:
    """A secret box is 16 bytes of tag, and the message under the keystream from its 33rd byte on."""
    cut = data.draw(st.integers(0, len(message)))
    stream, buffer = Keystream(SwarmKey(key), nonce), bytearray(bytes(32) + message)
    for part in (slice(0, 32 + cut), slice(32 + cut, None)):
        stream.apply(memoryview(buffer)[part])
    assert bytes(buffer[32:]) == crypto_secretbox(message, nonce, key)[16:]


@each_step
def test_both_sides_prove_who_they_are(step: int) -> None:
    dialler, listener = private(True), private(False)
    for _ in flights(dialler, listener, step):
        pass
    assert (dialler.peer, listener.peer) == (LISTENER.public, DIALLER.public)
    events = dialler.events()
    assert of_type(events, Begun) == [Begun()]
    assert of_type(events, Secured) == [Secured(LISTENER.public, True)]


@each_step
def test_streams_carry_what_was_written_both_ways(step: int) -> None:
    dialler, listener = private(True), private(False)
    stream, data = dialler.session.open(), bytes(range(256)) * 800
    assert stream.write(data) == len(data)
    for _ in flights(dialler, listener, step * 50):
        pass
    (opened,) = of_type(listener.events(), StreamOpened)
    assert opened.stream.read(1 << 20) == data
    opened.stream.write(data)
    for _ in flights(listener, dialler, step * 50):
        pass
    assert stream.read(1 << 20) == data


def test_the_dialler_s_first_flight_is_its_nonce_and_what_it_says_under_it() -> None:
    said = bytes(private(True).data_to_send(1000))
    plain = bytes(connection(True).data_to_send(1000))
    assert plain.startswith(GREETING)
    assert said == NONCES[0] + encrypted(plain, NONCES[0])


def test_the_listener_s_first_flight_is_its_nonce_at_once() -> None:
    listener = private(False)
    assert listener.has_data_to_send
    assert bytes(listener.data_to_send(1000)) == NONCES[1]
    assert not listener.has_data_to_send


def test_it_costs_no_round_trip() -> None:
    """nonce, greeting, Noise 1 → nonce, agreement, Noise 2 → Noise 3, stream, request."""
    dialler, listener = private(True), private(False)
    stream = dialler.session.open()
    stream.write(b"request")
    turns = flights(dialler, listener)
    for _ in range(3):
        next(turns)
    (opened,) = of_type(listener.events(), StreamOpened)
    assert opened.stream.read(100) == b"request"


def test_the_nonce_is_waited_for_as_a_whole() -> None:
    listener = private(False)
    assert listener.wants_bytes == NONCE_BYTES
    listener.receive(b"x" * 20)
    assert listener.wants_bytes == 4
    assert listener.events() == []
    listener.receive(b"x" * 4)
    assert listener.events() == [Begun()]
    assert listener.wants_bytes == 1


@given(st.binary(max_size=100), st.booleans())
def test_an_outsider_gets_a_nonce_and_nothing_more_whatever_he_sends(junk: bytes, initiator: bool) -> None:
    ours = private(initiator)
    first = bytes(ours.data_to_send(1000))
    try:
        ours.receive(junk)
        ours.receive(b"\n" * 2000)  # no line is longer
    except OtherSwarmKey:
        pass
    else:
        pytest.fail("it waits for more")
    assert first.startswith(NONCES[not initiator])
    assert bytes(ours.data_to_send(1000)) == b""
    assert not ours.has_data_to_send


def test_somebody_who_speaks_in_the_clear_is_an_outsider() -> None:
    listener = private(False)
    with pytest.raises(OtherSwarmKey, match="is it the same swarm key"):
        listener.receive(bytes(connection(True).data_to_send(1000)))


def test_who_speaks_in_the_clear_takes_a_nonce_for_no_greeting() -> None:
    with pytest.raises(NotGreeted):
        connection(True).receive(bytes(private(False).data_to_send(1000)))


def test_another_key_is_noticed_by_both_sides() -> None:
    dialler, listener = private(True), private(False, OTHER)
    with pytest.raises(OtherSwarmKey):
        listener.receive(bytes(dialler.data_to_send(1000)))
    assert bytes(listener.data_to_send(1000)) == NONCES[1]
    dialler.receive(NONCES[1])
    with pytest.raises(OtherSwarmKey):
        dialler.receive(encrypted(GREETING, NONCES[1], OTHER))
    with pytest.raises(RemoteProtocolError):
        dialler.receive(b"anything")


@each_step
def test_who_repeats_how_a_member_began_is_an_outsider(step: int) -> None:
    """He would be answered otherwise, and know that the node has that member's key."""
    replays, said = Replays(), bytes(private(True).data_to_send(1000))
    for begins in (True, False):
        listener = private(False, replays=replays)
        assert bytes(listener.data_to_send(1000)) == NONCES[1]
        if begins:
            feed(listener.receive, said, step)
            assert listener.has_data_to_send
        else:
            with pytest.raises(OtherSwarmKey, match="somebody else"):
                feed(listener.receive, said, step)
            assert not listener.has_data_to_send


def test_only_nonces_of_who_has_the_key_are_noted_and_not_more_than_a_number_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("p2pboot.wire.private.MAX_NOTED", 3)
    replays = Replays()
    with pytest.raises(OtherSwarmKey):
        private(False, replays=replays).receive(bytes(100))
    assert not replays.is_one(bytes(NONCE_BYTES))
    nonces = [bytes([n]) * NONCE_BYTES for n in range(5)]
    for nonce in nonces:
        private(False, replays=replays).receive(nonce + encrypted(GREETING, nonce))
    assert [replays.is_one(nonce) for nonce in nonces] == [False, False, True, True, True]


@pytest.mark.parametrize("initiator", [True, False])
def test_a_mirror_is_refused(initiator: bool) -> None:
    ours = private(initiator)
    said = bytes(ours.data_to_send(1000))
    with pytest.raises(OtherSwarmKey, match="sends back"):
        ours.receive(said)


def test_somebody_of_the_mesh_is_told_what_is_not_spoken() -> None:
    listener = private(False)
    listener.data_to_send(1000)
    lines = encode_line("/multistream/1.0.0") + encode_line("/tls/1.0.0")
    listener.receive(NONCES[0] + encrypted(lines, NONCES[0]))
    answer = encode_line("/multistream/1.0.0") + encode_line("na")
    assert bytes(listener.data_to_send(1000)) == encrypted(answer, NONCES[1])
    dialler = private(True)
    dialler.data_to_send(1000)
    with pytest.raises(NoCommonProtocol):
        dialler.receive(NONCES[1] + encrypted(answer, NONCES[1]))


def test_an_end_before_anything_was_proved_is_told() -> None:
    dialler = private(True)
    dialler.receive(NONCES[1])
    with pytest.raises(EndedEarly):
        dialler.receive_eof()


@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_what_can_not_be_written_to_is_not(kind: type[bytes] | type[memoryview]) -> None:
    said = bytes(private(True).data_to_send(1000))
    kept = bytes(bytearray(said))
    private(False).receive(kind(said))
    assert said == kept


def test_a_buffer_that_is_lent_is_decrypted_in_place() -> None:
    """The bytes of a fast connection are not copied once more."""
    buffer = bytearray(private(True).data_to_send(1000))
    private(False).receive(memoryview(buffer))
    assert buffer[NONCE_BYTES:].startswith(GREETING)
