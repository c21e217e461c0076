"""The clock rule: what time it is for a machine whose clock may be dead or turned back.

A boot client often has no battery: its clock says 1970 until something sets it. Such a machine must still
boot, and nobody who can turn a clock back may revive an expired image. So time never runs before what is
known to have happened: the date of the root in force, the newest manifest and freshness statement that were accepted
of those who are trusted now, and this program's release. Nothing that a root vouches for raises it past the root's own
expiry, and a key that is removed takes what it said along: so one document dated 9999 does not hold the time for ever.
A publisher whose clock was wrong holds that time only as long as it is trusted; a verdict that it
decides says so (:mod:`.verify`), and ``p2pboot state recover`` forgets it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from p2pboot import RELEASE_DATE
from p2pboot.core.dataclass import dataclass
from p2pboot.core.timestamps import MAX_TIME

MANIFEST: Final = "manifest"
STATEMENT: Final = "freshness statement"
"""What people are told bears a date; a root is named by its version."""

MAX_AHEAD_S: Final = 600
"""How far ``created_at`` may lie ahead of a clock that can be believed: clocks differ, by minutes at most."""


@dataclass(frozen=True, slots=True)
class AcceptedTime:
    """The newest ``created_at`` that certain signers reached, for a channel and arch or for a root.

    Args:
        created_at: unix seconds.
        channel: of the manifest or statement; "" for a root.
        arch: likewise, canonical.
        signers: key ids, sorted.
        kept_in: what a person calls the memory that holds it: the path of a state directory; "" for what nothing
            remembers, as it was read just now.
        until: unix seconds past which it raises nothing: the expiry of the root that vouches for it; None for any.
        kind: what bears the date, for people.
    """

    created_at: int
    channel: str
    arch: str
    signers: tuple[str, ...]
    kept_in: str
    until: int | None = None
    kind: str = MANIFEST

    @property
    def at(self) -> int:
        """The time that is known to have been, unix seconds."""
        return self.created_at if self.until is None else min(self.created_at, self.until)

    @property
    def shown(self) -> str:
        """What bears the date, for people."""
        return f"a {self.kind} of {self.channel}/{self.arch}" if self.channel else self.kind


@dataclass(frozen=True, slots=True)
class Clock:
    """A moment to judge by.

    Args:
        now: unix seconds.
        trusted: False when the wall clock was behind what is known to have happened, and ``now`` is that.
        wall: the machine's clock where ``now`` is later than that, unix seconds; None otherwise.
        held_by: the document whose date ``now`` is; None when the wall clock or the program's release decided.
    """

    now: int
    trusted: bool = True
    wall: int | None = None
    held_by: AcceptedTime | None = None

    def is_ahead(self, created_at: int) -> bool:
        """Whether a date lies further ahead than clocks differ; no, where this one can not be believed.

        Ahead of the machine's own clock: by a time that documents raised, each could be dated a little later than the
        one before, until nobody's clock is believed and any date is taken.
        """
        return self.trusted and created_at > (self.now if self.wall is None else self.wall) + MAX_AHEAD_S


def raised(clock: Clock, to: AcceptedTime) -> Clock:
    """A moment that is no earlier than what is known to have been.

    Args:
        clock: the moment before that was known.
        to: what is known now.
    """
    if to.at <= clock.now:
        return clock
    wall = clock.now if clock.wall is None else clock.wall
    return Clock(min(to.at, MAX_TIME), trusted=False, wall=wall, held_by=to)


def latest(times: Iterable[AcceptedTime]) -> AcceptedTime | None:
    """Which of several raises the time most; None of none."""
    return max(times, key=lambda one: one.at, default=None)


def effective_now(wall: int, newest: AcceptedTime | None, release_date: int = RELEASE_DATE) -> Clock:
    """Return the moment to judge by: the latest of the three (and at most the year 9999).

    Args:
        wall: the machine's clock, unix seconds.
        newest: the newest that is known of those who are trusted now, None without memory.
        release_date: of this program, unix seconds.
    """
    held_by = newest if newest is not None and newest.at > release_date else None
    floor = release_date if held_by is None else held_by.at
    # A document may be dated by a clock that is ahead of this one as far as clocks differ: that is no doubt in it.
    if wall >= floor or (held_by is not None and wall >= release_date and wall >= floor - MAX_AHEAD_S):
        return Clock(min(max(wall, floor), MAX_TIME), wall=wall if wall < floor else None)
    return Clock(min(floor, MAX_TIME), trusted=False, wall=wall, held_by=held_by)
