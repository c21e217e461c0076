"""One connection from its first byte: agreed on, encrypted, authenticated, multiplexed.

It has one way in, `receive`, one way out, `data_to_send`, and `events`. Whoever dials sends what needs no answer at
once: greeting, proposal and the first handshake message go out together, and its streams begin right behind the
third; so the first request arrives with the second round trip.

::

    SECURITY   multistream-select in the clear, for /noise
    HANDSHAKE  three Noise messages; the payloads name the muxers
    MUXER      multistream-select under encryption, for peers whose handshake named none
    STREAMS    Yamux
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import PublicKey, SecretKey
from p2pboot.errors import ProtocolError, RemoteProtocolError
from p2pboot.wire.multistream import Dialler, Listener
from p2pboot.wire.noise.handshake import Handshake
from p2pboot.wire.noise.payload import decode_payload, encode_payload
from p2pboot.wire.noise.transport import (
    LENGTH_BYTES,
    MAX_MESSAGE,
    MAX_PLAINTEXT,
    OVERHEAD,
    Framer,
    Opener,
    Sealer,
)
from p2pboot.wire.yamux.events import Event as YamuxEvent
from p2pboot.wire.yamux.frames import HEADER_BYTES
from p2pboot.wire.yamux.session import YAMUX_PROTOCOL, Session

NOISE_PROTOCOL: Final = "/noise"
_MUXERS: Final = (YAMUX_PROTOCOL,)
# Ours are about 250 bytes; a key of another kind and certificates make others' longer. A stranger may say this much.
_MAX_HANDSHAKE: Final = 8192
_TOO_LONG: Final = 4  # times what is needed: such a buffer is exchanged for a shorter one


class _State(Enum):
    SECURITY = auto()
    HANDSHAKE = auto()
    MUXER = auto()
    STREAMS = auto()


class WrongPeer(ProtocolError):
    """Somebody else answered than was dialled."""

    def __init__(self, actual: PublicKey) -> None:
        super().__init__(f"the peer answers as {actual.peer_id}")
        self.actual = actual


class NotGreeted(RemoteProtocolError):
    """The peer does not begin as one of libp2p does."""


class OtherSwarmKey(RemoteProtocolError):
    """What the peer sends makes no sense with our swarm key (`wire.private`): it has another one, or none."""


class EndedEarly(RemoteProtocolError):
    """The connection ended before the peer proved who it is."""


@dataclass(frozen=True, slots=True)
class Begun:
    """In a private mesh: the peer's nonce has come. Who has the same swarm key has answered one round trip later."""


@dataclass(frozen=True, slots=True)
class Secured:
    """The peer has proved who it is, and the session takes streams.

    Args:
        peer: its identity.
        in_handshake: whether the handshake chose the muxer, and saved a round trip.
    """

    peer: PublicKey
    in_handshake: bool


Event = Begun | Secured | YamuxEvent


@dataclass(frozen=True, slots=True)
class Keys:
    """What one side of a connection proves itself with.

    Args:
        identity: the node's.
        static: private Noise key, 32 random bytes; may be kept as long as the process runs.
        ephemeral: private key of this connection alone, 32 random bytes, never used again.
    """

    identity: SecretKey
    static: bytes
    ephemeral: bytes


