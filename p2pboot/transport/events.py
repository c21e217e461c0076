"""Which connections are up, and how their peers were found: a register that many can follow, each at its own speed.

A follower that is slow never makes the network wait and never misses a final state: a connection that came and went
before it was told of is not told of at all, so what waits for it is bounded by the connections that are up plus those
it was told of.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

import trio

from p2pboot.transport.addresses import Address
from p2pboot.transport.interface import Connection, ConnectionEvent, PeerSource

log = logging.getLogger(__name__)

_CHANNEL_SIZE: Final = 64  # events handed over ahead; what does not fit waits in `_Follower._pending`


class _Follower:
    """One reader: what it was told, first of those that are up, and what it is still to be told, in order of time."""

    def __init__(self, present: Collection[Connection]) -> None:
        self.send, self.receive = trio.open_memory_channel[ConnectionEvent](len(present) + _CHANNEL_SIZE)
        self._told = set(present)  # at once: whoever waits for the end of one of them learns of it for sure
        for connection in present:
            self.send.send_nowait(ConnectionEvent(connection, True))
        self._pending: dict[Connection, bool] = {}
        self._news = trio.Event()

    def note(self, connection: Connection, connected: bool) -> None:
        if self._pending.pop(connection, None) is None and connected is (connection not in self._told):
            self._pending[connection] = connected
            self._news.set()

    async def run(self) -> None:
        with self.send:
            while True:
                await self._news.wait()
                self._news = trio.Event()
                while self._pending:
                    event = self._take()
                    try:
                        await self.send.send(event)
                    except trio.BrokenResourceError:
                        return  # the reader closed its end

    def _take(self) -> ConnectionEvent:
        connection, connected = next(iter(self._pending.items()))
        del self._pending[connection]
        # Noted before it is sent: what happens during the wait is compared with this.
        (self._told.add if connected else self._told.discard)(connection)
        return ConnectionEvent(connection, connected)


class ConnectionRegister:
    """The connections that are up now, and the followers of changes.

    Args:
        nursery: owns one task per follower; they end with it.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._present: dict[Connection, set[Address]] = {}  # with the endpoints at which it was dialled
        self._of_peers: dict[str, set[Connection]] = {}
        self._sources: dict[str, dict[PeerSource, None]] = {}  # that were noted, of peers that are connected
        self._followers: list[_Follower] = []
        self._ends: dict[Connection, trio.Event] = {}  # of those for whose end somebody waits

    @property
    def present(self) -> frozenset[Connection]:
        """Connections that are up now."""
        return frozenset(self._present)

    @property
    def peers(self) -> frozenset[str]:
        """The peer ids of those."""
        return frozenset(self._of_peers)

    def came(self, connection: Connection) -> None:
        """Note a connection that is up; nothing happens when it is known."""
        if connection not in self._present:
            self._present[connection] = set()
            self._of_peers.setdefault(connection.peer_id, set()).add(connection)
            self._tell(connection, True)

    def went(self, connection: Connection, heir: Connection | None = None) -> None:
        """Note that a connection ended; nothing happens when it is not known.

        Args:
            connection: which.
            heir: one that leads to the same process of the peer, if there is one: so it is what was dialled as well.
        """
        dialled = self._present.pop(connection, None)
        if dialled is not None:
            if heir in self._present:
                self._present[heir] |= dialled
            of_peer = self._of_peers[connection.peer_id]
            of_peer.discard(connection)
            if not of_peer:
                del self._of_peers[connection.peer_id]
                self._sources.pop(connection.peer_id, None)
            ended = self._ends.pop(connection, None)
            if ended is not None:
                ended.set()
            self._tell(connection, False)

    def note_dialled(
        self, address: Address, connection: Connection, source: PeerSource | None = None
    ) -> None:
        """Note at which address a connection was dialled; nothing happens when it has ended.

        Args:
            address: the peer's.
            connection: what the dial came to.
            source: whence the address was known; None: nobody said.
        """
        if connection in self._present:
            if not self._present[
                connection
            ]:  # what was said of it meanwhile, took it for one that came by itself
                self._sources.get(connection.peer_id, {}).pop(PeerSource.INCOMING, None)
            self._present[connection].add(address.with_peer(None))
            if source is not None:
                self.note_source(connection.peer_id, source)

    def note_source(self, peer_id: str, source: PeerSource) -> None:
        """Note how a peer was found, or would have been; nothing happens when it is not connected."""
        if peer_id not in self._of_peers:
            return
        if peer_id not in self._sources:
            self._sources[peer_id] = dict.fromkeys(self.sources(peer_id))
            log.debug("found %s by %s", peer_id, source.label)
        self._sources[peer_id][source] = None

    def sources(self, peer_id: str) -> tuple[PeerSource, ...]:
        """How a peer that is connected was found, the first way first; whom nobody dialled has come by itself."""
        noted = self._sources.get(peer_id)
        if noted is not None:
            return tuple(noted)
        there = self._of_peers.get(peer_id, ())
        return (PeerSource.INCOMING,) if there and not any(map(self.was_dialled, there)) else ()

    def was_dialled(self, connection: Connection) -> bool:
        """Whether a connection that is up was dialled by this end."""
        return bool(self._present.get(connection))

    def dialled_at(self, address: Address) -> Connection | None:
        """The connection that is up and was dialled to this very host and port, with the peer that is named there."""
        endpoint = address.with_peer(None)
        for connection, dialled in self._present.items():
            if endpoint in dialled and address.peer_id in {None, connection.peer_id}:
                return connection
        return None

    async def wait_ended(self, connection: Connection) -> None:
        """Wait until a connection has ended; whatever else happens wakes nobody who waits here."""
        if connection in self._present:
            await self._ends.setdefault(connection, trio.Event()).wait()
        else:
            await trio.lowlevel.checkpoint()

    def follow(self) -> trio.MemoryReceiveChannel[ConnectionEvent]:
        """Return a channel of its own for the caller; it starts with the connections that are up already."""
        follower = _Follower(self._present.keys())
        self._followers.append(follower)
        self._nursery.start_soon(self._run, follower)
        return follower.receive

    def _tell(self, connection: Connection, connected: bool) -> None:
        for follower in self._followers:
            follower.note(connection, connected)

    async def _run(self, follower: _Follower) -> None:
        try:
            await follower.run()
        finally:
            self._followers.remove(follower)
