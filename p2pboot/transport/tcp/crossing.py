"""Two processes that dial each other at the same time have two connections: which of them stays, for both transports.

The one that the lower peer id dialled; both ends come to that by themselves. That it is the same process is told by its
Noise key, which is drawn when it starts: two servers may have one identity, and their connections are two. And only
dials that overlapped count: who dials a peer that is connected has a reason ([ADR 20](docs/adr)). Each end knows for
sure when its own dial began and ended, and when the other's connection came in; of any two dials that overlapped at
least one end sees that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol, TypeVar

_NEW_S: Final = 3.0


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

    @property
    def quiet_since(self) -> float:
        """When a byte last went over a stream of it, or it began."""


E = TypeVar("E", bound=End)


def same_process(one: End, others: Iterable[E]) -> E | None:
    """The first of some connections that leads to the very process that one leads to; itself does not count."""
    who = one.peer_id, one.instance
    return next((each for each in others if each is not one and (each.peer_id, each.instance) == who), None)


def gives_way(own: str, new: E, others: Iterable[E], now: float) -> tuple[E, E] | None:
    """Say which connection is to end now that there is a new one.

    Args:
        own: this node's peer id.
        new: just secured.
        others: that are up, with the same peer or not.
        now: the time.

    Returns:
        The one that is to end, and the one that stays in its place; None where both have a reason. One that has been in
        use for a while stays: its dial took long, and ending it would cost more than a second connection.
    """
    for old in others:
        if old is new or old.dialled is new.dialled:
            continue
        if (old.peer_id, old.instance) != (new.peer_id, new.instance):
            continue
        dialled, accepted = (new, old) if new.dialled else (old, new)
        if dialled.began < accepted.secured_at and accepted.began < dialled.secured_at:
            leaves, stays = (dialled, accepted) if own > new.peer_id else (accepted, dialled)
            in_use = now - leaves.secured_at > _NEW_S and now - leaves.quiet_since < _NEW_S
            return None if in_use else (leaves, stays)
    return None
