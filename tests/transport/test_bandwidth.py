"""The limits of bandwidth, on the clock that jumps: totals, peers, fairness, changes while running."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from p2pboot.core.pieces import KIB
from p2pboot.testing.memorystreams import WINDOW
from p2pboot.transport.bandwidth import KNOWN_PEERS, LARGEST_SLICE, SMALLEST_SLICE, Bandwidth, Meter, Rates
from p2pboot.transport.interface import Forwarding, Stream, Transport
from p2pboot.transport.traffic import OTHERS, REMEMBERED_PEERS, Traffic
from tests.connections import connection_with
from tests.transport.conftest import ECHO, Lab, read_all

MB = 1_000_000
Move = Callable[[Meter, int], Awaitable[None]]


async def send(meter: Meter, size: int) -> None:
    while size:
        paid = await meter.pay(size)
        meter.sent(paid)
        size -= paid


async def receive(meter: Meter, size: int) -> None:
    while size:
        taken = await meter.may_receive(size)
        meter.received(taken)
        size -= taken


async def all_at_once(move: Move, *shares: tuple[Meter, int]) -> dict[Meter, float]:
    """Move bytes on several meters at the same time; tells how long each took."""
    began = trio.current_time()
    took: dict[Meter, float] = {}

    async def one(meter: Meter, size: int) -> None:
        await move(meter, size)
        took[meter] = trio.current_time() - began

    async with trio.open_nursery() as nursery:
        for share in shares:
            nursery.start_soon(one, *share)
    return took


directions = pytest.mark.parametrize(("move", "name"), [(send, "upload"), (receive, "download")])


@pytest.mark.parametrize("rate", [10_000, MB, 50 * MB])
@directions
async def test_a_total_is_reached_and_kept(
    autojump_clock: MockClock, move: Move, name: str, rate: int
) -> None:
    bandwidth = Bandwidth(Rates(**{name: rate}))
    shares = [(bandwidth.meter(peer, ECHO), rate * 2) for peer in "abcd"]
    took = await all_at_once(move, *shares)
    assert max(took.values()) == pytest.approx(8, rel=0.05, abs=6 * SMALLEST_SLICE / rate)


@directions
async def test_a_peer_has_one_budget_however_many_streams_it_has(
    autojump_clock: MockClock, move: Move, name: str
) -> None:
    bandwidth = Bandwidth(Rates(**{f"{name}_per_peer": MB}))
    meters = [bandwidth.meter(peer, ECHO) for peer in ("a", "a", "b")]
    took = await all_at_once(move, *((meter, 10 * MB) for meter in meters))
    assert [took[meter] for meter in meters] == pytest.approx([20, 20, 10], rel=0.05)


@directions
async def test_both_limits_are_kept_and_nothing_is_left_unused(
    autojump_clock: MockClock, move: Move, name: str
) -> None:
    """One who may not have its equal share leaves it to the others."""
    bandwidth = Bandwidth(Rates(**{name: 3 * MB, f"{name}_per_peer": 2 * MB}))
    alone = bandwidth.meter("alone", ECHO)
    assert (await all_at_once(move, (alone, 20 * MB)))[alone] == pytest.approx(10, rel=0.05)
    meters = [bandwidth.meter(peer, ECHO) for peer in "ab"]
    took = await all_at_once(move, *((meter, 15 * MB) for meter in meters))
    assert list(took.values()) == pytest.approx([10, 10], rel=0.05)


@directions
async def test_peers_get_equal_shares_whatever_they_open(
    autojump_clock: MockClock, move: Move, name: str
) -> None:
    bandwidth = Bandwidth(Rates(**{name: MB}))
    with trio.move_on_after(20):
        await all_at_once(move, *((bandwidth.meter(peer, ECHO), 1 << 40) for peer in ["many"] * 8 + ["one"]))
    moved = {peer: counts.total() for peer, counts in bandwidth.traffic.by_peer().items()}
    assert sum(moved.values()) == pytest.approx(20 * MB, rel=0.05)
    assert moved["one"] == pytest.approx(moved["many"], rel=0.05)


@directions
async def test_a_small_message_waits_for_one_turn_and_not_for_a_round(
    autojump_clock: MockClock, move: Move, name: str
) -> None:
    """Neither behind 64 peers in bulk, nor behind its own peer's four streams."""
    bandwidth = Bandwidth(Rates(**{name: MB}))
    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            for peer in [f"peer {number}" for number in range(64)] + ["own"] * 4:
                nursery.start_soon(move, bandwidth.meter(peer, ECHO), 1 << 40)
            for peer in ("own", "another"):
                await trio.sleep(1.2345)
                small = bandwidth.meter(peer, ECHO)
                began = trio.current_time()
                await move(small, 1_000)
                await move(small, 1_000)  # what is received is paid when more is read
                assert trio.current_time() - began < 0.1
            nursery.cancel_scope.cancel()