class Connection:
    """One side of a connection.

    Args:
        initiator: whether this side dialled.
        keys: our own.
        session: Yamux with the same `initiator`; streams may be opened before the connection is secured.
        expected: the peer that was dialled, if it is known.
        scratch: memory to decrypt into, at least `MAX_PLAINTEXT` bytes. One will do for all connections that one
            thread drives.
    """

    def __init__(
        self,
        *,
        initiator: bool,
        keys: Keys,
        session: Session | None = None,
        expected: PublicKey | None = None,
        scratch: bytearray | None = None,
    ) -> None:
        self.session = session or Session(initiator=initiator)
        self.peer: PublicKey | None = None
        """Who is at the other end, once that is proved."""
        self.peer_static = b""
        """Its Noise key, once that is proved: two of its processes have the same only if they share their memory."""
        self._initiator = initiator
        self._identity = keys.identity
        self._expected = expected
        self._scratch = bytearray(MAX_PLAINTEXT) if scratch is None else scratch
        self._handshake = Handshake(initiator=initiator, static=keys.static, ephemeral=keys.ephemeral)
        self._framer = Framer(_MAX_HANDSHAKE)
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None
        self._clear = b""  # to be sent as it is
        self._inner = b""  # to be sent encrypted, before the session's frames
        self._sealed = bytearray()
        self._events: list[Event] = []
        self._state = _State.SECURITY
        self._failure = ""
        self._negotiation = self._negotiate((NOISE_PROTOCOL,))
        if initiator:
            self._clear = self._negotiation.data_to_send() + _framed(self._handshake.write())
        self._steps = {
            _State.MUXER: self._receive_muxer,
            _State.STREAMS: self.session.receive,
        }

    @property
    def secured(self) -> bool:
        """Whether the peer has proved who it is."""
        return self.peer is not None

    @property
    def wants_bytes(self) -> int:
        """How many bytes must come at least before anything can happen: for SO_RCVLOWAT."""
        return 1 if self._state is _State.SECURITY else self._framer.wants_bytes

    @property
    def held(self) -> int:
        """Bytes of memory that wait: unread, to be sent, encrypted, or a message in pieces."""
        return self.session.unread + self.session.unsent + len(self._sealed) + self._framer.held

    def events(self) -> list[Event]:
        """Return what happened since the last call; to be asked for after `receive` and after `data_to_send`."""
        events = self._events + self.session.events()
        self._events = []
        return events

    def receive(self, data: bytes | memoryview) -> None:
        """Take bytes from the socket; they are not needed any more when it returns.

        Raises:
            RemoteProtocolError: the peer did what it may not. What `data_to_send` returns now may still be sent, then
                the connection is to be closed; every further call raises again.
            WrongPeer, NoCommonProtocol: likewise, and the peer did nothing wrong.
        """
        if self._failure:
            raise RemoteProtocolError(self._failure)
        try:
            self._receive(data)
        except ProtocolError as error:
            self._failure = error.message
            self._clear = self._inner = b""
            self.session.end(error.message)
            raise

    def receive_eof(self) -> None:
        """Note that the socket has ended: every stream that has not ended in order is reset.

        Raises:
            EndedEarly: before the peer proved who it is.
            RemoteProtocolError: in the middle of a message.
        """
        self.session.end("the connection has ended")
        if not self.secured:
            raise EndedEarly("the connection ended before the peer proved who it is")
        if self._framer.partial:
            raise RemoteProtocolError("the connection ended within a message")

    def _receive(self, data: bytes | memoryview) -> None:
        if self._state is _State.SECURITY:
            self._agree(data)
            self._clear += self._negotiation.data_to_send()
            if self._negotiation.selected is None:
                return
            data = self._negotiation.trailing_data
            self._state = _State.HANDSHAKE
        self._framer.receive(data)
        for message in self._framer.messages():
            if self._opener is None:
                self._receive_handshake(bytes(message))
            else:
                self._steps[self._state](self._opener.open(message))

    def _agree(self, data: bytes | memoryview) -> None:
        try:
            self._negotiation.receive(data)
        except RemoteProtocolError as error:
            if self._negotiation.greeted:
                raise
            raise NotGreeted(error.message) from None

    def _receive_handshake(self, message: bytes) -> None:
        payload = self._handshake.read(message)
        if not self._initiator and not self._handshake.finished:
            self._clear += self._handshake_message()  # the first message's payload is nobody's: not looked at
            return
        remote = decode_payload(payload, self._handshake.remote_static)
        if self._expected is not None and remote.identity != self._expected:
            raise WrongPeer(remote.identity)
        if self._initiator:
            self._clear += self._handshake_message()
        self.peer, self.peer_static = remote.identity, self._handshake.remote_static
        self._begin_transport(Secured(remote.identity, YAMUX_PROTOCOL in remote.muxers))

    def _handshake_message(self) -> bytes:
        payload = encode_payload(self._identity, self._handshake.static_public, _MUXERS)
        return _framed(self._handshake.write(payload))

    def _begin_transport(self, secured: Secured) -> None:
        sending, receiving = self._handshake.split()
        self._sealer, self._opener = Sealer(sending), Opener(receiving, self._scratch)
        self._framer.max_length = MAX_MESSAGE
        self._events.append(secured)
        self._state = _State.STREAMS
        if not secured.in_handshake:
            self._state = _State.MUXER
            self._negotiation = self._negotiate(_MUXERS)
            self._inner = self._negotiation.data_to_send()

    def _negotiate(self, protocols: Sequence[str]) -> Dialler | Listener:
        return Dialler(protocols) if self._initiator else Listener(protocols)

    def _receive_muxer(self, plaintext: memoryview) -> None:
        self._negotiation.receive(plaintext)
        self._inner += self._negotiation.data_to_send()
        if self._negotiation.selected is not None:
            self._state = _State.STREAMS
            self.session.receive(self._negotiation.trailing_data)

    @property
    def has_data_to_send(self) -> bool:
        """Whether `data_to_send` would return something."""
        return bool(self._clear or self._inner) or (self._may_send_frames() and self.session.has_data_to_send)

    def _may_send_frames(self) -> bool:
        # Whoever dials need not wait for the peer's agreement to the only muxer that there is.
        if self._state is _State.MUXER:
            return self._initiator
        return self._state is _State.STREAMS

    def data_to_send(self, max_bytes: int) -> memoryview:
        """Return what is to go to the socket next, all of it and before this is called again; empty for nothing.

        Args:
            max_bytes: about how many, at least 64; a full Noise message has 65,537. What is handed out at once keeps
                everything that is written later waiting, pings too.
        """
        head, self._clear = self._clear, b""
        if self._sealer is None:
            return memoryview(head)
        room = max(max_bytes - len(head), 0)
        buffer, used = self._buffer(len(head) + room), len(head)
        buffer[:used] = head
        while (space := room + len(head) - used - OVERHEAD) >= HEADER_BYTES:
            plaintext = self._next_plaintext(min(space, MAX_PLAINTEXT))
            if not plaintext:
                break
            used += self._sealer.seal_into(plaintext, buffer[used:])
        if not used:
            self._sealed = bytearray()  # nothing is going on: keep no memory
        return buffer[:used]

    def _next_plaintext(self, room: int) -> bytes:
        if self._inner:
            plaintext, self._inner = self._inner[:room], self._inner[room:]
            return plaintext
        return self.session.data_to_send(room) if self._may_send_frames() else b""

    def _buffer(self, length: int) -> memoryview:
        if not length <= len(self._sealed) <= _TOO_LONG * length:
            self._sealed = bytearray(length)
        return memoryview(self._sealed)


def _framed(message: bytes) -> bytes:
    return len(message).to_bytes(LENGTH_BYTES, "big") + message
