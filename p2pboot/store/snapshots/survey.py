"""What somebody who looks after a snapshot directory should know of what lies there."""

from __future__ import annotations

from pathlib import Path

from p2pboot.core.dataclass import dataclass
from p2pboot.core.timetoke.manifests import KIND_UNKNOWN, payload_kind
from p2pboot.store.hashes import FileIdentity
from p2pboot.store.hashing import HashedPath
from p2pboot.store.snapshots.files import SnapshotFiles, identity_of, mapped
from p2pboot.store.snapshots.signature_files import signature_fault, signature_path
from p2pboot.store.snapshots.walking import LeftOut


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
    """What is not as it should be.

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


class Surveyor:
    """Says what is wrong with files that were looked at; remembers what it read of them.

    Args:
        files: of the directory.
    """

    def __init__(self, files: SnapshotFiles) -> None:
        self._files = files
        self._kinds: dict[str, str] = {}  # by root
        self._faults: dict[Path, tuple[FileIdentity | None, str | None]] = {}  # by path of the signature

    def survey(self) -> Survey:
        """Everything that is to be said."""
        walked, unsigned = self._files.walked, self.unsigned()
        signed = {name: file for name, file in self._files.by_name.items() if name in walked.signatures}
        faults = {name: self._fault(signature_path(file.path)) for name, file in signed.items()}
        here = {signature_path(file.path) for file in signed.values()}
        self._faults = {path: fault for path, fault in self._faults.items() if path in here}
        damaged = [LeftOut(name, fault, is_meant=True) for name, fault in faults.items() if fault is not None]
        return Survey(unsigned, tuple(damaged), tuple(walked.left_out), walked.left_out_count)

    def unsigned(self) -> tuple[Unsigned, ...]:
        """Snapshots of which no copy has a signature, by root."""
        files, signed = self._files.by_name, self._files.walked.signatures
        found = {
            file.digest: file for name, file in sorted(files.items(), reverse=True) if name not in signed
        }
        for name in signed & files.keys():
            found.pop(files[name].digest, None)
        roots = self._files.roots()
        self._kinds = {root: kind for root, kind in self._kinds.items() if root in roots}
        kinds = {root: self._kind(file) for root, file in sorted(found.items())}
        return tuple(
            Unsigned(root, found[root].path, kind) for root, kind in kinds.items() if kind != KIND_UNKNOWN
        )

    def _kind(self, file: HashedPath) -> str:
        """What a payload is; that never changes, since its root is its content."""
        kind = self._kinds.get(file.digest)
        if kind is None:
            try:
                with mapped(file.path) as payload:
                    kind = payload_kind(payload)
            except (OSError, ValueError):
                kind = KIND_UNKNOWN
            if identity_of(file.path) != file.identity:
                return KIND_UNKNOWN  # for now: the next look finds another file there, or none
            self._kinds[file.digest] = kind
        return kind

    def _fault(self, path: Path) -> str | None:
        """What is wrong with a signature's file; it is read again when it looks different."""
        identity = identity_of(path)
        known = self._faults.get(path)
        if known is None or identity is None or known[0] != identity:
            known = self._faults[path] = identity, signature_fault(path)
        return known[1]
