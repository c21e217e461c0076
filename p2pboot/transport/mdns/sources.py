"""How much is taken of what one address on the network sends: packets to read, addresses to hand on, own answers.

Datagrams say who sent them, and nobody checks it; so there is also a bound on all together, and what is told is a hint
in any case. Pure bookkeeping: whoever asks says what time it is.
"""

from __future__ import annotations

from typing import Final

from cachetools import LRUCache, TTLCache

from p2pboot.core.token_bucket import TokenBucket

PACKETS_PER_S, PACKETS_AT_ONCE = 20.0, 60.0
"""Of one address. An honest one sends a few when it comes, and one when somebody asks."""

ALL_PER_S, ALL_AT_ONCE = 400.0, 800.0
"""Of all together; reading one takes 0.1 ms."""

ANSWERS_PER_S, ANSWERS_AT_ONCE = 1.0, 3.0
"""To one who asks for an answer of his own."""

ADDRESSES: Final = 16
"""Different ones that one address tells of within ADDRESSES_S, so that it does not fill the place of all others."""

ADDRESSES_HERE: Final = 512
"""The same for this machine itself, on which there may be many nodes."""

ADDRESSES_S: Final = 60.0
REPEAT_S: Final = 15.0
"""What is told again and again is handed on so often."""

_SOURCES: Final = 512
_HANDED_ON: Final = 2048


class Sources:
    """What was taken of whom lately.

    Args:
        now: seconds on a clock that does not jump; every later call gives the same clock's time.
    """

    def __init__(self, now: float) -> None:
        self._now = now
        self._sources: LRUCache[str, _Source] = LRUCache(_SOURCES)
        self._all = TokenBucket(ALL_PER_S, ALL_AT_ONCE, now)
        self._handed_on: TTLCache[str, None] = TTLCache(_HANDED_ON, REPEAT_S, self._time)
        self.refused = 0
        """Packets and addresses that were too many."""

    def _time(self) -> float:
        return self._now

    def may_read(self, source: str, now: float) -> bool:
        """Whether one more packet from an address is read."""
        return self._count(self._of(source, now).packets.try_take(1, now) and self._all.try_take(1, now))

    def may_answer(self, source: str, now: float) -> bool:
        """Whether an address gets an answer for itself."""
        return self._of(source, now).answers.try_take(1, now)

    def may_tell(self, source: str, address: str, now: float, *, is_here: bool = False) -> bool:
        """Whether an address is handed on of which a source tells; one that was a moment ago is not.

        Args:
            source: the IP address that the packet came from.
            address: a multiaddr.
            now: the time.
            is_here: the source is this machine.
        """
        told = self._of(source, now).told
        self._now = now
        if address in self._handed_on:
            return False
        for old in [one for one, since in told.items() if now - since >= ADDRESSES_S]:
            del told[old]
        if address not in told and len(told) >= (ADDRESSES_HERE if is_here else ADDRESSES):
            return self._count(False)
        told.setdefault(address, now)
        self._handed_on[address] = None
        return True

    def forget(self, address: str) -> None:
        """It could not be handed on after all; it may be told again at once."""
        self._handed_on.pop(address, None)

    def _of(self, source: str, now: float) -> _Source:
        if source not in self._sources:
            self._sources[source] = _Source(now)
        return self._sources[source]

    def _count(self, taken: bool) -> bool:
        self.refused += not taken
        return taken


class _Source:
    """What one address was let do."""

    __slots__ = ("answers", "packets", "told")

    def __init__(self, now: float) -> None:
        self.packets = TokenBucket(PACKETS_PER_S, PACKETS_AT_ONCE, now)
        self.answers = TokenBucket(ANSWERS_PER_S, ANSWERS_AT_ONCE, now)
        self.told: dict[str, float] = {}  # addresses, and since when
