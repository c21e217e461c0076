"""Keeps the node connected: dials the bootstrap addresses until they answer, and what discovery hints at.

Every bootstrap address has a task of its own that waits while its peer is connected and dials when it is not, so a
peer that comes back is found again whatever else happened. Where several of them name one peer id, there may be a
server with that key behind each, and each is dialled. Hints of mDNS are dialled once each, a bounded number at a time,
and only while there is room and their peer is not connected. Whom peers tell of, `fetch.asking.acquainting` dials.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import AsyncIterable, Iterable, Sequence
from typing import Final

import trio

from p2pboot.core.identity import PublicKey
from p2pboot.core.policy import Publisher
from p2pboot.errors import P2PBootError
from p2pboot.fetch.asking.dialling import connection_with, until_ended
from p2pboot.fetch.asking.neighbours import FULL_MESH
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import Connection, Transport

log = logging.getLogger(__name__)

DIAL_TIMEOUT_S: Final = 10.0  # a mute server would hold a dial for two minutes
FIRST_RETRY_S: Final = 0.5
LONGEST_RETRY_S: Final = 30.0
# A peer that hangs up sooner is dialled ever less often, like one that does not answer.
STEADY_S: Final = 10.0
ENOUGH_PEERS: Final = FULL_MESH  # hints are followed below this many connections
_PARALLEL_HINTS: Final = 4


class Peering:
    """Dials for one transport.

    Args:
        transport: the node's network.
        bootstrap: multiaddrs, kept connected for as long as the node runs.
    """

    def __init__(self, transport: Transport, bootstrap: Sequence[str]) -> None:
        self._transport = transport
        self._bootstrap = tuple(dict.fromkeys(bootstrap))
        self._hinting = trio.CapacityLimiter(_PARALLEL_HINTS)
        self._pending_hints: set[str] = set()
        self.tried = trio.Event()  # every bootstrap address has been dialled once, with whatever result
        self.configured: set[str] = set()  # peer ids that answered at the bootstrap addresses
        self._untried = set(self._bootstrap)
        self._named = Counter(parse_address(address).peer_id for address in self._bootstrap)
        self._publishers: frozenset[str] = frozenset()  # their peer ids
        self.preferred: frozenset[str] = frozenset()
        """The peer ids of whom the operator named, by a key or an address; they may use what is held in reserve."""
        if not self._bootstrap:
            self.tried.set()

    async def run(self, hints: AsyncIterable[str] | None = None) -> None:
        """Keep connecting until cancelled.

        Args:
            hints: addresses that discovery finds, None without discovery.
        """
        async with trio.open_nursery() as nursery:
            for address in self._bootstrap:
                nursery.start_soon(self._keep, address)
            if hints is not None:
                async for address in hints:
                    self._follow(address, nursery)

    def prefer(self, publishers: Iterable[Publisher]) -> None:
        """Have the transport take in whom the operator named: these publishers, and peers at bootstrap addresses."""
        keys = (key for publisher in publishers for key in publisher.keys)
        self._publishers = frozenset(PublicKey.from_keyid(key).peer_id for key in keys)
        self._tell_preferred()

    def _tell_preferred(self) -> None:
        named = {peer_id for peer_id in self._named if peer_id is not None}
        self.preferred = self._publishers | self.configured | named
        self._transport.prefer(self.preferred)

    async def _keep(self, address: str) -> None:
        delay_s = FIRST_RETRY_S
        first = True
        while True:
            began = trio.current_time()
            try:
                connection = self._connected(address) or await self._dial(address)
            except (P2PBootError, trio.TooSlowError) as error:
                # The first failure is news for the operator, the hundredth is not.
                level = logging.WARNING if first else logging.DEBUG
                log.log(level, "cannot reach %s: %s", address, str(error) or "no answer")
                self._note_tried(address)
            else:
                self.configured.add(connection.peer_id)
                self._tell_preferred()
                self._note_tried(address)
                await until_ended(self._transport, connection)
                if trio.current_time() - began >= STEADY_S:
                    log.info("lost %s, dialling again", connection.peer_id)
                    delay_s = FIRST_RETRY_S
            first = False
            await trio.sleep(delay_s * random.uniform(0.8, 1.2))  # noqa: S311 - spreads retries, no secret
            delay_s = min(delay_s * 2, LONGEST_RETRY_S)

    def _connected(self, address: str) -> Connection | None:
        """The connection with the peer that an address names, if there is one and nobody else has its key."""
        peer_id = parse_address(address).peer_id
        if peer_id is None or self._named[peer_id] > 1:
            return None
        return connection_with(self._transport, peer_id)

    async def _dial(self, address: str) -> Connection:
        with trio.fail_after(DIAL_TIMEOUT_S):
            return await self._transport.dial(address)

    def _note_tried(self, address: str) -> None:
        self._untried.discard(address)
        if not self._untried:
            self.tried.set()

    def _follow(self, hint: str, nursery: trio.Nursery) -> None:
        pending = len(self._pending_hints)
        if hint not in self._pending_hints and pending + len(self._transport.peers()) < ENOUGH_PEERS:
            self._pending_hints.add(hint)
            nursery.start_soon(self._try_hint, hint)

    async def _try_hint(self, hint: str) -> None:
        try:
            async with self._hinting:
                if self._connected(hint) is None:
                    await self._dial(hint)
        except (P2PBootError, trio.TooSlowError) as error:
            log.debug("hint %s: %s", hint, str(error) or "no answer")
        finally:
            self._pending_hints.discard(hint)