async def test_small_messages_get_no_more_than_a_share(autojump_clock: MockClock) -> None:
    async def chatter(meter: Meter) -> None:
        while True:
            await send(meter, 1_000)

    bandwidth = Bandwidth(Rates(upload=MB))
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(chatter, bandwidth.meter("chatty", ECHO))
            nursery.start_soon(send, bandwidth.meter("bulk", ECHO), 1 << 40)
    moved = {peer: counts.total() for peer, counts in bandwidth.traffic.by_peer().items()}
    assert moved["chatty"] == pytest.approx(moved["bulk"], rel=0.05)


async def test_without_limits_nobody_waits_and_nothing_is_cut(autojump_clock: MockClock) -> None:
    meter = Bandwidth().meter("a", ECHO)
    began = trio.current_time()
    assert await meter.pay(1 << 40) == 1 << 40
    assert await meter.may_receive(1 << 40) == 1 << 40
    meter.received(1 << 40)
    assert await meter.may_receive(1 << 40) == 1 << 40
    assert trio.current_time() == began


async def test_a_limit_one_way_is_none_the_other_way(autojump_clock: MockClock) -> None:
    meter = Bandwidth(Rates(upload=1, upload_per_peer=1)).meter("a", ECHO)
    began = trio.current_time()
    await receive(meter, MB)
    assert trio.current_time() == began


@directions
async def test_other_limits_apply_at_once_and_to_who_waits(
    autojump_clock: MockClock, move: Move, name: str
) -> None:
    bandwidth = Bandwidth()
    meter = bandwidth.meter("a", ECHO)
    for rate, seconds in ((None, 0), (MB, 10), (100_000, 100), (None, 0)):
        for limit in (name, f"{name}_per_peer"):
            bandwidth.reconfigure(replace(Rates(), **{limit: rate}))
            took = await all_at_once(move, (meter, 10 * MB))
            assert took[meter] == pytest.approx(seconds, rel=0.05)
    bandwidth.reconfigure(Rates(**{name: 1}))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(move, meter, 10 * MB)
        await trio.sleep(5)
        began = trio.current_time()
        bandwidth.reconfigure(Rates(**{name: MB}))
    assert trio.current_time() - began == pytest.approx(10, rel=0.05)


async def test_the_same_limits_again_are_no_new_allowance(autojump_clock: MockClock) -> None:
    rates = Rates(upload=MB, upload_per_peer=MB)
    bandwidth = Bandwidth(rates)
    meter = bandwidth.meter("a", ECHO)
    began = trio.current_time()
    for _ in range(100):
        bandwidth.reconfigure(replace(rates))
        await send(meter, 100_000)
    assert trio.current_time() - began == pytest.approx(10, rel=0.05)


async def test_new_streams_are_no_new_allowance(autojump_clock: MockClock) -> None:
    bandwidth = Bandwidth(Rates(upload_per_peer=MB, download_per_peer=MB))
    for move in (send, receive):
        began = trio.current_time()
        for _ in range(100):
            meter = bandwidth.meter("a", ECHO)
            await move(meter, 100_000)
            meter.close()
            meter.close()
        assert trio.current_time() - began == pytest.approx(10, rel=0.05)


async def test_who_gives_up_waiting_has_paid_nothing(autojump_clock: MockClock) -> None:
    bandwidth = Bandwidth(Rates(upload=MB))
    meters = [bandwidth.meter(peer, ECHO) for peer in "abcd"]
    began = trio.current_time()
    for _ in range(100):
        with trio.move_on_after(0.001):
            await all_at_once(send, *((meter, 10 * KIB) for meter in meters))
    sent = bandwidth.traffic[ECHO, "sent"]
    await send(meters[0], 10 * MB - sent)
    assert trio.current_time() - began == pytest.approx(10, rel=0.05)


async def test_what_may_be_sent_stays_so_until_it_is_sent(autojump_clock: MockClock) -> None:
    meter = Bandwidth(Rates(upload=MB)).meter("a", ECHO)
    paid = await meter.pay(MB)
    assert SMALLEST_SLICE <= paid <= LARGEST_SLICE
    began = trio.current_time()
    assert [await meter.pay(MB), await meter.pay(10)] == [paid, 10]
    assert trio.current_time() == began


async def test_for_who_stands_for_many_only_the_total_counts(autojump_clock: MockClock) -> None:
    bandwidth = Bandwidth(Rates(upload=MB, upload_per_peer=1_000))
    proxy, other = bandwidth.meter("proxy", ECHO, is_many=True), bandwidth.meter("other", ECHO)
    took = await all_at_once(send, (proxy, 10 * MB), (other, 10_000))
    assert took[proxy] == pytest.approx(10, rel=0.05)
    assert took[other] == pytest.approx(10, abs=2 * SMALLEST_SLICE / 1_000 + 1)


async def test_budgets_of_strangers_do_not_pile_up() -> None:
    bandwidth = Bandwidth(Rates(upload_per_peer=MB))
    kept = bandwidth.meter("kept", ECHO)
    await send(kept, 10)
    for number in range(3 * KNOWN_PEERS):
        bandwidth.meter(f"stranger {number}", ECHO)
    assert len(bandwidth._up._accounts) <= KNOWN_PEERS + 1
    assert bandwidth.meter("kept", ECHO)._sender is kept._sender


