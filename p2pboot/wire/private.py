"""A connection in a private mesh: all of it, from the first byte on, is encrypted with a key that its nodes share.

Spec: https://github.com/libp2p/specs/blob/master/pnet/Private-Networks-PSK-V1.md. Each side sends a nonce of 24 bytes,
and then the whole connection as it would be without, under XSalsa20: multistream-select, Noise and all. That proves
nothing, which is what Noise is for; it keeps out who has not the key. Such a one sees a nonce, and nothing after it.

Nothing of this is loaded by who has no swarm key.
"""

from __future__ import annotations

from typing import Final

from Crypto.Cipher import Salsa20
from typing_extensions import override

from p2pboot.core.identity import PublicKey
from p2pboot.core.salsa20 import hsalsa20
from p2pboot.core.swarmkey import SwarmKey
from p2pboot.wire.connection import Begun, Connection, Keys, NotGreeted, OtherSwarmKey
from p2pboot.wire.yamux.session import Session

_SAME: Final = "what it sends is not encrypted with this swarm key: is it the same swarm key?"
NONCE_BYTES: Final = 24
MAX_NOTED: Final = 4096
_DERIVING: Final = 16  # of the nonce, for HSalsa20


class Keystream:
    """XSalsa20 in one direction of a connection.

    Args:
        key: of the mesh.
        nonce: 24 bytes, random, of this direction alone.
    """

    def __init__(self, key: SwarmKey, nonce: bytes) -> None:
        derived = hsalsa20(key.raw, nonce[:_DERIVING])
        self._cipher = Salsa20.new(key=derived, nonce=nonce[_DERIVING:])

    def apply(self, data: memoryview) -> None:
        """Encrypt or decrypt, which is the same, the next bytes where they lie."""
        if data:
            self._cipher.encrypt(data, output=data)


class Replays:
    """The nonces of those who dialled and had the key, the latest 4,096: 0.7 MB.

    Who has heard a member begin can say the same again, and would be answered, without having the key.
    """

    def __init__(self) -> None:
        self._nonces: dict[bytes, None] = {}

    def is_one(self, nonce: bytes) -> bool:
        """Whether somebody has begun with this nonce before."""
        return nonce in self._nonces

    def note(self, nonce: bytes) -> None:
        """Take down the nonce of a peer that has shown to have the key."""
        self._nonces[nonce] = None
        if len(self._nonces) > MAX_NOTED:
            del self._nonces[next(iter(self._nonces))]


class PrivateConnection(Connection):
    """One side of a connection in a private mesh; what is not said here is as with `Connection`.

    Args:
        swarm_key: of the mesh.
        nonce: 24 random bytes, never used again.
        replays: of this node, where it was dialled.
        initiator, keys, session, expected, scratch: as of `Connection`.
    """

    def __init__(
        self,
        swarm_key: SwarmKey,
        nonce: bytes,
        replays: Replays | None = None,
        *,
        initiator: bool,
        keys: Keys,
        session: Session | None = None,
        expected: PublicKey | None = None,
        scratch: bytearray | None = None,
    ) -> None:
        super().__init__(initiator=initiator, keys=keys, session=session, expected=expected, scratch=scratch)
        self._swarm_key = swarm_key
        self._replays = None if initiator else replays
        self._nonce = self._unsent_nonce = nonce
        self._remote_nonce = b""  # as far as it has come
        self._outgoing = Keystream(swarm_key, nonce)
        self._incoming: Keystream | None = None

    @property
    @override
    def wants_bytes(self) -> int:
        return super().wants_bytes if self._incoming else NONCE_BYTES - len(self._remote_nonce)

    @override
    def _receive(self, data: bytes | memoryview) -> None:
        if self._incoming is None:
            data = self._take_nonce(data)
            if self._incoming is None:
                return
        if isinstance(data, bytes) or data.readonly:
            data = memoryview(bytearray(data))
        self._incoming.apply(data)
        try:
            super()._receive(data)
        except NotGreeted:
            raise OtherSwarmKey(_SAME) from None
        if self._replays is not None and self._negotiation.greeted:
            self._replays.note(self._remote_nonce)
            self._replays = None

    def _take_nonce(self, data: bytes | memoryview) -> bytes | memoryview:
        """Take what belongs to the peer's nonce, and return the rest."""
        missing = NONCE_BYTES - len(self._remote_nonce)
        self._remote_nonce += data[:missing]
        if len(self._remote_nonce) == NONCE_BYTES:
            if (
                self._remote_nonce == self._nonce
            ):  # a mirror: two directions with one keystream would give it away
                raise OtherSwarmKey("it sends back what this node sends")
            if self._replays is not None and self._replays.is_one(self._remote_nonce):
                raise OtherSwarmKey("it sends what somebody else sent before")
            self._incoming = Keystream(self._swarm_key, self._remote_nonce)
            self._events.append(Begun())
        return data[missing:]

    @property
    @override
    def has_data_to_send(self) -> bool:
        return bool(self._unsent_nonce) or super().has_data_to_send

    @override
    def data_to_send(self, max_bytes: int) -> memoryview:
        data = super().data_to_send(max_bytes)
        if data.readonly:  # before there are Noise messages: short
            data = memoryview(bytearray(data))
        self._outgoing.apply(data)
        if self._unsent_nonce:
            data, self._unsent_nonce = memoryview(self._unsent_nonce + data), b""
        return data
