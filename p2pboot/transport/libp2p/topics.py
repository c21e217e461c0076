"""The topics that peers are in and we are not: we may join them later, so they are kept, within bounds."""

from __future__ import annotations

from typing import Final

from libp2p.peer.id import ID

from p2pboot.core.origins import Party
from p2pboot.core.shares import Shares

_CAPACITY: Final = 16_384  # of all peers together; each takes up to 600 bytes
_RESERVE: Final = 4096


class ForeignTopics:
    """Counts them: by address first, so that many ids of one get no more than it."""

    def __init__(self) -> None:
        self._shares = Shares(_CAPACITY, _RESERVE)
        self._of: dict[ID, tuple[Party, set[str]]] = {}

    def take(self, peer_id: ID, party: Party, topic: str, *, trusted: bool) -> bool:
        """Note that a peer is in a topic; returns whether there is room for that."""
        party, topics = self._of.get(peer_id, (party, set()))
        if topic not in topics:
            if not self._shares.fits(party, trusted=trusted):
                return False
            self._shares.take(party)
            topics.add(topic)
            self._of[peer_id] = party, topics
        return True

    def leave(self, peer_id: ID, topic: str) -> None:
        """Note that a peer has left a topic, if it was noted to be in it."""
        party, topics = self._of.get(peer_id, (None, set()))
        if party is not None and topic in topics:
            topics.discard(topic)
            self._shares.give_back(party)

    def forget(self, peer_id: ID) -> None:
        """Note that a peer is gone."""
        party, topics = self._of.pop(peer_id, (None, set()))
        if party is not None and topics:
            self._shares.give_back(party, len(topics))
