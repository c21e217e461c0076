"""Does the kernel tell of changes in the artifacts directory? What it takes is tried, and given back."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.doctor.findings import Code, Finding, ok, skipped, warning

LIMITS: Final[Mapping[int, str]] = {errno.EMFILE: "instances", errno.ENOSPC: "watches"}
"""What is used up, by what the kernel answers."""

_SETTINGS: Final[Mapping[int, tuple[str, str]]] = {
    errno.EMFILE: ("fs.inotify.max_user_instances", "user.max_inotify_instances"),
    errno.ENOSPC: ("fs.inotify.max_user_watches", "user.max_inotify_watches"),
}

_ENOUGH: Final[Mapping[int, int]] = {errno.EMFILE: 1024, errno.ENOSPC: 524_288}

MAX_DIRECTORIES: Final = 20_000
_CHANGES: Final = (
    0x00000FC6  # modified, closed after writing, moved, made, removed, also the directory itself
)
_FLAGS: Final = os.O_NONBLOCK | os.O_CLOEXEC


def limits(number: int) -> dict[str, int | None]:
    """The limits behind what the kernel answered, by the names that sysctl has for them; None: it is not told.

    Args:
        number: a key of `LIMITS`.
    """
    return {name: _sysctl(name) for name in _SETTINGS[number]}


def _sysctl(name: str) -> int | None:
    try:
        return int((Path("/proc/sys") / name.replace(".", "/")).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def shown_limits(number: int) -> str:
    """Them as a person reads them."""
    values = limits(number)
    return ", ".join(f"{name} = {'unknown' if value is None else value}" for name, value in values.items())


def lowest_limit(number: int) -> str:
    """The one that is to be raised."""
    values = limits(number)
    return min(values, key=lambda name: math.inf if (value := values[name]) is None else value)


def raising(number: int) -> str:
    """The command that raises it: to what is usual on a server, or to twice of what it is."""
    name = lowest_limit(number)
    return f"sysctl -w {name}={max(_ENOUGH[number], 2 * (limits(number)[name] or 0))}"


@dataclass(frozen=True, slots=True)
class Watched:
    """What came of watching a directory.

    Args:
        directories: that were watched, the directory itself and those below.
        error: what the kernel answered to the next one; None if there was none.
    """

    directories: int
    error: OSError | None = None


def try_watching(directory: Path) -> Watched:
    """Watch a directory and all below for a moment; blocking.

    Raises:
        OSError: the directory can not be read.
    """
    import ctypes  # nodes, which look at the limits alone, need not load it

    os.listdir(directory)
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = library.inotify_init1(_FLAGS)
    if descriptor < 0:
        return Watched(0, _error(ctypes.get_errno()))
    try:
        count = 0
        for path, _, _ in os.walk(directory):
            if library.inotify_add_watch(descriptor, os.fsencode(path), _CHANGES) < 0:
                error = _error(ctypes.get_errno())
                if error.errno in LIMITS:
                    return Watched(count, error)
                continue  # it went away meanwhile, or nobody may read it
            count += 1
            if count >= MAX_DIRECTORIES:
                break
        return Watched(count)
    finally:
        os.close(descriptor)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def judge_watching(directory: Path | None, watched: Watched | OSError | None) -> list[Finding]:
    """What came of it.

    Args:
        directory: the artifacts directory; None where there is none.
        watched: what came of watching it, or why it can not be read.
    """
    if directory is None:
        return [
            skipped(
                Code.NO_DIRECTORY, "inotify", "no artifacts directory is named, so nothing is to be watched"
            )
        ]
    subject = str(directory)
    if not isinstance(watched, Watched):
        why = "it is not there" if watched is None else watched.strerror or str(watched)
        text = f"the artifacts directory can not be read: {why}"
        return [warning(Code.DIRECTORY_UNREADABLE, subject, text, "check the path and its permissions")]
    if watched.error is None:
        settings = limits(errno.ENOSPC)
        allowed = min((value for value in settings.values() if value is not None), default=None)
        of = "" if allowed is None else f"; a user may have {allowed} watches"
        return [
            ok(Code.INOTIFY, subject, f"the kernel tells of changes: {_counted(watched.directories)}{of}")
        ]
    number = watched.error.errno or 0
    if number not in LIMITS:
        text = f"the kernel can not be asked for changes ({watched.error.strerror})"
        return [
            warning(
                Code.INOTIFY_USED_UP, subject, text, "a change is still noticed, by looking every few seconds"
            )
        ]
    watched_before = _counted(watched.directories)
    text = f"this user's inotify {LIMITS[number]} are used up after {watched_before} ({shown_limits(number)})"
    remedy = (
        f"end what uses them, or raise {lowest_limit(number)} with sysctl ({raising(number)}); a change is noticed"
        " all the same, seconds later"
    )
    return [warning(Code.INOTIFY_USED_UP, subject, text, remedy)]


def _counted(directories: int) -> str:
    return f"{directories} director{'y' if directories == 1 else 'ies'} watched"
