"""The signature of a payload: Ed25519 directly over its bytes, and the text of a `.sig` file.

The text is the base64 of 64 bytes, after `<key version>:` where the signing key has a version: a number from 0 to
2^32-1 in decimal. Readers also take white space around it and a byte order mark before it. A text that is there and
is no signature is an error that says why; it never counts as missing.

Payloads are large, so what signs and verifies here takes any buffer and copies nothing: a mapped file of
1 GiB is read once, by OpenSSL.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import SIGNATURE_BYTES, PublicKey, SecretKey
from p2pboot.core.timetoke.errors import (
    KeyVersionInvalid,
    SignatureEmpty,
    SignatureLengthError,
    SignatureMismatch,
    SignatureUndecodable,
)

if TYPE_CHECKING:
    from p2pboot.core.timetoke.reader import Payload

MAX_SIGNATURE_TEXT: Final = 1024
"""Bytes of a `.sig` file that are read; a signature takes 88."""

MAX_KEY_VERSION: Final = 2**32 - 1

_BLANKS: Final = " \t\r\n"
_BYTE_ORDER_MARK: Final = "\ufeff"
_KEY_VERSION: Final = re.compile(r"\+?[0-9]+")  # what the source system's parser of a u32 takes
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True, slots=True)
class PayloadSignature:
    """A signature as its text says it.

    Args:
        raw: its 64 bytes.
        key_version: which of its keys the signer says that it used, a number in decimal; None in the plain form.
    """

    raw: bytes
    key_version: str | None = None

    @property
    def base64(self) -> str:
        """The plain form: 88 characters."""
        return base64.b64encode(self.raw).decode("ascii")

    @property
    def text(self) -> str:
        """What a `.sig` file holds: the plain form, after the key version if there is one; no newline."""
        return self.base64 if self.key_version is None else f"{self.key_version}:{self.base64}"

    @classmethod
    def parse(cls, text: str | bytes, *, source: str = "the signature") -> PayloadSignature:
        """Read the text of a `.sig` file.

        Args:
            text: its content.
            source: what to call it in messages, usually its path.

        Raises:
            SignatureEmpty: nothing but white space.
            SignatureUndecodable: no base64 (RFC 4648, 4, padded), a key version that is none, or far too long.
            SignatureLengthError: base64 of something else than 64 bytes.
        """
        remedy = "get it again, or remove it if the snapshot was never signed"
        try:
            decoded = text if isinstance(text, str) else text.decode()
        except UnicodeDecodeError:
            raise SignatureUndecodable(f"{source} is no base64 text", remedy=remedy) from None
        stripped = decoded.removeprefix(_BYTE_ORDER_MARK).strip(_BLANKS)
        if not stripped:
            raise SignatureEmpty(f"{source} is empty", remedy=remedy)
        if len(text) > MAX_SIGNATURE_TEXT:
            raise SignatureUndecodable(f"{source} is too long for a signature", remedy=remedy)
        version, colon, encoded = stripped.partition(":")
        key_version = _key_version(version, source) if colon else None
        raw = _decode(encoded if colon else stripped)
        if raw is None:
            raise SignatureUndecodable(f"{source} is not padded base64", remedy=remedy)
        if len(raw) != SIGNATURE_BYTES:
            raise SignatureLengthError(
                f"{source} holds {len(raw)} bytes, an Ed25519 signature has {SIGNATURE_BYTES}", remedy=remedy
            )
        return cls(raw, key_version)

    def check(
        self, payload: Payload, keys: Sequence[PublicKey], *, source: str = "the signature"
    ) -> PublicKey:
        """Verify over the payload's bytes; return the key whose signature it is.

        Raises:
            SignatureMismatch: it is that of none of the keys over these bytes.
        """
        for key in keys:
            if verify_payload(payload, self.raw, key):
                return key
        names = ", ".join(key.keyid for key in keys)
        raise SignatureMismatch(
            f"{source} is not the signature of {names} over these bytes",
            remedy="the payload was changed, or another key signed it: get both again from their publisher",
        )


class PayloadSigner(Protocol):
    """Signs payloads, wherever its key is."""

    def sign(self, payload: Payload) -> bytes:
        """Return the 64-byte Ed25519 signature of a payload."""


class SnapshotSigningKey(SecretKey):
    """A key with the version that its file states: what the source system puts before its signatures.

    As a key it is equal to every other one of the same secret.

    Args:
        seed: 32 bytes.
        version: 0 to 2^32-1; None where the file has none, and signatures take the plain form.
    """

    __slots__ = ("version",)

    def __init__(self, seed: bytes, version: int | None = None) -> None:
        super().__init__(seed)
        self.version = version


class KeySigner:
    """Signs with a key in this process's memory."""

    def __init__(self, key: SecretKey) -> None:
        self._key = key

    def sign(self, payload: Payload) -> bytes:
        """Return the 64-byte signature; a mapped payload is not copied (libsodium would, three times)."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        with memoryview(payload) as view:
            return Ed25519PrivateKey.from_private_bytes(self._key.seed).sign(view)


def verify_payload(payload: Payload, signature: bytes, key: PublicKey) -> bool:
    """Whether `signature` is the key's over the payload; a mapped payload is not copied."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from nacl.bindings import crypto_core_ed25519_is_valid_point

    # Of a key of small order a signature over anything can be made without a secret; OpenSSL does not ask.
    if len(signature) != SIGNATURE_BYTES or not crypto_core_ed25519_is_valid_point(key.raw):
        return False
    try:
        with memoryview(payload) as view:
            Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, view)
    except InvalidSignature:
        return False
    return True


def _key_version(text: str, source: str) -> str:
    if _KEY_VERSION.fullmatch(text) is None or int(text) > MAX_KEY_VERSION:
        raise KeyVersionInvalid(
            f"{source}: {text[:20]!r} before the colon is no key version: a number from 0 to {MAX_KEY_VERSION}",
            remedy="get the signature again: it is <base64>, or <key version>:<base64>",
        )
    return str(int(text))


def _decode(text: str) -> bytes | None:
    """Decode padded base64 that has one form only; None for anything else."""
    if _BASE64.fullmatch(text) is None or len(text) % 4:
        return None
    decoded = base64.b64decode(text)
    return decoded if base64.b64encode(decoded).decode("ascii") == text else None
