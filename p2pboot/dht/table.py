"""The routing table: peers that answered, more of those that are near (Maymounkov and Mazières, 2002).

Whoever was there first stays as long as he answers: nobody is pushed out by newcomers, of whom a stranger makes as many
as he likes. Where somebody has filled a bucket from one address, others get a place in it all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from heapq import nsmallest
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.origins import origin_of
from p2pboot.dht.keys import position_of_peer

K: Final = 20
"""Peers of a bucket, and peers on which something is put."""


@dataclass(frozen=True, slots=True)
class Contact:
    """A peer and where it is to be found.

    Args:
        peer_id: its own.
        addresses: multiaddrs, the best first.
    """

    peer_id: str
    addresses: tuple[str, ...]

    @property
    def position(self) -> int:
        """Where it is among keys."""
        return position_of_peer(self.peer_id)

    @property
    def origin(self) -> str:
        """Whom it is put down to."""
        return origin_of(self.addresses[0]) if self.addresses else ""


def nearest(contacts: Iterable[Contact], position: int, count: int = K) -> list[Contact]:
    """The nearest of some peers, in order."""
    return nsmallest(count, contacts, key=lambda contact: contact.position ^ position)


class RoutingTable:
    """Who is to be asked.

    Args:
        own_id: of this end, which is not in it.
    """

    def __init__(self, own_id: str) -> None:
        self._own_id = own_id
        self._own_position = position_of_peer(own_id)
        self._buckets: dict[int, dict[str, Contact]] = {}  # by length of what is in common; the oldest first

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def __contains__(self, peer_id: str) -> bool:
        return peer_id in self._bucket_of(peer_id)

    def _bucket_of(self, peer_id: str) -> dict[str, Contact]:
        distance = position_of_peer(peer_id) ^ self._own_position
        return self._buckets.setdefault(distance.bit_length(), {})

    def add(self, contact: Contact) -> bool:
        """Put in a peer that has just answered, or say anew where it is; returns whether it is in the table."""
        if contact.peer_id == self._own_id:
            return False
        bucket = self._bucket_of(contact.peer_id)
        if contact.peer_id not in bucket and len(bucket) >= K:
            origins = Counter(known.origin for known in bucket.values())
            heaviest = max(origins, key=origins.__getitem__)
            if origins[heaviest] <= origins[contact.origin] + 1:
                return False
            del bucket[next(peer_id for peer_id in reversed(bucket) if bucket[peer_id].origin == heaviest)]
        bucket[contact.peer_id] = contact
        return True

    def remove(self, peer_id: str) -> None:
        """Take out a peer that does not answer."""
        self._bucket_of(peer_id).pop(peer_id, None)

    def nearest(self, position: int, count: int = K) -> list[Contact]:
        """The nearest peers to a key, in order.

        Args:
            position: of the key.
            count: how many at most.
        """
        return nearest((one for bucket in self._buckets.values() for one in bucket.values()), position, count)
