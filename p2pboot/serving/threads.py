"""Threads of a server's own, so that slow disks hold up only who reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import trio

T = TypeVar("T")
DISK_THREADS: Final = 4
"""At the same time: enough to keep a disk busy, few enough that hashing leaves the processor to others."""

UNREADABLE: Final = "this node can not read it at the moment"
"""What a peer is told when the disk fails."""


class InThreads:
    """Runs blocking calls, a bounded number at a time; waiting for a thread is first come, first served."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(DISK_THREADS)

    async def __call__(self, function: Callable[..., T], *args: object) -> T:
        """Run `function(*args)` in a thread and return what it returns."""
        return await trio.to_thread.run_sync(function, *args, limiter=self._limiter)
