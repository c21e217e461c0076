"""The address book of one end: filled with the nodes that it is connected with, kept in the store, and followed.

Who is started again finds his mesh by this, also where no bootstrap peer is left. What goes in is proved
(`core.addressbook`): an address at which this end reached the peer. Whoever dialled us has proved nothing but the host
that he comes from, so of what he says only addresses at that host count: a stranger can have us dial himself later, and
nobody else. And only nodes go in, which stay; clients pass by.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable
from typing import Final

import trio
from cachetools import LRUCache

from p2pboot.core.addressbook import KEPT, OUTDATED, AddressBook, Entry
from p2pboot.core.events import Event
from p2pboot.core.origins import origin_of
from p2pboot.errors import P2PBootError
from p2pboot.fetch.asking.connecting import reach
from p2pboot.store.peers import Peers
from p2pboot.transport.addresses import of_peer, parse_address
from p2pboot.transport.interface import Connection, PeerRecord, PeerSource, Transport, connection_with

log = logging.getLogger(__name__)

ENOUGH: Final = 8
"""With so many connections a node's book is not followed: whoever is connected tells of others."""

ALONE_FIRST_S: Final = 0.5
ALONE_LONGEST_S: Final = 8.0
"""Between two rounds through the book while nobody is connected."""

FEW_S: Final = 30.0
"""The same while some are, but not enough."""

PER_ROUND: Final = 32
PARALLEL: Final = 4
ADDRESSES: Final = 6
"""Peers that are dialled in one round, and at the same time, and addresses of one that are tried."""

SETTLED_S: Final = 1.0
"""After a connection came up it is looked at who is there; by then most have said who they are."""

_WRITE_S: Final = 10.0  # from one write to the next while there is always something new
_LISTEN_S: Final = 30.0  # from one look at what peers say of themselves to the next
_READ: Final = 1024  # records, of which each is checked once


