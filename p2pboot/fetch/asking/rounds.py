"""Asks every peer on every connection, round after round, until enough is known: for manifests and for snapshots.

One peer that is behind, or that lies, or says nothing, changes nothing as long as another one answers. Who is mute
costs a short grace.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import trio

from p2pboot.fetch.asking.connecting import for_each_connection
from p2pboot.fetch.ledger import Ledger
from p2pboot.transport.interface import Connection, Transport

GRACE_S = 2.0
"""How long others may still answer after the first usable answer: several round trips on any network, and still little
for somebody who waits for a machine to boot."""

ASK_AGAIN_S = 2.0
"""A mirror lists only what it holds wholly; one that is just fetching has it a moment later."""

BUSY_S = 0.25
"""A peer that is busy is asked again so soon, then after twice as long, up to ASK_AGAIN_S."""


class Rounds:
    """One search.

    Args:
        transport: whoever is or gets connected is asked.
        ledger: who was dropped in it is not asked.
        ask: asks once over one connection; whether the peer answers or not.
        will_do_at: since when, or from when on, what is known is enough once everybody was asked; clock of trio,
            infinite for never.
    """

    def __init__(
        self,
        transport: Transport,
        ledger: Ledger,
        ask: Callable[[Connection], Awaitable[object]],
        *,
        will_do_at: Callable[[], float],
    ) -> None:
        self.asked: set[Connection] = set()
        """Where it is or was asked."""
        self._transport = transport
        self._ledger = ledger
        self._ask = ask
        self._will_do_at = will_do_at
        self._done: set[Connection] = set()  # where it was asked to the end, or has no room for us
        self._usable_since = math.inf
        self._settled = False
        self._changed = trio.Event()  # replaced whenever it was looked at
        self._again = trio.Event()  # replaced whenever everybody is to be asked at once

    def note_usable(self, is_usable: bool = True) -> None:
        """Something came that can be used: from the first on, others have a short grace. Or nothing is any more."""
        self._usable_since = min(self._usable_since, trio.current_time()) if is_usable else math.inf
        self._changed.set()

    def ask_all_again(self) -> None:
        """What is asked for is seen in another light: have everybody asked at once who waits for the next round."""
        self._done.clear()
        self._again.set()
        self._again = trio.Event()

    async def run(self, timeout_s: float, settle: Callable[[], Awaitable[None]]) -> None:
        """Ask until everybody was asked and that will do, a grace after the first usable answer, or the timeout.

        It also ends when everybody that was reached was dropped.

        Args:
            timeout_s: seconds at most.
            settle: returns when no further peer is expected to connect.
        """
        with trio.move_on_after(timeout_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(for_each_connection, self._transport, self._keep_asking)
                nursery.start_soon(self._note_settled, settle)
                await self._enough()
                nursery.cancel_scope.cancel()

    async def _note_settled(self, settle: Callable[[], Awaitable[None]]) -> None:
        await settle()
        self._settled = True
        self._changed.set()

    async def _enough(self) -> None:
        over = False
        while not over:
            self._changed = trio.Event()
            with trio.move_on_at(self._enough_at()) as scope:
                await self._changed.wait()
            over = scope.cancelled_caught

    def _enough_at(self) -> float:
        """When it is over if nothing happens any more."""
        at = self._usable_since + GRACE_S
        if self._settled:
            usable = self._ledger.usable
            up = {each for each in self._transport.connections() if usable(each.peer_id)}
            if up <= self._done:
                at = min(at, self._will_do_at())
            if self.asked and not up and not any(usable(each.peer_id) for each in self.asked):
                at = -math.inf
        return at

    async def _keep_asking(self, connection: Connection) -> None:
        pause_s, patient_until = BUSY_S, trio.current_time() + GRACE_S
        try:
            while self._ledger.usable(connection.peer_id):
                self.asked.add(connection)
                again = self._again
                await self._ask(connection)
                is_busy = connection.peer_id in self._ledger.busy
                if (not is_busy or trio.current_time() >= patient_until) and not again.is_set():
                    self._done.add(connection)
                    self._changed.set()
                with trio.move_on_after(pause_s if is_busy else ASK_AGAIN_S):
                    await again.wait()
                pause_s = min(pause_s * 2, ASK_AGAIN_S) if is_busy else BUSY_S
        finally:
            self._changed.set()  # it is gone, or was dropped
