"""Asks every peer, round after round, until enough is known: for manifests and for snapshots.

One peer that is behind, or that lies, or says nothing, changes nothing as long as another one answers. Who is mute
costs a short grace.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from p2pboot.fetch.asking.dialling import for_each_peer
from p2pboot.fetch.ledger import Ledger
from p2pboot.transport.interface import Transport

GRACE_S = 2.0
"""How long others may still answer after the first usable answer: several round trips on any network, and still little
for somebody who waits for a machine to boot."""

ASK_AGAIN_S = 2.0
"""A mirror lists only what it holds wholly; one that is just fetching has it a moment later."""

TICK_S = 0.1
"""How often connections and the time are looked at; an answer is looked at when it is there."""


class Rounds:
    """One search.

    Args:
        transport: whoever is or gets connected is asked.
        ledger: who was dropped in it is not asked.
        ask: asks one peer once, by its id; whether it answers or not.
        will_do: whether what is known is enough once everybody was asked.
    """

    def __init__(
        self,
        transport: Transport,
        ledger: Ledger,
        ask: Callable[[str], Awaitable[object]],
        *,
        will_do: Callable[[], bool],
    ) -> None:
        self.asked: set[str] = set()
        """Who is or was asked, by peer id."""
        self._transport = transport
        self._ledger = ledger
        self._ask = ask
        self._will_do = will_do
        self._done: set[str] = set()  # who was asked to the end, whether they answered or not
        self._usable_since: float | None = None
        self._answered = trio.Event()  # replaced whenever it was looked at

    def note_usable(self) -> None:
        """Something came that can be used: from the first on, others have a short grace."""
        if self._usable_since is None:
            self._usable_since = trio.current_time()

    async def run(
        self,
        timeout_s: float,
        settled: Callable[[], bool],
        *,
        beside: Callable[[], Awaitable[None]] = trio.sleep_forever,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        """Ask until everybody was asked and that will do, a grace after the first usable answer, or the timeout.

        It also ends when everybody that was reached was dropped.

        Args:
            timeout_s: seconds at most.
            settled: whether no further peer is expected to connect.
            beside: runs meanwhile.
            look: called a few times a second.
        """
        with trio.move_on_after(timeout_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(for_each_peer, self._transport, self._keep_asking)
                nursery.start_soon(beside)
                while not self._is_enough(settled()):  # it depends on answers, on connections and on the time
                    self._answered = trio.Event()
                    with trio.move_on_after(TICK_S):
                        await self._answered.wait()
                    look()
                nursery.cancel_scope.cancel()

    def _is_enough(self, settled: bool) -> bool:
        if self._usable_since is not None and trio.current_time() >= self._usable_since + GRACE_S:
            return True
        if not settled:
            return False
        peers, dropped = self._transport.peers(), self._ledger.dropped.keys()
        if peers <= self._done | dropped and self._will_do():
            return True
        return bool(self.asked) and self.asked <= dropped and peers <= self.asked

    async def _keep_asking(self, peer_id: str) -> None:
        while self._ledger.usable(peer_id):
            self.asked.add(peer_id)
            await self._ask(peer_id)
            self._done.add(peer_id)
            self._answered.set()
            await trio.sleep(ASK_AGAIN_S)
