"""Snapshots as files: `<name>.json` and beside it `<name>.json.sig`, in one directory.

::

    DIR/<name>.json        a payload, byte for byte; what this store writes is named by its root
    DIR/<name>.json.sig    base64 of the Ed25519 signature over those bytes; none where there is no signature
    DIR/.p2pboot/          announcements, and what is being fetched

The directory is the truth: what somebody copies into it is found, what is removed is gone, and a restart
changes nothing. Roots are computed when a file is first seen and remembered as long as it looks the same; a
chunk is checked again each time it is read.

The signature gets its name first and the payload right after it, so whoever sees a payload sees its
signature. A payload that is there already is never written again: its name is its content.
"""

from __future__ import annotations

import mmap
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from p2pboot.core.digests import is_digest
from p2pboot.core.identity import PublicKey
from p2pboot.core.pieces import DEFAULT_PIECE, PieceTable
from p2pboot.core.timetoke.chunks import ChunkTableBuilder
from p2pboot.core.timetoke.errors import SnapshotChanged, SnapshotMissing
from p2pboot.core.timetoke.signatures import MAX_SIGNATURE_TEXT
from p2pboot.errors import machine_error
from p2pboot.store.durable import (
    clean_temporaries,
    disk_error,
    make_directory,
    put_in_place,
    temporary_file,
    write_at,
    write_file,
)
from p2pboot.store.hashes import FileIdentity
from p2pboot.store.snapshots.announcements import AnnouncementShelf
from p2pboot.store.snapshots.base import Draft, SnapshotStore, checked_text, logger, says_the_same

if TYPE_CHECKING:
    from p2pboot.core.timetoke.reader import Payload

PRIVATE: Final = ".p2pboot"
_PAYLOAD: Final = ".json"
_SIGNATURE: Final = ".sig"
_READ_BYTES: Final = 4 * 1024 * 1024
_FRESH_S: Final = 1.0
_SETTLED_NS: Final = 100_000_000


@dataclass(frozen=True, slots=True)
class _Held:
    """A file whose root is known, valid as long as the file looks the same."""

    path: Path
    identity: FileIdentity
    root: str
    table: PieceTable


