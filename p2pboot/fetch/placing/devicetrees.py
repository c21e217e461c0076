"""Device trees that came in one archive, in the output directory: each under its own name below ``dtbs/``.

The archive itself is not left there. It has the one form that its members allow (:mod:`p2pboot.core.devicetrees`), so
making it again in thought tells whether the directory is complete: its hash is the manifest's. Which files are members
is noted beside the directory's other notes; without a note it is taken to be every device tree that lies there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.devicetrees import (
    MAX_DIRECTORIES,
    MAX_MEMBER_BYTES,
    Archive,
    Member,
    archive_bytes,
    check_member_name,
    check_member_names,
    end,
    header,
    layout,
    padding,
)
from p2pboot.core.jsonform import decode_note
from p2pboot.core.manifest import Artifact
from p2pboot.errors import machine_error
from p2pboot.fetch.placing.staging import Staging
from p2pboot.store.durable import (
    clean_temporaries,
    make_directory,
    write_file,
)
from p2pboot.store.ownership import OUTPUT, check_real_directory
from p2pboot.store.reading import open_regular

_MAX_NOTE_BYTES: Final = 4 * 1024 * 1024  # 8192 names of 100 bytes, twice over


@dataclass(frozen=True, slots=True)
class DeviceTrees:
    """The directory ``dtbs`` of an output directory. All methods block, and raise MachineError when the disk fails.

    Args:
        directory: where the device trees go; need not exist.
        note: the file that names the members.
        interrupt: called for each device tree that is read; what it raises ends the work.
    """

    directory: Path
    note: Path
    interrupt: Callable[[], None]

    def clean(self) -> None:
        """Remove what a killed process left half-written.

        Raises:
            NotOurs: the directory is a link that leads elsewhere.
        """
        check_real_directory(self.directory, OUTPUT)
        for place, _names, _files in os.walk(self.directory):
            clean_temporaries(Path(place))

    def holds(self, artifact: Artifact) -> bool:
        """Whether every member of this archive is there, intact; reads all of them."""
        try:
            names = self.names_of(artifact)
            for name in names:
                self.check_way(self.directory / name)
            members = layout((name, self._size(name)) for name in names)
            return archive_bytes(members) == artifact.size and self._digest(members) == artifact.sha256
        except (ValueError, FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise machine_error(error, f"read {error.filename or self.directory}") from error

    def names_of(self, artifact: Artifact) -> tuple[str, ...]:
        """The members of this archive by the note, or else every device tree that lies there; sorted."""
        noted, names = self._noted()
        return names if noted == artifact.sha256 else tuple(sorted(self._listed(self.directory, "", 0)))

    def check_way(self, path: Path) -> None:
        """Refuse a file that a link among the directories above it, up to this one, leads elsewhere.

        Raises:
            NotOurs: there is one.
        """
        for parent in path.parents:
            if not parent.is_relative_to(self.directory):
                return
            check_real_directory(parent, OUTPUT)

    def is_noted(self, artifact: Artifact) -> bool:
        """Whether the members that were placed last are those of this archive."""
        return self._noted()[0] == artifact.sha256

    def noted_names(self) -> tuple[str, ...]:
        """The members that were placed last."""
        return self._noted()[1]

    def write_note(self, artifact: Artifact, names: Iterable[str]) -> None:
        """Note durably which files belong to an archive."""
        write_file(self.note, json.dumps({"sha256": artifact.sha256, "names": sorted(names)}).encode())

    def stage(self, staging: Staging, archive: Archive, file: Path) -> set[str]:
        """Make ready the members of a verified archive that are not there yet, or not intact.

        Args:
            staging: gets them.
            archive: what is in it.
            file: where it lies.

        Returns:
            The names of the others, which are right as they are.
        """
        right = set[str]()
        try:
            fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                for member in archive.members:
                    self.interrupt()
                    path = self.directory / member.name
                    make_directory(path.parent, 0o755)
                    self.check_way(path)
                    content = os.pread(fd, member.size, member.offset)
                    if _is_there(path, content):
                        right.add(member.name)
                    else:
                        staging.write(path, content)
            finally:
                os.close(fd)
        except OSError as error:
            raise machine_error(error, f"write the device trees into {self.directory}") from error
        return right

    def remove_empty(self) -> None:
        """Remove directories below this one, and this one itself, that have nothing in them any more."""
        for place, _names, _files in os.walk(self.directory, topdown=False):
            with contextlib.suppress(OSError):  # not empty, or somebody else's
                os.rmdir(place)

    def _size(self, name: str) -> int:
        status = (self.directory / name).lstat()
        return status.st_size if stat.S_ISREG(status.st_mode) else 0  # of which there is no member

    def _digest(self, members: Iterable[Member]) -> str:
        whole = hashlib.sha256()
        for member in members:
            self.interrupt()
            with open(open_regular(self.directory / member.name), "rb") as file:
                content = file.read(MAX_MEMBER_BYTES + 1)
            whole.update(header(member) + content + padding(member.size))
        whole.update(end())
        return whole.hexdigest()

    def _listed(self, directory: Path, prefix: str, depth: int) -> Iterator[str]:
        for entry in os.scandir(directory):
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                if depth < MAX_DIRECTORIES:
                    yield from self._listed(directory / entry.name, f"{name}/", depth + 1)
            else:
                with contextlib.suppress(ValueError):
                    yield check_member_name(name)

    def _noted(self) -> tuple[str | None, tuple[str, ...]]:
        """Hash of the archive and names of its members; what is no such note is none."""
        try:
            with open(open_regular(self.note), "rb") as file:
                found = decode_note(file.read(_MAX_NOTE_BYTES))
            names = tuple(found["names"])
            check_member_names(names)  # they will be removed one day: nothing outside of the directory
            return str(found["sha256"]), names
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return None, ()
        except OSError as error:
            raise machine_error(error, f"read {self.note}") from error


def _is_there(path: Path, content: bytes) -> bool:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == len(content) and path.read_bytes() == content
