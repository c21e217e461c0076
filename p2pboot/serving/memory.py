"""The memory for replies in flight: who gets how much of it, in which order, and who loses it again.

A peer that asks for much and reads slowly makes us hold what it does not take. Three rules keep that
harmless: all replies together stay within a budget, one peer within its share, and while anybody waits for
memory, a reply whose peer has kept us waiting too long is given up with its stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf

import trio


class ByteBudget:
    """A semaphore in bytes; first come, first served, so small requests do not overtake a large one forever.

    Args:
        capacity: bytes that may be held at the same time; nobody may ask for more at once.
        patience_s: seconds that somebody waits before `when_slow` is called, and again after as many more.
        when_slow: makes holders give back, if any can be made to.
    """

    def __init__(
        self, capacity: int, *, patience_s: float = inf, when_slow: Callable[[], None] = lambda: None
    ) -> None:
        self._free = capacity
        self._waiting: deque[_Turn] = deque()
        self._patience_s = patience_s
        self._when_slow = when_slow

    @property
    def free(self) -> int:
        """Bytes that nobody holds."""
        return self._free

    async def acquire(self, size: int) -> None:
        """Wait for `size` bytes; the caller releases them."""
        if not self._waiting and size <= self._free:
            self._free -= size
            return
        turn = _Turn(size)
        self._waiting.append(turn)
        try:
            while not turn.come.is_set():
                with trio.move_on_after(self._patience_s):
                    await turn.come.wait()
                if not turn.come.is_set():
                    self._when_slow()
        except BaseException:
            self._leave(turn)
            raise

    def release(self, size: int) -> None:
        """Give back `size` bytes."""
        self._free += size
        self._serve_next()

    def _leave(self, turn: _Turn) -> None:
        if turn.come.is_set():
            self.release(turn.size)
        else:
            self._waiting.remove(turn)
            self._serve_next()

    def _serve_next(self) -> None:
        while self._waiting and self._waiting[0].size <= self._free:
            turn = self._waiting.popleft()
            self._free -= turn.size
            turn.come.set()


class _Turn:
    """A place in the queue; `come` is set when the bytes are the waiter's."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.come = trio.Event()


class Grant:
    """Memory that one reply holds until `release`; knows how long its peer has kept it waiting."""

    def __init__(self, size: int, revoke: Callable[[], None], give_back: Callable[[Grant], None]) -> None:
        self.size = size
        self.revoke = revoke
        self._give_back = give_back
        self._kept_s = 0.0
        self._waits_since: float | None = None
        self._held = True

    def begin_wait(self, now: float) -> None:
        """A write begins: until `end_wait` the peer keeps us waiting, or the grant is released."""
        self._waits_since = now

    def end_wait(self, now: float) -> None:
        """The write is over; what our own disk and upload cap take is not the peer's fault."""
        self._kept_s = self.kept_waiting_s(now)
        self._waits_since = None

    def kept_waiting_s(self, now: float) -> float:
        """Seconds that were spent in writes so far."""
        return self._kept_s + (0.0 if self._waits_since is None else now - self._waits_since)

    def release(self) -> None:
        """Give the memory back; further calls do nothing."""
        if self._held:
            self._held = False
            self._give_back(self)


class BodyMemory:
    """The budget for all replies, with one share for each peer.

    Args:
        capacity: bytes for everybody.
        patience_s: seconds in writes after which a reply may be given up for those who wait.
    """

    def __init__(self, capacity: int, patience_s: float) -> None:
        self._total = ByteBudget(capacity, patience_s=patience_s, when_slow=self._revoke_slow)
        self._patience_s = patience_s
        self._grants: dict[Grant, None] = {}  # oldest first

    @property
    def free(self) -> int:
        """Bytes that no reply holds."""
        return self._total.free

    async def acquire(self, share: ByteBudget, size: int, revoke: Callable[[], None]) -> Grant:
        """Wait for memory, first within the peer's share and only then among all.

        So a peer with many requests waits for itself, and has no more than its share queued before others.

        Args:
            share: of the peer.
            size: bytes.
            revoke: ends the stream that holds the memory, which then releases it; must not block.
        """
        await share.acquire(size)
        try:
            await self._total.acquire(size)
        except BaseException:
            share.release(size)
            raise

        def give_back(grant: Grant) -> None:
            del self._grants[grant]
            self._total.release(size)
            share.release(size)

        grant = Grant(size, revoke, give_back)
        self._grants[grant] = None
        return grant

    def _revoke_slow(self) -> None:
        now = trio.current_time()
        for grant in tuple(self._grants):
            if grant.kept_waiting_s(now) >= self._patience_s:
                grant.revoke()
