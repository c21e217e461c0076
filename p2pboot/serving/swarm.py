"""The answers of `/p2pboot/swarm/1` to each request: what changes here, what is chosen for the asker, and pieces.

Owns the way from a checked request to a reply. When changes are told, `serving.telling` says; what is dealt to whom,
`serving.deals`; streams, order and limits are `serving.conversation`'s, and whether bytes are intact, the store judges.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Final

import trio
from typing_extensions import override

from p2pboot.errors import BlobMissing, P2PBootError
from p2pboot.protocol.messages import LongBody, Reply, Status
from p2pboot.protocol.swarm import (
    MAX_BODY,
    SWARM_PROTOCOL,
    ChangesRequest,
    DealRequest,
    Runs,
    SomePiecesRequest,
    SwarmRequest,
)
from p2pboot.protocol.swarm_client import Changes
from p2pboot.serving.accounts import Serving
from p2pboot.serving.contents import Content, Contents
from p2pboot.serving.conversation import HandedOver, Reserve, serve_stream
from p2pboot.serving.dealing import Deal, Wait
from p2pboot.serving.deals import Deals, TableDeals
from p2pboot.serving.hearing import hear
from p2pboot.serving.server import UNREADABLE, Server
from p2pboot.serving.telling import Telling
from p2pboot.store.errors import BlobGone
from p2pboot.transport.interface import Connection, Stream, Transport

log = logging.getLogger(__name__)

_ON_ITS_WAY: Final = "it is being fetched here, and what was asked for has not come yet"
_Span = tuple[int, int]  # offset and length, bytes


class SwarmServer(Server):
    """Serves what is cut by a table: artifacts, snapshots, whole or while they arrive.

    Args:
        transport: the network, over which clients are asked in turn what they have.
        serving: limits and accounts, shared with the other servers of this node.
        contents: what is served.
    """

    protocol = SWARM_PROTOCOL

    def __init__(self, transport: Transport, serving: Serving, contents: Contents) -> None:
        super().__init__(serving)
        self.transport = transport
        self.contents = contents
        self.telling = Telling(contents.find)
        self.deals = Deals(transport)

    @override
    async def handle(self, stream: Stream) -> None:
        async with trio.open_nursery() as nursery:
            client = _Client(self, stream.connection, nursery)
            try:
                await serve_stream(
                    stream, self.protocol, client.answer, self._serving, client.answer_beforehand
                )
            finally:
                client.close()
            nursery.cancel_scope.cancel()

    @override
    async def _answer(self, request: SwarmRequest, reserve: Reserve) -> Reply:
        raise NotImplementedError  # each stream has answers of its own

    async def pieces(self, content: Content, runs: Runs, reserve: Reserve) -> Reply:
        """Pieces, one after the other.

        Raises:
            P2PBootError: they can not be read.
        """
        table = content.table
        last, count = runs[-1]
        if last + count > table.count:
            return Reply(Status.RANGE)
        spans = [_span(content, first, count) for first, count in runs]
        length = sum(size for _, size in spans)
        if length > MAX_BODY:
            return Reply(Status.RANGE)
        at_once = await reserve(length)
        if content.check is not None:
            await self._in_thread(content.check, content.digest)
        if not at_once:
            return Reply(Status.OK, await self._in_thread(_read, content, spans))
        await self._in_thread(_check, content, spans)

        async def read(offset: int, size: int) -> bytes:
            return await self._in_thread(_read, content, _part(spans, offset, size))

        return Reply(Status.OK, long_body=LongBody(await read(0, at_once), length, read))


class _Client:
    """The asker of one stream, and what it was dealt over it."""

    def __init__(self, server: SwarmServer, connection: Connection, nursery: trio.Nursery) -> None:
        self._server = server
        self._connection = connection
        self._nursery = nursery
        self._chosen: tuple[TableDeals, Content, Deal] | None = None  # and not handed over yet
        self._heard: str | None = None  # the table of which this stream's client is asked what it has
        self._hearing = trio.CancelScope()

    async def answer_beforehand(self, request: SwarmRequest, handed_over: HandedOver) -> Reply | None:
        """See `serving.conversation.Beforehand`."""
        match request:
            case ChangesRequest():
                return await self._server.telling.answer(self._connection.peer_id, request)
            case DealRequest():
                await handed_over()  # chosen when it begins to be sent, not one ahead
                self._give_up()
                return self._choose(request)
            case SomePiecesRequest():
                return None

    async def answer(self, request: SwarmRequest, reserve: Reserve) -> Reply:
        """See `serving.conversation.Answer`."""
        try:
            if isinstance(request, DealRequest):
                return await self._deal(reserve)
            assert isinstance(request, SomePiecesRequest)  # noqa: S101 - changes are answered beforehand
            content = self._server.contents.find(request.table)
            if content is None:
                return Reply(Status.NOT_FOUND)
            return await self._server.pieces(content, request.want, reserve)
        except BlobGone:
            return Reply(Status.GONE)
        except BlobMissing:
            return Reply.refusal(Status.NOT_FOUND, _ON_ITS_WAY)
        except P2PBootError as error:  # a disk that fails costs this request, not the stream
            log.warning("%s of table %s failed: %s", request.op, request.table, error)
            return Reply.refusal(Status.NOT_FOUND, UNREADABLE)

    def close(self) -> None:
        """The stream is over: what was not handed over never happened."""
        self._give_up()

    def _choose(self, request: DealRequest) -> Reply | None:
        server, table = self._server, request.table
        content = server.contents.find(table)
        if content is None:
            return Reply(Status.NOT_FOUND)
        if content.partial is not None:  # who has not everything has nothing to deal
            return Reply.refusal(Status.NOT_FOUND, _ON_ITS_WAY)
        deals = server.deals.of(table, content.table, spare=server.telling.has_followed(table))
        if deals is None:
            return Reply.busy(5.0)
        choice = deals.choose(self._connection, request, MAX_BODY // content.table.piece_length)
        if isinstance(choice, Wait):
            return Reply.busy(choice.retry_s, map(str, choice.ask))
        self._hear(content, deals)
        self._chosen = deals, content, choice
        return None

    async def _deal(self, reserve: Reserve) -> Reply:
        assert self._chosen is not None  # noqa: S101 - it was chosen beforehand
        deals, content, deal = chosen = self._chosen
        reply = Reply(Status.NOT_FOUND)
        try:
            reply = await self._server.pieces(content, ((deal.first, deal.count),), reserve)
        finally:
            if reply.status is not Status.OK:
                self._give_up()

        def taken() -> None:
            if self._chosen is chosen:
                self._chosen = None
                deals.sent(self._connection.peer_id, deal)

        extra = {"index": deal.first, "count": deal.count}
        return Reply(reply.status, reply.body, extra, reply.long_body, taken)

    def _give_up(self) -> None:
        if self._chosen is not None:
            deals, _, deal = self._chosen
            self._chosen = None
            deals.failed(self._connection.peer_id, deal)

    def _hear(self, content: Content, deals: TableDeals) -> None:
        """Hear from now on what the client has of what it is dealt."""
        if self._heard == content.table_digest:
            return
        self._hearing.cancel()
        self._hearing = trio.CancelScope()
        self._heard = content.table_digest
        self._nursery.start_soon(self._hear_on, self._hearing, content, deals)

    async def _hear_on(self, scope: trio.CancelScope, content: Content, deals: TableDeals) -> None:
        def told(changes: Changes) -> None:
            deals.hear(self._connection.peer_id, changes)

        with scope:
            await hear(
                self._server.transport, self._connection, content.table_digest, content.table.count, told
            )


def _span(content: Content, first: int, count: int) -> _Span:
    """Where pieces lie."""
    offset, _ = content.table.span(first)
    last, length = content.table.span(first + count - 1)
    return offset, last + length - offset


def _read(content: Content, spans: Sequence[_Span]) -> bytes:
    """Read and check pieces; blocking."""
    read = partial(content.blobs.read, content.digest)
    return read(*spans[0]) if len(spans) == 1 else b"".join(read(*span) for span in spans)


def _check(content: Content, spans: Sequence[_Span]) -> None:
    """Check pieces that are read bit by bit afterwards; blocking."""
    for span in spans:
        content.blobs.check(content.digest, *span)


def _part(spans: Sequence[_Span], offset: int, size: int) -> list[_Span]:
    """What lies at some bytes of a body that these make up."""
    part = []
    for (start, length), end in zip(spans, accumulate(length for _, length in spans), strict=True):
        begin = end - length
        low, high = max(offset, begin), min(offset + size, end)
        if low < high:
            part.append((start + low - begin, high - low))
    return part
