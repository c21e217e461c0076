"""The iterative lookup: which peers are nearest to a key, asked one after the other, without input, output or clock.

Whoever drives it asks whom `next` names and says what came of it. Peers tell of peers, and that is hearsay: who invents
some has those looked at last of which others are told, and when nobody better is left, not at all. Who is slow does not
keep others waiting, and the lookup ends without whoever takes several times as long as others did: else each silent
peer, and each address behind which nobody is, would cost its whole time limit.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import Counter
from collections.abc import Collection, Iterable
from heapq import nsmallest
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.origins import origin_of
from p2pboot.dht.table import Contact, K, nearest

ALPHA: Final = 10
"""Peers that are asked at the same time, as the specification has it."""

SLOW_S: Final = 0.25
"""Who has not answered after so long does not count among these any more."""

AT_ONCE: Final = 40
"""That may be asked at the same time with these."""

MOST: Final = 160
"""Peers that are asked in one lookup."""

OF_ORIGIN: Final = 8
"""That are asked at a host where nobody has answered yet, which is closed then: liars do not have one host called for
each whom they invent."""

KNOWN: Final = 1024
"""Peers that are remembered of what is told."""

ADDRESSES: Final = 8
"""Of one peer that are dialled at a time: those that most tell, so that a lie about him does not hide him."""

_SAID: Final = 128  # addresses of one peer that are remembered
_NEW: Final = 2  # of which so many count that one further teller alone says: the best ones come first
_TIMES_ASKED: Final = 3  # that one peer is dialled, at other addresses each time

PATIENCE_S: Final = 0.75
"""At least so long everybody is waited for who was asked, and again when a connection with him is up."""

_TIMES: Final = (
    3  # as long as half of those who answered took, he is waited for as well: where all are slow, all are
)
_SPARED: Final = 3  # peers told of that do not answer, before who told of them comes later than others


@dataclass(slots=True, eq=False)
class _Asked:
    """Somebody who was asked and has not answered.

    Args:
        distance: how far he is from the key.
        tellers: who told of him before he was asked.
        asked_at: when, in seconds.
        since: the same, or when there was a connection.
        is_reached: whether there is.
    """

    distance: int
    tellers: Collection[str]
    asked_at: float
    since: float
    is_reached: bool = False


class Lookup:
    """One lookup. Times are seconds on a clock that does not jump.

    Args:
        position: of the key.
        own_id: of this end, which is not asked.
        start: peers to begin with.
    """

    def __init__(self, position: int, own_id: str, start: Iterable[Contact]) -> None:
        self._position = position
        self._own_id = own_id
        self._contacts: dict[str, Contact] = {}  # everybody who was heard of
        self._said: dict[str, Counter[str]] = {}  # where they are said to be, by how many
        self._tried: dict[str, list[frozenset[str]]] = {}  # where they were dialled, one set each time
        self._origins: dict[str, frozenset[str]] = {}  # where whoever dials them may end up
        self._waiting: dict[str, int] = {}  # how far they are from the key
        self._asked: dict[str, _Asked] = {}
        self._answered: dict[str, int] = {}  # how far they are
        self._limit: float = math.inf  # how far the farthest of the K nearest of these is
        self._tellers: dict[str, set[str]] = {}  # of everybody who was heard of, those who told of him
        self._in_vain: Counter[str] = Counter()  # by who told of them
        self._asked_at: Counter[str] = Counter()  # how many were asked, by origin of an address
        self._alive_at: set[str] = set()  # origins at which somebody was reached
        self._took: list[float] = []  # answers, in order
        self._last_answer = -math.inf
        self._queries = 0
        for contact in start:
            self._hear(contact)
        self._start = frozenset(self._contacts)

    def _hear(self, contact: Contact) -> None:
        peer_id = contact.peer_id
        if peer_id in self._contacts:
            self._compare(contact)
        elif peer_id != self._own_id and len(self._contacts) < KNOWN:
            self._contacts[peer_id] = contact
            self._said[peer_id] = Counter(contact.addresses)
            self._origins[peer_id] = frozenset(map(origin_of, contact.addresses))
            self._tellers[peer_id] = set()
            self._waiting[peer_id] = contact.position ^ self._position

    def _compare(self, contact: Contact) -> None:
        """Somebody else tells of a peer, maybe that it is elsewhere: anybody may lie about anybody's addresses."""
        peer_id, said = contact.peer_id, self._said[contact.peer_id]
        agrees = said.keys() == set(contact.addresses)
        new = [address for address in contact.addresses if address not in said]
        said.update(said.keys() & set(contact.addresses))
        said.update(new[: min(_NEW, _SAID - len(said))])
        if not agrees:
            addresses = tuple(address for address, _ in said.most_common(ADDRESSES))
            self._contacts[peer_id] = Contact(peer_id, addresses)
            self._origins[peer_id] = frozenset(map(origin_of, addresses))
            self._ask_again(peer_id)

    def _ask_again(self, peer_id: str) -> None:
        """Where a peer could not be reached, and is said to be elsewhere, he is worth another dial."""
        tried = self._tried.get(peer_id, [])
        is_over = (
            peer_id not in self._waiting and peer_id not in self._asked and peer_id not in self._answered
        )
        if (
            is_over
            and len(tried) < _TIMES_ASKED
            and not frozenset(self._contacts[peer_id].addresses) <= tried[-1]
        ):
            self._waiting[peer_id] = self._contacts[peer_id].position ^ self._position

    def next(self, now: float) -> Contact | None:
        """Whom to ask now.

        Returns:
            None: nobody at the moment. It is over when `is_done`; otherwise when an answer came, or at `wake_at`.
        """
        quick = sum(now < one.asked_at + SLOW_S for one in self._asked.values())
        if self._queries >= MOST or len(self._asked) >= AT_ONCE or quick >= ALPHA:
            return None
        found = self._best(now)
        if found is None:
            return None
        self._asked_at.update(self._origins[found])
        self._tried.setdefault(found, []).append(frozenset(self._contacts[found].addresses))
        self._asked[found] = _Asked(self._waiting.pop(found), tuple(self._tellers[found]), now, now)
        self._queries += 1
        return self._contacts[found]

    def _best(self, now: float) -> str | None:
        """Who is to be asked first of those who are worth it."""
        worth = self._worth(now)
        awaited = Counter(teller for one in self._asked.values() for teller in one.tellers)
        owed = {one: count // _SPARED for one, count in (self._in_vain + awaited).items() if count >= _SPARED}

        def rank(peer_id: str) -> tuple[bool, int, int]:
            tellers = self._tellers[peer_id]
            owing = min(owed[one] for one in tellers) if tellers and tellers <= owed.keys() else 0
            return not self._is_vouched_for(peer_id), owing, self._waiting[peer_id]

        return min(worth, key=rank, default=None)

    def _worth(self, now: float) -> list[str]:
        """Those who are worth to be asked: nearer than the K nearest who answered, and probably there."""
        closed = {one for one, count in self._asked_at.items() if count >= OF_ORIGIN} - self._alive_at
        near = [
            peer_id
            for peer_id, distance in self._waiting.items()
            if distance <= self._limit and self._is_open(peer_id, closed)
        ]
        doubtful = self._doubtful(now)
        worth = [peer_id for peer_id in near if self._is_promising(peer_id, doubtful)]
        # Where too few answered, those are tried as well of whom nothing good is expected: for a moment.
        if worth or len(self._answered) >= K or now >= self._last_answer + self.patience_s:
            return worth
        return [] if self._is_waiting(doubtful, now) else near

    def _is_open(self, peer_id: str, closed: set[str]) -> bool:
        """Whether somebody may be called where he is said to be.

        Of whom several tell who answered, he is called at a closed host, too: else who invents others there would have
        him passed over.
        """
        is_closed = bool(self._origins[peer_id] & closed)
        return not is_closed or (len(self._answered) >= _SPARED and self._is_vouched_for(peer_id))

    def _doubtful(self, now: float) -> set[str]:
        """Those who told of several that do not answer, as it seems."""
        late = (one for one in self._asked.values() if now >= one.asked_at + SLOW_S)
        lost = self._in_vain + Counter(teller for one in late for teller in one.tellers)
        return {teller for teller, count in lost.items() if count >= _SPARED}

    def _is_promising(self, peer_id: str, doubtful: set[str]) -> bool:
        """Whether somebody may be expected to answer, by what came of others of whom the same tell."""
        return self._is_vouched_for(peer_id) or not self._tellers[peer_id] <= doubtful

    def _is_vouched_for(self, peer_id: str) -> bool:
        """Whether he was known, or half of those who answered tell of him: three liars in ten do not make that."""
        return peer_id in self._start or 2 * len(self._tellers[peer_id]) >= len(self._answered)

    @property
    def patience_s(self) -> float:
        """How long everybody is waited for."""
        return max(PATIENCE_S, _TIMES * self._took[len(self._took) // 2] if self._took else 0.0)

    def wake_at(self, now: float) -> float:
        """When `next` may name another, or `is_done`, although nothing came; infinite for never."""
        times = [one.asked_at + SLOW_S for one in self._asked.values()]
        times += [one.since + self.patience_s for one in self._asked.values()]
        times.append(self._last_answer + self.patience_s)
        return min((time for time in times if time > now), default=math.inf)

    def reached(self, peer_id: str, address: str, now: float) -> None:
        """There is a connection with a peer that was asked, who has to answer now.

        Args:
            peer_id: whose.
            address: where he is.
            now: when.
        """
        one = self._asked.get(peer_id)
        if one is not None:
            one.is_reached, one.since = True, now
            self._alive_at.add(origin_of(address))

    def answered(self, peer_id: str, now: float, closer: Iterable[Contact] = ()) -> None:
        """A peer that was asked has answered.

        Args:
            peer_id: whose answer it is; one that was not asked, or has failed, is passed over.
            now: when.
            closer: peers that it told of.
        """
        one = self._asked.pop(peer_id, None)
        if one is None:
            return
        self._answered[peer_id] = one.distance
        if len(self._answered) >= K:
            self._limit = nsmallest(K, self._answered.values())[-1]
        insort(self._took, now - one.asked_at)
        self._last_answer = now
        for contact in nearest(closer, self._position):
            self._hear(contact)
            if contact.peer_id in self._tellers:
                self._tellers[contact.peer_id].add(peer_id)

    def failed(self, peer_id: str) -> None:
        """A peer that was asked can not be reached, or does not answer."""
        one = self._asked.pop(peer_id, None)
        if one is not None:
            self._in_vain.update(one.tellers)
            if not one.is_reached:
                self._ask_again(peer_id)

    def is_done(self, now: float) -> bool:
        """Nobody is left to ask, and nobody to wait for."""
        if self._is_waiting(self._doubtful(now), now):
            return False
        return self._queries >= MOST or not self._worth(now)

    def _is_waiting(self, doubtful: set[str], now: float) -> bool:
        """Whether somebody is waited for: who is connected has his time, and so has who may be expected to answer.

        Who is not connected, and whom half of those who answered know, may be far away: he has until he fails.
        """
        if not self._answered:
            return bool(self._asked)
        for peer_id, one in self._asked.items():
            if not one.is_reached and self._is_vouched_for(peer_id):
                return True
            is_in_time = now < one.since + self.patience_s
            if is_in_time and (one.is_reached or self._is_promising(peer_id, doubtful)):
                return True
        return False

    def unanswered(self) -> set[str]:
        """The peer ids of those who have not answered yet: when it is done, nobody waits for them any longer."""
        return set(self._asked)

    def closest(self) -> list[Contact]:
        """The nearest peers that have answered, in order; at most K."""
        return [self._contacts[one] for one in nsmallest(K, self._answered, key=self._answered.__getitem__)]
