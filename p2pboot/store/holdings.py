"""Where content lies: served in place, whole in the store, or arriving; and what was there and is damaged.

Owns the dictionaries of these places and their lock, which is never held over the disk. What is read there, `blobs`
checks, and tells when it is not what it was.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.digests import check_digest, is_digest
from p2pboot.core.pieces import PieceTable
from p2pboot.store.algorithms import SHA256, Algorithm
from p2pboot.store.blobfiles import BlobFiles, ReadBlobFiles
from p2pboot.store.hashes import FileIdentity, HashCache
from p2pboot.store.hashing import HashedPath
from p2pboot.store.inplace import InPlaceFiles
from p2pboot.store.partials import PartialBlob
from p2pboot.store.recent import PiecesAhead
from p2pboot.store.tables import TableIndex

TICK_NS: Final = 10_000_000_000
"""Within so long of its last change a file may have been changed again and look the same: more than the coarsest clock
of a file system (FAT: 2 s), and no longer than a publisher waits until a file is quiet."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A whole artifact in the store. Nobody but the store should write there, yet disks rot."""

    path: Path
    table: PieceTable

    def fits(self) -> bool:
        """Whether it has the right size, as far as can be told without reading it."""
        try:
            return self.path.stat().st_size == self.table.size
        except OSError:
            return True  # removed meanwhile or not accessible, which opening it says better and is not damage


@dataclass(frozen=True, slots=True)
class Damage:
    """Content that was verified and is not what it was, although nobody wrote it.

    Args:
        digest: of the artifact.
        path: of the file.
        identity: of a file that is served in place, as it was; None: it is the store's own.
    """

    digest: str
    path: Path
    identity: FileIdentity | None = None


