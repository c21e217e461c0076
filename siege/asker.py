"""Attacks that ask without pause: so many requests in flight on a stream, and one more for each that is answered."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import trio

from siege.attack import Attack
from siege.peer import Peer
from siege.replies import P2PBootReplies, Replies


class Asker(Attack):
    """Counts replies by their status."""

    shows = "ok"
    protocol: ClassVar[str]
    in_flight: ClassVar[int] = 16
    when_busy_s: ClassVar[float] = 0.0
    """How long it pauses when it is told that the node is busy."""
    replies: ClassVar[type[Replies]] = P2PBootReplies

    bytes_per_s: ClassVar[float | None] = None
    """How fast it takes replies."""

    async def one(self, number: int) -> None:
        async with self.peer(number, bytes_per_s=self.bytes_per_s) as peer:
            await self.ask(peer, self.questions(number))

    async def ask(self, peer: Peer, questions: Iterator[bytes]) -> None:
        """Ask on one stream.

        Raises:
            EOFError: the node ended it.
        """
        replies = self.replies(self.protocol)
        first = b"".join(itertools.islice(questions, self.in_flight))
        stream = await peer.open(self.protocol, first, replies.hear)
        while True:
            await replies.more(stream)
            taken = replies.take()
            for status in taken:
                self.count(status)
            if "busy" in taken:
                await trio.sleep(self.when_busy_s)
            await peer.write(stream, b"".join(itertools.islice(questions, len(taken))))

    @abstractmethod
    def questions(self, number: int) -> Iterator[bytes]:
        """What a connection asks, one request after the other, for ever."""
