"""Whether standard error is systemd's journal, which wants each line's priority before it (sd-daemon(3))."""

from __future__ import annotations

import os
import sys
from typing import Final

ERROR: Final = 3
WARNING: Final = 4
INFO: Final = 6
DEBUG: Final = 7
"""Of syslog."""


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
