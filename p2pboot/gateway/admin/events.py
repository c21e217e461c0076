"""What is told as it changes: server-sent events (HTML Standard, section 9.2) for whoever watches.

Once a second there is one look at the node for all who watch, and none while nobody does. Nobody has a queue: who is
slower than a second gets what is newest when it comes to take it, and who takes nothing for `PATIENCE_S` is dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Final

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.core.events import Event
from p2pboot.errors import P2PBootError

log = logging.getLogger(__name__)

STREAMS: Final = 16  # at the same time, of all kinds
INTERVAL_S: Final = 1.0
PATIENCE_S: Final = 30.0
RETRY_MS: Final = 2000  # after which a browser that lost the stream asks again
QUIET_LOOKS: Final = (
    10  # without any change, after which a comment is sent: to see whether anybody is there still
)


class Kind(Enum):
    """What a stream tells."""

    DOCUMENT = "document"  # the status document
    PAGE = "page"  # the parts of the page that changed


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found, as the streams tell it.

    Args:
        parts: of each kind that was asked for, texts by their names: those that did not change since they were told
            last are not told again.
    """

    parts: Mapping[Kind, Mapping[str, str]]


Look = Callable[[frozenset[Kind]], Awaitable[Seen]]


class Events:
    """The streams of one node.

    Args:
        look: finds out what is to be told, of these kinds.
        encode: makes one event of parts that changed.
        limit: how many streams.
    """

    def __init__(
        self, look: Look, encode: Mapping[Kind, Callable[[Mapping[str, str]], bytes]], limit: int = STREAMS
    ) -> None:
        self._look = look
        self._encode = encode
        self._limit = limit
        self._open: set[EventStream] = set()
        self._is_watched = trio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, kind: Kind) -> EventStream | None:
        """A new stream, to be closed by whoever reads it; None where there are too many."""
        if len(self._open) >= self._limit:
            return None
        stream = EventStream(kind, self._encode[kind], self._open.discard)
        self._open.add(stream)
        self._is_watched.set()
        return stream

    async def run(self) -> None:
        """Look, as long as somebody watches, until cancelled."""
        while True:
            await self._is_watched.wait()
            next_at = trio.current_time() + INTERVAL_S
            try:
                seen = await self._look(frozenset(stream.kind for stream in self._open))
            except P2PBootError as error:
                log.warning("nothing is told to those who watch: %s", error, extra=Event.HTTP_FAILED())
            except Exception:  # who only watches must not end the node
                log.exception("a fault while looking for those who watch", extra=Event.HTTP_FAILED())
            else:
                for stream in tuple(self._open):
                    stream.tell(seen)
            await trio.sleep_until(next_at)
            if not self._open:
                self._is_watched = trio.Event()


class EventStream:
    """What one watcher is sent; a `gateway.body.LiveBody`."""

    patience_s = PATIENCE_S

    def __init__(
        self, kind: Kind, encode: Callable[[Mapping[str, str]], bytes], closed: Callable[[EventStream], None]
    ) -> None:
        self.kind = kind
        self._encode = encode
        self._closed = closed
        self._told: dict[str, str] = {}
        self._newest: Seen | None = None
        self._is_new = trio.Event()
        self._quiet = 0
        self._has_begun = False

    def tell(self, seen: Seen) -> None:
        """There is something newer; what was not taken yet is forgotten."""
        if self.kind in seen.parts:  # one that was opened during the look waits for the next
            self._newest = seen
            self._is_new.set()

    async def next_part(self) -> bytes:
        """Wait for something that is to be sent; never empty."""
        if not self._has_begun:
            self._has_begun = True
            return f"retry: {RETRY_MS}\n\n".encode()
        while True:
            await self._is_new.wait()
            self._is_new = trio.Event()
            assert self._newest is not None  # noqa: S101 - `tell` sets both
            parts = self._newest.parts[self.kind]
            changed = {name: text for name, text in parts.items() if self._told.get(name) != text}
            if changed:
                self._told.update(changed)
                self._quiet = 0
                return self._encode(changed)
            self._quiet += 1
            if self._quiet >= QUIET_LOOKS:
                self._quiet = 0
                return b": nothing new\n\n"

    def close(self) -> None:
        """Nobody reads it any more. Idempotent."""
        self._closed(self)
