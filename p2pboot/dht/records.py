"""What others put here: values and providers by key, in fair shares by origin, each for a while.

Each peer has one record of its own under a key, and replaces only that: what a stranger writes last shadows nothing.
Without input, output or clock.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from p2pboot.core.dataclass import dataclass
from p2pboot.core.origins import Party
from p2pboot.core.shares import Shares

T = TypeVar("T")

VALUES: Final = 1000
"""Values that are kept."""
PROVIDERS: Final = 4000
"""Provider records that are kept."""
PER_KEY: Final = 250
"""Records under one key: as many values as one origin may have, so that it is this which ends a stranger's flood."""
DAY_S: Final = 24 * 3600
"""How long a record is kept that is not put again; go-libp2p puts its own again every 22 hours."""

_RESERVED: Final = 8  # this part is for who holds little, and for whom the operator named
_OF_ORIGIN: Final = 4  # and this part is the most that one origin has, also where nobody else is


@dataclass(slots=True, eq=False)
class _Entry(Generic[T]):
    payload: T
    until: float


class Records(Generic[T]):
    """Records of one kind.

    Args:
        capacity: how many are kept.
        is_trusted: whether a peer is one whom the operator named, by its id; a place is kept for it.
    """

    def __init__(self, capacity: int, is_trusted: Callable[[str], bool] = lambda _peer_id: False) -> None:
        self._shares = Shares(capacity, capacity // _RESERVED)
        self._most = capacity // _OF_ORIGIN
        self._is_trusted = is_trusted
        self._keys: dict[bytes, dict[Party, _Entry[T]]] = {}  # the oldest first
        self._order: dict[Party, dict[bytes, None]] = {}  # the oldest first

    def __len__(self) -> int:
        return self._shares.used

    def put(self, key: bytes, party: Party, payload: T, *, now: float, ttl_s: float = DAY_S) -> bool:
        """Keep a record, or say it anew.

        Args:
            key: under which.
            party: who puts it; its earlier one under the key is replaced, where the place is kept.
            payload: what it says, bounded by the caller.
            now: seconds on a clock that does not jump.
            ttl_s: how long it is kept.

        Returns:
            Whether it is kept: there may be no place for it.
        """
        until = now + min(ttl_s, DAY_S)
        entry = self._keys.get(key, {}).get(party)
        if entry is not None:
            entry.payload, entry.until = payload, until
            return True
        leaving = self._gives_place(key, party), self._gives_share(party)
        if None in leaving:
            return False
        for one in dict.fromkeys(one for found in leaving for one in found or ()):
            self._forget(*one)
        self._shares.take(party)
        self._keys.setdefault(key, {})[party] = _Entry(payload, until)
        self._order.setdefault(party, {})[key] = None
        return True

    def _gives_place(self, key: bytes, party: Party) -> list[tuple[bytes, Party]] | None:
        """What goes so that there is a place under the key; None: none is made."""
        there = self._keys.get(key, {})
        if len(there) < PER_KEY:
            return []
        origins = Counter(other.origin for other in there)
        heaviest = max(origins, key=origins.__getitem__)
        if origins[heaviest] <= origins[party.origin] + 1 and not self._is_trusted(party.peer_id):
            return None
        return [(key, next(other for other in reversed(there) if other.origin == heaviest))]

    def _gives_share(self, party: Party) -> list[tuple[bytes, Party]] | None:
        """What goes so that there is a place among all; None: none is made."""
        shares = self._shares
        trusted = self._is_trusted(party.peer_id)
        own_is_full = shares.held(party.origin) >= self._most
        if not own_is_full and shares.fits(party, trusted=trusted):
            return []
        if trusted:
            rivals = [other for other in self._order if not self._is_trusted(other.peer_id)]
        else:
            origin = party.origin if own_is_full else shares.gives_way(party)
            rivals = [other for other in self._order if other.origin == origin]
        heaviest = max(rivals, key=shares.held_by, default=None)
        if heaviest is None:
            return None
        is_neighbour = heaviest.origin == party.origin
        if is_neighbour and not trusted and shares.held_by(heaviest) <= shares.held_by(party) + 1:
            return None
        return [(next(reversed(self._order[heaviest])), heaviest)]

    def get(self, key: bytes, now: float) -> list[tuple[Party, T]]:
        """What is there, in the order in which it is to be told: those first whom the operator named.

        Then origins take turns, in each whoever was there first comes first.
        """
        there = self._keys.get(key, {})
        for party in [party for party, entry in there.items() if entry.until <= now]:
            self._forget(key, party)
        named = [party for party in there if self._is_trusted(party.peer_id)]
        others = [party for party in there if not self._is_trusted(party.peer_id)]
        return [(party, there[party].payload) for party in (*named, *_in_turns(others))]

    def forget_old(self, now: float) -> None:
        """Drop what was not put again in time."""
        old = [
            (key, party)
            for key, there in self._keys.items()
            for party, entry in there.items()
            if entry.until <= now
        ]
        for key, party in old:
            self._forget(key, party)

    def _forget(self, key: bytes, party: Party) -> None:
        del self._keys[key][party]
        if not self._keys[key]:
            del self._keys[key]
        del self._order[party][key]
        if not self._order[party]:
            del self._order[party]
        self._shares.give_back(party)


def _in_turns(parties: Iterable[Party]) -> list[Party]:
    """All of them, one of each origin after the other."""
    by_origin: dict[str, deque[Party]] = {}
    for party in parties:
        by_origin.setdefault(party.origin, deque()).append(party)
    found = []
    queues = list(by_origin.values())
    while queues:
        found += [queue.popleft() for queue in queues]
        queues = [queue for queue in queues if queue]
    return found
