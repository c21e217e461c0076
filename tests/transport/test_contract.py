"""What every transport promises, on each implementation."""

from __future__ import annotations

import pytest
import trio

from p2pboot.core.identity import SecretKey
from p2pboot.errors import UsageError
from p2pboot.transport.interface import DialError, Forwarding, PeerEvent, Stream, StreamReset
from tests.transport.conftest import ECHO, TOPIC, Lab, echo, read_all, wait_connected

STRANGER = SecretKey(b"s" * 32).public.peer_id
# 1 byte; one Noise message and more than one; more than the first window; more than the largest window.
SIZES = [1, 64 * 1024, 1024 * 1024, 5 * 1024 * 1024 + 1]


async def test_both_sides_know_each_other_after_a_dial(lab: Lab) -> None:
    a, b = await lab.node(), await lab.node()
    assert await a.dial(b.addresses()[0]) == b.peer_id
    await wait_connected(b, a.peer_id)
    assert set(a.peers()) == {b.peer_id}
    assert set(b.peers()) == {a.peer_id}
    assert b.addresses()[0] in a.peer_addresses(b.peer_id)


async def test_own_addresses_name_the_peer_and_a_real_port(lab: Lab) -> None:
    node = await lab.node()
    for address in node.addresses():
        assert address.endswith(f"/p2p/{node.peer_id}")
        assert "/tcp/0/" not in address
        assert "/0.0.0.0/" not in address


async def test_dial_works_without_the_peer_id(lab: Lab) -> None:
    a, b = await lab.node(), await lab.node()
    assert await a.dial(b.addresses()[0].partition("/p2p/")[0]) == b.peer_id


async def test_dial_refuses_another_identity(lab: Lab) -> None:
    a, b = await lab.node(), await lab.node()
    address = b.addresses()[0].replace(b.peer_id, STRANGER)
    with pytest.raises(DialError, match=r"12D3KooW"):
        await a.dial(address)
    assert not a.peers()
    assert await a.dial(b.addresses()[0]) == b.peer_id  # and nothing is held against the address


async def test_dial_of_a_connected_peer_returns_at_once(lab: Lab) -> None:
    a, b = await lab.pair()
    assert await a.dial(b.addresses()[0]) == b.peer_id
    assert await a.dial(f"/ip4/192.0.2.1/tcp/1/p2p/{b.peer_id}") == b.peer_id


async def test_dial_says_when_nobody_is_there(lab: Lab) -> None:
    node = await lab.node()
    with pytest.raises(DialError, match=r"refused"):
        await node.dial(f"/ip4/127.0.0.1/tcp/1/p2p/{STRANGER}")


async def test_dial_of_oneself_is_refused(lab: Lab) -> None:
    node = await lab.node()
    with pytest.raises(DialError, match="itself"):
        await node.dial(node.addresses()[0])


async def test_dial_refuses_what_is_no_address(lab: Lab) -> None:
    node = await lab.node()
    with pytest.raises(UsageError, match="multiaddr"):
        await node.dial("somewhere:4001")


@pytest.mark.parametrize("size", SIZES)
async def test_echo(lab: Lab, size: int) -> None:
    a, b = await lab.pair()
    b.handle(ECHO, echo)
    stream = await a.open_stream(b.peer_id, ECHO)
    assert stream.peer_id == b.peer_id
    sent = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    async def send() -> None:
        await stream.write(memoryview(sent))
        await stream.close_write()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        received = await read_all(stream)
    await stream.close()
    assert received == sent


async def test_the_dialled_side_can_open_streams_too(lab: Lab) -> None:
    a, b = await lab.pair()
    a.handle(ECHO, echo)
    stream = await b.open_stream(a.peer_id, ECHO)
    await stream.write(b"back")
    await stream.close_write()
    assert await read_all(stream) == b"back"
    await stream.close()