class Holdings:
    """See above; any thread.

    Args:
        files: of the store.
        tables: the piece tables of what is in it.
        hashes: to be told of files that are not what was hashed.
        algorithm: of the digests.
        ahead: pieces in memory, which are forgotten when the disk turns out to be wrong.
    """

    def __init__(
        self,
        files: BlobFiles | ReadBlobFiles,
        tables: TableIndex,
        hashes: HashCache,
        algorithm: Algorithm,
        ahead: PiecesAhead,
    ) -> None:
        self._files = files
        self._tables = tables
        self._hashes = hashes
        self._algorithm = algorithm
        self._ahead = ahead
        self._lock = threading.Lock()
        self._in_place = InPlaceFiles()
        self._active: dict[str, PartialBlob] = {}
        self._damaged: dict[str, None] = {}  # in the order in which it was noticed
        self._damage: dict[Path, Damage] = {}

    def of(self, digest: str) -> Iterator[HashedPath | StoredFile | PartialBlob]:
        """The places that have something of the artifact, whole ones first."""
        # Looked for before the others: when it is finished meanwhile it is one of them.
        partial = self.arriving(digest)
        yield from self.whole(digest)
        if partial is not None:
            yield partial

    def whole(self, digest: str) -> Iterator[HashedPath | StoredFile]:
        """The places that have the whole artifact, as far as can be told without reading it."""
        if not is_digest(digest):
            return
        for file in self.in_place(digest):
            if self._is_there(digest, file):
                yield file
        path = self._files.whole(digest)
        if os.path.exists(path):  # Path.exists raises on EACCES
            for table in self._tables.of(digest).values():
                stored = StoredFile(path, table)
                if stored.fits():
                    yield stored
                else:
                    self.lost(digest, stored)
                break  # any of them is as good

    def everywhere(self, digest: str) -> Iterator[tuple[Path, HashedPath | None]]:
        """Where the whole artifact lies: files in place, and the store's own, even if the database lost its tables."""
        files = [file for file in self.whole(digest) if isinstance(file, HashedPath)]
        yield from ((file.path, file) for file in files)
        path = self._files.whole(digest)
        if is_digest(digest) and os.path.exists(path):
            yield path, None

    def _is_there(self, digest: str, file: HashedPath) -> bool:
        there = file.look() is not None
        with self._lock:
            if there:
                self._in_place.note_back(file)
            elif self._in_place.note_away(file):
                self._damaged[digest] = None
        return there

    # served in place

    def register(self, file: HashedPath) -> None:
        """Serve a file where it lies, in place of what was registered at its path."""
        with self._lock:
            before = self._in_place.at(file.path)
        if before is not None and before.digest == file.digest and before.table != file.table:
            self._tables.put(file.digest, before.table)  # an earlier manifest may name it
        with self._lock:
            self._in_place.add(file)

    def serve(self, files: Iterable[HashedPath]) -> None:
        """Serve these files where they lie, and no others."""
        in_place = InPlaceFiles()
        for file in files:
            check_digest(file.digest)
            in_place.add(file)
        with self._lock:
            self._in_place = in_place

    def in_place(self, digest: str) -> list[HashedPath]:
        """The files with this content that are served where they lie."""
        with self._lock:
            return self._in_place.of(digest)

    def all_in_place(self) -> list[HashedPath]:
        """Every file that is served where it lies."""
        with self._lock:
            return self._in_place.all()

    def confirm(self, file: HashedPath, identity: FileIdentity) -> None:
        """A file has the same content under another identity, unless its path was registered again meanwhile."""
        with self._lock:
            self._in_place.confirm(file, identity)

    def forget_away(self, referenced: Set[str]) -> None:
        """Forget files that are away and that nobody needs."""
        with self._lock:
            self._in_place.forget_away(referenced)

    # arriving

    def begun(self, partial: PartialBlob) -> None:
        """An artifact begins to arrive."""
        with self._lock:
            self._active[partial.digest] = partial

    def ended(self, partial: PartialBlob) -> None:
        """It does not any more: it is whole, or given up."""
        with self._lock:
            self._active.pop(partial.digest, None)

    def arriving(self, digest: str) -> PartialBlob | None:
        """What is being fetched of an artifact."""
        return self._active.get(digest)  # without the lock: the event loop asks, too, and waits for nothing

    def all_arriving(self) -> list[PartialBlob]:
        """All that is being fetched."""
        with self._lock:
            return list(self._active.values())

    def cut_so(self, table_digest: str) -> list[str]:
        """The artifacts that arrive, or are served in place, by the table with this digest."""
        with self._lock:
            here = [file.digest for file in self._in_place.all() if file.table.digest == table_digest]
            return here + [digest for digest, one in self._active.items() if one.table.digest == table_digest]

    # damaged

    def is_damaged(self, digest: str) -> bool:
        """Whether an artifact was found changed on disk since `take_damaged` was called last."""
        with self._lock:
            return digest in self._damaged

    def take_damaged(self) -> tuple[str, ...]:
        """The artifacts found changed on disk since the last call, to be fetched or hashed again."""
        with self._lock:
            damaged, self._damaged = tuple(self._damaged), {}
            return damaged

    def damage(self) -> tuple[Damage, ...]:
        """What the disk changed, until it is forgotten; bounded by what was ever held."""
        with self._lock:
            return tuple(self._damage.values())

    def forget_damage(self, damage: Damage) -> None:
        """It is mended, or nobody needs it any more."""
        with self._lock:
            if self._damage.get(damage.path) == damage:
                del self._damage[damage.path]

    def lost(self, digest: str, file: HashedPath | StoredFile | None) -> None:
        """What is there is not what was verified: stop offering it, and remember to mend it."""
        self._ahead.clear()
        damage: Damage | None = None
        if isinstance(file, HashedPath):
            if self._is_rot(file):
                self._hashes.distrust(file.identity)
                damage = Damage(digest, file.path, file.identity)
            else:
                self._hashes.forget(file.identity)
            with self._lock:
                self._in_place.remove(file)
        else:
            damage = Damage(digest, self._files.whole(digest))
            self._files.demote(digest)
        with self._lock:
            self._damaged[digest] = None
            if damage is not None:
                self._damage[damage.path] = damage

    def _is_rot(self, file: HashedPath) -> bool:
        """Whether nobody wrote a file that has other content; one that changed just now may look as it was."""
        is_old = time.time_ns() - file.identity.ctime_ns > TICK_NS
        return is_old and self._algorithm is SHA256 and file.look() == file.identity
