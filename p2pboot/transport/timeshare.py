"""A part of one core for work of one kind, at which origins take turns, and within each its peers.

Gossip, handshakes and what carries nothing have one each. Who sends more than there is time for is pushed back: what it
sent waits, its peer's window fills behind that, and nothing is dropped.
"""

from __future__ import annotations

from typing import Final

import trio

from p2pboot.core.origins import Party
from p2pboot.core.shares import FairQueue
from p2pboot.core.token_bucket import TokenBucket

_BURST_S: Final = 0.25  # of work that may be done at once after a quiet time
_AT_ONCE_S: Final = 1e-6  # below what a clock can tell, there is nothing to wait for


class TimeShare:
    """One share.

    Args:
        seconds_per_second: of one core's time.
    """

    def __init__(self, seconds_per_second: float) -> None:
        self._bucket = TokenBucket(seconds_per_second, _BURST_S, trio.current_time())
        self._waiting: FairQueue[tuple[trio.Event, float]] = FairQueue()
        self._came = trio.Event()

    async def take(self, party: Party, cost_s: float) -> None:
        """Wait until a party may make us work so long; at once where nobody waits and there is time left.

        It is paid for on credit, so a long piece of work has everybody wait for it afterwards, not before.
        """
        if not self._waiting and not self._debt_s():
            self._bucket.take(cost_s, trio.current_time())
            await trio.lowlevel.checkpoint()
            return
        item = (trio.Event(), cost_s)
        self._waiting.push(party, item, cost_s)
        self._came.set()
        try:
            await item[0].wait()
        except trio.Cancelled:
            self._waiting.discard(party, item)
            raise

    async def run(self) -> None:
        """Give turns to those who wait, for ever."""
        while True:
            if not self._waiting:
                self._came = trio.Event()
                await self._came.wait()
            await trio.sleep(self._debt_s())
            while self._waiting and not self._debt_s():
                event, cost_s = self._waiting.pop()
                self._bucket.take(cost_s, trio.current_time())
                event.set()

    def _debt_s(self) -> float:
        """Seconds until the work that was done is paid for."""
        debt_s = self._bucket.wait_s(0, trio.current_time())
        return debt_s if debt_s > _AT_ONCE_S else 0.0
