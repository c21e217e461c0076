"""Can the state directory be used, and is there room for what is to come into it?"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Manifest
from p2pboot.doctor.findings import Code, Finding, failed, ok, skipped, warning
from p2pboot.doctor.patient import Patient
from p2pboot.errors import P2PBootError, machine_error
from p2pboot.store.durable import free_bytes
from p2pboot.store.ownership import NotOurs
from p2pboot.store.recovery import is_outdated
from p2pboot.store.resolving import find_doubt

_PROBE: Final = bytes(65_536)
_TMPFILE: Final = getattr(os, "O_TMPFILE", 0)
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Disk:
    """What was found of a state directory.

    Args:
        path: the directory.
        is_named: whether somebody named it, or it is only where the platform wants it.
        exists: whether it is there.
        is_outdated: whether an earlier p2pboot has written it; then it is not opened, which would change it.
        is_others: it is another user's, and root looks.
        error: why it can not be used.
        doubt: why nothing is published or accepted with it.
        no_room: the disk takes not even a few bytes, in the system's words.
        free: bytes that may be written; None where that is not told.
        limit: bytes that the store may still take by its quota; None for no limit.
    """

    path: Path
    is_named: bool = True
    exists: bool = True
    is_outdated: bool = False
    is_others: bool = False
    error: P2PBootError | None = None
    doubt: P2PBootError | None = None
    no_room: str | None = None
    free: int | None = None
    limit: int | None = None


def look_at_disk(patient: Patient) -> Disk | None:
    """Look at the state directory, and write a little beside it all; None where none is known. Blocking.

    Nothing stays: what is written has no name.
    """
    path = patient.settings.store.known
    if path is None:
        return None
    exists = path.is_dir()
    place = path if exists else _nearest(path)
    found: dict[str, object] = {}
    try:
        if exists:
            if patient.store is not None:
                found["doubt"] = patient.store.doubt()
            elif is_outdated(path):
                found["is_outdated"] = True
            else:
                found["doubt"] = _doubt(path)
            with patient.memory() as store:
                if store is not None:
                    limit = store.blobs.room.limit_bytes()
                    found["limit"] = None if limit is None else max(limit - store.blobs.used_bytes(), 0)
        elif not os.access(place, os.W_OK | os.X_OK):
            raise machine_error(OSError(errno.EACCES, os.strerror(errno.EACCES)), f"make {path}")
        found["free"] = free_bytes(place)
        _write(place)
    except OSError as error:
        if error.errno in _FULL:
            found["no_room"] = error.strerror or str(error)
        else:
            found["error"] = machine_error(error, f"write in {place}")
    except P2PBootError as error:
        found["error"] = error
        found["is_others"] = isinstance(error, NotOurs) and os.geteuid() == 0
    is_named = patient.settings.store.chosen is not None
    return Disk(path, is_named, exists, **found)  # type: ignore[arg-type]  # made above


def _doubt(path: Path) -> P2PBootError | None:
    found = find_doubt(path)
    return None if found is None else found.doubt


def _nearest(path: Path) -> Path:
    """The directory in which the first one that is missing would be made."""
    return next((one for one in path.absolute().parents if one.is_dir()), Path("/"))


def _write(directory: Path) -> None:
    """Write to a file that has no name; where the file system knows no such files, nothing is tried."""
    if not _TMPFILE:
        return
    try:
        descriptor = os.open(directory, _TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}:
            return
        raise
    try:
        os.write(descriptor, _PROBE)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def judge_state(disk: Disk | None, running: int | None = None) -> list[Finding]:
    """Whether the state directory can be used.

    Args:
        disk: as it was found; None where none is known.
        running: process id of another process, a node that runs with it.
    """
    if disk is None:
        text = "no state directory is known: none was named, and this user has no home directory"
        return [skipped(Code.NO_STATE, "state directory", text, "a node needs one: --state DIR")]
    subject = str(disk.path)
    if disk.error is not None and not disk.exists and not disk.is_named:
        text = f"{disk.error.message}: commands that only ask need no state"
        return [warning(Code.NO_STATE, subject, text, "for a node name another one: --state DIR")]
    if disk.error is not None and disk.is_others:
        text = f"{disk.error.message}, so root can not say more of it"
        return [skipped(Code.STATE_UNUSABLE, subject, text, "run this as the user whose it is")]
    if disk.error is not None:
        return [failed(Code.STATE_UNUSABLE, subject, disk.error.message, disk.error.remedy)]
    if disk.doubt is not None:
        remedy = f"`p2pboot state recover --state {disk.path}` says how to go on"
        return [failed(Code.STATE_IN_DOUBT, subject, disk.doubt.message, disk.doubt.remedy or remedy)]
    text = "it can be written" if disk.exists else "it is not there yet, and can be made"
    if disk.is_outdated:
        text += "; it is an earlier p2pboot's, and the next node or `fetch` that uses it brings it up to date"
    if running is not None:
        text += (
            f", and a node runs with it (process {running}): `p2pboot doctor --node` has that one look itself"
        )
    return [ok(Code.STATE, subject, text)]


def judge_room(disk: Disk | None, wanted: Iterable[Manifest]) -> list[Finding]:
    """Whether there is room.

    Args:
        disk: as it was found.
        wanted: manifests that are taken, of which the largest is to find room.
    """
    if disk is None or (disk.free is None and disk.no_room is None):
        return []
    subject = str(disk.path)
    if disk.no_room is not None or disk.free == 0:
        text = f"the disk takes nothing: {disk.no_room or 'no byte is free'}"
        return [failed(Code.DISK_FULL, subject, text, "free some space, or use a directory on another disk")]
    free = disk.free or 0
    room = free if disk.limit is None else min(free, disk.limit)
    text = f"{_size(free)} are free" + (
        "" if disk.limit is None else f", of which the store may take {_size(room)} by its quota"
    )
    largest = max(
        (sum({a.sha256: a.size for a in one.artifacts.values()}.values()) for one in wanted), default=0
    )
    if room <= largest:
        needed = f"; the largest image that was found has {_size(largest)}" if largest else ""
        remedy = "free some space, or raise --quota"
        return [warning(Code.LITTLE_ROOM, subject, text + needed, remedy)]
    return [ok(Code.DISK, subject, text)]


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
