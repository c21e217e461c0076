"""The output directory: verified artifacts under their final names, always as one whole set.

::

    DIR/kernel, DIR/initramfs, …   the artifacts
    DIR/dtbs/<name>.dtb            device trees, also those that came in one archive (which is not left here)
    DIR/cmdline                    the signed kernel command line and a newline, if there is one
    DIR/manifest.json.sig          the detached signature, if there is one
    DIR/freshness.json             the freshness statement by which it was taken, if there is one
    DIR/manifest.json              removed first, written last: where it is, all the rest fits it
    DIR/.p2pboot/output/           a lock, which names a placing that was killed may have left, which device trees an
                                   archive had

Nothing here fetches; who calls `place` has every artifact whole and verified in the store. What lies under a final
name is read and compared with what was signed, by every run: a note of an earlier one is no proof.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, Self

from p2pboot.core.devicetrees import Archive, check_member_name
from p2pboot.core.jsonform import decode_note
from p2pboot.core.manifest import Artifact, Manifest, check_detached
from p2pboot.core.names import DTB_ARCHIVE, DTB_PREFIX, check_artifact_key, output_file_name
from p2pboot.core.pieces import PieceTable
from p2pboot.errors import (
    MachineError,
    Malformed,
    ManifestError,
    SignatureError,
    machine_error,
)
from p2pboot.fetch.placing.devicetrees import DeviceTrees
from p2pboot.fetch.placing.staging import Staging
from p2pboot.store.durable import (
    clean_temporaries,
    fsync_directory,
    make_directory,
    write_file,
)
from p2pboot.store.hashes import FileIdentity
from p2pboot.store.hashing import is_intact, sha256_of
from p2pboot.store.locking import DirectoryLock
from p2pboot.store.ownership import OUTPUT, PRIVATE, check_real_directory, opened_directory, opened_state
from p2pboot.store.reading import open_regular

MANIFEST: Final = "manifest.json"
DETACHED: Final = "manifest.json.sig"
FRESHNESS: Final = "freshness.json"
CMDLINE: Final = "cmdline"
_PRIVATE: Final = Path(PRIVATE) / "output"
_JOURNAL: Final = "placing.json"
_TREES_NOTE: Final = "devicetrees.json"
_NO_SUCH_FILE: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}
)  # a link, a socket: not ours
_MAX_SMALL_FILE: Final = 4 << 20  # the journal of two sets with all the device trees that there can be


Tables = Callable[[str, str], PieceTable | None]


class Output:
    """An output directory, claimed by this process until `close`; also a context manager.

    Made by `open`. All methods block, and are for one thread at a time.
    """

    def __init__(
        self, directory: Path, lock: DirectoryLock, tables: Tables, interrupt: Callable[[], None]
    ) -> None:
        self.directory = directory
        self._lock = lock
        self._tables = tables
        self._interrupt = interrupt
        self._read: dict[FileIdentity, str] = {}  # what this run itself has read, and its SHA-256
        self._journal = directory / _PRIVATE / _JOURNAL
        self._trees = DeviceTrees(directory / "dtbs", directory / _PRIVATE / _TREES_NOTE, interrupt)

    @classmethod
    def open(cls, directory: Path, tables: Tables, interrupt: Callable[[], None] = lambda: None) -> Self:
        """Claim a directory, made when there is none, and clear away what a killed process left half-made.

        Args:
            directory: where artifacts are to be placed.
            tables: gives an artifact's piece table by the artifact's SHA-256 and its own BLAKE3, as far as anybody
                knows.
            interrupt: called at least once a MiB of reading; what it raises ends the work.

        Raises:
            NotOurs: others own it, or may replace what is there, or something in it is a link that leads elsewhere.
            MachineError: it can not be made or written to, or another process is placing there (with its id).
        """
        make_directory(directory, 0o755)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise MachineError(
                f"cannot write into {directory}",
                remedy="change its permissions or choose another -o directory",
            )
        private = directory / PRIVATE
        with opened_directory(directory, OUTPUT, follow=True):
            make_directory(private)
            with opened_state(private):
                make_directory(directory / _PRIVATE)
                check_real_directory(directory / _PRIVATE, OUTPUT)
                lock = DirectoryLock.take(directory / _PRIVATE)
        try:
            clean_temporaries(directory)
            output = cls(directory, lock, tables, interrupt)
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
        """Whether the artifact is under its final name, intact; reads what this run has not read yet.

        Raises:
            MachineError: it can not be read.
        """
        if artifact.key == DTB_ARCHIVE:
            return self._trees.holds(artifact)
        path = self.path(artifact)
        self._check_way(path)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _NO_SUCH_FILE:
                return False
            raise machine_error(error, f"read {path}") from error
        try:
            return self._is_artifact(fd, artifact)
        except OSError as error:
            raise machine_error(error, f"read {path}") from error
        finally:
            os.close(fd)

    def is_complete(self, manifest: Manifest, detached: str | None, artifacts: Collection[Artifact]) -> bool:
        """Whether `place` would change nothing.

        So nothing is wrong with what lies here of the other artifacts of this manifest either. Without a detached
        signature, a good one that is there may stay.
        """
        small = _small_files(manifest, detached)
        meant = {artifact.key for artifact in artifacts}
        others = [one for key, one in manifest.artifacts.items() if key not in meant and self._lies_here(one)]
        return (
            all(_read_small(self.directory / name) == content for name, content in small.items())
            and (manifest.cmdline is not None or not os.path.lexists(self.directory / CMDLINE))
            and (detached is not None or self._has_no_bad_signature(manifest))
            and not os.path.lexists(self._journal)
            and all(self.holds(artifact) for artifact in (*artifacts, *others))
        )

    def _is_artifact(self, fd: int, artifact: Artifact) -> bool:
        """Whether an open file has the content that was signed: by pieces where their table is at hand."""
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size != artifact.size:
            return False
        identity = FileIdentity.of(status)
        if identity not in self._read:
            table = self._tables(artifact.sha256, artifact.table_digest)
            if table is not None and _is_signed(table, artifact):
                found = artifact.sha256 if is_intact(fd, table, self._interrupt) else ""
            else:
                found = sha256_of(fd, artifact.size, self._interrupt) or ""
            if FileIdentity.of(os.fstat(fd)) != identity:
                return False  # it just changes
            self._read[identity] = found
        return self._read[identity] == artifact.sha256

    def _lies_here(self, artifact: Artifact) -> bool:
        if artifact.key == DTB_ARCHIVE:
            return self._trees.is_noted(artifact)
        return os.path.lexists(self.path(artifact))

    def _has_no_bad_signature(self, manifest: Manifest) -> bool:
        text = _read_small(self.directory / DETACHED)
        if text is None:
            return not os.path.lexists(self.directory / DETACHED)
        try:
            check_detached(manifest.raw, text.decode("ascii"), manifest.signers)
        except (SignatureError, ValueError):
            return False
        return True

    def place(
        self,
        manifest: Manifest,
        detached: str | None,
        artifacts: Collection[Artifact],
        source: Callable[[str], Path],
        *,
        statement: bytes | None = None,
    ) -> tuple[Path, ...]:
        """Make the directory hold exactly this manifest's set; killed anywhere, the next call completes it.

        Everything is made ready under other names first. Then what another set left goes, and only when all of that is
        gone the new names are given, the manifest's last: what lies here is at no moment of two sets.

        Artifacts that an earlier set left here and that are not right for this manifest are removed. Files
        that no manifest here ever named are not touched.

        Args:
            manifest: verified and trusted.
            detached: text of its detached signature, checked; None when there is none.
            artifacts: those of the manifest that are wanted.
            source: gives by SHA-256 where a whole artifact lies, which this run has verified.
            statement: the freshness statement by which the manifest was taken; None without.

        Returns:
            The artifacts' final names that were written now.

        Raises:
            ManifestError: what was signed as an archive of device trees is none; everything is as it was.
            MachineError: disk full, no permission, a directory where a file must be; everything is as it was, unless
                the disk fails while names are given.
        """
        wanted = {artifact.key: artifact for artifact in artifacts if not self.holds(artifact)}
        archive = wanted.get(DTB_ARCHIVE)
        unpacked = None if archive is None else _open_archive(archive, manifest, source(archive.sha256))
        with Staging() as staging:
            for key, artifact in wanted.items():
                if key != DTB_ARCHIVE:
                    self._stage(staging, self.path(artifact), source(artifact.sha256))
            right = self._members_here(manifest.artifacts.get(DTB_ARCHIVE))
            if archive is not None and unpacked is not None:
                found = self._trees.stage(staging, unpacked, source(archive.sha256))
                right = {DTB_PREFIX + name for name in found}
            leftovers = self._begin(manifest, unpacked)
            staged = {str(final.relative_to(self.directory)) for final in staging.finals}
            self._clear((leftovers | staged) - right, manifest)
            if archive is not None and unpacked is not None:
                self._trees.write_note(archive, [member.name for member in unpacked.members])
            staging.place()
        self._tidy_trees(leftovers, manifest.artifacts.get(DTB_ARCHIVE))
        for name, content in _small_files(manifest, detached, statement).items():
            write_file(self.directory / name, content)
        _remove(self._journal)
        return tuple(map(self.path, wanted.values()))

    def place_statement(self, statement: bytes | None) -> None:
        """Have the statement lie here by which a set was taken that is here already: it is renewed more often.

        Raises:
            MachineError: disk full, no permission.
        """
        path = self.directory / FRESHNESS
        if statement is None:
            _remove(path)
        elif _read_small(path) != statement:
            write_file(path, statement)

    def _begin(self, manifest: Manifest, unpacked: Archive | None) -> set[str]:
        """Note durably what may lie here, then take the mark of a whole set away.

        Returns:
            The files, relative to the directory, that earlier sets may have left.
        """
        # A command line that nobody signed says as much of what is booted as a kernel does.
        left = {CMDLINE} | self._left_by_killed() | _named_by(_read_small(self.directory / MANIFEST))
        left |= {DTB_PREFIX + name for name in self._trees.noted_names()}
        members = () if unpacked is None else unpacked.members
        names = left | _files_of(manifest) | {DTB_PREFIX + member.name for member in members}
        write_file(self._journal, json.dumps(sorted(names)).encode())
        _remove(self.directory / MANIFEST)
        _remove(self.directory / DETACHED)
        _remove(self.directory / FRESHNESS)
        return left

    def _left_by_killed(self) -> set[str]:
        try:
            names = decode_note(_read_small(self._journal) or b"[]")
        except ValueError:
            return set()
        return {name for name in names if _is_ours(name)} if isinstance(names, list) else set()

    def _stage(self, staging: Staging, path: Path, source: Path) -> None:
        make_directory(path.parent, 0o755)
        self._check_way(path)
        staging.link(source, path)

    def _check_way(self, path: Path) -> None:
        """What is placed lies in this directory, whatever links somebody left here."""
        if path.parent != self.directory:
            check_real_directory(path.parent, OUTPUT)

    def _clear(self, names: set[str], manifest: Manifest) -> None:
        """Remove, of these files, what is not right for this manifest."""
        right = {output_file_name(key): artifact for key, artifact in manifest.artifacts.items()}
        wrong = []
        for name in names:
            if name == CMDLINE:
                wanted = _small_files(manifest, None).get(name)
                is_right = wanted is not None and _read_small(self.directory / name) == wanted
            else:
                is_right = name in right and self.holds(right[name])
            if not is_right:
                self._trees.check_way(self.directory / name)
                wrong.append(self.directory / name)
        _remove(*wrong)

    def _tidy_trees(self, leftovers: set[str], archive: Artifact | None) -> None:
        if any(name.startswith(DTB_PREFIX) for name in leftovers):
            self._trees.remove_empty()
        members = self._members_here(archive)
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
        with open(open_regular(path), "rb") as file:
            return Archive.read(lambda offset, length: os.pread(file.fileno(), length, offset), artifact.size)
    except Malformed as error:
        raise ManifestError(
            f"{artifact.key} of manifest version {manifest.manifest_version}: {error.message}",
            remedy="tell its publisher",
        ) from None
    except OSError as error:
        raise machine_error(error, f"read {path}") from error


def _is_signed(table: PieceTable, artifact: Artifact) -> bool:
    stated = (artifact.size, artifact.piece_length, artifact.table_digest)
    return (table.size, table.piece_length, table.digest) == stated


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


def _small_files(
    manifest: Manifest, detached: str | None, statement: bytes | None = None
) -> dict[str, bytes]:
    """What lies beside the artifacts, in the order of writing: last the mark of a whole set."""
    small = {} if manifest.cmdline is None else {CMDLINE: f"{manifest.cmdline}\n".encode()}
    if detached is not None:
        small[DETACHED] = f"{detached.strip()}\n".encode()
    if statement is not None:
        small[FRESHNESS] = statement
    return {**small, MANIFEST: manifest.raw}


def _read_small(path: Path) -> bytes | None:
    """A file's bytes; None when there is none. Of one too large to be ours only the beginning."""
    try:
        if not path.is_file() or path.is_symlink():
            return None
        with open(open_regular(path), "rb") as file:
            return file.read(_MAX_SMALL_FILE)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise machine_error(error, f"read {path}") from error


def _remove(*paths: Path) -> None:
    """Remove files, those that are there; durably, when this returns."""
    changed = set[Path]()
    for path in paths:
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):  # its directory is not there either
            continue
        except OSError as error:
            raise machine_error(error, f"remove {path}") from error
        changed.add(path.parent)
    for directory in changed:
        try:
            fsync_directory(directory)
        except OSError as error:
            raise machine_error(error, f"sync {directory}") from error
