"""Takes a snapshot chunk by chunk, in order, and believes nothing: as the source system's consumer does.

Every chunk is judged before anything is kept of it, so a chunk that is refused changes nothing and the right
one may follow, from anybody. The snapshot becomes visible in the store only when the last chunk is there and
root and signature are right.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Self

from p2pboot.core.identity import PublicKey
from p2pboot.core.pieces import MAX_PIECE, PieceTable
from p2pboot.core.timetoke.chunks import MAX_TOTAL, SnapshotChunk
from p2pboot.core.timetoke.errors import (
    ChunkCorrupt,
    ChunkLengthMismatch,
    ChunkOutOfOrder,
    DuplicateChunk,
    ExcessChunk,
    ForeignChunk,
    RootMismatch,
    SignatureMissing,
    SnapshotMalformed,
    TotalMismatch,
)
from p2pboot.core.timetoke.manifests import chunk_manifest_length
from p2pboot.core.timetoke.reader import Payload, SnapshotReader
from p2pboot.core.timetoke.records import TimetokeSnapshotHandle
from p2pboot.core.timetoke.signatures import PayloadSignature
from p2pboot.store.snapshots.base import SnapshotStore


class TimetokeSnapshotConsumer:
    """Receives one snapshot; a context manager, which gives up what is not complete.

    Args:
        store: where the snapshot goes.
        root: of the snapshot, 64 hex digits.
        total_chunks: how many chunks there will be, 1 to 65,536: bounded before anything is allocated.
        signature: text of its signature; None when it has none.
        keys: whose signature it must be. Empty: only its form is checked.
        require_signature: refuse a snapshot without one.
        table: its chunk table, from an announcement: then a wrong chunk is recognised at once. Without it
            the whole payload is judged at the end.
        timetoke_root: what the payload must state, where it is known. Where it is not, the source system's manifest
            of chunks is taken as well; the handle has no timetoke root then, and no records.

    Raises:
        ValueError: the number of chunks is out of bounds, or is not the table's.
        SnapshotSignatureError: the signature is missing where one is required, or is none.
    """

    def __init__(
        self,
        store: SnapshotStore,
        root: str,
        *,
        total_chunks: int,
        signature: str | None = None,
        keys: Sequence[PublicKey] = (),
        require_signature: bool = False,
        table: PieceTable | None = None,
        timetoke_root: str | None = None,
    ) -> None:
        if not 1 <= total_chunks <= MAX_TOTAL:
            raise ValueError(f"a snapshot has 1 to {MAX_TOTAL} chunks, not {total_chunks}")
        if table is not None and table.count != total_chunks:
            raise ValueError(f"the chunk table names {table.count} chunks, not {total_chunks}")
        if signature is None and require_signature:
            raise SignatureMissing(f"snapshot {root}")
        self._signature_text = signature
        self._signature = None if signature is None else PayloadSignature.parse(signature)
        self.root = root
        self.total_chunks = total_chunks
        self._keys = tuple(keys)
        self._table = table
        self._timetoke_root = timetoke_root
        self._chunk_length: int | None = None if table is None else table.piece_length
        self._next = 0
        self._finished = False
        self._open = ExitStack()
        self._draft = self._open.enter_context(store.draft())

    @property
    def next_index(self) -> int:
        """The chunk that must come now; the number of chunks when all are there."""
        return self._next

    def expected_root(self) -> str:
        """The root of the snapshot; a method, as the two that follow, because it is one in the source system."""
        return self.root

    def received_chunks(self) -> int:
        """How many chunks were taken."""
        return self._next

    def is_finished(self) -> bool:
        """Whether all chunks were taken and the snapshot is in the store."""
        return self._finished

    def ingest_chunk(self, chunk: SnapshotChunk) -> TimetokeSnapshotHandle | None:
        """Take the next chunk.

        Returns:
            None while more must follow; after the last the handle of the snapshot, now in the store.

        Raises:
            ExcessChunk, ForeignChunk, TotalMismatch, DuplicateChunk, ChunkOutOfOrder, ChunkLengthMismatch,
                ChunkCorrupt: this chunk is refused; nothing changed.
            RootMismatch, SignatureMismatch, SnapshotMalformed: all chunks together are not the snapshot. It
                is given up: begin again with another consumer, and another peer.
            MachineError: the disk is full or fails.
        """
        self._judge(chunk)
        self._draft.write(chunk.data)
        self._next += 1
        return self._complete() if self._next == self.total_chunks else None

    def close(self) -> None:
        """Give up what is not complete; idempotent."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _judge(self, chunk: SnapshotChunk) -> None:
        place = (self.root, chunk.index)
        if chunk.root != self.root:
            raise ForeignChunk(*place, f"it is of snapshot {chunk.root[:64]}")
        if chunk.total != self.total_chunks:
            raise TotalMismatch(*place, f"it states {chunk.total} chunks instead of {self.total_chunks}")
        if self._next == self.total_chunks or not 0 <= chunk.index < self.total_chunks:
            raise ExcessChunk(*place, f"there are {self.total_chunks} chunks, and no more")
        if chunk.index < self._next:
            raise DuplicateChunk(*place, "it was ingested already")
        if chunk.index > self._next:
            raise ChunkOutOfOrder(*place, f"chunk {self._next} must come before it")
        self._judge_content(chunk)

    def _judge_content(self, chunk: SnapshotChunk) -> None:
        place, length = (self.root, chunk.index), len(chunk.data)
        is_last = chunk.index == self.total_chunks - 1
        if self._table is not None:
            expected = self._table.span(chunk.index)[1]
            if length != expected:
                raise ChunkLengthMismatch(*place, f"it has {length} bytes instead of {expected}")
            if not self._table.matches(chunk.index, chunk.data):
                raise ChunkCorrupt(*place, "its content is not what was announced")
            return
        # Nothing says how long chunks are: the first one does, unless it is the only one.
        expected = self._chunk_length or (MAX_PIECE if is_last else length)
        allowed = 1 <= length <= expected if is_last else length == expected and 1 <= length <= MAX_PIECE
        if not allowed:
            raise ChunkLengthMismatch(*place, f"{length} bytes are not the length of a chunk here")
        self._chunk_length = expected

    def _complete(self) -> TimetokeSnapshotHandle:
        with self._open:  # whatever comes of it, the draft ends here
            root, table, payload = self._draft.seal()
            if root != self.root:
                raise RootMismatch(self.root, root)
            if self._signature is not None and self._keys:
                self._signature.check(payload, self._keys)
            timetoke_root, record_count = self._read(payload)
            self._draft.commit(self._signature_text)
        self._finished = True
        return TimetokeSnapshotHandle(
            root=root,
            total_chunks=table.count,
            record_count=record_count,
            timetoke_root=timetoke_root,
            signature=None if self._signature is None else self._signature.base64,
        )

    def _read(self, payload: Payload) -> tuple[str, int]:
        if self._timetoke_root is None and chunk_manifest_length(payload) is not None:
            return "", 0
        reader = SnapshotReader(payload)
        if self._timetoke_root not in (None, reader.timetoke_root):
            raise SnapshotMalformed(
                f"snapshot {self.root} has timetoke root {reader.timetoke_root}, not {self._timetoke_root}"
            )
        return reader.timetoke_root, reader.count()
