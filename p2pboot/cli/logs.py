"""Log records as lines on standard error: for people, for the journal, or as JSON. What they say is in docs/logs.md.

Peers choose parts of what is logged: nothing of theirs ends a line, begins one, or is obeyed by a terminal, and nobody
fills a disk with it.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, Literal

from p2pboot.cli.output import DEBUG, ERROR, INFO, WARNING, is_on_journal, one_line
from p2pboot.core.events import RESERVED, Event, event_of, fields_of

if TYPE_CHECKING:
    from p2pboot.core.loglimits import LogLimits

VERBOSE = "p2pboot.verbose"

Form = Literal["auto", "text", "json", "journal"]

MAX_LINE: Final = 16 * 1024
"""Characters of a message or a traceback; what is longer is cut."""

_PRIORITIES: Final = (
    (logging.CRITICAL, 2),
    (logging.ERROR, ERROR),
    (logging.WARNING, WARNING),
    (logging.INFO, INFO),
)
"""By the least level; a line below is for debugging."""


class Lines(logging.Formatter):
    """For people: time, level and message on one line; a traceback, indented, only with --verbose."""

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """One line, and those of a traceback."""
        when = self.formatTime(record, self.datefmt)
        return "\n".join([f"{when} {record.levelname:<7} {_message(record)}", *self.traceback(record)])

    def traceback(self, record: logging.LogRecord) -> list[str]:
        """Its lines, where there is one and it was asked for."""
        if not self._tracebacks or not record.exc_info:
            return []
        text = self.formatException(record.exc_info)[-MAX_LINE:]
        return [f"  {one_line(line)}" for line in text.splitlines()]


class JournalLines(Lines):
    """For the journal, which has the time: each line with its priority, and the event's name before the words."""

    def format(self, record: logging.LogRecord) -> str:
        """As `sd-daemon(3)` has it."""
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), DEBUG)
        event = event_of(record)
        name = "" if event is Event.OTHER else f"{event.value}: "
        return "\n".join(
            f"<{priority}>{line}" for line in (f"{name}{_message(record)}", *self.traceback(record))
        )


class JsonLines(logging.Formatter):
    """One object a line, which is ASCII whatever a peer said."""

    def format(self, record: logging.LogRecord) -> str:
        """With the event's fields beside what every line has."""
        fields = fields_of(record)
        if RESERVED.intersection(fields):
            raise ValueError(f"fields of {event_of(record)} are called like what every line has: {[*fields]}")
        seconds, milliseconds = int(record.created), int(record.msecs)
        said = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03}Z",
            "level": record.levelname.lower(),
            "event": event_of(record).value,
            "message": record.getMessage()[:MAX_LINE],
            **fields,
            "module": record.name,
        }
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)[-MAX_LINE:]
        return json.dumps(said)


class Limiter(logging.Filter):
    """Leaves out what somebody causes too much of, and says a little later how much that was."""

    def __init__(self) -> None:
        super().__init__()
        self._limits: LogLimits | None = None
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is written."""
        from p2pboot.core.loglimits import TELL_AFTER_S, LogLimits

        with self._lock:
            if self._limits is None:
                self._limits = LogLimits(time.monotonic())
            if self._limits.admits(event_of(record), fields_of(record), time.monotonic()):
                return True
            if self._timer is None:  # whoever was loud may be silent from now on
                self._timer = threading.Timer(TELL_AFTER_S, self.tell)
                self._timer.daemon = True
                self._timer.start()
        return False

    def tell(self) -> None:
        """Say how many lines were left out, if any."""
        with self._lock:
            left_out, self._timer = None if self._limits is None else self._limits.take(), None
        if left_out is not None:
            lines, whose = left_out
            logging.getLogger("p2pboot").warning(
                "%d more lines about %d peers or addresses were left out",
                lines,
                whose,
                extra=Event.SUPPRESSED(lines=lines, causes=whose),
            )


def configure(*, verbose: bool, quiet: bool, usual: int = logging.INFO, form: Form = "auto") -> None:
    """Set up logging for this process, in place of what was set up before.

    Args:
        verbose: everything of this program, with tracebacks.
        quiet: errors only.
        usual: the level without either.
        form: `auto` is for the journal where standard error is that, else for people.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(form, tracebacks=verbose))
    handler.addFilter(Limiter())
    root = logging.getLogger()
    # Those of an earlier command in this process, whose standard error may be closed:
    for earlier in list(root.handlers):
        if isinstance(earlier.formatter, Lines | JsonLines):
            root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(logging.ERROR if quiet else logging.WARNING)
    own = logging.getLogger("p2pboot")
    own.setLevel(logging.DEBUG if verbose else logging.ERROR if quiet else usual)


def is_json() -> bool:
    """Whether what is written to standard error now is to be JSON, line by line."""
    return any(
        isinstance(one, logging.StreamHandler) and one.stream is sys.stderr
        for one in logging.getLogger().handlers
        if isinstance(one.formatter, JsonLines)
    )


def _formatter(form: Form, *, tracebacks: bool) -> logging.Formatter:
    if form == "auto":
        form = "journal" if is_on_journal() else "text"
    match form:
        case "json":
            return JsonLines()
        case "journal":
            return JournalLines(tracebacks=tracebacks)
        case _:
            return Lines(tracebacks=tracebacks)


def _message(record: logging.LogRecord) -> str:
    return one_line(record.getMessage()[:MAX_LINE])
