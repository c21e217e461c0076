"""Snapshots as files: `<name>.json` and beside it `<name>.json.sig`, in a directory and the directories in it.

::

    DIR/<name>.json        a payload, byte for byte; what this store writes is named by its root
    DIR/<name>.json.sig    base64 of the Ed25519 signature over those bytes; none where there is no signature
    DIR/<dir>/<name>.json  likewise; the source system has manifest/chunks.json
    DIR/.p2pboot/          a state as every store has one: announcements, digests of files, what is being fetched

Which file is which snapshot is :mod:`.files`'s; here is what is read of them and written beside them. A chunk is
checked each time it is read.

The signature gets its name first and the payload right after it, so whoever sees a payload sees its
signature. A payload that is there already is never written again: its name is its content. What is written
replaces names and goes through no link.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from p2pboot.core.digests import is_digest
from p2pboot.core.identity import PublicKey
from p2pboot.core.pieces import PieceTable
from p2pboot.core.timetoke.agreement import Conflict
from p2pboot.core.timetoke.chunks import DEFAULT_CHUNK, ChunkTableBuilder, payload_root
from p2pboot.core.timetoke.errors import SnapshotChanged, SnapshotMissing
from p2pboot.errors import BlobMissing, MachineError, machine_error
from p2pboot.store.announcements import Announcements
from p2pboot.store.blobs import BlobStore
from p2pboot.store.durable import (
    clean_temporaries,
    disk_error,
    make_directory,
    put_in_place,
    temporary_file,
    write_at,
    write_file,
)
from p2pboot.store.errors import BlobGone
from p2pboot.store.hashes import FileIdentity
from p2pboot.store.hashing import HashedPath
from p2pboot.store.ownership import PRIVATE, STATE, check_real_directory
from p2pboot.store.reading import open_regular
from p2pboot.store.snapshots.base import Draft, SnapshotStore, checked_text, logger, says_the_same
from p2pboot.store.snapshots.files import SnapshotFiles, mapped
from p2pboot.store.snapshots.former import take_over
from p2pboot.store.snapshots.signature_files import read_signature, signature_path
from p2pboot.store.snapshots.survey import Survey, Surveyor
from p2pboot.store.snapshots.walking import PAYLOAD_SUFFIX
from p2pboot.store.store import Store

if TYPE_CHECKING:
    from p2pboot.core.timetoke.reader import Payload

_COPIES: Final = 8
"""Files that are looked at when one payload is said to be in several."""

T = TypeVar("T")


class DiskSnapshotStore(SnapshotStore):
    """Payloads in a directory, which is made when there is none. Further arguments as of `SnapshotStore`.

    A directory that can only be read is served as it is; what would be remembered of it lives as long as the process.

    Args:
        directory: where they lie.
        read_only: change nothing there, whatever is found.
        chunk_length: for payloads that nobody announced; an announced one is cut as its announcement says.

    Raises:
        MachineError: the directory can not be made or read.
        StoreError: its state is damaged, or of a newer p2pboot.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        read_only: bool = False,
        chunk_length: int = DEFAULT_CHUNK,
        require_signatures: bool = False,
        keys: Sequence[PublicKey] = (),
        warn: Callable[[str], None] = logger.warning,
    ) -> None:
        super().__init__(
            chunk_length=chunk_length, require_signatures=require_signatures, keys=keys, warn=warn
        )
        self.directory = directory = Path(directory)
        if read_only:
            state = Store.read_snapshots(directory / PRIVATE)
        else:
            make_directory(directory, 0o755)
            _clean(directory)
            state = Store.of_snapshots(directory / PRIVATE)
            take_over(directory / PRIVATE, state.announcements)
        self._state = state
        self._files = SnapshotFiles(directory, state, chunk_length)
        self._surveyor = Surveyor(self._files)

    @property
    def announcements(self) -> Announcements:
        """What signers announced."""
        return self._state.announcements

    @property
    def blobs(self) -> BlobStore:
        """The payloads by root, those that are on their way included."""
        return self._state.blobs

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
        self._look()
        return tuple(sorted(self._files.roots()))

    def sizes(self) -> dict[str, int]:
        """The size of every snapshot that is known to be here, in bytes, by its root; reads nothing."""
        return {file.digest: file.table.size for file in self._files.by_name.values()}

    def survey(self) -> Survey:
        """Look for new files, and say what is unsigned, damaged or not served at all.

        Raises:
            MachineError: the directory can not be read.
        """
        self._look()
        return self._surveyor.survey()

    def why_missing(self, root: str) -> str | None:
        """Why a snapshot that one would expect here is not; None when nothing hints at it."""
        name = root + PAYLOAD_SUFFIX
        named = self._files.by_name.get(name)
        if named is not None and named.digest != root:
            return "its file has other content: it is damaged"
        return next(
            (f"its file {one.reason}" for one in self._files.walked.left_out if one.name == name), None
        )

    def damaged(self) -> dict[Path, str]:
        """What is wrong with files that are meant to be snapshots or signatures of them, one line for each.

        Raises:
            MachineError: the directory can not be read.
        """
        survey = self.survey()
        faults = (*survey.damaged, *(one for one in survey.left_out if one.is_meant))
        found = {self.directory / one.name: one.reason for one in faults}
        for name, file in self._files.by_name.items():
            root = name.removesuffix(PAYLOAD_SUFFIX)
            if is_digest(root) and file.digest != root:
                found[file.path] = "it has other content than its name says"
        return dict(sorted(found.items()))

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
        try:
            fd = held.open()
        except FileNotFoundError:
            raise SnapshotChanged(root) from None
        try:
            if FileIdentity.of(os.fstat(fd)) != held.identity:
                raise SnapshotChanged(root)
            with mmap.mmap(fd, held.table.size, access=mmap.ACCESS_READ) as payload:
                yield payload
        finally:
            os.close(fd)

    def recheck(self, root: str) -> None:
        """Read whatever is here under a root, shown or waiting: what is something else is not here any more.

        For who leaves it as the right one: what was noted of a file when it was hashed is a hint only.

        Raises:
            MachineError: it can not be read.
        """
        for _ in range(_COPIES):
            try:
                held = self._held(root)
            except SnapshotMissing:
                break
            with suppress(OSError, ValueError), mapped(held.path) as payload:  # it may be gone, or empty
                if payload_root(payload) == root:
                    return
            self._state.hashes.forget(held.identity)
            self._files.lose(root)
            self._look(anew=True)
        if self.blobs.holds(root):
            with self.arrived(root) as payload:
                is_right = payload_root(payload) == root
            if not is_right:
                self.blobs.remove(root)

    # what is given out bit by bit

    def check_chunk(self, root: str, index: int) -> None:
        """Check a chunk as `chunk` does, without keeping it in memory. Raises what that raises."""
        table = self.chunk_table(root, index)
        self._read_blob(root, self.blobs.check, *table.span(index))

    def part_of_chunk(self, root: str, index: int, offset: int, length: int) -> bytes:
        """Give some bytes of a chunk that was checked.

        Args:
            root: of the snapshot.
            index: of the chunk.
            offset: in the chunk, bytes.
            length: bytes.

        Raises:
            SnapshotMissing, SnapshotChanged: it is not what it was.
            MachineError: it can not be read.
        """
        start, _ = self.table(root).span(index)
        return self._read_blob(root, self.blobs.read, start + offset, length)

    def scrub(self, root: str, index: int) -> bool:
        """Read one chunk of a payload wherever it lies.

        Returns:
            Whether it is intact everywhere; where it is not, the file is looked at as what it is by now.

        Raises:
            MachineError: it can not be read.
        """
        is_intact = self.blobs.scrub(root, index)
        if not is_intact:
            self._files.lose(root)
        return is_intact

    # what arrives

    @contextmanager
    def arrived(self, root: str) -> Iterator[Payload]:
        """The payload of a snapshot that is complete and waits for being verified; mapped.

        Raises:
            BlobMissing: there is none.
            MachineError: it can not be read.
        """
        path = self.blobs.path(root)
        try:
            with mapped(path) as payload:
                yield payload
        except OSError as error:
            raise machine_error(error, f"read {path}") from error

    def expose_arrived(self, root: str, signature: str | None) -> Path:
        """Make a snapshot visible that arrived and was verified, its signature first; return its path.

        Raises:
            BlobMissing: there is none.
            SnapshotSignatureError: the text is no signature.
            MachineError: the disk is full or fails.
        """
        path, table = self.blobs.path(root), self.blobs.table(root)
        if table is None:
            raise BlobMissing(root)
        try:
            with open(open_regular(path), "rb") as file:
                self.expose(root, table, path, file.fileno(), signature)
        except OSError as error:
            raise machine_error(error, f"read {path}") from error
        self.blobs.remove(root)  # still there when the store has it already
        return self.path(root)

    def expose(self, root: str, table: PieceTable, path: Path, fd: int, signature: str | None) -> None:
        """Give a complete, verified payload its name here, its signature first.

        Args:
            root: of the payload.
            table: likewise.
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
        final = self.directory / (root + PAYLOAD_SUFFIX)
        if text is not None:
            write_file(signature_path(final), text.encode())
        try:
            put_in_place(fd, path, final)
            identity = FileIdentity.of(final.lstat())
        except OSError as error:
            raise machine_error(error, f"write {final}") from error
        self._files.add(final.name, HashedPath(final, identity, root, table), signed=text is not None)

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

    def keep_evidence(self, conflict: Conflict) -> tuple[Path, ...]:
        """Keep both documents of a contradiction, also as files that can be shown to anybody; return their paths.

        Raises:
            MachineError: they can not be written.
        """
        shelf = self.directory / PRIVATE / "conflicts"
        documents = [conflict.first.raw, conflict.second.raw]
        paths = [
            shelf / f"{conflict.sequence}.{hashlib.sha256(raw).hexdigest()[:16]}.json" for raw in documents
        ]
        if self.announcements.put_conflict(conflict) and self.announcements.are_durable:
            make_directory(shelf, 0o755)
            check_real_directory(shelf, STATE)
            for path, raw in zip(paths, documents, strict=True):
                if not path.exists():
                    write_file(path, raw)
        return tuple(path for path in paths if path.exists())

    def _held(self, root: str) -> HashedPath:
        held = self._files.known(root)
        if held is None:
            self._look(anew=bool(self.blobs.in_place(root)))  # it was here just now: what is it by now?
            held = self._files.known(root)
        if held is None:
            raise SnapshotMissing(root)
        return held

    def _look(self, *, anew: bool = False) -> None:
        if self._files.look(anew=anew) and not self.require_signatures:
            for one in self._surveyor.unsigned():
                self._warn_unsigned(one.root, one.path)

    def _find(self, root: str) -> PieceTable | None:
        if not is_digest(root):
            return None
        with suppress(SnapshotMissing):
            return self._held(root).table
        return None

    def _read_chunk(self, root: str, table: PieceTable, index: int) -> bytes:
        return self._read_blob(root, self.blobs.read, *table.span(index))

    def _read_blob(self, root: str, way: Callable[[str, int, int], T], offset: int, length: int) -> T:
        try:
            return way(root, offset, length)
        except (BlobGone, BlobMissing):
            self._files.lose(root)
            raise SnapshotChanged(root) from None

    def _read_signature(self, root: str) -> tuple[bytes, str] | None:
        path = signature_path(self._held(root).path)
        text = read_signature(path)
        return None if text is None else (text, str(path))


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


def _clean(directory: Path) -> None:
    try:
        clean_temporaries(directory)
    except MachineError:
        if os.access(directory, os.W_OK, effective_ids=True):
            raise  # what is not ours to change is read as it is
