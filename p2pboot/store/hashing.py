"""Hashing a file: the digest of the whole (of an artifact SHA-256) and BLAKE3 of every piece, in one pass.

What came of it is a :class:`HashedPath`, which tells later whether the file may still be, or is, what it was.

Content that was cut before keeps its cut, whichever file it is in. That is known only at the end, so that a file of a
size that was cut in several ways is cut in all of them at once.

One thread does it all. Measured on two cores with SHA instructions (512 MiB in the page cache, best of three):
SHA-256 alone 1530 MiB/s, BLAKE3 of 1 MiB pieces alone 4300, both in turn 1240, both in two threads 1360 with
reads of 1 MiB and less with larger ones. Ten percent are not worth a second thread, and without SHA
instructions, where SHA-256 takes still more of the time, there is less to gain.
"""

from __future__ import annotations

import enum
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Set
from io import BufferedReader
from pathlib import Path
from typing import Final, Protocol

from p2pboot.core.dataclass import dataclass
from p2pboot.core.pieces import MIB, PieceTable, piece_length_for
from p2pboot.core.timetoke.chunks import ChunkTableBuilder
from p2pboot.errors import ArtifactError, machine_error
from p2pboot.store.algorithms import SHA256, Algorithm
from p2pboot.store.hashes import FileIdentity, HashedFile
from p2pboot.store.reading import open_regular

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all); what it raises ends the work."""

READ_BYTES: Final = MIB
"""What is read at once if pieces are not larger; every piece length divides it or is a multiple."""

_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)


class Cache(Protocol):
    """Remembers what files contained: :class:`p2pboot.store.hashes.HashCache`."""

    def get(self, identity: FileIdentity, piece_length: int | None = None) -> HashedFile | None:
        """Return what the file contains, cut like this or as it was last; None if that is not known."""

    def put(self, identity: FileIdentity, hashed: HashedFile) -> None:
        """Remember what the file contains."""

    def is_distrusted(self, identity: FileIdentity) -> bool:
        """Whether the disk changed the file: what it contains now is nobody's content."""


class Examination(enum.Enum):
    """What reading a suspect file gave."""

    SAME = "same"
    OTHER = "other"
    CHANGING = "changing"  # it was touched meanwhile: look again


class ChangedWhileHashing(ArtifactError):
    """A file was written to, replaced or removed while it was being hashed: it is not published like that.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} changed while it was being hashed", remedy="wait until the copy is complete"
        )
        self.path = path


@dataclass(frozen=True, slots=True)
class HashedPath:
    """A file, the state it was in, and what it contained then.

    Args:
        path: of the file.
        identity: what the file system said of it when it had that content for certain; as long as that holds, so do the
            digests.
        digest: of the whole file, 64 lowercase hex digits.
        table: the digests of its pieces.
    """

    path: Path
    identity: FileIdentity
    digest: str
    table: PieceTable

    def look(self) -> FileIdentity | None:
        """What the file system says of it now; None when it can not be the artifact, whatever it contains."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        fits = stat.S_ISREG(status.st_mode) and status.st_size == self.table.size
        return FileIdentity.of(status) if fits and os.access(self.path, os.R_OK) else None

    def open(self) -> int:
        """Open it for reading.

        Raises:
            FileNotFoundError: it is away, or something else by now.
        """
        try:
            fd = open_regular(self.path)
        except OSError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path)) from None
        if os.fstat(fd).st_size != self.table.size:
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, "it has another size", str(self.path))
        return fd

    def examine(self, identity: FileIdentity, go_on: Callable[[], None]) -> Examination:
        """Read all of it and compare it with the table, up to the first difference.

        Args:
            identity: what `look` said.
            go_on: called before each piece; what it raises ends the work.

        Raises:
            OSError: the disk fails.
        """
        try:
            fd = self.open()
        except FileNotFoundError:
            return Examination.CHANGING
        try:
            if FileIdentity.of(os.fstat(fd)) != identity:
                return Examination.CHANGING
            if not is_intact(fd, self.table, go_on):
                return Examination.OTHER
        finally:
            os.close(fd)
        return Examination.SAME if self.look() == identity else Examination.CHANGING


