"""How late the event loop is: everything that a node does waits in it, so one number tells whether it keeps up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

EVERY_S: Final = 1.0
"""Little enough that it costs nothing; a loop that stands for longer is seen at the end of it."""

BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Of the buckets: what an idle machine has, what a loaded one has, and from a second on what somebody notices."""


class Lag:
    """A histogram; `run` fills it in the event loop's thread, any may read it."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = trio.current_time() + EVERY_S
            await trio.sleep_until(due)
            self.note(trio.current_time() - due)

    def note(self, late_s: float) -> None:
        """Put down one measurement."""
        late_s = max(late_s, 0.0)
        index = next((i for i, bound in enumerate(BOUNDS_S) if late_s <= bound), len(BOUNDS_S))
        self._counts[index] += 1
        self.sum_s += late_s

    def buckets(self) -> Sequence[tuple[float, int]]:
        """For each bound, and infinity at the end, how many measurements were at most that."""
        total, found = 0, []
        for bound, count in zip((*BOUNDS_S, float("inf")), self._counts, strict=True):
            total += count
            found.append((bound, total))
        return found
