"""The server's streams: each asks as often as it likes, and holds nothing that others need.

A stream that says nothing ends after ten seconds; there are places for hundreds, shared by origin, and the one that was
idle for longest of whoever has most gives way. All who ask have a part of one core together, at which origins take
turns; what is left to answer is read later.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

import trio

from p2pboot.core.origins import party_of
from p2pboot.core.shares import Shares
from p2pboot.dht.addresses import AddressPolicy
from p2pboot.dht.answers import Answerer, Asker, Refused
from p2pboot.errors import RemoteProtocolError
from p2pboot.transport.interface import Stream, StreamReset
from p2pboot.transport.timeshare import TimeShare
from p2pboot.wire.kad import Message, MessageReader, encode_message

log = logging.getLogger(__name__)

READ_S: Final = 10.0
"""That a request may take to come, and a reply to go."""

STREAMS: Final = 256
_RESERVE: Final = 32
_READ_BYTES: Final = 16 * 1024

SHARE: Final = 0.2
"""Of one core's time, for all answers."""
REQUEST_S: Final = 0.0005
BYTE_S: Final = 1e-7
"""Prices: of a request, which takes so long, and of a byte of it and of the reply, which costs less of the processor
and more of the line. So all who send the longest requests, or ask for the longest replies, get 2 MB a second together.
"""


class DhtServer:
    """Serves the protocol on one node.

    Args:
        answerer: decides what is answered.
        policy: with whom is spoken.
    """

    def __init__(self, answerer: Answerer, policy: AddressPolicy) -> None:
        self.answerer = answerer
        self._policy = policy
        self._shares = Shares(STREAMS, _RESERVE)
        self._open: dict[_Served, None] = {}  # the idlest first
        self._turns = TimeShare(SHARE)
        self.answered: Counter[str] = Counter()
        """Requests since the start, by type."""
        self.refused: Counter[str] = Counter()
        """`malformed` requests, and streams without a place (`streams`)."""

    async def run(self) -> None:
        """Give turns to those who ask, for ever."""
        await self._turns.run()

    async def handle(self, stream: Stream) -> None:
        """Serve one stream. A stream handler."""
        if not self._policy.serves(stream.connection.address):
            await stream.reset()
            return
        served = _Served(stream)
        if not self._admit(served):
            self.refused["streams"] += 1
            await stream.reset()
            return
        try:
            with served.scope:
                await self._serve(served)
        finally:
            self._leave(served)
        if served.scope.cancelled_caught:
            await stream.reset()

    def _admit(self, served: _Served) -> bool:
        """Give a stream a place; somebody's idlest stream gives way for it where there is none."""
        if not self._shares.fits(served.party):
            origin = self._shares.gives_way(served.party)
            leaving = next((other for other in self._open if other.party.origin == origin), None)
            if leaving is None:
                return False
            self._leave(leaving)
            leaving.scope.cancel()
        self._shares.take(served.party)
        self._open[served] = None
        return True

    def _leave(self, served: _Served) -> None:
        if served in self._open:
            del self._open[served]
            self._shares.give_back(served.party)

    async def _serve(self, served: _Served) -> None:
        stream, reader = served.stream, MessageReader()
        asker = Asker(stream.connection.peer_id, stream.connection.address)
        try:
            while (request := await self._next(served, reader)) is not None:
                if served in self._open:  # it is the one that has just asked
                    self._open[served] = self._open.pop(served)
                reply = self.answerer.answer(request, asker, trio.current_time())
                self.answered[request.type.name.lower()] += 1
                said = b"" if reply is None else encode_message(reply)
                await self._turns.take(served.party, REQUEST_S + BYTE_S * len(said))
                if said:
                    with trio.fail_after(READ_S):
                        await stream.write(said)
        except RemoteProtocolError as error:
            if not isinstance(error, (Refused, StreamReset)):
                self.refused["malformed"] += 1
            log.debug("the DHT's stream of %s ends: %s", asker.peer_id, error)
            await stream.reset()
        except trio.TooSlowError:
            await stream.reset()

    async def _next(self, served: _Served, reader: MessageReader) -> Message | None:
        """The next request; None at the end, between two. What comes is read as fast as the stream's turns allow."""
        deadline = trio.current_time() + READ_S
        while (request := reader.next()) is None:
            with trio.fail_at(deadline):
                data = await served.stream.read(_READ_BYTES)
            if not data:
                if reader.is_between:
                    return None
                raise RemoteProtocolError("it ends within a request")
            reader.receive(data)
            since = trio.current_time()
            await self._turns.take(served.party, BYTE_S * len(data))
            deadline += trio.current_time() - since
        return request

    def forget_old(self) -> None:
        """Drop records that were not put again in time."""
        self.answerer.forget_old(trio.current_time())


class _Served:
    """A stream that has a place."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.party = party_of(stream.connection.address, stream.connection.peer_id)
        self.scope = trio.CancelScope()
