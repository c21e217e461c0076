"""Yamux sessions that talk to each other, or to a test that plays the peer frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from p2pboot.wire.yamux.events import StreamOpened
from p2pboot.wire.yamux.frames import DATA, HEADER, HEADER_BYTES, header
from p2pboot.wire.yamux.limits import Limits
from p2pboot.wire.yamux.session import Session
from p2pboot.wire.yamux.stream import Stream

T = TypeVar("T")


class Frame(NamedTuple):
    """A frame as it was on the wire."""

    kind: int
    flags: int
    stream_id: int
    length: int
    body: bytes = b""


def frames(data: bytes) -> list[Frame]:
    """Take whole frames apart."""
    found, at = [], 0
    while at < len(data):
        _, kind, flags, stream_id, length = HEADER.unpack_from(data, at)
        at += HEADER_BYTES
        body = data[at : at + length] if kind == DATA else b""
        at += len(body)
        found.append(Frame(kind, flags, stream_id, length, body))
    return found


def data_frame(stream_id: int, body: bytes, flags: int = 0) -> bytes:
    """A DATA frame of the peer."""
    return header(DATA, flags, stream_id, len(body)) + body


def sent(session: Session, max_bytes: int = 1 << 20) -> list[Frame]:
    """What a session has to say."""
    return frames(session.data_to_send(max_bytes))


def of_type(events: Sequence[object], kind: type[T]) -> list[T]:
    """Those events of one type."""
    return [event for event in events if isinstance(event, kind)]


def opened(session: Session) -> Stream:
    """The one stream that the peer has opened by now."""
    (event,) = of_type(session.events(), StreamOpened)
    return event.stream


def pair(limits: Limits | None = None) -> tuple[Session, Session]:
    """Both sides of a session."""
    return Session(initiator=True, limits=limits), Session(initiator=False, limits=limits)


def exchange(first: Session, second: Session, max_bytes: int = 1 << 16) -> None:
    """Carry over all that both have to say."""
    while first.has_data_to_send or second.has_data_to_send:
        second.receive(first.data_to_send(max_bytes))
        first.receive(second.data_to_send(max_bytes))


def connected(limits: Limits | None = None) -> tuple[Session, Session, Stream, Stream]:
    """Both sides and both ends of a stream."""
    dialler, listener = pair(limits)
    ours = dialler.open()
    exchange(dialler, listener)
    return dialler, listener, ours, opened(listener)
