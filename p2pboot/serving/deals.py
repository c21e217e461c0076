"""Who is dealt what, of every table that somebody asks a deal of: the shell around `serving.dealing`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Final

import trio
from cachetools import TTLCache

from p2pboot.core.changes import Form
from p2pboot.core.origins import Party, party_of
from p2pboot.core.pieces import PieceSet, PieceTable
from p2pboot.core.shares import Shares
from p2pboot.protocol.swarm import DealRequest, Runs
from p2pboot.protocol.swarm_client import Changes
from p2pboot.serving.dealing import Deal, Dealing, Wait
from p2pboot.transport.interface import Connection, Transport

TABLES: Final = 64
"""Of which deals are asked at the same time."""

CLIENTS: Final = 512
"""Of all tables together, shared by address; who is not among them asks for particular pieces after a while."""

AGAIN_S: Final = 5.0
"""So long a client is left alone that did not say what it has."""

IDLE_S: Final = 60.0
"""A table of which no deal was asked for so long is forgotten when no client is there any more, or another one needs
the room: who has everything by then, and stays, still has it."""

_FULL: Final = Wait(5.0, ())
"""For who has no place."""


class Deals:
    """What is dealt.

    Args:
        transport: tells who is connected: what was dealt to somebody who is not never happened.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._tables: dict[str, TableDeals] = {}  # last used last
        self._places = Shares(CLIENTS, CLIENTS // 8)

    def of(self, table_digest: str, table: PieceTable) -> TableDeals | None:
        """The deals of one table; None where there are too many tables.

        Args:
            table_digest: its BLAKE3.
            table: as the artifact is cut.
        """
        now = trio.current_time()
        deals = self._tables.pop(table_digest, None)
        if deals is None:
            self._forget_idle(now)
            if len(self._tables) >= TABLES:
                return None
            deals = TableDeals(table, self._transport, self._places, self._has_room)
        self._tables[table_digest] = deals
        deals.asked_at = now
        return deals

    def known(self, table_digest: str) -> TableDeals | None:
        """The deals of a table of which any were asked for."""
        return self._tables.get(table_digest)

    def _has_room(self, party: Party) -> bool:
        """Whether there is a place for one client more: if not, the address gives way that has most."""
        if self._places.fits(party):
            return True
        origin = self._places.gives_way(party)
        if origin != party.origin:
            any(deals.give_up_one(origin) for deals in self._tables.values())
        return self._places.fits(party)

    def _forget_idle(self, now: float) -> None:
        present = self._transport.peers()
        for digest, deals in tuple(self._tables.items()):
            is_needed = deals.has_clients(present) and len(self._tables) < TABLES
            if now - deals.asked_at > IDLE_S and not is_needed:
                del self._tables[digest]
                deals.close()


class TableDeals:
    """Deals of one table; see `Deals`."""

    def __init__(
        self,
        table: PieceTable,
        transport: Transport,
        places: Shares,
        has_room: Callable[[Party], bool],
    ) -> None:
        self._dealing = Dealing(table.count, table.piece_length, Random())  # noqa: S311 - no secret
        self._count = table.count
        self._transport = transport
        self._places = places
        self._has_room = has_room
        self._clients: dict[str, Party] = {}
        self._hearing: dict[str, trio.CancelScope] = {}  # of these, those who are asked what they have
        self._mute: TTLCache[str, None] = TTLCache(CLIENTS, AGAIN_S, trio.current_time)
        self.asked_at = 0.0

    def choose(self, connection: Connection, request: DealRequest, most: int) -> Deal | Wait:
        """What to send now to who asks; followed by `sent` or `failed`.

        Args:
            connection: with the asker.
            request: what it asks.
            most: pieces at once.
        """
        self._let_go(self._transport.peers())
        client = connection.peer_id
        if client not in self._clients and not self._join(connection):
            return _FULL
        want = self._pieces_of(request.want)
        return self._dealing.choose(client, want, min(request.max, most), trio.current_time())

    def ask(self, client: str, want: Runs) -> Iterator[str]:
        """Other clients that say that they have something of what one wants; the first few."""
        return map(str, self._dealing.holders_of(self._pieces_of(want), client))

    def sent(self, client: str, deal: Deal) -> None:
        """A deal was handed over whole."""
        if client in self._clients:
            self._dealing.sent(client, deal.first, deal.count, trio.current_time())

    def failed(self, client: str, deal: Deal) -> None:
        """A deal was not."""
        if client in self._clients:
            self._dealing.failed(client, deal.first, deal.count, trio.current_time())

    def begin_hearing(self, client: str) -> trio.CancelScope | None:
        """Have a client asked what it has, within a scope that ends when it is gone; None: not now."""
        if client not in self._clients or client in self._hearing or client in self._mute:
            return None
        scope = self._hearing[client] = trio.CancelScope()
        return scope

    def end_hearing(self, client: str, scope: trio.CancelScope) -> None:
        """It is not asked any more."""
        if self._hearing.get(client) is scope:
            del self._hearing[client]
            self._mute[client] = None

    def hear(self, client: str, changes: Changes) -> bool:
        """A client says what it has; returns whether that is everything."""
        if client not in self._clients:
            return False
        now = trio.current_time()
        if changes.held is not None:
            self._dealing.hear_bitmap(client, changes.held, now)
            return self._dealing.has_all(client)
        by_form: dict[Form, list[range]] = {form: [] for form in Form}
        for form, pieces in changes.changes:
            by_form[form].append(pieces)
        self._dealing.hear(client, by_form[Form.HELD], by_form[Form.COMING], now)
        return self._dealing.has_all(client)

    def _pieces_of(self, runs: Runs) -> PieceSet:
        pieces = PieceSet(self._count)
        for first, count in runs:
            pieces |= PieceSet.of(
                self._count, range(min(first, self._count), min(first + count, self._count))
            )
        return pieces

    def has_clients(self, present: frozenset[str]) -> bool:
        """Whether any of its clients is among these peers; forgets the others."""
        self._let_go(present)
        return bool(self._clients)

    def close(self) -> None:
        """Nobody is dealt anything any more."""
        self._let_go(frozenset())

    def _join(self, connection: Connection) -> bool:
        party = party_of(connection.address, connection.peer_id)
        if not self._has_room(party):
            return False
        self._places.take(party)
        self._clients[connection.peer_id] = party
        self._dealing.join(connection.peer_id, party.origin, trio.current_time())
        return True

    def _let_go(self, present: frozenset[str]) -> None:
        for client in self._clients.keys() - present:
            self._forget(client)

    def give_up_one(self, origin: str) -> bool:
        """Forget the client of an address that came first; whether there was one."""
        client = next((client for client, party in self._clients.items() if party.origin == origin), None)
        if client is not None:
            self._forget(client)
        return client is not None

    def _forget(self, client: str) -> None:
        self._places.give_back(self._clients.pop(client))
        self._dealing.leave(client)
        if client in self._hearing:
            self._hearing.pop(client).cancel()
