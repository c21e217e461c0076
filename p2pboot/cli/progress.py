"""Progress of long work on standard error: a bar on a terminal, plain lines at intervals elsewhere.

Both forms satisfy `p2pboot.fetch.progress.Progress`; hashing and checking report through the same `artifact` method.
They may be called from several threads. What they say is :mod:`p2pboot.core.headway`. Where standard error goes away
(a terminal that was closed, a reader that left) they fall silent, and the work goes on.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, TextIO, cast

import click

from p2pboot.cli.output import QUIET, note, one_line
from p2pboot.core.amounts import size_text
from p2pboot.core.headway import Headway, HeadwayTally, Source

if TYPE_CHECKING:
    from rich.live import Live

LINE_INTERVAL_S = 5.0  # of plain lines: a log is read, not watched
LONGEST_INTERVAL_S = 60.0  # while nothing comes: twice as long from line to line
_FRAMES_PER_S = 4
_MOST_BAR = 60  # columns


def open_progress(doing: str, done: str, *, transfers: bool = False) -> PlainProgress:
    """The form that fits standard error; used in a `with` statement.

    Args:
        doing: what happens to an artifact, "hashing".
        done: what has happened to it in the end, "hashed".
        transfers: whether peers bring it (see `HeadwayTally`).
    """
    if _is_quiet():
        return PlainProgress(doing, done, transfers=transfers, write=_nothing)
    if _has_terminal():
        return BarProgress(doing, done, transfers=transfers)
    return PlainProgress(doing, done, transfers=transfers)


def bars_on_terminal() -> Callable[[str], AbstractContextManager[PlainProgress | None]] | None:
    """What shows a node's take-overs on the terminal that it was started on, one at a time.

    Given what is taken over it opens a bar, which is gone at the end, or None while another is shown. None: there is no
    terminal, or it is to stay quiet.
    """
    if _is_quiet() or not _has_terminal():
        return None
    is_busy = False

    @contextmanager
    def show(subject: str) -> Iterator[PlainProgress | None]:
        nonlocal is_busy
        if is_busy:
            yield None
            return
        is_busy = True
        try:
            with BarProgress(f"{subject}: fetching", "fetched", transfers=True, stays=False) as bar:
                yield bar
        finally:
            is_busy = False

    return show


def _is_quiet() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(QUIET))


def _has_terminal() -> bool:
    """Whether standard error is one that can move its cursor."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _nothing(_line: str) -> None:
    pass


