"""Asks every peer on every connection, round after round, until enough is known: for manifests and for snapshots.

One peer that is behind, or that lies, or says nothing, changes nothing as long as another one answers. Who is mute
costs a short grace.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from p2pboot.fetch.asking.dialling import for_each_connection
from p2pboot.fetch.ledger import Ledger
from p2pboot.transport.interface import Connection, Transport

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
        ask: asks once over one connection; whether the peer answers or not.
        will_do: whether what is known is enough once everybody was asked.
    """

    def __init__(
        self,
        transport: Transport,
        ledger: Ledger,
        ask: Callable[[Connection], Awaitable[object]],
        *,
        will_do: Callable[[], bool],
    ) -> None:
        self.asked: set[Connection] = set()
        """Where it is or was asked."""
        self._transport = transport
        self._ledger = ledger
        self._ask = ask
        self._will_do = will_do
        self._done: set[Connection] = set()  # where it was asked to the end, with an answer or without
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
        look: Callable[[], None] = lambda: None,
    ) -> None:
        """Ask until everybody was asked and that will do, a grace after the first usable answer, or the timeout.

        It also ends when everybody that was reached was dropped.

        Args:
            timeout_s: seconds at most.
            settled: whether no further peer is expected to connect.
            look: called a few times a second.
        """
        with trio.move_on_after(timeout_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(for_each_connection, self._transport, self._keep_asking)
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
        usable = self._ledger.usable
        up = {each for each in self._transport.connections() if usable(each.peer_id)}
        if up <= self._done and self._will_do():
            return True
        return bool(self.asked) and not up and not any(usable(each.peer_id) for each in self.asked)

    async def _keep_asking(self, connection: Connection) -> None:
        while self._ledger.usable(connection.peer_id):
            self.asked.add(connection)
            await self._ask(connection)
            self._done.add(connection)
            self._answered.set()
            await trio.sleep(ASK_AGAIN_S)
