"""What changed at a machine of one artifact's pieces: a short memory that any number of others follow.

The memory is a ring: whoever fell too far behind is told everything that there is instead. It keeps nothing per
follower; each says itself up to which serial it knows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import IntEnum
from itertools import islice
from typing import Final, NamedTuple

MAX_CHANGES: Final = 1024
"""How many are kept, and told at once."""


class Form(IntEnum):
    """What became of some pieces."""

    HELD = 0  # verified, and can be had
    COMING = 1  # being fetched from somebody who has all pieces
    NOT_COMING = 2  # that ended early


class Change(NamedTuple):
    """What happened to some pieces that follow each other."""

    form: Form
    pieces: range


class ChangeRing:
    """The last changes, numbered.

    Args:
        first: serial before the first change, at least 1. One that differs from run to run tells followers of an
            earlier run that they know nothing.
    """

    def __init__(self, first: int) -> None:
        self._ring: deque[Change] = deque(maxlen=MAX_CHANGES)
        self._listeners: dict[Callable[[], None], None] = {}
        self.at = first
        """Serial of the last change."""

    def append(self, changes: Iterable[Change]) -> None:
        """Something changed; tells whoever listens, once."""
        before = self.at
        for change in changes:
            self._ring.append(change)
            self.at += 1
        if self.at != before:
            for listener in tuple(self._listeners):
                listener()

    def since(self, serial: int) -> tuple[Change, ...] | None:
        """The changes after a serial, the oldest first; None where that can not be told."""
        missed = self.at - serial
        if not 0 <= missed <= len(self._ring):
            return None
        return tuple(islice(self._ring, len(self._ring) - missed, None))

    def listen(self, listener: Callable[[], None]) -> None:
        """Have it called at every change from now on; it neither waits nor raises."""
        self._listeners[listener] = None
