"""Hears from the clients of a holder what they have by now: asks them for `changes`, over their own connection."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import ClassVar, Final
from weakref import WeakKeyDictionary

import trio

from p2pboot.core.origins import origin_of
from p2pboot.errors import RemoteProtocolError
from p2pboot.protocol.client import Query
from p2pboot.protocol.replies import Answer, Expected, ReplyReader
from p2pboot.protocol.swarm import MAX_WAIT_MS, SWARM_PROTOCOL
from p2pboot.protocol.swarm_client import Changes, ask_changes
from p2pboot.transport.interface import Connection, Stream, Transport

log = logging.getLogger(__name__)

OPEN_S: Final = 5.0
"""For opening the stream, and beyond the time that a reply may wait, for the reply."""

REST_S: Final = 0.2
"""Between two replies, at least…"""

CHANGES_PER_S: Final = 20_000
"""…and so many changes are heard in a second of all peers together, shared by address and then by peer: a change takes
3 µs to read, and whoever has many ids could say a thousand with each, again and again."""

AGAIN_S: Final = 2.0
"""After a peer that does not say what it has."""

_READ_BYTES: Final = 4096


class _Heard:
    """Who is heard over one network: how many peers, by origin."""

    _OF: ClassVar[WeakKeyDictionary[Transport, _Heard]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._peers: Counter[str] = Counter()

    @classmethod
    def over(cls, transport: Transport) -> _Heard:
        return cls._OF.setdefault(transport, cls())

    @contextmanager
    def of(self, origin: str) -> Iterator[None]:
        """Count one more while the block lasts."""
        self._peers[origin] += 1
        try:
            yield
        finally:
            self._peers[origin] -= 1
            if not self._peers[origin]:
                del self._peers[origin]

    def rest_s(self, origin: str, changes: int) -> float:
        """How long to rest after so many changes from somebody there."""
        return REST_S + changes * len(self._peers) * self._peers[origin] / CHANGES_PER_S


async def hear(
    transport: Transport, connection: Connection, table: str, count: int, told: Callable[[Changes], None]
) -> None:
    """Hear from one peer what changes there, as long as it goes on telling; what it says is its word only.

    Args:
        transport: the network.
        connection: with the peer.
        table: BLAKE3 of the piece table.
        count: of pieces in it.
        told: is given what it says.
    """
    try:
        with trio.fail_after(OPEN_S):
            stream = await transport.open_stream(connection, SWARM_PROTOCOL)
        heard, origin = _Heard.over(transport), origin_of(connection.address)
        try:
            with heard.of(origin):
                await _listen(stream, table, count, told, partial(heard.rest_s, origin))
        finally:
            await stream.reset()
    except trio.TooSlowError:
        log.debug("%s does not say what it has", connection.peer_id)
    except RemoteProtocolError as error:
        log.debug("%s does not say what it has: %s", connection.peer_id, error)


async def _listen(
    stream: Stream,
    table: str,
    count: int,
    told: Callable[[Changes], None],
    rest_s: Callable[[int], float],
) -> None:
    replies, after = ReplyReader(), 0
    while True:
        with trio.fail_after(MAX_WAIT_MS / 1000 + OPEN_S):
            answer = await _ask(stream, replies, ask_changes(table, count, after, MAX_WAIT_MS))
        if answer is None:
            return
        if answer.refusal is not None:
            await trio.sleep(AGAIN_S)
            continue
        changes: Changes = answer.value
        told(changes)
        after = changes.at
        await trio.sleep(rest_s(len(changes.changes)))


async def _ask(stream: Stream, replies: ReplyReader, query: Query[Changes]) -> Answer | None:
    """Ask one thing, and wait for the answer; None where the peer ends the stream instead."""
    replies.expect(Expected(query))
    await stream.write(query.frame)
    while (answer := replies.next_reply()) is None:
        data = await stream.read(_READ_BYTES)
        if not data:
            return None
        replies.receive_data(data)
    return answer
