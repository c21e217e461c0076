"""What is still wanted of one artifact, and what was asked for: the scheduler's book-keeping.

Sets of pieces are plain integers with the bits of a :class:`p2pboot.core.pieces.PieceSet`. These hold the truth::

    wanted   neither stored nor being checked right now
    free     wanted, and no live peer has been asked for it
    copies   how many live peers have been asked for a piece
    holders  how many peers said that they hold a piece
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import field

from p2pboot.core.dataclass import dataclass
from p2pboot.core.tally import Tally, bits_of


@dataclass(frozen=True, slots=True)
class Assignment:
    """One request to send: a run of whole pieces of one artifact; or what an order brought.

    Args:
        number: unlike any other's, and any order's.
        source: whom to ask.
        blob: SHA-256 of the artifact.
        pieces: consecutive indices.
        offset: of the first piece in the artifact, bytes.
        length: of all pieces together, bytes.
        copy: another peer was asked for the same and seems to be late: whichever comes first counts, so this one is
            asked for on a stream of its own, which is reset when it loses.
    """

    number: int
    source: Hashable
    blob: str
    pieces: range
    offset: int
    length: int
    copy: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """One `deal` to send to a peer that holds everything: it chooses which pieces it gives.

    Args:
        number: unlike any other's, and any assignment's.
        source: whom to ask.
        blob: SHA-256 of the artifact.
        want: what is wanted and nobody has been asked for, at most `MAX_RUNS` runs; empty when only what nobody
            else has is welcome.
        max_pieces: that it may give, one after the other.
        length: bytes that may come.
    """

    number: int
    source: Hashable
    blob: str
    want: tuple[range, ...]
    max_pieces: int
    length: int


@dataclass(slots=True)
class Demand:
    """One artifact's missing pieces.

    Args:
        size: of the artifact, bytes.
        piece_length: bytes.
        count: how many pieces it has.
        rank: lower ones go first.
        table: BLAKE3 of the piece table, or what else names the cut.
        wanted: what is missing.
    """

    size: int
    piece_length: int
    count: int
    rank: int
    table: str
    wanted: int
    free: int = 0
    copies: Tally = field(default_factory=Tally)
    holders: Tally = field(default_factory=Tally)
    checking: int = 0
    """How many pieces are being checked."""

    def __post_init__(self) -> None:
        self.free = self.wanted

    @property
    def everything(self) -> int:
        """All pieces."""
        return (1 << self.count) - 1

    def span(self, pieces: range) -> tuple[int, int]:
        """Return (offset, length) in bytes of a run of pieces."""
        offset = pieces.start * self.piece_length
        return offset, min(self.size, pieces.stop * self.piece_length) - offset

    def asked(self, pieces: range) -> None:
        """A live peer has been asked for these."""
        bits = bits_of(self.count, pieces)
        self.copies.add(bits)
        self.free &= ~bits

    def given_up(self, pieces: range) -> None:
        """A live peer is not counted on for these any more."""
        bits = bits_of(self.count, pieces)
        self.copies.remove(bits)
        self._release(bits)

    def claim(self, pieces: range) -> tuple[int, ...]:
        """These arrived: return which of them are to be checked now, because no other copy was earlier."""
        bits = bits_of(self.count, pieces)
        taken = bits & self.wanted
        claimed = (
            tuple(pieces)
            if taken == bits
            else tuple(index for index in pieces if taken >> (self.count - 1 - index) & 1)
        )
        self.wanted &= ~bits
        self.free &= ~bits
        self.checking += len(claimed)
        return claimed

    def settle(self, claimed: tuple[int, ...], stored: Iterable[int]) -> None:
        """What was claimed has been checked; what is not stored is wanted again."""
        self.checking -= len(claimed)
        for index in set(claimed).difference(stored):
            back = 1 << (self.count - 1 - index)
            self.wanted |= back
            self._release(back)

    @property
    def complete(self) -> bool:
        """Whether everything is stored."""
        return not self.wanted and self.checking == 0

    def is_asked_once(self, pieces: range) -> bool:
        """Whether exactly one live peer has been asked for each of these, and any is still wanted."""
        bits = bits_of(self.count, pieces)
        return not bits & (self.copies.several | ~self.copies.some) and bool(bits & self.wanted)

    def _release(self, bits: int) -> None:
        self.free |= bits & self.wanted & ~self.copies.some
