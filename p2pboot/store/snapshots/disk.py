"""Snapshots as files: `<name>.json` and beside it `<name>.json.sig`, in a directory and the directories in it.

::

    DIR/<name>.json        a payload, byte for byte; what this store writes is named by its root
    DIR/<name>.json.sig    base64 of the Ed25519 signature over those bytes; none where there is no signature
    DIR/<dir>/<name>.json  likewise; the source system has manifest/chunks.json
    DIR/.p2pboot/          announcements, and what is being fetched

The directory is the truth: what somebody copies into it is found, what is removed is gone, and a restart
changes nothing. Roots are computed when a file is first seen and remembered as long as it looks the same; a
chunk is checked again each time it is read. Which files are looked at is :mod:`.walking`'s.

The signature gets its name first and the payload right after it, so whoever sees a payload sees its
signature. A payload that is there already is never written again: its name is its content. What is written
replaces names and goes through no link.
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
from p2pboot.core.timetoke.chunks import MAX_TOTAL, ChunkTableBuilder
from p2pboot.core.timetoke.errors import (
    SignatureNoFile,
    SnapshotChanged,
    SnapshotMissing,
    SnapshotSignatureError,
)
from p2pboot.core.timetoke.manifests import KIND_UNKNOWN, payload_kind
from p2pboot.core.timetoke.signatures import MAX_SIGNATURE_TEXT, PayloadSignature
from p2pboot.errors import MachineError, machine_error
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
from p2pboot.store.snapshots.walking import PAYLOAD_SUFFIX, SIGNATURE_SUFFIX, LeftOut, Walk, walk

if TYPE_CHECKING:
    from p2pboot.core.timetoke.reader import Payload

PRIVATE: Final = ".p2pboot"
_READ_BYTES: Final = 4 * 1024 * 1024
_FRESH_S: Final = 1.0
_SETTLED_NS: Final = 100_000_000
_SIGNATURE_REMEDY: Final = "get it again, or remove it if the snapshot was never signed"


@dataclass(frozen=True, slots=True)
class _Held:
    """A file whose root is known, valid as long as the file looks the same."""

    path: Path
    identity: FileIdentity
    root: str
    table: PieceTable


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A snapshot that has no signature.

    Args:
        root: of it.
        path: where it lies.
        kind: what it is, a word of :mod:`p2pboot.core.timetoke.manifests`.
    """

    root: str
    path: Path
    kind: str


