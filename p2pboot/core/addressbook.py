"""Where peers are to be found, also after they went: what was proved by a connection, and what was only said.

An address is proved when its peer was reached there, under its own key. What is only said, by whomever, fills a part of
its own: nothing that a stranger says pushes out what was proved. Either part is bounded, and shared by origin
(`core.origins`): who has one address and a thousand keys has a small corner of it. Of what was proved nothing goes for
a newcomer but what failed again and again, or is one of the many of one origin. So whoever runs many real nodes gets in
and crowds nobody out. Times are for people to read: nothing is decided by a clock, which may say 1970.

Pure: `store.peers` keeps it on the disk, `fetch.asking.remembering` fills it, and each transport has one for its
connections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.origins import origin_of

MAX_ADDRESSES: Final = 16
"""Of one peer, in either part; those of a server with many interfaces fit."""

OUTDATED: Final = 3
"""Who was not reached so often in a row gives way to a newcomer."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many peers a book has at most.

    Args:
        proved: who were reached.
        said: of whom is only known what they say.
        of_origin: of one origin, in either part: a fleet behind one address.
    """

    proved: int
    said: int
    of_origin: int


KEPT: Final = Bounds(512, 512, 32)
"""Of a book that outlasts its process: a mesh of hundreds fits, and is found again by any few of them."""

OF_A_PROCESS: Final = Bounds(1024, 1024, 256)
"""Of one that does not: all peers of a crowd on one machine, or behind one address."""


@dataclass(frozen=True, slots=True)
class KnownAddress:
    """One address of a peer.

    Args:
        address: a multiaddr with `/p2p/…`.
        reached_at: when the peer was reached there the last time, unix seconds as the machine's clock had it; None:
            it only says so.
    """

    address: str
    reached_at: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one peer.

    Args:
        peer_id: whose.
        addresses: the best first: those where it was reached, the last one first, then those that it names.
        failures: how often in a row it could not be reached lately, at any of them.
    """

    peer_id: str
    addresses: tuple[KnownAddress, ...]
    failures: int = 0

    @property
    def is_proved(self) -> bool:
        """Whether it was ever reached at one of them."""
        return any(address.reached_at is not None for address in self.addresses)


@dataclass(slots=True, eq=False)
class _Known:
    """One peer in one of the parts."""

    origin: str
    addresses: dict[str, int | None]  # the best first
    failures: int = 0

    def put_in_front(self, address: str, reached_at: int | None) -> None:
        self.addresses.pop(address, None)
        self.addresses = {address: reached_at, **self.addresses}
        for surplus in list(self.addresses)[MAX_ADDRESSES:]:
            del self.addresses[surplus]


class _Part:
    """Peers within a bound, shared by origin; the one that came or was renewed last at the end."""

    def __init__(self, most: int, most_of_origin: int) -> None:
        self._most, self._most_of_origin = most, most_of_origin
        self._of_origin: Counter[str] = Counter()
        self.peers: dict[str, _Known] = {}

    def put(self, peer_id: str, known: _Known) -> None:
        """Add or renew a peer, for whom there is room."""
        self.remove(peer_id)
        self.peers[peer_id] = known
        self._of_origin[known.origin] += 1

    def remove(self, peer_id: str) -> _Known | None:
        known = self.peers.pop(peer_id, None)
        if known is not None:
            self._of_origin[known.origin] -= 1
            if not self._of_origin[known.origin]:
                del self._of_origin[known.origin]
        return known

    def room_for(self, origin: str) -> tuple[bool, str | None]:
        """Whether there is room for a newcomer, and who has to go for it."""
        if self._of_origin[origin] >= self._most_of_origin:
            return True, self._worst_of(origin)
        if len(self.peers) < self._most:
            return True, None
        most = max(self._of_origin.values())
        if most > self._of_origin[origin] + 1:
            return True, self._worst_of(next(one for one, count in self._of_origin.items() if count == most))
        return False, None

    def oldest(self) -> str:
        """Who came or was renewed longest ago."""
        return next(iter(self.peers))

    def outdated(self) -> str | None:
        """Who could not be reached for long, if there is one; of several the one that failed most."""
        worst = max(self.peers, key=lambda peer_id: self.peers[peer_id].failures)
        return worst if self.peers[worst].failures >= OUTDATED else None

    def _worst_of(self, origin: str) -> str:
        """Who failed most, and of those the one that was renewed longest ago."""
        its = [peer_id for peer_id, known in self.peers.items() if known.origin == origin]
        return max(its, key=lambda peer_id: self.peers[peer_id].failures)