@pytest.mark.parametrize("name", ["upload", "download", "upload_per_peer", "download_per_peer"])
def test_a_limit_that_lets_nothing_through_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="nothing through"):
        Rates(**{name: 0})


def test_bytes_are_counted_by_peer_and_whoever_is_forgotten_is_summed_up() -> None:
    traffic = Traffic()
    for number in range(REMEMBERED_PEERS + 3):
        traffic.count(f"peer {number}", ECHO, "sent", 1)
        traffic.count("steady", ECHO, "received", 2)
    by_peer = traffic.by_peer()
    assert by_peer["steady"] == {(ECHO, "received"): 2 * (REMEMBERED_PEERS + 3)}
    assert by_peer[OTHERS] == {(ECHO, "sent"): 4}
    assert len(by_peer) == REMEMBERED_PEERS + 1
    assert sum(by_peer.values(), Counter()) == traffic


# -- on streams


@pytest.fixture
def memory_lab(nursery: trio.Nursery) -> Lab:
    return Lab("memory", nursery)


async def test_two_connections_of_a_peer_have_one_budget(autojump_clock: MockClock, memory_lab: Lab) -> None:
    server = await memory_lab.node(bandwidth=Bandwidth(Rates(upload_per_peer=MB)))
    server.handle(ECHO, lambda stream: stream.write(bytes(4 * MB)))
    twins = await memory_lab.twins()
    other = await memory_lab.node()
    took: dict[str, float] = {}

    async def fetch(client: Transport) -> None:
        await read_all(await client.open_stream(await client.dial(server.addresses()[0]), ECHO))
        took[client.peer_id] = trio.current_time() - began

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for client in (*twins, other):
            nursery.start_soon(fetch, client)
    assert took == pytest.approx({twins[0].peer_id: 8, other.peer_id: 4}, rel=0.05)


@pytest.mark.parametrize("whole", [False, True])
async def test_who_sends_faster_than_we_read_is_pushed_back_and_nothing_is_lost(
    autojump_clock: MockClock, memory_lab: Lab, whole: bool
) -> None:
    reader = await memory_lab.node(bandwidth=Bandwidth(Rates(download=100_000)))
    writer = await memory_lab.node()
    sent, written = bytes(range(250)) * 8000, 0

    async def write_all(stream: Stream) -> None:
        nonlocal written
        for offset in range(0, len(sent), 10_000):
            await stream.write(sent[offset : offset + 10_000])
            written += 10_000

    writer.handle(ECHO, write_all)
    await reader.dial(writer.addresses()[0])
    stream = await reader.open_stream(connection_with(reader, writer), ECHO)
    began = trio.current_time()
    received = bytearray(len(sent))
    if whole:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.read_into, memoryview(received), len(received))
            await trio.sleep(10)
            assert stream.held_back
            assert written < MB + 2 * WINDOW
    else:
        received[:] = await read_all(stream)
    assert trio.current_time() - began == pytest.approx(20, rel=0.05)
    assert received == sent
    assert not stream.held_back


async def test_a_read_that_is_cancelled_while_it_waits_loses_nothing(
    autojump_clock: MockClock, memory_lab: Lab
) -> None:
    reader = await memory_lab.node(bandwidth=Bandwidth(Rates(download=10_000)))
    writer = await memory_lab.node()
    sent = bytes(range(250)) * 400
    writer.handle(ECHO, lambda stream: stream.write(sent))
    stream = await reader.open_stream(await reader.dial(writer.addresses()[0]), ECHO)
    received, cancelled = bytearray(), 0
    while len(received) < len(sent):
        with trio.move_on_after(0.05) as scope:
            received += await stream.read(1 << 20)
        cancelled += scope.cancelled_caught
    assert received == sent
    assert cancelled > 10


async def test_gossip_is_counted_and_paid_but_never_waits(autojump_clock: MockClock, memory_lab: Lab) -> None:
    bandwidth = Bandwidth(Rates(upload=1_000, download=1_000))
    a, b = await memory_lab.node(bandwidth=bandwidth), await memory_lab.node()
    heard = trio.Event()

    async def validator(_peer_id: str, _payload: bytes) -> Forwarding:
        heard.set()
        return Forwarding.ACCEPT

    for node in (a, b):
        await node.subscribe("topic", validator)
    await a.dial(b.addresses()[0])
    began = trio.current_time()
    await a.publish("topic", bytes(50_000))
    await b.publish("topic", b"!" * 50_000)
    await heard.wait()
    assert trio.current_time() == began
    await trio.testing.wait_all_tasks_blocked()
    assert bandwidth.traffic == {("gossip", "sent"): 50_000, ("gossip", "received"): 50_000}
    assert bandwidth.traffic.by_peer() == {b.peer_id: {("gossip", "received"): 50_000}}
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for move in (send, receive):

            async def pay(move: Move = move) -> None:
                meter = bandwidth.meter("other", ECHO)
                await move(meter, 1_000)
                await move(meter, 1_000)  # what was received is paid when more is read
                assert trio.current_time() - began > 30

            nursery.start_soon(pay)
