"""Looks through a snapshot directory: which files may be snapshots, what is left out, and why.

Knows names and kinds of files only; what is in them, :mod:`.disk` finds out. The source system walks its directory
recursively, so we do: `manifest/chunks.json` is as much a snapshot as `<root>.json`.

A link to a regular file is followed, wherever it points: mounted volumes and stores that are kept elsewhere are made
of them, and who may put a link here may put the file here. A link to a directory is not: it could point at `/`, or
at its own parent. Names that begin with a dot are nobody's snapshots, and neither is what file systems and network
storage leave behind.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import machine_error

PAYLOAD_SUFFIX: Final = ".json"
SIGNATURE_SUFFIX: Final = ".sig"

MAX_DEPTH: Final = 8
"""Directories below the store's own; the source system needs one."""
MAX_DIRECTORIES: Final = 256
"""Each is asked for its time whenever a peer wants a root that is not known."""
MAX_ENTRIES: Final = 200_000
MAX_LEFT_OUT: Final = 1000
"""Entries that are remembered with their reason; a person reads the first few."""

_LINKED_DIRECTORY: Final = "is a link to a directory, and these are not followed"
_LEAVINGS: Final = frozenset({"lost+found", "@eaDir", "#recycle", "#snapshot", "System Volume Information"})


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something in the directory that is not served.

    Args:
        name: relative to the directory.
        reason: what it is, as the end of a sentence that begins with its name.
        is_meant: somebody expects it to be served: it is named as a snapshot is, or may hold snapshots.
    """

    name: str
    reason: str
    is_meant: bool = False


@dataclass(slots=True)
class Walk:
    """What a walk found.

    Args:
        payloads: files that may be snapshots, by their name relative to the directory, sorted.
        signatures: likewise the names of payloads that have a signature beside them, there or not.
        directories: time of the last change of every directory, nanoseconds.
        left_out: the first of what is not served.
        left_out_count: how much that is in all.
    """

    payloads: dict[str, Path] = field(default_factory=dict)
    signatures: set[str] = field(default_factory=set)
    directories: dict[Path, int] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    left_out_count: int = 0

    def leave_out(self, name: str, reason: str, *, is_meant: bool = False) -> None:
        """Note that something is not served."""
        self.left_out_count += 1
        if len(self.left_out) < MAX_LEFT_OUT:
            self.left_out.append(LeftOut(name, reason, is_meant))


def walk(directory: Path) -> Walk:
    """Look through a directory and those in it.

    Raises:
        MachineError: the directory itself can not be read.
    """
    found = Walk()
    for number, (name, entry) in enumerate(_entries(directory, found)):
        if number == MAX_ENTRIES:
            reason = f"and what follows is beyond the first {MAX_ENTRIES} entries"
            found.leave_out(name, reason, is_meant=True)
            break
        _sort_in(name, entry, found)
    found.payloads = dict(sorted(found.payloads.items()))
    for name in sorted(found.signatures - found.payloads.keys()):
        found.leave_out(name + SIGNATURE_SUFFIX, "is the signature of a snapshot that is not here")
    return found


def _entries(directory: Path, found: Walk) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every entry but directories, with its name relative to the directory."""
    waiting = [(directory, "", 0)]
    while waiting:
        path, prefix, depth = waiting.pop()
        try:
            changed_at = path.stat().st_mtime_ns
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            if not prefix:
                raise machine_error(error, f"read {directory}") from error
            found.leave_out(prefix, f"can not be read: {error.strerror or error}", is_meant=True)
            continue
        found.directories[path] = changed_at
        for entry in entries:
            name = prefix + entry.name
            if entry.name.startswith(".") or entry.name in _LEAVINGS:
                continue
            if not entry.is_dir(follow_symlinks=False):
                yield name, entry
            elif depth == MAX_DEPTH:
                reason = f"lies below {MAX_DEPTH} other directories, which is too deep"
                found.leave_out(name + "/", reason, is_meant=True)
            elif len(found.directories) + len(waiting) >= MAX_DIRECTORIES:
                found.leave_out(
                    name + "/", f"is beyond the first {MAX_DIRECTORIES} directories", is_meant=True
                )
            else:
                waiting.append((Path(entry.path), name + "/", depth + 1))


def _sort_in(name: str, entry: os.DirEntry[str], found: Walk) -> None:
    if name.endswith(PAYLOAD_SUFFIX + SIGNATURE_SUFFIX):
        found.signatures.add(name.removesuffix(SIGNATURE_SUFFIX))  # a broken one is not a missing one
        return
    fault = _fault(entry)
    is_meant = name.endswith(PAYLOAD_SUFFIX) or fault == _LINKED_DIRECTORY
    if fault is not None:
        found.leave_out(name, fault, is_meant=is_meant)
    elif is_meant:
        found.payloads[name] = Path(entry.path)
    else:
        found.leave_out(name, f"is not named *{PAYLOAD_SUFFIX}")


def _fault(entry: os.DirEntry[str]) -> str | None:
    """Why an entry is no file that can be served; None when it is one."""
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        if entry.is_symlink():
            return f"is a link to nothing: {error.strerror or error}"
        return f"can not be read: {error.strerror or error}"
    if stat.S_ISREG(mode):
        return None
    if entry.is_symlink() and stat.S_ISDIR(mode):
        return _LINKED_DIRECTORY
    return "is no regular file"
