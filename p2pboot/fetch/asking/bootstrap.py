"""Keeps one end connected with whoever is at the addresses that its operator named, for as long as it runs.

Each address has a task of its own, which waits while its peer is connected and dials when it is not, ever later up to a
few seconds and for ever: whoever comes back is found again, whatever else happened. Where several addresses name one
peer id, there may be a server with that key behind each, and each is dialled. A `dnsaddr` stands for several peers, who
may be others the next time: it is looked up again and again, and a connection is kept with all of them, up to a number.

Used by nodes (`node.peering`) and by clients (`fetch.asking.dialling`), which are in more of a hurry.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import NotFoundError, P2PBootError, UsageError
from p2pboot.fetch.asking.connecting import dial, reach, until_one_ended
from p2pboot.transport.addresses import DNSADDR, Address, parse_address
from p2pboot.transport.interface import Connection, PeerSource, Transport, connection_with

log = logging.getLogger(__name__)

PEERS_OF_A_NAME: Final = 8
"""That one `dnsaddr` leads to; whoever answers knows the others."""

ADDRESSES_OF_A_PEER: Final = 8
"""Of those that a `dnsaddr` names."""

PEERS_AT: Final = 64
"""Peer ids that are remembered of one address: those of servers that share it, not of one that has ever new ones."""

LATE_S: Final = 1.0
"""When one of a name's peers was reached so long ago, the name has been tried; who is dead there is not waited for."""

LOOK_AGAIN_S: Final = 60.0
"""What a `dnsaddr` stands for may change, also while somebody of it is connected."""

