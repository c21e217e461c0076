"""Hears from the clients of a holder what they have by now: asks them for `changes`, over their own connection."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

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

REST_PER_CHANGE_S: Final = 0.0002
"""…and for each change in the one before: who says much is heard less often."""

AGAIN_S: Final = 2.0
"""After a peer that does not say what it has."""

_READ_BYTES: Final = 4096


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
        try:
            await _listen(stream, table, count, told)
        finally:
            await stream.reset()
    except trio.TooSlowError:
        log.debug("%s does not say what it has", connection.peer_id)
    except RemoteProtocolError as error:
        log.debug("%s does not say what it has: %s", connection.peer_id, error)


async def _listen(stream: Stream, table: str, count: int, told: Callable[[Changes], None]) -> None:
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
        await trio.sleep(REST_S + REST_PER_CHANGE_S * len(changes.changes))


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
