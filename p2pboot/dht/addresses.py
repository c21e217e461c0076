"""Which peers and addresses are of use here: who is told of which, and which that one is told of are dialled.

By default only addresses that mean something at one site: the DHT of the world has the same protocol, and whoever gets
into it by mistake has millions of strangers call. A name is never taken from a peer: its owner decides where it leads.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import PublicKey
from p2pboot.dht.keys import peer_id_bytes
from p2pboot.dht.table import Contact
from p2pboot.transport.addresses import Address, known_dialable, of_peer, parse_address
from p2pboot.transport.allowlist import EVERYBODY, AllowList
from p2pboot.transport.interface import Connection
from p2pboot.transport.multiaddrs import decode_multiaddr, encode_multiaddr
from p2pboot.transport.scopes import Scope, scope_of
from p2pboot.wire.kad import KadPeer

MAX_ADDRESSES: Final = 8
"""Of one peer that are kept and told."""

_LONGEST: Final = 128
"""Bytes of a peer's id, or of an address that is looked at: a zone, an IPv6 address, a port and a peer id fit."""

_REMEMBERED: Final = 512


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Decides about addresses, and about whose they are.

    Args:
        public: whether addresses that lead all over the world are used too.
        allowed: whose word counts. Guests are answered; they are not asked and not told of, and put nothing.
    """

    public: bool = False
    allowed: AllowList = EVERYBODY

    def serves(self, address: str) -> bool:
        """Whether somebody who is connected from a multiaddr is spoken with."""
        return self.public or scope_of(address) < Scope.WORLD

    def asks(self, connection: Connection) -> bool:
        """Whether what is said at the other end of a connection is of interest."""
        return self.serves(connection.address) and self.allowed.heeds(connection.peer_id)

    def _is_fit(self, address: Address, least: Scope) -> bool:
        return address.is_ip and scope_of(address.host) >= least and self.serves(address.host)

    def heard(self, peer: KadPeer, teller: str) -> Contact | None:
        """What is to be made of a peer that one is told of.

        Args:
            peer: as it came.
            teller: the multiaddr of who tells; nobody is dialled at an address more private than that.

        Returns:
            None: it has no address that may be dialled, or another kind of key than nodes have, or is not heeded.
        """
        if len(peer.id) > _LONGEST:
            return None
        if any(len(raw) > _LONGEST for raw in peer.addresses):  # what is remembered is bounded
            peer = KadPeer(peer.id, tuple(raw for raw in peer.addresses if len(raw) <= _LONGEST))
        return _heard(self, peer, scope_of(teller))

    def fit(self, peer_id: str, addresses: Iterable[str], least: Scope = Scope.MACHINE) -> tuple[str, ...]:
        """Of a peer's addresses those that may be dialled.

        Args:
            peer_id: the peer's; addresses that name another one are left out.
            addresses: multiaddrs, with or without it.
            least: how far they have to lead at least.
        """
        known = known_dialable(of_peer(addresses, peer_id), limit=2 * MAX_ADDRESSES)
        fit = [text for text in known if self._is_fit(parse_address(text), least)]
        return tuple(fit[:MAX_ADDRESSES])

    def told(self, contact: Contact, asker: str) -> KadPeer | None:
        """What an asker is told of a peer: the addresses that he can dial.

        Args:
            contact: the peer.
            asker: the multiaddr of who asks.

        Returns:
            None: there is none.
        """
        return _told(self, contact, scope_of(asker))


# In one lookup everybody tells of the same twenty.


@lru_cache(_REMEMBERED)
def _heard(policy: AddressPolicy, peer: KadPeer, least: Scope) -> Contact | None:
    try:
        peer_id = PublicKey.from_peer_id_bytes(peer.id).peer_id
    except ValueError:
        return None
    if not policy.allowed.heeds(peer_id):
        return None
    said = (str(address) for raw in peer.addresses if (address := decode_multiaddr(raw)) is not None)
    fit = policy.fit(peer_id, islice(said, MAX_ADDRESSES), least)
    return Contact(peer_id, fit) if fit else None


@lru_cache(_REMEMBERED)
def _told(policy: AddressPolicy, contact: Contact, least: Scope) -> KadPeer | None:
    fit = policy.fit(contact.peer_id, contact.addresses, least)
    if not fit:
        return None
    raw = tuple(encode_multiaddr(parse_address(text).with_peer(None)) for text in fit)
    return KadPeer(peer_id_bytes(contact.peer_id), raw)
