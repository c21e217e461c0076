"""The form that all attacks have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import trio

from p2pboot.core.identity import SecretKey
from siege.peer import LOST, Peer, connected, secure
from siege.target import OPEN, Target

_AGAIN_S = 0.5
"""How long one that was turned away waits before it comes again."""
_FIRST = 2
"""The last byte of the first address that attackers come from; honest peers are 127.0.0.1."""


class Attack(ABC):
    """So many connections doing the same; who is turned away comes again.

    Args:
        target: the node.
        network: the third byte of the loopback addresses that it comes from.
    """

    name: ClassVar[str]
    what: ClassVar[str]
    """One line: what it does."""
    bound: ClassVar[str]
    """What has to hold it."""
    shows: ClassVar[str] = "connected"
    """The count that grows once it does what it says."""
    room: ClassVar[str] = OPEN
    """Where it belongs."""
    connections: ClassVar[int]
    addresses: ClassVar[int] = 1

    def __init__(self, target: Target, network: int) -> None:
        self.target = target
        self.counts: Counter[str] = Counter()
        self.shown = trio.Event()
        """It does what it says: something has been counted under `shows`."""
        self._network = network

    def count(self, what: str, number: int = 1) -> None:
        """Note that so much more of something was done."""
        self.counts[what] += number
        if what == self.shows:
            self.shown.set()

    @abstractmethod
    async def one(self, number: int) -> None:
        """Do what one connection does, again and again; ends only by an error."""

    async def run(self) -> None:
        """Run until cancelled."""
        async with trio.open_nursery() as nursery:
            for number in range(self.connections):
                nursery.start_soon(self._again_and_again, number)

    async def _again_and_again(self, number: int) -> None:
        while True:
            try:
                await self.one(number)
            except (*LOST, trio.TooSlowError):
                self.count("turned away")
            except BaseExceptionGroup as group:
                _, others = group.split((*LOST, trio.TooSlowError))
                if others is not None:  # also that it is over
                    raise others from None
                self.count("turned away")
            await trio.sleep(_AGAIN_S)

    def source(self, number: int) -> str:
        """Return the address that a connection comes from."""
        return f"127.0.{self._network}.{_FIRST + number % self.addresses}"

    @property
    def victim(self) -> str:
        """An address beside those, of somebody whom others are to be sent to."""
        return f"127.0.{self._network}.250"

    @asynccontextmanager
    async def socket(
        self, number: int, *, http: bool = False, receive_buffer: int | None = None
    ) -> AsyncIterator[trio.SocketStream]:
        """Connect to the node, or to its gateway."""
        host, port = self.target.http if http else (self.target.host, self.target.port)
        async with connected(host, port, self.source(number), receive_buffer=receive_buffer) as sock:
            self.count("connected")
            yield sock

    @asynccontextmanager
    async def peer(
        self,
        number: int,
        *,
        grants: bool = True,
        bytes_per_s: float | None = None,
        key: SecretKey | None = None,
    ) -> AsyncIterator[Peer]:
        """Be a peer that listens.

        Args:
            number: of the connection.
            grants: whether what was heard may be sent again.
            bytes_per_s: how fast it listens; its link holds a quarter of a second.
            key: its identity; somebody new otherwise.
        """
        buffer = None if bytes_per_s is None else max(4096, int(bytes_per_s / 4))
        async with self.socket(number, receive_buffer=buffer) as sock:
            peer = await secure(sock, key, grants=grants)
            self.count("secured")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(peer.listen, bytes_per_s)
                try:
                    yield peer
                finally:
                    self.count("received", peer.received)
                nursery.cancel_scope.cancel()
