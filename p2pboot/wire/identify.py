"""identify, `/ipfs/id/1.0.0`: what a peer says of itself to whoever opens a stream.

Spec: https://github.com/libp2p/specs/blob/master/identify/README.md. The answerer writes one message and closes;
go-libp2p divides what is long over several, which are put together again here.
"""

from __future__ import annotations

from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import PublicKey
from p2pboot.errors import RemoteProtocolError
from p2pboot.wire.noise.payload import decode_public_key, encode_public_key
from p2pboot.wire.protobuf import bytes_field, expect_bytes, expect_text, read_fields
from p2pboot.wire.varint import decode_varint, encode_varint

IDENTIFY_PROTOCOL: Final = "/ipfs/id/1.0.0"
MAX_IDENTIFY: Final = 8192
"""Bytes of all messages together with their lengths; as much as go-libp2p sends with a signed record."""
MAX_ADDRESSES: Final = 16
MAX_PROTOCOLS: Final = 64
"""What is kept of a longer list: its beginning."""
MAX_RECORD: Final = 4096
_MAX_ADDRESS: Final = 256
_MAX_TEXT: Final = 256
_MAX_PREFIX: Final = 2


@dataclass(frozen=True, slots=True)
class Identity:
    """What a peer says of itself; its word only.

    Args:
        public_key: to be compared with the one of the connection; None where it says none.
        listen_addresses: multiaddrs in their binary form, unread.
        protocols: that it speaks.
        observed_address: how it sees us; a multiaddr in its binary form, or b"".
        protocol_version, agent_version: for people.
        signed_record: an envelope with a peer record, unverified, or b"".
    """

    public_key: PublicKey | None = None
    listen_addresses: tuple[bytes, ...] = ()
    protocols: tuple[str, ...] = ()
    observed_address: bytes = b""
    protocol_version: str = ""
    agent_version: str = ""
    signed_record: bytes = b""


# Field numbers of identify's message.
_PUBLIC_KEY, _LISTEN_ADDRESS, _PROTOCOL, _OBSERVED = 1, 2, 3, 4
_PROTOCOL_VERSION, _AGENT_VERSION, _SIGNED_RECORD = 5, 6, 8


def encode_identify(identity: Identity) -> bytes:
    """Return the message, with its length, to be written to the stream."""
    fields = [(_LISTEN_ADDRESS, address) for address in identity.listen_addresses]
    fields += [(_PROTOCOL, protocol.encode()) for protocol in identity.protocols]
    single = {
        _PUBLIC_KEY: b"" if identity.public_key is None else encode_public_key(identity.public_key),
        _OBSERVED: identity.observed_address,
        _PROTOCOL_VERSION: identity.protocol_version.encode(),
        _AGENT_VERSION: identity.agent_version.encode(),
        _SIGNED_RECORD: identity.signed_record,
    }
    fields += [(number, value) for number, value in single.items() if value]
    message = b"".join(bytes_field(number, value) for number, value in fields)
    return encode_varint(len(message)) + message


class IdentifyReader:
    """Takes an answer as it comes."""

    def __init__(self) -> None:
        self._received = bytearray()

    def receive(self, data: bytes) -> None:
        """Add bytes of the peer.

        Raises:
            RemoteProtocolError: it says more than anybody wants to know.
        """
        self._received += data
        if len(self._received) > MAX_IDENTIFY:
            raise RemoteProtocolError(f"identify of more than {MAX_IDENTIFY} bytes")

    def receive_eof(self) -> Identity:
        """Return what the peer said, now that it has closed its side.

        Raises:
            RemoteProtocolError: it is cut off, unreadable, or goes beyond a limit.
        """
        merged, at = bytearray(), 0
        while at < len(self._received):
            prefix = decode_varint(self._received, at, max_bytes=_MAX_PREFIX)
            if prefix is None or sum(prefix) > len(self._received):
                raise RemoteProtocolError("identify ends within a message")
            length, start = prefix
            at = start + length
            # Protobuf's own rule: messages one after the other are one message.
            merged += self._received[start:at]
        return _decode(bytes(merged))


def _decode(message: bytes) -> Identity:
    addresses: list[bytes] = []
    protocols: list[str] = []
    single: dict[int, int | bytes] = {}
    for number, value in read_fields(message):
        if number == _LISTEN_ADDRESS:
            addresses.append(_bounded(value, "an address", _MAX_ADDRESS))
        elif number == _PROTOCOL:
            protocols.append(expect_text(value, "a protocol", _MAX_TEXT))
        else:
            single[number] = value
    return Identity(
        decode_public_key(_bounded(single[_PUBLIC_KEY], "a key", _MAX_TEXT))
        if _PUBLIC_KEY in single
        else None,
        tuple(addresses[:MAX_ADDRESSES]),
        tuple(protocols[:MAX_PROTOCOLS]),
        _bounded(single.get(_OBSERVED, b""), "an address", _MAX_ADDRESS),
        expect_text(single.get(_PROTOCOL_VERSION, b""), "the protocol version", _MAX_TEXT),
        expect_text(single.get(_AGENT_VERSION, b""), "the agent version", _MAX_TEXT),
        _bounded(single.get(_SIGNED_RECORD, b""), "a signed record", MAX_RECORD),
    )


def _bounded(value: int | bytes, what: str, max_bytes: int) -> bytes:
    raw = expect_bytes(value, what)
    if len(raw) > max_bytes:
        raise RemoteProtocolError(f"{what} of {len(raw)} bytes is longer than {max_bytes}")
    return raw
