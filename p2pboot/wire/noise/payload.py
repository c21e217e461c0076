"""What libp2p puts into a Noise handshake: the identity key, its signature of the Noise key, and extensions.

Spec: https://github.com/libp2p/specs/blob/master/noise/README.md#the-libp2p-handshake-payload; keys:
https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md#keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import KEY_BYTES, PublicKey, SecretKey
from p2pboot.errors import RemoteProtocolError
from p2pboot.wire.protobuf import bytes_field, expect_bytes, expect_text, number_field, read_fields

_SIGNED_PREFIX: Final = b"noise-libp2p-static-key:"
_MAX_PAYLOAD: Final = 4096
_MAX_MUXERS: Final = 16
_MAX_NAME: Final = 256

# Field numbers.
_IDENTITY_KEY, _IDENTITY_SIGNATURE, _EXTENSIONS = 1, 2, 4
_STREAM_MUXERS = 2
_KEY_TYPE, _KEY_DATA = 1, 2

_ED25519: Final = 1
_KEY_TYPES: Final = {0: "RSA", _ED25519: "Ed25519", 2: "Secp256k1", 3: "ECDSA"}


@dataclass(frozen=True, slots=True)
class Payload:
    """What the peer says of itself; its signature is checked.

    Args:
        identity: the key that its peer id is made of.
        muxers: the stream muxers that it offers within the handshake, best first; often none.
    """

    identity: PublicKey
    muxers: tuple[str, ...]


def encode_payload(identity: SecretKey, static_public: bytes, muxers: Sequence[str]) -> bytes:
    """Return our payload.

    Args:
        identity: signs `static_public`, our static Noise key of 32 bytes.
        static_public: as the peer will see it.
        muxers: offered within the handshake, best first.
    """
    extensions = b"".join(bytes_field(_STREAM_MUXERS, name.encode()) for name in muxers)
    return (
        bytes_field(_IDENTITY_KEY, encode_public_key(identity.public))
        + bytes_field(_IDENTITY_SIGNATURE, identity.sign(_SIGNED_PREFIX + static_public))
        + (bytes_field(_EXTENSIONS, extensions) if extensions else b"")
    )


def decode_payload(raw: bytes, remote_static: bytes) -> Payload:
    """Read the peer's payload and check that its identity signed the static Noise key that it uses.

    Without the check anybody could use anybody's identity.

    Raises:
        RemoteProtocolError: it is too long, unreadable, lacks something, has a key that is not Ed25519, or its
            signature is wrong.
    """
    if len(raw) > _MAX_PAYLOAD:
        raise RemoteProtocolError(f"a Noise payload of {len(raw)} bytes is longer than {_MAX_PAYLOAD}")
    fields = dict(read_fields(raw))  # the last one of a field counts, as in every protobuf
    key = expect_bytes(fields.get(_IDENTITY_KEY, b""), "the identity key")
    signature = expect_bytes(fields.get(_IDENTITY_SIGNATURE, b""), "the identity's signature")
    extensions = expect_bytes(fields.get(_EXTENSIONS, b""), "extensions")
    identity = decode_public_key(key)
    if not identity.verify(_SIGNED_PREFIX + remote_static, signature):
        raise RemoteProtocolError("the peer's identity has not signed its Noise key")
    return Payload(identity, _decode_muxers(extensions))


def _decode_muxers(extensions: bytes) -> tuple[str, ...]:
    muxers = [
        expect_text(value, "a stream muxer", _MAX_NAME)
        for number, value in read_fields(extensions)
        if number == _STREAM_MUXERS
    ]
    if len(muxers) > _MAX_MUXERS:
        raise RemoteProtocolError(f"the peer offers {len(muxers)} stream muxers")
    return tuple(muxers)


def encode_public_key(key: PublicKey) -> bytes:
    """libp2p's protobuf of an Ed25519 key."""
    return number_field(_KEY_TYPE, _ED25519) + bytes_field(_KEY_DATA, key.raw)


def decode_public_key(raw: bytes) -> PublicKey:
    """Read libp2p's protobuf of a key.

    Raises:
        RemoteProtocolError: it is none, or not Ed25519, which is all that this network uses.
    """
    fields = dict(read_fields(raw))
    key_type = fields.get(_KEY_TYPE)
    data = expect_bytes(fields.get(_KEY_DATA, b""), "a public key")
    if key_type != _ED25519:
        name = _KEY_TYPES.get(key_type, "unknown") if isinstance(key_type, int) else "unknown"
        raise RemoteProtocolError(f"the peer's identity is a key of type {name}, not Ed25519")
    if len(data) != KEY_BYTES:
        raise RemoteProtocolError(f"an Ed25519 key of {len(data)} bytes")
    return PublicKey(data)
