"""The archive of device trees: made of the files in the artifacts directory, kept in the state directory, served there.

A manifest has room for a few dozen device trees, and a kernel for arm64 comes with more than a thousand. So they are
published as one artifact (:mod:`p2pboot.core.devicetrees`), whose file has to exist to be served::

    <state>/archives/<12 hex>/dtbs-<16 hex>.tar     named after the state of the files that it was made of
    <state>/archives/<12 hex>/source                the directory that they are in, after which this one is named

It is made again only when one of them changed, and the one before is kept, as it is still being served while the next
is hashed and signed. What belongs to directories that are gone is removed. One that an earlier process left is compared
with its files before it is signed: its name is no proof of what is in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from cachetools import LRUCache

from p2pboot.core.devicetrees import ENDINGS, archive_bytes, end, header, layout, padding
from p2pboot.core.names import DTB_ARCHIVE, DTB_PREFIX
from p2pboot.errors import ArtifactError, machine_error
from p2pboot.publish.tree import Tree
from p2pboot.store.durable import (
    clean_temporaries,
    make_directory,
    preallocate,
    put_in_place,
    temporary_file,
    write_at,
    write_file,
)
from p2pboot.store.hashes import FileIdentity
from p2pboot.store.hashing import ChangedWhileHashing
from p2pboot.store.ownership import STATE, check_real_directory
from p2pboot.store.reading import open_regular

_DIRECTORY: Final = "archives"
_SOURCE: Final = "source"
_LONGEST_PATH: Final = 4096
_KEPT: Final = 2  # the one that is published next, and the one in force
_compared: Final = LRUCache[FileIdentity, None](
    256
)  # archives that this process knows to be what they are called


def files_to_publish(
    tree: Tree, state: Path, *, named: Mapping[str, object] | None = None, interrupt: Callable[[], None]
) -> dict[str, Path]:
    """Return the file of every artifact of a tree, with an archive of its device trees where it has one.

    Args:
        tree: from :func:`p2pboot.publish.scan.scan`.
        state: the state directory.
        named: artifacts of a manifest that exists already, which says whether there is an archive; None: the tree does.
        interrupt: called for each device tree that is read; what it raises ends the work.

    Raises:
        ArtifactError: the device trees do not fit into an archive.
        ChangedWhileHashing: one of them is still being written.
        MachineError: something can not be read or written.
    """
    files = {key: path for key, path in tree.files.items() if not key.startswith(DTB_PREFIX)}
    trees = tree.device_trees
    in_archive = bool(tree.archived) if named is None else DTB_ARCHIVE in named
    try:
        check_real_directory(state / _DIRECTORY, STATE)
        _remove_gone(state / _DIRECTORY)
        if trees and in_archive:
            files[DTB_ARCHIVE] = _archive(tree, trees, state, interrupt)
        else:
            _remove_place(_place(tree.directory, state))
            files |= {DTB_PREFIX + name.removesuffix(ENDINGS[0]): path for name, path in trees.items()}
    except OSError as error:
        raise machine_error(error, f"keep the device trees of {tree.directory} in {state}") from error
    return dict(sorted(files.items()))


def kept_archives(directory: Path, state: Path) -> list[Path]:
    """The archives that were made of a directory's device trees and are still there; raises nothing.

    Args:
        directory: where the files of one channel and architecture lie.
        state: the state directory.
    """
    return sorted(_place(directory, state).glob("dtbs-*.tar"))


def _place(directory: Path, state: Path) -> Path:
    return state / _DIRECTORY / hashlib.sha256(_source(directory)).hexdigest()[:12]


def _source(directory: Path) -> bytes:
    return os.fsencode(os.path.abspath(directory))


def _archive(tree: Tree, trees: Mapping[str, Path], state: Path, interrupt: Callable[[], None]) -> Path:
    """The archive of these files as they are now: the one that is there, or a new one."""
    identities = {name: _identity(path) for name, path in sorted(trees.items())}
    states = [[name, identity.key] for name, identity in identities.items()]
    fingerprint = hashlib.sha256(json.dumps(states).encode()).hexdigest()[:16]
    place = _place(tree.directory, state)
    path = place / f"dtbs-{fingerprint}.tar"
    if not check_real_directory(place, STATE) or not _is_made_of(path, trees, identities, interrupt):
        make_directory(place)
        clean_temporaries(place)
        write_file(place / _SOURCE, _source(tree.directory))
        _write(path, trees, identities, interrupt)
    _keep_newest(place, path)
    return path


def _identity(path: Path) -> FileIdentity:
    try:
        return FileIdentity.of(path.stat())
    except FileNotFoundError:
        raise ChangedWhileHashing(path) from None


def _write(
    final: Path,
    trees: Mapping[str, Path],
    identities: Mapping[str, FileIdentity],
    interrupt: Callable[[], None],
) -> None:
    try:
        members = layout((name, identity.size) for name, identity in identities.items())
    except ValueError as error:
        raise ArtifactError(str(error), remedy="remove device trees that no machine needs") from None
    with temporary_file(final, 0o600) as (temporary, fd):
        size = archive_bytes(members)
        preallocate(fd, size, [(0, size)], final.parent)
        offset = 0
        for member in members:
            interrupt()
            content = _read(trees[member.name], identities[member.name])
            block = header(member) + content + padding(member.size)
            write_at(fd, block, offset)
            offset += len(block)
        write_at(fd, end(), offset)
        put_in_place(fd, temporary, final)
        _compared[FileIdentity.of(os.fstat(fd))] = None


def _read(path: Path, identity: FileIdentity) -> bytes:
    """The content of a file that is in the state that was seen.

    Raises:
        ChangedWhileHashing: it is not, or not any more.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ChangedWhileHashing(path) from None
    with os.fdopen(fd, "rb") as file:
        if FileIdentity.of(os.fstat(fd)) != identity:
            raise ChangedWhileHashing(path)
        content = file.read(identity.size + 1)
        if len(content) != identity.size or FileIdentity.of(os.fstat(fd)) != identity:
            raise ChangedWhileHashing(path)
    return content


def _is_made_of(
    path: Path,
    trees: Mapping[str, Path],
    identities: Mapping[str, FileIdentity],
    interrupt: Callable[[], None],
) -> bool:
    """Whether a file is the archive of these files; it is read once by each process."""
    try:
        fd = open_regular(path)
    except OSError:
        return False
    try:
        found = FileIdentity.of(os.fstat(fd))
        if found in _compared:
            return True
        members = layout((name, identity.size) for name, identity in identities.items())
        offset = 0
        for member in members:
            interrupt()
            block = header(member) + _read(trees[member.name], identities[member.name]) + padding(member.size)
            if os.pread(fd, len(block), offset) != block:
                return False
            offset += len(block)
        if os.pread(fd, len(end()) + 1, offset) != end():
            return False
    except ValueError:  # they fit into none, which making it says
        return False
    finally:
        os.close(fd)
    _compared[found] = None
    return True


def _keep_newest(place: Path, current: Path) -> None:
    others = [path for path in place.glob("dtbs-*.tar") if path != current]
    for path in sorted(others, key=_written_at)[: max(0, len(others) - (_KEPT - 1))]:
        path.unlink(missing_ok=True)


def _written_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _remove_gone(archives: Path) -> None:
    """Remove the archives of directories that do not exist any more: nothing else would ever look at them."""
    for source in archives.glob(f"*/{_SOURCE}"):
        with open(open_regular(source), "rb") as file:
            named = file.read(_LONGEST_PATH)
        if not os.path.isdir(os.fsdecode(named)):
            _remove_place(source.parent)


def _remove_place(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
