"""The clock rule: what time it is for a machine whose clock may be dead or turned back.

A boot client often has no battery: its clock says 1970 until something sets it. Such a machine must still
boot, and nobody who can turn a clock back may revive an expired image. So time never runs before what is
known to have happened: the newest manifest that was accepted, and this program's release.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pboot import RELEASE_DATE
from p2pboot.core.timestamps import MAX_TIME


@dataclass(frozen=True, slots=True)
class Clock:
    """A moment to judge by.

    Args:
        now: unix seconds.
        trusted: False when the wall clock was behind what is known to have happened, and ``now`` is that.
    """

    now: int
    trusted: bool = True


def effective_now(wall: int, newest_created_at: int | None, release_date: int = RELEASE_DATE) -> Clock:
    """Return the moment to judge by: the latest of the three (and at most the year 9999).

    Args:
        wall: the machine's clock, unix seconds.
        newest_created_at: ``created_at`` of the newest manifest ever accepted, unix seconds, or None.
        release_date: of this program, unix seconds.
    """
    floor = max(release_date, newest_created_at or 0)
    return Clock(now=min(max(wall, floor), MAX_TIME), trusted=wall >= floor)