async def test_half_close_lets_the_answer_come(lab: Lab) -> None:
    a, b = await lab.pair()

    async def count(stream: Stream) -> None:
        await stream.write(str(len(await read_all(stream))).encode())

    b.handle(ECHO, count)
    stream = await a.open_stream(b.peer_id, ECHO)
    await stream.write(b"seven b")
    await stream.close_write()
    assert await read_all(stream) == b"7"
    assert await stream.read(1) == b""  # the end stays the end
    await stream.close()


async def test_read_gives_what_is_there_and_no_more_than_asked(lab: Lab) -> None:
    a, b = await lab.pair()
    b.handle(ECHO, echo)
    stream = await a.open_stream(b.peer_id, ECHO)
    await stream.write(b"abcdef")
    assert await stream.read(4) == b"abcd"
    assert await stream.read(100) == b"ef"
    await stream.close()


async def test_reset_is_seen_by_a_waiting_reader(lab: Lab) -> None:
    a, b = await lab.pair()
    seen = trio.Event()

    async def wait_for_reset(stream: Stream) -> None:
        await stream.write(b"ready")
        with pytest.raises(StreamReset):
            await stream.read(1)
        seen.set()

    b.handle(ECHO, wait_for_reset)
    stream = await a.open_stream(b.peer_id, ECHO)
    assert await stream.read(5) == b"ready"
    await stream.reset()
    await seen.wait()
    with pytest.raises(StreamReset):
        await stream.read(1)
    with pytest.raises(StreamReset):
        await stream.write(b"x")


async def test_close_and_reset_may_come_twice_and_in_any_order(lab: Lab) -> None:
    a, b = await lab.pair()
    b.handle(ECHO, echo)
    for first, second in (("close", "reset"), ("reset", "close"), ("close", "close"), ("reset", "reset")):
        stream = await a.open_stream(b.peer_id, ECHO)
        await getattr(stream, first)()
        await getattr(stream, second)()


async def test_a_writer_waits_for_a_reader_that_takes_its_time(lab: Lab) -> None:
    a, b = await lab.pair()
    go, total = trio.Event(), 3 * 1024 * 1024
    counted: list[int] = []

    async def read_late(stream: Stream) -> None:
        await go.wait()
        counted.append(len(await read_all(stream)))

    b.handle(ECHO, read_late)
    stream = await a.open_stream(b.peer_id, ECHO)
    with trio.move_on_after(0.2) as scope:
        await stream.write(bytes(total))
    assert scope.cancelled_caught  # it would have gone through, had nothing held it back
    await stream.reset()

    other = await a.open_stream(b.peer_id, ECHO)  # the connection is none the worse
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.write, bytes(total))
        go.set()
    await other.close_write()
    assert await read_all(other) == b""
    assert counted == [total]


