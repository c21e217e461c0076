"""Sync: compares heads with every connected peer, on connecting and at intervals, and pulls what is newer.

Gossip is quick but forgets; sync is what a node that joins late relies on. Owns one task for each connection; what
it pulls goes to the same judgement as gossip's messages. What a peer offers is a hint until its signatures are checked.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import trio

from p2pboot.errors import P2PBootError
from p2pboot.fetch.asking.connecting import for_each_connection
from p2pboot.fetch.asking.requests import RequestStream, requests_to
from p2pboot.protocol.client import PeerRefused, ask_heads, ask_manifest
from p2pboot.protocol.messages import SYNC_PROTOCOL, Head
from p2pboot.transport.interface import Connection, Transport

log = logging.getLogger(__name__)

ROUND_TIMEOUT_S: Final = 20.0  # a mute peer holds its own task only, and no longer than this
PEERS_PER_INTERVAL: Final = 16
"""With more peers than these the rounds with each are farther apart, for each costs both ends together some 7 ms: what
is new is heard of by then from one of the others, which hear of it in the same way."""
MANIFESTS_PER_ROUND: Final = 16  # a peer that offers more is asked again in the next round

Choose = Callable[[Sequence[Head], str], Awaitable[list[Head]]]  # (what is offered, peer id)
# (As chosen, manifest, detached signature, peer id).
Take = Callable[[Head, bytes, str | None, str], Awaitable[None]]
Keep = Callable[[str, str], Awaitable[bool]]  # (peer id, detached signature), whether it is good


class TrustRounds(Protocol):
    """What is asked for of trust in each round; `node.trusting.following` is one. Whatever it raises ends the round."""

    async def ask_roots(self, requests: RequestStream) -> None:
        """Before anything else: it decides about what comes."""

    async def ask_statements(self, requests: RequestStream) -> None:
        """After the manifests that they speak of."""

    def ended(self, connection: Connection) -> None:
        """No more rounds on this connection."""


class Syncer:
    """Pulls heads from peers.

    Args:
        transport: the node's network.
        choose: which of the offered heads are worth fetching.
        take: judges a manifest that was fetched.
        interval_s: seconds between two rounds with one peer, where there are at most `PEERS_PER_INTERVAL`.
        heeds: whether a peer, by its id, is asked at all.
        told: what a peer, by its id, says that it holds.
        trust: asks for roots, statements and yanks; None where nobody does.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        choose: Choose,
        take: Take,
        interval_s: float,
        heeds: Callable[[str], bool] = lambda _peer_id: True,
        told: Callable[[str, Sequence[Head]], None] = lambda _peer_id, _heads: None,
        trust: TrustRounds | None = None,
    ) -> None:
        self._transport = transport
        self._choose = choose
        self._take = take
        self._interval_s = interval_s
        self._heeds = heeds
        self._told = told
        self._trust = trust
        self._poke = trio.Event()
        self.synced: set[Connection] = set()  # those with at least one round behind them
        self._round_ended = trio.Event()

    async def run(self) -> None:
        """Follow the connected peers until cancelled."""
        await for_each_connection(self._transport, self._follow)

    async def all_synced(self) -> None:
        """Wait until every connected peer was asked once; for ever while there is none."""
        while not (up := self._transport.connections()) or not up <= self.synced:
            await self._round_ended.wait()

    def poke(self) -> None:
        """Begin a round with every peer now (the trust changed, a fetch found nobody)."""
        self._poke.set()
        self._poke = trio.Event()

    async def _follow(self, connection: Connection) -> None:
        try:
            while True:
                try:
                    if self._heeds(connection.peer_id):
                        await self._round(connection)
                except P2PBootError as error:
                    log.debug("sync with %s: %s", connection.peer_id, error)
                self.synced.add(connection)
                self._round_ended.set()
                self._round_ended = trio.Event()
                crowd = max(1.0, len(self._transport.connections()) / PEERS_PER_INTERVAL)
                with trio.move_on_after(self._interval_s * crowd):
                    await self._poke.wait()
        finally:
            self.synced.discard(connection)
            if self._trust is not None:
                self._trust.ended(connection)

    async def _round(self, connection: Connection) -> None:
        peer_id = connection.peer_id
        async with requests_to(self._transport, connection, SYNC_PROTOCOL, ROUND_TIMEOUT_S) as requests:
            if self._trust is not None:
                await self._trust.ask_roots(requests)
            heads = (await requests.ask(ask_heads())).heads
            self._told(peer_id, heads)
            wanted = await self._choose(heads, peer_id)
            wanted.sort(key=lambda head: head.manifest_version, reverse=True)
            for head in wanted[:MANIFESTS_PER_ROUND]:
                try:
                    raw, detached = await requests.ask(ask_manifest(head.digest))
                except PeerRefused:
                    continue  # its head moved on meanwhile
                await self._take(head, raw, detached, peer_id)
            if self._trust is not None:
                await self._trust.ask_statements(requests)


async def find_detached(transport: Transport, digest: str, keep: Keep, *, timeout_s: float) -> None:
    """Ask the connected peers for the detached signature of a manifest that came without one (by gossip).

    Args:
        transport: the node's network; all peers are asked at once.
        digest: of the manifest.
        keep: checks and keeps what a peer has; with the first good one the search ends.
        timeout_s: it ends then, too.
    """

    async def ask(connection: Connection) -> None:
        peer_id = connection.peer_id
        try:
            async with requests_to(transport, connection, SYNC_PROTOCOL, timeout_s) as requests:
                _, detached = await requests.ask(ask_manifest(digest))
        except P2PBootError as error:
            log.debug("detached signature from %s: %s", peer_id, error)
            return
        if detached is not None and await keep(peer_id, detached):
            nursery.cancel_scope.cancel()

    with trio.move_on_after(timeout_s):
        async with trio.open_nursery() as nursery:
            for connection in transport.connections():
                nursery.start_soon(ask, connection)
