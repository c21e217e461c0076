"""How fast something goes, and how long it still takes: honest on thin lines, after a pause, and when nothing comes.

One estimate for all that people are shown: commands, the status document and its page. Pure: the clock is an argument.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

WINDOW_S: Final = 10.0
"""What is older says nothing of now, where there is enough that is newer; much less would jump with every piece."""

STEP_S: Final = 1.0
"""Amounts are kept by so much, so that a rate takes little memory, however many come; and no rate is of less time."""

LONGEST_GAP_S: Final = 60.0
"""What came after a longer pause did not take all of the pause."""

LONGEST_LEFT_S: Final = 99 * 86_400
"""An estimate beyond it is none."""


class RateWindow:
    """Amounts (of bytes) over the last seconds, or over the last two of them where they come seldom.

    An amount is known when all of it is there: a piece of a thin line came since the one before it.

    Args:
        now: when it begins, seconds of the clock that all methods are given.
    """

    __slots__ = ("_amounts", "_sum", "total")

    def __init__(self, now: float) -> None:
        self._amounts = deque([(now, 0)])  # when the last of a step came, and how much; the first only begins
        self._sum = 0  # of all but the first
        self.total = 0
        """All that was ever noted."""

    def note(self, amount: int, now: float) -> None:
        """So much came."""
        self.total += amount
        self._sum += amount
        last_at, last = self._amounts[-1]
        if len(self._amounts) > 1 and last_at // STEP_S == now // STEP_S:
            self._amounts[-1] = now, last + amount
        else:
            self._amounts.append((now, amount))
            self._forget(now)

    def rate(self, now: float) -> float:
        """Amount per second lately; 0.0 when nothing came for twice as long as it could be expected to take."""
        self._forget(now)
        if len(self._amounts) == 1:
            return 0.0
        since = max(self._amounts[0][0], self._amounts[1][0] - LONGEST_GAP_S)
        return self._sum / max(now - since, STEP_S)

    def idle_s(self, now: float) -> float:
        """Seconds since anything came, or since the beginning."""
        return max(0.0, now - self._amounts[-1][0])

    def _forget(self, now: float) -> None:
        amounts = self._amounts
        while len(amounts) > 1 and (age_s := now - amounts[1][0]) >= WINDOW_S:
            if len(amounts) == 2 and age_s <= 2 * (amounts[1][0] - amounts[0][0]):
                break
            amounts.popleft()
            self._sum -= amounts[0][1]


def left_s(left: int, rate: float) -> int | None:
    """Whole seconds that so much takes at a rate per second, rounded up; None where nobody can tell."""
    if left <= 0:
        return 0
    if rate <= 0 or left / rate > LONGEST_LEFT_S:
        return None
    return math.ceil(left / rate)
