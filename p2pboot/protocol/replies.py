"""What a client receives, without I/O: replies, cut out of the stream and matched to queries in order.

Owns the state of what is being received. What an acceptable answer is, the `Query` says (`protocol.client`).

Use: `reader.expect(Expected(query))` and send `query.frame`. What arrives goes to `reader.receive_data`, or, while
`reader.body_space` is not None, straight into that; then call `reader.next_reply` until it returns None.
`fetch.asking.requests` does this over a stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import Malformed, RemoteProtocolError
from p2pboot.protocol.checks import is_peer_id
from p2pboot.protocol.client import PeerBusy, PeerLacks, PeerRefused, Query
from p2pboot.protocol.frames import FrameReader, NotJson, decode_object
from p2pboot.protocol.messages import Status
from p2pboot.protocol.swarm import MAX_ASK, MAX_RETRY_MS
from p2pboot.protocol.withheld import readable

_SCRATCH_BYTES: Final = 64 * 1024  # of a body that nobody wants, at once


@dataclass(slots=True, eq=False)
class Expected:
    """A query that waits for its reply; one that is `abandoned` is read past and never kept in memory."""

    query: Query[Any]
    abandoned: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to one query: its value (None when it was abandoned), or the refusal that stands for it."""

    value: Any = None
    refusal: PeerRefused | None = None


@dataclass(slots=True)
class _Body:
    """The body that is coming in: `filled` of `length` bytes are there, and kept unless `target` is None."""

    header: dict[str, object]
    length: int
    target: bytearray | None
    filled: int = 0


@dataclass(slots=True)
class ReplyReader:
    """Cuts what a server sends into the answers to the queries, in the order in which they were asked.

    A body lies where its query wants it, and but for its beginning it need not be copied there. After a
    RemoteProtocolError the stream has lost its meaning: reset it and use another reader.
    """

    _expected: deque[Expected] = field(default_factory=deque)
    _frames: FrameReader = field(default_factory=FrameReader)
    _input: memoryview = field(default_factory=lambda: memoryview(b""))
    _body: _Body | None = None
    _after: str = ""  # which reply
    _scratch: bytearray = field(default_factory=bytearray)

    @property
    def outstanding(self) -> int:
        """Queries without a complete answer yet, abandoned ones included."""
        return len(self._expected)

    def expect(self, expected: Expected) -> None:
        """A query is on its way; its answer comes after those to all queries before."""
        self._expected.append(expected)

    def receive_data(self, data: bytes) -> None:
        """Bytes from the peer; take all answers with `next_reply` before the next call."""
        rest = bytes(self._input)  # empty, unless the caller stopped early
        self._input = memoryview(rest + data if rest else data)

    @property
    def body_space(self) -> memoryview | None:
        """Where the rest of the body lies that is coming in, once `next_reply` has returned None.

        Fill all of it with the next bytes from the peer and call `body_filled`. None while a header is due, which
        may come with much behind it.
        """
        body = self._body
        if body is None:
            return None
        if body.target is not None:
            return memoryview(body.target)[body.filled :]
        if not self._scratch:
            self._scratch = bytearray(_SCRATCH_BYTES)
        return memoryview(self._scratch)[: body.length - body.filled]

    def body_filled(self) -> None:
        """All of `body_space` is filled; go on with `next_reply`."""
        space = self.body_space
        if self._body is not None and space is not None:
            self._body.filled += len(space)

    def next_reply(self) -> Answer | None:
        """The next complete answer, or None when more bytes are needed.

        Raises:
            RemoteProtocolError: what arrived is not an answer to what was asked.
        """
        if not self._expected:
            if self._input:
                raise RemoteProtocolError(f"the peer sent bytes that were not asked for{self._after}")
            return None
        if self._body is None:
            header = self._next_header()
            if header is None:
                return None
            refusal = self._read_status(header)
            if refusal is not None:
                self._expected.popleft()
                return Answer(refusal=refusal)
        return None if self._body is None else self._next_body(self._body)

    def _next_header(self) -> dict[str, object] | None:
        frame = None
        while self._input and frame is None:  # never beyond the frame: a body may follow, and goes elsewhere
            needed = self._frames.needed
            self._frames.receive_data(self._input[:needed])
            self._input = self._input[needed:]
            try:
                frame = self._frames.next_frame()
            except RemoteProtocolError as error:
                name = self._expected[0].query.name
                raise RemoteProtocolError(
                    f"{error.message}, where the reply to {name} should begin"
                ) from None
        if frame is None:
            return None
        try:
            return decode_object(frame)
        except NotJson as error:
            raise RemoteProtocolError(
                f"the header of the reply to {self._expected[0].query.name} is {error}"
            ) from None

    def _read_status(self, header: dict[str, object]) -> PeerRefused | None:
        """Prepare for the body, or say why there is none."""
        expected = self._expected[0]
        query = expected.query
        try:
            status = Status(header.get("status"))  # type: ignore[arg-type]  # a stranger's value, of any type
        except ValueError:
            raise RemoteProtocolError("a reply's status is not one of the protocol") from None
        if status is not Status.OK:
            return _refusal(status, query.request.op, header)
        length = header.get("length")
        if type(length) is not int or not query.min_length <= length <= query.max_length:
            raise RemoteProtocolError(
                f"the reply to {query.name} has a length that is not"
                f" from {query.min_length} to {query.max_length}"
            )
        if query.begin is not None:
            try:
                query.begin(header)
            except (Malformed, ValueError) as error:
                raise RemoteProtocolError(f"the reply to {query.name} is wrong: {error}") from None
        self._body = _Body(header, length, None if expected.abandoned else query.memory(length))
        return None

    def _next_body(self, body: _Body) -> Answer | None:
        chunk = self._input[: body.length - body.filled]
        self._input = self._input[len(chunk) :]
        if body.target is not None:
            body.target[body.filled : body.filled + len(chunk)] = chunk
        body.filled += len(chunk)
        if body.filled < body.length:
            return None
        self._body = None
        self._after = f" after the reply to {self._expected[0].query.name}"
        return _complete(self._expected.popleft(), body)


def _refusal(status: Status, op: str, header: Mapping[str, object]) -> PeerRefused:
    text = readable(header.get("reason"))
    if status in (Status.NOT_FOUND, Status.GONE):
        return PeerLacks(status, op, text)
    if status is Status.BUSY:
        return PeerBusy(status, op, text, _retry_s(header.get("retry_ms")), _peer_ids(header.get("ask")))
    return PeerRefused(status, op, text)


def _retry_s(value: object) -> float | None:
    return min(value, MAX_RETRY_MS) / 1000 if type(value) is int and value >= 0 else None


def _peer_ids(value: object) -> tuple[str, ...]:
    """Those among what a stranger says that may be peer ids; who they are is found out by looking for them."""
    listed = value[:MAX_ASK] if isinstance(value, list) else []
    return tuple(one for one in listed if is_peer_id(one))


def _complete(expected: Expected, body: _Body) -> Answer:
    if body.target is None or expected.abandoned:
        return Answer()
    query = expected.query
    try:
        return Answer(query.decode(body.header, body.target))
    except (Malformed, ValueError) as error:
        raise RemoteProtocolError(f"the reply to {query.name} is wrong: {error}") from None
