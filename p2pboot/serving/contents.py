"""What is held, by the piece table that cuts it: artifacts, snapshots, and both while they arrive.

To look for something may wait for the disk, so what was found is known for a moment, and who waits for something that
is not here yet is told as soon as it begins to arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.core.pieces import PieceTable
from p2pboot.store.blobs import BlobStore
from p2pboot.store.partials import PartialBlob

KNOWN_S: Final = 1.0
"""So long after it was found something counts as held; while it arrives, until that is over."""

_KNOWN: Final = 256

Check = Callable[[str], object]


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """Something that is held, wholly or in part.

    Args:
        table_digest: BLAKE3 of its table.
        digest: its name in the store.
        table: as it is cut.
        partial: what there is of it while it arrives; None where it is whole.
        blobs: the store.
        check: raises where it may not be given out; blocking. None: it may.
        is_in_place: it is somebody's file, which may change, and not the store's own.
    """

    table_digest: str
    digest: str
    table: PieceTable
    partial: PartialBlob | None
    blobs: BlobStore
    check: Check | None = None
    is_in_place: bool = False

    @property
    def is_current(self) -> bool:
        """Whether it may still be what it was when it was found."""
        return self.partial is None or self.partial.is_open


class Contents:
    """Finds content by its table, in any number of stores."""

    def __init__(self) -> None:
        self._stores: list[tuple[BlobStore, Check | None, Callable[[str], bool]]] = []
        self._known: dict[str, tuple[Content, float]] = {}  # and until when
        self._awaited: dict[str, dict[Callable[[], None], None]] = {}
        self._token: trio.lowlevel.TrioToken | None = None

    def add(
        self,
        blobs: BlobStore,
        check: Check | None = None,
        may_give: Callable[[str], bool] = lambda _digest: True,
    ) -> None:
        """Look here as well.

        Args:
            blobs: the store.
            check: raises where what is whole may not be given out, by its name; blocking, asked with every request.
            may_give: whether anything of it may be given out, by its name; blocking, asked at every look.
        """
        self._stores.append((blobs, check, may_give))
        blobs.listen(self._note_begun)

    def known(self, table_digest: str) -> Content | None:
        """What was found just now; never waits."""
        content, until = self._known.get(table_digest, (None, 0.0))
        if content is None or not content.is_current:
            return None
        return content if content.partial is not None or trio.current_time() <= until else None

    def look(self, table_digest: str) -> Content | None:
        """Look for what is cut by this table and held; blocking."""
        for blobs, check, may_give in self._stores:
            found = blobs.by_table(table_digest)
            if found is not None and may_give(found[0]):
                digest, table = found
                arriving = blobs.arriving(digest)
                return Content(
                    table_digest,
                    digest,
                    table,
                    arriving,
                    blobs,
                    check if arriving is None else None,
                    bool(blobs.in_place(digest)),
                )
        return None

    def was_in_place(self, table_digest: str) -> bool:
        """Whether it was somebody's file when it was last found."""
        content, _ = self._known.get(table_digest, (None, 0.0))
        return content is not None and content.is_in_place

    def note(self, content: Content) -> None:
        """It was found."""
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[content.table_digest] = content, trio.current_time() + KNOWN_S

    @contextmanager
    def awaiting(self, table_digest: str, wake: Callable[[], None]) -> Iterator[None]:
        """Have it called when something begins to arrive that is cut by this table."""
        self._token = trio.lowlevel.current_trio_token()
        wakes = self._awaited.setdefault(table_digest, {})
        wakes[wake] = None
        try:
            yield
        finally:
            del wakes[wake]
            if not wakes:
                self._awaited.pop(table_digest, None)

    def _note_begun(self, table_digest: str) -> None:
        """In any thread."""
        if table_digest in self._awaited and self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(partial(self._wake, table_digest))

    def _wake(self, table_digest: str) -> None:
        for wake in tuple(self._awaited.get(table_digest, ())):
            wake()