def is_intact(fd: int, table: PieceTable, go_on: Callable[[], None]) -> bool:
    """Read a whole file and compare it with a piece table, up to the first difference.

    One thread: BLAKE3 of pieces of 1 MiB takes 0.35 s a GiB, and a second thread gains nothing of it.

    Args:
        fd: of the file.
        table: what it should be.
        go_on: called before each piece; what it raises ends the work.

    Raises:
        OSError: the disk fails.
    """
    if os.fstat(fd).st_size != table.size:
        return False
    buffer = bytearray(min(table.piece_length, table.size))
    for index in range(table.count):
        go_on()
        offset, length = table.span(index)
        piece = memoryview(buffer)[:length]
        if not _fill(fd, piece, offset) or not table.matches(index, piece):
            return False
    return True


def sha256_of(fd: int, size: int, go_on: Callable[[], None]) -> str | None:
    """Read a whole file: its SHA-256 in hex, None where it has not this many bytes.

    Args:
        fd: of the file.
        size: bytes it should have.
        go_on: called before each MiB; what it raises ends the work.

    Raises:
        OSError: the disk fails.
    """
    if os.fstat(fd).st_size != size:
        return None
    whole, buffer = hashlib.sha256(), bytearray(min(READ_BYTES, size))
    for offset in range(0, size, READ_BYTES):
        go_on()
        part = memoryview(buffer)[: min(READ_BYTES, size - offset)]
        if not _fill(fd, part, offset):
            return None
        whole.update(part)
    return whole.hexdigest()


def cut(
    fd: int, piece_length: int, algorithm: Algorithm, go_on: Callable[[], None]
) -> tuple[str, PieceTable | None]:
    """Read a whole file: the digest that names it, and its piece table.

    Args:
        fd: of the file.
        piece_length: bytes.
        algorithm: of the digest.
        go_on: called before each MiB; what it raises ends the work.

    Returns:
        No table where there would be no piece or too many; and an empty digest where the file can not be read.

    Raises:
        OSError: the disk fails.
    """
    size = os.fstat(fd).st_size
    builder, buffer = ChunkTableBuilder(piece_length, algorithm.begin()), bytearray(min(READ_BYTES, size))
    for offset in range(0, size, READ_BYTES):
        go_on()
        part = memoryview(buffer)[: min(READ_BYTES, size - offset)]
        if not _fill(fd, part, offset):
            return "", None
        builder.update(part)
    try:
        return builder.finish()
    except ValueError:
        return builder.digest, None


def _fill(fd: int, part: memoryview, offset: int) -> bool:
    """Read exactly as much as `part` takes; False where the file ends before, or its disk fails there."""
    done = 0
    while done < len(part):
        try:
            count = os.preadv(fd, [part[done:]], offset + done)
        except OSError as error:
            if error.errno == errno.EIO:  # a bad sector: like rot
                return False
            raise
        if not count:
            return False
        done += count
    return True


Cuts = Callable[[int], Mapping[str, int]]
"""Tells of a size how content of it was cut before: the piece lengths, in bytes, by the digests of the wholes."""


