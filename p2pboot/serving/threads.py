"""A few threads for what blocks (the database, the disk, hashing), and whose turn it is to use them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio

from p2pboot.core.origins import Party
from p2pboot.core.shares import FairQueue

T = TypeVar("T")


class Threads:
    """Runs blocking calls.

    Args:
        limit: how many at the same time; others wait.
    """

    def __init__(self, limit: int) -> None:
        self._limiter = trio.CapacityLimiter(limit)

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call it in a thread; raises what it raises."""
        return await trio.to_thread.run_sync(call, *arguments, limiter=self._limiter)


class Turns:
    """Lets a few work at the same time, and while others wait, origin after origin, and of each peer after peer.

    Args:
        limit: how many at the same time.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: FairQueue[trio.Event] = FairQueue()

    @asynccontextmanager
    async def take(self, party: Party) -> AsyncIterator[None]:
        """Wait for a turn, which lasts as long as the block."""
        if self._free and not self._waiting:  # the same as below, at a quarter of the cost
            self._free -= 1
            self._waiting.rest()
            try:
                yield
            finally:
                self._free += 1
                self._begin()
            return
        turn = trio.Event()
        self._waiting.push(party, turn)
        self._begin()
        try:
            if not turn.is_set():
                await turn.wait()
            yield
        finally:
            if turn.is_set():
                self._free += 1
                self._begin()
            else:
                self._waiting.discard(party, turn)

    def charge(self, party: Party, turns: float) -> None:
        """Have a party's next turn come later, for what it has cost beyond the turn that it had."""
        self._waiting.charge(party, turns)

    def _begin(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            self._waiting.pop().set()
