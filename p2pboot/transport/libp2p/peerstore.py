"""What peers say of themselves, bounded: stock libp2p keeps whatever a stranger sends, and forever."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from cachetools import LRUCache
from libp2p.crypto.keys import KeyType
from libp2p.peer.envelope import Envelope, unmarshal_envelope
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from multiaddr import Multiaddr

from p2pboot.transport.addresses import known_dialable, of_peer
from p2pboot.transport.interface import PeerRecord

MAX_ADDRESSES: Final = 16  # per peer
_MAX_ADDRESS_BYTES: Final = 300
_MAX_PROTOCOLS: Final = 64
_MAX_PROTOCOL_CHARS: Final = 128
_MAX_REMEMBERED: Final = 1024  # peers whose addresses outlive their connection
MAX_RECORD_BYTES: Final = 4096  # a signed peer record; 16 addresses with DNS names fit
_RECORD_DOMAIN: Final = "libp2p-peer-record"


def read_record(raw: bytes) -> PeerRecord | None:
    """Read a signed peer record from anybody.

    Source: https://github.com/libp2p/specs/blob/master/RFC/0003-routing-records.md.

    Args:
        raw: a libp2p envelope, of any length and content.

    Returns:
        None when it is none, is longer than 4 KiB, has no Ed25519 key, or was signed by somebody else than the
        peer it speaks of: anybody can sign a record about a stranger.
    """
    if len(raw) > MAX_RECORD_BYTES:
        return None
    try:
        envelope = unmarshal_envelope(raw)
        if (
            envelope.public_key.get_type() is not KeyType.Ed25519
        ):  # an RSA key may make one check take seconds
            return None
        envelope.validate(_RECORD_DOMAIN)
        record = envelope.record()
        if record.peer_id != ID.from_pubkey(envelope.public_key):
            return None
        peer_id, said = str(record.peer_id), [str(address) for address in record.addrs]
    except Exception:  # a stranger's bytes in somebody else's parser
        return None
    return PeerRecord(peer_id, known_dialable(of_peer(said, peer_id), limit=MAX_ADDRESSES))


class BoundedPeerStore(PeerStore):
    """A peer store in which one peer takes little room, and none after its last connection."""

    def add_addrs(self, peer_id: ID, addrs: Sequence[Multiaddr], ttl: int = 0) -> None:
        """Add addresses, as long as there are fewer than `MAX_ADDRESSES`."""
        known = self.peer_data_map[peer_id].get_addrs() if peer_id in self.peer_data_map else []
        room = max(0, MAX_ADDRESSES - len(known))
        small = [addr for addr in addrs[: 4 * MAX_ADDRESSES] if len(addr.to_bytes()) <= _MAX_ADDRESS_BYTES]
        super().add_addrs(peer_id, [addr for addr in small if addr not in known][:room], ttl)

    def set_protocols(self, peer_id: ID, protocols: Sequence[str]) -> None:
        """Set the protocols that a peer says it speaks."""
        kept = [name for name in protocols[:_MAX_PROTOCOLS] if len(name) <= _MAX_PROTOCOL_CHARS]
        super().set_protocols(peer_id, kept)

    def add_protocols(self, peer_id: ID, protocols: Sequence[str]) -> None:
        """Add to the protocols that a peer says it speaks."""
        known = self.peer_data_map[peer_id].get_protocols() if peer_id in self.peer_data_map else []
        self.set_protocols(peer_id, [*known, *(name for name in protocols if name not in known)])

    def consume_peer_record(self, envelope: Envelope, ttl: int) -> bool:
        """Keep a peer's signed record, unless it is oversized."""
        return len(envelope.marshal_envelope()) <= MAX_RECORD_BYTES and super().consume_peer_record(
            envelope, ttl
        )


class AddressBook:
    """Where peers were to be found, also after they went: the last addresses of the last peers."""

    def __init__(self) -> None:
        self._addresses: LRUCache[str, tuple[str, ...]] = LRUCache(_MAX_REMEMBERED)

    def remember(self, peer_id: str, addresses: Iterable[str]) -> None:
        """Put `addresses` in front of those known already."""
        merged = known_dialable((*addresses, *self.get(peer_id)), limit=MAX_ADDRESSES)
        if merged:
            self._addresses[peer_id] = merged

    def get(self, peer_id: str) -> tuple[str, ...]:
        """Return a peer's addresses, the best first."""
        return self._addresses.get(peer_id, ())