Resolve = Callable[[Address], Awaitable[Sequence[Address]]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How often an address is dialled that does not answer.

    Args:
        first_s: from the beginning of the first dial to that of the second; then twice as long each time.
        longest_s: at most, whatever happens.
        steady_s: whoever hangs up sooner is dialled ever less often, like one that does not answer.
    """

    first_s: float
    longest_s: float
    steady_s: float


OF_A_NODE: Final = Pace(0.5, 8.0, 10.0)
"""Bootstrap that was down for a night is found again within ten seconds of its return."""

OF_A_CLIENT: Final = Pace(0.3, 3.0, 0.0)
"""A boot client waits for its peers, so it dials more eagerly than a node that has all day."""


class Bootstrap:
    """See above.

    Args:
        transport: the network to dial on.
        addresses: multiaddrs.
        pace: how eagerly.
        usable: whether a peer is to be spoken with at all, by its id.
        reached: is told of every connection that was made or found at an address.
        failed: is told of every address at which nobody was reached, and why.
        resolve: finds out what a `dnsaddr` stands for.
        strict: whether an address of the user's that can be nobody's (a peer id of another kind of key) ends it: he is
            there to read it. Otherwise it is one that fails.
    """

    def __init__(
        self,
        transport: Transport,
        addresses: Iterable[str],
        pace: Pace,
        *,
        usable: Callable[[str], bool] = lambda _peer_id: True,
        reached: Callable[[Connection], None] = lambda _connection: None,
        failed: Callable[[str, str], None] = lambda _address, _why: None,
        resolve: Resolve | None = None,
        strict: bool = False,
    ) -> None:
        self._transport = transport
        self.addresses = tuple(dict.fromkeys(addresses))
        self._pace = pace
        self._usable = usable
        self._reached, self._failed = reached, failed
        self._resolve = resolve or _resolve
        self._strict = strict
        self._named = Counter(parse_address(address).peer_id for address in self.addresses)
        self._untried = set(self.addresses)
        self.tried = trio.Event()
        """Every address has been dialled once, with whatever result."""
        self.peers_at: dict[str, dict[str, None]] = {}
        """The peer ids that answered, by address, the latest last; at most `PEERS_AT` of each."""
        self.failures: dict[str, str] = {}
        """Why nobody was reached the last time, by address."""
        if not self.addresses:
            self.tried.set()

    @property
    def named(self) -> frozenset[str]:
        """The peer ids in the addresses, and those of whoever answered there."""
        named = {peer_id for peer_id in self._named if peer_id is not None}
        return frozenset(named.union(*self.peers_at.values()))

    async def run(self) -> None:
        """Dial until cancelled.

        Raises:
            UsageError: an address can be nobody's, and it is strict.
        """
        async with trio.open_nursery() as nursery:
            self.begin(nursery)

    def begin(self, nursery: trio.Nursery) -> None:
        """Have a nursery dial, before whatever it is given later."""
        for address in self.addresses:
            nursery.start_soon(self._keep, address)

    async def _keep(self, address: str) -> None:
        """Be connected with whoever is at an address, unless all of them turned out to be of no use."""
        delay_s, pace = self._pace.first_s, self._pace
        stands_for_others = parse_address(address).kind == DNSADDR
        while True:
            began = trio.current_time()
            connections = await (self._reach_all(address) if stands_for_others else self._reach(address))
            self._note_tried(address)
            if connections:
                with trio.move_on_after(LOOK_AGAIN_S if stands_for_others else float("inf")) as looking:
                    await until_one_ended(self._transport, connections)
                if not any(self._usable(connection.peer_id) for connection in connections):
                    return
                if looking.cancelled_caught:
                    delay_s = pace.first_s
                    continue
                if trio.current_time() - began >= pace.steady_s:
                    log.debug("lost who was at %s, dialling again", address)
                    delay_s = pace.first_s
                began = trio.current_time()
            # From one dial to the next: what a dial takes does not come on top. Shorter by chance, never longer.
            share = random.uniform(0.75, 1.0)  # noqa: S311 - spreads retries, no secret
            await trio.sleep_until(began + delay_s * share)
            delay_s = min(delay_s * 2, pace.longest_s)

    async def _reach(self, address: str) -> list[Connection]:
        try:
            connection = self._connected(address) or await dial(
                self._transport, address, PeerSource.BOOTSTRAP
            )
        except P2PBootError as error:
            if self._strict and isinstance(error, UsageError):
                raise
            self._note_failure(address, error)
            return []
        self._note_reached(address, connection)
        return [connection]

    async def _reach_all(self, address: str) -> list[Connection]:
        """Reach those whom a `dnsaddr` stands for; whoever is connected already is not dialled."""
        try:
            found = await self._resolve(parse_address(address))
        except NotFoundError as error:
            self._note_failure(address, error)
            return []
        # A fleet may be told one name that stands for some of its own.
        groups = [group for group in _by_peer(found) if group[0] != self._transport.peer_id]
        if not groups:
            self._note_failure(address, NotFoundError(f"{address} stands for nobody else"))
            return []
        peers = self._transport.peers()
        groups.sort(key=lambda group: group[0] not in peers)  # else there would be ever more of them
        reached: list[Connection] = []
        first = trio.Event()
        failures: list[P2PBootError] = []

        async def reach_one(peer_id: str | None, addresses: Sequence[str]) -> None:
            try:
                known = None if peer_id is None else connection_with(self._transport, peer_id)
                reached.append(known or await reach(self._transport, addresses, PeerSource.BOOTSTRAP))
            except P2PBootError as error:
                failures.append(error)
            else:
                self._note_reached(address, reached[-1])
                first.set()

        async def note_soon() -> None:
            await first.wait()
            await trio.sleep(LATE_S)
            self._note_tried(address)

        async with trio.open_nursery() as noting:
            noting.start_soon(note_soon)
            async with trio.open_nursery() as nursery:
                for peer_id, addresses in groups[:PEERS_OF_A_NAME]:
                    nursery.start_soon(reach_one, peer_id, addresses)
            noting.cancel_scope.cancel()
        if not reached:
            self._note_failure(address, failures[0])
        return reached

    def _connected(self, address: str) -> Connection | None:
        """The connection with the peer that an address names, if there is one and nobody else has its key."""
        peer_id = parse_address(address).peer_id
        if peer_id is None or self._named[peer_id] > 1:
            return None
        return connection_with(self._transport, peer_id)

    def _note_reached(self, address: str, connection: Connection) -> None:
        self.failures.pop(address, None)
        there = self.peers_at.setdefault(address, {})
        there.pop(connection.peer_id, None)
        there[connection.peer_id] = None
        if len(there) > PEERS_AT:
            del there[next(iter(there))]
        self._transport.note_source(connection.peer_id, PeerSource.BOOTSTRAP)
        self._reached(connection)

    def _note_failure(self, address: str, error: P2PBootError) -> None:
        self.failures[address] = error.message
        self._failed(address, error.message)

    def _note_tried(self, address: str) -> None:
        self._untried.discard(address)
        if not self._untried:
            self.tried.set()


async def _resolve(address: Address) -> Sequence[Address]:
    from p2pboot.transport.names import resolve_dnsaddr  # few are given a name

    return await resolve_dnsaddr(address)


def _by_peer(addresses: Iterable[Address]) -> list[tuple[str | None, list[str]]]:
    """Addresses of one peer together; one that names nobody is by itself."""
    named: dict[str, tuple[str | None, list[str]]] = {}
    for address in addresses:
        _, several = named.setdefault(address.peer_id or str(address), (address.peer_id, []))
        if len(several) < ADDRESSES_OF_A_PEER:
            several.append(str(address))
    return list(named.values())
