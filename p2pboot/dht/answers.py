"""What a server answers, and what it takes: one request, one reply, without input, output or clock.

It keeps what askers put, and judges none of it. Its own records are not among these: nobody can displace them. To
somebody who knows one value only it tells its own, or else that of whom the operator named, or else the oldest.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, TypeVar

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import PublicKey
from p2pboot.core.origins import party_of
from p2pboot.dht.addresses import AddressPolicy
from p2pboot.dht.keys import peer_id_bytes, position
from p2pboot.dht.records import PROVIDERS, VALUES, Records
from p2pboot.dht.table import Contact, RoutingTable
from p2pboot.errors import RemoteProtocolError
from p2pboot.wire.kad import (
    MAX_FRAME,
    MAX_FURTHER,
    MAX_KEY,
    MAX_PROVIDERS,
    MAX_VALUE,
    KadPeer,
    Message,
    MessageType,
    Record,
    record_size,
)

OF_VALUES: Final = MAX_FRAME * 3 // 4
"""Bytes of values in a reply; the rest is for peers."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks.

    Args:
        peer_id: proven.
        address: where he is connected from, a multiaddr.
    """

    peer_id: str
    address: str


class OwnRecords(Protocol):
    """What this node itself puts into the table, and where it is."""

    @property
    def contact(self) -> Contact:
        """Itself, with the addresses at which it can be dialled now."""

    def value(self, key: bytes) -> bytes | None:
        """Its value under a key."""

    def provides(self, key: bytes) -> bool:
        """Whether it is a provider under a key."""


class Refused(RemoteProtocolError):
    """A request that is as it should be, and not done; it was counted."""


class Answerer:
    """Answers for one node.

    Args:
        own: what this node puts into the table, and where it is.
        table: whom it knows.
        policy: which addresses are told and kept.
        is_trusted: whether a peer is one whom the operator named, by its id.
    """

    def __init__(
        self,
        own: OwnRecords,
        table: RoutingTable,
        policy: AddressPolicy,
        is_trusted: Callable[[str], bool] = lambda _peer_id: False,
    ) -> None:
        self._own = own
        self._table = table
        self._policy = policy
        self._turns = itertools.count()
        self.refused: Counter[str] = Counter()
        """Why what came was not kept: `quota`, where there was no place for it, or `guest`."""
        self.values: Records[bytes] = Records(VALUES, is_trusted)
        self.providers: Records[tuple[str, ...]] = Records(PROVIDERS, is_trusted)

    def answer(self, request: Message, asker: Asker, now: float) -> Message | None:
        """Do what a request says.

        Args:
            request: as it came.
            asker: whose.
            now: seconds on a clock that does not jump.

        Returns:
            The reply; None where none is due.

        Raises:
            Refused: it is not done, for which the protocol has no words: the stream is to be reset.
            RemoteProtocolError: it is none, likewise.
        """
        kind, key = request.type, request.key
        if kind is MessageType.PING:
            return Message(kind)
        if not 1 <= len(key) <= MAX_KEY:
            raise RemoteProtocolError(f"a key of {len(key)} bytes")
        match kind:
            case MessageType.PUT_VALUE:
                return self._put(request, asker, now)
            case MessageType.ADD_PROVIDER:
                self._add_provider(request, asker, now)
                return None
            case MessageType.GET_VALUE:
                first, *further = self._values(key, now) or (None,)
                closer = self._closer(key, asker)
                return Message(kind, key, first, further=tuple(filter(None, further)), closer=closer)
            case MessageType.GET_PROVIDERS:
                return Message(
                    kind, key, closer=self._closer(key, asker), providers=self._providers(key, asker, now)
                )
        return Message(kind, closer=(*self._itself(key, asker), *self._closer(key, asker)))  # FIND_NODE

    def forget_old(self, now: float) -> None:
        """Drop what was not put again in time."""
        self.values.forget_old(now)
        self.providers.forget_old(now)

    def _put(self, request: Message, asker: Asker, now: float) -> Message:
        record = request.record
        if record is None or record.key != request.key or not 1 <= len(record.value) <= MAX_VALUE:
            raise RemoteProtocolError("no record that can be kept")
        if not self._policy.allowed.heeds(asker.peer_id):
            raise self._refuse("guest")
        ttl = {"ttl_s": record.ttl_s} if record.ttl_s else {}
        party = party_of(asker.address, asker.peer_id)
        if not self.values.put(request.key, party, record.value, now=now, **ttl):
            raise self._refuse("quota")
        return Message(request.type, request.key, record)

    def _refuse(self, reason: str) -> Refused:
        self.refused[reason] += 1
        return Refused(f"it is not kept: {reason}")

    def _add_provider(self, request: Message, asker: Asker, now: float) -> None:
        """Keep what a peer says of itself. What it says of others is passed over: anybody could."""
        own = PublicKey.from_peer_id(asker.peer_id).peer_id_bytes
        for peer in request.providers:
            contact = self._policy.heard(peer, asker.address) if peer.id == own else None
            if contact is not None:
                party = party_of(asker.address, asker.peer_id)
                if not self.providers.put(request.key, party, contact.addresses, now=now):
                    self.refused["quota"] += 1  # nobody expects a reply
                return

    def _values(self, key: bytes, now: float) -> Sequence[Record]:
        """All distinct values, or as many as there is room for."""
        own = self._own.value(key)
        kept = dict.fromkeys(value for _, value in self.values.get(key, now))
        values = [own, *(value for value in kept if value != own)] if own else list(kept)
        records = [Record(key, value) for value in values]
        longest = max(map(record_size, records), default=1)
        return self._some(records, min(MAX_FURTHER + 1, OF_VALUES // longest))

    def _some(self, found: Sequence[T], most: int) -> Sequence[T]:
        """At most so many, each time others of those that do not fit; who comes first always does."""
        if len(found) <= most:
            return found
        first, others = found[: most // 2], found[most // 2 :]
        begin = next(self._turns) * (most - len(first)) % len(others)
        return [*first, *others[begin:], *others[:begin]][:most]

    def _itself(self, key: bytes, asker: Asker) -> tuple[KadPeer, ...]:
        """This node, where it is who is looked for."""
        own = self._own.contact
        return self._told([own], asker) if key == peer_id_bytes(own.peer_id) else ()

    def _closer(self, key: bytes, asker: Asker) -> tuple[KadPeer, ...]:
        found = [one for one in self._table.nearest(position(key)) if one.peer_id != asker.peer_id]
        return self._told(found, asker)

    def _providers(self, key: bytes, asker: Asker, now: float) -> tuple[KadPeer, ...]:
        kept = [Contact(party.peer_id, addresses) for party, addresses in self.providers.get(key, now)]
        own = [self._own.contact] if self._own.provides(key) else []
        return self._told(self._some([*own, *kept], MAX_PROVIDERS), asker)

    def _told(self, contacts: Iterable[Contact], asker: Asker) -> tuple[KadPeer, ...]:
        told = (self._policy.told(contact, asker.address) for contact in contacts)
        return tuple(peer for peer in told if peer is not None)