class DiskSnapshotStore(SnapshotStore):
    """Payloads in a directory, which is made when there is none. Further arguments as of `SnapshotStore`.

    Args:
        directory: where they lie.
        chunk_length: for payloads that nobody announced; an announced one is cut as its announcement says.
        require_signatures: see there.
        keys: see there.
        warn: see there.

    Raises:
        MachineError: the directory can not be made or read.
    """

    def __init__(
        self,
        directory: Path,
        *,
        chunk_length: int = DEFAULT_PIECE,
        require_signatures: bool = False,
        keys: Sequence[PublicKey] = (),
        warn: Callable[[str], None] = logger.warning,
    ) -> None:
        super().__init__(
            chunk_length=chunk_length, require_signatures=require_signatures, keys=keys, warn=warn
        )
        self.directory = directory
        make_directory(directory, 0o755)
        clean_temporaries(directory)
        self.announcements = AnnouncementShelf(directory / PRIVATE / "announcements")
        self._scanning = threading.Lock()
        self._scanned = (0, -_FRESH_S)  # the directory's mtime then, and when
        self._files: dict[str, _Held] = {}  # by file name; replaced as a whole, never changed

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """Begin a payload in a temporary file; see `SnapshotStore.draft`."""
        with ExitStack() as stack:
            try:
                path, fd = stack.enter_context(temporary_file(self.directory / "draft.json", 0o644))
            except OSError as error:
                raise machine_error(error, f"write into {self.directory}") from error
            draft = _DiskDraft(self, path, fd)
            stack.callback(draft.unmap)
            yield draft

    def roots(self) -> tuple[str, ...]:
        """The roots of all payloads, sorted; looks for new files first."""
        self._scan()
        return tuple(sorted({held.root for held in self._files.values()}))

    def path(self, root: str) -> Path:
        """Where a payload lies; its signature is beside it, with `.sig` after its name.

        Raises:
            SnapshotMissing: it is not here.
        """
        return self._held(root).path

    @contextmanager
    def payload(self, root: str) -> Iterator[Payload]:
        """The whole payload, mapped; see `SnapshotStore.payload`."""
        held = self._held(root)
        with self._open(held) as fd, mmap.mmap(fd, held.table.size, access=mmap.ACCESS_READ) as mapped:
            yield mapped

    def own_path(self, root: str) -> Path:
        """The name that this store gives a payload."""
        return self.directory / (root + _PAYLOAD)

    def expose(self, root: str, table: PieceTable | None, path: Path, fd: int, signature: str | None) -> None:
        """Give a complete, verified payload its name here, its signature first.

        Args:
            root: of the payload.
            table: likewise; None: the payload is hashed again when it is first asked for.
            path: where it lies, on this directory's file system.
            fd: the same file, open.
            signature: text of its signature, None when it has none.

        Raises:
            SnapshotSignatureError: the text is no signature.
            MachineError: the disk is full or fails.
        """
        text = checked_text(signature)
        if self.has_snapshot(root):
            if text is not None:
                self.keep_signature(root, text)
            return
        final = self.own_path(root)
        if text is not None:
            write_file(signature_path(final), text.encode())
        try:
            put_in_place(fd, path, final)
            identity = FileIdentity.of(final.lstat())
        except OSError as error:
            raise machine_error(error, f"write {final}") from error
        if table is not None:
            with self._scanning:
                self._files = {**self._files, final.name: _Held(final, identity, root, table)}

    def keep_signature(self, root: str, signature: str) -> None:
        """Put a signature beside a payload that is here; the same one in another form is left as it is.

        Raises:
            SnapshotMissing: the payload is not here.
            SnapshotSignatureError: the text is no signature.
            MachineError: the disk is full or fails.
        """
        beside = signature_path(self.path(root))
        checked_text(signature)
        if not says_the_same(_read_signature(beside), signature):
            write_file(beside, signature.encode())

    def _held(self, root: str) -> _Held:
        held = self._known(root)
        if held is None:
            self._scan()
            held = self._known(root)
        if held is None:
            raise SnapshotMissing(root)
        return held

    def _known(self, root: str) -> _Held | None:
        for held in self._files.values():
            if held.root == root and held.identity == _identity(held.path):
                return held
        return None

    def _find(self, root: str) -> PieceTable | None:
        if not is_digest(root):
            return None
        with suppress(SnapshotMissing):
            return self._held(root).table
        return None

    def _read_chunk(self, root: str, table: PieceTable, index: int) -> bytes:
        offset, length = table.span(index)
        held = self._held(root)
        with self._open(held) as fd:
            try:
                return os.pread(fd, length, offset)
            except OSError as error:
                raise machine_error(error, f"read {held.path}") from error

    def _read_signature(self, root: str) -> tuple[bytes, str] | None:
        path = signature_path(self._held(root).path)
        text = _read_signature(path)
        return None if text is None else (text, str(path))

    def _lost(self, root: str) -> None:
        with self._scanning:
            self._files = {name: held for name, held in self._files.items() if held.root != root}

    @contextmanager
    def _open(self, held: _Held) -> Iterator[int]:
        """Open exactly the file whose root was computed."""
        try:
            fd = os.open(held.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise SnapshotChanged(held.root) from None
        except OSError as error:
            raise machine_error(error, f"open {held.path}") from error
        try:
            if FileIdentity.of(os.fstat(fd)) != held.identity:
                raise SnapshotChanged(held.root)
            yield fd
        finally:
            os.close(fd)

    def _scan(self) -> None:
        """Look for files that are new or changed, and forget those that are gone."""
        with self._scanning:
            try:
                changed_at = self.directory.stat().st_mtime_ns
                if self._is_fresh(changed_at):
                    return
                names = sorted(os.listdir(self.directory))
            except OSError as error:
                raise machine_error(error, f"read {self.directory}") from error
            self._scanned = (changed_at, time.monotonic())
            found: dict[str, _Held] = {}
            for name in names:
                if name.endswith(_PAYLOAD) and not name.startswith("."):
                    held = self._examine(name)
                    if held is not None:
                        found[name] = held
            self._files = found

    def _is_fresh(self, changed_at: int) -> bool:
        """Whether a look would find nothing new: peers may ask for unknown roots a thousand times a second."""
        settled = time.time_ns() - changed_at > _SETTLED_NS  # its clock ticks: there may be a second change
        return settled and self._scanned[0] == changed_at and time.monotonic() - self._scanned[1] < _FRESH_S

    def _examine(self, name: str) -> _Held | None:
        path = self.directory / name
        known, identity = self._files.get(name), _identity(path)
        if identity is None or (known is not None and known.identity == identity):
            return None if identity is None else known
        stem = name.removesuffix(_PAYLOAD)
        announced = self.announcements.chunk_length(stem)
        try:
            root, table = _hash(path, announced or self.chunk_length)
        except ValueError:  # empty, or too many chunks
            return None
        except OSError as error:
            logger.warning("%s is not served: %s", path, error.strerror or error)
            return None
        # Still being written: it is looked at again.
        return _Held(path, identity, root, table) if identity == _identity(path) else None


class _DiskDraft(Draft):
    def __init__(self, store: DiskSnapshotStore, path: Path, fd: int) -> None:
        self._store = store
        self._path = path
        self._fd = fd
        self._builder = ChunkTableBuilder(store.chunk_length)
        self._sealed: tuple[str, PieceTable, mmap.mmap] | None = None

    def write(self, data: bytes) -> None:
        try:
            write_at(self._fd, data, self._builder.size)
        except OSError as error:
            raise disk_error(error, len(data), self._store.directory) from error
        self._builder.update(data)

    def seal(self) -> tuple[str, PieceTable, Payload]:
        if self._sealed is None:
            root, table = self._builder.finish()
            self._sealed = root, table, mmap.mmap(self._fd, table.size, access=mmap.ACCESS_READ)
        return self._sealed

    def commit(self, signature: str | None) -> str:
        root, table, _ = self.seal()
        self._store.expose(root, table, self._path, self._fd, signature)
        return root

    def unmap(self) -> None:
        if self._sealed is not None:
            self._sealed[2].close()


def signature_path(payload: Path) -> Path:
    """Where the signature of a payload lies."""
    return payload.with_name(payload.name + _SIGNATURE)


def _read_signature(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_SIGNATURE_TEXT + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise machine_error(error, f"read {path}") from error


def _identity(path: Path) -> FileIdentity | None:
    """The identity of a regular file; None for anything else."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return FileIdentity.of(status) if stat.S_ISREG(status.st_mode) else None


def _hash(path: Path, chunk_length: int) -> tuple[str, PieceTable]:
    builder = ChunkTableBuilder(chunk_length)
    with path.open("rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            builder.update(data)
    return builder.finish()
