"""The server's streams: each asks as often as it likes, and holds nothing that others need.

A stream that says nothing ends after ten seconds; there are places for hundreds, shared by origin, and the one that was
idle for longest of whoever has most gives way. How often one origin asks is limited as well: beyond it is read later.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

import trio
from cachetools import LRUCache

from p2pboot.core.origins import Party, party_of
from p2pboot.core.shares import Shares
from p2pboot.core.token_bucket import TokenBucket
from p2pboot.dht.addresses import AddressPolicy
from p2pboot.dht.answers import Answerer, Asker, Refused
from p2pboot.errors import RemoteProtocolError
from p2pboot.transport.interface import Stream, StreamReset
from p2pboot.wire.kad import Message, MessageReader, encode_message

log = logging.getLogger(__name__)

READ_S: Final = 10.0
"""That a request may take to come, and a reply to go."""

STREAMS: Final = 256
_RESERVE: Final = 32
_READ_BYTES: Final = 16 * 1024

OF_PEER: Final = 100.0
OF_ORIGIN: Final = 300.0
"""Requests of one peer, and of one origin, in a second; an answer takes half a millisecond."""
BURST_S: Final = 4.0
_PARTIES: Final = 4096  # whose rates are known at a time


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
        self._rates: LRUCache[Party, TokenBucket] = LRUCache(_PARTIES)
        self.answered: Counter[str] = Counter()
        """Requests since the start, by type."""
        self.refused: Counter[str] = Counter()
        """`malformed` requests, and streams without a place (`streams`)."""

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
            while (request := await _read(stream, reader)) is not None:
                await self._wait_for_turn(served.party)
                if served in self._open:  # it is the one that has just asked
                    self._open[served] = self._open.pop(served)
                reply = self.answerer.answer(request, asker, trio.current_time())
                self.answered[request.type.name.lower()] += 1
                if reply is not None:
                    with trio.fail_after(READ_S):
                        await stream.write(encode_message(reply))
        except RemoteProtocolError as error:
            if not isinstance(error, (Refused, StreamReset)):
                self.refused["malformed"] += 1
            log.debug("the DHT's stream of %s ends: %s", asker.peer_id, error)
            await stream.reset()
        except trio.TooSlowError:
            await stream.reset()

    async def _wait_for_turn(self, party: Party) -> None:
        now = trio.current_time()
        wait_s = 0.0
        for whose, rate in ((party, OF_PEER), (Party(party.origin), OF_ORIGIN)):
            if whose not in self._rates:
                self._rates[whose] = TokenBucket(rate, rate * BURST_S, now)
            wait_s = max(wait_s, self._rates[whose].take(1, now))
        await trio.sleep(wait_s)

    def forget_old(self) -> None:
        """Drop records that were not put again in time."""
        self.answerer.forget_old(trio.current_time())


class _Served:
    """A stream that has a place."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.party = party_of(stream.connection.address, stream.connection.peer_id)
        self.scope = trio.CancelScope()


async def _read(stream: Stream, reader: MessageReader) -> Message | None:
    """The next request; None at the end, between two."""
    with trio.fail_after(READ_S):
        while (request := reader.next()) is None:
            data = await stream.read(_READ_BYTES)
            if not data:
                if reader.is_between:
                    return None
                raise RemoteProtocolError("it ends within a request")
            reader.receive(data)
    return request
