"""Parking: what lost its signers' trust by a newer root is kept for some days, unseen.

A fleet that replaces a key has its release signed anew, and a mirror that threw the old one away would fetch all of it
again from everybody who did the same. What the operator of this machine does not trust any more is another matter: it
goes at once, and its room is free.
"""

from __future__ import annotations

from typing import Final

from p2pboot.core.trust import Pair, Trust

PARKED_S: Final = 7 * 86_400
"""How long it is kept: over a weekend, until enough of the owners have met and signed."""


def is_parked_by(old: Trust, new: Trust, pair: Pair) -> bool:
    """Whether what is not trusted any more of a channel and arch was taken away by a root, and not by the operator.

    Args:
        old: the trust before.
        new: the trust from now on.
        pair: channel and arch of a manifest that `new` does not take.
    """
    if not new.roots:
        return False
    before = old.publisher_for(*pair)
    if before is None:  # by a root that a former run did not know yet, or whose chain is not at hand
        return True
    return before.root is not None and before.root.anchor in {one.anchor.digest for one in new.roots}


def is_over(parked_at: int | None, now: int) -> bool:
    """Whether something was parked for long enough; unix seconds, None for what is not parked."""
    return parked_at is not None and parked_at + PARKED_S <= now
