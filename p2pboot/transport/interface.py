"""What the rest of the program knows of a network: dial, streams, gossip. No library's type passes here.

Two implementations: `transport.libp2p` (py-libp2p) and `testing.network` (in memory, for tests).
Peer ids are base58 strings (`12D3KooW…`), addresses are multiaddr strings.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import trio

from p2pboot.errors import NotFoundError, RemoteProtocolError


class StreamReset(RemoteProtocolError):
    """The stream or its connection ended without an orderly close."""


class DialError(NotFoundError):
    """No connection to that address."""


class Forwarding(enum.Enum):
    """What becomes of a gossip message (GossipSub v1.1, extended validators)."""

    ACCEPT = "accept"  # deliver and forward
    IGNORE = "ignore"  # neither forward nor punish: an honest peer may send it
    REJECT = "reject"  # do not forward, score the sender down: only a faulty or hostile peer sends it


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """A peer's first connection came up, or its last one went."""

    peer_id: str
    connected: bool


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """Where a peer says, signed, that it can be found.

    Args:
        peer_id: who signed it.
        addresses: dialable multiaddrs with `/p2p/<peer_id>`, bounded; may be empty.
    """

    peer_id: str
    addresses: tuple[str, ...]


class Stream(Protocol):
    """One bidirectional byte stream to one peer.

    One task may read while another writes. After a cancelled `write` nobody knows how much of the data went
    out: only `reset` makes sense then. The connection and its other streams are not affected.
    """

    @property
    def peer_id(self) -> str:
        """The peer at the other end."""

    async def read(self, max_bytes: int) -> bytes:
        """1 to `max_bytes` bytes as soon as there are any, b"" at the orderly end; StreamReset otherwise."""

    async def write(self, data: bytes | memoryview) -> None:
        """Hand over all of `data`; waits while the peer's window is full. StreamReset when it is gone."""

    async def close_write(self) -> None:
        """Half-close: nothing more will be written; reading goes on. StreamReset when the peer is gone."""

    async def close(self) -> None:
        """Close both directions in order. Bounded, idempotent, raises nothing; used in `finally`."""

    async def reset(self) -> None:
        """Abort both directions. Bounded, idempotent, raises nothing."""


StreamHandler = Callable[[Stream], Awaitable[None]]
Validator = Callable[[str, bytes], Awaitable[Forwarding]]  # (peer the message came from, payload)


class Transport(Protocol):
    """A running node of the network."""

    @property
    def peer_id(self) -> str:
        """This node's own id."""

    @property
    def traffic(self) -> Mapping[tuple[str, str], int]:
        """Bytes since the start by (protocol, "sent" or "received"), payloads of gossip under "gossip"."""

    def addresses(self) -> tuple[str, ...]:
        """Own dialable multiaddrs with `/p2p/<peer id>`, real ports, no wildcard addresses; the best first."""

    def peers(self) -> frozenset[str]:
        """Peer ids that are connected now."""

    def peer_addresses(self, peer_id: str) -> tuple[str, ...]:
        """Addresses at which a peer was dialled or says that it listens, also after it went. May be empty."""

    def peer_records(self) -> tuple[bytes, ...]:
        """Signed peer records (libp2p envelopes, at most 4 KiB) of connected peers; may be empty."""

    def read_peer_record(self, record: bytes) -> PeerRecord | None:
        """Read a signed peer record that came from anybody; None when it is none, or not signed by its peer.

        Quick: at most one signature check.
        """

    async def dial(self, address: str) -> str:
        """Connect to a multiaddr and return the peer's id; at once when connected already.

        With `/p2p/…` in it any other identity is refused. The caller sets the timeout. Raises DialError, and
        UsageError for what is not an address.
        """

    async def hang_up(self, peer_id: str) -> None:
        """Close all connections with a peer. Bounded, raises nothing."""

    async def open_stream(self, peer_id: str, protocol: str) -> Stream:
        """Open a stream; StreamReset when the peer is gone or does not speak `protocol`.

        Never dials. The caller sets the timeout.
        """

    def handle(self, protocol: str, handler: StreamHandler) -> None:
        """Serve `protocol`: every inbound stream runs `handler`.

        When it returns the stream is closed; an exception out of it resets that stream and nothing else.
        """

    def peer_events(self) -> trio.MemoryReceiveChannel[PeerEvent]:
        """A channel of its own for the caller; starts with the peers that are connected already."""

    async def subscribe(self, topic: str, validator: Validator) -> None:
        """Join a gossip topic; `validator` is called once for each new message and takes what it accepts."""

    async def unsubscribe(self, topic: str) -> None:
        """Leave a gossip topic; nothing happens when it was not joined."""

    async def publish(self, topic: str, payload: bytes) -> None:
        """Send to the topic, also when this very payload is still marked seen. `validator` is not asked."""

    def forget_seen(self) -> None:
        """Let messages that were ignored be validated again (the trust policy changed)."""
