"""Keeps the node connected: with whoever is at the bootstrap addresses, and with what discovery hints at.

Hints of mDNS are dialled once each, a bounded number at a time, and only while there is room and their peer is not
connected. Whom peers tell of, `fetch.asking.acquainting` dials.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Iterable, Sequence
from typing import Final

import trio

from p2pboot.core.events import Event
from p2pboot.core.identity import PublicKey
from p2pboot.core.policy import Publisher
from p2pboot.errors import P2PBootError
from p2pboot.fetch.asking.bootstrap import OF_A_NODE, Bootstrap
from p2pboot.fetch.asking.connecting import dial
from p2pboot.fetch.asking.neighbours import FULL_MESH
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import Connection, PeerSource, Transport, connection_with

log = logging.getLogger(__name__)

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
        self._warned: set[str] = set()
        self._bootstrap = Bootstrap(
            transport, bootstrap, OF_A_NODE, reached=self._note_reached, failed=self._note_failed
        )
        self._hinting = trio.CapacityLimiter(_PARALLEL_HINTS)
        self._pending_hints: set[str] = set()
        self._publishers: frozenset[str] = frozenset()  # their peer ids
        self.preferred: frozenset[str] = frozenset()
        """The peer ids of whom the operator named, by a key or an address; they may use what is held in reserve."""

    @property
    def tried(self) -> trio.Event:
        """Every bootstrap address has been dialled once, with whatever result."""
        return self._bootstrap.tried

    @property
    def configured(self) -> set[str]:
        """The peer ids that answered at the bootstrap addresses."""
        return set().union(*self._bootstrap.peers_at.values())

    @property
    def addressed(self) -> frozenset[str]:
        """The peer ids in the bootstrap addresses, and of whoever answered there: they are kept connected."""
        return self._bootstrap.named

    async def run(self, hints: AsyncIterable[str] | None = None) -> None:
        """Keep connecting until cancelled.

        Args:
            hints: addresses that discovery finds, None without discovery.
        """
        async with trio.open_nursery() as nursery:
            self._bootstrap.begin(nursery)
            if hints is not None:
                async for address in hints:
                    self._follow(address, nursery)

    def prefer(self, publishers: Iterable[Publisher]) -> None:
        """Have the transport take in whom the operator named: these publishers, and peers at bootstrap addresses."""
        keys = (key for publisher in publishers for key in publisher.keys)
        self._publishers = frozenset(PublicKey.from_keyid(key).peer_id for key in keys)
        self._tell_preferred()

    def _note_reached(self, _connection: Connection) -> None:
        self._tell_preferred()

    def _note_failed(self, address: str, why: str) -> None:
        # The first failure is news for the operator, the hundredth is not.
        level = logging.DEBUG if address in self._warned else logging.WARNING
        self._warned.add(address)
        log.log(level, "cannot reach %s: %s", address, why, extra=Event.PEER_UNREACHABLE(address=address))

    def _tell_preferred(self) -> None:
        self.preferred = self._publishers | self._bootstrap.named
        self._transport.prefer(self.preferred)

    def _follow(self, hint: str, nursery: trio.Nursery) -> None:
        if not parse_address(hint).is_ip:
            return  # names are looked up on the operator's word only
        pending = len(self._pending_hints)
        if hint not in self._pending_hints and pending + len(self._transport.peers()) < ENOUGH_PEERS:
            self._pending_hints.add(hint)
            nursery.start_soon(self._try_hint, hint)

    async def _try_hint(self, hint: str) -> None:
        try:
            async with self._hinting:
                peer_id = parse_address(hint).peer_id
                if peer_id is None or connection_with(self._transport, peer_id) is None:
                    await dial(self._transport, hint, PeerSource.LAN)
                else:
                    self._transport.note_source(peer_id, PeerSource.LAN)
        except P2PBootError as error:
            log.debug("hint %s: %s", hint, error)
        finally:
            self._pending_hints.discard(hint)
