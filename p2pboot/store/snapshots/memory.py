"""A snapshot store in memory: for tests, and for consumers that keep nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from p2pboot.core.identity import PublicKey
from p2pboot.core.pieces import PieceTable
from p2pboot.core.timetoke.chunks import DEFAULT_CHUNK, ChunkTableBuilder
from p2pboot.core.timetoke.errors import SnapshotMissing
from p2pboot.store.snapshots.base import Draft, SnapshotStore, checked_text, logger, says_the_same

if TYPE_CHECKING:
    from p2pboot.core.timetoke.reader import Payload


class MemorySnapshotStore(SnapshotStore):
    """Payloads as long as the process lives. Arguments as of `SnapshotStore`."""

    def __init__(
        self,
        *,
        chunk_length: int = DEFAULT_CHUNK,
        require_signatures: bool = False,
        keys: Sequence[PublicKey] = (),
        warn: Callable[[str], None] = logger.warning,
    ) -> None:
        super().__init__(
            chunk_length=chunk_length, require_signatures=require_signatures, keys=keys, warn=warn
        )
        self._lock = threading.Lock()
        self._payloads: dict[str, tuple[bytes, PieceTable]] = {}
        self._signatures: dict[str, str] = {}

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """Begin a payload; see `SnapshotStore.draft`."""
        yield _MemoryDraft(self)

    def roots(self) -> tuple[str, ...]:
        """The roots of all payloads, sorted."""
        with self._lock:
            return tuple(sorted(self._payloads))

    @contextmanager
    def payload(self, root: str) -> Iterator[Payload]:
        """The whole payload; see `SnapshotStore.payload`."""
        found = self._payloads.get(root)
        if found is None:
            raise SnapshotMissing(root)
        yield found[0]

    def _take(self, root: str, payload: bytes, table: PieceTable, signature: str | None) -> None:
        with self._lock:
            self._payloads.setdefault(root, (payload, table))
            kept = self._signatures.get(root)
            if signature is not None and not says_the_same(
                None if kept is None else kept.encode(), signature
            ):
                self._signatures[root] = signature

    def _find(self, root: str) -> PieceTable | None:
        found = self._payloads.get(root)
        return None if found is None else found[1]

    def _read_chunk(self, root: str, table: PieceTable, index: int) -> bytes:
        found = self._payloads.get(root)
        if found is None:
            raise SnapshotMissing(root)
        offset, length = table.span(index)
        return found[0][offset : offset + length]

    def _read_signature(self, root: str) -> tuple[bytes, str] | None:
        text = self._signatures.get(root)
        return None if text is None else (text.encode(), f"the signature of snapshot {root}")


class _MemoryDraft(Draft):
    def __init__(self, store: MemorySnapshotStore) -> None:
        self._store = store
        self._builder = ChunkTableBuilder(store.chunk_length)
        self._parts: list[bytes] = []
        self._sealed: tuple[str, PieceTable, bytes] | None = None

    def write(self, data: bytes) -> None:
        self._builder.update(data)
        self._parts.append(bytes(data))

    def seal(self) -> tuple[str, PieceTable, Payload]:
        if self._sealed is None:
            root, table = self._builder.finish()
            self._sealed = root, table, b"".join(self._parts)
            self._parts.clear()
        return self._sealed

    def commit(self, signature: str | None) -> str:
        self.seal()
        assert self._sealed is not None  # noqa: S101 - for the type checker
        root, table, payload = self._sealed
        self._store._take(root, payload, table, checked_text(signature))
        return root
