"""Noise messages on the wire: their framing, and their encryption once the handshake is done.

A message is two bytes of length (big-endian) and up to 65,535 bytes, of which the last 16 authenticate the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from p2pboot.errors import LocalProtocolError, RemoteProtocolError
from p2pboot.wire.noise.handshake import TAG_BYTES

LENGTH_BYTES: Final = 2
MAX_MESSAGE: Final = 65_535
MAX_PLAINTEXT: Final = MAX_MESSAGE - TAG_BYTES
OVERHEAD: Final = LENGTH_BYTES + TAG_BYTES
"""Bytes by which a message on the wire is longer than what is in it."""
MAX_MESSAGES: Final = (1 << 64) - 1
"""Messages of one direction under one key; the last number is reserved (section 5.1)."""

_nonce: Final = Struct("<4xQ").pack
_pack_length: Final = Struct(">H").pack_into
_NOTHING: Final = memoryview(b"")


class Framer:
    """Cuts what comes from the socket into messages.

    Whole messages are looked at where they lie in the caller's buffer; only one that arrives in pieces is copied.

    Args:
        max_length: bytes of a message that are accepted; at most 65,535. May be changed on the way.
    """

    def __init__(self, max_length: int = MAX_MESSAGE) -> None:
        self.max_length = max_length
        self._data = _NOTHING
        self._at = 0
        self._partial = bytearray()

    @property
    def wants_bytes(self) -> int:
        """How many bytes the current message still lacks, at least: for SO_RCVLOWAT."""
        return self._length() - len(self._partial)

    @property
    def partial(self) -> bool:
        """Whether a message has begun and is not complete."""
        return bool(self._partial)

    @property
    def held(self) -> int:
        """Bytes of a message that is not complete."""
        return len(self._partial)

    def receive(self, data: bytes | memoryview) -> None:
        """Take bytes of the peer; then go through `messages` before they change."""
        self._data = memoryview(data)
        self._at = 0

    def messages(self) -> Iterator[memoryview]:
        """Each message that is complete, without its length; valid until the next one is asked for.

        Raises:
            RemoteProtocolError: one is longer than is accepted.
        """
        while self._at < len(self._data):
            if not self._partial and (message := self._message_in_place()) is not None:
                yield message
                continue
            self._take(self._length() - len(self._partial))
            if len(self._partial) >= LENGTH_BYTES and len(self._partial) == self._length():
                whole, self._partial = self._partial, bytearray()
                yield memoryview(whole)[LENGTH_BYTES:]
        self._data = _NOTHING

    def _message_in_place(self) -> memoryview | None:
        start = self._at + LENGTH_BYTES
        if len(self._data) < start:
            return None
        end = start + self._checked(self._data[self._at] << 8 | self._data[self._at + 1])
        if len(self._data) < end:
            return None
        self._at = end
        return self._data[start:end]

    def _length(self) -> int:
        """Bytes of the current message with its length, as far as they are known."""
        if len(self._partial) < LENGTH_BYTES:
            return LENGTH_BYTES
        return LENGTH_BYTES + self._checked(self._partial[0] << 8 | self._partial[1])

    def _checked(self, length: int) -> int:
        if length > self.max_length:
            raise RemoteProtocolError(
                f"a Noise message of {length} bytes, where {self.max_length} are the most"
            )
        return length

    def _take(self, count: int) -> None:
        part = self._data[self._at : self._at + count]
        self._partial += part
        self._at += len(part)


class Sealer:
    """Encrypts one direction.

    Args:
        key: 32 bytes, of `Handshake.split`.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._count = 0

    def seal_into(self, plaintext: bytes, buffer: memoryview) -> int:
        """Write one message with its length to the beginning of `buffer`.

        Args:
            plaintext: at most `MAX_PLAINTEXT` bytes.
            buffer: at least `OVERHEAD` bytes longer than that.

        Returns:
            The bytes written.

        Raises:
            LocalProtocolError: every number that a message may have was used.
        """
        if self._count >= MAX_MESSAGES:
            raise LocalProtocolError("the Noise key is used up")
        length = len(plaintext) + TAG_BYTES
        _pack_length(buffer, 0, length)
        end = LENGTH_BYTES + length
        self._cipher.encrypt_into(_nonce(self._count), plaintext, None, buffer[LENGTH_BYTES:end])
        self._count += 1
        return end


class Opener:
    """Decrypts one direction.

    Args:
        key: 32 bytes, of `Handshake.split`.
        scratch: at least `MAX_PLAINTEXT` bytes to decrypt into. One will do for all connections of a thread; memory
            that is warm in the cache costs half of fresh memory.
    """

    def __init__(self, key: bytes, scratch: bytearray) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._scratch = memoryview(scratch)
        self._count = 0

    def open(self, message: memoryview) -> memoryview:
        """Return what is in a message; valid until the next call.

        Raises:
            RemoteProtocolError: it is too short, damaged, forged or out of order, or one too many.
        """
        length = len(message) - TAG_BYTES
        if length < 0:
            raise RemoteProtocolError(f"a Noise message of {len(message)} bytes is too short")
        if self._count >= MAX_MESSAGES:
            raise RemoteProtocolError("the peer has used up its Noise key")
        plaintext = self._scratch[:length]
        try:
            self._cipher.decrypt_into(_nonce(self._count), message, None, plaintext)
        except InvalidTag:
            raise RemoteProtocolError("a Noise message is damaged, forged or out of order") from None
        self._count += 1
        return plaintext
