"""How many neighbours one has: everybody while there are few, and of many enough that the whole hangs together.

Pure: numbers in, decisions out. Among up to 64 all know all, which costs each a few dozen connections. Of more, each
has 16 to 25: most of them near, where bytes are cheap, and a few anywhere, without which every rack would be an island.
"""

from __future__ import annotations

from typing import Final, NamedTuple

FULL_MESH: Final = 64
"""With so many in all, everybody is connected with everybody."""

FEWEST: Final = 16
MOST: Final = 25
FAR: Final = 4
"""Of those, as many are far as soon as there are so many. Four each, chosen at random by all, leave nobody apart."""


class Counts(NamedTuple):
    """How one stands.

    Args:
        known: peers in all that were told of lately or are connected; beyond FULL_MESH it need not be exact.
        near: connected ones that are near.
        far: connected ones that are not.
    """

    known: int
    near: int
    far: int

    @property
    def total(self) -> int:
        """Connected ones."""
        return self.near + self.far


def wants(counts: Counts, *, is_near: bool) -> bool:
    """Whether one more is to be dialled.

    Args:
        counts: as it is now.
        is_near: whether that one is.
    """
    if counts.known <= FULL_MESH or counts.total < FEWEST:
        return True
    return not is_near and counts.far < FAR and counts.total < MOST


def surplus(counts: Counts) -> bool | None:
    """Who has to go, since there are too many: somebody near (True), somebody far (False), or nobody (None).

    Whoever dials has to find somebody who takes him, so it is one of those who are there, at random, and not always the
    newest.
    """
    if counts.known <= FULL_MESH or counts.total <= MOST:
        return None
    return counts.near > FEWEST - FAR
