"""Whom a job can ask: dials addresses until the job ends, and runs a task for every connected peer."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence

import trio

from p2pboot.errors import NotFoundError, ProtocolError
from p2pboot.fetch.ledger import Ledger
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import Transport

log = logging.getLogger(__name__)

DIAL_TIMEOUT_S = 5.0
"""A mute server would hold a dial for minutes."""

FIRST_RETRY_S = 0.3
LONGEST_RETRY_S = 3.0
"""A boot client waits for its peers, so it dials more eagerly than a node that has all day."""

LISTEN_S = 3.0
"""Neighbours are heard of through discovery within two seconds; later ones are used, but not waited for."""

MAX_HINTS = 32
"""Addresses taken from discovery: anybody on the network can announce any number of them."""

HINT_TRIES = 3


async def for_each_peer(transport: Transport, serve: Callable[[str], Awaitable[None]]) -> None:
    """Run `serve(peer_id)` for every peer as long as it is connected, until cancelled.

    Peers that connect later join; one that disconnects has its task cancelled, and a new one when it comes
    back, which begins when the old one has ended.
    """
    running: dict[str, tuple[trio.CancelScope, trio.Event]] = {}  # of each peer, the last task

    async def run(
        peer_id: str, scope: trio.CancelScope, ended: trio.Event, before: trio.Event | None
    ) -> None:
        if before is not None:
            await before.wait()
        with scope:
            await serve(peer_id)
        ended.set()
        if running[peer_id][1] is ended:  # no later one waits for it; strangers come under ever new names
            del running[peer_id]

    with transport.peer_events() as events:
        async with trio.open_nursery() as nursery:
            async for event in events:
                before = running.get(event.peer_id)
                if before is not None:
                    before[0].cancel()
                if event.connected:
                    scope, ended = running[event.peer_id] = (trio.CancelScope(), trio.Event())
                    nursery.start_soon(
                        run, event.peer_id, scope, ended, None if before is None else before[1]
                    )


async def dial(transport: Transport, address: str) -> str:
    """Be connected to whoever is at an address; return its peer id.

    Raises:
        NotFoundError: nobody answers, or not in time.
        ProtocolError: it is not whom the address names, or speaks something else.
    """
    try:
        with trio.fail_after(DIAL_TIMEOUT_S):
            return await transport.dial(address)
    except trio.TooSlowError:
        raise NotFoundError(f"no answer from {address} in {DIAL_TIMEOUT_S:g} s") from None


class Dialler:
    """Keeps trying to be connected to the peers at some addresses.

    Args:
        transport: the network to dial on.
        addresses: multiaddrs that the user gave; tried for as long as the job runs.
        ledger: who was dropped is not dialled again.
        hints: further multiaddrs as discovery finds them, or None without discovery; each is tried a few
            times.
    """

    def __init__(
        self,
        transport: Transport,
        addresses: Sequence[str],
        ledger: Ledger,
        hints: AsyncIterable[str] | None = None,
    ) -> None:
        self._transport = transport
        self._addresses = tuple(dict.fromkeys(addresses))
        self._ledger = ledger
        self._hints = hints
        self._untried = set(self._addresses)
        self._peer_of: dict[str, str] = {}
        self._only: dict[str, frozenset[str]] = {}
        self._listen_until = trio.current_time() + (0.0 if hints is None else LISTEN_S)
        self.failures: dict[str, str] = {}
        """Why the last dial failed, by address."""

    @property
    def settled(self) -> bool:
        """Every address was tried once, and discovery had its time: who may come now is not waited for."""
        return not self._untried and trio.current_time() >= self._listen_until

    @property
    def hopeless(self) -> bool:
        """Whoever was reached at any address was dropped, and so are all who are connected."""
        reached = {*self._peer_of.values(), *self._transport.peers()}
        return (
            self.settled
            and bool(reached)
            and all(address in self._peer_of for address in self._addresses)
            and not any(self._ledger.usable(peer_id) for peer_id in reached)
        )

    async def move(self, peer_id: str, addresses: Sequence[str]) -> None:
        """Be connected to a peer at these of the addresses only: elsewhere its key serves something else.

        Nothing happens when it has no other address here.
        """
        if any(
            self._leads_to(address) == peer_id and address not in addresses for address in self._addresses
        ):
            self._only[peer_id] = frozenset(addresses)
            await self._transport.hang_up(peer_id)

    def _leads_to(self, address: str) -> str | None:
        return self._peer_of.get(address) or parse_address(address).peer_id

    def _is_left(self, address: str) -> bool:
        peer_id = self._leads_to(address)
        return peer_id in self._only and address not in self._only[peer_id]

    async def run(self) -> None:
        """Dial until cancelled.

        Raises:
            UsageError: an address is not one.
        """
        async with trio.open_nursery() as nursery:
            for address in self._addresses:
                nursery.start_soon(self._keep, address, None)
            if self._hints is not None:
                await self._follow_hints(self._hints, nursery)

    async def _follow_hints(self, hints: AsyncIterable[str], nursery: trio.Nursery) -> None:
        seen = set(self._addresses)
        async for address in hints:
            if address not in seen and len(seen) < MAX_HINTS + len(self._addresses):
                seen.add(address)
                nursery.start_soon(self._keep, address, HINT_TRIES)

    async def _keep(self, address: str, tries: int | None) -> None:
        """Be connected to an address; with `tries`, give up after so many failures in a row."""
        delay_s = FIRST_RETRY_S
        failed = 0
        while (tries is None or failed < tries) and not self._is_left(address):
            peer_id = await self._dial(address)
            self._untried.discard(address)
            if peer_id is None:
                failed += 1
                await trio.sleep(delay_s * random.uniform(0.8, 1.2))  # noqa: S311 - spreads retries, no secret
                delay_s = min(delay_s * 2, LONGEST_RETRY_S)
                continue
            failed, delay_s = 0, FIRST_RETRY_S
            if self._is_left(address):  # by a move while it was being dialled
                await self._transport.hang_up(peer_id)
                return
            await self._wait_until_gone(peer_id)
            if not self._ledger.usable(peer_id):
                return
            await trio.sleep(FIRST_RETRY_S)  # a peer that hangs up at once is not dialled in a busy loop

    async def _dial(self, address: str) -> str | None:
        try:
            peer_id = await dial(self._transport, address)
        except (NotFoundError, ProtocolError) as error:
            self.failures[address] = error.message
            log.debug("dial: %s", error.message)
            return None
        self._peer_of[address] = peer_id
        self.failures.pop(address, None)
        return peer_id

    async def _wait_until_gone(self, peer_id: str) -> None:
        if peer_id not in self._transport.peers():
            return
        with self._transport.peer_events() as events:
            async for event in events:
                if event.peer_id == peer_id and not event.connected:
                    return
