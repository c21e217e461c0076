"""The life of one inbound stream: requests are read, answered in order, and cost the peer no less than us.

Owns order, backpressure, time limits, and how the stream ends. What the answer to a request is, `serving.artifacts`
says; how a request looks, `protocol.messages`. Three tasks stand in a row, each passing on to the next:

    read and parse  →  prepare the reply (disk)  →  write it

so the next reply is read from disk while the previous one is being written, never more than that one ahead.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from enum import StrEnum
from math import inf
from typing import Any, ClassVar, Final

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import RemoteProtocolError
from p2pboot.protocol.frames import FrameReader
from p2pboot.protocol.messages import MAX_IN_FLIGHT, BadRequest, Reply, Request, Status, parse_request
from p2pboot.serving.accounts import PeerAccount, Serving
from p2pboot.serving.limits import FULL_FRAME, FULL_SLICE
from p2pboot.serving.memory import Grant
from p2pboot.transport.interface import Stream, StreamReset

log = logging.getLogger(__name__)

READ_BYTES: Final = 4096
"""Taken from a stream at once. What is not taken fills the sender's window: that is the backpressure."""
# Of the requests in flight one is in the hands of each of the three tasks; the others queue.
_QUEUED: Final = MAX_IN_FLIGHT - 3

Reserve = Callable[[int], Awaitable[None]]
Answer = Callable[[Any, Reserve], Awaitable[Reply]]
"""Makes the reply to a request of its protocol. Before it holds a large body, it calls `reserve` with the
body's length, once."""


class Ending(StrEnum):
    """How a stream ended, for the counters."""

    CLOSED = "closed"  # the peer was done
    IDLE = "idle"  # nothing was asked for too long
    REFUSED = "refused"  # over the limit of streams, and told so
    DROPPED = "dropped"  # so far over it that nothing was read
    GONE = "gone"  # reset by the peer, or its connection ended
    VIOLATION = "violation"  # what came is not the protocol, or a request took too long to arrive
    STALLED = "stalled"  # the peer does not take its replies
    FAILED = "failed"  # an error of ours
    CANCELLED = "cancelled"  # the node ends


_IN_ORDER: Final = frozenset({Ending.CLOSED, Ending.IDLE, Ending.REFUSED})


async def serve_stream(stream: Stream, protocol: str, answer: Answer, serving: Serving) -> None:
    """Serve one inbound stream to its end; it is closed or reset when this returns.

    Nothing but cancellation comes out of it: a stranger's stream ends nothing but itself.
    """
    with serving.stream_of(stream.connection.peer_id) as peer:
        ending = Ending.CANCELLED
        try:
            ending = await _Conversation(stream, protocol, answer, serving, peer).run()
        finally:
            serving.counters.streams[protocol, ending.value] += 1
            with trio.CancelScope(shield=True):  # both are bounded
                if ending in _IN_ORDER:
                    await stream.close()
                else:
                    await stream.reset()


@dataclass(frozen=True, slots=True)
class _Refused:
    """A request that is not worked on, because its peer has asked too much."""

    op: ClassVar[str] = "refused"
    reason: str


_Asked = Request | BadRequest | _Refused


@dataclass(slots=True)
class _Prepared:
    """A reply on its way to the stream, and the memory that it holds."""

    op: str
    reply: Reply
    grant: Grant | None


