from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pboot.core.pieces import KIB, MIB, PieceSet
from p2pboot.fetch.receiving.backlog import FIRST_GROUP_BYTES, GROUP_BYTES, MAX_ASSIGNMENTS, MAX_WINDOW
from p2pboot.fetch.receiving.missing import Assignment
from p2pboot.fetch.receiving.schedule import Schedule
from tests.fetch.proving import prove

BLOB = "a" * 64


def schedule_of(count: int, *, piece_length: int = MIB, budget_bytes: int = 32 * MIB) -> Schedule:
    schedule = Schedule(Random(1), budget_bytes)
    schedule.add_blob(
        BLOB, size=count * piece_length, piece_length=piece_length, missing=PieceSet.full(count)
    )
    return schedule


def join(schedule: Schedule, peer_id: str, pieces: PieceSet, now: float = 0.0) -> None:
    schedule.add_peer(peer_id, now, swarm=False)
    prove(schedule, peer_id, now)
    schedule.set_holdings(peer_id, BLOB, pieces)


def deliver(schedule: Schedule, assignment: Assignment, now: float) -> tuple[int, ...]:
    claimed = schedule.arrived(assignment, now)
    schedule.settle(assignment, claimed)
    return claimed


def pieces_of(assignments: list[Assignment]) -> list[int]:
    return [index for assignment in assignments for index in assignment.pieces]


def test_a_peer_that_has_given_something_good_is_asked_for_two_requests_in_order() -> None:
    schedule = schedule_of(8)
    join(schedule, "a", PieceSet.full(8))
    assert pieces_of(schedule.assign("a", 0.0)) == [0, 1]
    assert schedule.assign("a", 0.0) == []


def test_a_peer_that_has_given_nothing_good_is_asked_for_one_piece_until_it_is_checked() -> None:
    schedule = schedule_of(8, piece_length=64 * KIB)
    schedule.add_peer("a", 0.0, swarm=False)
    schedule.set_holdings("a", BLOB, PieceSet.full(8))
    (first,) = schedule.assign("a", 0.0)
    assert schedule.assign("a", 0.0) == []
    assert schedule.arrived(first, 0.1) == (0,)
    assert schedule.assign("a", 0.1) == []
    schedule.settle(first, ())
    (again,) = schedule.assign("a", 0.2)
    assert len(again.pieces) == 1
    schedule.settle(again, schedule.arrived(again, 0.3))
    assert len(pieces_of(schedule.assign("a", 0.3))) == 7


def test_small_pieces_are_asked_for_in_runs_that_stop_at_what_the_peer_lacks() -> None:
    schedule = schedule_of(64, piece_length=64 * KIB)
    join(schedule, "a", PieceSet.full(64) - PieceSet.of(64, [5]))
    first, second = schedule.assign("a", 0.0)
    assert list(first.pieces) == list(range(5))
    assert list(second.pieces) == list(range(6, 22))
    assert second.length == FIRST_GROUP_BYTES
    assert second.offset == 6 * 64 * KIB


def test_the_last_piece_may_be_shorter() -> None:
    schedule = Schedule(Random(1))
    schedule.add_blob(BLOB, size=MIB + 7, piece_length=MIB, missing=PieceSet.full(2))
    join(schedule, "a", PieceSet.full(2))
    assert [assignment.length for assignment in schedule.assign("a", 0.0)] == [MIB, 7]


def test_the_window_grows_with_the_rate_and_is_bounded() -> None:
    schedule = schedule_of(200)
    join(schedule, "a", PieceSet.full(200))
    open_requests = schedule.assign("a", 0.0)
    now = 0.0
    for _ in range(30):
        now += 0.1  # 10 MiB/s: the window is the largest
        deliver(schedule, open_requests.pop(0), now)
        open_requests += schedule.assign("a", now)
    assert schedule.asked_bytes("a") == MAX_WINDOW
    assert len(open_requests) <= MAX_ASSIGNMENTS


