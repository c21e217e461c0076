"""The messages of libp2p's Kademlia, `/ipfs/kad/1.0.0`, without input or output.

Spec: https://github.com/libp2p/specs/blob/master/kad-dht/README.md#rpc-messages. On a stream each message is behind its
length, an unsigned varint; any number of requests may follow each other, and all but ADD_PROVIDER have a reply.

What others have besides is passed over, except for `ttl` (rust-libp2p's: seconds that a record is good for). Ours
besides is `further records`: a reply has room for one value only, and of several that strangers put under one key
whoever asks is to judge, not whoever is asked. Implementations that do not know the field pass it over.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import LocalProtocolError, RemoteProtocolError
from p2pboot.wire.protobuf import bytes_field, expect_bytes, number_field, read_fields
from p2pboot.wire.varint import decode_varint, encode_varint

KAD_PROTOCOL: Final = "/ipfs/kad/1.0.0"

MAX_FRAME: Final = 64 * 1024
"""Bytes of one message. A reply with 40 peers of eight addresses each has 10 KiB."""

MAX_KEY: Final = 128
"""Bytes of a key; go-libp2p and py-libp2p take as many."""

MAX_VALUE: Final = 4096
"""Bytes of a value; ours are URLs."""

MAX_CLOSER: Final = 20
"""Closer peers in a message that are looked at; what follows is passed over."""

MAX_PROVIDERS: Final = 20
"""Providers in a message, likewise."""

MAX_ADDRESSES: Final = 16
"""Addresses of one peer that are looked at, likewise."""

MAX_FURTHER: Final = 64
"""Further records, likewise."""

_MAX_FIELDS: Final = 2048  # of one message, with all that is nested: reading one takes half a microsecond
_LENGTH_BYTES: Final = 3  # of a varint up to MAX_FRAME
_MAX_TTL_S: Final = (1 << 32) - 1

# Field numbers of a message, of a peer in it, and of a record in it.
_TYPE, _KEY, _RECORD, _CLOSER, _PROVIDERS, _FURTHER = 1, 2, 3, 8, 9, 2500
_PEER_ID, _ADDRESS = 1, 2
_RECORD_KEY, _VALUE, _TTL = 1, 2, 777


class MessageType(enum.IntEnum):
    """What is asked, and in a reply what was."""

    PUT_VALUE = 0
    GET_VALUE = 1
    ADD_PROVIDER = 2
    GET_PROVIDERS = 3
    FIND_NODE = 4
    PING = 5


@dataclass(frozen=True, slots=True)
class Record:
    """A value under a key.

    Args:
        key: at most MAX_KEY bytes; in a record that came, any.
        value: at most MAX_VALUE bytes; in a record that came, any.
        ttl_s: seconds that it is good for, 0 where that is not said.
    """

    key: bytes
    value: bytes
    ttl_s: int = 0


@dataclass(frozen=True, slots=True)
class KadPeer:
    """A peer that one is told of.

    Args:
        id: its peer id in the binary form, of any kind of key.
        addresses: multiaddrs in the binary form, unread, at most MAX_ADDRESSES.
    """

    id: bytes
    addresses: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """A request or a reply.

    Args:
        type: what it is about.
        key: what is asked for: a name, the multihash of content, a peer id.
        record: the value that is put, or one that is there.
        further: further values that are there, at most MAX_FURTHER.
        closer: peers that are closer to the key, at most MAX_CLOSER.
        providers: who has the content, or says so of itself, at most MAX_PROVIDERS.
    """

    type: MessageType
    key: bytes = b""
    record: Record | None = None
    further: tuple[Record, ...] = ()
    closer: tuple[KadPeer, ...] = ()
    providers: tuple[KadPeer, ...] = ()

    @property
    def records(self) -> tuple[Record, ...]:
        """All values that are there."""
        return self.further if self.record is None else (self.record, *self.further)


def encode_message(message: Message) -> bytes:
    """Write a message, with its length before it.

    Raises:
        LocalProtocolError: it is longer than MAX_FRAME.
    """
    parts = [number_field(_TYPE, message.type)] if message.type else []  # as protobuf 3 leaves zeros out
    if message.key:
        parts.append(bytes_field(_KEY, message.key))
    if message.record is not None:
        parts.append(bytes_field(_RECORD, _encode_record(message.record)))
    parts += [bytes_field(_CLOSER, _encode_peer(peer)) for peer in message.closer]
    parts += [bytes_field(_PROVIDERS, _encode_peer(peer)) for peer in message.providers]
    parts += [bytes_field(_FURTHER, _encode_record(record)) for record in message.further]
    encoded = b"".join(parts)
    if len(encoded) > MAX_FRAME:
        raise LocalProtocolError(f"a message of {len(encoded)} bytes is longer than {MAX_FRAME}")
    return encode_varint(len(encoded)) + encoded


def _encode_record(record: Record) -> bytes:
    encoded = bytes_field(_RECORD_KEY, record.key) + bytes_field(_VALUE, record.value)
    return encoded + number_field(_TTL, record.ttl_s) if record.ttl_s else encoded


def record_size(record: Record) -> int:
    """Bytes that a further record takes in a message, at most."""
    return len(record.key) + len(record.value) + 24


def _encode_peer(peer: KadPeer) -> bytes:
    addresses = b"".join(bytes_field(_ADDRESS, address) for address in peer.addresses)
    return bytes_field(_PEER_ID, peer.id) + addresses


def decode_message(raw: bytes) -> Message:
    """Read a message that anybody sent, without its length.

    Raises:
        RemoteProtocolError: it is none, or of an unknown type, or has more fields than an honest one.
    """
    return _Decoder().message(raw)


class _Decoder:
    """Reads one message; how much of it is looked at is bounded."""

    def __init__(self) -> None:
        self._left = _MAX_FIELDS

    def _fields(self, raw: bytes) -> Iterator[tuple[int, int | bytes]]:
        for field in read_fields(raw):
            self._left -= 1
            if self._left < 0:
                raise RemoteProtocolError(f"a Kademlia message has more than {_MAX_FIELDS} fields")
            yield field

    def message(self, raw: bytes) -> Message:
        number, key = 0, b""
        record: Record | None = None
        further: list[Record] = []
        closer: list[KadPeer] = []
        providers: list[KadPeer] = []
        for field, value in self._fields(raw):
            if field == _TYPE:
                number = _expect_number(value, "a Kademlia message's type")
            elif field == _KEY:
                key = expect_bytes(value, "a Kademlia message's key")
            elif field == _RECORD:
                record = self._record(expect_bytes(value, "a record"))
            elif field == _CLOSER and len(closer) < MAX_CLOSER:
                closer.append(self._peer(expect_bytes(value, "a peer")))
            elif field == _PROVIDERS and len(providers) < MAX_PROVIDERS:
                providers.append(self._peer(expect_bytes(value, "a peer")))
            elif field == _FURTHER and len(further) < MAX_FURTHER:
                further.append(self._record(expect_bytes(value, "a record")))
        try:
            kind = MessageType(number)
        except ValueError:
            raise RemoteProtocolError(f"a Kademlia message is of type {number}") from None
        return Message(kind, key, record, tuple(further), tuple(closer), tuple(providers))

    def _record(self, raw: bytes) -> Record:
        key = value = b""
        ttl_s = 0
        for field, content in self._fields(raw):
            if field == _RECORD_KEY:
                key = expect_bytes(content, "a record's key")
            elif field == _VALUE:
                value = expect_bytes(content, "a record's value")
            elif field == _TTL:
                ttl_s = min(_expect_number(content, "a record's ttl"), _MAX_TTL_S)
        return Record(key, value, ttl_s)

    def _peer(self, raw: bytes) -> KadPeer:
        peer_id = b""
        addresses: list[bytes] = []
        for field, value in self._fields(raw):
            if field == _PEER_ID:
                peer_id = expect_bytes(value, "a peer's id")
            elif field == _ADDRESS and len(addresses) < MAX_ADDRESSES:
                addresses.append(expect_bytes(value, "a peer's address"))
        return KadPeer(peer_id, tuple(addresses))


def _expect_number(value: int | bytes, what: str) -> int:
    if isinstance(value, bytes):
        raise RemoteProtocolError(f"{what} is no number")
    return value


class MessageReader:
    """Cuts what arrives on a stream into messages: `receive`, then `next` until it returns None.

    At most one message and what came with it is held, whatever a peer says that it will send.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive(self, data: bytes) -> None:
        """Take bytes as they come."""
        self._buffer += data

    def next(self) -> Message | None:
        """The next message; None while it is incomplete.

        Raises:
            RemoteProtocolError: it is longer than MAX_FRAME, which its length says before it comes, or no message.
        """
        found = decode_varint(self._buffer, max_bytes=_LENGTH_BYTES, minimal=False)
        if found is None:
            return None
        length, begin = found
        if length > MAX_FRAME:
            raise RemoteProtocolError(f"a Kademlia message of {length} bytes is longer than {MAX_FRAME}")
        if len(self._buffer) < begin + length:
            return None
        raw = bytes(self._buffer[begin : begin + length])
        del self._buffer[: begin + length]
        return decode_message(raw)

    @property
    def is_between(self) -> bool:
        """Whether nothing of a message has come that is not whole: a stream may end here."""
        return not self._buffer
