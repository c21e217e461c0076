"""Watches a directory for changes, also when it is replaced, removed, or comes back.

The kernel's watch follows the directory itself, not its name: after a rename over it, or when a symbolic link is
switched to another release, it would go on watching what nobody means any more. So the name is looked at as well.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio
import watchfiles

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0  # how often the name is looked at
AGAIN_S: Final = 5.0  # how often a watch is tried that could not be set up
_DEBOUNCE_MS: Final = 1000  # many changes at once are one
_STEP_MS: Final = 100  # how soon the library's thread ends when the node does


async def watch_directory(directory: Path, changed: Callable[[], None]) -> None:
    """Watch until cancelled.

    Args:
        directory: need not exist.
        changed: called after anything changed below it, after it was replaced, vanished, or came back.
    """
    broken = False
    while True:
        try:
            await _watch_until_replaced(directory, changed, anew=broken)
        except (OSError, RuntimeError) as error:  # it is gone, or the kernel has no watch left
            if not broken:
                log.warning("cannot watch %s: %s", directory, error)
                changed()
            broken = True
            await trio.sleep(AGAIN_S)
        else:
            changed()
            broken = False


async def _watch_until_replaced(directory: Path, changed: Callable[[], None], *, anew: bool) -> None:
    identity = await trio.to_thread.run_sync(_identity, directory)
    if anew:
        changed()  # what happened since the last watch was not seen
    changes = watchfiles.awatch(
        directory,
        watch_filter=None,
        debounce=_DEBOUNCE_MS,
        step=_STEP_MS,
        rust_timeout=round(LOOK_S * 1000),
        yield_on_timeout=True,
        stop_event=_Cancellation(),  # type: ignore[arg-type]  # of an event, only this is asked
    )
    async with contextlib.aclosing(changes):
        async for batch in changes:
            if batch:
                changed()
            if await trio.to_thread.run_sync(_identity, directory) != identity:
                return


def _identity(directory: Path) -> tuple[int, int]:
    status = directory.stat()
    return status.st_dev, status.st_ino


class _Cancellation:
    """Looks like an event to the library's thread, which a cancelled task waits for: set once it is cancelled."""

    def is_set(self) -> bool:
        """Whether to end."""
        try:
            trio.from_thread.check_cancelled()
        except trio.Cancelled:
            return True
        return False
