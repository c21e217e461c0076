"""Two sessions do whatever hypothesis likes, over a wire that it cuts where it likes; a list of bytes is the model."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)

from p2pboot.wire.yamux.events import Pong, Readable, StreamOpened, StreamReset
from p2pboot.wire.yamux.frames import INITIAL_WINDOW
from p2pboot.wire.yamux.limits import Limits
from p2pboot.wire.yamux.session import Session
from p2pboot.wire.yamux.states import Receiving, Sending
from p2pboot.wire.yamux.stream import Stream, StreamWasReset

LIMITS = Limits(inbound_streams=3, outbound_streams=4, window=INITIAL_WINDOW + 50_000, unsent=100_000)


@dataclass(eq=False)
class End:
    """One end of a stream, and what the model knows of it."""

    stream: Stream
    written: bytearray = field(default_factory=bytearray)
    read: bytearray = field(default_factory=bytearray)
    saw_end: bool = False
    waits: bool = False
    target: bytearray | None = None


class TwoSessions(RuleBasedStateMachine):
    """Both sides and the wire between them."""

    ends = Bundle("ends")

    def __init__(self) -> None:
        super().__init__()
        self.sides = (Session(initiator=True, limits=LIMITS), Session(initiator=False, limits=LIMITS))
        self.wires = [bytearray(), bytearray()]  # what each side has sent and the other has not received
        self.known: list[dict[int, End]] = [{}, {}]
        self.pings = [0, 0]
        self.counter = 0

    @rule(target=ends, side=st.integers(0, 1))
    def open(self, side: int) -> End:
        outbound = sum(1 for stream in self.sides[side].streams if stream.id % 2 != side)
        if outbound >= LIMITS.outbound_streams:
            return multiple()  # type: ignore[return-value]
        end = End(self.sides[side].open())
        self.known[side][end.stream.id] = end
        return end

    @rule(end=ends, length=st.sampled_from([1, 100, 5000, 70_000, 150_000]))
    def write(self, end: End, length: int) -> None:
        if end.stream.sending is not Sending.OPEN:
            return
        self.counter += 1
        data = self.counter.to_bytes(4) * (length // 4 + 1)
        end.written += data[: end.stream.write(data)]

    @rule(end=ends, length=st.sampled_from([1, 1000, 300_000]))
    def read(self, end: End, length: int) -> None:
        if end.target is not None:
            self.take_back(end)
        try:
            data = end.stream.read(length)
        except StreamWasReset:
            assert end.stream.receiving is Receiving.RESET
            return
        end.waits = data is None
        end.saw_end = data == b""
        end.read += data or b""

    @rule(end=ends, length=st.sampled_from([10, 3000, 80_000]))
    def read_into(self, end: End, length: int) -> None:
        if end.target is not None:
            return
        end.target = bytearray(length)
        try:
            count = end.stream.read_into(memoryview(end.target), at_least=length // 2)
        except StreamWasReset:
            end.target = None
            return
        end.waits = count is None
        if count is not None:
            end.read += end.target[:count]
            end.target = None

    @rule(end=ends)
    def take_back(self, end: End) -> None:
        if end.target is None:
            return
        target, end.target, end.waits = end.target, None, False
        try:
            end.read += target[: end.stream.finish_read()]
        except StreamWasReset:
            assert end.stream.receiving is Receiving.RESET

    @rule(end=ends)
    def close_write(self, end: End) -> None:
        if end.stream.sending is not Sending.RESET:
            end.stream.close_write()

    @rule(end=consumes(ends))
    def reset(self, end: End) -> None:
        end.stream.reset()
        end.waits = False

    @rule(side=st.integers(0, 1))
    def grant(self, side: int) -> None:
        self.sides[side].grant_reads()

    @rule(side=st.integers(0, 1), body=st.sampled_from([1, 1000, 65_507]))
    def frame_body(self, side: int, body: int) -> None:
        self.sides[side].frame_body = body

    @precondition(lambda self: not any(self.pings))
    @rule(side=st.integers(0, 1))
    def ping(self, side: int) -> None:
        self.pings[side] += 1
        self.sides[side].ping(7)

    @rule(side=st.integers(0, 1), room=st.sampled_from([13, 40, 1000, 65_519]))
    def send(self, side: int, room: int) -> None:
        data = self.sides[side].data_to_send(room)
        assert len(data) <= room
        self.wires[side] += data

    @rule(target=ends, side=st.integers(0, 1), count=st.sampled_from([1, 11, 13, 4000, 1 << 20]))
    def deliver(self, side: int, count: int) -> End:
        """Bytes that `side` has sent arrive at the other."""
        data, self.wires[side] = self.wires[side][:count], self.wires[side][count:]
        self.sides[1 - side].receive(bytes(data))
        return multiple(*self.note_events(1 - side))  # type: ignore[return-value]

    def note_events(self, side: int) -> list[End]:
        found = []
        for event in self.sides[side].events():
            match event:
                case StreamOpened(stream):
                    self.known[side][stream.id] = End(stream)
                    found.append(self.known[side][stream.id])
                case Readable(stream):
                    assert self.known[side][stream.id].waits
                    self.known[side][stream.id].waits = False
                case StreamReset(stream):
                    self.known[side][stream.id].waits = False
                case Pong(value):
                    assert value == 7
                    self.pings[side] -= 1
        return found

    @invariant()
    def what_is_read_is_what_was_written(self) -> None:
        for side in (0, 1):
            for stream_id, end in self.known[side].items():
                other = self.known[1 - side].get(stream_id)
                if end.target is None:
                    written = b"" if other is None else other.written
                    assert written[: len(end.read)] == end.read
                    assert not end.saw_end or written == end.read

    @invariant()
    def bounds_hold(self) -> None:
        for side in (0, 1):
            session = self.sides[side]
            streams = session.streams
            assert session.unread == sum(end.stream.unread for end in self.known[side].values())
            assert sum(stream.id % 2 == side for stream in streams) <= LIMITS.inbound_streams
            for stream in streams:
                assert 0 <= stream.window <= LIMITS.window
                assert stream.unread + stream.window <= LIMITS.window
                assert stream.unsent <= LIMITS.unsent
                assert stream.send_window >= 0

    def teardown(self) -> None:
        """Let everything arrive and read it: what was not reset is whole, and nobody waits in vain."""
        for _ in range(200):
            for side in (0, 1):
                self.send(side, 65_519)
                data, self.wires[side] = self.wires[side], bytearray()
                self.sides[1 - side].receive(bytes(data))
                self.note_events(1 - side)
            for side in (0, 1):
                for end in self.known[side].values():
                    self.read(end, 1 << 20)
                    self.read(end, 1)  # the end, once the rest is taken
            if not any(side.has_data_to_send for side in self.sides):
                break
        assert not any(self.pings)
        for side in (0, 1):
            for stream_id, end in self.known[side].items():
                if end.stream.receiving is Receiving.RESET:
                    continue
                other = self.known[1 - side].get(stream_id)
                assert end.read == (b"" if other is None else other.written)
                closed = other is not None and other.stream.sending is Sending.ENDED
                assert end.saw_end == closed
        for stream_id in set(self.known[0]) & set(self.known[1]):
            ours, theirs = self.known[0][stream_id].stream, self.known[1][stream_id].stream
            assert (ours in self.sides[0].streams) == (theirs in self.sides[1].streams)


TestTwoSessions = TwoSessions.TestCase
TestTwoSessions.settings = settings(max_examples=25, stateful_step_count=40)
