"""Which file of a snapshot directory is which snapshot.

The directory is the truth: what somebody copies into it is found, what is removed is gone. Roots are computed when a
file is first seen and remembered as long as it looks the same, those of large files also when the process ends. Every
payload is registered with the state's `BlobStore` as a file that is served where it lies.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from p2pboot.core.pieces import MIB, PieceTable
from p2pboot.core.timetoke.chunks import MAX_TOTAL
from p2pboot.errors import ArtifactError, MachineError
from p2pboot.store.algorithms import BLAKE3
from p2pboot.store.hashes import FileIdentity, HashCache, HashedFile
from p2pboot.store.hashing import ChangedWhileHashing, HashedPath, hash_file
from p2pboot.store.reading import open_regular
from p2pboot.store.snapshots.walking import PAYLOAD_SUFFIX, Walk, walk
from p2pboot.store.store import Store

logger = logging.getLogger(__name__)

REMEMBERED_BYTES: Final = MIB
"""Smaller files are hashed in less time than a disk takes to write down what they are."""

_SAVED_AFTER_BYTES: Final = 1024 * MIB  # hashed: a second's work is lost when the process is killed
_FRESH_S: Final = 1.0
_SETTLED_NS: Final = 100_000_000


class SnapshotFiles:
    """The payloads of a directory, as they were when it was last looked at; for any number of threads.

    Args:
        directory: that is looked through; it exists.
        state: its state: knows digests of files, announcements, and which files are served in place.
        chunk_length: into what payloads are cut that nobody announced, bytes.
    """

    def __init__(self, directory: Path, state: Store, chunk_length: int) -> None:
        self.walked = Walk()
        """What the last look found, and left out."""
        self._directory = directory
        self._state = state
        self._chunk_length = chunk_length
        self._hashes = _LargeFiles(state.hashes)
        self._lock = threading.Lock()
        self._looked_at = -_FRESH_S
        self._by_name: Mapping[str, HashedPath] = {}  # replaced as a whole, never changed
        self._unstable: dict[str, FileIdentity] = {}  # names of files that changed while they were read

    @property
    def by_name(self) -> Mapping[str, HashedPath]:
        """Every payload, by its name relative to the directory; does not change."""
        return self._by_name

    def roots(self) -> set[str]:
        """The roots of all payloads."""
        return {file.digest for file in self._by_name.values()}

    def known(self, root: str) -> HashedPath | None:
        """A file that is known to be this payload, and untouched since; a signed copy where there is one."""
        for file in self._state.blobs.in_place(root):
            if file.look() == file.identity:
                return file
        return None

    def look(self, *, anew: bool = False) -> bool:
        """Look for files that are new or changed, and forget those that are gone.

        Args:
            anew: also right after a look.

        Returns:
            Whether a look could have found anything new, and was made.

        Raises:
            MachineError: the directory can not be read.
        """
        with self._lock:
            if self._is_fresh() and not anew:
                return False
            walked = walk(self._directory)
            files = {}
            for name, path in walked.payloads.items():
                file = self._examine(name, path, walked)
                if file is not None:
                    files[name] = file
            self._hashes.save()
            self._unstable = {name: seen for name, seen in self._unstable.items() if name in walked.payloads}
            self._state.blobs.take_damaged()  # what is gone or changed was just found out here
            self.walked = walked
            self._looked_at = time.monotonic()
            self._keep(files)
            return True

    def add(self, name: str, file: HashedPath, *, signed: bool) -> None:
        """Take a payload that was just written, without reading it again."""
        with self._lock:
            if signed:
                self.walked.signatures.add(name)
            self._keep({**self._by_name, name: file})
            self._hashes.put(file.identity, HashedFile(file.digest, file.table))
            self._hashes.save()

    def lose(self, root: str) -> None:
        """Forget files whose bytes are not what they were, however they look."""
        with self._lock:
            self._keep({name: file for name, file in self._by_name.items() if file.digest != root})

    def _keep(self, files: Mapping[str, HashedPath]) -> None:
        """Serve these files; of one payload that is there twice the signed copy comes first."""

        def rank(name: str) -> tuple[bool, int, str]:
            return name not in self.walked.signatures, name.count("/"), name

        self._by_name = files
        self._state.blobs.serve_in_place(files[name] for name in sorted(files, key=rank))

    def _is_fresh(self) -> bool:
        """Whether a look would find nothing new: peers may ask for unknown roots a thousand times a second."""
        if time.monotonic() - self._looked_at >= _FRESH_S:
            return False
        known = self.walked.directories
        if not all(_changed_at(path) == changed_at for path, changed_at in known.items()):
            return False
        return (
            time.time_ns() - max(known.values()) > _SETTLED_NS
        )  # its clock ticks: there may be a second change

    def _examine(self, name: str, path: Path, walked: Walk) -> HashedPath | None:
        """The file as a payload, hashed unless it looks as before; None for what is none, or not yet."""
        known, identity = self._by_name.get(name), identity_of(path)
        if identity is None or (known is not None and known.identity == identity):
            return None if identity is None else known
        if self._unstable.get(name, identity) != identity:
            self._wait(name, identity, walked)  # still growing: it is read again when it stands still
            return None
        try:
            return self._hash(name, path, identity.size)
        except ChangedWhileHashing:
            self._wait(name, identity_of(path), walked)
        except ArtifactError as error:
            walked.leave_out(name, error.message, is_meant=True)
        except MachineError as error:
            cause = error.__cause__
            said = cause.strerror if isinstance(cause, OSError) and cause.strerror else error.message
            walked.leave_out(name, f"can not be read: {said}", is_meant=True)
        return None

    def _hash(self, name: str, path: Path, size: int) -> HashedPath:
        announced = self._state.announcements.chunk_length(path.name.removesuffix(PAYLOAD_SUFFIX))
        length = announced or self._chunk_length
        if not 0 < size <= length * MAX_TOTAL:
            raise ArtifactError("is too large for a snapshot" if size else "is empty")
        file = hash_file(path, cache=self._hashes, piece_length=length, algorithm=BLAKE3)
        self._unstable.pop(name, None)
        return file

    def _wait(self, name: str, identity: FileIdentity | None, walked: Walk) -> None:
        if identity is not None:
            self._unstable[name] = identity
            walked.leave_out(name, "is being written", is_meant=False)


class _LargeFiles:
    """The state's hash cache, for large files only; what is new is saved in few transactions.

    Where that fails nothing is lost but time: the file is hashed again when the directory is opened again.
    """

    def __init__(self, hashes: HashCache) -> None:
        self._hashes = hashes
        self._unsaved: dict[FileIdentity, HashedFile] = {}

    def get(self, identity: FileIdentity, piece_length: int | None = None) -> HashedFile | None:
        return self._hashes.get(identity, piece_length) if identity.size >= REMEMBERED_BYTES else None

    def put(self, identity: FileIdentity, hashed: HashedFile) -> None:
        if (
            identity.size < REMEMBERED_BYTES or type(hashed.table) is not PieceTable
        ):  # odd chunks are never announced
            return
        self._unsaved[identity] = hashed
        if sum(each.size for each in self._unsaved) >= _SAVED_AFTER_BYTES:
            self.save()

    def is_distrusted(self, identity: FileIdentity) -> bool:
        return self._hashes.is_distrusted(identity)

    def save(self) -> None:
        try:
            self._hashes.put_all(self._unsaved)
        except MachineError as error:
            logger.debug("hashes of snapshots are not remembered: %s", error)
        self._unsaved = {}


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """The content of a file without copying it; OSError where it can not be read, ValueError where it is empty."""
    with (
        open(open_regular(path), "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as payload,
    ):
        yield payload


def identity_of(path: Path) -> FileIdentity | None:
    """The identity of a regular file, or of the one that a link leads to; None for anything else."""
    try:
        status = path.stat()
    except OSError:
        return None
    return FileIdentity.of(status) if stat.S_ISREG(status.st_mode) else None


def _changed_at(directory: Path) -> int | None:
    try:
        return directory.stat().st_mtime_ns
    except OSError:
        return None
