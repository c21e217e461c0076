"""How fast a peer delivers, estimated from whole requests that arrived."""

from __future__ import annotations

import math

_SAMPLE_S = 0.1
"""Deliveries are summed up over at least this long: several small requests often arrive in one burst."""

_SHORTEST_S = 0.001
"""What is quicker than this was waiting in a buffer."""

_NEW = 0.5
"""Weight of the newest sample: a rate that changed is believed after two or three."""

_OVERDUE_S = 0.5
"""A rate is an estimate: what is late by less is not given up on, for another peer costs a second copy."""


class RateMeter:
    """Bytes per second of one peer while it owes us something.

    Args:
        now: seconds, of the clock that all methods are given.
    """

    __slots__ = ("_busy_s", "_bytes", "_mark", "bytes_per_s")

    def __init__(self, now: float) -> None:
        self._mark = now
        self._busy_s = 0.0
        self._bytes = 0
        self.bytes_per_s: float | None = None
        """None until the first sample."""

    def start(self, now: float) -> None:
        """Nothing was owed until now: the time that passed says nothing of the peer."""
        self._mark = now

    def delivered(self, size_bytes: int, now: float) -> None:
        """A request arrived whole."""
        self._bytes += size_bytes
        self._busy_s += now - self._mark
        self._mark = now
        if self._busy_s < _SAMPLE_S:
            return
        sample = self._bytes / self._busy_s
        old = self.bytes_per_s
        self.bytes_per_s = sample if old is None else old + _NEW * (sample - old)
        self._busy_s = 0.0
        self._bytes = 0

    @property
    def guess(self) -> float | None:
        """Bytes per second, also by what is too little for a sample; None before the first request arrived."""
        if self.bytes_per_s is None and self._bytes:
            return self._bytes / max(self._busy_s, _SHORTEST_S)
        return self.bytes_per_s

    def expected_s(self, ahead_bytes: int, now: float) -> float:
        """Seconds until so many bytes will be there; infinite once they are overdue.

        Where nothing is known yet they are expected at once, and so overdue soon.
        """
        due_s = ahead_bytes / self.bytes_per_s if self.bytes_per_s else 0.0
        left = due_s - (now - self._mark)
        return math.inf if left < -_OVERDUE_S else max(left, 0.0)

    def late_s(self, ahead_bytes: int, now: float) -> float:
        """Seconds since so many bytes should have been there; none while they may still come in time."""
        due_s = ahead_bytes / self.bytes_per_s if self.bytes_per_s else 0.0
        return max(now - self._mark - due_s, 0.0)

    def best_case_s(self, size_bytes: int) -> float:
        """Seconds that so many bytes take; 0 when nothing is known, for then it is worth a try."""
        return size_bytes / self.bytes_per_s if self.bytes_per_s else 0.0
