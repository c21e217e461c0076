"""What the servers of all protocols have in common: how they are given streams, and threads of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Final

import trio
from cachetools import TTLCache

from p2pboot.core.pieces import PieceTable
from p2pboot.protocol.messages import LongBody, Reply, Status
from p2pboot.serving.accounts import TURNS, Serving
from p2pboot.serving.conversation import Reserve
from p2pboot.serving.threads import Threads
from p2pboot.transport.interface import Stream

_REMEMBERED: Final = 64
_REMEMBERED_S: Final = 60.0
_CHANGED: Final = "its file changed on this node's disk and is being examined"

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
        # What was found changed just now: whoever was cut off in the middle of a reply is to learn why.
        self._changed: TTLCache[str, None] = TTLCache(_REMEMBERED, _REMEMBERED_S, trio.current_time)

    @abstractmethod
    async def handle(self, stream: Stream) -> None:
        """Serve one inbound stream of the protocol to its end; raises nothing but Cancelled."""

    def _note_changed(self, name: str) -> None:
        """What is asked for by this name is not what was verified any more."""
        self._changed[name] = None

    def _lacking(self, name: str) -> Reply:
        """The answer where nothing is held by a name."""
        return Reply.refusal(Status.GONE, _CHANGED) if name in self._changed else Reply(Status.NOT_FOUND)


async def table_reply(table: PieceTable, reserve: Reserve) -> Reply:
    """A piece table as a reply. The store keeps tables that are asked for; a slow reader has no copy of its own."""
    at_once = await reserve(len(table.raw))
    if not at_once:
        return Reply(Status.OK, table.raw)

    async def read(offset: int, length: int) -> bytes:
        return table.raw[offset : offset + length]

    return Reply(Status.OK, long_body=LongBody(table.raw[:at_once], len(table.raw), read))
