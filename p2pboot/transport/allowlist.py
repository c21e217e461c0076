"""Whom an operator lets in by peer id: for both transports."""

from __future__ import annotations

from typing import Final

from p2pboot.core.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class AllowList:
    """Which peers are let in.

    Args:
        peer_ids: these; None for everybody.
        has_guests: whether others are let in all the same, as clients: they are answered, and nobody listens to their
            word. So it is in a private mesh, whose key they have proved to have; clients draw a new identity for
            each run.
    """

    peer_ids: frozenset[str] | None = None
    has_guests: bool = False

    def admits(self, peer_id: str) -> bool:
        """Whether a connection with a peer may stay."""
        return self.has_guests or self.heeds(peer_id)

    def heeds(self, peer_id: str) -> bool:
        """Whether a peer is one whose word is asked for: its gossip, its heads, whom it knows, what it puts."""
        return self.peer_ids is None or peer_id in self.peer_ids


EVERYBODY: Final = AllowList()
