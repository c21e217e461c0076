"""Fair shares of one resource, by origin first and peer second; and a queue that goes round in the same way.

Shares hold under contention only. One origin alone (a site behind NAT, a fleet on one machine) may use everything but
the reserve; when others come, whoever holds most gives way. Pure bookkeeping: nothing here waits or reads a clock.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final, Generic, TypeVar

from p2pboot.core.origins import Party

T = TypeVar("T")

_REMEMBERED: Final = 4096  # origins, or peers of one, whose debts are known at a time


class Shares:
    """Counts who holds how much of a resource, and says who is to have more and who gives way.

    Args:
        capacity: units that there are: connections, streams, bytes…
        reserve: of these, what only a party takes that holds little: one below the even share, or a trusted one.
    """

    def __init__(self, capacity: int, reserve: int) -> None:
        if not 0 <= reserve < capacity:
            raise ValueError(f"a reserve of {reserve} leaves nothing of {capacity}")
        self.capacity = capacity
        self.reserve = reserve
        self.used = 0
        """Units that somebody holds."""
        self._by_origin: Counter[str] = Counter()
        self._by_party: Counter[Party] = Counter()

    def held(self, origin: str) -> int:
        """Units that an origin holds, all its peers together."""
        return self._by_origin[origin]

    def held_by(self, party: Party) -> int:
        """Units that one peer of an origin holds."""
        return self._by_party[party]

    def even_share(self, origin: str) -> int:
        """What each origin could have if all that hold something, and this one, had the same; at least 1."""
        origins = len(self._by_origin) + (origin not in self._by_origin)
        return max(1, (self.capacity - self.reserve) // origins)

    def even_share_of_peers(self, party: Party) -> int:
        """What each peer could have if all that hold something, and this one, had the same; at least 1."""
        parties = len(self._by_party) + (party not in self._by_party)
        return max(1, (self.capacity - self.reserve) // parties)

    def fits(self, party: Party, amount: int = 1, *, trusted: bool = False) -> bool:
        """Whether there is room as it is.

        Args:
            party: who wants more.
            amount: how many units more.
            trusted: whether it is one whom the operator named; it may use the reserve, up to as much as that is.

        Returns:
            Whether it may `take` them. If not, `gives_way` says whose are to be ended.
        """
        free = self.capacity - self.used
        has_little = self.held(party.origin) + amount <= self.even_share(party.origin)
        is_named = trusted and self.held_by(party) + amount <= self.reserve
        return amount <= (free if has_little or is_named else free - self.reserve)

    def gives_way(self, party: Party, amount: int = 1) -> str:
        """The origin that gives way to a party that wants more.

        Returns:
            The origin that holds most, if that is more than this party's would hold; otherwise the party's own: among
            the peers of one origin the heaviest, and of equal ones the idlest, is to go, which the caller knows.
        """
        if not self._by_origin:
            return party.origin
        heaviest = max(self._by_origin, key=self._by_origin.__getitem__)
        if self._by_origin[heaviest] > self.held(party.origin) + amount:
            return heaviest
        return party.origin

    def take(self, party: Party, amount: int = 1) -> None:
        """Put down that a party holds more; whether it may is asked of `fits` before."""
        self.used += amount
        self._by_origin[party.origin] += amount
        self._by_party[party] += amount

    def give_back(self, party: Party, amount: int = 1) -> None:
        """Put down that it holds less again.

        Raises:
            ValueError: it does not hold as much.
        """
        if amount > self.held_by(party):
            raise ValueError(f"{party} gives back {amount} of {self.held_by(party)}")
        self.used -= amount
        self._by_origin[party.origin] -= amount
        self._by_party[party] -= amount
        if not self._by_party[party]:
            del self._by_party[party]
        if not self._by_origin[party.origin]:
            del self._by_origin[party.origin]


class FairQueue(Generic[T]):
    """A queue in which origins take turns, within each its peers, and for each peer the first comes first.

    Start-time fair queueing (Goyal, Vin and Cheng, 1996) on two levels: whoever had much waits until the others have
    had as much, measured in costs, and having been idle saves nothing up. So what comes first of an origin waits behind
    at most one item of each other origin.
    """

    def __init__(self) -> None:
        self._origins: _Level[_Level[deque[tuple[T, float]]]] = _Level()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, party: Party, item: T, cost: float = 1.0) -> None:
        """Append an item for a party.

        Args:
            party: whose turn it takes.
            item: what `pop` will return.
            cost: of the turn, above 0, in whatever unit all costs are.
        """
        peers = self._origins.waiting.setdefault(party.origin, _Level())
        peers.waiting.setdefault(party.peer_id, deque()).append((item, cost))
        self._length += 1

    def pop(self) -> T:
        """Take out the item whose turn it is.

        Raises:
            IndexError: there is none.
        """
        if not self._length:
            raise IndexError("the queue is empty")
        origin = self._origins.next()
        peers = self._origins.waiting[origin]
        peer_id = peers.next()
        items = peers.waiting[peer_id]
        item, cost = items.popleft()
        peers.charge(peer_id, cost)
        self._origins.charge(origin, cost)
        self._drop_if_empty(origin, peer_id)
        self._length -= 1
        return item

    def discard(self, party: Party, item: T) -> bool:
        """Take an item out before its turn, at no cost; returns whether it was there."""
        peers = self._origins.waiting.get(party.origin)
        items = None if peers is None else peers.waiting.get(party.peer_id)
        for entry in items or ():
            if entry[0] is item:
                items.remove(entry)  # type: ignore[union-attr]
                self._drop_if_empty(party.origin, party.peer_id)
                self._length -= 1
                return True
        return False

    def charge(self, party: Party, cost: float) -> None:
        """Have a party pay for something that did not wait here, or was not worth it: its next turn comes later."""
        self._origins.charge(party.origin, cost)
        peers = self._origins.waiting.get(party.origin)
        if peers is not None:
            peers.charge(party.peer_id, cost)

    def rest(self) -> None:
        """Forget what each had: somebody has a turn without waiting, so nobody is kept waiting by anybody."""
        self._origins.rest()

    def _drop_if_empty(self, origin: str, peer_id: str) -> None:
        peers = self._origins.waiting[origin]
        if not peers.waiting[peer_id]:
            del peers.waiting[peer_id]
        if not peers.waiting:
            del self._origins.waiting[origin]
        if not self._origins.waiting:
            self._origins.rest()


class _Level(Generic[T]):
    """Those of one level who have something waiting, and when the turn of each is over."""

    def __init__(self) -> None:
        self.waiting: dict[str, T] = {}
        self._over: dict[str, float] = {}  # of whoever had a turn that is not over at `_now`
        self._now = 0.0  # when the latest turn began, in costs

    def next(self) -> str:
        """Begin the turn of whoever may begin first; of equal ones, of who was idle, and then of who waits longest."""
        key = min(self.waiting, key=self._order)
        self._now = self._start(key)
        return key

    def charge(self, key: str, cost: float) -> None:
        """Have the turn of one last longer by a cost."""
        self._over[key] = self._start(key) + cost
        if len(self._over) > _REMEMBERED:
            self._over = {one: over for one, over in self._over.items() if over > self._now}
        if len(self._over) > _REMEMBERED:
            del self._over[min(self._over, key=self._over.__getitem__)]

    def rest(self) -> None:
        """Nobody waits, so nobody is kept waiting by anybody: what they had is forgotten."""
        self._over.clear()

    def _order(self, key: str) -> tuple[float, bool]:
        # Where all turns cost the same, those of one round begin together: who comes now is not to wait for the round.
        return self._start(key), self._over.get(key, -1.0) >= self._now

    def _start(self, key: str) -> float:
        return max(self._now, self._over.get(key, self._now))