class Remembering:
    """Keeps the book of one end, and dials by it.

    Args:
        transport: its network.
        peers: what is kept on the disk.
        wall: the machine's clock, unix seconds.
        usable: whether a peer is to be spoken with at all, by its id.
        begin_s: after so many seconds the book is followed: who is in a hurry has others to ask first.
        enough: it is followed while there are fewer connections; 1: only while nobody is reached otherwise.
        level: at which it is logged, once, that the book can not be kept.
    """

    def __init__(
        self,
        transport: Transport,
        peers: Peers,
        wall: Callable[[], float],
        *,
        usable: Callable[[str], bool] = lambda _peer_id: True,
        begin_s: float = 0.0,
        enough: int = ENOUGH,
        level: int = logging.WARNING,
    ) -> None:
        self._transport = transport
        self._peers = peers
        self._wall = wall
        self._usable = usable
        self._begin_s = begin_s
        self._enough = enough
        self._level = level
        self.book = AddressBook(KEPT)
        self.followed = trio.Event()
        """Whom it names was dialled once, where that was wanted: who may come now is not waited for."""
        self._changed = trio.Event()
        self._read: LRUCache[bytes, PeerRecord | None] = LRUCache(_READ)  # by digest
        self._noted: set[Connection] = set()
        self._look_is_due = False
        self._tried: dict[str, float] = {}  # when the book was followed to a peer the last time
        self._can_write = True
        self._lonely = trio.Event()  # set, and replaced, when the last connection ends

    async def run(self) -> None:
        """Read what is kept, and keep what comes, until cancelled; what changed last is written then."""
        await self._load()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow_connections)
                nursery.start_soon(self._listen)
                nursery.start_soon(self._rejoin)
                await self._write_changes()
        finally:
            self._look()
            self._save(*self.book.take_changes())  # some milliseconds, and the last thing that the node does

    # Keeping

    async def _load(self) -> None:
        try:
            entries = await trio.to_thread.run_sync(self._peers.load)
        except P2PBootError as error:
            log.log(
                self._level,
                "the address book can not be read: %s",
                error,
                extra=Event.NOT_KEPT(what="the address book"),
            )
            return
        self.book = AddressBook(KEPT, filter(None, map(_clean, entries)))

    async def _write_changes(self) -> None:
        pause_s = SETTLED_S
        while True:
            quiet_since = trio.current_time()
            await self._changed.wait()
            if trio.current_time() - quiet_since >= _WRITE_S:
                pause_s = SETTLED_S
            await trio.sleep(pause_s)  # several come together
            pause_s = min(2 * pause_s, _WRITE_S)
            self._changed = trio.Event()
            changed, gone = self.book.take_changes()
            if not await trio.to_thread.run_sync(self._save, changed, gone):
                self.book.give_back([*(entry.peer_id for entry in changed), *gone])

    def _save(self, changed: list[Entry], gone: list[str]) -> bool:
        """Whether the disk has taken it; where it does not, the operator is told once. Blocking."""
        if not changed and not gone:
            return True
        try:
            self._peers.save(changed, gone)
        except P2PBootError as error:
            level = self._level if self._can_write else logging.DEBUG
            log.log(
                level,
                "the address book can not be written, and is kept in memory: %s",
                error,
                extra=Event.NOT_KEPT(what="the address book"),
            )
            self._can_write = False
        else:
            self._can_write = True
        return self._can_write

    # Filling

    async def _follow_connections(self) -> None:
        with self._transport.connection_events() as events:
            async with trio.open_nursery() as nursery:
                async for event in events:
                    if event.connected:
                        if not self._look_is_due:
                            self._look_is_due = True
                            nursery.start_soon(self._look_soon)
                    elif not self._transport.peers():
                        self._lonely.set()
                        self._lonely = trio.Event()

    async def _look_soon(self) -> None:
        await trio.sleep(SETTLED_S)  # several come together
        self._look_is_due = False
        self._look()

    async def _listen(self) -> None:
        """Look at those who took their time to say who they are."""
        while True:
            await trio.sleep(_LISTEN_S)
            self._look()

    def _look(self) -> None:
        """Take down where connected nodes were reached or say that they are; once for each connection."""
        connections = self._transport.connections()
        self._noted &= connections
        new = connections - self._noted
        said = {
            record.peer_id: record for record in map(self._said, self._transport.peer_records()) if record
        }
        for connection in new:
            record = said.get(connection.peer_id)
            if record is None:
                continue
            self._noted.add(connection)
            if self._transport.was_dialled(connection):
                self.book.reached(connection.peer_id, connection.address, int(self._wall()))
                continue
            origin = origin_of(connection.address)
            here = [address for address in record.addresses if origin_of(address) == origin]
            if here:
                self.book.said(connection.peer_id, here, origin)
        if self.book.has_changes:
            self._changed.set()

    def _said(self, record: bytes) -> PeerRecord | None:
        digest = hashlib.sha256(record).digest()
        if digest not in self._read:
            self._read[digest] = self._transport.read_peer_record(record)
        return self._read[digest]

    # Following

    async def _rejoin(self) -> None:
        """Dial by the book while there are few connections: ever later while there is none, and for ever."""
        await trio.sleep(self._begin_s)
        pause_s = ALONE_FIRST_S
        while True:
            if len(self._transport.peers()) < self._enough:
                await self._round()
            self.followed.set()
            lonely = self._lonely
            if self._transport.peers():
                wait_s, pause_s = FEW_S, ALONE_FIRST_S
            else:
                wait_s, pause_s = pause_s, min(pause_s * 2, ALONE_LONGEST_S)
            share = random.uniform(0.75, 1.0)  # noqa: S311 - spreads dials, no secret
            with trio.move_on_after(wait_s * share):
                await lonely.wait()

    async def _round(self) -> None:
        connected = self._transport.peers()
        left = [
            entry
            for entry in self.book.entries()
            # Somebody else may live where one was long ago: only who is alone asks there on and on.
            if entry.peer_id not in connected and (entry.failures < OUTDATED or not connected)
        ]
        # Those that were not tried for longest come first, else a round would only ever see the same.
        self._tried = {one.peer_id: self._tried[one.peer_id] for one in left if one.peer_id in self._tried}
        left.sort(key=lambda entry: self._tried.get(entry.peer_id, float("-inf")))
        limiter = trio.CapacityLimiter(PARALLEL)
        async with trio.open_nursery() as nursery:
            for entry in left[:PER_ROUND]:
                nursery.start_soon(self._try, entry, limiter)

    async def _try(self, entry: Entry, limiter: trio.CapacityLimiter) -> None:
        async with limiter:
            known = connection_with(self._transport, entry.peer_id)
            enough = len(self._transport.peers()) >= self._enough
            if known is not None or enough or not self._usable(entry.peer_id):
                return
            self._tried[entry.peer_id] = trio.current_time()
            addresses = [
                one.address for one in entry.addresses if not self._transport.leads_here(one.address)
            ]
            try:
                await reach(self._transport, addresses[:ADDRESSES], PeerSource.ADDRESS_BOOK)
            except P2PBootError as error:
                log.debug("by the address book: %s", error)
                if self._transport.peers():  # nobody is to blame while this machine's own link is down
                    self.book.failed(entry.peer_id)
                    self._changed.set()


def _clean(entry: Entry) -> Entry | None:
    """What may be believed of an entry: somebody may have written to the file."""
    named = set(of_peer((one.address for one in entry.addresses), entry.peer_id))
    kept = tuple(one for one in entry.addresses if one.address in named and _can_be_dialled(one.address))
    return Entry(entry.peer_id, kept, entry.failures) if kept else None


def _can_be_dialled(address: str) -> bool:
    """Of what was reached also a link-local one, whose interface it names."""
    parsed = parse_address(address)
    return parsed.is_ip and (parsed.is_dialable or parsed.is_dialable_here)
