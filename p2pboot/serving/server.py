"""What the servers of all protocols have in common: how they are given streams, and threads of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final

from p2pboot.core.pieces import PieceTable
from p2pboot.protocol.messages import LongBody, Reply, Status
from p2pboot.serving.accounts import TURNS, Serving
from p2pboot.serving.conversation import Reserve, serve_stream
from p2pboot.serving.threads import Threads
from p2pboot.transport.interface import Stream

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
        self._in_thread = Threads(TURNS).run

    async def handle(self, stream: Stream) -> None:
        """Serve one inbound stream of the protocol to its end; raises nothing but Cancelled."""
        await serve_stream(stream, self.protocol, self._answer, self._serving)

    @abstractmethod
    async def _answer(self, request: Any, reserve: Reserve) -> Reply:
        """Make the reply to a request; see `serving.conversation.Answer`."""


async def table_reply(table: PieceTable, reserve: Reserve) -> Reply:
    """A piece table as a reply. The store keeps tables that are asked for; a slow reader has no copy of its own."""
    at_once = await reserve(len(table.raw))
    if not at_once:
        return Reply(Status.OK, table.raw)

    async def read(offset: int, length: int) -> bytes:
        return table.raw[offset : offset + length]

    return Reply(Status.OK, long_body=LongBody(table.raw[:at_once], len(table.raw), read))
