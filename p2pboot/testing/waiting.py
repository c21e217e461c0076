"""How long tests wait for what has to happen: until it happens.

A busy machine is slow, and no test may tell the difference. So a wait ends only with the runner's own limit for a
hung test (`timeout` in pyproject.toml), or shortly before it where more can be said about what hangs.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Final

HANG_S: Final = 600.0  # two thirds of the runner's limit


def wait_until(
    happened: Callable[[], bool], what: str, *, every_s: float = 0.02, within_s: float = HANG_S
) -> None:
    """Ask again and again until something outside this process has happened.

    Raises:
        TimeoutError: it did not; says `what`.
    """
    end = time.monotonic() + within_s
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {within_s:g} s: {what}")
        select.select([], [], [], every_s)
