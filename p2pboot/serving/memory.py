"""The memory for replies that their peers have not taken yet: who holds how much of it.

Nobody waits for memory. A stream holds little from the start (`FLOOR`), so that all of them together may exist whatever
their peers do, and more only as its peer proves quick: what it holds is what the peer takes in a moment. That more
comes out of a pool that is shared fairly, by origin and then by peer; who does not get any goes on with little, a part
of a reply after the other. So a slow peer costs next to nothing, for as long as it likes, and is no reason to end it.
"""

from __future__ import annotations

from typing import Final

from p2pboot.core.origins import Party
from p2pboot.core.pieces import KIB, MIB
from p2pboot.core.shares import Shares

FLOOR: Final = 64 * KIB
"""What every stream reads of a reply at once, at least: the shortest piece. It reads on once that is written, so that a
peer that takes nothing keeps 96 KiB of ours, with what waits in its connection."""

CEILING: Final = 2 * MIB
"""And at most: what a quick client of ours asks for at once, so that it is read and hashed once, in one go."""

SHORT_REPLY: Final = 512 * KIB
"""What may be held as a whole for a stream that has taken replies before: a few short pieces, of which each one by
itself costs as much as all together."""

PARTS: Final = 3
"""What a stream holds at a time: a part in the connection's hands, one that is being written, and the next one."""

_QUICK_S: Final = 0.1
_SLOW_S: Final = 1.0
_TRUST: Final = 4
_PROOF: Final = 4  # parts that a peer takes quickly before they become larger,
_PROOF_BYTES: Final = 512 * KIB  # and no less than this: it may ask for 256 KiB ahead and then stall


class ReplyMemory:
    """The pool.

    Args:
        capacity: bytes for everybody, beside what each stream has from the start.
        reserve: of these, bytes for who holds little.
    """

    def __init__(self, capacity: int, reserve: int) -> None:
        self._shares = Shares(capacity, reserve)
        self._in_vain: Party | None = None  # who has asked last and got nothing

    @property
    def free(self) -> int:
        """Bytes that nobody holds."""
        return self._shares.capacity - self._shares.used

    def take(self, party: Party, size: int) -> bool:
        """Take bytes for a party if that is fair; whether they were taken."""
        fits = self._shares.fits(party, size)
        if fits:
            self._shares.take(party, size)
        self._in_vain = None if fits else party
        return fits

    def give_back(self, party: Party, size: int) -> None:
        """Return bytes taken before."""
        self._shares.give_back(party, size)

    def should_give_back(self, party: Party) -> bool:
        """Whether another one has asked in vain since the last time, and this party holds more than most."""
        if self._in_vain in (None, party):
            return False
        gives = self._shares.held_by(party) > self._shares.even_share_of_peers(self._in_vain)
        if gives:
            self._in_vain = None
        return gives


class Ahead:
    """How much of its replies one stream holds; see the module.

    Args:
        memory: the pool.
        party: whose stream it is.
    """

    def __init__(self, memory: ReplyMemory, party: Party) -> None:
        self._memory = memory
        self._party = party
        self._proof = 0
        self._taken = 0
        self.part_bytes = FLOOR
        """How much of a reply to read at once."""

    @property
    def unsent_bytes(self) -> int:
        """How much may wait in the connection, where all connections share what may wait (`transport.tcp.holdings`).

        There is as much as this for each of 256. Whoever has taken megabytes at once may have all that there is.
        """
        if self.is_least:
            return FLOOR // 2
        return 2 * FLOOR if self.part_bytes < MIB else self.part_bytes

    @property
    def trusted_bytes(self) -> int:
        """Up to how much a reply may be held as a whole, where there is memory: a few times what was taken so far."""
        return min(SHORT_REPLY, _TRUST * self._taken)

    @property
    def is_least(self) -> bool:
        """Whether the stream holds no more than every one may."""
        return self.part_bytes == FLOOR

    def note_written(self, size: int, seconds: float) -> None:
        """A peer has taken so many bytes of a part in so many seconds; no more than a part was left behind."""
        self._taken += size
        if seconds > _SLOW_S or (self.part_bytes > FLOOR and self._memory.should_give_back(self._party)):
            self._proof = self._taken = 0
            self._shrink(max(self.part_bytes // 2, FLOOR))
            return
        if seconds > _QUICK_S or self.part_bytes == CEILING:
            return
        self._proof += size
        if self._proof >= max(_PROOF * self.part_bytes, _PROOF_BYTES):
            self._proof = 0
            if self._memory.take(self._party, PARTS * self.part_bytes):
                self.part_bytes *= 2

    def close(self) -> None:
        """The stream is over."""
        self._shrink(FLOOR)

    def _shrink(self, part_bytes: int) -> None:
        if part_bytes < self.part_bytes:
            self._memory.give_back(self._party, PARTS * (self.part_bytes - part_bytes))
            self.part_bytes = part_bytes
