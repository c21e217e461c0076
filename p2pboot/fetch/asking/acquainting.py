"""Everyone finds everyone: whom connected peers know is asked of each of them, and those are dialled.

It goes on beside a job, and as long as a node runs. What is told is hearsay until the one who was told of answers under
his own key: anybody can invent thousands. So little is dialled at a time, less of what one origin told, nobody twice,
and no address that is more private than the teller's own: who tells from somewhere in the world of a service on this
machine or behind its router shall not have us speak to it.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio
from cachetools import TTLCache

from p2pboot.core.origins import origin_of
from p2pboot.errors import P2PBootError
from p2pboot.fetch.asking.connecting import for_each_connection, reach
from p2pboot.fetch.asking.neighbours import FULL_MESH, Counts, surplus, wants
from p2pboot.fetch.asking.requests import requests_to
from p2pboot.protocol.client import ask_peers
from p2pboot.protocol.messages import MAX_PEERS, SYNC_PROTOCOL, TOLD_S
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import Connection, PeerSource, Transport, connection_with
from p2pboot.transport.nearness import Nearness
from p2pboot.transport.racing import ATTEMPT_S
from p2pboot.transport.scopes import scope_of

log = logging.getLogger(__name__)

FIRST_S: Final = 1.0
"""After the first question, then after four times as long. Of two who come at the same time the second one is told of
the first: asking again is for those whom nobody can dial, and for who was not asked yet."""

LOOK_AROUND_S: Final = 0.3
"""A client whose first peers have what it wants knows so by then, and asks for others who have that."""

SOONEST_S, LATEST_S = 20.0, 30.0
"""Then the pause is between these: one is told of for a minute."""

IN_FRONT: Final = 2
"""Peers that are asked so often. The others, of whom there may be dozens, mostly know the same; they are asked now and
then, and take the place of one that goes, or does not answer."""

AT_ONCE: Final = 4
"""Peers that are asked at the same time while those are looked for."""

SOME: Final = 8
"""Others, in one such pause."""

MORE_S: Final = 0.3
MORE: Final = 4
"""Who tells as many as fit is asked again so soon, as long as that brings news, and so often at most."""

DIALS: Final = 24
DIALS_OF_TELLER: Final = 6
"""Peers that are dialled at the same time: in all, and of what one origin told."""
MEETINGS: Final = 512
MEETINGS_OF_TELLER: Final = 96
"""Peers that are dialled, wait for it, or are watched so that they can be dialled again."""
ADDRESSES: Final = 3
"""Tried of one peer, each a moment after the other."""
FIRST_DIAL_S: Final = 1.5
"""Whoever is invented is mostly said to be where nobody even refuses. So each peer that is told of has a short dial
first, and one of the usual length when all the others had theirs: a few real ones among many are found in seconds."""
STEADY_S: Final = 10.0
"""Whose connection lasted so long is dialled again when it ends."""
_HEARD: Final = 4096
_HEARD_S: Final = 90.0


def _steady_s() -> float:
    return random.uniform(SOONEST_S, LATEST_S)  # noqa: S311 - spreads questions, no secret


async def _pause(changed: trio.Event, seconds: float) -> bool:
    """Wait; no longer when something has changed, and then return True."""
    with trio.move_on_after(seconds) as scope:
        await changed.wait()
    return not scope.cancelled_caught


class Acquainting:
    """Makes one end known to others, and others to it.

    Args:
        transport: whoever is or gets connected is asked.
        nearness: who is near, of whom there are to be most where there are many.
        usable: whether a peer is to be spoken with at all, by its id.
        keeps: whether a peer's connection is never given up for others, by its id.
    """

    def __init__(
        self,
        transport: Transport,
        nearness: Nearness,
        *,
        usable: Callable[[str], bool] = lambda _peer_id: True,
        keeps: Callable[[str], bool] = lambda _peer_id: True,
    ) -> None:
        self._transport = transport
        self._nearness = nearness
        self._usable = usable
        self._keeps = keeps
        self._digest: str | None = None
        self._begun = trio.Event()
        self._changed = trio.Event()
        self._in_front: set[Connection] = set()  # those that are asked often
        self._tried: set[Connection] = set()  # those that are asked for the first time
        self._told: TTLCache[bytes, None] = TTLCache(_HEARD, TOLD_S, trio.current_time)  # digests of records
        self._heard: TTLCache[str, None] = TTLCache(_HEARD, _HEARD_S, trio.current_time)  # peer ids
        self._meeting: dict[str, str] = {}  # the teller's origin by peer id
        self._of_teller: Counter[str] = Counter()
        self._asking = 0  # questions that are under way
        self._fresh: set[str] = set()  # peer ids that were told of, and had no dial yet
        self._dials = trio.CapacityLimiter(DIALS)
        self._dials_of: dict[str, trio.CapacityLimiter] = {}

    def look_for(self, digest: str | None) -> None:
        """Begin to ask, or ask everybody again, for those who are there for a manifest (or for a snapshot's root).

        Args:
            digest: its digest; None: for nodes only.
        """
        if self._begun.is_set() and digest == self._digest:
            return
        self._digest = digest
        self._begun.set()
        self._wake()

    async def look_around(self) -> None:
        """In a moment, look for nodes, unless it is known by then what to look for: somebody may have it."""
        await trio.sleep(LOOK_AROUND_S)
        if not self._begun.is_set():
            self.look_for(None)

    @property
    def is_expecting(self) -> bool:
        """Whether somebody is saying whom he knows, or waits for his first dial."""
        return bool(self._asking or self._fresh)

    @property
    def has_room(self) -> bool:
        """Whether one more peer, of whom nothing is known, is worth a dial."""
        return wants(self._counts(), is_near=True)

    async def run(self) -> None:
        """Ask and dial until cancelled; from the moment that `look_for` is called."""
        async with trio.open_nursery() as self._nursery:
            await for_each_connection(self._transport, self._keep_asking)

    # Asking

    async def _keep_asking(self, connection: Connection) -> None:
        await self._give_way()
        await self._begun.wait()
        pause_s, more, answers = FIRST_S, MORE, True
        try:
            while self._usable(connection.peer_id):
                if not (answers and self._steps_forward(connection)):
                    crowd = max(1.0, len(self._transport.peers()) / SOME)
                    if await _pause(self._changed, _steady_s() * crowd):
                        continue  # there may be a place for it
                digest, changed = self._digest, self._changed
                self._asking += 1
                try:
                    told, news = await self._ask(connection)
                finally:
                    self._asking -= 1
                answers = told is not None
                self._place(connection, answers=answers)
                if told == MAX_PEERS and news and more:
                    more -= 1
                    await _pause(changed, MORE_S)
                elif connection in self._in_front:
                    await _pause(changed, min(pause_s, _steady_s()))
                    pause_s *= 4
                if self._digest != digest:
                    pause_s, more = FIRST_S, MORE
        finally:
            self._place(connection, answers=False)

    def _steps_forward(self, connection: Connection) -> bool:
        """Whether this peer is one of those that are asked often, or is now tried as one."""
        if connection in self._in_front:
            return True
        if len(self._in_front) < IN_FRONT and len(self._tried) < AT_ONCE:
            self._tried.add(connection)
        return connection in self._tried

    def _place(self, connection: Connection, *, answers: bool) -> None:
        """Put a peer in its place when it was asked."""
        before = connection in self._in_front or connection in self._tried
        self._tried.discard(connection)
        if answers and len(self._in_front) < IN_FRONT:
            self._in_front.add(connection)
        elif not answers:
            self._in_front.discard(connection)
        if before and connection not in self._in_front and len(self._in_front) < IN_FRONT:
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _ask(self, connection: Connection) -> tuple[int | None, int]:
        """Ask once; returns how many were told of, None without an answer, and how many of these are news."""
        query = ask_peers(
            digest=self._digest,
            record=b"" if self._digest is None else self._transport.own_record(),
            site=self._nearness.site,
        )
        try:
            async with requests_to(self._transport, connection, SYNC_PROTOCOL) as requests:
                records = await requests.ask(query)
        except P2PBootError as error:
            log.debug("peers of %s: %s", connection.peer_id, error)
            return None, 0
        return len(records), sum([self._hear(connection, record) for record in records])

    # Those who are told of

    def _hear(self, teller: Connection, record: bytes) -> bool:
        """Take a record; whether it is of somebody who is going to be dialled."""
        digest, origin = hashlib.sha256(record).digest(), origin_of(teller.address)
        full = len(self._meeting) >= MEETINGS or self._of_teller[origin] >= MEETINGS_OF_TELLER
        if digest in self._told or full:
            return False
        self._told[digest] = None
        said = self._transport.read_peer_record(record)
        if said is None or said.peer_id == self._transport.peer_id or not self._usable(said.peer_id):
            return False
        addresses = self._worth_dialling(said.addresses, teller)
        if not addresses:
            return False
        self._heard[said.peer_id] = None
        self._transport.note_source(said.peer_id, PeerSource.PEERS)
        if said.peer_id in self._meeting or said.peer_id in self._transport.peers():
            return False
        self._meeting[said.peer_id] = origin
        self._of_teller[origin] += 1
        self._fresh.add(said.peer_id)
        self._nursery.start_soon(self._meet, said.peer_id, addresses, origin)
        return True

    def _worth_dialling(self, addresses: tuple[str, ...], teller: Connection) -> list[str]:
        """Of what somebody tells the addresses that may be dialled on his word; those in our own subnets first."""
        scope = scope_of(teller.address)
        fit = [
            parsed
            for address in addresses
            if (parsed := parse_address(address)).is_ip
            and scope_of(parsed.host) >= scope
            and not self._transport.leads_here(address)
        ]
        fit.sort(key=lambda address: not self._nearness.near_address(address.host))
        return [str(address) for address in fit[:ADDRESSES]]

    async def _meet(self, peer_id: str, addresses: list[str], origin: str) -> None:
        """Be connected with a peer, and again when a connection that was of use has ended."""
        try:
            while (connection := await self._connect(peer_id, addresses, origin)) is not None:
                since = trio.current_time()
                await self._transport.wait_ended(connection)
                if trio.current_time() - since < STEADY_S:
                    return
                await trio.sleep(random.uniform(1.0, 2.0))  # noqa: S311 - spreads dials, no secret
        finally:
            del self._meeting[peer_id]
            self._of_teller[origin] -= 1

    async def _connect(self, peer_id: str, addresses: list[str], origin: str) -> Connection | None:
        for patience_s in (FIRST_DIAL_S, ATTEMPT_S):
            try:
                async with self._turn(origin):
                    known = connection_with(self._transport, peer_id)
                    if known is not None or not self._usable(peer_id):
                        return known
                    is_near = any(map(self._nearness.near_address, addresses))
                    if not wants(self._counts(), is_near=is_near):
                        return None
                    with trio.move_on_after(patience_s):
                        return await reach(self._transport, addresses, PeerSource.PEERS)
            except P2PBootError as error:
                log.debug("told of %s: %s", peer_id, error)
                break
            finally:
                self._fresh.discard(peer_id)
        self._heard.pop(peer_id, None)  # whoever invents peers is not to make this look like a crowd
        return None

    @asynccontextmanager
    async def _turn(self, origin: str) -> AsyncIterator[None]:
        """Wait until one more of those may be dialled whom somebody at this address told of."""
        limiter = self._dials_of.setdefault(origin, trio.CapacityLimiter(DIALS_OF_TELLER))
        try:
            async with limiter, self._dials:
                yield
        finally:
            if not limiter.borrowed_tokens and not limiter.statistics().tasks_waiting:
                self._dials_of.pop(origin, None)

    # How many

    def _counts(self) -> Counts:
        connected = {connection.peer_id: connection for connection in self._transport.connections()}
        self._heard.expire()
        known = max(len(connected), len(self._heard))
        if known <= FULL_MESH:  # else there are thousands, and how many makes no difference
            known = len(connected.keys() | self._heard.keys())
        if known <= FULL_MESH:  # then it does not matter who is near
            return Counts(known, len(connected), 0)
        near = sum(map(self._nearness.near, connected.values()))
        return Counts(known, near, len(connected) - near)

    async def _give_way(self) -> None:
        """End a connection where there are too many."""
        is_near = surplus(self._counts())
        if is_near is None:
            return
        others = [
            one
            for one in sorted(self._transport.connections(), key=lambda one: one.number)
            if not self._keeps(one.peer_id) and self._nearness.near(one) is is_near
        ]
        if others:
            await self._transport.hang_up(random.choice(others))  # noqa: S311 - no secret
