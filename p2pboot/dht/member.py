"""One node's part in the table: whom it knows, what it puts there, and that this stays fresh.

What it says is put on the servers nearest to its key whenever it changed and every ten minutes, and on everybody who
gets connected: a network of a few machines has it everywhere, and who comes back has it again at once.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Final

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.dht.addresses import AddressPolicy
from p2pboot.dht.answers import Answerer
from p2pboot.dht.client import DhtClient
from p2pboot.dht.keys import peer_id_bytes
from p2pboot.dht.server import DhtServer
from p2pboot.dht.table import Contact
from p2pboot.transport.interface import Connection, Transport
from p2pboot.wire.kad import KAD_PROTOCOL, Message, MessageType, Record

log = logging.getLogger(__name__)

FRESH_S: Final = 600.0
"""After which all is put again, and those who are near are looked for."""

TTL_S: Final = 3600
"""That a value of ours is good for, where others respect it."""

FIRST_S: Final = 30.0
"""The same after the first time, then after twice as long and so on: a mesh that has just begun changes."""

LOOK_S: Final = 10.0
"""How often it is looked whether this machine's addresses have changed."""

GREETINGS: Final = 8
"""Peers that are greeted at the same time."""

SPREADING: Final = 4
"""Keys under which something is put at the same time."""

MOST: Final = 512
"""Values, and keys under which one is a provider; a node with more says the first."""


@dataclass(frozen=True, slots=True)
class DhtCounts:
    """How a node's part is now, and what was counted since its start.

    Args:
        peers: in the routing table.
        values: of others, that are kept.
        providers: records of others, that are kept.
        requests: answered, by type.
        refused: by reason: no place for a record (`quota`) or for a stream (`streams`), `malformed`, a `guest`.
    """

    peers: int
    values: int = 0
    providers: int = 0
    requests: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Said:
    """What a node puts into the table.

    Args:
        values: by key.
        provided: keys under which it is a provider.
    """

    values: Mapping[bytes, bytes]
    provided: frozenset[bytes]


class DhtMember:
    """A node's part.

    Args:
        transport: the node's network; with `serves` its streams are answered from `run` on.
        policy: which addresses are used.
        serves: whether it is a server, who answers others.
        is_trusted: whether a peer is one whom the operator named, by its id.
        keeps: whether a connection that was made for a lookup is kept.
    """

    def __init__(
        self,
        transport: Transport,
        policy: AddressPolicy,
        *,
        serves: bool,
        is_trusted: Callable[[str], bool] = lambda _peer_id: False,
        keeps: Callable[[], bool] = lambda: True,
    ) -> None:
        self._transport = transport
        self._said = Said({}, frozenset())
        self._spread = Said({}, frozenset())
        self._spread_from: tuple[str, ...] = ()
        self._due = trio.current_time() + FIRST_S
        self._pause_s = FIRST_S
        self._changed = trio.Event()
        self._greeting = trio.CapacityLimiter(GREETINGS)
        self.client = DhtClient(transport, policy, keeps=keeps)
        self.server: DhtServer | None = None
        if serves:
            answerer = Answerer(self, self.client.table, policy, is_trusted)
            self.server = DhtServer(answerer, policy)
            transport.handle(KAD_PROTOCOL, self.server.handle)

    # Its own records, as `answers` asks for them

    @property
    def contact(self) -> Contact:
        """Itself, with the addresses at which it can be dialled now."""
        return Contact(self._transport.peer_id, tuple(self._transport.addresses()))

    def value(self, key: bytes) -> bytes | None:
        """Its value under a key."""
        return self._said.values.get(key)

    def provides(self, key: bytes) -> bool:
        """Whether it is a provider under a key."""
        return key in self._said.provided

    def say(self, values: Mapping[bytes, bytes], provided: Iterable[bytes]) -> None:
        """Replace what it says; what is new is put soon."""
        said = Said(dict(sorted(values.items())[:MOST]), frozenset(sorted(provided)[:MOST]))
        if said != self._said:
            self._said = said
            self._changed.set()

    def counts(self) -> DhtCounts:
        """How it is now."""
        known, server = len(self.client.table), self.server
        if server is None:
            return DhtCounts(known)
        kept = server.answerer
        refused = dict(kept.refused + server.refused)  # `asdict` of a Counter has pairs for keys
        return DhtCounts(known, len(kept.values), len(kept.providers), dict(server.answered), refused)

    # Tasks

    async def run(self) -> None:
        """Take part until cancelled."""
        async with trio.open_nursery() as nursery:
            if self.server is not None:
                nursery.start_soon(self.server.run)
            nursery.start_soon(self._keep_fresh)
            with self._transport.connection_events() as events:
                async for event in events:
                    if event.connected:
                        nursery.start_soon(self._meet, event.connection)

    async def _meet(self, connection: Connection) -> None:
        """Greet whoever got connected, and put on him what this node says, if he is a server."""
        async with self._greeting:
            was_alone = not len(self.client.table)
            if connection in self._transport.connections() and await self.client.greet(connection):
                if was_alone:
                    self._due, self._pause_s = trio.current_time(), FIRST_S
                    self._changed.set()
                await self.client.put(connection, self._records())
                await self.client.provide(connection, sorted(self._said.provided))

    def _records(self) -> list[Record]:
        return [Record(key, value, TTL_S) for key, value in self._said.values.items()]

    async def _keep_fresh(self) -> None:
        while True:
            with trio.move_on_after(LOOK_S):
                await self._changed.wait()
            self._changed = trio.Event()
            now, addresses = trio.current_time(), self._transport.addresses()
            if now >= self._due or addresses != self._spread_from:
                self._due = now + self._pause_s * random.uniform(0.9, 1.1)  # noqa: S311 - spreads work, no secret
                self._pause_s = min(2 * self._pause_s, FRESH_S)
                self._spread = Said({}, frozenset())
                self._spread_from = addresses
                await self._find_neighbours()
                if self.server is not None:
                    self.server.forget_old()
            await self._spread_news()

    async def _find_neighbours(self) -> None:
        own = peer_id_bytes(self._transport.peer_id)
        await self.client.look_up(Message(MessageType.FIND_NODE, own))
        await self.client.let_go()

    async def _spread_news(self) -> None:
        """Put what is said and was not put lately."""
        said, before = self._said, self._spread
        self._spread = said
        news: list[tuple[bytes, Record | None]] = [
            (key, Record(key, value, TTL_S))
            for key, value in said.values.items()
            if before.values.get(key) != value
        ]
        news += [(key, None) for key in sorted(said.provided - before.provided)]
        limiter = trio.CapacityLimiter(SPREADING)

        async def spread(key: bytes, record: Record | None) -> None:
            async with limiter:
                taken = await self.client.spread(key, record)
                log.debug("%d servers of the DHT have taken %r", taken, key)

        async with trio.open_nursery() as nursery:
            for key, record in news:
                nursery.start_soon(spread, key, record)
        await self.client.let_go()
