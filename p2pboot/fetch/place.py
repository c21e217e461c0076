"""The output directory: verified artifacts under their final names, always as one whole set.

::

    DIR/kernel, DIR/initramfs, …   the artifacts
    DIR/dtbs/<name>.dtb            device trees
    DIR/cmdline                    the signed kernel command line and a newline, if there is one
    DIR/manifest.json.sig          the detached signature, if there is one
    DIR/manifest.json              removed first, written last: where it is, all the rest fits it
    DIR/.p2pboot/output/           a lock, and which names a placing that was killed may have left

Nothing here fetches or verifies; who calls `place` has every artifact whole and verified in the store.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from p2pboot.core.manifest import Artifact, Manifest
from p2pboot.core.names import check_artifact_key, output_file_name
from p2pboot.errors import (
    ArtifactError,
    BlobMissing,
    MachineError,
    Malformed,
    SignatureError,
    machine_error,
)
from p2pboot.publish.hashing import hash_file
from p2pboot.store.durable import (
    clean_temporaries,
    fsync_directory,
    link_or_copy,
    make_directory,
    write_file,
)
from p2pboot.store.hashes import FileIdentity, HashCache, HashedFile
from p2pboot.store.locking import DirectoryLock
from p2pboot.store.store import Store

MANIFEST: Final = "manifest.json"
DETACHED: Final = "manifest.json.sig"
CMDLINE: Final = "cmdline"
_PRIVATE: Final = Path(".p2pboot") / "output"
_JOURNAL: Final = "placing.json"
_MAX_SMALL_FILE: Final = 1 << 20


class Output:
    """An output directory, claimed by this process until `close`; also a context manager.

    Made by `open`. All methods block, and are for one thread at a time.
    """

    def __init__(
        self, directory: Path, lock: DirectoryLock, hashes: HashCache, interrupt: Callable[[], None]
    ) -> None:
        self.directory = directory
        self._lock = lock
        self._hashes = hashes
        self._interrupt = interrupt
        self._journal = directory / _PRIVATE / _JOURNAL

    @classmethod
    def open(cls, directory: Path, hashes: HashCache, interrupt: Callable[[], None] = lambda: None) -> Self:
        """Claim a directory, made when there is none, and clear away what a killed process left half-made.

        Args:
            directory: where artifacts are to be placed.
            hashes: remembers what the files there contain.
            interrupt: called at least once a MiB of reading; what it raises ends the work.

        Raises:
            MachineError: it can not be made or written to, or another process is placing there (with its id).
        """
        make_directory(directory, 0o755)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise MachineError(
                f"cannot write into {directory}",
                remedy="change its permissions or choose another -o directory",
            )
        make_directory(directory / _PRIVATE)
        lock = DirectoryLock.take(directory / _PRIVATE)
        try:
            for place in (directory, directory / "dtbs"):
                if place.is_dir():
                    clean_temporaries(place)
            return cls(directory, lock, hashes, interrupt)
        except BaseException:
            lock.release()
            raise

    def close(self) -> None:
        """Let others place here; idempotent."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def path(self, artifact: Artifact) -> Path:
        """The final name of an artifact."""
        return self.directory / output_file_name(artifact.key)

    def holds(self, artifact: Artifact) -> bool:
        """Whether the artifact is under its final name, intact; reads what changed since the last time.

        Raises:
            MachineError: it can not be read.
        """
        path = self.path(artifact)
        try:
            if path.is_symlink() or path.stat().st_size != artifact.size:
                return False
            hashed = hash_file(
                path,
                cache=self._hashes,
                piece_length=artifact.piece_length,
                progress=lambda _done, _total: self._interrupt(),
            )
        except (
            FileNotFoundError,
            NotADirectoryError,
            ArtifactError,
        ):  # also what is not a file, or just changes
            return False
        except OSError as error:
            raise machine_error(error, f"read {path}") from error
        return hashed.sha256 == artifact.sha256

    def is_complete(self, manifest: Manifest, detached: str | None, artifacts: Iterable[Artifact]) -> bool:
        """Whether `place` would change nothing; without a detached signature, one that is there may stay."""
        small = {MANIFEST: manifest.raw}
        if (cmdline := _cmdline(manifest)) is not None:
            small[CMDLINE] = cmdline
        if detached is not None:
            small[DETACHED] = _sig_file(detached)
        return (
            all(_read_small(self.directory / name) == content for name, content in small.items())
            and not self._journal.exists()
            and all(self.holds(artifact) for artifact in artifacts)
        )

    def place(
        self,
        manifest: Manifest,
        detached: str | None,
        artifacts: Collection[Artifact],
        source: Callable[[str], tuple[Path, HashedFile]],
    ) -> tuple[Path, ...]:
        """Make the directory hold exactly this manifest's set; killed anywhere, the next call completes it.

        Artifacts that an earlier set left here and that are not right for this manifest are removed. Files
        that no manifest here ever named are not touched.

        Args:
            manifest: verified and trusted.
            detached: text of its detached signature, checked; None when there is none.
            artifacts: those of the manifest that are wanted.
            source: gives by SHA-256 where a whole, verified artifact lies, and its digests.

        Returns:
            The artifacts' final names that were written now.

        Raises:
            MachineError: disk full, no permission, a directory where a file must be.
        """
        wanted = [artifact for artifact in artifacts if not self.holds(artifact)]
        leftovers = self._begin(manifest)
        placed = []
        for artifact in wanted:
            placed.append(self._place_artifact(artifact, *source(artifact.sha256)))
        self._remove_leftovers(leftovers, manifest)
        cmdline = _cmdline(manifest)
        if cmdline is not None:
            write_file(self.directory / CMDLINE, cmdline)
        if detached is not None:
            write_file(self.directory / DETACHED, _sig_file(detached))
        write_file(self.directory / MANIFEST, manifest.raw)
        _remove(self._journal)
        return tuple(placed)

    def _begin(self, manifest: Manifest) -> set[str]:
        """Note durably what may lie here, then take the mark of a whole set away.

        Returns:
            The keys of artifacts that earlier sets may have left, and CMDLINE if one may have.
        """
        left = self._left_by_killed() | _named_by(_read_small(self.directory / MANIFEST))
        names = left | set(manifest.artifacts) | {CMDLINE}
        write_file(self._journal, json.dumps(sorted(names)).encode())
        _remove(self.directory / MANIFEST)
        _remove(self.directory / DETACHED)
        return left

    def _left_by_killed(self) -> set[str]:
        try:
            names = json.loads(_read_small(self._journal) or b"[]")
        except ValueError:
            return set()
        return {name for name in names if _is_ours(name)} if isinstance(names, list) else set()

    def _place_artifact(self, artifact: Artifact, source: Path, hashed: HashedFile) -> Path:
        path = self.path(artifact)
        make_directory(path.parent, 0o755)
        link_or_copy(source, path)
        # The new name changed the file's ctime, so that it would count as never hashed.
        try:
            self._hashes.put(FileIdentity.of(path.stat()), hashed)
        except OSError as error:
            raise machine_error(error, f"read {path}") from error
        return path

    def _remove_leftovers(self, leftovers: set[str], manifest: Manifest) -> None:
        if CMDLINE in leftovers and manifest.cmdline is None:
            _remove(self.directory / CMDLINE)
        for key in leftovers - {CMDLINE}:
            artifact = manifest.artifacts.get(key)
            if artifact is None or not self.holds(artifact):
                _remove(self.directory / output_file_name(key))


