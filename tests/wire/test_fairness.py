"""A small message beside streams in bulk, on links that are simulated: no clock, no sockets."""

from __future__ import annotations

import pytest

from p2pboot.wire.noise.transport import OVERHEAD
from p2pboot.wire.yamux.events import StreamOpened
from p2pboot.wire.yamux.frames import HEADER_BYTES
from p2pboot.wire.yamux.limits import MIB
from p2pboot.wire.yamux.scheduler import MAX_FRAME_BODY
from p2pboot.wire.yamux.stream import Stream
from tests.wire.driving import connect, flights
from tests.wire.sessions import of_type

BULK = memoryview(bytes(MIB))
ANSWER = b"a" * 1000


class Link:
    """One direction of a link behind a socket that holds about one frame (TCP_NOTSENT_LOWAT) and then takes no more."""

    def __init__(self, bits_per_s: float, frame_body: int) -> None:
        self.now_s = 0.0
        self._bytes_per_s = bits_per_s / 8
        self._frame = frame_body + HEADER_BYTES + OVERHEAD
        self._in_socket: list[bytes] = []
        self.sender, self.receiver = connect()
        self.sender.session.frame_body = frame_body
        self.bulk = [self._open() for _ in range(4)]
        self.talker = self._open()
        far_ends = [event.stream for event in of_type(self.receiver.events(), StreamOpened)]
        self.far_bulk, self.far_talker = far_ends[:4], far_ends[4]

    def _open(self) -> Stream:
        stream = self.sender.session.open()
        for _ in flights(self.sender, self.receiver):
            pass
        return stream

    def turn(self) -> None:
        """The socket takes what it takes; then the first of what is in it arrives."""
        for stream in self.bulk:
            stream.write(BULK)
        while sum(map(len, self._in_socket)) < self._frame and self.sender.has_data_to_send:
            self._in_socket.append(bytes(self.sender.data_to_send(self._frame)))
        if self._in_socket:
            arriving = self._in_socket.pop(0)
            self.now_s += len(arriving) / self._bytes_per_s
            self.receiver.receive(arriving)
        for stream in self.far_bulk:
            stream.read(MIB)
        self.sender.receive(self.receiver.data_to_send(65_536))  # the other direction is free

    def answer_time_s(self) -> float:
        """From handing over an answer to its last byte's arrival."""
        began = self.now_s
        self.talker.write(ANSWER)
        left = len(ANSWER)
        while left:
            self.turn()
            left -= len(self.far_talker.read(MIB) or b"")
        return self.now_s - began


@pytest.mark.parametrize(
    ("bits_per_s", "frame_body", "limit_s"),
    [(50e6, MAX_FRAME_BODY, 0.03), (1.6e6, 16 * 1024, 0.2)],
    ids=["50 Mbit/s", "1.6 Mbit/s"],
)
def test_small_answer_is_not_kept_by_the_bulk(bits_per_s: float, frame_body: int, limit_s: float) -> None:
    link = Link(bits_per_s, frame_body)
    for _ in range(50):
        link.turn()
    times = []
    for pause in range(50):
        times.append(link.answer_time_s())
        for _ in range(pause % 7):
            link.turn()
    assert max(times) <= limit_s
    bulk = [stream.sent for stream in link.bulk]
    assert max(bulk) - min(bulk) <= 2 * frame_body  # and they share what is left
    assert sum(bulk) / link.now_s > 0.95 * bits_per_s / 8


def test_a_short_message_does_not_make_the_next_frame_of_one_in_bulk_shorter() -> None:
    sender, receiver = connect()
    bulk, talker, other = (sender.session.open() for _ in range(3))
    for _ in flights(sender, receiver):
        pass
    bulk.write(BULK)
    talker.write(ANSWER)
    assert not sender.session.is_crowded  # both go out together
    other.write(BULK)
    assert sender.session.is_crowded
