"""The iterative lookup: which peers are nearest to a key, asked one after the other, without input, output or clock.

Whoever drives it asks whom `next` names and says what came of it. Peers tell of peers, and that is hearsay: who invents
some has those looked at last of which others are told. Who is slow is waited for, but does not keep others waiting.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Final

from p2pboot.dht.table import Contact, K, nearest

ALPHA: Final = 10
"""Peers that are asked at the same time, as the specification has it."""

SLOW_S: Final = 0.5
"""Who has not answered after so long does not count among these any more."""

AT_ONCE: Final = 40
"""That may be asked at the same time with these."""

MOST: Final = 160
"""Peers that are asked in one lookup."""

KNOWN: Final = 1024
"""Peers that are remembered of what is told."""

_PATIENCE: Final = 3  # peers told of that do not answer, before who told of them comes later than others


class Lookup:
    """One lookup.

    Args:
        position: of the key.
        own_id: of this end, which is not asked.
        start: peers to begin with.
    """

    def __init__(self, position: int, own_id: str, start: Iterable[Contact]) -> None:
        self._position = position
        self._own_id = own_id
        self._waiting: dict[str, tuple[Contact, str]] = {}  # with who told of it
        self._asked: dict[str, tuple[Contact, str, float]] = {}  # since when
        self._answered: dict[str, Contact] = {}
        self._seen: set[str] = set()
        self._in_vain: Counter[str] = Counter()  # by who told of them
        self._queries = 0
        for contact in start:
            self._hear(contact, "")

    def _hear(self, contact: Contact, teller: str) -> None:
        is_new = contact.peer_id not in self._seen and contact.peer_id != self._own_id
        if is_new and len(self._seen) < KNOWN:
            self._seen.add(contact.peer_id)
            self._waiting[contact.peer_id] = (contact, teller)

    def next(self, now: float) -> Contact | None:
        """Whom to ask now.

        Args:
            now: seconds on a clock that does not jump.

        Returns:
            None: nobody at the moment. It is over when `is_done`; otherwise when an answer came, or at `wake_at`.
        """
        if self._queries >= MOST or len(self._asked) >= AT_ONCE or self._quick(now) >= ALPHA:
            return None
        found = self._best()
        if found is None:
            return None
        contact, teller = self._waiting.pop(found)
        self._asked[found] = (contact, teller, now)
        self._queries += 1
        return contact

    def _best(self) -> str | None:
        if not self._waiting:
            return None
        best = min(self._waiting, key=self._rank)
        if len(self._answered) >= K:
            farthest = self.closest()[-1].position ^ self._position
            if self._waiting[best][0].position ^ self._position > farthest:
                # Of those whose teller is in disrepute a nearer one may be left.
                best = min(
                    self._waiting, key=lambda peer_id: self._waiting[peer_id][0].position ^ self._position
                )
                if self._waiting[best][0].position ^ self._position > farthest:
                    return None
        return best

    def _rank(self, peer_id: str) -> tuple[int, int]:
        contact, teller = self._waiting[peer_id]
        return self._in_vain[teller] // _PATIENCE if teller else 0, contact.position ^ self._position

    def _quick(self, now: float) -> int:
        return sum(now - since < SLOW_S for _, _, since in self._asked.values())

    def wake_at(self, now: float) -> float:
        """When somebody who was asked counts as slow, so that `next` may name another; infinite for never."""
        return min(
            (since + SLOW_S for _, _, since in self._asked.values() if now - since < SLOW_S), default=math.inf
        )

    def answered(self, peer_id: str, closer: Iterable[Contact] = ()) -> None:
        """A peer that was asked has answered.

        Args:
            peer_id: whose answer it is; one that was not asked, or has failed, is passed over.
            closer: peers that it told of.
        """
        asked = self._asked.pop(peer_id, None)
        if asked is None:
            return
        self._answered[peer_id] = asked[0]
        for contact in nearest(closer, self._position):
            self._hear(contact, peer_id)

    def failed(self, peer_id: str) -> None:
        """A peer that was asked can not be reached, or does not answer."""
        asked = self._asked.pop(peer_id, None)
        if asked is not None and asked[1]:
            self._in_vain[asked[1]] += 1

    @property
    def is_done(self) -> bool:
        """Nobody is left to ask, and nobody to wait for."""
        return not self._asked and (self._queries >= MOST or self._best() is None)

    def closest(self) -> list[Contact]:
        """The nearest peers that have answered, in order; at most K."""
        return nearest(self._answered.values(), self._position)
