"""A whole connection: who is at the other end is proved before anything else, in as few round trips as can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.identity import SecretKey
from p2pboot.errors import ProtocolError, RemoteProtocolError
from p2pboot.wire.connection import Connection, Keys, Secured, WrongPeer
from p2pboot.wire.multistream import NoCommonProtocol, encode_line
from p2pboot.wire.noise.handshake import Handshake
from p2pboot.wire.noise.payload import encode_payload
from p2pboot.wire.noise.transport import MAX_PLAINTEXT, OVERHEAD, Framer, Opener, Sealer
from p2pboot.wire.yamux.events import StreamOpened, StreamReset
from p2pboot.wire.yamux.frames import INITIAL_WINDOW, SYN, WINDOW_UPDATE, header
from p2pboot.wire.yamux.limits import MIB, Limits
from p2pboot.wire.yamux.stream import StreamWasReset
from tests.wire.driving import DIALLER, LISTENER, connect, connection, flights
from tests.wire.sessions import of_type
from tests.wire.vectors import each_step, feed

HELLO = b"\x13/multistream/1.0.0\n"
NOISE = HELLO + b"\x07/noise\n"


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2) + message


class Stranger:
    """The other side, layer by layer, as a test wants it."""

    def __init__(
        self, *, initiator: bool, muxers: tuple[str, ...] = (), identity: SecretKey | None = None
    ) -> None:
        self.noise = Handshake(initiator=initiator, static=b"x" * 32, ephemeral=b"y" * 32)
        self.payload = encode_payload(identity or LISTENER, self.noise.static_public, muxers)
        self.framer = Framer()

    def messages(self, data: bytes | memoryview) -> list[bytes]:
        self.framer.receive(bytes(data))
        return [bytes(message) for message in self.framer.messages()]

    def secure(self) -> None:
        sending, receiving = self.noise.split()
        self.sealer, self.opener = Sealer(sending), Opener(receiving, bytearray(MAX_PLAINTEXT))

    def seal(self, plaintext: bytes) -> bytes:
        buffer = bytearray(len(plaintext) + OVERHEAD)
        self.sealer.seal_into(plaintext, memoryview(buffer))
        return bytes(buffer)

    def open(self, data: bytes | memoryview) -> bytes:
        return b"".join(bytes(self.opener.open(memoryview(message))) for message in self.messages(data))


def answered_by(muxers: tuple[str, ...] = (), identity: SecretKey = LISTENER) -> tuple[Connection, Stranger]:
    """A dialler whose handshake a stranger has answered."""
    dialler, stranger = (
        connection(True, LISTENER.public),
        Stranger(initiator=False, muxers=muxers, identity=identity),
    )
    said = bytes(dialler.data_to_send(1000))
    (first,) = stranger.messages(said.removeprefix(NOISE))
    stranger.noise.read(first)
    dialler.receive(NOISE + framed(stranger.noise.write(stranger.payload)))
    return dialler, stranger


def dialled_by(muxers: tuple[str, ...] = ()) -> tuple[Connection, Stranger]:
    """A listener that a stranger has dialled, and secured."""
    listener, stranger = connection(False), Stranger(initiator=True, muxers=muxers, identity=DIALLER)
    listener.receive(NOISE + framed(stranger.noise.write()))
    (second,) = stranger.messages(bytes(listener.data_to_send(1000)).removeprefix(NOISE))
    stranger.noise.read(second)
    listener.receive(framed(stranger.noise.write(stranger.payload)))
    stranger.secure()
    return listener, stranger


@each_step
def test_both_sides_prove_who_they_are(step: int) -> None:
    dialler, listener = connect(step)
    assert of_type(dialler.events(), Secured) == [Secured(LISTENER.public, True)]
    assert of_type(listener.events(), Secured) == [Secured(DIALLER.public, True)]
    assert (dialler.peer, listener.peer) == (LISTENER.public, DIALLER.public)


def test_request_arrives_with_the_dialler_s_second_flight() -> None:
    """greeting, proposal, Noise 1 → greeting, agreement, Noise 2 → Noise 3, stream, request."""
    dialler, listener = connection(True, LISTENER.public), connection(False)
    stream = dialler.session.open()
    stream.write(b"request")
    turns = flights(dialler, listener)
    assert next(turns).startswith(NOISE)
    assert not listener.secured
    next(turns)
    next(turns)
    (opened,) = of_type(listener.events(), StreamOpened)
    assert opened.stream.read(100) == b"request"


@each_step
def test_streams_carry_what_was_written(step: int) -> None:
    dialler, listener = connect()
    stream = dialler.session.open()
    data = bytes(range(256)) * 1000
    assert stream.write(data) == len(data)
    stream.close_write()
    for _ in flights(dialler, listener, step * 50):
        pass
    (opened,) = of_type(listener.events(), StreamOpened)
    assert opened.stream.read(MIB) == data
    assert opened.stream.read(1) == b""


def test_full_frames_fill_whole_messages() -> None:
    dialler, _ = connect()
    stream = dialler.session.open()
    stream.write(bytes(INITIAL_WINDOW))
    assert len(dialler.data_to_send(2 * 65_537)) == 2 * 65_537
    assert len(dialler.data_to_send(1000)) == 1000


def test_idle_connection_keeps_no_buffer() -> None:
    dialler, listener = connect()
    stream = dialler.session.open()
    stream.write(bytes(100_000))
    for _ in flights(dialler, listener):
        pass
    assert len(dialler.data_to_send(100_000)) == 0
    assert len(dialler._sealed) == 0
    assert not listener._framer.partial


def test_connections_of_a_thread_share_their_scratch_memory() -> None:
    scratch = bytearray(MAX_PLAINTEXT)
    sides = [
        Connection(initiator=first, keys=Keys(LISTENER, b"s" * 32, bytes([n]) * 32), scratch=scratch)
        for n, first in enumerate((True, False, True, False), 1)
    ]
    streams = [side.session.open() for side in sides]
    for n, stream in enumerate(streams):
        stream.write(bytes([n]) * 1000)
    for first, second in (sides[:2], sides[2:]):
        for _ in flights(first, second, 100):
            pass
    heard = [of_type(side.events(), StreamOpened)[0].stream.read(2000) for side in sides]
    assert heard == [bytes([n]) * 1000 for n in (1, 0, 3, 2)]


# Peers whose handshake names no muxer.


@each_step
def test_dialler_agrees_on_yamux_afterwards_and_does_not_wait_for_it(step: int) -> None:
    dialler, stranger = answered_by()
    assert of_type(dialler.events(), Secured) == [Secured(LISTENER.public, False)]
    dialler.session.open().write(b"request")
    third, *rest = stranger.messages(dialler.data_to_send(1000))
    stranger.noise.read(third)
    stranger.secure()
    said = b"".join(bytes(stranger.opener.open(memoryview(message))) for message in rest)
    assert said.startswith(HELLO + b"\x0d/yamux/1.0.0\n")
    assert said.endswith(b"request")
    answer = HELLO + encode_line("/yamux/1.0.0") + header(WINDOW_UPDATE, SYN, 2, 0)
    feed(dialler.receive, stranger.seal(answer), step)
    assert of_type(dialler.events(), StreamOpened)[0].stream.id == 2


@each_step
def test_listener_agrees_on_yamux_before_it_sends_frames(step: int) -> None:
    listener, stranger = dialled_by()
    listener.session.open()
    assert len(listener.data_to_send(1000)) == 0
    feed(
        listener.receive,
        stranger.seal(HELLO + encode_line("/mplex/6.7.0") + encode_line("/yamux/1.0.0"))
        + stranger.seal(header(WINDOW_UPDATE, SYN, 1, 0)),
        step,
    )
    said = stranger.open(listener.data_to_send(1000))
    assert said.startswith(
        HELLO + b"\x03na\n" + encode_line("/yamux/1.0.0") + header(WINDOW_UPDATE, SYN, 2, 0)[:8]
    )
    assert of_type(listener.events(), StreamOpened)[0].stream.id == 1


def test_peer_with_another_muxer_only_is_told_so() -> None:
    dialler, stranger = answered_by(("/mplex/6.7.0",))
    stranger.noise.read(stranger.messages(dialler.data_to_send(1000))[0])
    stranger.secure()
    with pytest.raises(NoCommonProtocol, match="yamux"):
        dialler.receive(stranger.seal(HELLO + b"\x03na\n"))


# Strangers.


def test_somebody_else_than_was_dialled_learns_nothing_of_us() -> None:
    dialler = connection(True, LISTENER.public)
    with pytest.raises(WrongPeer) as error:
        dialler, _ = answered_by(identity=SecretKey(b"?" * 32))
    assert error.value.actual == SecretKey(b"?" * 32).public
    assert not dialler.secured


def test_without_an_expected_peer_whoever_answers_is_told() -> None:
    sides = connection(True), connection(False)
    for _ in flights(*sides):
        pass
    assert sides[0].peer == LISTENER.public


TLS = bytes.fromhex("16030100fb010000f703035a3c")
NONSENSE = {
    "TLS": TLS,
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "zeros": bytes(1000),
    "long handshake message": NOISE + b"\x20\x01",
    "short handshake message": NOISE + framed(bytes(31)),
    "empty handshake message": NOISE + b"\0\0",
    "key of low order": NOISE + framed(bytes(32)),
}


@pytest.mark.parametrize("said", NONSENSE.values(), ids=list(NONSENSE))
@pytest.mark.parametrize("initiator", [True, False], ids=["dialler", "listener"])
@each_step
def test_nonsense_ends_the_connection(said: bytes, initiator: bool, step: int) -> None:
    side = connection(initiator)
    side.data_to_send(1000)
    with pytest.raises(ProtocolError):
        feed(side.receive, said, step)
    assert len(side.data_to_send(1000)) == 0
    with pytest.raises(RemoteProtocolError):
        side.receive(b"x")
    assert not side.secured


def test_stranger_without_a_common_protocol_is_refused() -> None:
    listener = connection(False)
    listener.receive(HELLO + encode_line("/plaintext/2.0.0"))
    assert bytes(listener.data_to_send(100)) == HELLO + b"\x03na\n"


@pytest.mark.parametrize("muxers", [(), ("/yamux/1.0.0",)])
def test_nonsense_behind_the_handshake_ends_all_streams(muxers: tuple[str, ...]) -> None:
    listener, stranger = dialled_by(muxers)
    stream = listener.session.open()
    with pytest.raises(RemoteProtocolError):
        listener.receive(stranger.seal(b"nonsense that is no frame and no line"))
    with pytest.raises(StreamWasReset):
        stream.read(1)


def test_forged_message_ends_all_streams() -> None:
    listener, stranger = dialled_by(("/yamux/1.0.0",))
    stream = listener.session.open()
    message = bytearray(stranger.seal(header(WINDOW_UPDATE, SYN, 1, 0)))
    message[5] ^= 1
    with pytest.raises(RemoteProtocolError, match="forged"):
        listener.receive(bytes(message))
    with pytest.raises(StreamWasReset):
        stream.write(b"x")


def test_end_within_a_message_is_no_end_in_order() -> None:
    listener, stranger = dialled_by(("/yamux/1.0.0",))
    listener.receive(stranger.seal(b"")[:-1])
    with pytest.raises(RemoteProtocolError, match="within"):
        listener.receive_eof()


def test_end_of_the_socket_is_no_end_of_a_stream() -> None:
    """Anybody on the way can end a connection; only the peer can end a stream."""
    dialler, listener = connect()
    stream = dialler.session.open()
    stream.write(b"half of it")
    for _ in flights(dialler, listener):
        pass
    (opened,) = of_type(listener.events(), StreamOpened)
    listener.receive_eof()
    with pytest.raises(StreamWasReset):
        opened.stream.read(100)


def test_end_before_the_proof_is_an_error() -> None:
    with pytest.raises(RemoteProtocolError, match="proved"):
        connection(True).receive_eof()


def test_wants_bytes_never_waits_for_more_than_will_come() -> None:
    """With SO_RCVLOWAT at more than a message's rest both sides would sleep for ever."""
    dialler, listener = connection(True, LISTENER.public), connection(False)
    stream = dialler.session.open()
    stream.write(bytes(70_000))
    while dialler.has_data_to_send or listener.has_data_to_send:
        for writer, reader in ((dialler, listener), (listener, dialler)):
            wire = bytes(writer.data_to_send(200_000))
            while wire:
                wanted = reader.wants_bytes
                assert 1 <= wanted <= len(wire)
                reader.receive(wire[:wanted])
                wire = wire[wanted:]
    assert of_type(listener.events(), StreamOpened)[0].stream.unread == 70_000


def test_flood_is_bounded_for_a_connection() -> None:
    limits = Limits(window=INITIAL_WINDOW, unread=INITIAL_WINDOW)
    dialler, listener = connect(limits=limits)
    for _ in range(3):
        dialler.session.open().write(bytes(INITIAL_WINDOW))
    for _ in flights(dialler, listener):
        pass
    events = listener.events()
    assert sum(event.stream.unread for event in of_type(events, StreamOpened)) <= INITIAL_WINDOW
    assert len(of_type(events, StreamReset)) == 2


@given(st.binary(max_size=60), st.booleans(), st.integers(0, 3))
def test_no_bytes_do_worse_than_ending_the_connection(noise: bytes, initiator: bool, depth: int) -> None:
    prefix = (b"", HELLO, NOISE, NOISE + b"\0\x20" + bytes(range(32)))[depth]
    side = connection(initiator)
    try:
        side.receive(prefix + noise)
    except ProtocolError:
        return
    assert not side.secured
