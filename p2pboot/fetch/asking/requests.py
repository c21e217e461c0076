"""Requests over one stream: several tasks ask at once, one task reads, and everyone gets their own reply.

Owns the client's end of a stream: sending in order, matching replies in order, and what a cancelled or failed
request means for the others. `protocol.replies` judges the bytes; whom to ask, when, and how often is the
caller's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self, TypeVar

import trio

from p2pboot.errors import RemoteProtocolError
from p2pboot.protocol.client import Query
from p2pboot.protocol.messages import MAX_IN_FLIGHT
from p2pboot.protocol.replies import Answer, Expected, ReplyReader
from p2pboot.transport.interface import Connection, NoRoom, Stream, StreamReset, Transport

READ_BYTES = 4096
"""Taken at once where a header is due: one, and of a long body behind it little, for that is copied."""

PEER_TIMEOUT_S = 5.0
"""For everything that is asked of one peer at one time; a mute one holds its own task only."""

OPEN_TIMEOUT_S = 5.0

T = TypeVar("T")


class Truncated(StreamReset):
    """The peer closed the stream and still owed a reply; the message says which."""


class NoAnswer(StreamReset):
    """The peer said nothing for too long; the message says for how long."""


class NoStream(StreamReset):
    """The peer is gone, or does not speak the protocol; the message says which one."""


async def open_stream(transport: Transport, connection: Connection, protocol: str) -> Stream:
    """Open a stream, and say what went wrong where it does not open; `Ledger.note_error` takes the errors.

    Args:
        transport: the network.
        connection: where to.
        protocol: of the stream.

    Raises:
        NoAnswer: it took longer than OPEN_TIMEOUT_S.
        NoStream: the connection has ended, or the peer does not speak the protocol.
        NoRoom: the peer is full.
    """
    try:
        with trio.fail_after(OPEN_TIMEOUT_S):
            return await transport.open_stream(connection, protocol)
    except trio.TooSlowError:
        raise NoAnswer(f"no answer in {OPEN_TIMEOUT_S:g} s") from None
    except NoRoom:
        raise
    except StreamReset as error:
        raise NoStream(f"opens no stream for {protocol}") from error


@asynccontextmanager
async def requests_to(
    transport: Transport, connection: Connection, protocol: str, timeout_s: float = PEER_TIMEOUT_S
) -> AsyncIterator[RequestStream]:
    """Ask one peer on a stream of its own; `Ledger.note_error` says what the errors mean.

    Args:
        transport: the network.
        connection: with the peer.
        protocol: of the stream.
        timeout_s: for all that is asked, seconds.

    Raises:
        NoAnswer: it took longer.
        NoStream: see `open_stream`.
        PeerRefused, RemoteProtocolError: see `RequestStream.ask`.
    """
    try:
        with trio.fail_after(timeout_s):
            async with RequestStream(await open_stream(transport, connection, protocol)) as requests:
                yield requests
    except trio.TooSlowError:
        raise NoAnswer(f"no answer in {timeout_s:g} s") from None


class _Request(Expected):
    """A query on its way from a caller to the peer and back; abandoned when the caller is gone."""

    def __init__(self, query: Query[Any]) -> None:
        super().__init__(query)
        self.done = trio.Event()
        self.outcome: Answer | RemoteProtocolError  # once it is done


class RequestStream:
    """A stream on which requests are asked; use it as `async with RequestStream(stream) as requests`.

    Any number of tasks may ask at the same time. A request is sent at once, unless MAX_IN_FLIGHT of this
    stream are unanswered: then it waits for its turn. Nothing here has a timeout; callers set them, and
    `last_progress` tells a stalled peer from a busy one.

    **Cancelling** a caller leaves the stream usable: a request that is not sent yet is not sent, the reply to
    one that is gets read past and thrown away (until then it still counts as in flight, and what comes after
    it waits). Whoever does not want to wait for 16 MiB of unwanted bytes leaves the `async with`: leaving it
    with requests unanswered resets the stream, otherwise it is closed in order.

    **Failures** of the stream or of the peer's manners end the stream for everybody: it is reset, all who
    wait and all who ask later get the RemoteProtocolError (StreamReset where the stream just ended).
    """

    def __init__(self, stream: Stream) -> None:
        self.connection = stream.connection
        self.peer_id = stream.connection.peer_id
        self._stream = stream
        self._progress_at = float("-inf")
        self._received = stream.received
        self._replies = ReplyReader()
        self._unfinished: dict[_Request, None] = {}  # each holds a slot of the window; in the order of asking
        self._sent: deque[_Request] = deque()  # those on the wire, in the order of the replies to come
        self._window = trio.Semaphore(MAX_IN_FLIGHT, max_value=MAX_IN_FLIGHT)
        # Never full: what is in it holds a slot of the window.
        self._send_unsent, self._unsent = trio.open_memory_channel[_Request](MAX_IN_FLIGHT)
        self._failure: RemoteProtocolError | None = None
        self._running = AsyncExitStack()
        self._shield = trio.CancelScope()

    @property
    def outstanding(self) -> int:
        """Requests without a complete reply, abandoned ones included."""
        return len(self._unfinished)

    @property
    def last_progress(self) -> float:
        """When a byte was last seen to have come, or, if later, when we asked and were owed nothing before.

        So while `outstanding` is not 0, the peer has been silent since then (`trio.current_time()`). A long
        body wakes its reader once; until then a byte is seen when this is asked for, so ask now and then.
        While a limit of ours keeps us from reading, nobody is silent.
        """
        received = self._stream.received
        if received != self._received or self._stream.held_back:
            self._received = received
            self._progress_at = trio.current_time()
        return self._progress_at

    async def __aenter__(self) -> Self:
        self._running.enter_context(self._shield)
        self._running.push_async_callback(self._end_stream)
        nursery = await self._running.enter_async_context(trio.open_nursery())
        self._running.callback(nursery.cancel_scope.cancel)
        nursery.start_soon(self._send_requests)
        nursery.start_soon(self._receive_replies)
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        # The body's own exception passes by: it never enters the nursery, which would wrap it in a group.
        self._shield.shield = True  # all that follows is bounded: our tasks only ever wait on the stream
        await self._running.aclose()

    async def _end_stream(self) -> None:
        if self._unfinished:
            await self._stream.reset()
        else:
            await self._stream.close()
        self._fail(StreamReset(f"the stream to {self.peer_id} was closed on this side"))

    async def ask(self, query: Query[T]) -> T:
        """Send one query and wait for its answer.

        Raises:
            PeerLacks, PeerBusy, PeerRefused: the peer says no; the stream goes on.
            RemoteProtocolError: the stream is over, for this and every other request.
        """
        try:
            self._window.acquire_nowait()
        except trio.WouldBlock:
            await self._window.acquire()
        if self._failure is not None:
            self._window.release()
            raise _copy(self._failure)
        if not self._unfinished:
            self._received = self._stream.received
            self._progress_at = trio.current_time()
        request = _Request(query)
        self._unfinished[request] = None
        self._send_unsent.send_nowait(request)
        try:
            await request.done.wait()
        except trio.Cancelled:
            request.abandoned = True
            raise
        outcome = request.outcome
        if isinstance(outcome, RemoteProtocolError):
            raise _copy(outcome)
        if outcome.refusal is not None:
            raise outcome.refusal
        value: T = outcome.value
        return value

    async def _send_requests(self) -> None:
        while self._failure is None:
            request = await self._unsent.receive()
            frames = bytearray()
            for ready in self._take_unsent(request):
                self._replies.expect(ready)
                self._sent.append(ready)
                frames += ready.query.frame
            try:
                await self._stream.write(bytes(frames))
            except RemoteProtocolError as error:
                await self._break(error)
                return

    def _take_unsent(self, first: _Request) -> Iterator[_Request]:
        """Everything that waits to be sent, so that it goes out in one write."""
        request = first
        while True:
            if request.abandoned:
                self._finish(request, Answer())
            else:
                yield request
            try:
                request = self._unsent.receive_nowait()
            except trio.WouldBlock:
                return

    async def _receive_replies(self) -> None:
        try:
            while await self._receive_some():
                self._progress_at, self._received = trio.current_time(), self._stream.received
                while (answer := self._replies.next_reply()) is not None:
                    self._finish(self._sent.popleft(), answer)
        except StreamReset as error:
            await self._break(error)
        except RemoteProtocolError as error:
            await self._break(RemoteProtocolError(f"peer {self.peer_id}: {error.message}"))
        else:  # truncation, if replies are missing; a peer that is stopped in order looks just like this
            unanswered = ""
            if self._sent:
                others = f" and {self.outstanding - 1} more" if self.outstanding > 1 else ""
                unanswered = f", owing the reply to {self._sent[0].query.name}{others}"
            kind = Truncated if unanswered else StreamReset
            await self._break(kind(f"peer {self.peer_id} closed the stream{unanswered}"))

    async def _receive_some(self) -> bool:
        """Hand what comes to the reader, a body straight to where it belongs; False at the end of the stream."""
        space = self._replies.body_space
        if space is None:
            data = await self._stream.read(READ_BYTES)
            self._replies.receive_data(data)
            return bool(data)
        if await self._stream.read_into(space, len(space)) < len(space):
            return False
        self._replies.body_filled()
        return True

    def _finish(self, request: _Request, outcome: Answer | RemoteProtocolError) -> None:
        if request in self._unfinished:  # a reply may still be taken in while the stream is being reset
            del self._unfinished[request]
            request.outcome = outcome
            request.done.set()
            self._window.release()

    async def _break(self, error: RemoteProtocolError) -> None:
        self._fail(error)
        await self._stream.reset()

    def _fail(self, error: RemoteProtocolError) -> None:
        """End it for everyone who waits, and for who comes later; the first reason stays."""
        if self._failure is None:
            self._failure = error
            for request in tuple(self._unfinished):
                self._finish(request, error)


def _copy(failure: RemoteProtocolError) -> RemoteProtocolError:
    """One for each task: several raise it, and each adds its own traceback."""
    copy = type(failure)(failure.message, remedy=failure.remedy)
    copy.__cause__ = failure
    return copy
