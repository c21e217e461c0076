"""Pieces in memory, where a thread and the disk would cost more than all the rest of passing them on.

Of an artifact that is being fetched each piece is soon asked for by others, so those that came last are kept. Of a
whole one somebody who deals it out gives one piece after the other, so those behind one that is read are read with it;
each of them is given once, and within a second, so that what lies on the disk is compared as often as ever.

Every piece here was compared with its digest. Only short ones are kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

from p2pboot.core.pieces import KIB, MIB

SMALL_PIECE: Final = 256 * KIB
"""The longest that is short: it is hashed in 0.1 ms, and handing it to a thread costs three times as much."""

AHEAD_BYTES: Final = MIB
"""What is read at once where pieces are asked for in order."""

_RECENT_BYTES: Final = (
    24 * MIB
)  # with 8, eight clients at 50 Mbit/s read a third of what they give from the disk
_MOST_AHEAD: Final = 4 * MIB
_AHEAD_S: Final = 1.0
_PLACES: Final = 64  # where somebody may go on reading

_Place = tuple[str, int]  # digest of an artifact, and offset in it


class RecentPieces:
    """The latest pieces of one artifact by their indices, the oldest dropped first; for any number of threads.

    Args:
        max_bytes: of all together.
    """

    def __init__(self, max_bytes: int = _RECENT_BYTES) -> None:
        self._pieces: dict[int, bytes] = {}  # the oldest first
        self._room = max_bytes
        self._lock = threading.Lock()

    def get(self, index: int) -> bytes | None:
        """A piece, if it is here."""
        return self._pieces.get(index)

    def put(self, index: int, piece: bytes) -> None:
        """Keep a piece that was compared with its digest."""
        with self._lock:
            if index not in self._pieces:
                self._pieces[index] = piece
                self._room -= len(piece)
            while self._room < 0:
                self._room += len(self._pieces.pop(next(iter(self._pieces))))


class PiecesAhead:
    """Pieces of whole artifacts that are likely to be asked for next; for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[_Place, None] = {}  # of what was read last, the oldest first
        self._pieces: dict[
            _Place, tuple[bytes, float]
        ] = {}  # with the time until which they are given; likewise
        self._bytes = 0

    def goes_on(self, digest: str, offset: int) -> bool:
        """Whether what lies before this place was read not long ago."""
        return (digest, offset) in self._ends

    def put(self, digest: str, offset: int, pieces: Sequence[bytes]) -> None:
        """Note pieces that were read together, from an offset on; keep all but the first, which is asked for now."""
        until = time.monotonic() + _AHEAD_S
        with self._lock:
            self._ends.pop((digest, offset), None)
            for piece in pieces:
                self._drop((digest, offset))
                if piece is not pieces[0]:
                    self._pieces[digest, offset] = piece, until
                    self._bytes += len(piece)
                offset += len(piece)
            self._ends[digest, offset] = None
            if len(self._ends) > _PLACES:
                del self._ends[next(iter(self._ends))]
            while self._bytes > _MOST_AHEAD:
                self._drop(next(iter(self._pieces)))

    def take(self, digest: str, offset: int, length: int) -> bytes | None:
        """Take out the piece that is just this range of an artifact, if it is here and not old."""
        place = digest, offset
        piece, until = self._pieces.get(place, (b"", 0.0))
        if len(piece) != length or time.monotonic() > until:
            return None
        with self._lock:
            return piece if self._drop(place) else None

    def clear(self) -> None:
        """Keep nothing: something is not offered any more, or is damaged."""
        with self._lock:
            self._pieces.clear()
            self._bytes = 0

    def _drop(self, place: _Place) -> bool:
        piece, _ = self._pieces.pop(place, (b"", 0.0))
        self._bytes -= len(piece)
        return bool(piece)
