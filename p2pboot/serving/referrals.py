"""Who is told of whom: the records that askers sent to be told, each for a minute, and those of connected nodes.

A client that fetches a manifest sends its own signed record along when it asks for peers. It is told to others who are
there for the same manifest, and to nobody else: who boots what, and where, is no stranger's business. Nodes are told to
everyone.

Whoever sends a record can send thousands, under as many peer ids, so places are shared by origin (`core.origins`), and
a choice among many goes round by origin. What a record says is its signer's word, and whether anybody is there shows
when it is dialled.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import field
from itertools import islice
from typing import Final, TypeVar

import trio
from cachetools import LRUCache

from p2pboot.core.dataclass import dataclass
from p2pboot.core.origins import Party, origin_of, party_of
from p2pboot.core.shares import Shares
from p2pboot.protocol.messages import MAX_PEER_RECORD, MAX_PEERS, TOLD_S, PeersRequest
from p2pboot.transport.addresses import Address, parse_address
from p2pboot.transport.interface import Connection, PeerRecord
from p2pboot.transport.scopes import Scope, narrowest, scope_of

_PLACES: Final = 1024  # askers that are known at a time
_RESERVE: Final = 128
_DIGESTS: Final = 8  # manifests that one asker is known to be there for
_CHECK_EVERY_S: Final = 1.0  # a record that differs from the asker's last one
_NEAR: Final = (
    24  # of MAX_PEERS: those near the asker come first, but not only they, or racks would stay apart
)
_REMEMBERED: Final = 1024  # records of nodes that were read, and connections whose questions are known

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Asker:
    """Somebody who asked for peers.

    Args:
        party: who it is.
        site: where it says that it stands.
        raw: its record as it came, empty without one.
        said: what that says; None where it is not good.
        checked_at: when it was read.
        until: by digest of a manifest, until when its record is told to others who are there for that.
        seen_at: when it asked.
    """

    party: Party
    site: str | None = None
    raw: bytes = b""
    said: tuple[Address, ...] = ()
    checked_at: float = float("-inf")
    until: dict[str, float] = field(default_factory=dict)
    seen_at: float = float("-inf")


class Referrals:
    """The register of one node, or of one client that serves.

    Args:
        read_record: reads a signed record that came from anybody; at most one signature check.
        nodes: gives the records of connected nodes, which were read before; must be quick.
        note_site: is told where an asker says that it stands.
        is_clients: whether it is a client's: it passes by, and brings nobody together who is there for nothing.
    """

    def __init__(
        self,
        read_record: Callable[[bytes], PeerRecord | None],
        nodes: Callable[[], Sequence[bytes]],
        note_site: Callable[[Connection, str], None],
        *,
        is_clients: bool = False,
    ) -> None:
        self._is_clients = is_clients
        self._read_record = read_record
        self._nodes = nodes
        self._note_site = note_site
        self._places = Shares(_PLACES, _RESERVE)
        self._askers: dict[Party, _Asker] = {}  # whoever asked last at the end
        self._asked_for: LRUCache[Connection, tuple[str, ...]] = LRUCache(_REMEMBERED)
        self._read: LRUCache[bytes, tuple[str, tuple[Address, ...]]] = LRUCache(_REMEMBERED)

    def note_manifest(self, connection: Connection, digest: str) -> None:
        """A manifest was asked for on a connection: whoever is there is one of those who are to find each other."""
        digests = self._asked_for.get(connection, ())
        if digest not in digests:
            self._asked_for[connection] = (*digests, digest)[-_DIGESTS:]

    def answer(self, connection: Connection, request: PeersRequest) -> list[bytes]:
        """Take down who asks, and return the records that it is told; at most MAX_PEERS, those near it first."""
        now = trio.current_time()
        self._forget_old(now)
        digests = self._asked_for.get(connection, ()) if request.digest is None else (request.digest,)
        if request.site is not None:
            self._note_site(connection, request.site)
        if request.record is not None and digests:
            self._take(connection, request, digests, now)
        scope = scope_of(connection.address)
        told = [
            asker
            for asker in self._askers.values()
            if asker.party.peer_id != connection.peer_id
            and asker.said
            and narrowest(asker.said) >= scope
            and any(asker.until.get(digest, now) > now for digest in digests)
        ]
        here = _neighbourhood(connection.address)
        near = [
            asker
            for asker in told
            if _neighbourhood(asker.party.origin) == here or (asker.site and asker.site == request.site)
        ]
        known = {asker.party.peer_id for asker in told} | {connection.peer_id}
        nodes = dict(self._useful_nodes(scope, known)) if digests or not self._is_clients else {}
        beside = [asker.raw for asker in _in_turns(near, _origin)]
        everybody = {asker.raw: asker.party.origin for asker in told} | nodes
        far = _in_turns(everybody.keys() - set(beside), everybody.__getitem__)
        chosen = dict.fromkeys([*beside[:_NEAR], *far, *beside[_NEAR:]])
        return list(islice(chosen, MAX_PEERS))

    def _take(
        self, connection: Connection, request: PeersRequest, digests: Iterable[str], now: float
    ) -> None:
        party = party_of(connection.address, connection.peer_id)
        asker = self._askers.pop(party, None) or self._admit(party)
        self._askers[party] = asker
        asker.seen_at, asker.site = now, request.site
        raw = request.record_bytes or b""
        if raw != asker.raw and now - asker.checked_at >= _CHECK_EVERY_S:
            said = self._read_record(raw)
            is_own = said is not None and said.peer_id == connection.peer_id
            asker.raw, asker.checked_at, asker.until = raw, now, {}
            asker.said = tuple(map(parse_address, said.addresses)) if said is not None and is_own else ()
        if raw == asker.raw:
            for digest in digests:
                asker.until.pop(digest, None)
                asker.until[digest] = now + TOLD_S
            for digest in list(asker.until)[:-_DIGESTS]:
                del asker.until[digest]

    def _admit(self, party: Party) -> _Asker:
        """Make room for one more: of the origin that has most whoever asked longest ago goes."""
        if not self._places.fits(party):
            origin = self._places.gives_way(party)
            leaving = next((one for one in self._askers if one.origin == origin), None)
            if leaving is not None:
                self._forget(leaving)
        self._places.take(party)
        return _Asker(party)

    def _forget_old(self, now: float) -> None:
        for party, asker in list(self._askers.items()):
            if asker.seen_at + TOLD_S > now:
                return
            self._forget(party)

    def _forget(self, party: Party) -> None:
        del self._askers[party]
        self._places.give_back(party)

    def _useful_nodes(self, scope: Scope, known: set[str]) -> Iterator[tuple[bytes, str]]:
        """The records of nodes of which some address may be dialled from that far away, each with an origin."""
        for raw in self._nodes():
            if not 1 <= len(raw) <= MAX_PEER_RECORD:
                continue
            peer_id, addresses = self._said_by(raw)
            far = [one.host for one in addresses if not one.is_ip or scope_of(one.host) >= scope]
            if peer_id not in known and (far or not addresses):
                yield raw, origin_of(far[0]) if far else ""

    def _said_by(self, raw: bytes) -> tuple[str, tuple[Address, ...]]:
        digest = hashlib.sha256(raw).digest()
        if digest not in self._read:
            said = self._read_record(raw)
            self._read[digest] = (
                ("", ()) if said is None else (said.peer_id, tuple(map(parse_address, said.addresses)))
            )
        return self._read[digest]


def _origin(asker: _Asker) -> str:
    return asker.party.origin


def _neighbourhood(address: str) -> str:
    """What those who stand near each other mostly have in common, as far as a third party can tell."""
    origin = origin_of(address)
    return origin.rpartition(".")[0] or origin  # of IPv4 the first 24 bits, of IPv6 the origin is 64


def _in_turns(several: Iterable[T], origin: Callable[[T], Hashable]) -> Iterator[T]:
    """All of them at random, but so that origins take turns: one that has thousands crowds nobody out."""
    by_origin: dict[Hashable, list[T]] = {}
    for one in several:
        by_origin.setdefault(origin(one), []).append(one)
    queues = list(by_origin.values())
    for queue in queues:
        random.shuffle(queue)
    while queues:
        random.shuffle(queues)
        for queue in queues:
            yield queue.pop()
        queues = [queue for queue in queues if queue]
