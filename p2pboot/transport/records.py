"""Signed peer records: where a peer says, signed, that it can be found, whoever tells it on.

Source: https://github.com/libp2p/specs/blob/master/RFC/0003-routing-records.md, and 0002 for the envelope.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from p2pboot.core.identity import PublicKey, SecretKey
from p2pboot.errors import RemoteProtocolError
from p2pboot.transport.addresses import Address, known_dialable, of_peer
from p2pboot.transport.interface import PeerRecord
from p2pboot.transport.multiaddrs import decode_multiaddr, encode_multiaddr
from p2pboot.wire.noise.payload import decode_public_key, encode_public_key
from p2pboot.wire.protobuf import bytes_field, expect_bytes, number_field, read_fields
from p2pboot.wire.varint import encode_varint

MAX_ADDRESSES: Final = 16  # of one peer
MAX_RECORD_BYTES: Final = 4096  # 16 addresses with DNS names fit
_DOMAIN: Final = b"libp2p-peer-record"
_PAYLOAD_TYPE: Final = b"\x03\x01"
_GOSSIP: Final = "/meshsub/"
# Field numbers of the envelope, of the record in it, and of an address in that.
_PUBLIC_KEY, _TYPE, _PAYLOAD, _SIGNATURE = 1, 2, 3, 5
_PEER_ID, _SEQ, _ADDRESS = 1, 2, 3
_MULTIADDR: Final = 1


def read_record(raw: bytes) -> PeerRecord | None:
    """Read a signed peer record from anybody.

    Args:
        raw: a libp2p envelope, of any length and content.

    Returns:
        None when it is none, is longer than 4 KiB, has no Ed25519 key, or was signed by somebody else than the
        peer it speaks of: anybody can sign a record about a stranger.
    """
    if len(raw) > MAX_RECORD_BYTES:
        return None
    try:
        return _read(raw)
    except RemoteProtocolError:
        return None


def _read(raw: bytes) -> PeerRecord | None:
    envelope = dict(read_fields(raw))
    # Another kind of key is refused before anything is computed: an RSA key may make one check take seconds.
    key = decode_public_key(expect_bytes(envelope.get(_PUBLIC_KEY, b""), "an envelope's key"))
    kind, payload, signature = (
        expect_bytes(envelope.get(number, b""), "an envelope's field")
        for number in (_TYPE, _PAYLOAD, _SIGNATURE)
    )
    if kind != _PAYLOAD_TYPE or not key.verify(_signed(payload), signature):
        return None
    fields = list(read_fields(payload))
    if dict(fields).get(_PEER_ID) != key.peer_id_bytes:
        return None
    said = (str(address) for address in _addresses(fields))
    return PeerRecord(key.peer_id, known_dialable(of_peer(said, key.peer_id), limit=MAX_ADDRESSES))


def _addresses(record: Iterable[tuple[int, int | bytes]]) -> Iterator[Address]:
    for number, value in record:
        if number == _ADDRESS:
            info = dict(read_fields(expect_bytes(value, "an address")))
            address = decode_multiaddr(expect_bytes(info.get(_MULTIADDR, b""), "an address"))
            if address is not None:
                yield address


def sign_record(secret_key: SecretKey, addresses: Iterable[Address], sequence: int) -> bytes:
    """Return an envelope that says where the key's owner can be found.

    Args:
        secret_key: whose; signs it.
        addresses: at most `MAX_ADDRESSES` count.
        sequence: larger than that of any earlier record of this key.
    """
    public: PublicKey = secret_key.public
    kept = list(addresses)[:MAX_ADDRESSES]
    payload = bytes_field(_PEER_ID, public.peer_id_bytes) + number_field(_SEQ, sequence)
    payload += b"".join(bytes_field(_ADDRESS, bytes_field(_MULTIADDR, encode_multiaddr(one))) for one in kept)
    return (
        bytes_field(_PUBLIC_KEY, encode_public_key(public))
        + bytes_field(_TYPE, _PAYLOAD_TYPE)
        + bytes_field(_PAYLOAD, payload)
        + bytes_field(_SIGNATURE, secret_key.sign(_signed(payload)))
    )


class OwnRecord:
    """The record of one key, signed again only when it says something else.

    Args:
        secret_key: whose.
    """

    def __init__(self, secret_key: SecretKey) -> None:
        self._secret_key = secret_key
        self._said: Sequence[Address] = ()
        self._record = b""

    def of(self, addresses: Sequence[Address]) -> bytes:
        """Return the envelope that says these addresses, of which `MAX_ADDRESSES` count; empty for none."""
        if addresses != self._said:
            self._said = addresses
            self._record = (
                sign_record(self._secret_key, addresses, max(0, time.time_ns())) if addresses else b""
            )
        return self._record


def is_node(protocols: Iterable[str]) -> bool:
    """Whether who speaks these protocols is a node, which everyone may be told of: a client speaks no gossip."""
    return any(protocol.startswith(_GOSSIP) for protocol in protocols)


def _signed(payload: bytes) -> bytes:
    """What the signature is of: each part with its length before it."""
    return b"".join(encode_varint(len(part)) + part for part in (_DOMAIN, _PAYLOAD_TYPE, payload))