def stored_artifact(store: Store, sha256: str) -> tuple[Path, HashedFile]:
    """Where the store has a whole artifact, and its digests: a `source` for `Output.place`.

    Raises:
        BlobMissing: it does not have it.
    """
    path = store.blobs.path(sha256)
    table = store.blobs.table(sha256)
    if table is None:
        raise BlobMissing(sha256)
    return path, HashedFile(sha256, table)


def _is_ours(name: object) -> bool:
    """What the journal names will be removed: nothing outside of the directory, whoever wrote there."""
    if not isinstance(name, str):
        return False
    try:
        return name == CMDLINE or bool(check_artifact_key(name))
    except ValueError:
        return False


def _named_by(raw: bytes | None) -> set[str]:
    """What a manifest that lies here brought; the names in one that can be parsed are harmless."""
    if raw is None:
        return set()
    try:
        manifest = Manifest.parse(raw)
    except (Malformed, SignatureError):
        return set()
    return set(manifest.artifacts) | ({CMDLINE} if manifest.cmdline is not None else set())


def _cmdline(manifest: Manifest) -> bytes | None:
    return None if manifest.cmdline is None else f"{manifest.cmdline}\n".encode()


def _sig_file(detached: str) -> bytes:
    return f"{detached.strip()}\n".encode()


def _read_small(path: Path) -> bytes | None:
    """A file's bytes; None when there is none. Of one too large to be ours only the beginning."""
    try:
        if not path.is_file() or path.is_symlink():
            return None
        with path.open("rb") as file:
            return file.read(_MAX_SMALL_FILE)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise machine_error(error, f"read {path}") from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        fsync_directory(path.parent)
    except (FileNotFoundError, NotADirectoryError):
        return  # its directory is not there either
    except OSError as error:
        raise machine_error(error, f"remove {path}") from error
