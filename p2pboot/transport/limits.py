"""How many connections a node has, and who counts them: for both transports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import ProtocolError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one node allows its peers.

    Args:
        max_inbound: connections accepted at a time.
        max_outbound: connections dialled at a time.
        max_inbound_per_ip: of the inbound ones, from one IP address (a site behind NAT is one address).
        max_connections_per_peer: with one peer id, in both directions together.
        max_inbound_streams: open streams that a peer may have on one connection; each may hold a receive window.
    """

    max_inbound: int = 256
    max_outbound: int = 128
    max_inbound_per_ip: int = 64
    max_connections_per_peer: int = 4
    max_inbound_streams: int = 128


class Refused(ProtocolError):
    """There are enough connections already."""


class Admission:
    """Counts connections from the moment that they take a socket.

    Args:
        limits: how many there may be.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._inbound: Counter[str] = Counter()
        self._outbound = 0

    @contextmanager
    def inbound(self, ip: str) -> Iterator[None]:
        """Count a connection from an IP address while the block runs.

        Raises:
            Refused: there are enough, of everybody's or of this address.
        """
        if self._inbound.total() >= self._limits.max_inbound:
            raise Refused(f"{self._limits.max_inbound} inbound connections are enough")
        if self._inbound[ip] >= self._limits.max_inbound_per_ip:
            raise Refused(f"{self._limits.max_inbound_per_ip} connections from {ip} are enough")
        self._inbound[ip] += 1
        try:
            yield
        finally:
            self._inbound[ip] -= 1
            if not self._inbound[ip]:
                del self._inbound[ip]

    @contextmanager
    def outbound(self) -> Iterator[None]:
        """Count a dialled connection, from the dial on, while the block runs.

        Raises:
            Refused: there are enough.
        """
        if self._outbound >= self._limits.max_outbound:
            raise Refused(f"{self._outbound} dialled connections are the limit")
        self._outbound += 1
        try:
            yield
        finally:
            self._outbound -= 1

    def surplus(self, connections: Sequence[T]) -> Sequence[T]:
        """Choose which of a peer's connections have to give way to a new one.

        One that comes back is not to be kept out by its own former connections, which may take a moment to end.
        It can only cost itself.

        Args:
            connections: with that peer, the oldest first.
        """
        return connections[: max(0, len(connections) + 1 - self._limits.max_connections_per_peer)]
