"""The life of one inbound stream: requests are read, answered in order, and cost the peer no less than us.

Owns order, backpressure, time limits, and how the stream ends. What the answer to a request is, `serving.artifacts`
says; how a request looks, `protocol.messages`. Three tasks stand in a row, each passing on to the next:

    read and parse  →  prepare the reply, part by part (disk)  →  write it

so the next part is read from disk while the previous one is being written, never more than that one ahead, and of a
long reply not even that one where the peer has not proved quick. A short reply is written by the task that prepared
it: to wake another one costs more than it gains. How large a part is, `serving.memory` says; when a request is worked
on, `serving.threads`. A fourth task watches for a peer that takes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import field
from enum import StrEnum
from math import inf
from typing import Any, ClassVar, Final, TypeVar

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.core.events import Event
from p2pboot.core.pieces import MIB
from p2pboot.errors import P2PBootError, RemoteProtocolError
from p2pboot.protocol.frames import FrameReader
from p2pboot.protocol.messages import (
    MAX_IN_FLIGHT,
    BadRequest,
    Reply,
    Request,
    Status,
    parse_request,
)
from p2pboot.serving.accounts import Admission, Serving, StreamAccount
from p2pboot.serving.limits import FULL_FRAME, FULL_SLICE
from p2pboot.serving.memory import SHORT_REPLY, Ahead
from p2pboot.transport.interface import Stream, StreamReset

log = logging.getLogger(__name__)

READ_BYTES: Final = 4096
"""Taken from a stream at once. What is not taken fills the sender's window: that is the backpressure."""
# Of the requests in flight one is in the hands of each of the three tasks; the others queue.
_QUEUED: Final = MAX_IN_FLIGHT - 3
_LOOKS: Final = 10  # at a peer that takes nothing, until it is given up

T = TypeVar("T")
Reserve = Callable[[int], Awaitable[int]]
Answer = Callable[[Any, Reserve], Awaitable[Reply]]
"""Makes the reply to a request of its protocol. Before it reads a body it calls `reserve` with the body's length, once.
If that is not 0, the peer has not proved quick enough for all of it to be held: it is to be a `LongBody`, of which so
many bytes are read before the reply begins."""

HandedOver = Callable[[], Awaitable[None]]
"""Waits until the connection has taken all replies before this one."""
Beforehand = Callable[[Any, HandedOver], Awaitable[Reply | None]]
"""Is given a request before it takes a turn, and may wait for what the reply depends on: that keeps nobody else from
working. Returns the reply where making it is not worth a turn; None where `Answer` is to make it."""


class Ending(StrEnum):
    """How a stream ended, for the counters."""

    CLOSED = "closed"  # the peer was done
    IDLE = "idle"  # nothing was asked for too long
    REFUSED = "refused"  # over the limit of streams, and told so
    DROPPED = "dropped"  # so far over it that nothing was read
    GAVE_WAY = "gave_way"  # others wanted to be served who had less
    GONE = "gone"  # reset by the peer, or its connection ended
    VIOLATION = "violation"  # what came is not the protocol, or a request took too long to arrive
    STALLED = "stalled"  # the peer does not take its replies
    FAILED = "failed"  # an error of ours
    CANCELLED = "cancelled"  # the node ends


_IN_ORDER: Final = frozenset({Ending.CLOSED, Ending.IDLE, Ending.REFUSED})
_GAVE_UP: Final = frozenset({Ending.GONE, Ending.STALLED})


async def serve_stream(
    stream: Stream,
    protocol: str,
    answer: Answer,
    serving: Serving,
    beforehand: Beforehand | None = None,
) -> None:
    """Serve one inbound stream to its end; it is closed or reset when this returns.

    Nothing but cancellation comes out of it: a stranger's stream ends nothing but itself.

    Args:
        stream: the peer's.
        protocol: of the stream.
        answer: makes replies, in turn with other streams.
        serving: what all streams share.
        beforehand: is asked first, where there is something to wait for.
    """
    conversation = _Conversation(stream, protocol, answer, serving, beforehand)
    with serving.stream_of(stream.connection, conversation.give_way) as account:
        ending = Ending.CANCELLED
        try:
            ending = await conversation.run(account)
        finally:
            serving.counters.streams[protocol, ending.value] += 1
            with trio.CancelScope(shield=True):  # both are bounded
                if ending in _IN_ORDER or (ending is Ending.GAVE_WAY and not account.is_busy):
                    await stream.close()
                else:
                    await stream.reset()


