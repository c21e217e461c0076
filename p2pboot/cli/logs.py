"""Log records of long-running commands as plain lines on standard error."""

from __future__ import annotations

import logging
import sys

from p2pboot.cli.output import one_line

VERBOSE = "p2pboot.verbose"


class _PlainLines(logging.Formatter):
    """Time, level and message on one line; a traceback only when it was asked for with --verbose."""

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        if self._tracebacks and record.exc_info:
            return super().format(record)
        record.message = one_line(record.getMessage())  # peers choose parts of what is logged
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        return self.formatMessage(record)


def configure(*, verbose: bool, quiet: bool, usual: int = logging.INFO) -> None:
    """Set up logging for this process.

    Args:
        verbose: everything of this program, with tracebacks.
        quiet: errors only.
        usual: the level without either.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PlainLines(tracebacks=verbose))
    root = logging.getLogger()
    for earlier in list(
        root.handlers
    ):  # of an earlier command in this process, whose standard error may be closed
        if isinstance(earlier.formatter, _PlainLines):
            root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(logging.ERROR if quiet else logging.WARNING)
    own = logging.getLogger("p2pboot")
    own.setLevel(logging.DEBUG if verbose else logging.ERROR if quiet else usual)