@pytest.mark.parametrize(("mib_per_s", "expected"), [(16, GROUP_BYTES), (1, MIB // 2)])
def test_a_peer_that_is_quick_is_asked_for_longer_runs(mib_per_s: int, expected: int) -> None:
    schedule = schedule_of(64, piece_length=64 * KIB)
    join(schedule, "a", PieceSet.full(64))
    first, second = schedule.assign("a", 0.0)
    deliver(schedule, first, 1 / mib_per_s)
    deliver(schedule, second, 2 / mib_per_s)
    assert schedule.assign("a", 2.0)[0].length == expected


def test_a_very_slow_peer_gets_one_request_at_a_time() -> None:
    schedule = schedule_of(20)
    join(schedule, "a", PieceSet.full(20))
    first, second = schedule.assign("a", 0.0)
    deliver(schedule, first, 20.0)
    assert schedule.assign("a", 20.0) == []
    deliver(schedule, second, 40.0)
    assert len(schedule.assign("a", 40.0)) == 1


def test_two_peers_share_the_pieces() -> None:
    schedule = schedule_of(8)
    join(schedule, "a", PieceSet.full(8))
    join(schedule, "b", PieceSet.full(8))
    asked = schedule.assign("a", 0.0) + schedule.assign("b", 0.0)
    assert sorted(pieces_of(asked)) == [0, 1, 2, 3]


def test_the_rarest_of_the_next_pieces_goes_first() -> None:
    schedule = schedule_of(8)
    join(schedule, "seed", PieceSet.full(8))
    join(schedule, "partial", PieceSet.of(8, [0, 1, 2]))
    assert pieces_of(schedule.assign("seed", 0.0)) == [3, 4]
    assert pieces_of(schedule.assign("partial", 0.0)) == [0, 1]


def test_a_removed_peers_pieces_are_free_at_once() -> None:
    schedule = schedule_of(2)
    join(schedule, "a", PieceSet.full(2))
    join(schedule, "b", PieceSet.full(2))
    lost = schedule.assign("a", 0.0)
    schedule.remove_peer("a")
    assert pieces_of(schedule.assign("b", 0.0)) == [0, 1]
    assert schedule.arrived(lost[0], 0.0) == ()


def test_a_silent_peers_pieces_go_to_others_and_the_first_copy_counts() -> None:
    schedule = schedule_of(2)
    join(schedule, "a", PieceSet.full(2))
    late = schedule.assign("a", 0.0)
    schedule.silence("a")
    assert schedule.live_bytes == 0
    assert schedule.silent_bytes == 2 * MIB
    assert schedule.assign("a", 5.0) == []
    join(schedule, "b", PieceSet.full(2))
    again = schedule.assign("b", 5.0)
    assert pieces_of(again) == [0, 1]
    assert deliver(schedule, late[0], 6.0) == (0,)
    assert deliver(schedule, again[0], 6.0) == ()
    assert deliver(schedule, again[1], 6.0) == (1,)
    assert schedule.complete(BLOB)


def test_a_piece_being_checked_is_not_asked_for_again_until_the_check_fails() -> None:
    schedule = schedule_of(1)
    join(schedule, "a", PieceSet.full(1))
    join(schedule, "b", PieceSet.full(1))
    assignment = schedule.assign("a", 0.0)[0]
    assert schedule.arrived(assignment, 0.1) == (0,)
    assert schedule.assign("b", 0.1) == []
    assert not schedule.complete(BLOB)
    schedule.settle(assignment, ())
    assert pieces_of(schedule.assign("b", 0.2)) == [0]


def test_at_the_end_an_idle_peer_copies_what_the_slowest_would_deliver_last() -> None:
    schedule = schedule_of(4)
    join(schedule, "slow", PieceSet.full(4))
    join(schedule, "quick", PieceSet.full(4))
    slow = schedule.assign("slow", 0.0)
    for assignment in schedule.assign("quick", 0.0):
        deliver(schedule, assignment, 0.1)
    assert schedule.assign("quick", 0.2) == []  # it may still be on its way
    assert pieces_of(schedule.assign("quick", 1.0)) == pieces_of(slow)
    assert schedule.assign("quick", 1.0) == []  # not a third copy


def test_an_idle_peer_that_would_be_later_copies_nothing() -> None:
    schedule = schedule_of(5)
    join(schedule, "slow", PieceSet.full(5))
    join(schedule, "quick", PieceSet.full(5))
    slow = schedule.assign("slow", 0.0)
    quick = schedule.assign("quick", 0.0)
    deliver(schedule, slow[0], 3.0)
    deliver(schedule, slow[1], 4.0)
    deliver(schedule, quick[0], 4.0)
    schedule.assign("quick", 4.0)
    deliver(schedule, quick[1], 4.25)
    assert schedule.assign("slow", 4.25) == []


def test_what_a_peer_lacks_is_not_asked_of_it_again() -> None:
    schedule = schedule_of(1)
    join(schedule, "a", PieceSet.full(1))
    schedule.lacks(schedule.assign("a", 0.0)[0])
    assert schedule.assign("a", 0.0) == []
    assert not schedule.useful("a", BLOB)


def test_a_busy_peer_is_left_alone_for_a_while() -> None:
    schedule = schedule_of(1)
    join(schedule, "a", PieceSet.full(1))
    schedule.failed(schedule.assign("a", 0.0)[0])
    schedule.pause("a", until=1.0)
    assert schedule.assign("a", 0.9) == []
    assert pieces_of(schedule.assign("a", 1.0)) == [0]


def test_an_idle_peer_takes_from_the_next_artifact() -> None:
    schedule = schedule_of(1)
    other = "b" * 64
    schedule.add_blob(other, size=MIB, piece_length=MIB, missing=PieceSet.full(1))
    join(schedule, "a", PieceSet.full(1))
    schedule.set_holdings("a", other, PieceSet.full(1))
    assert [assignment.blob for assignment in schedule.assign("a", 0.0)] == [BLOB, other]


def test_what_arrives_of_a_removed_artifact_is_not_wanted() -> None:
    schedule = schedule_of(1)
    join(schedule, "a", PieceSet.full(1))
    assignment = schedule.assign("a", 0.0)[0]
    schedule.remove_blob(BLOB)
    assert deliver(schedule, assignment, 0.1) == ()
    assert schedule.live_bytes == 0


@pytest.mark.parametrize("budget_mib", [2, 5])
def test_the_budget_bounds_all_peers_together(budget_mib: int) -> None:
    schedule = schedule_of(50, budget_bytes=budget_mib * MIB)
    for number in range(6):
        join(schedule, f"peer{number}", PieceSet.full(50))
    for number in range(6):
        schedule.assign(f"peer{number}", 0.0)
    assert schedule.live_bytes == budget_mib * MIB


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_every_piece_is_stored_once_whatever_happens(data: st.DataObject) -> None:
    """Random peers, holdings, losses, silences, bad pieces and orders; then one honest whole peer ends it."""
    count = data.draw(st.integers(1, 24), label="pieces")
    piece_length = data.draw(st.sampled_from([64 * KIB, MIB, 2 * MIB]), label="piece length")
    budget = data.draw(st.sampled_from([2 * MIB, 5 * MIB, 32 * MIB]), label="budget")
    schedule = schedule_of(count, piece_length=piece_length, budget_bytes=budget)
    world = _World(schedule, budget)
    for _ in range(data.draw(st.integers(0, 60), label="steps")):
        world.step(data)
    world.end_honestly(count)
    assert world.stored == Counter(range(count))
    assert schedule.complete(BLOB)


class _World:
    """Does to a schedule what peers could do, and checks the budget after every step."""

    def __init__(self, schedule: Schedule, budget: int) -> None:
        self.schedule = schedule
        self.budget = budget
        self.now = 0.0
        self.peers: list[str] = []
        self.silent: set[str] = set()
        self.open: list[Assignment] = []
        self.checking: list[tuple[Assignment, tuple[int, ...]]] = []
        self.stored: Counter[int] = Counter()
        self.woken = 0
        self.arrivals = 0

    def step(self, data: st.DataObject) -> None:
        self.now += data.draw(st.sampled_from([0.0, 0.01, 0.3, 3.0]))
        action = data.draw(
            st.sampled_from(["join", "leave", "silence", "arrive", "arrive", "check", "fail", "lacks"])
        )
        if action == "join":
            self.join(data)
        elif action in ("leave", "silence") and self.peers:
            peer_id = data.draw(st.sampled_from(self.peers))
            getattr(self, action)(peer_id)
        elif action in ("arrive", "fail", "lacks") and self.open:
            assignment = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
            getattr(self, action)(assignment)
        elif action == "check" and self.checking:
            entry = self.checking.pop(data.draw(st.integers(0, len(self.checking) - 1)))
            self.settle(entry, data.draw(st.integers(0, len(entry[1]))))
        self.pump()

    def join(self, data: st.DataObject) -> None:
        self.arrivals += 1
        peer_id = f"peer{self.arrivals}"
        self.peers.append(peer_id)
        self.schedule.add_peer(peer_id, self.now, swarm=False)
        count = self.schedule._demands[BLOB].count
        held = data.draw(st.sets(st.integers(0, count - 1)))
        self.schedule.set_holdings(peer_id, BLOB, PieceSet.of(count, held))

    def leave(self, peer_id: str) -> None:
        self.peers.remove(peer_id)
        self.schedule.remove_peer(peer_id)

    def silence(self, peer_id: str) -> None:
        self.schedule.silence(peer_id)
        self.silent.add(peer_id)

    def arrive(self, assignment: Assignment) -> None:
        if assignment.source in self.silent:
            self.silent.discard(assignment.source)
            if assignment.source in self.peers:
                self.woken += self.schedule.asked_bytes(assignment.source)
        self.checking.append((assignment, self.schedule.arrived(assignment, self.now)))

    def fail(self, assignment: Assignment) -> None:
        self.schedule.failed(assignment)

    def lacks(self, assignment: Assignment) -> None:
        self.schedule.lacks(assignment)

    def settle(self, entry: tuple[Assignment, tuple[int, ...]], good: int) -> None:
        assignment, claimed = entry
        self.stored.update(claimed[:good])
        self.schedule.settle(assignment, claimed[:good])

    def pump(self) -> None:
        for peer_id in self.peers:
            assignments = self.schedule.assign(peer_id, self.now)
            assert not (assignments and peer_id in self.silent)
            self.open += assignments
        assert 0 <= self.schedule.live_bytes <= self.budget + self.woken
        assert self.schedule.silent_bytes >= 0

    def end_honestly(self, count: int) -> None:
        for peer_id in list(self.peers):
            self.leave(peer_id)
        while self.checking:
            entry = self.checking.pop()
            self.settle(entry, len(entry[1]))
        self.open.clear()
        assert self.schedule.live_bytes == 0
        join(self.schedule, "honest", PieceSet.full(count), self.now)
        for _ in range(count + 1):
            for assignment in self.schedule.assign("honest", self.now):
                claimed = self.schedule.arrived(assignment, self.now)
                assert set(claimed) == set(assignment.pieces)
                self.stored.update(claimed)
                self.schedule.settle(assignment, claimed)


def test_artifacts_of_a_lower_rank_go_first() -> None:
    schedule = Schedule(Random(1))
    for rank, blob in ((2, "c" * 64), (0, "a" * 64), (1, "b" * 64)):
        schedule.add_blob(blob, size=MIB, piece_length=MIB, missing=PieceSet.full(1), rank=rank)
    schedule.add_peer("peer", 0.0, swarm=False)
    prove(schedule, "peer")
    for blob in ("a" * 64, "b" * 64, "c" * 64):
        schedule.set_holdings("peer", blob, PieceSet.full(1))
    assert [assignment.blob for assignment in schedule.assign("peer", 0.0)] == ["a" * 64, "b" * 64]
