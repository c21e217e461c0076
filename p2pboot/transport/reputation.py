"""What peers have done wrong, by peer id and by origin; it fades.

Ids are free, so a new one is no new beginning: it starts with what its origin owes, up to a point from which it can
still prove itself, for honest neighbours behind one address are new there, too.
"""

from __future__ import annotations

from typing import Final

from cachetools import LRUCache

from p2pboot.core.origins import Party

MUTED: Final = 15.0
"""Points from which on a peer is neither listened to nor told anything."""

OUT: Final = 40.0
"""Points from which on its connections are ended, and new ones too."""

INHERITED: Final = 10.0
"""At most so many points a new peer id starts with: one more offence, and it is muted."""

_KEPT_PER_S: Final = 0.99  # of all points: half of them in 69 s
_REMEMBERED: Final = 4096  # peers, and origins


class Reputation:
    """Keeps points against peers. Times are seconds on a clock that does not jump."""

    def __init__(self) -> None:
        self._peers: LRUCache[str, _Points] = LRUCache(_REMEMBERED)
        self._origins: LRUCache[str, _Points] = LRUCache(_REMEMBERED)

    def of(self, party: Party, now: float) -> float:
        """Points against a peer, from 0."""
        return self._of_peer(party, now).at(now)

    def blame(self, party: Party, points: float, now: float) -> float:
        """Put down points against a peer and its origin; returns how many the peer has."""
        peer = self._of_peer(party, now)
        for one in (peer, self._of_origin(party.origin, now)):
            one.add(points, now)
        return peer.at(now)

    def _of_peer(self, party: Party, now: float) -> _Points:
        found = self._peers.get(party.peer_id)
        if found is None:
            inherited = min(INHERITED, self._of_origin(party.origin, now).at(now))
            found = self._peers[party.peer_id] = _Points(inherited, now)
        return found

    def _of_origin(self, origin: str, now: float) -> _Points:
        found = self._origins.get(origin)
        if found is None:
            found = self._origins[origin] = _Points(0.0, now)
        return found


class _Points:
    """A number that fades."""

    __slots__ = ("_since", "_value")

    def __init__(self, value: float, now: float) -> None:
        self._value, self._since = value, now

    def at(self, now: float) -> float:
        faded: float = _KEPT_PER_S ** max(0.0, now - self._since)
        return self._value * faded

    def add(self, points: float, now: float) -> None:
        self._value = min(2 * OUT, self.at(now) + points)
        self._since = now