@dataclass(frozen=True, slots=True)
class Survey:
    """What somebody who looks after a store should know.

    Args:
        unsigned: snapshots without a signature, by root; files that only have a snapshot's name are none.
        damaged: payloads whose signature can not be used.
        left_out: the first of what lies there and is not served.
        left_out_count: how much that is in all.
    """

    unsigned: tuple[Unsigned, ...]
    damaged: tuple[LeftOut, ...]
    left_out: tuple[LeftOut, ...]
    left_out_count: int


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
        directory: Path | str,
        *,
        chunk_length: int = DEFAULT_PIECE,
        require_signatures: bool = False,
        keys: Sequence[PublicKey] = (),
        warn: Callable[[str], None] = logger.warning,
    ) -> None:
        super().__init__(
            chunk_length=chunk_length, require_signatures=require_signatures, keys=keys, warn=warn
        )
        self.directory = directory = Path(directory)
        make_directory(directory, 0o755)
        _clean(directory)
        self.announcements = AnnouncementShelf(directory / PRIVATE / "announcements")
        self._scanning = threading.Lock()
        self._found = Walk()
        self._scanned_at = -_FRESH_S
        self._files: dict[str, _Held] = {}  # by relative name; replaced as a whole, never changed
        self._by_root: dict[str, tuple[_Held, ...]] = {}  # the same, the best copy first
        self._unstable: dict[str, FileIdentity] = {}  # names of files that changed while they were read
        self._kinds: dict[str, str] = {}  # by root
        self._signature_faults: dict[Path, tuple[FileIdentity | None, str | None]] = {}

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
        return tuple(sorted(self._by_root))

    def survey(self) -> Survey:
        """Look for new files, and say what is unsigned, damaged or not served at all.

        Raises:
            MachineError: the directory can not be read.
        """
        self._scan()
        signed, unsigned = self._found.signatures, self._unsigned()
        damaged = [
            LeftOut(name, fault, is_meant=True)
            for name, held in self._files.items()
            if name in signed and (fault := self._signature_fault(signature_path(held.path))) is not None
        ]
        faults = self._signature_faults
        here = {signature_path(held.path) for held in self._files.values()}
        self._signature_faults = {path: fault for path, fault in faults.items() if path in here}
        found = self._found
        return Survey(unsigned, tuple(damaged), tuple(found.left_out), found.left_out_count)

    def why_missing(self, root: str) -> str | None:
        """Why a snapshot that one would expect here is not; None when nothing hints at it."""
        name = root + PAYLOAD_SUFFIX
        named = self._files.get(name)
        if named is not None and named.root != root:
            return "its file has other content: it is damaged"
        return next((f"its file {one.reason}" for one in self._found.left_out if one.name == name), None)

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
        return self.directory / (root + PAYLOAD_SUFFIX)

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
                if text is not None:
                    self._found.signatures.add(final.name)
                self._keep({**self._files, final.name: _Held(final, identity, root, table)})

    def keep_signature(self, root: str, signature: str) -> None:
        """Put a signature beside a payload that is here; the same one in another form is left as it is.

        Raises:
            SnapshotMissing: the payload is not here.
            SnapshotSignatureError: the text is no signature.
            MachineError: the disk is full or fails.
        """
        beside = signature_path(self.path(root))
        checked_text(signature)
        if not says_the_same(read_signature(beside), signature):
            write_file(beside, signature.encode())

    def _held(self, root: str) -> _Held:
        held = self._known(root)
        if held is None:
            self._scan(anew=root in self._by_root)  # it was here just now: another look finds out what it is
            held = self._known(root)
        if held is None:
            raise SnapshotMissing(root)
        return held

    def _known(self, root: str) -> _Held | None:
        for held in self._by_root.get(root, ()):
            if held.identity == _identity(held.path):
                return held
        return None

    def _keep(self, files: dict[str, _Held]) -> None:
        """Remember these files and no others; of one payload that is there twice the signed copy comes first."""
        by_root: dict[str, list[tuple[bool, int, str, _Held]]] = {}
        for name, held in files.items():
            rank = (name not in self._found.signatures, name.count("/"), name, held)
            by_root.setdefault(held.root, []).append(rank)
        self._files = files
        self._by_root = {
            root: tuple(held for *_, held in sorted(ranked, key=lambda rank: rank[:3]))
            for root, ranked in by_root.items()
        }

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
        text = read_signature(path)
        return None if text is None else (text, str(path))

    def _lost(self, root: str) -> None:
        with self._scanning:
            self._keep({name: held for name, held in self._files.items() if held.root != root})

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

    def _scan(self, *, anew: bool = False) -> None:
        """Look for files that are new or changed, and forget those that are gone; `anew`: also right after a look."""
        with self._scanning:
            if self._is_fresh() and not anew:
                return
            found = walk(self.directory)
            files: dict[str, _Held] = {}
            for name, path in found.payloads.items():
                held = self._examine(name, path, found)
                if held is not None:
                    files[name] = held
            self._unstable = {name: seen for name, seen in self._unstable.items() if name in found.payloads}
            self._found = found
            self._scanned_at = time.monotonic()
            self._keep(files)
            self._kinds = {root: kind for root, kind in self._kinds.items() if root in self._by_root}
            if not self.require_signatures:
                for one in self._unsigned():
                    self._warn_unsigned(one.root, one.path)

    def _unsigned(self) -> tuple[Unsigned, ...]:
        """Snapshots of which no copy has a signature, by root."""
        files, signed = self._files, self._found.signatures
        unsigned = {
            held.root: held for name, held in sorted(files.items(), reverse=True) if name not in signed
        }
        for name in signed & files.keys():
            unsigned.pop(files[name].root, None)
        kinds = {root: self._kind(held) for root, held in sorted(unsigned.items())}
        return tuple(
            Unsigned(root, unsigned[root].path, kind) for root, kind in kinds.items() if kind != KIND_UNKNOWN
        )

    def _kind(self, held: _Held) -> str:
        """What a payload is; that never changes, since its root is its content."""
        kind = self._kinds.get(held.root)
        if kind is None:
            try:
                with self._open(held) as fd, mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as mapped:
                    kind = payload_kind(mapped)
            except (SnapshotChanged, MachineError, OSError, ValueError):
                return KIND_UNKNOWN  # for now: the next look finds another file there, or none
            self._kinds[held.root] = kind
        return kind

    def _is_fresh(self) -> bool:
        """Whether a look would find nothing new: peers may ask for unknown roots a thousand times a second."""
        if time.monotonic() - self._scanned_at >= _FRESH_S:
            return False
        known = self._found.directories
        if not all(_changed_at(path) == changed_at for path, changed_at in known.items()):
            return False
        return (
            time.time_ns() - max(known.values()) > _SETTLED_NS
        )  # its clock ticks: there may be a second change

    def _examine(self, name: str, path: Path, found: Walk) -> _Held | None:
        known, identity = self._files.get(name), _identity(path)
        if identity is None or (known is not None and known.identity == identity):
            return None if identity is None else known
        if self._unstable.get(name, identity) != identity:
            self._unstable[name] = identity  # still growing: it is read again when it stands still
            found.leave_out(name, "is being written", is_meant=False)
            return None
        announced = self.announcements.chunk_length(path.name.removesuffix(PAYLOAD_SUFFIX))
        try:
            root, table = _hash(path, announced or self.chunk_length)
        except ValueError:
            reason = "is empty" if identity.size == 0 else "is too large for a snapshot"
            found.leave_out(name, reason, is_meant=True)
            return None
        except OSError as error:
            found.leave_out(name, f"can not be read: {error.strerror or error}", is_meant=True)
            return None
        now = _identity(path)
        if identity == now:
            self._unstable.pop(name, None)
            return _Held(path, identity, root, table)
        if now is not None:
            self._unstable[name] = now
            found.leave_out(name, "is being written", is_meant=False)
        return None

    def _signature_fault(self, path: Path) -> str | None:
        """What is wrong with a signature's file; it is read again when it looks different."""
        identity = _identity(path)
        known = self._signature_faults.get(path)
        if known is None or identity is None or known[0] != identity:
            known = (identity, _fault_of_signature(path))
            self._signature_faults[path] = known
        return known[1]


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
    return payload.with_name(payload.name + SIGNATURE_SUFFIX)


