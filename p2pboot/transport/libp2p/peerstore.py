"""What peers say of themselves, bounded: stock libp2p keeps whatever a stranger sends, and forever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from libp2p.peer.envelope import Envelope
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from multiaddr import Multiaddr

from p2pboot.transport.records import MAX_ADDRESSES, MAX_RECORD_BYTES

_MAX_ADDRESS_BYTES: Final = 300
_MAX_PROTOCOLS: Final = 64
_MAX_PROTOCOL_CHARS: Final = 128


class BoundedPeerStore(PeerStore):
    """A peer store in which one peer takes little room, and none after its last connection."""

    def add_addrs(self, peer_id: ID, addrs: Sequence[Multiaddr], ttl: int = 0) -> None:
        """Add addresses, as long as there are fewer than `MAX_ADDRESSES`; they last as long as the connection.

        `ttl` is left out: libp2p measures it by the machine's clock. Where that is set from 1970 to today, everybody's
        entry and this node's own would be over, and that ends the node.
        """
        known = self.peer_data_map[peer_id].get_addrs() if peer_id in self.peer_data_map else []
        room = max(0, MAX_ADDRESSES - len(known))
        small = [addr for addr in addrs[: 4 * MAX_ADDRESSES] if len(addr.to_bytes()) <= _MAX_ADDRESS_BYTES]
        super().add_addrs(peer_id, [addr for addr in small if addr not in known][:room], ttl=0)

    def set_protocols(self, peer_id: ID, protocols: Sequence[str]) -> None:
        """Set the protocols that a peer says it speaks."""
        kept = [name for name in protocols[:_MAX_PROTOCOLS] if len(name) <= _MAX_PROTOCOL_CHARS]
        super().set_protocols(peer_id, kept)

    def add_protocols(self, peer_id: ID, protocols: Sequence[str]) -> None:
        """Add to the protocols that a peer says it speaks."""
        known = self.spoken_by(peer_id)
        self.set_protocols(peer_id, [*known, *(name for name in protocols if name not in known)])

    def spoken_by(self, peer_id: ID) -> list[str]:
        """The protocols that a peer says it speaks; none while it has said nothing."""
        return self.peer_data_map[peer_id].get_protocols() if peer_id in self.peer_data_map else []

    def consume_peer_record(self, envelope: Envelope, ttl: int) -> bool:
        """Keep a peer's signed record, unless it is oversized."""
        return len(envelope.marshal_envelope()) <= MAX_RECORD_BYTES and super().consume_peer_record(
            envelope, ttl
        )
