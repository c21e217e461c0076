"""HTTP/1.1 on one connection: one request after the other, each answered before the next is looked at.

h11 knows the protocol and does no input or output. What is here is when to read and when to write, and how long to
wait; see `docs/adr/0016-own-http-connections.md`. Nothing is upgraded, and a request of which a proxy might see
another end than we do is the last one on its connection: what follows it is never taken for a request.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, NamedTuple

import h11
import trio

from p2pboot.core.events import Event
from p2pboot.errors import P2PBootError
from p2pboot.gateway.body import KEPT_S, SMALLEST_READ, ArtifactBody, LiveBody, Room, next_size
from p2pboot.gateway.counters import GatewayCounters
from p2pboot.gateway.replies import Reply, refusal
from p2pboot.gateway.stream import ClientStream
from p2pboot.serving.threads import Turns

HEADER_BYTES: Final = 16 * 1024  # request line and header fields together; what boots sends less than 1 KiB
HEADER_S: Final = 15.0  # for a whole request to arrive, and between two on one connection
BODY_BYTES: Final = (
    256 * 1024
)  # of a body that nobody wants are read past, as it is sent; the reply waits for no more
REQUESTS: Final = 1000  # on one connection

_WHAT_IS_WRONG: Final = {
    HTTPStatus.REQUEST_URI_TOO_LONG: "no request line here is as long",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: f"the head of a request has at most {HEADER_BYTES} bytes",
}

log = logging.getLogger(__name__)

Answer = Callable[[h11.Request], Awaitable[Reply]]
"""Finds the reply to a request; raises nothing."""


class Shared(NamedTuple):
    """What all connections share.

    Args:
        turns: for working on a request.
        room: for what quick clients did not take at once.
        counters: told of every reply.
        fields: of replies to what is no request.
    """

    turns: Turns
    room: Room
    counters: GatewayCounters
    fields: Mapping[str, str]


class Connection:
    """Serves the requests of one connection until it ends.

    Args:
        stream: the connection.
        answer: called with one request at a time.
        shared: with all other connections.
    """

    def __init__(self, stream: ClientStream, answer: Answer, shared: Shared) -> None:
        self._stream = stream
        self._answer = answer
        self._turns, self._room, self._counters, self._fields = shared
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_BYTES)
        self._request: h11.Request | None = None
        """The one that is being received or answered."""
        self._is_last = False
        """Whether the connection ends with it."""

    async def run(self) -> None:
        """Serve, and close; can be cancelled at any time.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the client went, or the stream was cut.
        """
        for left in reversed(range(REQUESTS)):
            self._request, self._is_last = None, left == 0
            await self._serve_one()
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                break
            self._http.start_next_cycle()
            self._stream.slot.rest(trio.current_time())
        if self._http.their_state in (h11.SEND_BODY, h11.ERROR):
            self._stream.slot.rest(trio.current_time())
            await self._stream.linger()
        self._stream.finish()

    async def _serve_one(self) -> None:
        try:
            with trio.move_on_after(HEADER_S):
                await self._receive()
        except h11.RemoteProtocolError as error:
            status = HTTPStatus(error.error_status_hint)
            if self._request is None and status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
                status = _too_long(self._http.trailing_data[0])
            text = _WHAT_IS_WRONG.get(status, "this is not HTTP")
            await self._send(refusal(status, text, self._fields, is_last=True))
            return
        if self._request is not None:
            self._stream.slot.answer(trio.current_time())
            await self._stream.wait_for_room()  # before anything is read for it
            async with self._turns.take(self._stream.party):
                reply = await self._answer(self._request)
            await self._send(reply)

    async def _receive(self) -> None:
        """Receive a request, if the client sends one, and read past its body."""
        raw, is_all = self._http.trailing_data
        if not raw and not is_all:
            self._http.receive_data(await self._stream.receive_some())
        while True:
            async with self._turns.take(self._stream.party):
                raw = self._http.trailing_data[0]
                event = self._http.next_event()
            if event is not h11.NEED_DATA:
                break
            self._http.receive_data(await self._stream.receive_some())
        if not isinstance(event, h11.Request):
            return
        self._request = event
        rest = self._http.trailing_data[0]
        if len(raw) - len(rest) > HEADER_BYTES:  # h11 counts only what is not complete
            raise h11.RemoteProtocolError("too long a head", error_status_hint=_too_long(raw))
        self._is_last |= not _is_clear(event, raw.removesuffix(rest))
        await self._read_past_body(BODY_BYTES - len(rest))

    async def _read_past_body(self, left: int) -> None:
        while not self._http.they_are_waiting_for_100_continue:  # who waits gets the reply
            async with self._turns.take(self._stream.party):  # chunks of a byte are a lot of work
                while isinstance(event := self._http.next_event(), h11.Data):
                    pass
            if event is not h11.NEED_DATA or left <= 0:
                return
            data = await self._stream.receive_some()
            left -= len(data)
            self._http.receive_data(data)

    async def _send(self, reply: Reply) -> None:
        status = 0
        try:
            body = b"" if self._request is not None and self._request.method == b"HEAD" else reply.body
            data = self._http.send(_head(reply, is_last=self._is_last or reply.is_last))
            if isinstance(body, bytes):
                data += self._http.send(h11.Data(body))
            await self._stream.send_all(data)
            status = reply.status
            if isinstance(body, ArtifactBody):
                await self._send_artifact(body)
            elif isinstance(body, LiveBody):
                await self._send_live(body)
            self._http.send(h11.EndOfMessage())
        except P2PBootError as error:
            log.warning(
                "an answer was broken off: %s", error, extra=Event.HTTP_FAILED()
            )  # it ends short, which every client notices
        finally:
            self._counters.requests[reply.kind, status] += 1
            if isinstance(reply.body, LiveBody):
                reply.body.close()

    async def _send_artifact(self, body: ArtifactBody) -> None:
        size = SMALLEST_READ
        while body:
            allowed = await self._stream.wait_to_send(body.until(size))
            data = memoryview(await body.read(allowed))
            taken = self._send_some(body, data)
            size = next_size(len(data), taken, size)
            rest = data[taken:]
            with self._room.keeping(len(rest)) as is_room, trio.move_on_after(KEPT_S):
                while is_room and rest:
                    allowed = await self._stream.wait_to_send(len(rest))
                    rest = rest[self._send_some(body, rest[:allowed]) :]
            del data, rest  # nothing is held while the client is not reading

    async def _send_live(self, body: LiveBody) -> None:
        """Send as long as there is something and the client is there; it is the last reply of its connection."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_for_end, nursery.cancel_scope)
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while part := await body.next_part():
                    with trio.move_on_after(body.patience_s) as patience:
                        await self._stream.send_all(self._http.send(h11.Data(part)))
                    if patience.cancelled_caught:
                        break
            nursery.cancel_scope.cancel()
        raise trio.ClosedResourceError  # whoever serves the connection cuts it

    async def _wait_for_end(self, scope: trio.CancelScope) -> None:
        """Cancel when the client goes: who listens to what does not change is else noticed with the next change."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while await self._stream.receive_some():
                pass  # nothing that it says now is answered
        scope.cancel()

    def _send_some(self, body: ArtifactBody, data: memoryview) -> int:
        taken = self._stream.send_some(data)
        self._http.send_with_data_passthrough(h11.Data(data[:taken]))  # type: ignore[arg-type] # only counts it
        body.taken(taken)
        return taken


def _head(reply: Reply, *, is_last: bool) -> h11.Response:
    headers = [("Date", formatdate(usegmt=True)), *reply.headers.items()]
    if reply.status != HTTPStatus.NOT_MODIFIED and not isinstance(reply.body, LiveBody):
        headers.append(("Content-Length", str(len(reply.body))))
    if is_last:
        headers.append(("Connection", "close"))
    return h11.Response(
        status_code=reply.status,
        headers=[(name.encode(), value.encode("latin-1")) for name, value in headers],
        reason=HTTPStatus(reply.status).phrase,
    )


def _too_long(head: bytes) -> HTTPStatus:
    """What is wrong with a head that is too long, or with as much of it as was read: its first line, or the others."""
    is_first_line = b"\n" not in head[:HEADER_BYTES]
    return HTTPStatus.REQUEST_URI_TOO_LONG if is_first_line else HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


def _is_clear(request: h11.Request, raw: bytes) -> bool:
    """Whether a request ends at the same byte for everybody: no body, no folded line, no line that ends with LF alone.

    A proxy before us may see another end of one that is not; the rest would then be a request to one of the two.
    """
    lines = raw.split(b"\r\n")
    return not (
        any(name in (b"content-length", b"transfer-encoding") for name, _ in request.headers)
        or any(b"\n" in line or line.startswith((b" ", b"\t")) for line in lines)
    )
