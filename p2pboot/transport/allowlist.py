"""Whom an operator lets in by peer id: for both transports."""

from __future__ import annotations

from typing import Final

from p2pboot.core.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class AllowList:
    """Which peers are let in.

    Args:
        peer_ids: these; None for everybody.
        has_guests: whether others are let in all the same, as clients: nobody listens to their gossip. So it is in a
            private mesh, whose key they have proved to have; clients draw a new identity for each run.
    """

    peer_ids: frozenset[str] | None = None
    has_guests: bool = False

    def admits(self, peer_id: str) -> bool:
        """Whether a connection with a peer may stay."""
        return self.has_guests or self.heeds(peer_id)

    def heeds(self, peer_id: str) -> bool:
        """Whether a peer is one whose word is asked for: its gossip, and its heads."""
        return self.peer_ids is None or peer_id in self.peer_ids


EVERYBODY: Final = AllowList()