def hash_file(
    path: Path,
    *,
    cache: Cache,
    piece_length: int | None = None,
    cuts: Cuts = lambda _size: {},
    progress: Progress = lambda _done, _total: None,
    algorithm: Algorithm = SHA256,
) -> HashedPath:
    """Return the digests of a file; one that the cache knows unchanged is not even opened.

    Args:
        path: a regular file with content.
        cache: asked first, told after.
        piece_length: bytes; by default that by which the same content was cut before, and for new content what suits
            the size.
        cuts: what was cut before, beside this file itself.
        progress: called about once a MiB while the file is read, in this thread.
        algorithm: of the whole file's digest; the cache knows files by this one.

    Raises:
        ArtifactError: no regular file, or empty, or damaged on the disk.
        ChangedWhileHashing: it was touched meanwhile, or is gone.
        MachineError: it can not be read.
    """
    try:
        status = path.stat()
        check_regular(path, status)
        identity = FileIdentity.of(status)
        if cache.is_distrusted(identity):
            raise ArtifactError(
                f"{shown(path)} is damaged on the disk: it is not what it was, and nobody wrote it",
                remedy="copy it there again from where it was built, and check the disk; or touch it if it is right",
            )
        before = {} if piece_length else cuts(identity.size)
        known = cache.get(identity, piece_length)
        if (
            known is not None
            and before.get(known.digest, known.table.piece_length) != known.table.piece_length
        ):
            known = cache.get(identity, before[known.digest])
        if known is None:
            usual = piece_length or piece_length_for(identity.size)
            builder = _Builder({usual, *before.values()}, algorithm)
            _hash(path, identity, builder, progress)
            known = builder.finish(lambda digest: before.get(digest, usual))
            cache.put(identity, known)
    except FileNotFoundError:
        raise ChangedWhileHashing(path) from None
    except OSError as error:
        raise machine_error(error, f"read {path}") from error
    return HashedPath(path, identity, known.digest, known.table)


def check_regular(path: Path, status: os.stat_result, *, may_be_empty: bool = False) -> None:
    """Refuse what can not be published because it is no regular file, or empty.

    Raises:
        ArtifactError: naming it and what it is.
    """
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            raise ArtifactError(f"{shown(path)} is {kind}, not a regular file", remedy="move it elsewhere")
    if status.st_size == 0 and not may_be_empty:
        raise ArtifactError(f"{shown(path)} is empty", remedy="copy it again, or remove it")


def _hash(path: Path, identity: FileIdentity, builder: _Builder, progress: Progress) -> None:
    """Read a file once; whoever made the builder has its digests afterwards."""
    # O_NONBLOCK: should the file have become a FIFO, opening it must not wait for a writer.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if FileIdentity.of(os.fstat(fd)) != identity:
            raise ChangedWhileHashing(path)
        done = 0
        for data in _read(file, max(READ_BYTES, *builder.lengths)):
            done += len(data)
            if done > identity.size:
                raise ChangedWhileHashing(path)
            builder.update(data)
            progress(done, identity.size)
        # The second look is at the name: a file that was replaced meanwhile can not be served either.
        if done != identity.size or FileIdentity.of(path.stat()) != identity:
            raise ChangedWhileHashing(path)


class _Builder:
    """The digest of a whole, and a piece table for each of some lengths, in one pass: BLAKE3 is the small part."""

    def __init__(self, lengths: Set[int], algorithm: Algorithm) -> None:
        self.lengths = lengths
        self._whole = algorithm.begin()
        self._tables = {length: ChunkTableBuilder(length, _Nothing()) for length in lengths}

    def update(self, data: memoryview) -> None:
        self._whole.update(data)
        for table in self._tables.values():
            table.update(data)

    def finish(self, choose: Callable[[str], int]) -> HashedFile:
        digest = self._whole.hexdigest()
        return HashedFile(digest, self._tables[choose(digest)].finish()[1])


class _Nothing:
    """A digest that nobody asks for."""

    def update(self, data: object, /) -> None:
        pass

    def hexdigest(self) -> str:
        return ""


def _read(file: BufferedReader, length: int) -> Iterator[memoryview]:
    """Yield a file in parts of exactly ``length`` bytes, the last shorter; each is valid until the next."""
    buffer = memoryview(bytearray(length))
    while filled := file.readinto(buffer):
        yield buffer[:filled]


def shown(path: Path) -> str:
    """A path as text that is safe on a terminal: names come from other people's archives."""
    text = str(path)
    return text if text.isprintable() else repr(text)
