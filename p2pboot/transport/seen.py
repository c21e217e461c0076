"""Which gossip messages were validated already."""

from __future__ import annotations

from typing import Final

import trio
from cachetools import TTLCache

_MAX_SEEN: Final = 32_768  # about 8 MB; the oldest goes first


class SeenMessages:
    """Ids of messages that were validated, each for `ttl_s` seconds after it was marked.

    Seeing one again does not make it live longer, or what is announced often enough would never get through.
    """

    def __init__(self, ttl_s: float) -> None:
        self._was_ignored: TTLCache[bytes, bool] = TTLCache(_MAX_SEEN, ttl_s, trio.current_time)

    def add(self, key: bytes, *, ignored: bool = False) -> bool:
        """Mark as seen; returns whether it was new."""
        is_new = not self.has(key)
        self._was_ignored[key] = ignored
        return is_new

    def has(self, key: bytes) -> bool:
        """Whether it is marked and has not expired."""
        return key in self._was_ignored

    def forget_ignored(self) -> None:
        """Forget what was neither accepted nor rejected."""
        for key in [key for key, ignored in self._was_ignored.items() if ignored]:
            self._was_ignored.pop(key, None)