class PlainProgress:
    """Lines: one when an artifact is complete, and every few seconds how far all of it is.

    Args:
        doing, done, transfers: as `open_progress`.
        write: takes each line.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        doing: str,
        done: str,
        *,
        transfers: bool = False,
        write: Callable[[str], None] = note,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._doing = doing
        self._done = done
        self._write = write
        self._clock = clock
        self._lock = threading.Lock()
        self._began_at = clock()
        self._tally = HeadwayTally(self._began_at, transfers=transfers)
        self._complete: dict[str, int] = {}  # what was said to be done, with its size
        self._next_line = self._began_at + LINE_INTERVAL_S
        self._pause_s = LINE_INTERVAL_S

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def plan(self, sizes: Mapping[str, int]) -> None:
        """All that is wanted, bytes by artifact."""
        with self._lock:
            self._tally.plan(sizes)

    def artifact(self, key: str, done_bytes: int, total_bytes: int) -> None:
        """So much of an artifact is done; at first, what was there before."""
        with self._lock:
            self._tally.artifact(key, done_bytes, total_bytes, self._clock())
            if done_bytes < total_bytes:
                self._look()
            elif total_bytes and self._complete.get(key) != total_bytes:
                self._complete[key] = total_bytes
                self._ended(f"{self._done} {key}: {size_text(total_bytes)}")

    def known(self, key: str, size_bytes: int) -> None:
        """So much of an artifact needs no work; `artifact` counts it all the same afterwards."""
        with self._lock:
            self._tally.known(key, size_bytes)

    def arrived(self, peer_id: str, source: Source, size_bytes: int) -> None:
        """So much came from a peer."""
        with self._lock:
            self._tally.arrived(peer_id, source, size_bytes, self._clock())

    def pulse(self, idle_s: float, peers: int) -> None:
        """For how long nothing came, and how many peers are connected."""
        with self._lock:
            self._tally.pulse(idle_s, peers, self._clock())
            self._look()

    def note(self, text: str) -> None:
        """Something that a person may like to know."""
        self._say(text)

    def peer(self, peer_id: str, text: str) -> None:
        """Something about one peer."""
        self._say(f"{peer_id}: {text}")

    def stalled(self, why: str | None) -> None:
        """Nothing has arrived for a while, and why; that it goes on is seen."""
        if why is not None:
            self._say(why)

    def headway(self) -> Headway:
        """How far all of it is."""
        with self._lock:
            return self._tally.headway(self._clock())

    def _look(self) -> None:
        """Say how far it is, if that is due; called with the lock."""
        now = self._clock()
        if now < self._next_line:
            return
        headway = self._tally.headway(now)
        is_waiting = headway.waiting_s is not None
        self._pause_s = min(2 * self._pause_s, LONGEST_INTERVAL_S) if is_waiting else LINE_INTERVAL_S
        self._next_line = now + self._pause_s
        self._say(headway.text(self._doing))

    def _ended(self, line: str) -> None:
        self._say(line)

    def _say(self, line: str) -> None:
        with suppress(OSError):  # nobody looks any more
            self._write(line)


class BarProgress(PlainProgress):
    """A bar and a line below it, which say how far all of it is; other lines go above them.

    Args:
        doing, done, transfers, clock: as `PlainProgress`.
        width: of the terminal, columns; None: as it is at each moment.
        stays: whether its last state stays on the terminal.
    """

    def __init__(
        self,
        doing: str,
        done: str,
        *,
        transfers: bool = False,
        clock: Callable[[], float] = time.monotonic,
        width: int | None = None,
        stays: bool = True,
    ) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(doing, done, transfers=transfers, write=self._line, clock=clock)
        self._stream = _Forgiving(sys.stderr)
        self._console = Console(file=cast("TextIO", self._stream), highlight=False, width=width)
        self._live: Live = Live(
            console=self._console,
            get_renderable=self._shown,
            refresh_per_second=_FRAMES_PER_S,
            redirect_stdout=sys.stdout.isatty(),  # a script's has nothing to do with a bar
            transient=not stays,
            redirect_stderr=True,
        )
        self._handlers: list[tuple[logging.StreamHandler[Any], Any]] = []

    def __enter__(self) -> Self:
        original = sys.stderr
        self._live.start()
        for handler in logging.getLogger().handlers:  # else what is logged is written into the bar
            if isinstance(handler, logging.StreamHandler) and handler.stream is original:
                self._handlers.append((handler, handler.setStream(sys.stderr)))
        return self

    def __exit__(self, *_: object) -> None:
        for handler, stream in self._handlers:
            handler.setStream(stream)
        self._handlers.clear()
        self._live.stop()

    def _look(self) -> None:
        """It is looked at all the time."""

    def _ended(self, line: str) -> None:
        """The bar says it, and the result names everything."""

    def _shown(self) -> Any:
        from rich.text import Text

        headway = self.headway()
        width = max(1, self._console.width - 1)  # in the last column some terminals begin a new line
        line = Text(one_line(headway.text(self._doing, width)), no_wrap=True, overflow="crop")
        if not headway.total_bytes:
            return line
        length = min(width, _MOST_BAR)
        filled = length * headway.done_bytes // headway.total_bytes
        full, empty = ("━", "─") if self._console.encoding.startswith("utf") else ("#", "-")
        bar = Text.assemble((full * filled, "bar.complete"), (empty * (length - filled), "bar.back"), "\n")
        return bar.append_text(line)

    def _line(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(one_line(text)), soft_wrap=True)


class _Forgiving:
    """Standard error, whose reader or terminal may go away: what is written then is lost, and nothing fails.

    Args:
        stream: standard error as it is.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if anybody is there."""
        with suppress(OSError, ValueError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if anybody is there."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
