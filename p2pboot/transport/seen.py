"""Which gossip messages were validated already."""

from __future__ import annotations

from typing import Final

import trio
from cachetools import TTLCache

# The oldest go first. What was accepted was signed by somebody trusted, so strangers cannot push it out; of what was
# ignored anybody makes as much as he may send, and loses only that it is judged once more.
_MAX_ACCEPTED: Final = 16_384  # about 4 MB
_MAX_IGNORED: Final = 8_192


class SeenMessages:
    """Ids of messages that were validated, on which topic, each for `ttl_s` seconds after it was marked.

    Seeing one again does not make it live longer, or what is announced often enough would never get through.
    """

    def __init__(self, ttl_s: float) -> None:
        self._accepted: TTLCache[tuple[str, bytes], None] = TTLCache(_MAX_ACCEPTED, ttl_s, trio.current_time)
        self._ignored: TTLCache[tuple[str, bytes], None] = TTLCache(_MAX_IGNORED, ttl_s, trio.current_time)

    def add(self, topic: str, key: bytes, *, ignored: bool = False) -> None:
        """Mark a message as seen."""
        (self._ignored if ignored else self._accepted)[topic, key] = None

    def has(self, topic: str, key: bytes) -> bool:
        """Whether it is marked and has not expired."""
        return (topic, key) in self._accepted or (topic, key) in self._ignored

    def forget_ignored(self) -> None:
        """Forget what was neither accepted nor rejected."""
        self._ignored.clear()
