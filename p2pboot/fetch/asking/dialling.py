"""Whom a job can ask: dials addresses until the job ends, those of its user and what discovery finds."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterable, Callable, Sequence

import trio

from p2pboot.errors import NotFoundError, ProtocolError
from p2pboot.fetch.asking.bootstrap import OF_A_CLIENT, Bootstrap
from p2pboot.fetch.asking.connecting import dial
from p2pboot.fetch.asking.wider import WiderSearch
from p2pboot.fetch.ledger import Ledger
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import Connection, PeerSource, Transport, connection_with

log = logging.getLogger(__name__)

LISTEN_S = 3.0
"""Neighbours are heard of through discovery within two seconds; later ones are used, but not waited for."""

MAX_HINTS = 96
"""Peers taken from discovery: all of a rack, and as many again that went; anybody can announce any number of them."""

ADDRESSES_PER_HINT = 8
"""Of one peer; a server has many, and one will do."""

HINT_TRIES = 3

HINT_AGAIN_S = 60.0
"""After so many failures: where the same is told again then, it is tried again, for a job may last for days."""


class Dialler:
    """Keeps trying to be connected to the peers at some addresses.

    Args:
        transport: the network to dial on.
        addresses: multiaddrs that the user gave, each dialled for as long as the job runs: where several lead to one
            peer id, there may be a server with that key behind each.
        ledger: who was dropped is not dialled again.
        hints: further multiaddrs as discovery finds them, or None without discovery; each is tried a few
            times, and only while its peer is not connected: a server has many addresses, and one will do.
        has_room: whether one more peer is worth a dial; only those that the user named are dialled regardless.
        wider: looks further where nothing is found otherwise; None: nobody does.
    """

    def __init__(
        self,
        transport: Transport,
        addresses: Sequence[str],
        ledger: Ledger,
        hints: AsyncIterable[str] | None = None,
        *,
        has_room: Callable[[], bool] = lambda: True,
        wider: WiderSearch | None = None,
    ) -> None:
        self._has_room = has_room
        self._wider = wider
        self._transport = transport
        self._bootstrap = Bootstrap(transport, addresses, OF_A_CLIENT, usable=ledger.usable, strict=True)
        self._ledger = ledger
        self._hints = hints
        self._on_hints: dict[str, set[trio.CancelScope]] = {}  # dials that are under way, by peer id
        self._listen_until = trio.current_time() + (0.0 if hints is None else LISTEN_S)
        self._hint_failures: dict[str, str] = {}

    @property
    def failures(self) -> dict[str, str]:
        """Why the last dial failed, by address; those of the user first."""
        return self._bootstrap.failures | self._hint_failures

    @property
    def settled(self) -> bool:
        """Every address was tried once, and discovery had its time: who may come now is not waited for."""
        looked = self._wider is None or self._wider.over.is_set()
        return looked and self._bootstrap.tried.is_set() and trio.current_time() >= self._listen_until

    async def settle(self) -> None:
        """Wait until it is settled."""
        await self._bootstrap.tried.wait()
        await trio.sleep_until(self._listen_until)
        if self._wider is not None:
            await self._wider.over.wait()

    @property
    def hopeless(self) -> bool:
        """Whoever was reached at any address was dropped, and so are all who are connected."""
        bootstrap = self._bootstrap
        reached = self._transport.peers().union(*bootstrap.peers_at.values())
        return (
            self.settled
            and bool(reached)
            and all(address in bootstrap.peers_at for address in bootstrap.addresses)
            and not any(self._ledger.usable(peer_id) for peer_id in reached)
        )

    async def run(self) -> None:
        """Dial until cancelled.

        Raises:
            UsageError: an address is not one.
        """
        async with trio.open_nursery() as nursery:
            self._bootstrap.begin(nursery)
            if self._wider is not None:
                nursery.start_soon(self._wider.run)
                nursery.start_soon(self._follow_hints, self._wider.hints, PeerSource.DHT, nursery)
            if self._hints is not None:
                await self._follow_hints(self._hints, PeerSource.LAN, nursery)

    def names(self, peer_id: str) -> bool:
        """Whether a peer was reached at an address that the user gave."""
        return any(peer_id in peers for peers in self._bootstrap.peers_at.values())

    async def _follow_hints(
        self, hints: AsyncIterable[str], source: PeerSource, nursery: trio.Nursery
    ) -> None:
        seen: dict[str, set[str]] = {}  # by the peer that they name, or else by themselves
        async for address in hints:
            parsed = parse_address(address)
            if not parsed.is_ip:
                continue  # names are looked up on the user's word only
            peer = parsed.peer_id or address
            if address in self._bootstrap.addresses or (peer not in seen and len(seen) >= MAX_HINTS):
                continue
            if parsed.peer_id is not None and not self._ledger.usable(parsed.peer_id):
                continue
            known = seen.setdefault(peer, set())
            if address not in known and len(known) < ADDRESSES_PER_HINT:
                known.add(address)
                nursery.start_soon(self._follow_until_given_up, address, source, peer, seen)

    async def _follow_until_given_up(
        self, address: str, source: PeerSource, peer: str, seen: dict[str, set[str]]
    ) -> None:
        await self._follow(address, source)
        await trio.sleep(HINT_AGAIN_S)
        self._hint_failures.pop(address, None)
        seen[peer].discard(address)
        if not seen[peer]:
            del seen[peer]

    async def _follow(self, address: str, source: PeerSource) -> None:
        """Be connected to an address that is a hint; given up after so many failures in a row."""
        pace = OF_A_CLIENT
        delay_s = pace.first_s
        failed = 0
        while failed < HINT_TRIES:
            if not self._has_room():
                await trio.sleep(pace.longest_s)
                continue
            connection = await self._dial_hint(address, source)
            if connection is None:
                failed += 1
                await trio.sleep(delay_s * random.uniform(0.8, 1.2))  # noqa: S311 - spreads retries, no secret
                delay_s = min(delay_s * 2, pace.longest_s)
                continue
            failed, delay_s = 0, pace.first_s
            await self._transport.wait_ended(connection)
            if not self._ledger.usable(connection.peer_id):
                return
            await trio.sleep(delay_s)  # a peer that hangs up at once is not dialled in a busy loop

    async def _dial(self, address: str, source: PeerSource) -> Connection | None:
        try:
            connection = await dial(self._transport, address, source)
        except (NotFoundError, ProtocolError) as error:
            self._hint_failures[address] = error.message
            log.debug("dial: %s", error.message)
            return None
        self._hint_failures.pop(address, None)
        return connection

    async def _dial_hint(self, address: str, source: PeerSource) -> Connection | None:
        """Dial, unless the peer is connected; of hints at one peer that are dialled together the first one counts."""
        peer_id = parse_address(address).peer_id
        if peer_id is None:
            return await self._dial(address, source)
        if (known := connection_with(self._transport, peer_id)) is not None:
            self._hint_failures.pop(address, None)  # nobody misses it
            self._transport.note_source(peer_id, source)
            return known
        rivals = self._on_hints.setdefault(peer_id, set())
        rivals.add(scope := trio.CancelScope())
        try:
            with scope:
                await self._dial(address, source)
        finally:
            rivals.discard(scope)
            if not rivals:
                self._on_hints.pop(peer_id, None)
        connection = connection_with(self._transport, peer_id)
        if connection is not None:
            for rival in rivals:
                rival.cancel()
        return connection