def _clean(directory: Path) -> None:
    try:
        clean_temporaries(directory)
    except MachineError:
        if os.access(directory, os.W_OK):
            raise  # what is not ours to change is read as it is


def read_signature(path: Path) -> bytes | None:
    """What a signature's file holds; None when there is none.

    Raises:
        SignatureNoFile: a link to nothing, or no file.
        MachineError: it can not be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.is_symlink():  # somebody meant it to have one
            raise SignatureNoFile(f"{path} is a link to nothing", remedy=_SIGNATURE_REMEDY) from None
        return None
    except OSError as error:
        raise machine_error(error, f"read {path}") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode) and not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise SignatureNoFile(f"{path} is no regular file", remedy=_SIGNATURE_REMEDY)
        return os.read(fd, MAX_SIGNATURE_TEXT + 1)
    except OSError as error:
        raise machine_error(error, f"read {path}") from error
    finally:
        os.close(fd)


def _fault_of_signature(path: Path) -> str | None:
    try:
        text = read_signature(path)
        if text is not None:
            PayloadSignature.parse(text, source="its signature")
    except SnapshotSignatureError as error:
        return f"is not served: {error.message}"
    except MachineError as error:
        return f"is not served: {error.message}"
    return None


def _identity(path: Path) -> FileIdentity | None:
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


def _hash(path: Path, chunk_length: int) -> tuple[str, PieceTable]:
    builder = ChunkTableBuilder(chunk_length)
    with path.open("rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size > chunk_length * MAX_TOTAL:
            raise ValueError("more chunks than a snapshot may have")
        while data := file.read(_READ_BYTES):
            builder.update(data)
    return builder.finish()
