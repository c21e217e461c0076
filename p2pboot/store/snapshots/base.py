"""What every snapshot store does: the rules for signatures, and chunks that are checked before they go out.

A store keeps payloads under their root, each with the text of its signature if it has one. It does not know
what a payload says. Reading follows one rule, whatever the store:

- a snapshot without a signature is served, and named once in the log for the life of the process; a store
  that requires signatures refuses it;
- a signature that is there and empty, undecodable, of the wrong length, or (when the store knows the signers'
  keys) not theirs, is an error. It never counts as missing.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from p2pboot.core.identity import PublicKey
from p2pboot.core.pieces import PieceTable
from p2pboot.core.timetoke.chunks import DEFAULT_CHUNK, SnapshotChunk, check_chunk_length
from p2pboot.core.timetoke.errors import (
    ChunkMissing,
    SignatureMissing,
    SnapshotMissing,
    SnapshotSignatureError,
)
from p2pboot.core.timetoke.signatures import PayloadSignature

if TYPE_CHECKING:
    from p2pboot.core.timetoke.reader import Payload

logger = logging.getLogger(__name__)

_WARNED: Final[set[str]] = set()
_WARNED_LOCK: Final = threading.Lock()


class Draft(ABC):
    """A payload on its way into a store: nobody sees it before `commit`, and without that it is gone."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Append to the payload.

        Raises:
            MachineError: the disk is full or fails.
        """

    @abstractmethod
    def seal(self) -> tuple[str, PieceTable, Payload]:
        """End the payload; return its root, its chunk table, and all of it, uncopied (valid until `commit`).

        Raises:
            ValueError: it is empty, or has too many chunks.
        """

    @abstractmethod
    def commit(self, signature: str | None) -> str:
        """Make the sealed payload and its signature visible, both whole, and return the root.

        Args:
            signature: text of the `.sig` file as it shall be kept; None for an unsigned snapshot, which
                leaves a signature that is there alone.

        Raises:
            SnapshotSignatureError: the text is no signature.
            MachineError: the disk is full or fails; nothing is visible then.
        """


class SnapshotStore(ABC):
    """Payloads by root; all methods may be called from any thread.

    Args:
        chunk_length: into which payloads are cut, unless a store knows better: 1 byte to 16 MiB, and a power of
            two from 64 KiB up where they are to be announced or served.
        require_signatures: refuse to give out what is not signed.
        keys: the signers' keys, if they are known: signatures must then be theirs over the payload.
        warn: is told of each snapshot without a signature, once in the life of the process.
    """

    def __init__(
        self,
        *,
        chunk_length: int = DEFAULT_CHUNK,
        require_signatures: bool = False,
        keys: Sequence[PublicKey] = (),
        warn: Callable[[str], None] = logger.warning,
    ) -> None:
        self.chunk_length = check_chunk_length(chunk_length)
        self.require_signatures = require_signatures
        self._keys = tuple(keys)
        self._warn = warn
        self._verified: set[tuple[str, bytes]] = set()  # (root, signature) that are one of the keys'

    # writing

    @abstractmethod
    def draft(self) -> AbstractContextManager[Draft]:
        """Begin a payload; leaving the `with` without `commit` throws it away."""

    def insert(self, payload: bytes, signature: str | None = None) -> str:
        """Keep a payload and its signature, and return the root.

        Raises:
            ValueError: the payload is empty.
            SnapshotSignatureError: the signature is no signature; nothing is kept then.
            MachineError: the disk is full or fails.
        """
        with self.draft() as draft:
            draft.write(payload)
            draft.seal()
            return draft.commit(signature)

    # reading

    def has_snapshot(self, root: str) -> bool:
        """Whether the payload is here, signed or not."""
        return self._find(root) is not None

    @abstractmethod
    def roots(self) -> tuple[str, ...]:
        """The roots of all payloads, sorted."""

    def table(self, root: str) -> PieceTable:
        """The chunk table of a payload.

        Raises:
            SnapshotMissing: it is not here.
        """
        table = self._find(root)
        if table is None:
            raise SnapshotMissing(root)
        return table

    def chunk(self, root: str, index: int) -> SnapshotChunk:
        """Give one chunk, checked against the chunk table.

        Raises:
            SnapshotMissing, ChunkMissing: there is none.
            SnapshotSignatureError: its signature is unusable, or missing where one is required.
            SnapshotChanged: the file is not what it was.
            MachineError: it can not be read.
        """
        table = self.chunk_table(root, index)
        return SnapshotChunk(root, index, table.count, self._read_chunk(root, table, index))

    def chunk_table(self, root: str, index: int) -> PieceTable:
        """The chunk table of a payload that has this chunk, and may be given out.

        Raises:
            SnapshotMissing, ChunkMissing: there is none.
            SnapshotSignatureError: its signature is unusable, or missing where one is required.
            MachineError: it can not be read.
        """
        table = self.table(root)
        if not 0 <= index < table.count:
            raise ChunkMissing(root, index, table.count)
        self.signature(root)
        return table

    def stream(self, root: str) -> Iterator[SnapshotChunk]:
        """Give all chunks in order, one at a time. What stops it at the start is raised at once.

        Raises:
            SnapshotMissing, SnapshotSignatureError: as `chunk`.
        """
        total = self.table(root).count
        self.signature(root)
        return (self.chunk(root, index) for index in range(total))

    def signature(self, root: str) -> str | None:
        """The text of the snapshot's signature without surrounding white space; None when there is none.

        Raises:
            SnapshotMissing: there is no such snapshot.
            SnapshotSignatureError: empty, undecodable, of the wrong length, not one of the signers'; or
                missing where one is required.
            MachineError: it is there and can not be read.
        """
        text = self.signature_text(root)
        return None if text is None else text.removeprefix("\ufeff").strip(" \t\r\n")

    def check_signature(self, root: str) -> None:
        """Refuse to give out a payload without a usable signature; what is still arriving has none yet.

        Raises:
            SnapshotSignatureError: as `signature`.
            MachineError: it is there and can not be read.
        """
        if self.has_snapshot(root):
            self.signature(root)

    def signature_text(self, root: str) -> str | None:
        """Like `signature`, with the white space: for who wants to write the same file again."""
        if not self.has_snapshot(root):
            raise SnapshotMissing(root)
        found = self._read_signature(root)
        if found is None:
            self._miss_signature(root)
            return None
        raw, source = found
        signature = PayloadSignature.parse(raw, source=source)
        if self._keys and (root, signature.raw) not in self._verified:
            with self.payload(root) as payload:
                signature.check(payload, self._keys, source=source)
            self._verified.add((root, signature.raw))
        return raw.decode()

    @abstractmethod
    def payload(self, root: str) -> AbstractContextManager[Payload]:
        """The whole payload without copying it, for verifying it and iterating over its records.

        Raises:
            SnapshotMissing: it is not here.
            SnapshotChanged: the file is not what it was.
        """

    def _miss_signature(self, root: str) -> None:
        if self.require_signatures:
            raise SignatureMissing(f"snapshot {root}")
        self._warn_unsigned(root)

    def _warn_unsigned(self, root: str, where: Path | None = None) -> None:
        with _WARNED_LOCK:
            if root in _WARNED:
                return
            _WARNED.add(root)
        at = "" if where is None else f" ({where})"
        self._warn(f"snapshot {root}{at} has no signature: it is served, and nobody can audit it")

    @abstractmethod
    def _find(self, root: str) -> PieceTable | None:
        """The chunk table of a payload that is here."""

    @abstractmethod
    def _read_chunk(self, root: str, table: PieceTable, index: int) -> bytes:
        """The bytes of a chunk; raises SnapshotChanged where they are not those that the table names."""

    @abstractmethod
    def _read_signature(self, root: str) -> tuple[bytes, str] | None:
        """What is kept as signature, and what to call it in messages; None when nothing is."""


def says_the_same(kept: bytes | None, signature: str) -> bool:
    """Whether what is kept as signature says all that `signature` does: the same 64 bytes, and its key version."""
    if kept is None:
        return False
    try:
        old, new = PayloadSignature.parse(kept), PayloadSignature.parse(signature)
    except SnapshotSignatureError:
        return False
    return old.raw == new.raw and new.key_version in (None, old.key_version)


def checked_text(signature: str | None) -> str | None:
    """Return the text of a signature that may be kept.

    Raises:
        SnapshotSignatureError: it is no signature: an empty `.sig` must never exist.
    """
    if signature is not None:
        PayloadSignature.parse(signature)
    return signature
