"""Which gossip messages were judged already."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import trio

_MAX_SEEN: Final = 32_768  # about 8 MB; the oldest goes first


class SeenMessages:
    """Ids of messages that were judged, each for `ttl_s` seconds after it was marked.

    Seeing one again does not make it live longer, or what is announced often enough would never get through.
    """

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._marked: OrderedDict[bytes, tuple[float, bool]] = OrderedDict()

    def add(self, key: bytes, *, ignored: bool = False) -> bool:
        """Mark as seen; returns whether it was new."""
        is_new = not self.has(key)
        self._marked[key] = (trio.current_time() + self._ttl_s, ignored)
        self._marked.move_to_end(key)
        if len(self._marked) > _MAX_SEEN:
            self._marked.popitem(last=False)
        return is_new

    def has(self, key: bytes) -> bool:
        """Whether it is marked and has not expired."""
        now = trio.current_time()
        while self._marked:  # in the order of time, because all live equally long
            oldest, (expiry, _) = next(iter(self._marked.items()))
            if expiry > now:
                break
            del self._marked[oldest]
        return key in self._marked

    def forget_ignored(self) -> None:
        """Forget what was neither accepted nor rejected."""
        for key in [key for key, (_, ignored) in self._marked.items() if ignored]:
            del self._marked[key]
