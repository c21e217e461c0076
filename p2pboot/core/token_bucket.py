"""The token bucket: how often something may be done, whatever it is, without a clock of its own."""

from __future__ import annotations


class TokenBucket:
    """A token bucket: `rate` tokens come in each second, and up to `burst` are kept for later.

    Args:
        rate: tokens per second, above 0.
        burst: the most that can be taken at once without waiting; the bucket starts full.
        now: seconds on a clock that does not jump; every later call gives the same clock's time.
    """

    def __init__(self, rate: float, burst: float, now: float) -> None:
        if not (rate > 0 and burst > 0):
            raise ValueError(f"a bucket needs a rate and a burst above 0, not {rate} and {burst}")
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._filled_at = now

    @property
    def burst(self) -> float:
        """The most that it can hold."""
        return self._burst

    def take(self, amount: float, now: float) -> float:
        """Take tokens, on credit if need be; returns the seconds to wait before using them.

        Credit lets an amount beyond the burst through, and keeps the order: who comes later waits longer.
        """
        self._fill(now)
        self._tokens -= amount
        return max(0.0, -self._tokens / self._rate)

    def try_take(self, amount: float, now: float) -> bool:
        """Take tokens if there are as many; otherwise none."""
        self._fill(now)
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True

    def give_back(self, amount: float, now: float) -> None:
        """Return tokens that were taken and not needed."""
        self._tokens += amount
        self._fill(now)

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `try_take` of this amount can succeed."""
        self._fill(now)
        return max(0.0, (amount - self._tokens) / self._rate)

    def _fill(self, now: float) -> None:
        elapsed = max(0.0, now - self._filled_at)
        self._tokens = min(self._burst, self._tokens + elapsed * self._rate)
        self._filled_at = now
