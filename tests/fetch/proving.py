"""Peers of a schedule that have given something good already: of these more is asked at a time."""

from __future__ import annotations

from collections.abc import Hashable

from p2pboot.core.pieces import PieceSet
from p2pboot.fetch.receiving.schedule import Schedule

_BLOB = "0" * 64


def prove(schedule: Schedule, source: Hashable, now: float = 0.0) -> None:
    """Have a peer give one byte of an artifact that is wanted for this only."""
    schedule.add_blob(_BLOB, size=2, piece_length=1, missing=PieceSet.full(2), rank=-1)
    schedule.set_holdings(source, _BLOB, PieceSet.of(2, [0]))
    (assignment,) = schedule.assign(source, now)
    schedule.settle(assignment, schedule.arrived(assignment, now))
    schedule.remove_blob(_BLOB)
