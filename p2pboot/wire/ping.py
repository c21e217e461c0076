"""libp2p's ping, `/ipfs/ping/1.0.0`: 32 bytes and their echo, as often as the asker likes.

Spec: https://github.com/libp2p/specs/blob/master/ping/ping.md. The answerer sends back what it gets, byte for byte,
which needs no state: read at most `PING_BYTES`, write them, go on until the stream ends.
"""

from __future__ import annotations

from typing import Final

from p2pboot.errors import RemoteProtocolError

PING_PROTOCOL: Final = "/ipfs/ping/1.0.0"
PING_BYTES: Final = 32


class Ping:
    """One ping of ours.

    Args:
        payload: 32 random bytes, to be written to the stream.
    """

    def __init__(self, payload: bytes) -> None:
        self._awaited = payload

    @property
    def wants_bytes(self) -> int:
        """How much of the answer is still to come; 0 when it is whole."""
        return len(self._awaited)

    def receive(self, data: bytes) -> None:
        """Take what the peer answers.

        Raises:
            RemoteProtocolError: it is not what was sent, or more.
        """
        if not self._awaited.startswith(data):
            raise RemoteProtocolError("the answer to a ping is not what was sent")
        self._awaited = self._awaited[len(data) :]
