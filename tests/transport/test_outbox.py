"""What waits for peers that do not read: bounded, dropped, and not at the cost of others."""

from __future__ import annotations

import trio
from libp2p.pubsub.pb import rpc_pb2

from p2pboot.core.origins import Party
from p2pboot.transport.libp2p.outbox import Outbox, Outgoing

KIB = 1024
LARGE = rpc_pb2.RPC(publish=[rpc_pb2.Message(data=bytes(64 * KIB))])
SMALL = rpc_pb2.RPC(publish=[rpc_pb2.Message(data=b"small")])


def outbox_of(outgoing: Outgoing, origin: str, peer_id: str = "peer", *, is_known: bool = False) -> Outbox:
    return outgoing.open(Party(origin, peer_id), lambda: is_known)


def fill(outbox: Outbox) -> int:
    count = 0
    while outbox.push(LARGE):
        count += 1
    return count


async def test_what_is_pushed_comes_out_control_first() -> None:
    outbox = outbox_of(Outgoing(), "192.0.2.1")
    control = rpc_pb2.RPC()
    control.control.graft.add(topicID="topic")
    assert outbox.push(SMALL)
    assert outbox.push(control, priority=True)
    popped = [await outbox.pop(), await outbox.pop()]
    sizes = [rpc.SerializeToString() for rpc in (control, SMALL)]
    assert [frame[1:] for frame in popped if frame is not None] == sizes


def test_one_peer_is_bounded_by_bytes_and_number() -> None:
    outgoing = Outgoing()
    assert fill(outbox_of(outgoing, "192.0.2.1")) <= 32
    many = outbox_of(outgoing, "192.0.2.2")
    assert sum(many.push(SMALL) for _ in range(100)) == 32


def test_all_of_an_address_together_are_bounded() -> None:
    outgoing = Outgoing()
    for number in range(100):
        fill(outbox_of(outgoing, "192.0.2.1", str(number)))
    assert outgoing.held <= 12 * KIB * KIB


def test_who_reads_little_gives_way_to_others_and_to_its_neighbours() -> None:
    outgoing = Outgoing()
    for number in range(100):
        fill(outbox_of(outgoing, "192.0.2.1", str(number)))
    for origin in ("192.0.2.1", "192.0.2.2"):
        assert outbox_of(outgoing, origin, "honest").push(LARGE)
    assert fill(outbox_of(outgoing, "192.0.2.1", "known", is_known=True)) > 10


async def test_closing_gives_all_back_and_wakes_the_writer() -> None:
    outgoing = Outgoing()
    outbox = outbox_of(outgoing, "192.0.2.1")
    fill(outbox)
    assert await outbox.pop() is not None
    assert outgoing.held > 0
    outbox.close()
    outbox.close()
    assert outgoing.held == outbox.held == 0
    assert await outbox.pop() is None
    assert not outbox.push(SMALL)
    assert not await outbox.has_room()


async def test_what_is_being_written_counts_until_the_next() -> None:
    outgoing = Outgoing()
    outbox = outbox_of(outgoing, "192.0.2.1")
    outbox.push(LARGE)
    await outbox.pop()
    assert outbox.held == outgoing.held > 0
    with trio.move_on_after(0):
        await outbox.pop()
    assert outbox.held == outgoing.held == 0


def test_what_goes_to_many_is_encoded_once() -> None:
    outgoing = Outgoing()
    assert outgoing.encode(LARGE) is outgoing.encode(LARGE)
    assert outgoing.encode(SMALL) != outgoing.encode(LARGE)
