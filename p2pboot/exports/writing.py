"""Writing an export: a directory, or one tar archive, whole and on the medium before it can be taken for one.

Every byte is checked against the signed piece tables while it is copied. In a directory all files are written under
temporary names first, and an export that was there stays until they are; then the description says that it is not
complete, the files get their names, and the description comes last. So whenever a stick is pulled out there is the old
export, the new one, or one that says that it is neither.
"""

from __future__ import annotations

import errno
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from itertools import chain
from pathlib import Path
from typing import IO, Final

import msgspec

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Artifact, Manifest
from p2pboot.core.pieces import PieceTable
from p2pboot.errors import BlobMissing, MachineError, P2PBootError, StoreError, UsageError, machine_error
from p2pboot.exports.layout import (
    CMDLINE,
    DESCRIPTION,
    FORMAT,
    LARGEST_ON_FAT,
    MAX_DESCRIPTION,
    PART_BYTES,
    Description,
    Place,
    decode,
    describe,
    encode,
    file_name,
    part_name,
)
from p2pboot.store.blobs import BlobStore
from p2pboot.store.durable import (
    clean_temporaries,
    disk_full,
    free_bytes,
    fsync_directory,
    make_directory,
    put_in_place,
    stream_temporary,
    temporary_file,
    write_file,
)
from p2pboot.store.errors import BlobGone
from p2pboot.store.ownership import OUTPUT, opened_directory
from p2pboot.store.reading import open_regular

Told = Callable[[str, int, int], None]
"""Is called with the name, the bytes done and the size of what is being copied."""

_END: Final = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True, slots=True)
class Release:
    """What is exported.

    Args:
        manifest: its manifest.
        detached: the text of its detached signature.
        blobs: hold all its artifacts, and are only read.
        trust: further documents, by name (:mod:`.trusting`).
    """

    manifest: Manifest
    detached: str | None
    blobs: BlobStore
    trust: Mapping[str, bytes] = field(default_factory=dict)

    def documents(self) -> dict[str, bytes]:
        """What lies beside the artifacts and no import needs, by name."""
        cmdline = self.manifest.cmdline
        return {**({} if cmdline is None else {CMDLINE: f"{cmdline}\n".encode()}), **self.trust}

    def table(self, artifact: Artifact) -> PieceTable:
        """The piece table of an artifact.

        Raises:
            StoreError: it is not wholly here.
        """
        table = self.blobs.table(artifact.sha256, artifact.table_digest)
        if table is None or not self.blobs.holds(artifact.sha256):
            raise _lacking(artifact)
        return table

    def content(self, artifact: Artifact, told: Told) -> Iterator[bytes]:
        """The bytes of an artifact piece by piece, each checked.

        Raises:
            StoreError: it is not here any more, or damaged.
            MachineError: the disk failed.
        """
        table = self.table(artifact)
        for index in range(table.count):
            offset, length = table.span(index)
            try:
                yield self.blobs.read(artifact.sha256, offset, length)
            except (BlobGone, BlobMissing):
                raise _lacking(artifact) from None
            told(artifact.key, offset + length, artifact.size)


def _lacking(artifact: Artifact) -> StoreError:
    return StoreError(
        f"{artifact.key} (sha256:{artifact.sha256}) is not here, or damaged on the disk",
        remedy="p2pboot store check says what is damaged, and p2pboot store repair mends it",
    )


# -- an archive --------------------------------------------------------------------------------------------------------


def write_archive(release: Release, path: Path, told: Told) -> int:
    """Write one tar archive; returns its bytes.

    Raises:
        StoreError: the release is not whole.
        MachineError: the disk is full, or takes no file so large; what was there stays then.
    """
    description = _described(release, splits=False)
    size = sum(_padded(place.size) for place in description.files())
    size += _padded(len(encode(description))) + len(_END)
    try:
        if size > free_bytes(path.parent):
            raise disk_full(size, free_bytes(path.parent), path.parent)
        if not _takes(path.parent, size):
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        with temporary_file(path, 0o644) as (temporary, fd):
            with os.fdopen(os.dup(fd), "wb") as stream:
                stream_archive(release, stream, told)
            put_in_place(fd, temporary, path)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise MachineError(
                f"the archive has {size} bytes, more than a file in {path.parent} may have",
                remedy="export into a directory, which is written in parts where it has to be; or use a file system"
                " other than FAT",
            ) from None
        raise machine_error(error, f"write {path}") from error
    return size


def stream_archive(release: Release, stream: IO[bytes], told: Told) -> None:
    """Write a tar archive into a file or pipe.

    Raises:
        StoreError: the release is not whole.
        OSError: what the system says.
    """
    description = _described(release, splits=False)
    raw = encode(description)
    first = (Place(DESCRIPTION, len(raw)), (raw,))
    for place, content in chain((first,), _entries(release, description, told)):
        header = tarfile.TarInfo(place.file)
        header.size, header.mode, header.mtime = place.size, 0o644, release.manifest.created_at
        stream.write(header.tobuf(tarfile.GNU_FORMAT))
        for chunk in content:
            stream.write(chunk)
        stream.write(bytes(-place.size % tarfile.BLOCKSIZE))
    stream.write(_END)
    stream.flush()


