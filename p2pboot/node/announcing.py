"""Gossip: joins the topics of what the node cares for, and says which heads it holds.

A head is announced when it is new here, when a peer connects (it may have missed everything), and every few minutes.
The interval must be longer than the network remembers a message (two minutes), or every sight would renew that memory
and nothing would ever get through.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable
from functools import partial
from typing import Final, Generic, TypeVar

import trio

from p2pboot.core.events import Event
from p2pboot.errors import P2PBootError
from p2pboot.transport.interface import Forwarding, Gossip

log = logging.getLogger(__name__)

AFTER_CONNECT_S: Final = 2.0  # a new peer's subscriptions and grafts take up to two heartbeats of one second
BETWEEN_S: Final = 10.0  # however many peers come and go

K = TypeVar("K", bound=Hashable)


class Announcer(Generic[K]):
    """Speaks and listens on the gossip topics.

    Args:
        transport: the node's network.
        topic: the name of a topic by what the node calls it, such as (channel, arch).
        hear: judges a message: (which topic, peer it came from, payload).
        heads: gives the documents of what the node holds whole, each with its topic; blocks, called in threads.
        topics: which topics to be subscribed to, given those of the heads.
        interval_s: seconds between two announcements of one head.
    """

    def __init__(
        self,
        transport: Gossip,
        *,
        topic: Callable[[K], str],
        hear: Callable[[K, str, bytes], Awaitable[Forwarding]],
        heads: Callable[[], Iterable[tuple[K, bytes]]],
        topics: Callable[[set[K]], Iterable[K]],
        interval_s: float,
    ) -> None:
        self._transport = transport
        self._topic = topic
        self._hear = hear
        self._heads = heads
        self._topics = topics
        self._interval_s = interval_s
        self._joined: set[K] = set()
        self._known: set[tuple[K, bytes]] | None = None  # the heads as they were seen last
        self._reconciling = trio.Lock()
        self._someone_came = trio.Event()

    async def reconcile(self) -> None:
        """Be subscribed to exactly what is cared for now, and announce what was not held a moment ago.

        What was held before the first look is announced to whoever connects.

        Raises:
            P2PBootError: what is held can not be read.
        """
        async with self._reconciling:
            heads = list(await trio.to_thread.run_sync(self._heads))
            await self._join(set(self._topics({key for key, _ in heads})))
            known, self._known = heads if self._known is None else self._known, set(heads)
            for head in heads:
                if head not in known:
                    await self._announce(*head)

    async def _join(self, wanted: set[K]) -> None:
        for key in sorted(self._joined - wanted, key=self._topic):
            await self._transport.unsubscribe(self._topic(key))
            self._joined.discard(key)
        for key in sorted(wanted - self._joined, key=self._topic):
            await self._transport.subscribe(self._topic(key), partial(self._hear, key))
            self._joined.add(key)

    async def run(self) -> None:
        """Repeat announcements until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_peers)
            while True:
                with trio.move_on_after(self._interval_s):
                    await self._someone_came.wait()
                    await trio.sleep(AFTER_CONNECT_S)
                self._someone_came = trio.Event()
                await self._announce_all()
                await trio.sleep(BETWEEN_S)

    async def _announce_all(self) -> None:
        try:
            heads = list(await trio.to_thread.run_sync(self._heads))
        except P2PBootError as error:
            log.error("nothing is announced: %s", error, extra=Event.TASK_FAILED(task="announce"))
            return
        for key, raw in heads:
            await self._announce(key, raw)

    async def _watch_peers(self) -> None:
        with self._transport.connection_events() as events:
            async for event in events:
                if event.connected:
                    self._someone_came.set()

    async def _announce(self, key: K, raw: bytes) -> None:
        try:
            await self._transport.publish(self._topic(key), raw)
        except P2PBootError as error:
            log.warning(
                "announcing on %s: %s", self._topic(key), error, extra=Event.TASK_FAILED(task="announce")
            )
