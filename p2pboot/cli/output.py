"""What goes where: results to standard output, everything else to standard error.

Where that is systemd's journal, it wants each line's priority before it (sd-daemon(3)).
"""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import Final

import click

from p2pboot.core import amounts

QUIET = "p2pboot.quiet"

ERROR: Final = 3
WARNING: Final = 4
INFO: Final = 6
DEBUG: Final = 7
"""Of syslog."""

counted = amounts.counted
"""A number with its noun: "1 peer", "2 peers"."""


def emit_json(document: object) -> None:
    """The one JSON document of a command with `--json`."""
    print(json.dumps(document, indent=2, ensure_ascii=False), flush=True)


def say(text: str = "") -> None:
    """A line of the result."""
    print("\n".join(one_line(line) for line in text.split("\n")))


def note(text: str) -> None:
    """A line that a person may want to know and a script does not; left out with --quiet."""
    context = click.get_current_context(silent=True)
    if context is None or not context.meta.get(QUIET):
        print(one_line(text), file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """A line that nobody should miss."""
    print(marked(one_line(f"p2pboot: warning: {text}"), WARNING), file=sys.stderr, flush=True)


def discard_stdout() -> None:
    """Nobody reads it any more: let what is printed, and the interpreter's own flush at exit, go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def check_reader() -> None:
    """Look whether anybody reads standard output still: what is seldom written would not notice.

    Raises:
        BrokenPipeError: nobody does.
    """
    import select  # few write seldom

    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # it is no file
        return
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def one_line(text: str) -> str:
    """Text without anything that a terminal would obey: names come from files and peers."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_journal(fd: int) -> bool:
    """Whether an open file is the journal's stream, as `JOURNAL_STREAM` names it (systemd.exec(5))."""
    named = os.environ.get("JOURNAL_STREAM", "")
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return named == f"{found.st_dev}:{found.st_ino}"


def is_on_journal() -> bool:
    """Whether standard error is."""
    if "JOURNAL_STREAM" not in os.environ:
        return False
    try:
        return is_journal(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # a test's, or closed
        return False


def marked(line: str, priority: int) -> str:
    """A line for standard error, with its priority where that is the journal."""
    return f"<{priority}>{line}" if is_on_journal() else line