@dataclass(frozen=True, slots=True)
class _Refused:
    """A request that is not worked on, because its peer has asked too much."""

    op: ClassVar[str] = "refused"
    reason: str


_Asked = Request | BadRequest | _Refused


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A part of a reply on its way to the stream."""

    data: bytes | bytearray | memoryview
    header: bytes = b""  # before the first part
    done: tuple[str, str] | None = None  # operation and status of the reply, with its last part
    turns: float = 0.0  # that the reply took, likewise
    held: int = 0  # bytes of memory beyond those that a part may have
    ended: Callable[[bool], None] | None = None  # see `Reply`; with the last part
    written: trio.Event = field(default_factory=trio.Event)


class _Conversation:
    """The state that the tasks of one stream share."""

    def __init__(
        self,
        stream: Stream,
        protocol: str,
        answer: Answer,
        serving: Serving,
        beforehand: Beforehand | None,
    ) -> None:
        self._stream = stream
        self._protocol = protocol
        self._answer = answer
        self._serving = serving
        self._beforehand = beforehand
        self._turns = serving.turns[protocol]
        self._account: StreamAccount
        self._ahead: Ahead
        self._frames = FrameReader()
        self._frame_deadline = inf  # of the request that is arriving
        self._in_flight = 0  # requests that were read and are not answered wholly
        self._idling = 0  # of these, those that wait for something to happen
        self._held = 0  # bytes of memory beyond those that parts may have
        self._reserved = 0  # of these, those for the reply that is being prepared
        self._took = 0.0  # turns for the reply that is being prepared
        self._unpaid = 0.0  # turns for replies that the peer has not taken to the end
        self._passed_on: trio.Event | None = None  # set once the last part that was prepared is written
        self._given_bytes = 0  # of the reply that is being written
        self._seen, self._seen_at = 0, 0.0  # bytes that had left when they last became more, and when
        self._is_writing = False
        self._some_written = trio.Event()  # since the last look
        self._waiting_to_read = trio.CancelScope()
        self._watching = trio.CancelScope()
        self._scope = trio.CancelScope()
        self._ending = Ending.CANCELLED

    async def run(self, account: StreamAccount) -> Ending:
        """Serve until the peer is done, or a reason comes up to stop."""
        self._account = account
        self._ahead = Ahead(self._serving.memory, account.party)
        if account.admission is Admission.DROPPED:
            return Ending.DROPPED
        self._stream.keep_unsent(self._ahead.unsent_bytes)
        send_asked, asked = trio.open_memory_channel[_Asked](_QUEUED)
        send_prepared, prepared = trio.open_memory_channel[_Part](0)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._guard, self._read_requests, send_asked)
                    nursery.start_soon(self._guard, self._prepare_replies, asked, send_prepared)
                    nursery.start_soon(self._guard, self._watch_peer)
                    nursery.start_soon(self._guard, self._write_replies, prepared)
        finally:
            self._ahead.close()
            self._release(self._held)
        if self._ending in _GAVE_UP and self._unpaid:
            self._turns.charge(account.party, self._unpaid)
        return self._ending

    def give_way(self) -> None:
        """End the stream because others want to be served who have less."""
        self._abort(Ending.GAVE_WAY)

    @property
    def _is_crowded(self) -> bool:
        return self._account.admission is Admission.REFUSED

    async def _guard(self, task: Callable[..., Awaitable[None]], *channels: object) -> None:
        """Run one of the tasks; the only place where an error of ours is caught."""
        try:
            await task(*channels)
        except P2PBootError as error:  # of the disk, in the middle of a reply
            log.warning(
                "a reply to %s ends early: %s",
                self._stream.connection.peer_id,
                error,
                extra=Event.SERVING_FAILED(peer=self._stream.connection.peer_id),
            )
            self._abort(Ending.FAILED)
        except Exception:
            log.exception(
                "serving %s to %s",
                self._protocol,
                self._stream.connection.peer_id,
                extra=Event.SERVING_FAILED(peer=self._stream.connection.peer_id, protocol=self._protocol),
            )
            self._abort(Ending.FAILED)

    def _abort(self, ending: Ending) -> None:
        self._note(ending)
        self._scope.cancel()

    def _note(self, ending: Ending) -> None:
        if not self._scope.cancel_called:  # what follows an abort is its consequence
            self._ending = ending

    async def _read_requests(self, asked: trio.MemorySendChannel[_Asked]) -> None:
        async with asked:  # however reading ends, what was asked before is answered first
            try:
                self._note(await self._take_requests(asked))
            except StreamReset:
                self._abort(Ending.GONE)
            except RemoteProtocolError as error:
                log.debug("%s on %s: %s", self._stream.connection.peer_id, self._protocol, error)
                self._note(Ending.VIOLATION)

    async def _take_requests(self, asked: trio.MemorySendChannel[_Asked]) -> Ending:
        bucket = self._account.peer.requests[self._protocol]
        while not isinstance(payload := await self._next_frame(), Ending):
            request: _Asked = parse_request(self._protocol, payload)
            over_rate = not bucket.try_take(1, trio.current_time())
            if over_rate or self._is_crowded:
                request = _Refused("too many streams are open" if self._is_crowded else "too many requests")
            self._note_in_flight(+1)
            await _send(asked, request)
            if self._is_crowded:
                return Ending.REFUSED
            if isinstance(request, BadRequest):
                await trio.sleep(self._serving.wait_after_bad(self._account.party))
            if over_rate:  # refusing costs too: whoever floods us is refused at the allowed rate
                await trio.sleep(bucket.wait_s(1, trio.current_time()))
        return payload

    async def _next_frame(self) -> bytes | Ending:
        while (payload := self._frames.next_frame()) is None:
            if self._frames.partial and self._frame_deadline == inf:
                self._frame_deadline = trio.current_time() + self._serving.limits.frame_s
            with trio.CancelScope(deadline=self._read_deadline()) as self._waiting_to_read:
                data = await self._stream.read(READ_BYTES)
                self._frames.receive_data(data)
                if not data:
                    self._frames.receive_eof()
                    return Ending.CLOSED
            if self._waiting_to_read.cancelled_caught:
                if self._frames.partial:
                    raise RemoteProtocolError("a request did not arrive in time")
                return Ending.IDLE
        self._frame_deadline = inf
        return payload

    def _read_deadline(self) -> float:
        if self._frame_deadline != inf or self._in_flight:
            return self._frame_deadline
        limits = self._serving.limits
        return trio.current_time() + (limits.frame_s if self._is_crowded else limits.idle_s)

    def _note_in_flight(self, change: int, idling: int = 0) -> None:
        self._in_flight += change
        self._idling += idling
        self._account.is_busy = self._in_flight > self._idling
        self._account.active_at = trio.current_time()

    async def _prepare_replies(
        self, asked: trio.MemoryReceiveChannel[_Asked], prepared: trio.MemorySendChannel[_Part]
    ) -> None:
        async with prepared:
            try:
                async for request in asked:
                    await self._prepare(request, prepared)
            except StreamReset:
                self._abort(Ending.GONE)

    async def _prepare(self, request: _Asked, prepared: trio.MemorySendChannel[_Part]) -> None:
        """Make the reply, and pass it on part by part; each takes a turn."""
        self._took = 0.0
        reply = await self._reply_beforehand(request)
        if reply is None:
            async with self._turns.take(self._account.party):
                reply = await self._reply_to(request)
        body = reply.long_body
        if body is None:
            part = self._whole(request.op, reply)
            if len(part.data) <= SHORT_REPLY and (self._passed_on is None or self._passed_on.is_set()):
                await self._hand_over(part)
            else:
                await self._pass_on(part, prepared)
            return
        part = _Part(body.first, reply.encode_header())
        await self._pass_on(part, prepared)
        sent = len(part.data)
        while sent < body.length:
            if self._ahead.is_least:
                await part.written.wait()
            async with self._turns.take(self._account.party):
                data = await body.read(sent, min(body.length - sent, self._ahead.part_bytes))
            sent += len(data)
            is_last = sent == body.length
            part = _Part(data)
            if is_last:
                done = (request.op, reply.status.value)
                part = _Part(data, done=done, turns=self._took, ended=reply.ended)
            await self._pass_on(part, prepared)

    async def _pass_on(self, part: _Part, prepared: trio.MemorySendChannel[_Part]) -> None:
        self._passed_on = part.written
        await _send(prepared, part)

    async def _handed_over(self) -> None:
        if self._passed_on is not None:
            await self._passed_on.wait()

    def _whole(self, op: str, reply: Reply) -> _Part:
        """A reply in one part; where that is large it has to have memory, or it is none."""
        held, self._reserved = self._reserved, 0
        if not held and len(reply.body) > self._ahead.part_bytes:
            held = self._hold(len(reply.body))
            if not held:
                if reply.ended is not None:
                    reply.ended(False)
                reply = Reply.refusal(Status.BUSY, "too much waits for slow readers")
        done = (op, reply.status.value)
        return _Part(reply.body, reply.encode_header(), done, self._took, held, reply.ended)

    async def _reply_beforehand(self, request: _Asked) -> Reply | None:
        if self._beforehand is None or isinstance(request, (_Refused, BadRequest)):
            return None
        self._note_in_flight(0, idling=+1)
        try:
            return await self._beforehand(request, self._handed_over)
        finally:
            self._note_in_flight(0, idling=-1)

    async def _reply_to(self, request: _Asked) -> Reply:
        if isinstance(request, _Refused):
            return Reply.refusal(Status.BUSY, request.reason)
        if isinstance(request, BadRequest):
            return Reply.refusal(Status.BAD_REQUEST, request.reason)
        return await self._answer(request, self._reserve)

    async def _reserve(self, size: int) -> int:
        self._took = max(1.0, size / MIB)
        self._unpaid += self._took
        if self._took > 1:
            self._turns.charge(self._account.party, self._took - 1)
        if size <= self._ahead.part_bytes:
            return 0
        if size <= self._ahead.trusted_bytes:
            self._reserved = self._hold(size)
        return 0 if self._reserved else self._ahead.part_bytes

    async def _write_replies(self, prepared: trio.MemoryReceiveChannel[_Part]) -> None:
        try:
            async for part in prepared:
                await self._hand_over(part)
        except StreamReset:
            self._abort(Ending.GONE)
        finally:
            self._watching.cancel()

    async def _hand_over(self, part: _Part) -> None:
        await self._write(part)
        part.written.set()
        self._release(part.held)
        self._given_bytes += len(part.data)
        if part.done is not None:
            self._account.peer.note_given(self._protocol, part.done[0], self._given_bytes)
            self._given_bytes = 0
            self._serving.counters.requests[(self._protocol, *part.done)] += 1
            self._unpaid -= part.turns
            if part.ended is not None:
                part.ended(True)
            self._note_in_flight(-1)
            self._waiting_to_read.deadline = self._read_deadline()

    async def _write(self, part: _Part) -> None:
        rest, seconds = memoryview(part.data), 0.0
        if part.header:
            # Together, so that a small reply is one frame of the connection; of a long one the first frame alone is
            # copied.
            first = max(0, FULL_FRAME - len(part.header)) if len(rest) > FULL_SLICE else len(rest)
            seconds = await self._write_slices(memoryview(part.header + rest[:first]))
            rest = rest[first:]
        seconds += await self._write_slices(rest)
        self._ahead.note_written(len(part.data), seconds)
        self._stream.keep_unsent(self._ahead.unsent_bytes)

    async def _write_slices(self, rest: memoryview) -> float:
        """Write a part; returns the seconds that the peer has kept us waiting."""
        seconds = 0.0
        while rest:
            size = await self._stream.pay(min(len(rest), FULL_SLICE))  # in no time of the peer's
            began = self._seen_at = trio.current_time()
            self._seen = self._stream.sent
            self._is_writing = True
            self._some_written.set()
            await self._stream.write(rest[:size])
            self._is_writing = False
            self._account.active_at = trio.current_time()
            seconds += self._account.active_at - began
            self._serving.counters.bytes_sent[self._protocol] += size
            rest = rest[size:]
        return seconds

    async def _watch_peer(self) -> None:
        """End the stream once its peer takes not a byte for too long; whoever takes one at times may be slow."""
        stall_s = self._serving.limits.stall_s
        with self._watching:
            while True:
                await self._some_written.wait()
                await trio.sleep(
                    stall_s / _LOOKS
                )  # by itself: a deadline for each write costs more than the write
                now = trio.current_time()
                if not self._is_writing:
                    self._some_written = trio.Event()
                elif self._stream.sent != self._seen:
                    self._seen, self._seen_at = self._stream.sent, now
                elif now - self._seen_at >= stall_s:
                    self._abort(Ending.STALLED)

    def _hold(self, size: int) -> int:
        """Take so many bytes of memory; 0 where they are not to be had."""
        if not self._serving.memory.take(self._account.party, size):
            return 0
        self._held += size
        return size

    def _release(self, held: int) -> None:
        if held:
            self._held -= held
            self._serving.memory.give_back(self._account.party, held)


async def _send(channel: trio.MemorySendChannel[T], value: T) -> None:
    """Send into a channel; where it takes the value at once, without giving up the processor, as `send` does."""
    try:
        channel.send_nowait(value)
    except trio.WouldBlock:
        await channel.send(value)