class AddressBook:
    """See above.

    Args:
        bounds: how many there may be.
        entries: what is known from earlier, those that were reached last at the end.
    """

    def __init__(self, bounds: Bounds, entries: Iterable[Entry] = ()) -> None:
        self._proved = _Part(bounds.proved, bounds.of_origin)
        self._said = _Part(bounds.said, bounds.of_origin)
        self._changed: set[str] = set()
        for entry in entries:
            for known in reversed(entry.addresses):
                if known.reached_at is not None:
                    self.reached(entry.peer_id, known.address, known.reached_at)
            only_said = [known.address for known in entry.addresses if known.reached_at is None]
            if only_said:
                self.said(entry.peer_id, only_said, origin_of(only_said[0]))
            if entry.peer_id in self._proved.peers:
                self._proved.peers[entry.peer_id].failures = entry.failures
        self._changed.clear()

    def __len__(self) -> int:
        return len(self._proved.peers.keys() | self._said.peers.keys())

    def reached(self, peer_id: str, address: str, now: int = 0) -> None:
        """A peer was reached at an address: it proved there that it is this peer.

        Args:
            peer_id: its own.
            address: a multiaddr with `/p2p/<peer_id>`.
            now: unix seconds.
        """
        known = self._proved.peers.get(peer_id)
        if known is None:
            origin = origin_of(address)
            fits, leaving = self._proved.room_for(origin)
            if not fits:
                leaving = self._proved.outdated()
                if leaving is None:
                    return
            if leaving is not None:
                self._proved.remove(leaving)
                self._changed.add(leaving)
            known = _Known(origin, {})
        known.put_in_front(address, now)
        known.failures = 0
        self._proved.put(peer_id, known)
        self._changed.add(peer_id)

    def said(self, peer_id: str, addresses: Iterable[str], origin: str) -> None:
        """A peer says where it is; that replaces what it said before.

        Args:
            peer_id: its own.
            addresses: multiaddrs with `/p2p/<peer_id>`, the best first, of which so many count as one may have.
            origin: of the connection on which it says so: whose corner of the book this fills.
        """
        kept = list(dict.fromkeys(addresses))[:MAX_ADDRESSES]
        before = self._said.remove(peer_id)
        if kept:
            fits, leaving = self._said.room_for(origin)
            if not fits:
                leaving = self._said.oldest()
            if leaving is not None:
                self._said.remove(leaving)
                self._changed.add(leaving)
            self._said.put(peer_id, _Known(origin, dict.fromkeys(kept)))
        if kept != ([] if before is None else list(before.addresses)):
            self._changed.add(peer_id)

    def failed(self, peer_id: str) -> None:
        """A peer could not be reached at any of its addresses, while others can: what it only said is forgotten."""
        if self._said.remove(peer_id) is not None:
            self._changed.add(peer_id)
        known = self._proved.peers.get(peer_id)
        if known is not None:
            known.failures += 1
            self._changed.add(peer_id)

    def get(self, peer_id: str) -> tuple[str, ...]:
        """Return a peer's addresses, the best first; none for one who is not known."""
        entry = self._entry(peer_id)
        return () if entry is None else tuple(known.address for known in entry.addresses)

    def entries(self) -> Iterator[Entry]:
        """All peers, the best first: who was reached last and did not fail since, and mere sayings at the end."""
        proved = self._proved.peers
        order = list(reversed(proved))
        order.sort(key=lambda peer_id: proved[peer_id].failures)
        order += [peer_id for peer_id in reversed(self._said.peers) if peer_id not in proved]
        return filter(None, map(self._entry, order))

    def take_changes(self) -> tuple[list[Entry], list[str]]:
        """What has changed since the last call: entries as they are now, and the ids of peers that are gone."""
        changed, self._changed = self._changed, set()
        entries = {peer_id: self._entry(peer_id) for peer_id in changed}
        return (
            [entry for entry in entries.values() if entry is not None],
            [peer_id for peer_id, entry in entries.items() if entry is None],
        )

    def give_back(self, peer_ids: Iterable[str]) -> None:
        """Changes that were taken could not be kept: they count as not taken."""
        self._changed.update(peer_ids)

    @property
    def has_changes(self) -> bool:
        """Whether there is something to take."""
        return bool(self._changed)

    def _entry(self, peer_id: str) -> Entry | None:
        proved, said = self._proved.peers.get(peer_id), self._said.peers.get(peer_id)
        parts = [part for part in (proved, said) if part is not None]
        if not parts:
            return None
        merged: dict[str, int | None] = {}
        for part in parts:
            for address, reached_at in part.addresses.items():
                merged.setdefault(address, reached_at)
        addresses = tuple(KnownAddress(*pair) for pair in merged.items())[:MAX_ADDRESSES]
        return Entry(peer_id, addresses, 0 if proved is None else proved.failures)
