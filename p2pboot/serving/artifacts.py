"""The answers of `/p2pboot/artifact/1` to each request, from what the store holds.

Owns the way from a checked request to a reply. Streams, order and limits are `serving.conversation`'s; whether
bytes are intact, the store judges.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final, Protocol, TypeVar

from typing_extensions import override

from p2pboot.core.events import Event
from p2pboot.errors import BlobMissing, P2PBootError
from p2pboot.protocol.messages import (
    ARTIFACT_PROTOCOL,
    ArtifactRequest,
    HaveRequest,
    LongBody,
    PiecesRequest,
    ReadRequest,
    Reply,
    Status,
)
from p2pboot.serving.accounts import Serving
from p2pboot.serving.conversation import Reserve, serve_stream
from p2pboot.serving.server import UNREADABLE, Server, table_reply
from p2pboot.store.blobs import BlobStore
from p2pboot.store.errors import BlobGone, RangeError
from p2pboot.transport.interface import Connection, Stream

T = TypeVar("T")

log = logging.getLogger(__name__)

# Only what the status does not say: what was never here is `not_found`, and what is outside is `range`.
_ON_ITS_WAY: Final = "it is being fetched here, and this part has not come yet"


class MayGive(Protocol):
    """What of a store may be given to anybody, as `store.offering` knows it."""

    @property
    def is_looked_up(self) -> bool:
        """Whether that is known now; never waits."""

    def look_up(self) -> None:
        """Find it out; blocking."""

    def allows(self, sha256: str) -> bool:
        """Whether an artifact may be given."""


class ArtifactServer(Server):
    """Serves pieces of artifacts.

    Args:
        blobs: where they are.
        serving: limits and accounts, shared with the other servers of this node.
        may_give: says of what is held whether it may be given; None: all of it.
    """

    protocol = ARTIFACT_PROTOCOL

    def __init__(self, blobs: BlobStore, serving: Serving, may_give: MayGive | None = None) -> None:
        super().__init__(serving)
        self._blobs = blobs
        self._may_give = may_give

    @override
    async def handle(self, stream: Stream) -> None:
        await serve_stream(stream, self.protocol, partial(self._answer, stream.connection), self._serving)

    async def _answer(self, connection: Connection, request: ArtifactRequest, reserve: Reserve) -> Reply:
        try:
            if await self._is_given(request.sha256):
                return await self._answer_given(connection, request, reserve)
            return Reply(Status.NOT_FOUND)
        except RangeError:
            return Reply(Status.RANGE)
        except BlobGone:
            return self._lacking(request.sha256)
        except P2PBootError as error:  # a disk that fails costs this request, not the stream
            log.warning(
                "%s of sha256:%s failed: %s",
                request.op,
                request.sha256,
                error,
                extra=Event.SERVING_FAILED(op=request.op),
            )
            return Reply.refusal(Status.NOT_FOUND, UNREADABLE)

    async def _answer_given(
        self, connection: Connection, request: ArtifactRequest, reserve: Reserve
    ) -> Reply:
        match request:
            case ReadRequest():
                return self._noted(connection, request, await self._read(request, reserve))
            case PiecesRequest():
                return await self._pieces(request, reserve)
            case HaveRequest():
                return await self._have(request)

    async def _is_given(self, sha256: str) -> bool:
        may_give = self._may_give
        if may_give is None:
            return True
        if not may_give.is_looked_up:
            await self._in_thread(may_give.look_up)
        return may_give.allows(sha256)

    def _noted(self, connection: Connection, request: ReadRequest, reply: Reply) -> Reply:
        """The same, and once it is handed over it is noted what was given."""
        if reply.status is not Status.OK:
            return reply

        def ended(handed_over: bool) -> None:
            if handed_over:
                self._serving.given(connection, request.sha256, request.length)

        return replace(reply, ended=ended)

    async def _read(self, request: ReadRequest, reserve: Reserve) -> Reply:
        at_once = await reserve(request.length)
        sha256, start = request.sha256, request.offset

        async def get(way: Callable[[str, int, int], T], offset: int, length: int) -> T:
            try:
                return await self._in_thread(way, sha256, start + offset, length)
            except BlobGone:
                self._note_changed(sha256)
                raise

        async def read(offset: int, length: int) -> bytes:
            data = self._blobs.at_hand(sha256, start + offset, length)
            return await get(self._blobs.read, offset, length) if data is None else data

        try:
            if not at_once:
                return Reply(Status.OK, await read(0, request.length))
            checked = self._blobs.at_hand(sha256, start, request.length)
            if checked is None:
                await get(self._blobs.check, 0, request.length)
            first = await read(0, at_once) if checked is None else checked[:at_once]
            return Reply(Status.OK, long_body=LongBody(first, request.length, read))
        except BlobMissing:
            something = await self._in_thread(self._blobs.held, request.sha256)
            if something is not None:
                return Reply.refusal(Status.NOT_FOUND, _ON_ITS_WAY)
            return self._lacking(request.sha256)

    async def _pieces(self, request: PiecesRequest, reserve: Reserve) -> Reply:
        table = await self._in_thread(self._blobs.table, request.sha256, request.table)
        if table is None:
            return self._lacking(request.sha256)
        return await table_reply(table, reserve)

    async def _have(self, request: HaveRequest) -> Reply:
        held = await self._in_thread(self._blobs.held, request.sha256, request.table)
        return self._lacking(request.sha256) if held is None else Reply(Status.OK, held.to_bytes())
