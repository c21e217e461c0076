"""The output directory: verified artifacts under their final names, always as one whole set.

::

    DIR/kernel, DIR/initramfs, …   the artifacts
    DIR/dtbs/<name>.dtb            device trees, also those that came in one archive (which is not left here)
    DIR/cmdline                    the signed kernel command line and a newline, if there is one
    DIR/manifest.json.sig          the detached signature, if there is one
    DIR/manifest.json              removed first, written last: where it is, all the rest fits it
    DIR/.p2pboot/output/           a lock, which names a placing that was killed may have left, which device trees an
                                   archive had

Nothing here fetches or verifies; who calls `place` has every artifact whole and verified in the store.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final, Self

from p2pboot.core.devicetrees import Archive, check_member_name
from p2pboot.core.manifest import Artifact, Manifest
from p2pboot.core.names import DTB_ARCHIVE, DTB_PREFIX, check_artifact_key, output_file_name
from p2pboot.errors import (
    ArtifactError,
    BlobMissing,
    MachineError,
    Malformed,
    ManifestError,
    SignatureError,
    machine_error,
)
from p2pboot.fetch.placing.devicetrees import DeviceTrees
from p2pboot.store.durable import (
    clean_temporaries,
    fsync_directory,
    link_or_copy,
    make_directory,
    write_file,
)
from p2pboot.store.hashes import FileIdentity, HashCache, HashedFile
from p2pboot.store.hashing import hash_file
from p2pboot.store.locking import DirectoryLock
from p2pboot.store.store import Store

MANIFEST: Final = "manifest.json"
DETACHED: Final = "manifest.json.sig"
CMDLINE: Final = "cmdline"
_PRIVATE: Final = Path(".p2pboot") / "output"
_JOURNAL: Final = "placing.json"
_TREES_NOTE: Final = "devicetrees.json"
_MAX_SMALL_FILE: Final = 4 << 20  # the journal of two sets with all the device trees that there can be


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
        self._trees = DeviceTrees(directory / "dtbs", directory / _PRIVATE / _TREES_NOTE, interrupt)

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
            clean_temporaries(directory)
            output = cls(directory, lock, hashes, interrupt)
            output._trees.clean()
            return output
        except BaseException:
            lock.release()
            raise

    def close(self) -> None:
        """Let others place here; idempotent."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def path(self, artifact: Artifact) -> Path:
        """The final name of an artifact; of an archive of device trees the directory that they are in."""
        return self.directory / output_file_name(artifact.key)

    def holds(self, artifact: Artifact) -> bool:
        """Whether the artifact is under its final name, intact; reads what changed since the last time.

        Raises:
            MachineError: it can not be read.
        """
        if artifact.key == DTB_ARCHIVE:
            return self._trees.holds(artifact)
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
        return hashed.digest == artifact.sha256

    def is_complete(self, manifest: Manifest, detached: str | None, artifacts: Iterable[Artifact]) -> bool:
        """Whether `place` would change nothing; without a detached signature, one that is there may stay."""
        small = _small_files(manifest, detached)
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
            ManifestError: what was signed as an archive of device trees is none; everything is as it was.
            MachineError: disk full, no permission, a directory where a file must be.
        """
        wanted = {artifact.key: artifact for artifact in artifacts if not self.holds(artifact)}
        archive = wanted.pop(DTB_ARCHIVE, None)
        unpacked = None if archive is None else _open_archive(archive, manifest, source(archive.sha256)[0])
        leftovers = self._begin(manifest, unpacked)
        placed = []
        for artifact in wanted.values():
            placed.append(self._place_artifact(artifact, *source(artifact.sha256)))
        if archive is not None and unpacked is not None:
            self._trees.write_note(archive, [member.name for member in unpacked.members])
            self._trees.place(unpacked, source(archive.sha256)[0])
            placed.append(self.path(archive))
        self._remove_leftovers(leftovers, manifest)
        for name, content in _small_files(manifest, detached).items():
            write_file(self.directory / name, content)
        _remove(self._journal)
        return tuple(placed)

    def _begin(self, manifest: Manifest, unpacked: Archive | None) -> set[str]:
        """Note durably what may lie here, then take the mark of a whole set away.

        Returns:
            The files, relative to the directory, that earlier sets may have left.
        """
        left = self._left_by_killed() | _named_by(_read_small(self.directory / MANIFEST))
        left |= {DTB_PREFIX + name for name in self._trees.noted_names()}
        members = () if unpacked is None else unpacked.members
        names = left | _files_of(manifest) | {CMDLINE} | {DTB_PREFIX + member.name for member in members}
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
        right = {output_file_name(key): artifact for key, artifact in manifest.artifacts.items()}
        archive = manifest.artifacts.get(DTB_ARCHIVE)
        members = self._members_here(archive)
        for name in leftovers - {CMDLINE} - members:
            artifact = right.get(name)
            if artifact is None or not self.holds(artifact):
                _remove(self.directory / name)
        if any(name.startswith(DTB_PREFIX) for name in leftovers):
            self._trees.remove_empty()
        if archive is None or not members:
            _remove(self._trees.note)
        else:  # they may have been there before, without a note
            self._trees.write_note(archive, [name.removeprefix(DTB_PREFIX) for name in members])

    def _members_here(self, archive: Artifact | None) -> set[str]:
        """The files of this archive of device trees if all of them are here, as `holds` says."""
        if archive is None or not self._trees.holds(archive):
            return set()
        return {DTB_PREFIX + name for name in self._trees.names_of(archive)}


def _open_archive(artifact: Artifact, manifest: Manifest, path: Path) -> Archive:
    """Read what is in an archive before anything here is touched: that it was signed does not make it one."""
    try:
        with path.open("rb") as file:
            return Archive.read(lambda offset, length: os.pread(file.fileno(), length, offset), artifact.size)
    except Malformed as error:
        raise ManifestError(
            f"{artifact.key} of manifest version {manifest.manifest_version}: {error.message}",
            remedy="tell its publisher",
        ) from None
    except OSError as error:
        raise machine_error(error, f"read {path}") from error


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
        if name.startswith(DTB_PREFIX):
            return bool(check_member_name(name.removeprefix(DTB_PREFIX)))
        return name == CMDLINE or bool(check_artifact_key(name))
    except ValueError:
        return False


def _files_of(manifest: Manifest) -> set[str]:
    """Where a manifest's artifacts go, but for the members of an archive."""
    return {output_file_name(key) for key in manifest.artifacts if key != DTB_ARCHIVE}


def _named_by(raw: bytes | None) -> set[str]:
    """What a manifest that lies here brought; the names in one that can be parsed are harmless."""
    if raw is None:
        return set()
    try:
        manifest = Manifest.parse(raw)
    except (Malformed, SignatureError):
        return set()
    return _files_of(manifest) | ({CMDLINE} if manifest.cmdline is not None else set())


def _small_files(manifest: Manifest, detached: str | None) -> dict[str, bytes]:
    """What lies beside the artifacts, in the order of writing: last the mark of a whole set."""
    small = {} if manifest.cmdline is None else {CMDLINE: f"{manifest.cmdline}\n".encode()}
    if detached is not None:
        small[DETACHED] = f"{detached.strip()}\n".encode()
    return {**small, MANIFEST: manifest.raw}


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
