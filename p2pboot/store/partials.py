"""An artifact while it arrives: pieces in any order from several threads, checked before they are written.

Long pieces are written one by one. Short ones may be taken into memory, where they count as held at once, and be
written many at a time: handing one to a thread costs more than checking it.

On the disk a partial is a file of the artifact's full size that is one hole at first, and takes room as pieces come:
anybody can sign or claim a size. Where nobody showed a piece, nothing stays. Which of the pieces are good is not
recorded anywhere: after a crash those for which there is data are hashed again against the table. So there is no bitmap
on disk that could claim more than the disk kept. What is not good stays where it is, until it is written over or the
file is finished: a table may be a stranger's lie, and the next one know it for good.

Pieces of zeros are told by their digests. They stay holes and are held from the start: nobody is asked for them, and a
mostly empty image takes as much disk as it has content.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from blake3 import blake3

from p2pboot.core.changes import ChangeRing
from p2pboot.core.pieces import PieceSet, PieceTable
from p2pboot.errors import BlobCorrupt, BlobMissing, MachineError, StoreError, machine_error
from p2pboot.store.algorithms import Algorithm
from p2pboot.store.durable import disk_error, fsync_directory, make_directory, write_at
from p2pboot.store.holes import data_ranges, make_zeros
from p2pboot.store.reading import PieceMismatch, examine, good_pieces, pread_exactly
from p2pboot.store.recent import SMALL_PIECE, RecentPieces
from p2pboot.store.room import Plan

HASH_CHUNK_BYTES: Final = 1024 * 1024
MOST_TAKEN: Final = 8 * 1024 * 1024
"""Bytes that may wait to be written."""

_SERIALS: Final = 2**48


class _State(enum.Enum):
    OPEN = enum.auto()
    FINISHED = enum.auto()
    CLOSED = enum.auto()


class PartialBlob:
    """One artifact that is being fetched; all methods may be called from any thread.

    Made by `BlobStore.begin`. Invariants: a piece in `_held` was checked, and is written or in `_taken`; a piece is
    written by one thread only (`_writing`); the file descriptor stays open while a write, a sync or a hash is under
    way. The whole's digest is of the checked bytes in memory where pieces come in order, and of what is read back
    where they do not.
    """

    def __init__(
        self,
        path: Path,
        final: Path,
        *,
        digest: str,
        table: PieceTable,
        algorithm: Algorithm,
        plan: Plan,
        proved: Callable[[str, PieceTable], None],
        ended: Callable[[PartialBlob], None],
    ) -> None:
        """Open the file at `path` and find out which of its pieces are good.

        Args:
            path: where the partial lies or will lie; its directory exists.
            final: where the finished artifact belongs.
            digest: of the artifact, hex.
            table: of the artifact.
            algorithm: of the digest.
            plan: what it is part of; is told what is written.
            proved: called with digest and table before the finished artifact gets its place: it has this table, which
                has to be durable afterwards.
            ended: called once when the partial is finished, discarded or closed.

        Raises:
            StoreFull: the quota does not allow it.
            MachineError: disk full, no permission, or another process fetches this artifact. Where it was not begun
                before, there is no file then.
        """
        self.digest = digest
        self.table = table
        self.path = path
        self._name = algorithm.what + digest  # in messages
        self._new_hash = algorithm.begin
        self._final = final
        self._plan = plan
        self._proved = proved
        self._ended = ended
        self._changed = threading.Condition()  # guards everything below but the hash
        self._state = _State.OPEN
        self._writing: set[int] = set()
        self._taken: dict[int, bytes] = {}  # checked and not written yet
        self._recent = RecentPieces()
        self._is_shown = False  # the plan has been told that somebody has pieces, which may take long
        self._syncing = False
        self._hashing = threading.Lock()  # guards the hash, and comes before `_changed`
        self._hash = self._new_hash()
        self._hashed = 0
        self.changes = ChangeRing(secrets.randbelow(_SERIALS) + 1)
        """For who follows it from its owner's thread, which puts down there what happens; empty at first."""
        self.zeros = table.zeros()
        """The pieces that are nothing but zeros and so are held from the start."""
        self._held = self.zeros
        self._fd, fresh = _open_locked(path, table, self._name)
        self._is_new = fresh
        try:
            if not fresh:
                self._held = self._resume()
            plan.begin(digest, sum(table.span(index)[1] for index in self._held.missing()))
        except BaseException:
            self._close_file(unlink=fresh)
            raise

    @property
    def _fetched(self) -> PieceSet:
        """The pieces held that somebody had to give."""
        return self._held - self.zeros

    def _resume(self) -> PieceSet:
        """Find out which pieces are good in what an earlier process left; where zeros belong, make them."""
        try:
            there = self._pieces_with_data()
            good = good_pieces(self._fd, self.table, there - self.zeros)
        except OSError as error:
            raise machine_error(error, f"read {self.path}") from error
        for offset, length in self.table.extents(there & self.zeros):
            try:
                make_zeros(self._fd, offset, length)
            except OSError as error:
                raise disk_error(error, length, self.path.parent) from error
        return good | self.zeros

    def _pieces_with_data(self) -> PieceSet:
        each = self.table.piece_length
        there = PieceSet(self.table.count)
        for offset, length in data_ranges(self._fd, self.table.size):
            there |= PieceSet.of(self.table.count, range(offset // each, (offset + length - 1) // each + 1))
        return there

    @property
    def held(self) -> PieceSet:
        """The pieces held now."""
        with self._changed:
            return self._held

    @property
    def is_open(self) -> bool:
        """Whether it is still being fetched."""
        return self._state is _State.OPEN

    def has(self, index: int) -> bool:
        """Whether a piece is held."""
        return index in self.held

    def write(self, index: int, data: bytes | bytearray | memoryview) -> bool:
        """Take a piece: check it, then write it.

        Args:
            index: of the piece.
            data: the whole piece.

        Returns:
            False when the piece is there already or another thread is writing it: nothing was done.

        Raises:
            BlobCorrupt: `data` is not the piece that the table names; nothing was written.
            BlobMissing: the partial was discarded or closed.
            MachineError: the disk is full or failed; the piece is not held.
            IndexError: no such piece.
        """
        with self._changed:
            if self._state is _State.FINISHED or index in self._held or index in self._writing:
                return False
        self._check(index, data)
        self._plan.shown()
        self._is_shown = True
        with self._changed:
            self._require_open()
            if index in self._held or index in self._writing:
                return False
            self._writing.add(index)
        offset, length = self.table.span(index)
        written = False
        try:
            if index in self.zeros:
                make_zeros(self._fd, offset, length)
            else:
                write_at(self._fd, data, offset)
            written = True
        except OSError as error:
            raise disk_error(error, length, self.path.parent) from error
        finally:
            with self._changed:
                self._writing.discard(index)
                if written:
                    self._held = self._held.with_piece(index)
                self._changed.notify_all()
        self._plan.wrote(self.digest, length)
        self._hash_from_memory(offset, data)
        return True

    def take(self, index: int, data: bytes | bytearray | memoryview) -> bool:
        """Take a short piece into memory: it is held from now on, and written with others by `write_taken`.

        Never waits for the disk. Should the process be killed before it is written, it is fetched again.

        Args:
            index: of the piece.
            data: the whole piece.

        Returns:
            False when it is to be given to `write`: because it is long, or the first, or what is not written yet is
            enough. True also when it was here before.

        Raises:
            BlobCorrupt: as `write`.
            BlobMissing: the partial was discarded or closed.
            IndexError: no such piece.
        """
        if len(data) > SMALL_PIECE or not self._is_shown or self.taken_bytes >= MOST_TAKEN:
            return False
        if index in self._held:
            return True
        self._check(index, data)
        piece = bytes(data)
        with self._changed:
            self._require_open()
            if index not in self._held and index not in self._writing:
                self._taken[index] = piece
                self._held = self._held.with_piece(index)
        self._recent.put(index, piece)
        return True

    @property
    def taken_bytes(self) -> int:
        """About how much was taken and is not written yet."""
        return len(self._taken) * self.table.piece_length

    def in_memory(self, index: int) -> bytes | None:
        """A piece that is held, if it need not be read from the disk."""
        taken = self._taken.get(index)
        if taken is None and index in self._held:
            return self._recent.get(index)
        return taken

    def write_taken(self) -> None:
        """Write what was taken so far: all of it is on the disk then, also what another thread was just writing.

        Raises:
            MachineError: the disk is full or failed; what is not written is not held any more.
        """
        with self._changed:
            if self._state is not _State.OPEN:
                return
            batch = sorted(index for index in self._taken if index not in self._writing)
            others = self._taken.keys() & self._writing
            self._writing.update(batch)
        written = 0
        try:
            for index in batch:
                write_at(self._fd, self._taken[index], self.table.span(index)[0])
                written += 1
        except OSError as error:
            raise disk_error(error, self.table.piece_length, self.path.parent) from error
        finally:
            with self._changed:
                self._writing.difference_update(batch)
                self._held -= PieceSet.of(self.table.count, batch[written:])
                pieces = [self._taken.pop(index) for index in batch]
                self._changed.notify_all()
        self._plan.wrote(self.digest, sum(map(len, pieces)))
        for index, piece in zip(batch, pieces, strict=True):
            self._hash_from_memory(self.table.span(index)[0], piece)
        with self._changed:  # else whoever reads next finds a piece that is held and not there
            self._changed.wait_for(lambda: not others & self._writing)

    def _hash_from_memory(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Advance the whole's digest over a piece just written, if it is the next one: it need not be read back."""
        if offset == self._hashed and self._hashing.acquire(blocking=False):
            try:
                if offset == self._hashed:
                    self._hash.update(data)
                    self._hashed += len(data)
            finally:
                self._hashing.release()

    def hash_on(self, max_bytes: int) -> bool:
        """Advance the whole artifact's digest over the pieces held without a gap from the start; never waits.

        Pieces that are written in order are hashed then. This reads back the others.

        Args:
            max_bytes: how far at most, so that a call takes bounded time; at least 1.

        Returns:
            True when it advanced (call again), False when there is nothing to hash now or another thread is at it.

        Raises:
            MachineError: the disk failed.
        """
        if not self._hashing.acquire(blocking=False):
            return False
        try:
            with self._changed:
                if self._state is not _State.OPEN:
                    return False
                end = min(self._contiguous_end(), self._hashed + max_bytes)
            advanced = end > self._hashed
            self._hash_to(end)
            return advanced
        finally:
            self._hashing.release()

    def sync(self) -> None:
        """Have what was written so far on the disk, so that `finish` need not wait for it; two at once are one.

        Raises:
            MachineError: the disk failed.
        """
        with self._changed:
            if self._state is not _State.OPEN or self._syncing:
                return
            self._syncing = True
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise machine_error(error, f"write {self.path}") from error
        finally:
            with self._changed:
                self._syncing = False
                self._changed.notify_all()

    def finish(self) -> Path:
        """Give the complete artifact its place in the store, durably; idempotent.

        Returns:
            The artifact's path in the store.

        Raises:
            BlobCorrupt: every piece is what the table says, yet the whole's digest differs: the table is
                wrong. Fetching again does not help; `discard` it.
            StoreError: pieces are missing.
            BlobMissing: the partial was discarded or closed.
            MachineError: the disk failed. Where it gave back other bytes than were written, those pieces are
                not held any more and can be fetched again.
        """
        with self._changed:
            is_ready = self._state is _State.OPEN and self._held.complete
        if is_ready:
            self._plan.shown()  # of what is nothing but zeros nobody showed a piece
        self.write_taken()
        with self._hashing:
            with self._changed:
                if self._state is _State.FINISHED:
                    return self._final
                self._require_open()
                self._changed.wait_for(lambda: not self._writing)
                if missing := self._written().missing():
                    raise StoreError(f"{self._name} is not complete: {len(missing)} pieces are missing")
            self._hash_to(self.table.size)
            if self._hash.hexdigest() != self.digest:
                self._read_again()
            self._proved(self.digest, self.table)
            self._move_to_final()
            self._end(_State.FINISHED)
        return self._final

    def discard(self) -> None:
        """Give the artifact up and remove its file; does nothing once it is finished.

        Raises:
            MachineError: the file can not be removed.
        """
        with self._hashing:
            self._end(_State.CLOSED, unlink=True)

    def close(self) -> None:
        """Stop working on the artifact; pieces that are there stay on disk and can be resumed.

        After `finish` or `discard` it does nothing.
        """
        with contextlib.suppress(MachineError):  # what can not be written is fetched again
            self.write_taken()
        with self._hashing:
            self._end(_State.CLOSED)

    def lose(self, index: int) -> None:
        """A piece read back differs from what was written: it is not held any more, and is fetched again."""
        with self._hashing, self._changed:
            if self._state is _State.OPEN:
                self._held -= PieceSet.of(self.table.count, [index])
                self._hash, self._hashed = self._new_hash(), 0

    def _check(self, index: int, data: bytes | bytearray | memoryview) -> None:
        if not self.table.matches(index, data):
            expected = self.table.raw[index * 32 : index * 32 + 32].hex()
            what = f"piece {index} of {self._name}"
            raise BlobCorrupt(expected, blake3(data).hexdigest(), what=what)

    def _require_open(self) -> None:
        if self._state is not _State.OPEN:
            raise BlobMissing(self.digest)

    def _written(self) -> PieceSet:
        return self._held - PieceSet.of(self.table.count, self._taken) if self._taken else self._held

    def _contiguous_end(self) -> int:
        first_missing = next(iter(self._written().missing()), self.table.count)
        return min(first_missing * self.table.piece_length, self.table.size)

    def _hash_to(self, end: int) -> None:
        try:
            while self._hashed < end:
                length = min(HASH_CHUNK_BYTES, end - self._hashed)
                index = self._hashed // self.table.piece_length
                self._hash.update(pread_exactly(self._fd, length, self._hashed, index))
                self._hashed += length
        except PieceMismatch:
            self._read_again()
        except OSError as error:
            raise machine_error(error, f"read {self.path}") from error

    def _read_again(self) -> None:
        """Find out whose fault a wrong digest is; returns when all is well at second sight."""
        before = self.held  # what is written meanwhile may have come after its piece was read here
        good, actual = examine(self._fd, self.table, self._new_hash())
        lost = before - good
        with self._changed:
            self._held -= lost
            self._hash, self._hashed = self._new_hash(), 0
        if lost:
            raise MachineError(
                f"{self.path}: {len(lost)} pieces read back differ from what was written",
                remedy="check the disk and the memory of this machine; the pieces will be fetched again",
            )
        if good.complete and actual != self.digest:
            raise BlobCorrupt(self.digest, actual)

    def _move_to_final(self) -> None:
        try:
            os.ftruncate(self._fd, self.table.size)  # it may have been resumed by a table that claimed more
            os.fsync(self._fd)
            make_directory(self._final.parent)
            self.path.replace(self._final)
            fsync_directory(self._final.parent)
            fsync_directory(self.path.parent)
        except OSError as error:
            raise machine_error(error, f"move {self.path} to {self._final}") from error

    def _end(self, state: _State, *, unlink: bool = False) -> None:
        with self._changed:
            if self._state is not _State.OPEN:
                return
            self._state = state
            # A descriptor closed under a write could be another file's by the time the write happens.
            self._changed.wait_for(lambda: not (self._writing or self._syncing))
            try:
                self._close_file(
                    unlink=unlink or (state is _State.CLOSED and self._is_new and not self._fetched)
                )
            finally:
                self._plan.drop(self.digest)
                self._ended(self)

    def _close_file(self, *, unlink: bool) -> None:
        try:
            if unlink:  # while it is locked: another process may take it over as soon as it is closed
                self.path.unlink(missing_ok=True)
        except OSError as error:
            raise machine_error(error, f"remove {self.path}") from error
        finally:
            os.close(self._fd)


def _open_locked(path: Path, table: PieceTable, name: str) -> tuple[int, bool]:
    """Open or create the partial's file, lock it against other processes, and give it its size."""
    try:
        fd = _open_current(path)
    except BlockingIOError:
        raise MachineError(
            f"{name} is being fetched by another process in {path.parent}",
            remedy="wait for that process, or choose another --state directory",
        ) from None
    except OSError as error:
        raise machine_error(error, f"open {path}") from error
    fresh = os.fstat(fd).st_size == 0
    try:
        try:
            if os.fstat(fd).st_size < table.size:
                os.ftruncate(fd, table.size)  # a hole, of no room
            fsync_directory(path.parent)
        except OSError as error:
            if fresh:
                path.unlink(missing_ok=True)
            raise disk_error(error, table.size, path.parent) from error
    except BaseException:
        os.close(fd)
        raise
    return fd, fresh


def _open_current(path: Path) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(fd), path.stat()):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(
            fd
        )  # finished or discarded by another process between open and lock: not the partial any more
