"""What every transport promises that carries gossip, on each implementation."""

from __future__ import annotations

import pytest
import trio

from p2pboot.transport.interface import Connection, Forwarding, Transport
from tests.connections import connection_with
from tests.transport.conftest import TOPIC, Lab, wait_connected


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


async def test_gossip_reaches_over_a_node_that_accepts(gossip_lab: Lab) -> None:
    a, b, c = await gossip_lab.node(), await gossip_lab.node(), await gossip_lab.node()
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


async def test_gossip_goes_on_over_the_connection_that_is_left(gossip_lab: Lab) -> None:
    a, b = await gossip_lab.pair()
    validator = RecordingValidator()
    await a.subscribe(TOPIC, RecordingValidator())
    await b.subscribe(TOPIC, validator)
    first, second = connection_with(a, b), await b.dial(a.addresses()[0])
    await a.publish(TOPIC, b"over one of them")
    assert await validator.taken.receive() == (a.peer_id, b"over one of them")
    await a.hang_up(first)
    await wait_for(b, {second})
    await a.publish(TOPIC, b"over the other")
    assert await validator.taken.receive() == (a.peer_id, b"over the other")


async def wait_for(node: Transport, connections: set[Connection]) -> None:
    async for _ in node.connection_events():
        if node.connections() == connections:
            return


@pytest.mark.parametrize("forwarding", [Forwarding.IGNORE, Forwarding.REJECT])
async def test_gossip_stops_at_a_node_that_does_not_accept(gossip_lab: Lab, forwarding: Forwarding) -> None:
    a, b, c = await gossip_lab.node(), await gossip_lab.node(), await gossip_lab.node()
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


async def test_a_peer_whose_messages_are_rejected_is_soon_not_heard(gossip_lab: Lab) -> None:
    a, b = await gossip_lab.pair()
    validator = RecordingValidator(Forwarding.REJECT)
    await a.subscribe(TOPIC, RecordingValidator())
    await b.subscribe(TOPIC, validator)
    for number in range(2):
        await a.publish(TOPIC, b"bad %d" % number)
        await validator.taken.receive()
    validator.forwarding = Forwarding.ACCEPT
    await a.publish(TOPIC, b"good")
    other = await gossip_lab.node()
    await other.subscribe(TOPIC, RecordingValidator())
    await other.dial(b.addresses()[0])
    await other.publish(TOPIC, b"from another")
    assert await validator.taken.receive() == (other.peer_id, b"from another")


async def test_a_peer_whose_messages_are_ignored_is_still_heard(gossip_lab: Lab) -> None:
    a, b = await gossip_lab.pair()
    validator = RecordingValidator(Forwarding.IGNORE)
    await a.subscribe(TOPIC, RecordingValidator())
    await b.subscribe(TOPIC, validator)
    for number in range(12):
        await a.publish(TOPIC, b"odd %d" % number)
        assert await validator.taken.receive() == (a.peer_id, b"odd %d" % number)


async def test_a_message_is_judged_once_until_what_was_ignored_is_forgotten(gossip_lab: Lab) -> None:
    a, b = await gossip_lab.pair()
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


async def test_a_judge_that_fails_does_not_end_gossip(gossip_lab: Lab) -> None:
    a, b = await gossip_lab.pair()
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


async def test_nothing_comes_from_a_topic_that_was_left(gossip_lab: Lab) -> None:
    a, b = await gossip_lab.pair()
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


async def test_payloads_are_counted_by_direction(gossip_lab: Lab) -> None:
    a, b = await gossip_lab.pair()
    validator = RecordingValidator()
    await a.subscribe(TOPIC, RecordingValidator())
    await b.subscribe(TOPIC, validator)
    await a.publish(TOPIC, b"news")
    await validator.taken.receive()
    assert (a.traffic["gossip", "sent"], b.traffic["gossip", "received"]) == (4, 4)
    assert ("gossip", "received") not in a.traffic
