"""Progress of long work on standard error: a bar on a terminal, plain lines at intervals elsewhere.

Both forms satisfy `p2pboot.fetch.progress.Progress`; hashing reports through the same `artifact` method. They
may be called from several threads.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import click

from p2pboot.cli.output import QUIET, note, one_line
from p2pboot.core.amounts import size_text

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

LINE_INTERVAL_S = 5.0  # of plain lines about one artifact: a log is read, not watched


def open_progress(doing: str, done: str) -> PlainProgress:
    """The form that fits standard error; used in a `with` statement.

    Args:
        doing: what happens to an artifact, "hashing".
        done: what has happened to it in the end, "hashed".
    """
    context = click.get_current_context(silent=True)
    if context is not None and context.meta.get(QUIET):
        return PlainProgress(doing, done, write=_nothing)
    return BarProgress(doing, done) if sys.stderr.isatty() else PlainProgress(doing, done)


def _nothing(_line: str) -> None:
    pass


class PlainProgress:
    """Lines: one when an artifact is complete, and every few seconds in between."""

    def __init__(
        self,
        doing: str,
        done: str,
        *,
        write: Callable[[str], None] = note,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._doing = doing
        self._done = done
        self._write = write
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[
            str, tuple[float, int]
        ] = {}  # artifact → when it was last reported, with how many bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def artifact(self, key: str, done_bytes: int, total_bytes: int) -> None:
        """So much of an artifact is done."""
        with self._lock:
            now = self._clock()
            since, reported = self._last.setdefault(key, (now, -1))
            if done_bytes >= total_bytes > reported:
                self._last[key] = (now, done_bytes)
                self._write(f"{self._done} {key}: {size_text(total_bytes)}")
            elif done_bytes < total_bytes and now - since >= LINE_INTERVAL_S:
                self._last[key] = (now, done_bytes)
                percent = 100 * done_bytes // total_bytes
                self._write(f"{self._doing} {key}: {percent} % of {size_text(total_bytes)}")

    def note(self, text: str) -> None:
        """Something that a person may like to know."""
        self._write(text)

    def peer(self, peer_id: str, text: str) -> None:
        """Something about one peer."""
        self._write(f"{peer_id}: {text}")

    def stalled(self, why: str | None) -> None:
        """Nothing has arrived for a while, and why; that it goes on is seen."""
        if why is not None:
            self._write(why)


class BarProgress(PlainProgress):
    """One bar for each artifact; lines go above them."""

    def __init__(self, doing: str, done: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        console = Console(stderr=True, highlight=False)
        self._bars: RichProgress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        super().__init__(doing, done, write=self._line)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def artifact(self, key: str, done_bytes: int, total_bytes: int) -> None:
        """So much of an artifact is done."""
        with self._lock:
            if key not in self._tasks:
                self._tasks[key] = self._bars.add_task(f"{self._doing} {one_line(key)}", total=total_bytes)
            self._bars.update(self._tasks[key], completed=done_bytes, total=total_bytes)

    def _line(self, text: str) -> None:
        self._bars.console.print(one_line(text), markup=False)
