"""Yamux with everybody: what go, rust and js really do, each fact a test, and what a hostile peer may try."""

from __future__ import annotations

import pytest

from p2pboot.errors import LocalProtocolError, RemoteProtocolError
from p2pboot.wire.yamux.events import Pong, Readable, StreamOpened, StreamReset, WentAway, Writable
from p2pboot.wire.yamux.frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    INITIAL_WINDOW,
    PING,
    PROTOCOL_ERROR,
    RST,
    SESSION,
    SYN,
    WINDOW_UPDATE,
    header,
)
from p2pboot.wire.yamux.limits import MIB, Allowance, Limits
from p2pboot.wire.yamux.scheduler import MAX_FRAME_BODY
from p2pboot.wire.yamux.session import Session
from p2pboot.wire.yamux.stream import Stream, StreamWasReset
from tests.wire.sessions import (
    Frame,
    connected,
    data_frame,
    exchange,
    frames,
    of_type,
    opened,
    pair,
    sent,
)
from tests.wire.vectors import YAMUX, each_step, feed

SMALL = Limits(window=INITIAL_WINDOW)
WINDOW = Limits().window


# The specification's frames.


@each_step
def test_conversation_of_the_specification(step: int) -> None:
    listener = Session(initiator=False)
    feed(
        listener.receive,
        YAMUX["open stream 1 with 768 KiB more"]
        + YAMUX["five bytes on stream 1"]
        + YAMUX["ping"]
        + YAMUX["end of stream 1"],
        step,
    )
    stream = opened(listener)
    assert stream.send_window == MIB
    assert stream.read(100) == b"hello"
    assert stream.read(100) == b""
    stream.close_write()
    pong, accepted, end = frames(listener.data_to_send(1000))
    assert pong == frames(YAMUX["pong"])[0]
    assert accepted[:3] == frames(YAMUX["accept stream 1"])[0][:3]
    assert end == frames(YAMUX["end of stream 1"])[0]
    assert not listener.streams


def test_dialler_writes_the_specifications_frames() -> None:
    dialler = Session(initiator=True, limits=Limits(window=MIB))
    stream = dialler.open()
    assert stream.write(b"hello") == 5
    stream.close_write()
    assert dialler.data_to_send(1000) == (
        YAMUX["open stream 1 with 768 KiB more"] + YAMUX["five bytes on stream 1"] + YAMUX["end of stream 1"]
    )
    dialler.go_away()
    stream.reset()
    assert dialler.data_to_send(1000) == YAMUX["reset stream 1"] + YAMUX["go away"]


def test_ids_are_odd_for_the_dialler_and_even_for_the_listener() -> None:
    dialler, listener = pair()
    assert [dialler.open().id for _ in range(3)] == [1, 3, 5]
    assert [listener.open().id for _ in range(3)] == [2, 4, 6]


# Windows begin at 256 KiB with everybody; more is the delta of the update that carries SYN or ACK.


def test_more_than_the_first_window_is_granted_with_syn_and_ack() -> None:
    dialler, listener = pair()
    ours = dialler.open()
    (syn,) = frames(said := dialler.data_to_send(100))
    assert syn == Frame(WINDOW_UPDATE, SYN, 1, WINDOW - INITIAL_WINDOW)
    listener.receive(said)
    theirs = opened(listener)
    (ack,) = frames(said := listener.data_to_send(100))
    assert ack == Frame(WINDOW_UPDATE, ACK, 1, WINDOW - INITIAL_WINDOW)
    dialler.receive(said)
    assert ours.send_window == theirs.send_window == WINDOW


def test_no_more_than_the_first_window_is_sent_before_the_peer_grants_it() -> None:
    dialler = Session(initiator=True, limits=Limits(unsent=MIB))
    stream = dialler.open()
    assert stream.write(bytes(MIB)) == MIB
    assert sum(len(frame.body) for frame in sent(dialler, 2 * MIB)) == INITIAL_WINDOW
    assert stream.blocked
    assert not dialler.has_data_to_send
    dialler.receive(header(WINDOW_UPDATE, ACK, 1, 1000))
    assert sum(len(frame.body) for frame in sent(dialler, 2 * MIB)) == 1000


def test_windows_beyond_the_first_are_shared_by_all_streams() -> None:
    dialler = Session(initiator=True, limits=Limits(extra_windows=WINDOW))
    first, second, third = (dialler.open() for _ in range(3))
    extra = [frame.length for frame in sent(dialler)]
    assert extra == [WINDOW - INITIAL_WINDOW, INITIAL_WINDOW, 0]
    for stream in (first, second, third):
        stream.reset()
    dialler.open()
    assert sent(dialler)[-1].length == WINDOW - INITIAL_WINDOW


