"""The handshake `Noise_XX_25519_ChaChaPoly_SHA256`: three messages, then one key for each direction.

The names of methods and variables are the specification's (sections 5.1 to 5.3). It knows nothing of libp2p: what a
payload means is said in `wire.noise.payload`.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

# Not cryptography's X25519: that loads the rest of its OpenSSL, a twentieth of what starting a client takes.
from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base
from nacl.exceptions import CryptoError

from p2pboot.errors import LocalProtocolError, RemoteProtocolError

PROTOCOL_NAME: Final = b"Noise_XX_25519_ChaChaPoly_SHA256"
KEY_BYTES: Final = 32
TAG_BYTES: Final = 16

# The tokens of XX's messages; the initiator writes the first and the third.
_MESSAGES: Final = (("e",), ("e", "ee", "s", "es"), ("s", "se"))
# Between which keys: the initiator's, the responder's.
_DIFFIE_HELLMAN: Final = {"ee": ("e", "e"), "es": ("e", "s"), "se": ("s", "e")}


class SymmetricState:
    """Chaining key, handshake hash and the cipher key of the moment (section 5.2)."""

    def __init__(self, protocol_name: bytes, prologue: bytes) -> None:
        self._chaining_key = protocol_name.ljust(sha256().digest_size, b"\0")
        self._cipher: ChaCha20Poly1305 | None = None
        self._counter = 0
        self.hash = self._chaining_key
        self.mix_hash(prologue)

    def mix_hash(self, data: bytes) -> None:
        """Bind `data` to the handshake."""
        self.hash = sha256(self.hash + data).digest()

    def mix_key(self, shared_secret: bytes) -> None:
        """Go on to a key that nobody knows who does not know `shared_secret`."""
        self._chaining_key, key = self._hkdf(shared_secret)
        self._cipher, self._counter = ChaCha20Poly1305(key), 0

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        """Encrypt with the key of the moment; in the clear as long as there is none."""
        sealed = plaintext
        if self._cipher is not None:
            sealed = self._cipher.encrypt(self._next_nonce(), plaintext, self.hash)
        self.mix_hash(sealed)
        return sealed

    def decrypt_and_hash(self, sealed: bytes) -> bytes:
        """Undo `encrypt_and_hash`; raises InvalidTag where it is not what the peer wrote."""
        plaintext = sealed
        if self._cipher is not None:
            plaintext = self._cipher.decrypt(self._next_nonce(), sealed, self.hash)
        self.mix_hash(sealed)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """Return the initiator's and the responder's key for what follows."""
        return self._hkdf(b"")

    @property
    def tag_bytes(self) -> int:
        """By how much `encrypt_and_hash` makes things longer now."""
        return 0 if self._cipher is None else TAG_BYTES

    def _next_nonce(self) -> bytes:
        self._counter += 1
        return bytes(4) + (self._counter - 1).to_bytes(8, "little")

    def _hkdf(self, input_key: bytes) -> tuple[bytes, bytes]:
        secret = hmac.digest(self._chaining_key, input_key, "sha256")
        first = hmac.digest(secret, b"\x01", "sha256")
        return first, hmac.digest(secret, first + b"\x02", "sha256")


class Handshake:
    """One side of a handshake.

    Args:
        initiator: whether this side writes first.
        static, ephemeral: private keys, 32 bytes each. The ephemeral one must be random and never used again.
        prologue: what both sides must agree on already; libp2p has nothing there.
    """

    def __init__(self, *, initiator: bool, static: bytes, ephemeral: bytes, prologue: bytes = b"") -> None:
        self._initiator = initiator
        self._own = {"s": static, "e": ephemeral}
        self._remote: dict[str, bytes] = {}
        self._symmetric = SymmetricState(PROTOCOL_NAME, prologue)
        self._done = 0  # messages written and read

    @property
    def finished(self) -> bool:
        """Whether all three messages were exchanged."""
        return self._done == len(_MESSAGES)

    @property
    def writes_next(self) -> bool:
        """Whether the next message is ours."""
        return not self.finished and (self._done % 2 == 0) == self._initiator

    @property
    def handshake_hash(self) -> bytes:
        """32 bytes that name this session; the same on both sides when it is finished."""
        return self._symmetric.hash

    @property
    def static_public(self) -> bytes:
        """Our own static key as the peer sees it, 32 bytes."""
        return crypto_scalarmult_base(self._own["s"])

    @property
    def remote_static(self) -> bytes:
        """The peer's static key, 32 bytes; there is one once its message with it was read."""
        return self._remote["s"]

    def write(self, payload: bytes = b"") -> bytes:
        """Return our next message, with `payload` in it.

        The first message's payload is readable by anybody, the second's by whoever dials.

        Raises:
            LocalProtocolError: it is not our turn.
            RemoteProtocolError: the peer's last message had an impossible key.
        """
        if not self.writes_next:
            raise LocalProtocolError("it is not our turn to write a handshake message")
        message = b""
        for step in self._next_tokens():
            if step in _DIFFIE_HELLMAN:
                self._mix_shared_secret(step)
                continue
            public = crypto_scalarmult_base(self._own[step])
            if step == "e":
                self._symmetric.mix_hash(public)
                message += public
            else:
                message += self._symmetric.encrypt_and_hash(public)
        return message + self._symmetric.encrypt_and_hash(payload)

    def read(self, message: bytes) -> bytes:
        """Take the peer's next message and return the payload in it.

        Raises:
            LocalProtocolError: it is not the peer's turn.
            RemoteProtocolError: it is too short, was not made for this handshake, or has an impossible key. The
                handshake is over.
        """
        if self.finished or self.writes_next:
            raise LocalProtocolError("it is not the peer's turn to write a handshake message")
        try:
            for step in self._next_tokens():
                if step in _DIFFIE_HELLMAN:
                    self._mix_shared_secret(step)
                elif step == "e":
                    self._remote[step], message = _cut(message, KEY_BYTES)
                    self._symmetric.mix_hash(self._remote[step])
                else:
                    sealed, message = _cut(message, KEY_BYTES + self._symmetric.tag_bytes)
                    self._remote[step] = self._symmetric.decrypt_and_hash(sealed)
            if len(message) < self._symmetric.tag_bytes:
                raise RemoteProtocolError("a Noise handshake message is too short")
            return self._symmetric.decrypt_and_hash(message)
        except InvalidTag:
            raise RemoteProtocolError("a Noise handshake message is damaged or forged") from None

    def split(self) -> tuple[bytes, bytes]:
        """Return the keys to send and to receive with, 32 bytes each.

        Raises:
            LocalProtocolError: the handshake is not finished.
        """
        if not self.finished:
            raise LocalProtocolError("the Noise handshake is not finished")
        first, second = self._symmetric.split()
        return (first, second) if self._initiator else (second, first)

    def _next_tokens(self) -> tuple[str, ...]:
        self._done += 1
        return _MESSAGES[self._done - 1]

    def _mix_shared_secret(self, step: str) -> None:
        initiators, responders = _DIFFIE_HELLMAN[step]
        ours, theirs = (initiators, responders) if self._initiator else (responders, initiators)
        try:
            secret = crypto_scalarmult(self._own[ours], self._remote[theirs])
        except CryptoError:  # a point of low order: the secret would be known to everybody
            raise RemoteProtocolError("the peer's Noise key is impossible") from None
        self._symmetric.mix_key(secret)


def _cut(message: bytes, length: int) -> tuple[bytes, bytes]:
    if len(message) < length:
        raise RemoteProtocolError("a Noise handshake message is too short")
    return message[:length], message[length:]
