"""The wall clock that commands go by: this machine's, unless whoever runs the command line hands in another."""

from __future__ import annotations

import time
from collections.abc import Callable

import click

Wall = Callable[[], int]


def system_wall() -> int:
    """Read this machine's clock, unix seconds."""
    return int(time.time())


def wall_clock() -> Wall:
    """The clock of the command line that runs (`app.run`), for who asks it from other threads."""
    wall: Wall = click.get_current_context().obj
    return wall


def wall_now() -> int:
    """Read the clock of the command line that runs, unix seconds."""
    return wall_clock()()
