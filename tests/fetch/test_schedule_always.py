"""What holds of the asking side in a swarm whatever peers do and say."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pboot.core.pieces import KIB, PieceSet
from p2pboot.fetch.receiving.missing import Assignment, Order
from p2pboot.fetch.receiving.schedule import MAX_COPIES, Schedule

BLOB = "a" * 64
PIECE = 64 * KIB
BUDGET = 32 * PIECE


class _Swarm:
    def __init__(self, count: int) -> None:
        self.count = count
        self.schedule = Schedule(Random(1), BUDGET)
        self.schedule.set_self("me")
        self.schedule.add_blob(BLOB, size=count * PIECE, piece_length=PIECE, missing=PieceSet.full(count))
        self.now = 0.0
        self.peers: list[int] = []
        self.silent: set[int] = set()
        self.open: list[Assignment] = []
        self.orders: list[Order] = []
        self.stored: Counter[int] = Counter()
        self.joined = 0

    def join(self, held: set[int], *, near: bool = True) -> None:
        self.joined += 1
        self.peers.append(self.joined)
        self.schedule.add_peer(self.joined, self.now, swarm=True, near=near, peer_id=f"p{self.joined}")
        self.schedule.set_holdings(self.joined, BLOB, PieceSet.of(self.count, held))

    def step(self, data: st.DataObject) -> None:
        self.now += data.draw(st.sampled_from([0.0, 0.01, 0.3, 3.0]))
        draw = data.draw
        runs = st.integers(0, self.count - 1).map(lambda index: [range(index, index + 1)])
        action = draw(
            st.sampled_from(["join", "leave", "silence", "news", "arrive", "arrive", "deal", "deal"])
        )
        if action == "join":
            everything = set(range(self.count))
            some = draw(st.sets(st.integers(0, self.count - 1)))
            self.join(everything if draw(st.booleans()) else some, near=draw(st.booleans()))
        elif action == "arrive" and self.open:
            assignment = self.open.pop(draw(st.integers(0, len(self.open) - 1)))
            self.end(assignment, draw(st.sampled_from(["good", "bad", "failed", "lacks"])))
        elif action == "deal" and self.orders:
            self.answer(self.orders.pop(draw(st.integers(0, len(self.orders) - 1))), data)
        elif self.peers:
            peer = draw(st.sampled_from(self.peers))
            if action == "leave":
                self.peers.remove(peer)
                draw(st.sampled_from([self.schedule.drop, lambda _: None]))(peer)
                self.schedule.remove_peer(peer)
            elif action == "silence":
                self.schedule.silence(peer)
                self.silent.add(peer)
            elif action == "news":
                self.schedule.note_changes(peer, BLOB, draw(runs), draw(runs), draw(runs))
        self.pump()

    def answer(self, order: Order, data: st.DataObject) -> None:
        if data.draw(st.booleans()):
            self.schedule.deal_refused(order, 0.3, self.now)
            return
        first = data.draw(st.integers(0, self.count - 1))
        assignment = self.schedule.dealt(order, first, 1, self.now)
        if assignment is not None:
            self.open.append(assignment)

    def end(self, assignment: Assignment, how: str) -> None:
        if how in ("failed", "lacks"):
            getattr(self.schedule, how)(assignment)
            return
        self.silent.discard(assignment.source)
        claimed = self.schedule.arrived(assignment, self.now)
        stored = claimed if how == "good" else ()
        self.stored.update(stored)
        self.schedule.settle(assignment, stored)

    def pump(self) -> None:
        for peer in self.peers:
            self.orders += self.schedule.deals(peer, self.now)
            on_their_way = {
                index
                for assignment in self.open
                if assignment.source in self.peers and assignment.source not in self.silent
                for index in assignment.pieces
            }
            for assignment in self.schedule.assign(peer, self.now):
                assert peer not in self.silent
                assert assignment.copy == bool(on_their_way & set(assignment.pieces))
                self.open.append(assignment)
        copies = (assignment.copy for assignment in self.open if assignment.source in self.peers)
        assert sum(copies) <= MAX_COPIES
        assert self.schedule.silent_bytes >= 0
        assert self.schedule.live_bytes >= 0


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_every_piece_is_stored_once_and_an_honest_holder_ends_it(data: st.DataObject) -> None:
    swarm = _Swarm(data.draw(st.integers(1, 16)))
    for _ in range(data.draw(st.integers(0, 40))):
        swarm.step(data)
    for peer in swarm.peers:
        swarm.schedule.remove_peer(peer)
    swarm.peers.clear()
    swarm.orders.clear()
    swarm.open.clear()
    assert swarm.schedule.live_bytes == swarm.schedule.silent_bytes == 0
    assert not swarm.schedule.fetching(BLOB)
    swarm.join(set(range(swarm.count)))
    source = swarm.joined
    while not swarm.schedule.complete(BLOB):
        swarm.now += 1.0
        (order, *_others) = swarm.schedule.deals(source, swarm.now)
        first = order.want[0].start
        assignment = swarm.schedule.dealt(order, first, 1, swarm.now)
        assert assignment is not None
        swarm.end(assignment, "good")
        for other in _others:
            swarm.schedule.deal_refused(other, 0.0, swarm.now)
    assert swarm.stored == Counter(range(swarm.count))
