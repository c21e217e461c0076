"""`p2pboot status --watch`: the same again and again, also while the node goes away and comes back."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, Protocol, TextIO

from p2pboot.cli.output import check_reader, warn
from p2pboot.cli.status_lines import Row, has_colours, lines_of, rows_of
from p2pboot.errors import NotFoundError

_HOME: Final = "\x1b[H"
_CLEAR: Final = "\x1b[2J"
_CLEAR_LINE: Final = "\x1b[K"
_CLEAR_BELOW: Final = "\x1b[J"

Document = Mapping[str, Any]


class Show(Protocol):
    """One form of showing."""

    def show(self, document: Document) -> None:
        """Show how the node is now."""

    def away(self, error: NotFoundError, looks: int) -> None:
        """Say that it does not answer.

        Args:
            error: why.
            looks: how often in a row, this one counted.
        """


def follow(ask: Callable[[], Document], show: Show, wait: Callable[[], None]) -> NoReturn:
    """Ask and show until interrupted.

    Args:
        ask: asks the node.
        show: is given what it answers.
        wait: waits until it is to be asked again.

    Raises:
        NotFoundError: nobody answers the first time: the state directory is probably the wrong one.
        P2PBootError: the node can not be asked at all.
        BrokenPipeError: nobody reads it any more.
    """
    show.show(ask())
    missed = 0
    while True:
        wait()
        try:
            document = ask()
        except NotFoundError as error:
            missed += 1
            show.away(error, missed)
        else:
            missed = 0
            show.show(document)


class Screen:
    """A terminal, which always shows the whole, drawn over what it showed before."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stdout if out is None else out
        self._begun = False

    def show(self, document: Document) -> None:
        """Draw how it is now."""
        self._draw(rows_of(document))

    def away(self, error: NotFoundError, looks: int) -> None:
        """Draw that in its place."""
        rows = [
            Row("", f"NOT RUNNING: {error.message}", "red"),
            Row("", f"asked {looks} times; it is shown again as soon as it answers, Ctrl-C ends"),
        ]
        if error.remedy:
            rows.insert(1, Row("  remedy", error.remedy))
        self._draw(rows)

    def _draw(self, rows: list[Row]) -> None:
        columns, room = shutil.get_terminal_size()
        lines = lines_of(rows, columns, coloured=has_colours(self._out))
        if len(lines) >= room:  # the last one is for the cursor
            cut = len(lines) - max(room - 2, 0)
            lines = [*lines[:-cut], f"… and {cut} lines more"]
        begin = _HOME if self._begun else _CLEAR + _HOME
        self._begun = True
        drawn = "".join(f"{line}{_CLEAR_LINE}\n" for line in lines)
        self._out.write(f"{begin}{drawn}{_CLEAR_BELOW}")
        self._out.flush()


class Pages:
    """No terminal: the whole each time, with the time at its head and an empty line between."""

    def __init__(self) -> None:
        self._begun = False

    def show(self, document: Document) -> None:
        """Append how it is now."""
        check_reader()
        if self._begun:
            print()
        self._begun = True
        rows = [Row("at", document["now"]), *rows_of(document)]
        print("\n".join(lines_of(rows, None, coloured=False)), flush=True)

    def away(self, error: NotFoundError, looks: int) -> None:
        """Say it on standard error, once."""
        check_reader()
        if looks == 1:
            warn(f"{error.message}; waiting for it")


class JsonLines:
    """One document on each line; while nobody answers, one that says so."""

    def show(self, document: Document) -> None:
        """Append it."""
        self._print(document)

    def away(self, error: NotFoundError, looks: int) -> None:
        """Append that, once."""
        check_reader()
        if looks == 1:
            self._print({"ok": False, "error": error.message, "remedy": error.remedy})

    def _print(self, document: Document) -> None:
        check_reader()
        print(json.dumps(document, ensure_ascii=False), flush=True)


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream leads to a terminal on which can be drawn."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"
