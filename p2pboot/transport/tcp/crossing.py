"""Two processes may come to have several connections at once: which of them stays, for both transports.

Each dials the other at the same time, or one dials several addresses of the other. Of dials in both directions that of
the lower peer id stays, which both ends come to by themselves; of those in one direction the first, as the dialler
says. That it is the same process is told by its Noise key, which is drawn when it starts: two servers may have one
identity, and their connections are two. And only dials that overlapped count: who dials a peer that is connected has a
reason ([ADR 20](docs/adr)). Each end knows for sure when its own dial began and ended, and when the other's connection
came in; of any two dials that overlapped at least one end sees that. What ends is new: no dial takes long.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class End(Protocol):
    """A connection at one end, as far as it has to be known here. Times are those of the event loop."""

    @property
    def peer_id(self) -> str:
        """Who is at the other end."""

    @property
    def instance(self) -> bytes:
        """What no other process of the peer's has."""

    @property
    def dialled(self) -> bool:
        """Whether this end did."""

    @property
    def began(self) -> float:
        """When it began to dial, or saw the other's dial."""

    @property
    def secured_at(self) -> float:
        """When the peer had proved who it is."""


E = TypeVar("E", bound=End)


def same_process(one: End, others: Iterable[E]) -> list[E]:
    """Those of some connections that lead to the very process that one leads to; itself does not count."""
    who = one.peer_id, one.instance
    return [each for each in others if each is not one and (each.peer_id, each.instance) == who]


def settle(own: str, new: E, others: Iterable[E]) -> tuple[list[E], E]:
    """Say which connections are to end now that there is a new one, and which stays for them.

    Args:
        own: this node's peer id.
        new: just secured.
        others: that are up, with the same peer or not.

    Returns:
        Those that are to end: none, others, or the new one alone.
    """
    leaving = []
    for old in same_process(new, others):
        if old.began < new.secured_at and new.began < old.secured_at:
            leaves = _leaves(own, new, old)
            if leaves is new:
                return [new], old
            if leaves is old:
                leaving.append(old)
    return leaving, new


def _leaves(own: str, new: E, old: E) -> E | None:
    if new.dialled is old.dialled:
        return new if new.dialled else None  # who dialled twice decides
    dialled, accepted = (new, old) if new.dialled else (old, new)
    return dialled if own > new.peer_id else accepted
