"""Jobs of one process that fetch the same content: one has the partial file at a time, and the others wait for it.

Two jobs may want one file by two piece tables, as two publishers cut it. Who waits has nothing to fetch once the other
is done: its own table is made of what is here then. But whom nobody gives anything may not keep another one waiting
whose peers are there: after a while they change places.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final
from weakref import WeakKeyDictionary

import trio

from p2pboot.store.blobs import BlobStore

FIRST_PATIENCE_S: Final = 10.0
LONGEST_PATIENCE_S: Final = 600.0
"""At each change what is here is read again, so that it is twice as long each time, up to this."""


class Claim:
    """One job's wish to fetch some content.

    Args:
        blob: the digest of the whole.
        table_digest: by which piece table.
    """

    def __init__(self, blob: str, table_digest: str) -> None:
        self.blob = blob
        self.table_digest = table_digest
        self.patience_s = FIRST_PATIENCE_S
        """Without a byte, until another job has its turn."""
        self.news = trio.Event()
        """Set when a job that had the same is done with it: it may be here. Whoever waits for it makes a new one."""


class Turns:
    """Whose turn it is, for one store."""

    def __init__(self) -> None:
        self._locks: dict[str, trio.Lock] = {}
        self._claims: defaultdict[str, list[Claim]] = defaultdict(list)
        self._waiting: set[Claim] = set()

    @classmethod
    def of(cls, blobs: BlobStore) -> Turns:
        """Those of an open store."""
        return _TURNS.setdefault(blobs, cls())

    @contextmanager
    def claim(self, blob: str, table_digest: str) -> Iterator[Claim]:
        """Have a claim as long as the block lasts."""
        claim = Claim(blob, table_digest)
        self._claims[blob].append(claim)
        try:
            yield claim
        finally:
            self._claims[blob].remove(claim)
            if not self._claims[blob]:
                del self._claims[blob]
                self._locks.pop(blob, None)

    @asynccontextmanager
    async def take(self, claim: Claim) -> AsyncIterator[None]:
        """Have the content to oneself; waits for whoever has it."""
        lock = self._locks.setdefault(claim.blob, trio.Lock())
        self._waiting.add(claim)
        try:
            await lock.acquire()
        finally:
            self._waiting.discard(claim)
        try:
            yield
        finally:
            lock.release()
            for each in self._claims[claim.blob]:
                each.news.set()

    def is_awaited(self, claim: Claim) -> bool:
        """Whether a job waits for whoever has the turn that would fetch the same by another table."""
        return any(
            each.blob == claim.blob and each.table_digest != claim.table_digest for each in self._waiting
        )


_TURNS: WeakKeyDictionary[BlobStore, Turns] = WeakKeyDictionary()
"""For each open store: whichever jobs use it, of whichever part of the program."""
