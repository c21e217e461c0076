"""What the servers of all protocols have in common: how they are given streams, and threads of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final

from p2pboot.protocol.messages import Reply
from p2pboot.serving.accounts import Serving
from p2pboot.serving.conversation import Reserve, serve_stream
from p2pboot.serving.threads import Threads
from p2pboot.transport.interface import Stream

DISK_THREADS: Final = 4
"""Of each server, at the same time: enough to keep a disk busy, few enough that hashing leaves the processor to
others. A slow disk holds up only who reads from it."""

UNREADABLE: Final = "this node can not read it at the moment"
"""What a peer is told when the disk fails."""


class Server(ABC):
    """Answers the requests of one protocol.

    Args:
        serving: limits and accounts, shared with the other servers of this node.
    """

    protocol: ClassVar[str]

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._in_thread = Threads(DISK_THREADS).run

    async def handle(self, stream: Stream) -> None:
        """Serve one inbound stream of the protocol to its end; raises nothing but Cancelled."""
        await serve_stream(stream, self.protocol, self._answer, self._serving)

    @abstractmethod
    async def _answer(self, request: Any, reserve: Reserve) -> Reply:
        """Make the reply to a request; see `serving.conversation.Answer`."""