class _Conversation:
    """The state that the three tasks of one stream share."""

    def __init__(
        self, stream: Stream, protocol: str, answer: Answer, serving: Serving, peer: PeerAccount
    ) -> None:
        self._stream = stream
        self._protocol = protocol
        self._answer = answer
        self._serving = serving
        self._peer = peer
        self._frames = FrameReader()
        self._frame_deadline = inf  # of the request that is arriving
        self._in_flight = 0  # requests that were read and are not answered wholly
        self._grants: set[Grant] = set()
        self._waiting_to_read = trio.CancelScope()
        self._scope = trio.CancelScope()
        self._ending = Ending.CANCELLED
        self._crowded = serving.is_crowded(peer)

    async def run(self) -> Ending:
        """Serve until the peer is done, or a reason comes up to stop."""
        if self._serving.is_crowded(self._peer, factor=2):
            return Ending.DROPPED
        send_asked, asked = trio.open_memory_channel[_Asked](_QUEUED)
        send_prepared, prepared = trio.open_memory_channel[_Prepared](0)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._guard, self._read_requests, send_asked)
                    nursery.start_soon(self._guard, self._prepare_replies, asked, send_prepared)
                    nursery.start_soon(self._guard, self._write_replies, prepared)
        finally:
            for grant in tuple(self._grants):
                self._release(grant)
        return self._ending

    async def _guard(self, task: Callable[..., Awaitable[None]], *channels: object) -> None:
        """Run one of the three tasks; the only place where an error of ours is caught."""
        try:
            await task(*channels)
        except Exception:
            log.exception("serving %s to %s", self._protocol, self._stream.connection.peer_id)
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
        bucket = self._peer.requests[self._protocol]
        while not isinstance(payload := await self._next_frame(), Ending):
            request: _Asked = parse_request(self._protocol, payload)
            over_rate = not bucket.try_take(1, trio.current_time())
            if over_rate or self._crowded:
                request = _Refused("too many streams are open" if self._crowded else "too many requests")
            self._in_flight += 1
            await asked.send(request)
            if self._crowded:
                return Ending.REFUSED
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
        return trio.current_time() + (limits.frame_s if self._crowded else limits.idle_s)

    async def _prepare_replies(
        self, asked: trio.MemoryReceiveChannel[_Asked], prepared: trio.MemorySendChannel[_Prepared]
    ) -> None:
        async with prepared:
            async for request in asked:
                await prepared.send(await self._prepare(request))

    async def _prepare(self, request: _Asked) -> _Prepared:
        if isinstance(request, _Refused):
            return _Prepared(request.op, Reply.refusal(Status.BUSY, request.reason), None)
        if isinstance(request, BadRequest):
            return _Prepared(request.op, Reply.refusal(Status.BAD_REQUEST, request.reason), None)
        grant: Grant | None = None

        async def reserve(size: int) -> None:
            nonlocal grant
            grant = await self._serving.memory.acquire(self._peer.memory, size, self._give_up)
            self._grants.add(grant)

        reply = await self._answer(request, reserve)
        return _Prepared(request.op, reply, grant)

    def _give_up(self) -> None:
        self._abort(Ending.STALLED)

    async def _write_replies(self, prepared: trio.MemoryReceiveChannel[_Prepared]) -> None:
        try:
            async for each in prepared:
                await self._write(each)
                self._serving.counters.requests[self._protocol, each.op, each.reply.status.value] += 1
                self._release(each.grant)
                self._in_flight -= 1
                self._waiting_to_read.deadline = self._read_deadline()
        except StreamReset:
            self._abort(Ending.GONE)
        except trio.TooSlowError:
            self._give_up()

    async def _write(self, prepared: _Prepared) -> None:
        header, body = prepared.reply.encode_header(), memoryview(prepared.reply.body)
        # Together, so that a small reply is one frame of the connection; of a long one the first frame alone is copied.
        first = max(0, FULL_FRAME - len(header)) if len(body) > FULL_SLICE else len(body)
        with (
            trio.CancelScope() as in_time
        ):  # one for the whole reply: it costs as much as the write of a slice
            await self._write_part(memoryview(header + body[:first]), prepared.grant, in_time)
            await self._write_part(body[first:], prepared.grant, in_time)
        if in_time.cancelled_caught:
            raise trio.TooSlowError

    async def _write_part(self, rest: memoryview, grant: Grant | None, in_time: trio.CancelScope) -> None:
        """Write slices of a reply, each within the time that the peer has for one."""
        while rest:
            in_time.deadline = inf
            size = await self._stream.pay(min(len(rest), FULL_SLICE))  # in no time of the peer's
            now = trio.current_time()
            in_time.deadline = now + self._serving.limits.stall_s
            if grant is not None:
                grant.begin_wait(now)
            await self._stream.write(rest[:size])
            if grant is not None:
                grant.end_wait(trio.current_time())
            self._serving.counters.bytes_sent[self._protocol] += size
            rest = rest[size:]

    def _release(self, grant: Grant | None) -> None:
        if grant is not None:
            self._grants.discard(grant)
            grant.release()