async def test_a_handlers_error_resets_its_stream_and_nothing_else(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = await lab.pair()

    async def fail(stream: Stream) -> None:
        await stream.read(1)
        raise RuntimeError("no luck")

    b.handle("/test/fail/1", fail)
    b.handle(ECHO, echo)
    other = await a.open_stream(b.peer_id, ECHO)
    for _ in range(3):
        stream = await a.open_stream(b.peer_id, "/test/fail/1")
        await stream.write(b"?")
        with pytest.raises(StreamReset):
            await read_all(stream)
        await stream.reset()
    await other.write(b"still here")
    assert await other.read(100) == b"still here"
    await other.close()
    assert a.peer_id in caplog.text


async def test_open_stream_needs_a_connection(lab: Lab) -> None:
    a, b = await lab.node(), await lab.node()
    b.handle(ECHO, echo)
    with pytest.raises(StreamReset, match="not connected"):
        await a.open_stream(b.peer_id, ECHO)


async def test_open_stream_refuses_an_unknown_protocol(lab: Lab) -> None:
    a, b = await lab.pair()
    with pytest.raises(StreamReset, match="/test/nobody"):
        await a.open_stream(b.peer_id, "/test/nobody/1")


async def test_hang_up_ends_streams_and_is_told_to_both(lab: Lab) -> None:
    a, b = await lab.pair()
    b.handle(ECHO, echo)
    stream = await a.open_stream(b.peer_id, ECHO)
    await a.hang_up(b.peer_id)
    with pytest.raises(StreamReset):
        await stream.read(1)
    await wait_connected(a, b.peer_id, connected=False)
    await wait_connected(b, a.peer_id, connected=False)
    assert await a.dial(b.addresses()[0]) == b.peer_id  # and it can be dialled again


async def test_peer_events_start_with_who_is_there_and_tell_of_changes(lab: Lab) -> None:
    a, b = await lab.pair()
    late = a.peer_events()
    assert await late.receive() == PeerEvent(b.peer_id, True)
    c = await lab.node()
    await c.dial(a.addresses()[0])
    assert await late.receive() == PeerEvent(c.peer_id, True)
    await a.hang_up(b.peer_id)
    assert await late.receive() == PeerEvent(b.peer_id, False)


async def test_a_slow_follower_learns_the_final_state(lab: Lab) -> None:
    a, b = await lab.node(), await lab.node()
    events = a.peer_events()
    for _ in range(3):
        await a.dial(b.addresses()[0])
        await a.hang_up(b.peer_id)
        await wait_connected(a, b.peer_id, connected=False)
        await wait_connected(b, a.peer_id, connected=False)
    await a.dial(b.addresses()[0])
    last = await lab.node()
    await a.dial(last.addresses()[0])
    heard = {}
    while last.peer_id not in heard:
        event = await events.receive()
        heard[event.peer_id] = event.connected
    assert heard[b.peer_id]


class RecordingValidator:
    """Remembers, and says the same to everything."""

    def __init__(self, forwarding: Forwarding = Forwarding.ACCEPT) -> None:
        self.forwarding = forwarding
        self._send, self.taken = trio.open_memory_channel[tuple[str, bytes]](1000)

    async def __call__(self, peer_id: str, payload: bytes) -> Forwarding:
        self._send.send_nowait((peer_id, payload))
        return self.forwarding

    @property
    def count(self) -> int:
        return self.taken.statistics().current_buffer_used


async def test_gossip_reaches_over_a_node_that_accepts(lab: Lab) -> None:
    a, b, c = await lab.node(), await lab.node(), await lab.node()
    validators = RecordingValidator(), RecordingValidator(), RecordingValidator()
    for node, validator in zip((a, b, c), validators, strict=True):
        await node.subscribe(TOPIC, validator)
    await a.dial(b.addresses()[0])
    await b.dial(c.addresses()[0])
    await wait_connected(b, a.peer_id)
    await wait_connected(c, b.peer_id)
    await a.publish(TOPIC, b"news")
    assert await validators[1].taken.receive() == (a.peer_id, b"news")
    assert await validators[2].taken.receive() == (b.peer_id, b"news")
    assert validators[0].count == 0  # nobody validators what is its own


@pytest.mark.parametrize("forwarding", [Forwarding.IGNORE, Forwarding.REJECT])
async def test_gossip_stops_at_a_node_that_does_not_accept(lab: Lab, forwarding: Forwarding) -> None:
    a, b, c = await lab.node(), await lab.node(), await lab.node()
    middle, end = RecordingValidator(forwarding), RecordingValidator()
    await a.subscribe(TOPIC, RecordingValidator())
    await b.subscribe(TOPIC, middle)
    await c.subscribe(TOPIC, end)
    await a.dial(b.addresses()[0])
    await b.dial(c.addresses()[0])
    await wait_connected(b, a.peer_id)
    await wait_connected(c, b.peer_id)
    await a.publish(TOPIC, b"first")
    assert await middle.taken.receive() == (a.peer_id, b"first")
    middle.forwarding = Forwarding.ACCEPT
    await a.publish(TOPIC, b"second")
    assert await end.taken.receive() == (b.peer_id, b"second")  # and not the first


async def test_a_peer_whose_messages_are_rejected_is_soon_not_heard(lab: Lab) -> None:
    a, b = await lab.pair()
    validator = RecordingValidator(Forwarding.REJECT)
    await a.subscribe(TOPIC, RecordingValidator())
    await b.subscribe(TOPIC, validator)
    for number in range(2):
        await a.publish(TOPIC, b"bad %d" % number)
        await validator.taken.receive()
    validator.forwarding = Forwarding.ACCEPT
    await a.publish(TOPIC, b"good")
    other = await lab.node()
    await other.subscribe(TOPIC, RecordingValidator())
    await other.dial(b.addresses()[0])
    await other.publish(TOPIC, b"from another")
    assert await validator.taken.receive() == (other.peer_id, b"from another")


async def test_a_peer_whose_messages_are_ignored_is_still_heard(lab: Lab) -> None:
    a, b = await lab.pair()
    validator = RecordingValidator(Forwarding.IGNORE)
    await a.subscribe(TOPIC, RecordingValidator())
    await b.subscribe(TOPIC, validator)
    for number in range(12):
        await a.publish(TOPIC, b"odd %d" % number)
        assert await validator.taken.receive() == (a.peer_id, b"odd %d" % number)


async def test_a_message_is_judged_once_until_what_was_ignored_is_forgotten(lab: Lab) -> None:
    a, b = await lab.pair()
    validator = RecordingValidator(Forwarding.IGNORE)
    await a.subscribe(TOPIC, RecordingValidator())
    await b.subscribe(TOPIC, validator)
    await a.publish(TOPIC, b"same")
    await validator.taken.receive()
    await a.publish(TOPIC, b"same")
    await a.publish(TOPIC, b"fence")
    assert (await validator.taken.receive())[1] == b"fence"
    b.forget_seen()
    validator.forwarding = Forwarding.ACCEPT
    await a.publish(TOPIC, b"same")  # goes out although it is the third time
    assert (await validator.taken.receive())[1] == b"same"
    b.forget_seen()  # what was accepted stays known
    await a.publish(TOPIC, b"same")
    await a.publish(TOPIC, b"fence 2")
    assert (await validator.taken.receive())[1] == b"fence 2"


async def test_a_judge_that_fails_does_not_end_gossip(lab: Lab) -> None:
    a, b = await lab.pair()
    validated = RecordingValidator()

    async def validator(peer_id: str, payload: bytes) -> Forwarding:
        if payload == b"trap":
            raise RuntimeError("validator's own fault")
        return await validated(peer_id, payload)

    await a.subscribe(TOPIC, RecordingValidator())
    await b.subscribe(TOPIC, validator)
    await a.publish(TOPIC, b"trap")
    await a.publish(TOPIC, b"after")
    assert await validated.taken.receive() == (a.peer_id, b"after")


async def test_nothing_comes_from_a_topic_that_was_left(lab: Lab) -> None:
    a, b = await lab.pair()
    left, kept = RecordingValidator(), RecordingValidator()
    for topic in (TOPIC, TOPIC + "2"):
        await a.subscribe(topic, RecordingValidator())
    await b.subscribe(TOPIC, left)
    await b.subscribe(TOPIC + "2", kept)
    await a.publish(TOPIC, b"one")
    await left.taken.receive()
    await b.unsubscribe(TOPIC)
    await b.unsubscribe("/never/joined")
    await a.publish(TOPIC, b"two")
    await a.publish(TOPIC + "2", b"three")
    assert await kept.taken.receive() == (a.peer_id, b"three")
    assert left.count == 0


async def test_bytes_are_counted_by_protocol_and_direction(lab: Lab) -> None:
    a, b = await lab.pair()
    validator = RecordingValidator()
    b.handle(ECHO, echo)
    stream = await a.open_stream(b.peer_id, ECHO)
    await stream.write(b"seven b")
    await stream.close_write()
    assert await read_all(stream) == b"seven b"
    await stream.close()
    assert a.traffic == b.traffic == {(ECHO, "sent"): 7, (ECHO, "received"): 7}
    await a.subscribe(TOPIC, RecordingValidator())
    await b.subscribe(TOPIC, validator)
    await a.publish(TOPIC, b"news")
    await validator.taken.receive()
    assert (a.traffic["gossip", "sent"], b.traffic["gossip", "received"]) == (4, 4)
    assert ("gossip", "received") not in a.traffic
