"""A few threads for what blocks: the database, the disk, hashing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import trio

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
