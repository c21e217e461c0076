"""Who may hold how much, between connections of several addresses: bookkeeping alone, without sockets."""

from __future__ import annotations

from p2pboot.transport.tcp.holdings import SLOT, Common, Holding
from p2pboot.wire.connection import Connection
from p2pboot.wire.yamux.frames import DATA, RST, SYN, WINDOW_UPDATE, header
from p2pboot.wire.yamux.limits import Limits
from p2pboot.wire.yamux.session import Session
from tests.wire.driving import connection


class Peer:
    """A connection of a peer, which sends frames without an end of its own."""

    def __init__(self, common: Common, ip: str, name: str = "", limits: Limits | None = None) -> None:
        self.core: Connection = connection(False, limits=limits)
        self.resumed = self.flushed = 0
        self.holding = Holding(common, ip, self.core, self._resume, self._flush)
        self.holding.begin()
        if name:
            self.holding.name(name)
        self._next = 1

    def _resume(self) -> None:
        self.resumed += 1

    def _flush(self) -> None:
        self.flushed += 1

    @property
    def session(self) -> Session:
        return self.core.session

    def opens(self, count: int) -> int:
        """Open streams; how many there are then."""
        for _ in range(count):
            self.session.receive(header(WINDOW_UPDATE, SYN, self._next, 0))
            self._next += 2
        return len(self.session.streams)

    def sends(self, slots: int) -> None:
        """Send on a new stream what nobody reads."""
        assert self.opens(1)
        self.session.receive(header(DATA, 0, self._next - 2, slots * SLOT) + bytes(slots * SLOT))
        self.holding.note()


def test_one_address_has_all_streams_but_the_reserve() -> None:
    common = Common(streams=64)
    peers = [Peer(common, "192.0.2.1", name) for name in "abcd"]
    assert sum(peer.opens(30) for peer in peers) == 64 - common.streams.reserve


def test_a_newcomer_takes_streams_from_the_address_that_has_most_and_there_the_one_that_moved_least() -> None:
    common = Common(streams=16)
    many = Peer(common, "192.0.2.1", "a")
    assert many.opens(14) == 14
    many.session.receive(header(DATA, 0, 1, 3) + b"abc")
    others = [Peer(common, f"192.0.2.{number}", "b") for number in range(2, 6)]
    assert [peer.opens(3) for peer in others] == [3] * 4
    assert many.flushed == 10
    assert 1 in [stream.id for stream in many.session.streams]
    assert len(many.session.streams) == 4
    assert many.opens(1) == 4


def test_a_peer_has_twice_the_streams_of_a_connection_on_all_of_its_own() -> None:
    common = Common()
    limits = Limits(inbound_streams=5)
    assert [Peer(common, "192.0.2.1", "a", limits).opens(9) for _ in range(3)] == [5, 5, 0]
    assert Peer(common, "192.0.2.1", "b", limits).opens(9) == 5


def test_a_stream_takes_its_place_until_its_user_is_done_with_it() -> None:
    peer = Peer(Common(), "192.0.2.1", "a", Limits(inbound_streams=1))
    assert peer.opens(1)
    (stream,) = peer.session.streams
    peer.session.receive(header(WINDOW_UPDATE, RST, 1, 0))
    assert peer.opens(1) == 0
    peer.holding.note_over(stream)
    assert peer.opens(1) == 1


def test_a_peer_that_proves_who_it_is_keeps_what_it_holds() -> None:
    common = Common()
    peer = Peer(common, "192.0.2.1")
    peer.sends(3)
    peer.holding.name("a")
    assert (common.bytes.held_by(peer.holding.party), common.streams.held_by(peer.holding.party)) == (3, 1)
    peer.holding.end()
    assert common.bytes.used == common.streams.used == 0


def test_who_holds_little_is_read_from_and_who_holds_most_is_not() -> None:
    common = Common(bytes_=8 * SLOT)
    greedy, modest = Peer(common, "192.0.2.1", "a"), Peer(common, "192.0.2.2", "b")
    greedy.sends(6)
    assert not greedy.holding.may_receive()
    modest.sends(1)
    assert modest.holding.may_receive()
    modest.sends(1)
    assert modest.holding.may_receive()  # there is nothing left: somebody has to give way
    assert greedy.session.unread == 0
    assert greedy.flushed == 1
    assert greedy.resumed == 1  # now it may go on


def test_where_nothing_is_left_each_has_still_a_little() -> None:
    common = Common(bytes_=4 * SLOT)
    peers = [Peer(common, f"192.0.2.{number}", "a") for number in range(6)]
    for peer in peers:
        peer.sends(1)
    assert common.bytes.used > 4
    late = Peer(common, "192.0.2.1", "b")
    assert late.holding.may_receive()
    late.opens(1)
    assert late.session.streams[0].room > 0


def test_one_connection_never_holds_more_than_its_part_unread() -> None:
    peer = Peer(Common(bytes_=1 << 30), "192.0.2.1", "a")
    for _ in range(4):
        for _ in range(8):
            peer.sends(8)
        if not peer.holding.may_receive():
            break
    assert peer.session.unread == 8 << 20
