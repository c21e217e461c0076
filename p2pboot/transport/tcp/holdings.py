"""What connections hold, in fair shares by the address that they come from: bytes that wait, and open streams.

Bytes wait to be read here, or to be taken by the peer. Where memory is short, nobody is read from whose bytes nobody
here reads, and nobody is sent more who does not take what there is: both go on from a little that each connection
always has. Only who holds most, while another with little finds no room, has streams reset.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from p2pboot.core.origins import Party, origin_of
from p2pboot.core.shares import Shares
from p2pboot.wire.connection import Connection
from p2pboot.wire.yamux.limits import MIB, Allowance
from p2pboot.wire.yamux.stream import Stream

SLOT: Final = 32 * 1024  # bytes; less than that each connection has of its own, not counted
_BYTES: Final = 32 * MIB  # of all connections together
_BYTES_RESERVE: Final = 8 * MIB
_MOST_UNREAD: Final = 8 * MIB  # of one connection, however much there is
_STREAMS: Final = 2048  # opened by peers; each costs 10 KB with its tasks
_STREAMS_RESERVE: Final = 256
_CONNECTIONS: Final = 2  # whose worth of streams a peer may have on all of its own


class Common:
    """What all connections of one node have together.

    Args:
        bytes_: bytes that may wait.
        streams: that peers may have open.
    """

    def __init__(self, bytes_: int = _BYTES, streams: int = _STREAMS) -> None:
        self.bytes = Shares(bytes_ // SLOT, bytes_ // SLOT // (_BYTES // _BYTES_RESERVE))
        self.streams = Shares(streams, streams // (_STREAMS // _STREAMS_RESERVE))
        self.holdings: set[Holding] = set()
        self._waiting: dict[Holding, None] = {}

    def wait(self, holding: Holding) -> None:
        """Have a holding be told when there is room again."""
        self._waiting[holding] = None

    def forget(self, holding: Holding) -> None:
        """Tell it no more."""
        self._waiting.pop(holding, None)

    def note_room(self) -> None:
        """Tell whoever has waited longest."""
        if self._waiting:
            first = next(iter(self._waiting))
            del self._waiting[first]
            first.resume()

    def may_take(self, shares: Shares, party: Party) -> bool:
        """Whether a party is to have one unit more; where it holds little, somebody who holds most gives way."""
        if shares.fits(party):
            return True
        origin = shares.gives_way(party)
        if origin == party.origin:
            return False
        held_in = [one for one in self.holdings if one.party.origin == origin]
        if not held_in:
            return False
        if shares is self.streams:
            return max(held_in, key=lambda one: one.streams).shed_stream()
        return max(held_in, key=lambda one: one.slots).shed_bytes()


class Holding(Allowance):
    """What one connection holds; it is the one whom the connection's state machine asks.

    Args:
        common: what it is part of.
        address: the peer's IP address.
        core: the connection's state machine.
        resume: is called when it may go on reading.
        flush: is called when a stream was reset here.
    """

    def __init__(
        self,
        common: Common,
        address: str,
        core: Connection,
        resume: Callable[[], None],
        flush: Callable[[], None],
    ) -> None:
        self._common = common
        self._core = core
        self._session = core.session
        self._flush = flush
        self.resume = resume
        self.party = Party(origin_of(address))
        """Whose it is; with a peer id once `name` was called."""
        self.slots = 0
        """Bytes that count, in steps of 32 KiB."""
        self.streams = 0
        """Streams that the peer opened, and which it or their user here is not done with."""
        self._half_over: set[Stream] = set()
        core.session.allowance = self

    def begin(self) -> None:
        """Have it considered when somebody has to give way, until `end`."""
        self._common.holdings.add(self)

    def name(self, peer_id: str) -> None:
        """Note who the peer is."""
        former, self.party = self.party, Party(self.party.origin, peer_id)
        for shares, amount in ((self._common.bytes, self.slots), (self._common.streams, self.streams)):
            if amount:
                shares.give_back(former, amount)
                shares.take(self.party, amount)

    def end(self) -> None:
        """Hold nothing any more."""
        self._common.holdings.discard(self)
        self._common.forget(self)
        self._set_slots(0)
        if self.streams:
            self._common.streams.give_back(self.party, self.streams)
            self.streams = 0
        self._half_over.clear()

    # Bytes.

    def note(self) -> None:
        """Take down what waits now; to be called whenever that may have changed."""
        slots = self._core.held // SLOT
        if slots != self.slots and self in self._common.holdings:
            self._set_slots(slots)

    def _set_slots(self, slots: int) -> None:
        more = slots - self.slots
        self.slots = slots
        if more > 0:
            self._common.bytes.take(self.party, more)
        elif more:
            self._common.bytes.give_back(self.party, -more)
            self._common.note_room()

    def may_receive(self) -> bool:
        """Whether the socket may be read; `resume` is called when that changes through others."""
        unread = self._session.unread
        if unread < SLOT:
            return True
        if unread < _MOST_UNREAD and self._common.may_take(self._common.bytes, self.party):
            return True
        self._common.wait(self)
        return False

    @property
    def is_tight(self) -> bool:
        """Whether it is not to have more than it needs."""
        return not self._common.bytes.fits(self.party)

    def unsent(self) -> int:
        """Bytes more that may wait to be sent, all streams together."""
        shares, waiting = self._common.bytes, self._session.unsent
        if not shares.fits(self.party):
            if waiting < SLOT:
                return SLOT - waiting
            if not self._common.may_take(shares, self.party):
                return 0
        return self._session.limits.unsent

    def shed_bytes(self) -> bool:
        """Reset the stream that holds most; whether there is one."""
        streams = self._session.streams
        if streams:
            self._reset(max(streams, key=lambda one: one.unread + one.unsent), "it holds most of what waits")
        return bool(streams)

    # Streams.

    def take_stream(self) -> bool:
        """Count a stream that the peer opens; whether there is a place for it."""
        most = self._session.limits.inbound_streams
        if self.streams >= most or self._common.streams.held_by(self.party) >= _CONNECTIONS * most:
            return False
        if not self._common.may_take(self._common.streams, self.party):
            return False
        self._common.streams.take(self.party)
        self.streams += 1
        return True

    def note_over(self, stream: Stream) -> None:
        """Note that both directions of a stream that the peer opened are over, or that its user is done with it.

        Its place is free after both: a handler may be busy for long after the stream was reset.
        """
        if stream not in self._half_over:
            self._half_over.add(stream)
        elif self.streams:
            self._half_over.discard(stream)
            self.streams -= 1
            self._common.streams.give_back(self.party)

    def shed_stream(self) -> bool:
        """Reset the stream on which least went to and fro; whether there is one. Its user will be done with it soon."""
        session = self._session
        inbound = [one for one in session.streams if not session.is_ours(one.id)]
        if inbound:
            self._reset(min(inbound, key=lambda one: one.received + one.sent), "others have no stream")
        return bool(inbound)

    def _reset(self, stream: Stream, reason: str) -> None:
        self._session.reset(stream, reason)
        self.note()
        self._flush()
