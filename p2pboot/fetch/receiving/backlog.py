"""What one peer has, owes and can take: how much is asked of it ahead."""

from __future__ import annotations

from dataclasses import field

from p2pboot.core.dataclass import dataclass
from p2pboot.core.pieces import MIB, PieceSet
from p2pboot.fetch.receiving.missing import Assignment
from p2pboot.fetch.receiving.rates import RateMeter

WINDOW_S = 1.5
"""Seconds of its own data that a peer is asked for ahead: covers any round trip, and is lost with it."""

MAX_WINDOW = 8 * MIB
"""Bytes; enough for 5 MiB/s over a second and a half, or for 130 MB/s over a round trip of 60 ms."""

MAX_ASSIGNMENTS = 16
"""In flight per peer; a server leaves further ones unread."""

GROUP_BYTES = 2 * MIB
"""Pieces are asked for in runs up to this. What a request costs, however long it is: with 1 MiB client and server take
0.5 CPU s/GB more each (measured over loopback), with 4 MiB hardly less, and a server then holds 12 MiB for a peer."""

FIRST_GROUP_BYTES = MIB
"""Likewise of a peer whose rate is not known yet."""

GROUP_S = 0.5
"""A slow peer's runs are shorter, for the end of a fetch waits for whole requests."""

SLOW_ASSIGNMENT_S = 4.0
"""A peer that takes longer for one request gets one at a time instead of two."""


@dataclass(slots=True)
class PeerLoad:
    """One peer in the schedule.

    Args:
        meter: of its rate.
    """

    meter: RateMeter
    holds: dict[str, PieceSet] = field(default_factory=dict)
    """What it says that it has, by artifact."""
    assignments: dict[int, Assignment] = field(default_factory=dict)
    """What it owes, oldest first."""
    asked_bytes: int = 0
    silent: bool = False
    paused_until: float = 0.0

    def has_room(self, length: int) -> bool:
        """Whether so many bytes more may be asked of it."""
        if len(self.assignments) >= MAX_ASSIGNMENTS:
            return False
        rate = self.meter.bytes_per_s
        if not self.assignments:
            return True
        if len(self.assignments) == 1 and (rate is None or length <= rate * SLOW_ASSIGNMENT_S):
            return True  # with two it stays busy while the next request is on its way
        return self.asked_bytes + length <= min(MAX_WINDOW, (rate or 0.0) * WINDOW_S)

    def group_bytes(self) -> int:
        """How much one request may ask for, if pieces are not larger."""
        rate = self.meter.bytes_per_s
        return FIRST_GROUP_BYTES if rate is None else int(min(GROUP_BYTES, rate * GROUP_S))

    def add(self, assignment: Assignment) -> None:
        """It owes this as well."""
        self.assignments[assignment.number] = assignment
        self.asked_bytes += assignment.length

    def remove(self, assignment: Assignment) -> None:
        """It does not owe this any more."""
        del self.assignments[assignment.number]
        self.asked_bytes -= assignment.length

    def has_all(self, blob: str, pieces: range) -> bool:
        """Whether it says that it has all of these."""
        holds = self.holds.get(blob)
        return holds is not None and all(index in holds for index in pieces)
