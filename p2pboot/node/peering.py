"""Keeps the node connected: dials the bootstrap addresses until they answer, and what discovery hints at.

Every bootstrap address has a task of its own that waits while its peer is connected and dials when it is not, so a
peer that comes back is found again whatever else happened. Hints (mDNS, peers told by peers) are dialled once each,
a bounded number at a time, and only while there is room.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterable, Sequence

import trio

from p2pboot.errors import P2PBootError
from p2pboot.transport.interface import Transport

log = logging.getLogger(__name__)

DIAL_TIMEOUT_S = 10.0  # a mute server would hold a dial for two minutes
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0
ENOUGH_PEERS = 16  # hints are followed below this many connections
_PARALLEL_HINTS = 4


class Peering:
    """Dials for one transport.

    Args:
        transport: the node's network.
        bootstrap: multiaddrs, kept connected for as long as the node runs.
    """

    def __init__(self, transport: Transport, bootstrap: Sequence[str]) -> None:
        self._transport = transport
        self._bootstrap = tuple(bootstrap)
        self._hinting = trio.CapacityLimiter(_PARALLEL_HINTS)
        self._pending_hints: set[str] = set()
        self._change = trio.Event()
        self.tried = (
            trio.Event()
        )  # set when every bootstrap address has been dialled once, with whatever result
        self._untried = len(self._bootstrap)
        if not self._bootstrap:
            self.tried.set()

    async def run(self, hints: AsyncIterable[str] | None = None) -> None:
        """Keep connecting until cancelled.

        Args:
            hints: addresses that discovery finds, None without discovery.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_events)
            for address in self._bootstrap:
                nursery.start_soon(self._keep, address)
            if hints is not None:
                async for address in hints:
                    self._follow(address, nursery)

    async def _watch_events(self) -> None:
        async for _ in self._transport.peer_events():
            self._change.set()
            self._change = trio.Event()

    async def _keep(self, address: str) -> None:
        delay_s = FIRST_RETRY_S
        first = True
        while True:
            try:
                with trio.fail_after(DIAL_TIMEOUT_S):
                    peer_id = await self._transport.dial(address)
            except (P2PBootError, trio.TooSlowError) as error:
                # The first failure is news for the operator, the hundredth is not.
                log.log(
                    logging.WARNING if first else logging.DEBUG,
                    "cannot reach %s: %s",
                    address,
                    str(error) or "no answer",
                )
                self._note_tried(first=first)
                await trio.sleep(delay_s * random.uniform(0.8, 1.2))  # noqa: S311 - spreads retries, no secret
                delay_s = min(delay_s * 2, LONGEST_RETRY_S)
            else:
                self._note_tried(first=first)
                delay_s = FIRST_RETRY_S
                while peer_id in self._transport.peers():
                    await self._change.wait()
                log.info("lost %s, dialling again", peer_id)
            first = False

    def _note_tried(self, *, first: bool) -> None:
        if first:
            self._untried -= 1
            if self._untried == 0:
                self.tried.set()

    def _follow(self, address: str, nursery: trio.Nursery) -> None:
        if address in self._pending_hints or len(self._pending_hints) >= ENOUGH_PEERS:
            return
        if len(self._transport.peers()) >= ENOUGH_PEERS:
            return
        self._pending_hints.add(address)
        nursery.start_soon(self._try_hint, address)

    async def _try_hint(self, address: str) -> None:
        try:
            async with self._hinting:
                with trio.fail_after(DIAL_TIMEOUT_S):
                    await self._transport.dial(address)
        except (P2PBootError, trio.TooSlowError) as error:
            log.debug("hint %s: %s", address, error)
        finally:
            self._pending_hints.discard(address)
