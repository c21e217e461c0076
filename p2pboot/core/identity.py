"""Identity: the Ed25519 key of a node or publisher, its key id and its libp2p peer id.

Owns keys as values: it makes none (randomness belongs to the caller), reads no files
(:mod:`p2pboot.core.keyformats`, :mod:`p2pboot.store.keyfiles`) and does not import libp2p.

The peer id follows https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md: base58btc of the
identity multihash of the protobuf-encoded public key, for Ed25519 always ``12D3KooW…``.
"""

from __future__ import annotations

import hmac
import re
from functools import lru_cache
from typing import Final

from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from p2pboot.core import base58
from p2pboot.core.dataclass import dataclass

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
KEYID_PREFIX: Final = "ed25519:"

_HEX_KEY: Final = re.compile(r"[0-9a-f]{64}")
_PROTOBUF_PREFIX: Final = bytes.fromhex("08011220")  # PublicKey { Type: Ed25519, Data: 32 bytes }
_PEER_ID_PREFIX: Final = bytes([0x00, len(_PROTOBUF_PREFIX) + KEY_BYTES]) + _PROTOBUF_PREFIX
_PEER_ID_START: Final = "12D3KooW"
_PEER_ID_CHARS: Final = 52


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key.

    Args:
        raw: its 32 bytes.

    Raises:
        ValueError: not 32 bytes. Whether they are a point of the curve shows when a signature is checked.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise ValueError(f"an Ed25519 public key is {KEY_BYTES} bytes, not {len(self.raw)}")

    @classmethod
    def from_keyid(cls, keyid: str) -> PublicKey:
        """Read exactly ``ed25519:<64 lowercase hex>``, the only form that documents use.

        Raises:
            ValueError: any other form.
        """
        digits = keyid.removeprefix(KEYID_PREFIX)
        if len(digits) == len(keyid) or _HEX_KEY.fullmatch(digits) is None:
            raise ValueError(f"key id {keyid[:100]!r} is not of the form ed25519:<64 lowercase hex digits>")
        return cls(bytes.fromhex(digits))

    @classmethod
    def from_peer_id(cls, peer_id: str) -> PublicKey:
        """Read the key out of an Ed25519 peer id (``12D3KooW…``).

        Raises:
            ValueError: not base58btc, or not the peer id of an Ed25519 key.
        """
        message = f"peer id {peer_id[:80]!r} is not that of an Ed25519 key (12D3KooW and 44 characters more)"
        if len(peer_id) != _PEER_ID_CHARS or not peer_id.startswith(_PEER_ID_START):
            raise ValueError(message)  # also bounds the decoding, which is quadratic in the length
        try:
            return cls.from_peer_id_bytes(base58.decode(peer_id))
        except ValueError:
            raise ValueError(message) from None

    @classmethod
    def from_peer_id_bytes(cls, raw: bytes) -> PublicKey:
        """Read the key out of an Ed25519 peer id in its binary form, an identity multihash.

        Raises:
            ValueError: it is none.
        """
        if len(raw) != len(_PEER_ID_PREFIX) + KEY_BYTES or not raw.startswith(_PEER_ID_PREFIX):
            raise ValueError("not the peer id of an Ed25519 key")
        return cls(raw[len(_PEER_ID_PREFIX) :])

    @property
    def hex(self) -> str:
        """64 lowercase hex digits."""
        return self.raw.hex()

    @property
    def keyid(self) -> str:
        """``ed25519:`` and 64 lowercase hex digits."""
        return KEYID_PREFIX + self.raw.hex()

    @property
    def peer_id(self) -> str:
        """The libp2p peer id, ``12D3KooW…``."""
        return _peer_id(self.raw)

    @property
    def peer_id_bytes(self) -> bytes:
        """The same in its binary form."""
        return _PEER_ID_PREFIX + self.raw

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is this key's signature of ``message``; never raises for bad input."""
        if len(signature) != SIGNATURE_BYTES:
            return False
        try:
            crypto_sign_open(signature + message, self.raw)
        except BadSignatureError:
            return False
        return True

    def __str__(self) -> str:
        return self.keyid


class SecretKey:
    """An Ed25519 key pair. Its ``repr`` and ``str`` show the public half only."""

    __slots__ = ("_public", "_seed", "_signing_key")

    def __init__(self, seed: bytes) -> None:
        """Make the pair of a 32-byte seed (RFC 8032's private key).

        Raises:
            ValueError: not 32 bytes.
        """
        if len(seed) != KEY_BYTES:
            raise ValueError(f"an Ed25519 seed is {KEY_BYTES} bytes, not {len(seed)}")
        self._seed = bytes(seed)
        public, self._signing_key = crypto_sign_seed_keypair(self._seed)
        self._public = PublicKey(public)

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes. For key files and the transport only: never log or show them."""
        return self._seed

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature (RFC 8032, pure) of ``message``."""
        return crypto_sign(message, self._signing_key)[:SIGNATURE_BYTES]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretKey):
            return NotImplemented
        return hmac.compare_digest(self._seed, other._seed)

    def __hash__(self) -> int:
        return hash(self._public)

    def __repr__(self) -> str:
        return f"SecretKey(public={self._public.keyid!r})"


def parse_keyid(text: str) -> PublicKey:
    """Read a public key as a person names it: ``ed25519:<hex>``, 64 hex digits, or a peer id ``12D3KooW…``.

    Surrounding blanks and upper-case hex are taken. Documents are read with :meth:`PublicKey.from_keyid`.

    Raises:
        ValueError: none of these. The message is one line for a person. Whether the key can have signed anything
            is not looked at: no signature of an impossible key ever verifies.
    """
    text = text.strip()
    if text.startswith(_PEER_ID_START):
        return PublicKey.from_peer_id(text)
    digits = text.lower().removeprefix(KEYID_PREFIX)
    if _HEX_KEY.fullmatch(digits) is None:
        raise ValueError(
            f"{text[:100]!r} is no key id: give ed25519:<64 hex digits> or a peer id 12D3KooW..."
        )
    return PublicKey(bytes.fromhex(digits))


@lru_cache(maxsize=256)
def _peer_id(raw: bytes) -> str:
    return base58.encode(_PEER_ID_PREFIX + raw)