# Frames are taken as long as the window allows, and sent within everybody's limits.


@pytest.mark.parametrize("length", [1, 16 * 1024, 65_536, MIB])
@each_step
def test_frames_of_any_length_are_taken_and_never_collected(length: int, step: int) -> None:
    if step < 1000 and length > 65_536:
        step = 10_000
    _, listener, _, theirs = connected()
    body = bytes(range(256)) * (length // 256) + bytes(length % 256)
    received, message = bytearray(), data_frame(1, body)
    for at in range(0, len(message), step):
        listener.receive(message[at : at + step])
        assert theirs.unread <= step
        received += theirs.read(step) or b""
    assert received == body


def test_a_full_frame_is_exactly_one_noise_message() -> None:
    dialler, _, ours, _ = connected()
    ours.write(bytes(200_000))
    assert [len(dialler.data_to_send(65_519)) for _ in range(3)] == [65_519] * 3


@pytest.mark.parametrize("length", [0, MAX_FRAME_BODY + 1])
def test_frames_cannot_be_made_longer_than_a_noise_message(length: int) -> None:
    with pytest.raises(LocalProtocolError):
        Session(initiator=True).frame_body = length


def test_frames_can_be_made_shorter() -> None:
    dialler, _, ours, _ = connected()
    dialler.frame_body = 1000
    ours.write(bytes(2500))
    assert [len(frame.body) for frame in sent(dialler)] == [1000, 1000, 500]


def test_no_data_goes_with_syn() -> None:
    dialler = Session(initiator=True)
    dialler.open().write(bytes(INITIAL_WINDOW))
    assert [frame.flags for frame in sent(dialler) if frame.kind == DATA] == [0] * 5


# go writes an error code where others have a window's delta.


@pytest.mark.parametrize("kind", [WINDOW_UPDATE, DATA])
def test_reset_is_looked_at_before_its_length(kind: int) -> None:
    dialler, _, ours, _ = connected()
    before = ours.send_window
    dialler.receive(header(kind, RST, 1, 0x1000 if kind == WINDOW_UPDATE else 0))
    assert ours.send_window == before
    assert of_type(dialler.events(), StreamReset) == [StreamReset(ours)]
    with pytest.raises(StreamWasReset):
        ours.read(1)
    with pytest.raises(StreamWasReset):
        ours.write(b"x")
    assert not dialler.streams


def test_reset_of_a_stream_that_is_gone_is_nothing() -> None:
    dialler, *_ = connected()
    dialler.receive(header(WINDOW_UPDATE, RST, 99, 7) + header(WINDOW_UPDATE, RST, 2, 7))
    assert not dialler.events()


def test_reset_after_the_end_takes_nothing_away() -> None:
    """go's CloseRead is a reset; what came before the peer's FIN is whole all the same."""
    dialler, _, ours, _ = connected()
    dialler.receive(data_frame(1, b"whole", FIN) + header(WINDOW_UPDATE, RST, 1, 0))
    assert ours.read(100) == b"whole"
    assert ours.read(100) == b""
    with pytest.raises(StreamWasReset):
        ours.write(b"x")


def test_reset_before_the_end_takes_what_was_unread() -> None:
    dialler, _, ours, _ = connected()
    dialler.receive(data_frame(1, b"half") + header(WINDOW_UPDATE, RST, 1, 0))
    assert ours.unread == 0
    with pytest.raises(StreamWasReset):
        ours.read(100)


# rust delays its ACK, and ends a connection at 257 unacknowledged streams or 513 in all.


def test_data_follows_syn_without_waiting_for_ack() -> None:
    dialler = Session(initiator=True)
    dialler.open().write(b"request")
    assert [(frame.kind, frame.flags) for frame in sent(dialler)] == [(WINDOW_UPDATE, SYN), (DATA, 0)]


def test_ack_may_come_with_any_frame_or_never() -> None:
    dialler, _, ours, _ = connected()
    dialler.receive(data_frame(1, b"x", ACK))
    assert ours.read(10) == b"x"


def test_streams_of_ours_are_bounded_whether_acknowledged_or_not() -> None:
    dialler = Session(initiator=True)
    streams = [dialler.open() for _ in range(128)]
    with pytest.raises(LocalProtocolError, match="128"):
        dialler.open()
    streams[5].reset()
    dialler.open()


def test_stream_that_was_reset_before_it_went_out_is_never_mentioned() -> None:
    dialler = Session(initiator=True)
    stream = dialler.open()
    stream.write(b"x")
    stream.reset()
    assert not dialler.has_data_to_send


# FIN is a half-close.


def test_fin_ends_one_direction_only() -> None:
    dialler, listener, ours, theirs = connected()
    ours.write(b"request")
    ours.close_write()
    exchange(dialler, listener)
    assert theirs.read(100) == b"request"
    assert theirs.read(100) == b""
    theirs.write(b"response")
    exchange(dialler, listener)
    assert ours.read(100) == b"response"
    theirs.close_write()
    exchange(dialler, listener)
    assert ours.read(100) == b""
    assert not dialler.streams
    assert not listener.streams


def test_fin_goes_behind_the_data_in_a_frame_of_its_own() -> None:
    """go looks at FIN before the body: a quick reader would miss the body."""
    dialler, _, ours, _ = connected()
    ours.write(b"data")
    ours.close_write()
    assert sent(dialler) == [Frame(DATA, 0, 1, 4, b"data"), Frame(DATA, FIN, 1, 0)]


@pytest.mark.parametrize("fin", [header(WINDOW_UPDATE, FIN, 1, 0), header(DATA, FIN, 1, 0)])
def test_fin_may_come_with_either_type_and_twice(fin: bytes) -> None:
    dialler, _, ours, _ = connected()
    dialler.receive(fin * 2)
    assert ours.read(1) == b""


@each_step
def test_fin_with_a_body_ends_the_stream_behind_it(step: int) -> None:
    dialler, _, ours, _ = connected()
    feed(dialler.receive, data_frame(1, b"last words", FIN), step)
    assert ours.read(100) == b"last words"
    assert ours.read(100) == b""


def test_writing_after_close_write_is_our_own_fault() -> None:
    dialler, _, ours, _ = connected()
    ours.close_write()
    ours.close_write()
    with pytest.raises(LocalProtocolError):
        ours.write(b"x")
    sent(dialler)
    ours.close_write()
    assert not dialler.has_data_to_send


def test_fin_needs_no_window() -> None:
    dialler = Session(initiator=True)
    stream = dialler.open()
    stream.write(bytes(INITIAL_WINDOW))
    stream.close_write()
    assert sent(dialler)[-1] == Frame(DATA, FIN, 1, 0)


# A reader that is slow is not dead.


def test_slow_reader_grants_what_it_took_when_asked_to() -> None:
    dialler, listener, ours, theirs = connected(SMALL)
    ours.write(bytes(INITIAL_WINDOW))
    exchange(dialler, listener)
    assert theirs.read(1) == b"\0"
    exchange(dialler, listener)
    assert ours.send_window == 0
    listener.grant_reads()
    exchange(dialler, listener)
    assert ours.send_window == 1


def test_windows_are_granted_by_the_half() -> None:
    dialler, listener, ours, theirs = connected(SMALL)
    ours.write(bytes(INITIAL_WINDOW))
    exchange(dialler, listener)
    for _ in range(2):
        theirs.read(INITIAL_WINDOW // 2 - 1)
        assert not listener.has_data_to_send
        theirs.read(1)
        assert sent(listener) == [Frame(WINDOW_UPDATE, 0, 1, INITIAL_WINDOW // 2)]


def test_nothing_is_granted_to_a_peer_that_has_ended() -> None:
    dialler, _, ours, _ = connected(SMALL)
    dialler.receive(data_frame(1, bytes(INITIAL_WINDOW // 2)))
    ours.read(INITIAL_WINDOW // 4)
    dialler.receive(header(DATA, FIN, 1, 0))
    ours.read(INITIAL_WINDOW // 4)
    assert not sent(dialler)


def test_grants_that_wait_are_sent_as_one() -> None:
    dialler, listener, ours, theirs = connected(SMALL)
    ours.write(bytes(INITIAL_WINDOW))
    exchange(dialler, listener)
    theirs.read(INITIAL_WINDOW // 2)
    theirs.read(INITIAL_WINDOW // 2)
    assert sent(listener) == [Frame(WINDOW_UPDATE, 0, 1, INITIAL_WINDOW)]


def test_blocked_writer_can_be_told_from_a_slow_one() -> None:
    dialler, listener, ours, theirs = connected(SMALL)
    ours.write(bytes(INITIAL_WINDOW))
    exchange(dialler, listener)
    ours.write(b"more")
    before = ours.blocked, ours.sent
    theirs.read(INITIAL_WINDOW)
    exchange(dialler, listener)
    assert before == (True, INITIAL_WINDOW)
    assert (ours.blocked, ours.sent) == (False, INITIAL_WINDOW + 4)


# Pings are answered before anything else; go's and rust's windows grow with the round trip.


def test_ping_is_answered_before_all_that_waits() -> None:
    dialler, _, ours, _ = connected()
    other = dialler.open()
    ours.write(bytes(100_000))
    other.reset()
    dialler.open()
    dialler.receive(header(PING, SYN, SESSION, 7))
    assert sent(dialler)[0] == Frame(PING, ACK, SESSION, 7)


@each_step
def test_pong_to_our_ping_is_an_event(step: int) -> None:
    dialler, listener = pair()
    dialler.ping(0xBADCAFE)
    with pytest.raises(LocalProtocolError):
        dialler.ping(1)
    said = dialler.data_to_send(100)
    assert said == YAMUX["ping"]
    listener.receive(said)
    feed(dialler.receive, listener.data_to_send(100), step)
    assert dialler.events() == [Pong(0xBADCAFE)]
    dialler.ping(1)


@pytest.mark.parametrize("value", [6, 7])
def test_pong_that_was_not_asked_for_ends_the_connection(value: int) -> None:
    dialler = Session(initiator=True)
    dialler.ping(7)
    dialler.receive(header(PING, ACK, SESSION, 7))
    with pytest.raises(RemoteProtocolError, match="ping"):
        dialler.receive(header(PING, ACK, SESSION, value))


# go and js drop every stream when they see a GO_AWAY.


def test_go_away_is_sent_last() -> None:
    dialler, _, ours, _ = connected()
    ours.write(bytes(100_000))
    dialler.go_away()
    assert all(frame.kind == DATA for frame in sent(dialler, 50_000))
    assert [frame.kind for frame in sent(dialler)] == [DATA, GO_AWAY]
    assert not dialler.has_data_to_send
    ours.write(b"too late")
    assert dialler.data_to_send(100) == b""
    with pytest.raises(LocalProtocolError):
        dialler.open()


def test_go_away_does_not_slip_in_where_data_no_longer_fits() -> None:
    dialler, _, ours, _ = connected()
    ours.write(b"data")
    dialler.go_away()
    assert dialler.data_to_send(12) == b""
    assert [frame.kind for frame in sent(dialler)] == [DATA, GO_AWAY]


def test_go_away_does_not_wait_for_a_window_that_is_shut() -> None:
    dialler, _, ours, _ = connected(SMALL)
    ours.write(bytes(INITIAL_WINDOW))
    sent(dialler)
    ours.write(b"more")
    dialler.go_away()
    assert sent(dialler) == [Frame(GO_AWAY, 0, SESSION, 0)]


def test_go_away_of_the_peer_leaves_open_streams_alone() -> None:
    dialler, listener, ours, _ = connected()
    listener.go_away()
    exchange(dialler, listener)
    assert dialler.events() == [WentAway(0)]
    with pytest.raises(LocalProtocolError):
        dialler.open()
    dialler.receive(data_frame(1, b"still here"))
    assert ours.read(100) == b"still here"
    assert ours.write(b"so am I") == 7
    assert sent(dialler)[0].body == b"so am I"


# Both directions in bulk at once, all buffers full.


def test_bulk_both_ways_never_locks_up() -> None:
    """Each side may hand the other 5,000 bytes before it must read; nobody reads a stream before all is stuck."""
    total = 3 * MIB
    dialler, listener = pair()
    ours = [dialler.open() for _ in range(3)]
    exchange(dialler, listener)
    theirs = [event.stream for event in of_type(listener.events(), StreamOpened)]
    left = dict.fromkeys(ours + theirs, total)
    got = dict.fromkeys(ours + theirs, 0)
    block = memoryview(bytes(100_000))
    while any(got[stream] < total for stream in got):
        before = sum(left.values()), sum(got.values())
        for stream in left:
            left[stream] -= stream.write(block[: left[stream]])
        while dialler.has_data_to_send or listener.has_data_to_send:
            listener.receive(dialler.data_to_send(5000))
            dialler.receive(listener.data_to_send(5000))
        for stream in got:
            got[stream] += len(stream.read(300_000) or b"")
        assert (sum(left.values()), sum(got.values())) != before


# Scheduling.


def test_streams_take_turns_of_one_frame() -> None:
    dialler = Session(initiator=True)
    for stream in [dialler.open() for _ in range(3)]:
        stream.write(bytes(3 * MAX_FRAME_BODY))
    assert [frame.stream_id for frame in sent(dialler) if frame.kind == DATA] == [1, 3, 5] * 3


def test_stream_that_begins_short_and_goes_on_in_bulk_has_one_turn() -> None:
    dialler = Session(initiator=True)
    first, second = dialler.open(), dialler.open()
    first.write(b"x")
    first.write(bytes(2 * MAX_FRAME_BODY - 1))
    second.write(bytes(2 * MAX_FRAME_BODY))
    assert [frame.stream_id for frame in sent(dialler) if frame.kind == DATA] == [1, 3, 1, 3]


def test_no_more_is_sent_than_was_asked_for() -> None:
    dialler, _, ours, _ = connected()
    ours.write(b"x")
    ours.close_write()
    assert [frame.flags for frame in sent(dialler, 24)] == [0]
    assert [frame.flags for frame in sent(dialler, 24)] == [FIN]


def test_short_message_waits_for_one_frame_of_bulk_at_most() -> None:
    dialler = Session(initiator=True)
    for stream in [dialler.open() for _ in range(4)]:
        stream.write(bytes(3 * MAX_FRAME_BODY))
    late = dialler.open()
    sent(dialler, 65_519)
    late.write(b"request")
    assert late.id in [frame.stream_id for frame in sent(dialler, MAX_FRAME_BODY + 100)]


def test_short_messages_do_not_starve_the_bulk() -> None:
    dialler = Session(initiator=True)
    bulk, *talkers = (dialler.open() for _ in range(5))
    bulk.write(bytes(MAX_FRAME_BODY))
    dialler.frame_body = 1000
    seen = []
    for _ in range(20):
        for talker in talkers:
            talker.write(b"chatter")
        seen += [frame.stream_id for frame in sent(dialler, 1100) if frame.kind == DATA]
    assert seen.count(bulk.id) >= len(seen) // 3


# What waits, and who is told.


def test_reader_is_told_once_and_only_if_it_waits() -> None:
    dialler, _, ours, _ = connected()
    dialler.receive(data_frame(1, b"a"))
    assert not dialler.events()
    assert ours.read(10) == b"a"
    assert ours.read(10) is None
    dialler.receive(data_frame(1, b"b") + data_frame(1, b"c"))
    assert dialler.events() == [Readable(ours)]
    assert ours.read(10) == b"bc"


def test_reader_is_told_of_the_end() -> None:
    dialler, _, ours, _ = connected()
    assert ours.read(10) is None
    dialler.receive(header(DATA, FIN, 1, 0))
    assert dialler.events() == [Readable(ours)]


@each_step
def test_waiting_reader_gets_bytes_straight_into_its_buffer(step: int) -> None:
    dialler, _, ours, _ = connected()
    buffer = bytearray(10)
    dialler.receive(data_frame(1, b"12"))
    assert ours.read_into(memoryview(buffer), at_least=10) is None
    assert ours.unread == 0
    assert ours.waiting
    dialler.receive(data_frame(1, b""))
    feed(dialler.receive, data_frame(1, b"3"), step)
    assert not dialler.events()
    feed(dialler.receive, data_frame(1, b"45678") + data_frame(1, b"90rest"), step)
    assert of_type(dialler.events(), Readable) == [Readable(ours)]
    assert ours.finish_read() == 10
    assert buffer == b"1234567890"
    assert ours.read(100) == b"rest"


def test_buffer_that_is_filled_is_granted_at_once() -> None:
    dialler, listener, ours, theirs = connected(SMALL)
    assert theirs.read_into(memoryview(bytearray(MIB)), at_least=MIB) is None
    for _ in range(4):
        ours.write(bytes(INITIAL_WINDOW))
        exchange(dialler, listener)
    assert theirs.finish_read() == MIB


def test_buffer_gets_what_is_there_without_waiting() -> None:
    dialler, _, ours, _ = connected()
    dialler.receive(data_frame(1, b"12345", FIN))
    buffer = bytearray(3)
    assert ours.read_into(memoryview(buffer), at_least=3) == 3
    assert ours.read_into(memoryview(buffer), at_least=3) == 2
    assert ours.read_into(memoryview(buffer), at_least=3) == 0


def test_buffer_is_given_back_short_at_the_end() -> None:
    dialler, _, ours, _ = connected()
    assert ours.read_into(memoryview(bytearray(10)), at_least=10) is None
    with pytest.raises(LocalProtocolError):
        ours.read(1)
    dialler.receive(data_frame(1, b"end", FIN))
    assert dialler.events() == [Readable(ours)]
    assert ours.finish_read() == 3


def test_buffer_of_a_stream_that_was_reset_says_so() -> None:
    dialler, _, ours, _ = connected()
    assert ours.read_into(memoryview(bytearray(10)), at_least=10) is None
    dialler.receive(data_frame(1, b"part") + header(WINDOW_UPDATE, RST, 1, 0))
    with pytest.raises(StreamWasReset):
        ours.finish_read()


def test_buffer_that_was_full_in_time_is_given_back_whole() -> None:
    dialler, _, ours, _ = connected()
    assert ours.read_into(memoryview(bytearray(4)), at_least=4) is None
    dialler.receive(data_frame(1, b"full") + header(WINDOW_UPDATE, RST, 1, 0))
    assert ours.finish_read() == 4


def test_reader_can_give_up_its_buffer() -> None:
    dialler, _, ours, _ = connected()
    buffer = bytearray(10)
    assert ours.read_into(memoryview(buffer), at_least=10) is None
    dialler.receive(data_frame(1, b"ab"))
    assert ours.finish_read() == 2
    assert ours.finish_read() == 0
    dialler.receive(data_frame(1, b"cd"))
    assert ours.read(10) == b"cd"


def test_writer_is_told_when_half_of_its_queue_is_free() -> None:
    dialler = Session(initiator=True, limits=Limits(unsent=1000))
    stream = dialler.open()
    assert stream.room == 1000
    assert stream.write(bytes(1500)) == 1000
    assert stream.room == 0
    assert stream.write(b"x") == 0
    sent(dialler, 12 + 12 + 400)
    assert not of_type(dialler.events(), Writable)
    sent(dialler, 12 + 100)
    assert dialler.events() == [Writable(stream)]
    sent(dialler)
    assert not dialler.events()


def test_queue_of_a_stream_can_be_kept_shorter_than_the_sessions_limit() -> None:
    dialler = Session(initiator=True, limits=Limits(unsent=1000))
    stream = dialler.open()
    assert stream.write(bytes(600)) == 600
    stream.keep_unsent(100)
    assert stream.room == 0
    sent(dialler)
    assert stream.write(bytes(600)) == 100
    stream.keep_unsent(5000)
    assert stream.room == 900


def test_what_is_written_at_length_is_not_copied() -> None:
    dialler = Session(initiator=True)
    stream = dialler.open()
    data = bytearray(2000)
    stream.write(memoryview(data))
    data[:] = b"x" * 2000
    assert sent(dialler)[-1].body == b"x" * 2000
    assert stream.unsent == 0


def test_what_is_still_coming_can_be_ignored() -> None:
    """Its last words still go out, which a reset would take along; the peer gets no further window."""
    dialler, listener, ours, theirs = connected(SMALL)
    ours.write(bytes(1000))
    exchange(dialler, listener)
    theirs.ignore_input()
    theirs.write(b"last words")
    theirs.close_write()
    ours.write(bytes(100_000))
    exchange(dialler, listener)
    assert theirs.unread == 0
    assert ours.read(100) == b"last words"
    ours.close_write()
    exchange(dialler, listener)
    assert not listener.streams


# What a hostile peer may try.

HOSTILE = {
    "version": b"\x01" + header(PING, SYN, 0, 0)[1:],
    "unknown type": header(4, 0, 0, 0),
    "stream id 0, data": header(DATA, 0, 0, 1),
    "stream id 0, window": header(WINDOW_UPDATE, SYN, 0, 1),
    "ping on a stream": header(PING, SYN, 1, 1),
    "go away on a stream": header(GO_AWAY, 0, 1, 0),
    "stream of our parity": header(WINDOW_UPDATE, SYN, 3, 0),
    "stream opened twice": header(WINDOW_UPDATE, SYN, 2, 0) * 2,
    "data on a stream that never was": header(DATA, 0, 3, 1),
    "window of a stream that never was": header(WINDOW_UPDATE, 0, 3, 1),
    "data on a stream of its own that never was": header(DATA, 0, 2, 1),
    "window overrun": data_frame(1, b"") + header(DATA, 0, 1, WINDOW + 1),
    "window overrun with SYN": header(DATA, SYN, 2, WINDOW + 1),
    "length of 4 GiB": header(DATA, 0, 1, 0xFFFFFFFF),
    "data after FIN": header(DATA, FIN, 1, 0) + header(DATA, 0, 1, 1),
    "FIN and then more": data_frame(1, b"x", FIN) + data_frame(1, b"y"),
    "pings without end": header(PING, SYN, 0, 1) * 33,
    "unrequested pong": header(PING, ACK, 0, 0),
    "ping without flags": header(PING, 0, 0, 0),
    "opened and reset without end": b"".join(
        header(WINDOW_UPDATE, SYN, 2 * n, 0) + header(WINDOW_UPDATE, RST, 2 * n, 0) for n in range(1, 2000)
    ),
    "opened without end": b"".join(header(WINDOW_UPDATE, SYN, 2 * n, 0) for n in range(1, 1000)),
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("attack", HOSTILE.values(), ids=list(HOSTILE))
@each_step
def test_hostile_peer_is_cut_with_a_reason(attack: bytes, step: int) -> None:
    dialler, _, ours, _ = connected()
    with pytest.raises(RemoteProtocolError, match="yamux: ") as error:
        feed(dialler.receive, attack, step)
    with pytest.raises(RemoteProtocolError, match="yamux: ") as again:
        dialler.receive(b"anything")
    assert again.value.message == error.value.message
    assert sent(dialler) == [Frame(GO_AWAY, 0, SESSION, PROTOCOL_ERROR)]
    assert not dialler.has_data_to_send
    assert not dialler.streams
    with pytest.raises(StreamWasReset):
        ours.write(b"x")


def test_window_counts_what_a_frame_announces_not_what_has_come() -> None:
    dialler, *_ = connected(SMALL)
    dialler.receive(header(DATA, 0, 1, INITIAL_WINDOW) + b"x")
    with pytest.raises(RemoteProtocolError, match="window"):
        dialler.receive(bytes(INITIAL_WINDOW - 1) + header(DATA, 0, 1, 1))


def test_window_grown_beyond_all_measure_stays_a_number() -> None:
    dialler, _, ours, _ = connected()
    dialler.receive(header(WINDOW_UPDATE, 0, 1, 0xFFFFFFFF) * 3)
    assert ours.send_window == 0xFFFFFFFF


def test_streams_beyond_the_limit_are_reset() -> None:
    listener = Session(initiator=False, limits=Limits(inbound_streams=2))
    listener.receive(b"".join(header(WINDOW_UPDATE, SYN, n, 0) for n in (1, 3, 5)) + data_frame(5, b"hello"))
    assert [event.stream.id for event in of_type(listener.events(), StreamOpened)] == [1, 3]
    assert Frame(WINDOW_UPDATE, RST, 5, 0) in sent(listener)
    listener.receive(header(WINDOW_UPDATE, RST, 1, 0) + header(WINDOW_UPDATE, SYN, 7, 0))
    assert [event.stream.id for event in of_type(listener.events(), StreamOpened)] == [7]


def test_peer_that_opens_streams_without_end_is_cut_though_it_reads() -> None:
    listener = Session(initiator=False, limits=Limits(inbound_streams=1))
    for n in range(1, 2 * 257, 2):
        listener.receive(header(WINDOW_UPDATE, SYN, n, 0))
        sent(listener)
    listener.receive(header(WINDOW_UPDATE, RST, 1, 0) + header(WINDOW_UPDATE, SYN, 999, 0))
    for n in range(1001, 1001 + 2 * 256, 2):
        listener.receive(header(WINDOW_UPDATE, SYN, n, 0))
        sent(listener)
    with pytest.raises(RemoteProtocolError, match="without end"):
        listener.receive(header(WINDOW_UPDATE, SYN, 5001, 0))


def test_peer_that_does_not_read_resets_is_cut() -> None:
    """It opens, the handler resets, and it never takes a byte of ours."""
    listener = Session(initiator=False)
    for n in range(1, 2 * 513, 2):
        listener.receive(header(WINDOW_UPDATE, SYN, n, 0))
        opened(listener).reset()
    with pytest.raises(RemoteProtocolError, match="does not read"):
        listener.receive(header(WINDOW_UPDATE, SYN, 2001, 0))


def test_what_was_on_its_way_when_a_stream_was_reset_is_dropped() -> None:
    dialler, listener, ours, theirs = connected(SMALL)
    ours.write(bytes(INITIAL_WINDOW))
    said = dialler.data_to_send(MIB)
    listener.receive(said[:1000])
    theirs.reset()
    listener.receive(said[1000:])
    exchange(dialler, listener)
    assert of_type(dialler.events(), StreamReset) == [StreamReset(ours)]
    assert listener.unread == 0


def test_stream_can_be_reset_in_the_middle_of_its_last_frame() -> None:
    dialler, _, ours, _ = connected()
    dialler.receive(data_frame(1, b"hello", FIN)[:-2])
    ours.reset()
    dialler.receive(b"lo" + header(PING, SYN, SESSION, 1))
    assert [frame.kind for frame in sent(dialler)] == [PING, WINDOW_UPDATE]


def test_stream_under_the_number_of_an_earlier_one_is_another_stream() -> None:
    listener = Session(initiator=False)
    listener.receive(header(WINDOW_UPDATE, SYN, 1, 0) + header(WINDOW_UPDATE, RST, 1, 0))
    (earlier,) = (event.stream for event in of_type(listener.events(), StreamOpened))
    listener.receive(header(WINDOW_UPDATE, SYN, 1, 0) + data_frame(1, b"x"))
    later = opened(listener)
    earlier.reset()
    assert listener.streams == (later,)
    assert [frame.flags for frame in sent(listener)] == [ACK]
    assert later.read(10) == b"x"


def test_no_more_may_be_on_its_way_than_the_window_allowed() -> None:
    _, listener, _, theirs = connected(SMALL)
    theirs.reset()
    listener.receive(data_frame(1, bytes(INITIAL_WINDOW)))
    with pytest.raises(RemoteProtocolError, match="not open"):
        listener.receive(data_frame(1, b"x"))


def test_unread_bytes_of_all_streams_are_bounded() -> None:
    dialler, listener = pair(Limits(window=INITIAL_WINDOW, unread=INITIAL_WINDOW + 1000))
    streams = [dialler.open() for _ in range(2)]
    for stream in streams:
        stream.write(bytes(INITIAL_WINDOW))
    exchange(dialler, listener)
    (reset,) = of_type(listener.events(), StreamReset)
    assert "unread" in reset.reason
    assert len(of_type(dialler.events(), StreamReset)) == 1
    assert sum(stream.unread for stream in listener.streams) <= INITIAL_WINDOW + 1000
    assert len(listener.streams) == 1


class Little(Allowance):
    """One stream, and no bytes to be sent."""

    def __init__(self) -> None:
        self.over: list[Stream] = []
        self._places = 1

    def unsent(self) -> int:
        return 0

    def take_stream(self) -> bool:
        self._places -= 1
        return self._places >= 0

    def note_over(self, stream: Stream) -> None:
        self.over.append(stream)


def test_who_drives_it_says_how_many_streams_there_are_and_hears_when_one_is_over() -> None:
    allowance = Little()
    listener = Session(initiator=False, allowance=allowance)
    listener.receive(header(WINDOW_UPDATE, SYN, 1, 0))
    stream = opened(listener)
    listener.receive(header(WINDOW_UPDATE, SYN, 3, 0))
    assert [frame.stream_id for frame in sent(listener) if frame.flags == RST] == [3]
    listener.receive(header(WINDOW_UPDATE, RST, 1, 0))
    assert allowance.over == [stream]


def test_where_there_is_no_memory_each_stream_still_has_a_little_waiting() -> None:
    dialler, listener = Session(initiator=True, allowance=Little()), Session(initiator=False)
    streams = [dialler.open() for _ in range(2)]
    for stream in streams:
        assert stream.write(bytes(100_000)) == Limits().least_unsent
        assert stream.write(b"x") == stream.room == 0
    assert dialler.unsent == 2 * Limits().least_unsent
    exchange(dialler, listener)
    assert of_type(dialler.events(), Writable)
    assert dialler.unsent == 0
    assert streams[0].room == Limits().least_unsent


def test_what_is_written_in_small_parts_is_joined() -> None:
    dialler, listener, ours, theirs = connected()
    said = b"".join(bytes([number]) * (number + 1) for number in range(200))
    for number in range(200):
        ours.write(bytes([number]) * (number + 1))
    ours.write(bytes(2000))
    ours.write(b"end")
    assert len(ours._queue) <= len(said) // 4096 + 4
    exchange(dialler, listener, 1000)
    assert theirs.read(1 << 20) == said + bytes(2000) + b"end"


def test_what_waits_to_be_sent_is_bounded_though_the_peer_never_reads() -> None:
    """However often it is granted and pinged, one frame for each stream and the pongs are all that waits."""
    _, listener, _, theirs = connected(SMALL)
    for _ in range(50):
        listener.receive(data_frame(1, bytes(100_000)))
        assert len(theirs.read(100_000) or b"") == 100_000
        listener.grant_reads()
    assert len(listener.data_to_send(MIB)) == len(header(0, 0, 0, 0))


def test_end_of_the_connection_ends_its_streams() -> None:
    dialler, _, ours, _ = connected()
    whole = dialler.open()
    sent(dialler)
    dialler.receive(data_frame(1, b"half") + data_frame(whole.id, b"whole", FIN))
    dialler.end("it is over")
    assert whole.read(100) == b"whole"
    assert whole.read(100) == b""
    with pytest.raises(StreamWasReset):
        ours.read(100)
    with pytest.raises(RemoteProtocolError, match="it is over"):
        dialler.receive(b"x")
