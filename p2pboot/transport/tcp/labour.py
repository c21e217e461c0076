"""What a peer makes us do for little: frames, streams and turns of the event loop, less what was carried for it.

Whoever carries data pays with that. Whoever sends frames of a byte, grants a byte at a time, opens and resets streams,
or pings, has a little free, as honest peers need; beyond that each batch waits for a turn among all who do the same
(`transport.timeshare`), and the more there is behind it, the less is taken at a time: pushed back, not punished.
"""

from __future__ import annotations

from typing import Final

from p2pboot.core.token_bucket import TokenBucket

UNIT_S: Final = 4e-6
"""What a frame without a body costs, taken and answered; `Session.labour` counts in such."""

_TURN: Final = 20.0  # for waking up, receiving and deciphering
_CARRIED: Final = 512.0  # bytes that pay for one unit
_FREE_PER_S: Final = 250.0  # a thousandth of a core
_MOST_CREDIT: Final = 1000.0
_LITTLE: Final = 4096  # bytes to take at a time from one that owes


class Labour:
    """The account of one connection.

    Args:
        now: the event loop's time, as in all later calls.
    """

    def __init__(self, now: float) -> None:
        self._credit = TokenBucket(_FREE_PER_S, _MOST_CREDIT, now)
        self._done = self._moved = 0
        self._owes = False

    def note(self, done: int, moved: int, now: float) -> float:
        """Take down a turn.

        Args:
            done: units that the session ever counted.
            moved: bytes of streams that it ever carried.
            now: the time.

        Returns:
            What is to be waited for before the next one, in seconds of work; 0 for nothing.
        """
        cost_s = self.charge(_TURN + (done - self._done) - (moved - self._moved) / _CARRIED, now)
        self._done, self._moved = done, moved
        self._owes = cost_s > 0
        return cost_s

    def charge(self, units: float, now: float) -> float:
        """Take down other work; returns as `note`."""
        return 0.0 if self._credit.try_take(units, now) else units * UNIT_S

    def receives(self, most: int) -> int:
        """Bytes to take from the socket next."""
        return min(most, _LITTLE) if self._owes else most
