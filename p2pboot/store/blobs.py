"""The content-addressed artifacts: whole ones, arriving ones, and the publisher's own, served where they lie.

What is held is what the directories say (see `blobfiles`): a whole artifact was verified before it got its name
there. The database only adds its piece tables, of which one is there first and goes last. So there is no state in
which the two contradict each other, whenever the power fails. Content may be cut in several ways: another table is
made from what is held, and any of them is as good for reading.

Locks, in the order in which they are taken: `_changes` (one begin, removal or retention at a time;
may be held for as long as a file is hashed), a partial's own, the database's, that of `holdings` (never held over I/O).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Final, TypeVar

from p2pboot.core.digests import check_digest, is_digest
from p2pboot.core.pieces import PieceSet, PieceTable
from p2pboot.errors import BlobMissing, Contradiction, machine_error
from p2pboot.store.algorithms import SHA256, Algorithm
from p2pboot.store.blobfiles import BlobFiles, ReadBlobFiles
from p2pboot.store.errors import BlobGone, RangeError
from p2pboot.store.hashes import FileIdentity, HashCache, HashedFile
from p2pboot.store.hashing import Examination, HashedPath, cut
from p2pboot.store.holdings import Damage, Holdings
from p2pboot.store.partials import PartialBlob
from p2pboot.store.reading import (
    PieceMismatch,
    SliceDigests,
    check_pieces,
    open_regular,
    pread_exactly,
    read_ahead,
    read_checked,
)
from p2pboot.store.recent import SMALL_PIECE, PiecesAhead
from p2pboot.store.room import Plan, Quota, Room, Yielding
from p2pboot.store.tables import TableIndex, Tables

T = TypeVar("T")

MAX_READ_BYTES: Final = 16 * 1024 * 1024  # as in the artifact protocol: it bounds the memory of a read
_LOOKS: Final = 2  # once more when `finish` moved the file between looking for it and opening it


class BlobStore:
    """All methods may be called from any thread and raise MachineError when the disk fails.

    A digest that is not 64 lowercase hex digits is simply not held; no path is made of it.
    """

    def __init__(
        self,
        directory: Path,
        tables: TableIndex,
        hashes: HashCache,
        *,
        algorithm: Algorithm = SHA256,
        quota_bytes: Quota = None,
        read_only: bool = False,
    ) -> None:
        """Take over the directories below `directory`.

        Args:
            directory: where they are, or will be.
            tables: the piece tables of what is in it.
            hashes: to be told of files that are not what was hashed.
            algorithm: of the digests.
            quota_bytes: how much the store may hold; files served in place do not count.
            read_only: change no file, whatever is found; nothing is begun then.
        """
        self.files = ReadBlobFiles(directory) if read_only else BlobFiles(directory)
        self._algorithm = algorithm
        self._tables = tables
        self._hashes = hashes
        self.room = Room(directory, self.files.sizes, quota_bytes)
        self._slices = SliceDigests()
        self._ahead = PiecesAhead()
        self._changes = threading.RLock()
        self._holdings = Holdings(self.files, tables, hashes, algorithm, self._ahead)
        self._begun: list[Callable[[str], None]] = []

    def prepare(self) -> None:
        """Make the directories that are missing, and clear away what a killed process left half-made."""
        self.files.prepare()

    def sweep(self) -> None:
        """Clear away what killed processes began without a piece of it; makes nothing."""
        self.files.sweep()

    # what is held

    def holds(self, digest: str, table_digest: str | None = None) -> bool:
        """Whether the whole artifact is here, as far as can be told without reading it.

        Args:
            digest: of the artifact.
            table_digest: how it has to be known to be cut; None: however it is.
        """
        if next(self._holdings.whole(digest), None) is None:
            return False
        return table_digest is None or table_digest in self.tables(digest)

    def tables(self, digest: str) -> Tables:
        """The piece tables of an artifact of which something is held, by their digests."""
        holdings = list(self._holdings.of(digest))
        if not holdings:
            return {}
        if isinstance(holdings[0], PartialBlob):
            return {holdings[0].table.digest: holdings[0].table}
        in_place = {file.table.digest: file.table for file in holdings if isinstance(file, HashedPath)}
        return {**in_place, **self._tables.of(digest)}

    def table(self, digest: str, table_digest: str | None = None) -> PieceTable | None:
        """A piece table of an artifact of which something is held.

        Args:
            digest: of the artifact.
            table_digest: of the table; None: the one that the newest of the manifests here names, as far as it is
                known.
        """
        tables = self.tables(digest)
        if table_digest is not None:
            return tables.get(table_digest)
        if len(tables) > 1:
            for named in self._tables.named(digest):
                if named in tables:
                    return tables[named]
        return next(iter(tables.values()), None)

    def by_table(self, table_digest: str) -> tuple[str, PieceTable] | None:
        """The artifact of which something is held that has the table with this digest: its own digest, and the table.

        One that is being fetched counts from the start by the table by which it is fetched. About 0.1 ms.
        """
        for digest in (*self._tables.cut_so(table_digest), *self._holdings.cut_so(table_digest)):
            table = self.table(digest, table_digest)
            if table is not None:
                return digest, table
        return None

    def listen(self, listener: Callable[[str], None]) -> None:
        """Have it called, in any thread, with the digest of its table when an artifact begins to arrive."""
        self._begun.append(listener)

    def known_table(self, digest: str, table_digest: str) -> PieceTable | None:
        """A piece table of an artifact of which there need be nothing here any more, or not yet."""
        return self.table(digest, table_digest) or self._tables.of(digest).get(table_digest)

    def known_tables(self, digest: str) -> Tables:
        """The piece tables that are kept of an artifact, whether anything of it is here or not, by their digests."""
        return self._tables.of(digest)

    def held(self, digest: str, table_digest: str | None = None) -> PieceSet | None:
        """The pieces held: all of a whole artifact, some of one that this process is fetching, or None.

        Arguments are those of `table`, whose pieces these are.
        """
        table = self.table(digest, table_digest)
        for holding in self._holdings.of(digest):
            if not isinstance(holding, PartialBlob):
                return None if table is None else PieceSet.full(table.count)
            if holding.table == table:
                return holding.held
        return None

    def arriving(self, digest: str) -> PartialBlob | None:
        """What this process is fetching of an artifact that is not wholly held."""
        return None if self.holds(digest) else self._holdings.arriving(digest)

    def path(self, digest: str) -> Path:
        """Where the whole artifact lies. Others may change what lies there: `read` notices, a path does not.

        Raises:
            BlobMissing: not wholly held.
        """
        for file in self._holdings.whole(digest):
            return file.path
        raise BlobMissing(digest)

    def read(self, digest: str, offset: int, length: int) -> bytes:
        """Read a range; all that is returned was checked against the piece table.

        Args:
            digest: of the artifact.
            offset: bytes from its start.
            length: 1 byte to 16 MiB; what comes back is never shorter.

        Raises:
            BlobMissing: unknown artifact, or a piece not held (yet).
            BlobGone: the bytes on disk are not those that were verified. The artifact is not held any more;
                further reads say BlobGone until `take_damaged` was called, and BlobMissing then.
            RangeError: not inside the artifact.
        """
        if length > SMALL_PIECE or not self._ahead.goes_on(digest, offset):
            data = self._read_with(read_checked, digest, offset, length)
            self._ahead.put(digest, offset, [data])
            return data
        pieces = self._read_with(read_ahead, digest, offset, length)
        self._ahead.put(digest, offset, pieces)
        return pieces[0]

    def at_hand(self, digest: str, offset: int, length: int) -> bytes | None:
        """Read a range inside of one piece where that takes microseconds and waits for nothing: from memory.

        Arguments are those of `read`, which has to be asked where this returns None.
        """
        partial = self._holdings.arriving(digest)
        if partial is None:
            return self._ahead.take(digest, offset, length)
        index, start = divmod(offset, partial.table.piece_length)
        piece = partial.in_memory(index)
        return piece[start : start + length] if piece and 1 <= length <= len(piece) - start else None

    def check(self, digest: str, offset: int, length: int) -> None:
        """Read the pieces that cover a range whole, and check them: `read` gives it bit by bit for little then.

        Arguments and exceptions are those of `read`; no more than one piece is held in memory.
        """
        self._read_with(check_pieces, digest, offset, length)

    def whole(self) -> list[str]:
        """Every artifact that is wholly here, in the store or where it lies, sorted."""
        in_place = {file.digest for file in self._holdings.all_in_place()}
        return [digest for digest in sorted(self.files.digests() | in_place) if self.holds(digest)]

    def scrub(self, digest: str, index: int) -> bool:
        """Read one piece of a whole artifact wherever it lies.

        Args:
            digest: of the artifact.
            index: of the piece, as `table` cuts it.

        Returns:
            Whether it is intact everywhere; where it is not, the artifact is not held any more (`take_damaged`).
        """
        is_intact = True
        table = self.table(digest)
        for holding in list(self._holdings.whole(digest)):
            if table is None or index >= table.count:
                break  # it went, or was cut anew
            try:
                fd = holding.open() if isinstance(holding, HashedPath) else open_regular(holding.path)
                try:
                    offset, length = table.span(index)
                    is_good = table.matches(index, pread_exactly(fd, length, offset, index))
                finally:
                    os.close(fd)
            except FileNotFoundError:
                continue  # it went, or another one came
            except PieceMismatch:
                is_good = False
            except OSError as error:
                raise machine_error(error, f"read {holding.path}") from error
            if not is_good:
                self._holdings.lost(digest, holding)
                is_intact = False
        return is_intact

    def keep_tables(self, signed: Mapping[str, Set[str]]) -> tuple[str, ...]:
        """Forget piece tables that are not what was signed; the artifacts are read against the signed ones when begun.

        Args:
            signed: by SHA-256, the BLAKE3 of every table that counts; of others nothing is known.

        Returns:
            The SHA-256 of those whose table was another.
        """
        with self._changes:
            false = {}
            for digest, known in self._tables.known().items():
                if digest in signed and (others := known - (self._tables.of(digest).keys() & signed[digest])):
                    false[digest] = others
            for digest, others in false.items():
                self._tables.remove(digest, others)
            return tuple(sorted(false))

    def take_damaged(self) -> tuple[str, ...]:
        """The artifacts found changed on disk since the last call, to be fetched or hashed again."""
        return self._holdings.take_damaged()

    def damage(self) -> tuple[Damage, ...]:
        """What the disk changed, until it is forgotten; bounded by what was ever held."""
        return self._holdings.damage()

    def forget_damage(self, damage: Damage) -> None:
        """It is mended, or nobody needs it any more."""
        self._holdings.forget_damage(damage)

    # the publisher's own files

    def register_in_place(self, path: Path, digest: str, table: PieceTable, identity: FileIdentity) -> None:
        """Serve a file where it lies, for as long as this store is open.

        The same content may lie in several places.

        Args:
            path: takes the place of what was registered there before.
            digest: what hashing the file gave.
            table: what hashing the file gave.
            identity: of the file when it was hashed. Once it changes, the file is served on as long as the size is
                right, and is to be examined.

        Raises:
            ValueError: not a digest.
        """
        self._holdings.register(HashedPath(path, identity, check_digest(digest), table))

    def serve_in_place(self, files: Iterable[HashedPath]) -> None:
        """Serve these files where they lie, and no others; of several with one content the first is read first."""
        self._holdings.serve(files)
        self._ahead.clear()

    def in_place(self, digest: str) -> list[HashedPath]:
        """The files with this content that are served where they lie."""
        return self._holdings.in_place(digest)

    def has_suspects(self, digests: Set[str]) -> bool:
        """Whether a file with one of these contents was touched since it was known to have it."""
        files = [file for file in self._holdings.all_in_place() if file.digest in digests]
        return any(file.look() not in (None, file.identity) for file in files)

    def examine_in_place(self, go_on: Callable[[], None] = lambda: None) -> None:
        """Read the files that were touched since they were verified; they are served on meanwhile.

        What has other content by now is not served any more, and counts as damaged.

        Args:
            go_on: called before each piece; what it raises ends the work.
        """
        for file in self._holdings.all_in_place():
            identity = file.look()
            if identity is None or identity == file.identity:
                continue
            try:
                found = file.examine(identity, go_on)
            except OSError as error:
                raise machine_error(error, f"read {file.path}") from error
            if found is Examination.SAME:
                self._hashes.put(identity, HashedFile(file.digest, file.table))
                self._holdings.confirm(file, identity)
            elif found is Examination.OTHER:
                self._holdings.lost(file.digest, file)

    # bringing artifacts in

    def plan(self, sizes: Mapping[str, int], yielding: Yielding | None = None) -> Plan:
        """Plan to bring in what is not here of all this; its caller closes it.

        Args:
            sizes: bytes, by digest.
            yielding: what may be given up for it.

        Raises:
            StoreFull: the quota can not hold it.
        """
        return self.room.plan({one: size for one, size in sizes.items() if not self.holds(one)}, yielding)

    def settle(
        self,
        digest: str,
        *,
        size: int,
        piece_length: int,
        table_digest: str,
        go_on: Callable[[], None] = lambda: None,
    ) -> bool:
        """Have an artifact that is here cut as somebody signed it: where that is not known yet, it is read for it.

        Args:
            digest: of the artifact.
            size: bytes.
            piece_length: bytes.
            table_digest: of the piece table.
            go_on: called before each MiB that is read; what it raises ends the work.

        Returns:
            Whether the artifact is wholly here, with this table.

        Raises:
            Contradiction: it is, and intact, and has another size or other pieces: that was signed wrongly.
            MachineError: the disk failed.
        """
        if self.holds(digest, table_digest):
            return True
        for path, file in self._holdings.everywhere(digest):
            known = None if file is None else self._hashes.get(file.identity, piece_length)
            if known is not None and (known.digest, known.table.digest) == (digest, table_digest):
                self._tables.put(digest, known.table)
                return True
            try:
                fd = open_regular(path) if file is None else file.open()
                try:
                    actual, table = cut(fd, piece_length, self._algorithm, go_on)
                finally:
                    os.close(fd)
            except FileNotFoundError:
                continue  # it went, or another one came
            except OSError as error:
                raise machine_error(error, f"read {path}") from error
            if actual != digest:
                self._holdings.lost(digest, file)
                continue
            if table is None or (table.size, table.digest) != (size, table_digest):
                raise Contradiction(
                    f"{self._algorithm.what}{digest} is here and has not the size and the pieces that were signed"
                )
            self._tables.put(digest, table)
            return True
        return False

    def begin(self, digest: str, table: PieceTable, plan: Plan | None = None) -> PartialBlob | None:
        """Start or go on fetching an artifact.

        There is one PartialBlob for each artifact, whatever its table: whoever began it closes or finishes it before it
        is begun again. One that was left by a crash, or begun by another table, is resumed with its good pieces: those
        of the present table of which all bytes came.

        Args:
            digest: of an artifact of a manifest in the catalogue (else `retain` may remove it at any time).
            table: the artifact's piece table, as far as anybody knows.
            plan: what it is part of; None for something of its own.

        Returns:
            None when the artifact is wholly held: there is nothing to fetch.

        Raises:
            ValueError: not a digest.
            StoreFull: the quota does not allow it.
            Contradiction: the artifact is held, and the table is not true of it.
            MachineError: the disk has no room for it (nothing is left behind), or it is being fetched already.
        """
        with self._changes:
            if self.settle(
                check_digest(digest),
                size=table.size,
                piece_length=table.piece_length,
                table_digest=table.digest,
            ):
                return None
            return self._open_partial(digest, table, plan or self.room.plan({digest: table.size}))

    def remove(self, digest: str) -> None:
        """Remove an artifact from the store, whole or partial; files served in place are served on."""
        with self._changes:
            partial = self._holdings.arriving(digest)
            if partial is not None:
                partial.discard()
            if is_digest(digest) and self.files.unlink(digest):
                self._tables.remove(digest)
            self._ahead.clear()

    # room

    @property
    def quota_bytes(self) -> Quota:
        """How much the store may hold; can be changed at any time."""
        return self.room.quota

    @quota_bytes.setter
    def quota_bytes(self, quota: Quota) -> None:
        self.room.quota = quota

    def sizes(self) -> dict[str, int]:
        """The size of every artifact of which there is a file in the store, holes included."""
        return self.files.sizes()

    def used_bytes(self) -> int:
        """What counts for the quota: the sizes of whole artifacts and partials, as if they had no holes."""
        return self.room.used_bytes()

    @contextlib.contextmanager
    def standstill(self) -> Iterator[None]:
        """While this is held no artifact is begun or removed by another thread."""
        with self._changes:
            yield

    def keep_only(self, referenced: Mapping[str, Set[str]]) -> tuple[str, ...]:
        """Remove what is neither referenced nor being fetched by anybody; called under `standstill`.

        Of files in place only those are forgotten that are not there any more.

        Args:
            referenced: by the digest of each artifact, those of its tables; others go, once it has one of these.

        Returns:
            The digests of what was removed.
        """
        self._holdings.forget_away(referenced.keys())
        held, known = self.files.digests(), self._tables.known()
        removed = []
        for digest in sorted((held | known.keys()) - referenced.keys()):
            if self._holdings.arriving(digest) is None and self.files.unlink(digest):
                self._tables.remove(digest)
                if digest in held:
                    removed.append(digest)
        for digest in known.keys() & referenced.keys():
            others = known[digest] - referenced[digest]
            if others and (others < known[digest] or digest not in held):
                self._tables.remove(digest, others)
        return tuple(removed)

    def drop_partials(self, wanted: Set[str]) -> None:
        """Remove what fetches left of anything but this, unless somebody goes on with it."""
        with self._changes:
            for digest in self.files.partials() - wanted:
                if os.path.exists(self.files.whole(digest)) or self._holdings.arriving(digest) is not None:
                    continue
                if self.files.unlink(digest) and not self._holdings.in_place(digest):
                    self._tables.remove(digest)

    def close(self) -> None:
        """Stop fetching; what is on its way can be resumed. Idempotent."""
        for partial in self._holdings.all_arriving():
            partial.close()

    # inside

    def _read_with(
        self,
        way: Callable[[int, PieceTable, int, int, SliceDigests], T],
        digest: str,
        offset: int,
        length: int,
    ) -> T:
        """Read a range in one of two ways, wherever it is intact; see `read`."""
        for _ in range(_LOOKS):
            moved = False
            for holding in self._holdings.of(digest):
                pieces = _covering(holding.table, offset, length)
                if isinstance(holding, PartialBlob):
                    if not all(map(holding.has, pieces)):
                        continue
                    holding.write_taken()
                try:
                    fd = holding.open() if isinstance(holding, HashedPath) else open_regular(holding.path)
                    try:
                        return way(fd, holding.table, offset, length, self._slices)
                    finally:
                        os.close(fd)
                except PieceMismatch as mismatch:
                    if isinstance(holding, PartialBlob):
                        holding.lose(mismatch.index)
                    else:
                        self._holdings.lost(digest, holding)
                except FileNotFoundError:
                    moved = True
                except OSError as error:
                    raise machine_error(error, f"read {holding.path}") from error
            if not moved:
                break
        raise BlobGone(digest) if self._holdings.is_damaged(digest) else BlobMissing(digest)

    def _open_partial(self, digest: str, table: PieceTable, plan: Plan) -> PartialBlob:
        path = self.files.partial(digest)
        self.files.make_room(digest)
        partial = PartialBlob(
            path,
            self.files.whole(digest),
            digest=digest,
            table=table,
            algorithm=self._algorithm,
            plan=plan,
            proved=self._tables.put,
            ended=self._holdings.ended,
        )
        self._holdings.begun(partial)
        for listener in tuple(self._begun):
            listener(table.digest)
        return partial


def _covering(table: PieceTable, offset: int, length: int) -> range:
    """The pieces that cover a range of bytes; RangeError where that is not inside the artifact."""
    if offset < 0 or not 1 <= length <= MAX_READ_BYTES or offset + length > table.size:
        raise RangeError(table.size, offset, length)
    return range(offset // table.piece_length, (offset + length - 1) // table.piece_length + 1)
