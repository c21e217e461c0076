"""The answers of `/p2pboot/swarm/1` to each request: what changes here, what is chosen for the asker, and pieces.

Owns the way from a checked request to a reply. When changes are told, `serving.telling` says; what is dealt to whom,
`serving.deals`; streams, order and limits are `serving.conversation`'s, and whether bytes are intact, the store judges.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Final, TypeVar

import trio
from typing_extensions import override

from p2pboot.core.dataclass import dataclass
from p2pboot.core.events import Event
from p2pboot.core.origins import Party, party_of
from p2pboot.errors import BlobMissing, P2PBootError
from p2pboot.protocol.messages import LongBody, Reply, Status
from p2pboot.protocol.swarm import (
    MAX_BODY,
    MAX_DEAL_S,
    MAX_RETRY_MS,
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
from p2pboot.serving.uplink import Sending, Uplink
from p2pboot.store.errors import BlobGone
from p2pboot.transport.interface import Connection, Stream, Transport

T = TypeVar("T")

log = logging.getLogger(__name__)

BUSY_S: Final = 1.0
"""When to ask again where others go first."""

NEVER_S: Final = MAX_RETRY_MS / 1000
"""When to ask again who gives nothing to the asker: as late as can be said."""

_ON_ITS_WAY: Final = "it is being fetched here, and what was asked for has not come yet"
_NOT_DEALT: Final = "it comes here with others, from whoever deals it"
_Span = tuple[int, int]  # offset and length, bytes


class SwarmServer(Server):
    """Serves what is cut by a table: artifacts, snapshots, whole or while they arrive.

    Args:
        transport: the network, over which clients are asked in turn what they have.
        serving: limits and accounts, shared with the other servers of this node.
        contents: what is served.
        gives: whether the peer at the other end of a connection is given pieces; anybody hears what changes.
    """

    protocol = SWARM_PROTOCOL

    def __init__(
        self,
        transport: Transport,
        serving: Serving,
        contents: Contents,
        gives: Callable[[Connection], bool] = lambda _connection: True,
    ) -> None:
        super().__init__(serving)
        self.transport = transport
        self.contents = contents
        self.gives = gives
        self.telling = Telling(contents, self.find)
        self.deals = Deals(transport)
        self.uplink = Uplink()

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

    async def find(self, table: str, party: Party) -> Content | None:
        """What is held that is cut by a table; where that is not known, whoever asks takes a turn for it."""
        content = self.contents.known(table)
        if content is None:
            async with self._serving.turns[self.protocol].take(party):
                content = self.contents.known(table)  # by now another may have looked: a rack asks at once
                if content is None:
                    content = await self._in_thread(self.contents.look, table)
                    if content is not None:
                        self.contents.note(content)
                    elif self.contents.was_in_place(table):  # that was noticed before it was read
                        self._note_changed(table)
        return content

    async def pieces(self, content: Content, runs: Runs, reserve: Reserve) -> Reply:
        """Pieces, one after the other.

        Raises:
            P2PBootError: they can not be read.
        """
        table = content.table
        if max(first + count for first, count in runs) > table.count:
            return Reply(Status.RANGE)
        spans = [_span(content, first, count) for first, count in runs]
        length = sum(size for _, size in spans)
        if length > MAX_BODY:
            return Reply(Status.RANGE)
        at_once = await reserve(length)
        if content.check is not None:
            await self._in_thread(content.check, content.digest)
        if not at_once:
            return Reply(Status.OK, await self._read(content, spans))
        if not _is_at_hand(content, runs):
            await self._on_disk(_check, content, spans)

        async def read(offset: int, size: int) -> bytes:
            return await self._read(content, _part(spans, offset, size))

        return Reply(Status.OK, long_body=LongBody(await read(0, at_once), length, read))

    async def _read(self, content: Content, spans: Sequence[_Span]) -> bytes:
        data = _at_hand(content, spans)
        return await self._on_disk(_read, content, spans) if data is None else data

    async def _on_disk(
        self, way: Callable[[Content, Sequence[_Span]], T], content: Content, spans: Sequence[_Span]
    ) -> T:
        try:
            return await self._in_thread(way, content, spans)
        except BlobGone:
            self._note_changed(content.table_digest)
            raise

    def note_given(self, connection: Connection, content: Content, runs: Runs) -> None:
        """These pieces were handed over."""
        size = sum(_span(content, first, count)[1] for first, count in runs)
        self._serving.given(connection, content.digest, size)

    def note_whole(self, connection: Connection, content: Content) -> None:
        """The peer says that it has all of it, from wherever."""
        self._serving.whole(connection, content.digest)

    def lacking(self, table: str) -> Reply:
        """The answer where nothing is held that a table cuts."""
        return self._lacking(table)


@dataclass(slots=True, eq=False)
class _Chosen:
    """What a reply consists of, from when it may begin."""

    sending: Sending
    content: Content
    runs: Runs
    deals: TableDeals | None = None
    deal: Deal | None = None


class _Client:
    """The asker of one stream, and what is on its way to it there."""

    def __init__(self, server: SwarmServer, connection: Connection, nursery: trio.Nursery) -> None:
        self._server = server
        self._connection = connection
        self._party = party_of(connection.address, connection.peer_id)
        self._nursery = nursery
        self._next: _Chosen | None = None  # what the next reply consists of
        self._sending: dict[_Chosen, None] = {}  # replies that are not handed over

    async def answer_beforehand(self, request: SwarmRequest, handed_over: HandedOver) -> Reply | None:
        """See `serving.conversation.Beforehand`."""
        if isinstance(request, ChangesRequest):
            return await self._server.telling.answer(self._connection, request)
        if not self._server.gives(self._connection):
            return Reply.busy(NEVER_S)
        content = await self._server.find(request.table, self._party)
        if content is None:
            return self._server.lacking(request.table)
        if isinstance(request, SomePiecesRequest):
            if content.partial is not None:
                self._server.telling.note_asked(request.table)
            return await self._begin(content, request.want, handed_over)
        if content.partial is not None or self._server.telling.came_with_others(request.table):
            return Reply.refusal(Status.NOT_FOUND, _NOT_DEALT)
        await handed_over()  # chosen when it begins to be sent, not one ahead
        return await self._begin(content, request.want, handed_over) or self._choose(request, content)

    async def answer(self, request: SwarmRequest, reserve: Reserve) -> Reply:
        """See `serving.conversation.Answer`."""
        chosen = self._next
        assert chosen is not None  # noqa: S101 - made beforehand
        try:
            reply = await self._server.pieces(chosen.content, chosen.runs, reserve)
        except BlobGone:
            reply = self._server.lacking(request.table)
        except BlobMissing:
            reply = Reply.refusal(Status.NOT_FOUND, _ON_ITS_WAY)
        except P2PBootError as error:  # a disk that fails costs this request, not the stream
            log.warning(
                "%s of table %s failed: %s",
                request.op,
                request.table,
                error,
                extra=Event.SERVING_FAILED(op=request.op),
            )
            reply = Reply.refusal(Status.NOT_FOUND, UNREADABLE)
        if reply.status is not Status.OK:
            self._end(chosen, handed_over=False)
            return reply
        deal = chosen.deal
        extra = None if deal is None else {"index": deal.first, "count": deal.count}

        def ended(handed_over: bool) -> None:
            self._end(chosen, handed_over=handed_over)

        return Reply(Status.OK, reply.body, extra, reply.long_body, ended)

    def close(self) -> None:
        """The stream is over: what was not handed over never happened."""
        for chosen in tuple(self._sending):
            self._end(chosen, handed_over=False)

    async def _begin(self, content: Content, want: Runs, handed_over: HandedOver) -> Reply | None:
        """Wait until pieces may be sent; a refusal where others go first.

        They are read ahead of that where the link is free. Where it is not, to wait for what was asked for before on
        this stream is not to wait for others.
        """
        uplink = self._server.uplink
        sending = await uplink.begin(self._party, trio.current_time())
        if sending is None:
            await handed_over()
            sending = await uplink.begin(self._party, trio.current_time() + MAX_DEAL_S)
        if sending is None:
            deals = self._server.deals.known(content.table_digest)
            return Reply.busy(BUSY_S, () if deals is None else deals.ask(self._connection.peer_id, want))
        self._next = _Chosen(sending, content, want)
        self._sending[self._next] = None
        return None

    def _choose(self, request: DealRequest, content: Content) -> Reply | None:
        """Choose what is dealt; a refusal where that is nothing."""
        server, table, chosen = self._server, request.table, self._next
        assert chosen is not None  # noqa: S101 - it may begin
        deals = server.deals.of(table, content.table)
        if deals is None:
            self._end(chosen, handed_over=False)
            return Reply.refusal(Status.NOT_FOUND, _NOT_DEALT)
        choice = deals.choose(self._connection, request, MAX_BODY // content.table.piece_length)
        if isinstance(choice, Wait):
            self._end(chosen, handed_over=False)
            return Reply.busy(choice.retry_s, map(str, choice.ask))
        chosen.deals, chosen.deal = deals, choice
        chosen.runs = ((choice.first, choice.count),)
        self._hear(content, deals)
        return None

    def _end(self, chosen: _Chosen, *, handed_over: bool) -> None:
        if chosen not in self._sending:
            return
        del self._sending[chosen]
        self._server.uplink.end(chosen.sending, whole=handed_over)
        if handed_over:
            self._server.note_given(self._connection, chosen.content, chosen.runs)
        if chosen.deal is not None and chosen.deals is not None:
            note = chosen.deals.sent if handed_over else chosen.deals.failed
            note(self._connection.peer_id, chosen.deal)

    def _hear(self, content: Content, deals: TableDeals) -> None:
        """Hear from now on what the client has, until it is gone: what it has counts when it asks no more."""
        hearing = deals.begin_hearing(self._connection.peer_id)
        if hearing is not None:
            self._nursery.start_soon(self._hear_on, hearing, content, deals)

    async def _hear_on(self, hearing: trio.CancelScope, content: Content, deals: TableDeals) -> None:
        def told(changes: Changes) -> None:
            if deals.hear(self._connection.peer_id, changes):
                self._server.note_whole(self._connection, content)

        transport, table = self._server.transport, content.table_digest
        with hearing:
            await hear(transport, self._connection, table, content.table.count, told)
        deals.end_hearing(self._connection.peer_id, hearing)


def _span(content: Content, first: int, count: int) -> _Span:
    """Where pieces lie."""
    offset, _ = content.table.span(first)
    last, length = content.table.span(first + count - 1)
    return offset, last + length - offset


def _is_at_hand(content: Content, runs: Runs) -> bool:
    """Whether all of some pieces is in memory: such were checked, and what is dropped meanwhile is read anew."""
    arriving = content.partial
    return arriving is not None and all(
        arriving.in_memory(index) is not None
        for first, count in runs
        for index in range(first, first + count)
    )


def _at_hand(content: Content, spans: Sequence[_Span]) -> bytes | None:
    """Read and check pieces where that takes microseconds: from memory."""
    each, parts = content.table.piece_length, []
    for start, length in spans:
        offset, end = start, start + length
        while offset < end:  # piece by piece
            size = min(end - offset, each - offset % each)
            part = content.blobs.at_hand(content.digest, offset, size)
            if part is None:
                return None
            parts.append(part)
            offset += size
    return parts[0] if len(parts) == 1 else b"".join(parts)


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