def _padded(size: int) -> int:
    return tarfile.BLOCKSIZE * (1 + -(-size // tarfile.BLOCKSIZE))


# -- a directory -------------------------------------------------------------------------------------------------------


def write_directory(release: Release, directory: Path, told: Told) -> int:
    """Write an export into a directory, which is made where there is none; returns the bytes of its files.

    An export that is there is replaced when the new one is written; other files stay.

    Raises:
        UsageError: files of somebody else have the names that are needed.
        StoreError: the release is not whole.
        MachineError: the disk is full or can not be written, or the directory is not ours.
    """
    make_directory(directory, 0o755)
    with opened_directory(directory, OUTPUT, follow=True):
        pass
    former = _former(directory)
    largest = max(one.size for one in release.manifest.artifacts.values())
    try:
        description = _described(release, splits=not _takes(directory, largest))
        if former is None:
            _require_no_others(directory, description)
        for each in dict.fromkeys((directory / place.file).parent for place in description.files()):
            make_directory(each, 0o755)
            clean_temporaries(each)
        size = sum(place.size for place in description.files())
        if size > free_bytes(directory):
            raise disk_full(size, free_bytes(directory), directory)
        _replace(release, directory, description, former, told)
    except OSError as error:
        raise machine_error(error, f"write into {directory}") from error
    return size


def _replace(
    release: Release, directory: Path, description: Description, former: Description | None, told: Told
) -> None:
    written: list[tuple[Path, Path]] = []
    try:
        for place, content in _entries(release, description, told):
            final = directory / place.file
            written.append((stream_temporary(final, content), final))
        write_file(directory / DESCRIPTION, encode(msgspec.structs.replace(description, complete=False)))
        for place in () if former is None else former.files():
            (directory / place.file).unlink(missing_ok=True)
        for temporary, final in written:
            temporary.replace(final)
        for each in dict.fromkeys(final.parent for _, final in written):
            fsync_directory(each)
    finally:
        for temporary, _ in written:
            with suppress(OSError):  # as of a stick that is gone
                temporary.unlink(missing_ok=True)
    write_file(directory / DESCRIPTION, encode(description))


def _former(directory: Path) -> Description | None:
    """What an export that is there says of itself; None where there is none."""
    try:
        with open(open_regular(directory / DESCRIPTION), "rb") as file:
            return decode(file.read(MAX_DESCRIPTION))
    except FileNotFoundError:
        return None
    except P2PBootError:  # of another version, or damaged: it is ours all the same
        return Description(FORMAT)
    except OSError as error:
        raise machine_error(error, f"read {directory / DESCRIPTION}") from error


def _require_no_others(directory: Path, description: Description) -> None:
    for place in description.files():
        if os.path.lexists(directory / place.file):
            raise UsageError(
                f"{directory} has a file {place.file} already, which is of no export",
                remedy="name a new directory",
            )


def _takes(directory: Path, size: int) -> bool:
    """Whether a file may be so large there."""
    if size <= LARGEST_ON_FAT:
        return True
    with temporary_file(directory / DESCRIPTION.replace("/", "-"), 0o644) as (_, fd):
        try:
            os.ftruncate(fd, size)
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            return False
    return True


# -- both --------------------------------------------------------------------------------------------------------------


def _described(release: Release, *, splits: bool) -> Description:
    for one in release.manifest.artifacts.values():
        release.table(one)  # whole, or nothing is begun
    documents = [Place(name, len(content)) for name, content in release.documents().items()]
    parts = {
        one.key: _parts(index, one, splits=splits)
        for index, one in enumerate(release.manifest.artifacts.values())
    }
    return describe(release.manifest, release.detached, documents, parts)


def _parts(index: int, artifact: Artifact, *, splits: bool) -> tuple[Place, ...]:
    if not splits or artifact.size <= LARGEST_ON_FAT:
        return (Place(file_name(index, artifact), artifact.size),)
    starts = range(0, artifact.size, PART_BYTES)
    return tuple(
        Place(part_name(index, number), min(PART_BYTES, artifact.size - start))
        for number, start in enumerate(starts)
    )


def _entries(
    release: Release, description: Description, told: Told
) -> Iterator[tuple[Place, Iterable[bytes]]]:
    """Every file but the description with its content, to be read in this order."""
    yield description.manifest, (release.manifest.raw,)
    if description.detached is not None and release.detached is not None:
        yield description.detached, (release.detached.encode(),)
    yield from zip(description.documents, ((one,) for one in release.documents().values()), strict=True)
    for carried in description.artifacts:
        artifact = release.manifest.artifacts[carried.key]
        yield carried.table, (release.table(artifact).raw,)
        pieces = release.content(artifact, told)
        for part in carried.parts:
            yield part, _next_bytes(pieces, part.size)


def _next_bytes(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """So many bytes of them; a part ends where a piece does."""
    while size > 0:
        piece = next(pieces)
        size -= len(piece)
        yield piece
