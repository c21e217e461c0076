"""The clock rule: what time it is for a machine whose clock may be dead or turned back.

A boot client often has no battery: its clock says 1970 until something sets it. Such a machine must still
boot, and nobody who can turn a clock back may revive an expired image. So time never runs before what is
known to have happened: the newest manifest that was accepted of those who are trusted now, and this program's
release. A publisher whose clock was wrong holds that time only as long as it is trusted; a verdict that it
decides says so (:mod:`.verify`), and ``p2pboot state recover`` forgets it.
"""

from __future__ import annotations

from p2pboot import RELEASE_DATE
from p2pboot.core.dataclass import dataclass
from p2pboot.core.timestamps import MAX_TIME


@dataclass(frozen=True, slots=True)
class AcceptedTime:
    """The newest ``created_at`` that certain signers reached for a channel and arch.

    Args:
        created_at: unix seconds.
        channel: of the manifest.
        arch: likewise, canonical.
        signers: key ids, sorted.
        kept_in: what a person calls the memory that holds it: the path of a state directory.
    """

    created_at: int
    channel: str
    arch: str
    signers: tuple[str, ...]
    kept_in: str


@dataclass(frozen=True, slots=True)
class Clock:
    """A moment to judge by.

    Args:
        now: unix seconds.
        trusted: False when the wall clock was behind what is known to have happened, and ``now`` is that.
        wall: the machine's clock when it was not trusted, unix seconds; None otherwise.
        held_by: the manifest whose date ``now`` is; None when the wall clock or the program's release decided.
    """

    now: int
    trusted: bool = True
    wall: int | None = None
    held_by: AcceptedTime | None = None


def effective_now(wall: int, newest: AcceptedTime | None, release_date: int = RELEASE_DATE) -> Clock:
    """Return the moment to judge by: the latest of the three (and at most the year 9999).

    Args:
        wall: the machine's clock, unix seconds.
        newest: the newest manifest ever accepted of those who are trusted now, None without memory.
        release_date: of this program, unix seconds.
    """
    floor = max(release_date, newest.created_at if newest is not None else 0)
    if wall >= floor:
        return Clock(min(wall, MAX_TIME))
    return Clock(
        min(floor, MAX_TIME),
        trusted=False,
        wall=wall,
        held_by=newest if newest is not None and newest.created_at > release_date else None,
    )
