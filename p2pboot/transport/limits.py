"""How many connections a node has, and who gives way when it is full: for both transports.

A connection that is accepted is a handshake first: cheap, and counted apart, since nobody has proved anything yet.
Whoever has proved who it is gets a place, or is told that there is none. Places are shared by the address that a peer
comes from (`core.origins`): peer ids are free. One address may have all of them but a reserve, until others come.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Generic, Protocol, TypeVar

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.core.origins import Party
from p2pboot.core.shares import Shares
from p2pboot.errors import ProtocolError

HANDSHAKE_S: Final = 10.0
"""A stranger holds a place among the handshakes no longer without a key."""

_HURRY_S: Final = 2.0  # after which a handshake gives way to others from its own address
_IDLE_S: Final = 10.0  # without a byte on its streams a connection gives way to others from its own address


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one node allows its peers.

    Args:
        max_inbound: connections accepted at a time.
        reserve: of those, what is left to addresses that have few and to peers whom the operator named; a quarter at
            most.
        max_handshakes: accepted connections, besides, whose peers have not proved yet who they are.
        max_outbound: connections dialled at a time.
        max_connections_per_peer: with one peer id, in both directions together; of more the oldest ends.
        max_inbound_streams: open streams that a peer may have on one connection; twice as many on all of its own.
    """

    max_inbound: int = 256
    reserve: int = 32
    max_handshakes: int = 128
    max_outbound: int = 128
    max_connections_per_peer: int = 4
    max_inbound_streams: int = 128


OF_A_CLIENT: Final = ConnectionLimits(max_inbound=128, reserve=16)
"""Of a machine that fetches: 64 that fetch the same may all be connected with each other, from one address too."""


class Refused(ProtocolError):
    """There are enough connections already."""


class Member(Protocol):
    """A connection, as far as it has to be known here."""

    @property
    def party(self) -> Party:
        """Whose it is."""

    @property
    def quiet_since(self) -> float:
        """When it was last of use to its peer, as the clock of the event loop has it."""


M = TypeVar("M", bound=Member)
T = TypeVar("T")


class Admission(Generic[M]):
    """Counts connections from the moment that they take a socket.

    Args:
        limits: how many there may be.
        end: is called with a connection that has to give way. It neither waits nor raises.
    """

    def __init__(self, limits: ConnectionLimits, end: Callable[[M], None]) -> None:
        self._limits = limits
        self._end = end
        self._handshakes = Shares(limits.max_handshakes, limits.max_handshakes // 4)
        self._under_way: dict[trio.CancelScope, tuple[Party, float]] = {}  # the oldest first
        self._inbound = Shares(limits.max_inbound, min(limits.reserve, limits.max_inbound // 4))
        self._members: dict[M, Party] = {}
        self._preferred: frozenset[str] = frozenset()
        self._outbound = 0

    def prefer(self, peer_ids: Collection[str]) -> None:
        """Take these in whoever else is there: those whom the operator named."""
        self._preferred = frozenset(peer_ids)

    @contextmanager
    def handshake(self, origin: str) -> Iterator[None]:
        """Count a handshake while the block runs, which is cancelled when it has to give way, or takes too long.

        Raises:
            Refused: there are enough, or the block was cancelled.
        """
        party, now = Party(origin), trio.current_time()
        if not self._handshakes.fits(party):
            self._hurry(party, now)
        with trio.CancelScope(deadline=now + HANDSHAKE_S) as scope:
            self._handshakes.take(party)
            self._under_way[scope] = (party, now)
            try:
                yield
            finally:
                del self._under_way[scope]
                self._handshakes.give_back(party)
        if scope.cancelled_caught:
            raise Refused("the handshake took too long")

    def _hurry(self, party: Party, now: float) -> None:
        """End the oldest handshake of the origin that has most under way; its own only if that is old."""
        origin = self._handshakes.gives_way(party)
        began_by = now - _HURRY_S if origin == party.origin else now
        for scope, (whose, began) in self._under_way.items():
            if whose.origin == origin and began <= began_by and not scope.cancel_called:
                scope.cancel()
                return
        raise Refused(f"{self._handshakes.used} handshakes are under way, enough of them with {party.origin}")

    @contextmanager
    def place(self, member: M) -> Iterator[None]:
        """Give a connection that was accepted a place while the block runs.

        Raises:
            Refused: there is none, and nobody who would have to give way.
        """
        party = member.party
        trusted = party.peer_id in self._preferred
        if not self._inbound.fits(party, trusted=trusted):
            leaving = self._who_leaves(party, trusted=trusted)
            if leaving is None:
                raise Refused(f"{self._inbound.used} connections are enough")
            self._release(leaving)
            self._end(leaving)
        self._members[member] = party
        self._inbound.take(party)
        try:
            yield
        finally:
            self._release(member)

    def _release(self, member: M) -> None:
        party = self._members.pop(member, None)
        if party is not None:
            self._inbound.give_back(party)

    def _who_leaves(self, party: Party, *, trusted: bool) -> M | None:
        """The connection of longest silence among those of the origin that has most.

        One's own address has to be idle to give way, and so has everybody where none has more than others; not where
        it is for one whom the operator named.
        """
        others = [one for one, whose in self._members.items() if whose.peer_id not in self._preferred]
        origin = self._inbound.gives_way(party)
        of_origin = [one for one in others if self._members[one].origin == origin]
        idlest = min(of_origin or others, key=lambda one: one.quiet_since, default=None)
        if idlest is None or trusted or origin != party.origin:
            return idlest
        return idlest if trio.current_time() - idlest.quiet_since >= _IDLE_S else None

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
