"""How fast something goes, and how long it still takes: honest after a pause, and when nothing comes.

One estimate for all that people are shown: commands, the status document and its page. Pure: the clock is an argument.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

WINDOW_S: Final = 10.0
"""What is older says nothing of now; much less would jump with every piece."""

_STEPS: Final = 10
"""Amounts are kept by this part of the window, so that one rate takes little memory, however many amounts come."""

LONGEST_LEFT_S: Final = 99 * 86_400
"""An estimate beyond it is none."""


class RateWindow:
    """Amounts (of bytes) over the last `WINDOW_S`.

    Args:
        now: when it begins, seconds of the clock that all methods are given.
    """

    __slots__ = ("_amounts", "_began_at", "_last_at", "_sum", "total")

    def __init__(self, now: float) -> None:
        self._began_at = now
        self._last_at: float | None = None
        self._amounts: deque[tuple[float, int]] = deque()  # the beginning of a step, and what came in it
        self._sum = 0
        self.total = 0
        """All that was ever noted."""

    def note(self, amount: int, now: float) -> None:
        """So much came."""
        self.total += amount
        self._last_at = now
        step = math.floor(now * _STEPS / WINDOW_S) * WINDOW_S / _STEPS
        if self._amounts and self._amounts[-1][0] == step:
            self._amounts[-1] = (step, self._amounts[-1][1] + amount)
        else:
            self._forget(now)
            self._amounts.append((step, amount))
        self._sum += amount

    def rate(self, now: float) -> float:
        """Amount per second lately; 0.0 when nothing came in the window."""
        self._forget(now)
        if not self._amounts:
            return 0.0
        first_s = max(self._began_at, self._amounts[0][0], now - WINDOW_S)
        # Of what has only just begun a moment would say too much.
        return self._sum / max(now - first_s, WINDOW_S / _STEPS)

    def idle_s(self, now: float) -> float:
        """Seconds since anything came, or since the beginning."""
        return max(0.0, now - (self._began_at if self._last_at is None else self._last_at))

    def _forget(self, now: float) -> None:
        while self._amounts and self._amounts[0][0] <= now - WINDOW_S:
            self._sum -= self._amounts.popleft()[1]


def left_s(left: int, rate: float) -> int | None:
    """Whole seconds that so much takes at a rate per second, rounded up; None where nobody can tell."""
    if left <= 0:
        return 0
    if rate <= 0 or left / rate > LONGEST_LEFT_S:
        return None
    return math.ceil(left / rate)
