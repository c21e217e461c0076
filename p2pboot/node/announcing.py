"""Gossip: joins the topics of the pairs that the node cares for, and says which heads it holds.

A head is announced when it is new, when a peer connects (it may have missed everything), and every few minutes. The
interval must be longer than the network remembers a message (two minutes), or every sight would renew that memory and
nothing would ever get through.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

import trio

from p2pboot.errors import P2PBootError
from p2pboot.node.judging import Judgement, Pair
from p2pboot.protocol.messages import manifest_topic
from p2pboot.transport.interface import Transport, Verdict

log = logging.getLogger(__name__)

AFTER_CONNECT_S = 2.0  # a new peer's subscriptions and grafts take up to two heartbeats of one second
BETWEEN_S = 10.0  # however many peers come and go


class Announcer:
    """Speaks and listens on the gossip topics.

    Args:
        transport: the node's network.
        hear: judges a message: (channel and arch of its topic, peer it came from, payload).
        heads: gives the manifests' bytes that the node holds whole, by (channel, arch).
        interval_s: seconds between two announcements of one head.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        hear: Callable[[Pair, str, bytes], Awaitable[Judgement]],
        heads: Callable[[], Awaitable[Iterable[tuple[Pair, bytes]]]],
        interval_s: float,
    ) -> None:
        self._transport = transport
        self._hear = hear
        self._heads = heads
        self._interval_s = interval_s
        self._joined: set[Pair] = set()
        self._someone_came = trio.Event()

    async def join(self, pairs: Iterable[Pair]) -> None:
        """Be subscribed to exactly these pairs' topics."""
        wanted = set(pairs)
        for pair in sorted(self._joined - wanted):
            await self._transport.unsubscribe(manifest_topic(*pair))
            self._joined.discard(pair)
        for pair in sorted(wanted - self._joined):
            await self._transport.subscribe(manifest_topic(*pair), self._listener(pair))
            self._joined.add(pair)

    def _listener(self, pair: Pair) -> Callable[[str, bytes], Awaitable[Verdict]]:
        async def listen(peer_id: str, payload: bytes) -> Verdict:
            return (await self._hear(pair, peer_id, payload)).gossip_verdict

        return listen

    async def run(self) -> None:
        """Repeat announcements until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_peers)
            while True:
                with trio.move_on_after(self._interval_s):
                    await self._someone_came.wait()
                    await trio.sleep(AFTER_CONNECT_S)
                self._someone_came = trio.Event()
                for pair, raw in await self._heads():
                    await self.announce(pair, raw)
                await trio.sleep(BETWEEN_S)

    async def _watch_peers(self) -> None:
        async for event in self._transport.peer_events():
            if event.connected:
                self._someone_came.set()

    async def announce(self, pair: Pair, raw: bytes) -> None:
        """Send one head to its topic."""
        try:
            await self._transport.publish(manifest_topic(*pair), raw)
        except P2PBootError as error:
            log.warning("announcing %s/%s: %s", *pair, error)
