"""Watches a directory for changes, also when it is replaced, removed, or comes back.

The kernel's watch (inotify) follows the directory itself, not its name: after a rename over it, or when a symbolic
link is switched to another release, it would go on watching what nobody means any more. Of a network file system it
tells nothing, and a user may have no watches left. So the names are looked at as well, every few seconds: sizes and
times only, which takes less than a millisecond for an ordinary directory.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import trio
import watchfiles

from p2pboot.core.problems import Code, Problem
from p2pboot.doctor.inotify import LIMITS, lowest_limit, raising, shown_limits

log = logging.getLogger(__name__)

LOOK_S: Final = 3.0  # how often the names are looked at
AGAIN_S: Final = 5.0  # how often a watch is tried that could not be set up
MAX_ENTRIES: Final = 20_000  # looked at; beyond these only the kernel tells of a change
MAX_DEPTH: Final = 6  # <channel>/<arch>/dtbs/<vendor>/<file>; a link in a circle ends here
_DEBOUNCE_MS: Final = 1000  # many changes at once are one
_STEP_MS: Final = 100  # how soon the library's thread ends when the node does
Report = Callable[[list[Problem]], None]


async def watch_directory(directory: Path, changed: Callable[[], None], report: Report) -> None:
    """Watch until cancelled.

    Args:
        directory: need not exist.
        changed: called after anything changed below it, after it was replaced, vanished, or came back.
        report: is told what keeps the kernel from telling of changes, and when that is over.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_compare, directory, changed)
        while True:
            try:
                await _watch_until_replaced(directory, changed, report)
            except (OSError, RuntimeError) as error:  # it is gone, or the kernel has no watch left
                if await trio.to_thread.run_sync(directory.exists):
                    report([await trio.to_thread.run_sync(_problem, directory, error)])
                else:
                    report([])
                    log.debug("cannot watch %s: %s", directory, error)
                await trio.sleep(AGAIN_S)


async def _compare(directory: Path, changed: Callable[[], None]) -> None:
    """Look at the names again and again."""
    before = await trio.to_thread.run_sync(fingerprint, directory)
    while True:
        await trio.sleep(LOOK_S)
        now = await trio.to_thread.run_sync(fingerprint, directory)
        if now != before:
            changed()
        before = now


async def _watch_until_replaced(directory: Path, changed: Callable[[], None], report: Report) -> None:
    identity = await trio.to_thread.run_sync(_identity, directory)
    changes = watchfiles.awatch(
        directory,
        watch_filter=None,
        debounce=_DEBOUNCE_MS,
        step=_STEP_MS,
        rust_timeout=round(LOOK_S * 1000),
        yield_on_timeout=True,
        stop_event=_Cancellation(),  # type: ignore[arg-type]  # of an event, only this much is used
    )
    async with contextlib.aclosing(changes):
        async for batch in changes:
            report([])
            if batch:
                changed()
            if await trio.to_thread.run_sync(_identity, directory) != identity:
                return


def _identity(directory: Path) -> tuple[int, int]:
    status = directory.stat()
    return status.st_dev, status.st_ino


def fingerprint(directory: Path) -> bytes:
    """Something that changes when anything below a directory does: names, sizes, times and inodes; blocking."""
    seen = hashlib.blake2b(digest_size=16)
    for path, status in _below(directory):
        seen.update(
            f"{path}\0{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}\n".encode(
                errors="surrogateescape"
            )
        )
    return seen.digest()


def touched_within(directory: Path, now_ns: int, seconds: float) -> bool:
    """Whether anything below a directory changed less than so many seconds ago; blocking.

    Times that lie further ahead than that (a clock that was wrong) do not count.
    """
    return any(
        abs(now_ns - at) < seconds * 1e9
        for _, status in _below(directory)
        for at in (status.st_mtime_ns, status.st_ctime_ns)
    )


def _below(directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    """The directory and what lies in it, in a fixed order, links followed; nothing of what can not be read."""
    left = MAX_ENTRIES
    waiting = [(str(directory), 0)]
    while waiting and left > 0:
        path, depth = waiting.pop()
        left -= 1
        try:
            status = os.stat(path)
            names = sorted(os.listdir(path)) if stat.S_ISDIR(status.st_mode) and depth < MAX_DEPTH else []
        except OSError:
            continue
        yield path, status
        waiting += [(os.path.join(path, name), depth + 1) for name in reversed(names)]


def _problem(directory: Path, error: Exception) -> Problem:
    """Name the limit that is reached: the system's own words for it speak of open files, and of disks."""
    number = error.errno if isinstance(error, OSError) and error.errno else _errno_in(str(error))
    if number not in LIMITS or (number == errno.EMFILE and not _can_open_files()):
        text = f"the kernel can not be asked for changes ({error})"
        remedy = "a change is still noticed, by looking every few seconds"
    else:
        text = f"this user's inotify {LIMITS[number]} are used up ({shown_limits(number)})"
        remedy = (
            f"end what uses them, or raise {lowest_limit(number)} with sysctl ({raising(number)}); meanwhile the"
            " directory is looked at every few seconds"
        )
    return Problem(Code.INOTIFY, str(directory), text, remedy)


def _errno_in(text: str) -> int:
    """The library words some errors itself."""
    lowered = text.lower()
    if "watch limit" in lowered or "os error 28" in lowered or "no space" in lowered:
        return errno.ENOSPC
    return errno.EMFILE if "os error 24" in lowered or "too many open files" in lowered else 0


def _can_open_files() -> bool:
    """Whether it is inotify, and not this process, that has run out of descriptors."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


class _Cancellation:
    """Looks like an event to the library's thread, which a cancelled task waits for: set once it is cancelled."""

    def is_set(self) -> bool:
        """Whether to end."""
        try:
            trio.from_thread.check_cancelled()
        except trio.Cancelled:
            return True
        return False

    def set(self) -> None:
        """Called when the task was cancelled before there was a thread: nobody asks any more."""
