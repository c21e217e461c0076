"""What a fetch asks of peers that speak the swarm's protocol."""

from __future__ import annotations

from random import Random

import pytest

from p2pboot.core.pieces import KIB, PieceSet
from p2pboot.fetch.receiving.backlog import GROUP_BYTES, MAX_WINDOW
from p2pboot.fetch.receiving.missing import Assignment, Order
from p2pboot.fetch.receiving.schedule import (
    ANSWERED_S,
    MAX_COPIES,
    MAX_RUNS,
    MAX_USELESS,
    Schedule,
)
from tests.fetch.proving import prove

BLOB = "a" * 64
PIECE = 64 * KIB


def schedule_of(count: int, *, seed: int = 1, me: str = "me", missing: PieceSet | None = None) -> Schedule:
    schedule = Schedule(Random(seed))
    schedule.set_self(me)
    schedule.add_blob(
        BLOB,
        size=count * PIECE,
        piece_length=PIECE,
        missing=PieceSet.full(count) if missing is None else missing,
    )
    return schedule


def join(schedule: Schedule, name: str, held: PieceSet, *, near: bool = True, proved: bool = True) -> None:
    schedule.add_peer(name, 0.0, swarm=True, near=near, peer_id=name)
    if proved:
        prove(schedule, name)
    schedule.set_holdings(name, BLOB, held)


def some(count: int, *pieces: int) -> PieceSet:
    return PieceSet.of(count, pieces)


def asked(assignments: list[Assignment]) -> list[int]:
    return [index for assignment in assignments for index in assignment.pieces]


def wanted(order: Order) -> set[int]:
    return {index for run in order.want for index in run}


def test_the_rarest_piece_that_a_peer_has_is_asked_for_first() -> None:
    schedule = schedule_of(100)
    join(schedule, "one", PieceSet.full(100) - some(100, 3))
    join(schedule, "two", PieceSet.full(100) - some(100, 40, 3))
    join(schedule, "three", PieceSet.full(100) - some(100, 40))
    assert set(asked(schedule.assign("one", 0.0))) >= {40}
    assert set(asked(schedule.assign("three", 0.0))) >= {3}


def test_clients_begin_with_different_pieces_where_all_are_as_rare() -> None:
    first = set()
    for seed in range(8):
        schedule = schedule_of(1000, seed=seed)
        join(schedule, "peer", PieceSet.full(1000) - some(1000, 999))
        first.add(asked(schedule.assign("peer", 0.0))[0])
    assert len(first) == 8


def test_it_begins_anywhere_among_what_is_left_and_not_with_the_first_of_it() -> None:
    first = set()
    for seed in range(8):
        schedule = schedule_of(1000, seed=seed, missing=PieceSet.of(1000, range(40)))
        join(schedule, "peer", PieceSet.full(1000) - some(1000, 999))
        first.add(asked(schedule.assign("peer", 0.0))[0])
    assert len(first) > 4


def test_of_a_few_that_are_left_those_about_to_be_dealt_are_asked_of_nobody_for_a_moment() -> None:
    schedule = schedule_of(100, missing=some(100, 7, 8, 9))
    join(schedule, "whole", PieceSet.full(100))
    join(schedule, "most", PieceSet.full(100) - some(100, 99))
    assert len(schedule.deals("whole", 0.0)) == 2
    assert asked(schedule.assign("most", 0.0)) == [9]
    assert asked(schedule.assign("most", ANSWERED_S)) != []


def test_two_requests_of_one_piece_are_outstanding_with_a_peer_whose_rate_is_not_known() -> None:
    schedule = schedule_of(100)
    join(schedule, "peer", PieceSet.full(100) - some(100, 0))
    first, second = schedule.assign("peer", 0.0)
    assert len(first.pieces) == len(second.pieces) == 1
    assert schedule.assign("peer", 0.0) == []


def test_a_piece_on_its_way_is_asked_of_nobody_else() -> None:
    schedule = schedule_of(4)
    for name in ("a", "b", "c"):
        join(schedule, name, some(4, 0, 1, 2))
    pieces = [index for name in ("a", "b", "c") for index in asked(schedule.assign(name, 0.0))]
    assert sorted(pieces) == [0, 1, 2]


def test_a_quick_peer_is_asked_for_long_runs() -> None:
    schedule = schedule_of(1024)
    join(schedule, "quick", PieceSet.full(1024) - some(1024, 1023))
    join(schedule, "other", some(1024, 0))
    now, open_ = 0.0, schedule.assign("quick", 0.0)
    for _ in range(12):
        now += 0.002
        schedule.settle(open_[0], schedule.arrived(open_.pop(0), now))
        open_ += schedule.assign("quick", now)
    assert max(assignment.length for assignment in open_) == GROUP_BYTES
    assert schedule.asked_bytes("quick") <= MAX_WINDOW


def test_a_peer_that_has_everything_is_sent_two_orders_and_asked_for_nothing_particular() -> None:
    schedule = schedule_of(10)
    join(schedule, "whole", PieceSet.full(10))
    assert schedule.assign("whole", 0.0) == []
    orders = schedule.deals("whole", 0.0)
    assert [order.max_pieces for order in orders] == [1, 1]
    assert wanted(orders[0]) == set(range(10))
    assert schedule.deals("whole", 0.0) == []


def test_a_peer_that_has_not_everything_is_sent_no_order() -> None:
    schedule = schedule_of(10)
    join(schedule, "most", PieceSet.full(10) - some(10, 9))
    assert schedule.deals("most", 0.0) == []


def test_what_is_dealt_is_asked_of_nobody_else_and_told_to_others() -> None:
    schedule = schedule_of(2)
    join(schedule, "whole", PieceSet.full(2))
    join(schedule, "half", some(2, 1))
    order, _ = schedule.deals("whole", 0.0)
    assignment = schedule.dealt(order, 1, 1, 0.1)
    assert assignment is not None
    assert schedule.assign("half", 0.1) == []
    assert schedule.fetching(BLOB) == some(2, 1)
    schedule.settle(assignment, schedule.arrived(assignment, 0.2))
    assert schedule.fetching(BLOB) == some(2)


def test_a_deal_that_is_not_wanted_any_more_is_read_past_and_the_next_is_ordered() -> None:
    schedule = schedule_of(10, missing=PieceSet.full(10) - some(10, 4))
    join(schedule, "whole", PieceSet.full(10))
    order = schedule.deals("whole", 0.0)[0]
    assert schedule.dealt(order, 4, 1, 0.1) is None
    assert len(schedule.deals("whole", 0.1)) == 1


def test_no_more_is_ordered_than_is_free() -> None:
    schedule = schedule_of(1)
    join(schedule, "whole", PieceSet.full(1))
    join(schedule, "another", PieceSet.full(1))
    assert len(schedule.deals("whole", 0.0)) == 1
    assert schedule.deals("another", 0.0) == []


def test_a_refused_deal_is_asked_for_again_when_the_peer_said() -> None:
    schedule = schedule_of(10)
    join(schedule, "whole", PieceSet.full(10))
    schedule.deal_refused(schedule.deals("whole", 0.0)[0], 0.3, 1.0)
    assert schedule.deals("whole", 1.2) == []
    assert len(schedule.deals("whole", 1.3)) == 1


def test_two_that_have_everything_are_ordered_different_pieces_from() -> None:
    schedule = schedule_of(100)
    join(schedule, "a", PieceSet.full(100))
    join(schedule, "b", PieceSet.full(100))
    assert wanted(schedule.deals("a", 0.0)[0]) == set(range(50))
    assert wanted(schedule.deals("b", 0.0)[0]) == set(range(50, 100))


def test_one_that_has_nothing_left_of_its_part_helps_another_at_the_end_of_its() -> None:
    schedule = schedule_of(90, missing=PieceSet.of(90, range(60, 90)))
    for name in ("a", "b", "c"):
        join(schedule, name, PieceSet.full(90))
    want = {name: wanted(schedule.deals(name, 0.0)[0]) for name in ("a", "b", "c")}
    assert want == {"a": set(range(70, 80)), "b": set(range(80, 90)), "c": set(range(60, 90))}


def test_the_last_piece_of_another_is_worth_helping_with() -> None:
    schedule = schedule_of(90, missing=some(90, 89))
    join(schedule, "a", PieceSet.full(90))
    join(schedule, "b", PieceSet.full(90))
    assert wanted(schedule.deals("a", 0.0)[0]) == {89}


def test_an_order_leaves_out_what_others_fetch_already() -> None:
    schedule = schedule_of(10)
    join(schedule, "whole", PieceSet.full(10))
    join(schedule, "client", some(10))
    schedule.note_changes("client", BLOB, held=[], fetching=[range(2, 5)], not_fetching=[])
    first, second = schedule.deals("whole", 0.0)
    assert wanted(first) == wanted(second) == set(range(10)) - {2, 3, 4}
    schedule.deal_refused(first, 0.0, 0.0)
    schedule.note_changes("client", BLOB, held=[range(2, 3)], fetching=[], not_fetching=[range(3, 4)])
    assert wanted(schedule.deals("whole", 0.0)[0]) == set(range(10)) - {4}
    assert asked(schedule.assign("client", 0.0)) == [2]


def test_an_order_wants_at_most_so_many_runs() -> None:
    schedule = schedule_of(1000, missing=PieceSet.of(1000, range(0, 1000, 2)))
    join(schedule, "whole", PieceSet.full(1000))
    assert len(schedule.deals("whole", 0.0)[0].want) == MAX_RUNS


def test_one_that_is_alone_and_quick_is_kept_busy() -> None:
    schedule = schedule_of(8192)
    join(schedule, "whole", PieceSet.full(8192))
    now, first = 0.0, 0
    for _ in range(200):
        for order in schedule.deals("whole", now):
            assignment = schedule.dealt(order, first, order.max_pieces, now)
            assert assignment is not None
            first += order.max_pieces
            now += max(assignment.length / 1e9, 0.0005)
            schedule.settle(assignment, schedule.arrived(assignment, now))
        if first > 4000:
            break
    orders = schedule.deals("whole", now)
    assert sum(order.length for order in orders) == MAX_WINDOW
    assert {order.length for order in orders} == {GROUP_BYTES}


def test_a_dropped_peer_is_asked_for_nothing_and_what_it_owes_is_free() -> None:
    schedule = schedule_of(3)
    join(schedule, "liar", some(3, 0, 1))
    join(schedule, "honest", some(3, 0, 1))
    assert len(schedule.assign("liar", 0.0)) == 2
    schedule.drop("liar")
    assert schedule.assign("liar", 0.0) == []
    assert sorted(asked(schedule.assign("honest", 0.0))) == [0, 1]


def test_at_the_end_a_few_late_pieces_are_asked_for_twice() -> None:
    schedule = schedule_of(40)
    half = PieceSet.of(40, range(39))
    for number in range(20):
        join(schedule, f"slow{number:02}", half)
        schedule.assign(f"slow{number:02}", 0.0)
    join(schedule, "last", some(40, 39))
    schedule.assign("last", 0.1)
    copies: list[Assignment] = []
    for number in range(10):
        join(schedule, f"quick{number}", half)
        copies += schedule.assign(f"quick{number}", 2.0)
    assert all(assignment.copy for assignment in copies)
    assert len(copies) == MAX_COPIES == len(set(asked(copies)))
    schedule.settle(copies[0], schedule.arrived(copies[0], 2.1))
    join(schedule, "another", half)
    assert len(schedule.assign("another", 2.1)) == 1


def test_from_afar_a_piece_is_asked_for_by_one_and_by_the_next_after_a_while() -> None:
    names = [f"peer{number}" for number in range(4)]
    count = 60
    taken: list[set[int]] = []
    later: list[set[int]] = []
    for me in names:
        schedule = schedule_of(count, me=me)
        join(schedule, "far", PieceSet.full(count), near=False)
        for other in names:
            if other != me:
                join(schedule, other, some(count))
        taken.append(wanted(schedule.deals("far", 0.0)[0]))
        schedule.remove_peer("far")
        join(schedule, "far", PieceSet.full(count), near=False)
        later.append(wanted(schedule.deals("far", 2.1)[0]))
    assert set().union(*taken) == set(range(count))
    assert sum(map(len, taken)) == count
    assert all(before < after for before, after in zip(taken, later, strict=True))
    assert sum(map(len, later)) == 2 * count


def test_what_a_near_peer_has_or_fetches_is_not_asked_for_from_afar() -> None:
    schedule = schedule_of(10)
    join(schedule, "far", PieceSet.full(10), near=False)
    join(schedule, "near", PieceSet.of(10, range(10)) - some(10, 9))
    schedule.note_changes("near", BLOB, held=[], fetching=[range(9, 10)], not_fetching=[])
    assert wanted(schedule.deals("far", 0.0)[0]) == set()


def test_a_peer_that_deals_nothing_is_asked_for_particular_pieces() -> None:
    schedule = schedule_of(10)
    join(schedule, "whole", PieceSet.full(10))
    for order in schedule.deals("whole", 0.0):
        schedule.deal_refused(order, 0.0, 0.0)
    schedule.no_deals("whole")
    assert schedule.deals("whole", 0.0) == []
    assert len(schedule.assign("whole", 0.0)) == 2


def test_a_peer_that_got_everything_while_it_was_watched_deals_nothing() -> None:
    schedule = schedule_of(10)
    join(schedule, "client", PieceSet.full(10) - some(10, 3))
    schedule.note_changes("client", BLOB, held=[range(3, 4)], fetching=[], not_fetching=[])
    assert schedule.deals("client", 0.0) == []
    assert len(schedule.assign("client", 0.0)) == 2


def test_an_order_names_first_what_nobody_else_has() -> None:
    schedule = schedule_of(1000, missing=PieceSet.of(1000, [*range(0, 800, 2), *range(900, 1000)]))
    join(schedule, "whole", PieceSet.full(1000))
    join(schedule, "client", PieceSet.of(1000, range(900)))
    want = schedule.deals("whole", 0.0)[0].want
    assert want[0] == range(900, 1000)
    assert len(want) == MAX_RUNS


def test_who_does_not_answer_orders_does_not_keep_others_from_getting_them() -> None:
    schedule = schedule_of(2)
    join(schedule, "mute", PieceSet.full(2))
    join(schedule, "whole", PieceSet.full(2))
    assert len(schedule.deals("mute", 0.0)) == 2
    assert schedule.deals("whole", 0.0) == []
    assert len(schedule.deals("whole", 0.6)) == 2


@pytest.mark.parametrize("is_whole", [True, False])
def test_one_that_has_given_nothing_good_yet_is_asked_for_one_piece_until_it_is_checked(
    is_whole: bool,
) -> None:
    def ask(now: float) -> list[Assignment]:
        dealt = (schedule.dealt(order, 7, 1, now) for order in schedule.deals("new", now))
        return [*schedule.assign("new", now), *filter(None, dealt)]

    schedule = schedule_of(1000)
    join(schedule, "new", PieceSet.full(1000) - some(1000, *[0][is_whole:]), proved=False)
    join(schedule, "other", some(1000, 0))
    (first,) = ask(0.0)
    assert len(first.pieces) == 1
    assert ask(0.0) == []
    claimed = schedule.arrived(first, 0.001)
    assert ask(0.001) == []
    schedule.settle(first, claimed)
    assert [len(assignment.pieces) for assignment in schedule.assign("new", 0.001)] == [2] * (
        not is_whole
    ) * 2
    assert [order.max_pieces for order in schedule.deals("new", 0.001)] == [2] * is_whole * 2


def test_who_refuses_at_once_again_and_again_does_not_keep_others_from_getting_orders() -> None:
    schedule = schedule_of(2)
    join(schedule, "liar", PieceSet.full(2))
    join(schedule, "whole", PieceSet.full(2))
    first, second = schedule.deals("liar", 0.0)
    assert schedule.deals("whole", 0.0) == []  # two are expected
    schedule.deal_refused(first, 0.0, 0.1)
    assert len(schedule.deals("liar", 0.1)) == 1
    orders = schedule.deals("whole", 0.1)
    assert len(orders) == 2
    schedule.dealt(second, 0, 1, 0.2)  # it gives something after all
    schedule.deal_refused(orders[0], 0.3, 0.2)
    assert schedule.deals("liar", 0.2) == []


def test_who_refuses_deals_is_asked_for_particular_pieces_when_nothing_comes_from_anybody() -> None:
    schedule = schedule_of(10)
    join(schedule, "whole", PieceSet.full(10))
    join(schedule, "client", some(10, 0))
    (piece,) = schedule.assign("client", 0.0)
    for order in schedule.deals("whole", 0.0):
        schedule.deal_refused(order, 60.0, 1.0)
    schedule.settle(piece, schedule.arrived(piece, 4.0))
    assert schedule.assign("whole", 8.0) == []  # something came not long ago
    asked_for = schedule.assign("whole", 9.0)
    assert len(asked_for) == 2
    for assignment in asked_for:
        schedule.settle(assignment, schedule.arrived(assignment, 9.1))
    assert schedule.assign("whole", 9.1) == []


def test_who_deals_nothing_that_is_wanted_is_asked_for_particular_pieces() -> None:
    schedule = schedule_of(10, missing=PieceSet.full(10) - some(10, 4))
    join(schedule, "liar", PieceSet.full(10))
    orders = schedule.deals("liar", 0.0)
    for number in range(MAX_USELESS):
        assert schedule.assign("liar", number) == []
        assert schedule.dealt(orders.pop(0), 4, 1, number) is None
        orders += schedule.deals("liar", number)
    assert len(orders) == 1
    assert len(schedule.assign("liar", 9.0)) == 1


def rack_beside_a_liar(*, held: PieceSet, fetching: range, honest: bool) -> Schedule:
    schedule = schedule_of(1000)
    join(schedule, "far", PieceSet.full(1000), near=False)
    join(schedule, "liar", held)
    schedule.note_changes("liar", BLOB, held=[], fetching=[fetching], not_fetching=[])
    if honest:
        join(schedule, "near", some(1000))
    return schedule


def allowed_from_afar(schedule: Schedule, now: float) -> int:
    """How many pieces may be asked for from afar."""
    allowed = schedule._allowed_from_afar(schedule._peers["far"], BLOB, now)
    return (allowed & schedule._demands[BLOB].everything).bit_count()


LIES = [(PieceSet.full(1000) - some(1000, 0), range(0, 1)), (some(1000), range(1000))]


@pytest.mark.parametrize(("held", "fetching"), LIES, ids=["held", "on its way"])
def test_a_near_peer_that_claims_everything_and_gives_nothing_keeps_nobody_from_asking_afar(
    held: PieceSet, fetching: range
) -> None:
    schedule = rack_beside_a_liar(held=held, fetching=fetching, honest=False)
    for number in range(60):  # it is asked again and again meanwhile, and is busy
        now = number / 10
        for assignment in schedule.assign("liar", now):
            schedule.failed(assignment)
        assert allowed_from_afar(schedule, now) < 1000 or now >= 2
    for now in (6.1, 6.2, 7.0, 20.0):
        assert allowed_from_afar(schedule, now) == 1000


@pytest.mark.parametrize(("held", "fetching"), LIES, ids=["held", "on its way"])
def test_a_near_peer_that_was_waited_for_in_vain_is_not_when_something_comes_from_others(
    held: PieceSet, fetching: range
) -> None:
    schedule = rack_beside_a_liar(held=held, fetching=fetching, honest=True)
    allowed = [allowed_from_afar(schedule, now / 10) for now in range(62)]
    assert max(allowed) == allowed[-1] == 1000
    now = 6.2
    schedule.note_changes("near", BLOB, held=[range(5)], fetching=[], not_fetching=[])
    for piece in schedule.assign("near", now):
        schedule.settle(piece, schedule.arrived(piece, now))
    turn = allowed_from_afar(schedule, now + 0.1)
    assert 400 < turn < 600  # what is not the honest one's turn
    assert allowed_from_afar(schedule, now + 0.2) == turn


def test_what_was_asked_for_from_afar_says_nothing_of_those_who_are_near() -> None:
    schedule = schedule_of(1000)
    join(schedule, "far", PieceSet.full(1000), near=False)
    join(schedule, "near", some(1000))
    now, orders, done = 0.0, list[Order](), set[int]()
    while now < 2.1:  # own turns are taken all the time
        orders += schedule.deals("far", now)
        order = orders.pop(0)
        done.add(index := min(wanted(order) - done))
        piece = schedule.dealt(order, index, 1, now)
        assert piece is not None
        schedule.settle(piece, schedule.arrived(piece, now))
        now += 0.1
    assert allowed_from_afar(schedule, now) == 1000


def test_of_an_address_that_gave_poison_one_stranger_at_a_time_is_asked_for_one_piece() -> None:
    schedule = schedule_of(1000)
    for name, origin in (("liar", "1"), ("sybil", "1"), ("another", "1"), ("proved", "1"), ("other", "2")):
        schedule.add_peer(name, 0.0, swarm=True, peer_id=name, origin=origin)
        schedule.set_holdings(name, BLOB, PieceSet.full(1000) - some(1000, 0))
    (piece,), (poison,) = schedule.assign("proved", 0.0), schedule.assign("liar", 0.0)
    schedule.settle(piece, schedule.arrived(piece, 0.1))
    schedule.arrived(poison, 0.1)
    schedule.settle(poison, ())
    schedule.drop("liar")
    assert len(schedule.assign("other", 0.1)) == 1
    assert len(schedule.assign("proved", 0.1)) >= 1
    (first,) = schedule.assign("sybil", 0.1)
    assert schedule.assign("sybil", 0.1) == schedule.assign("another", 0.1) == []
    assert schedule.deals("another", 0.1) == []
    assert len(schedule.assign("another", 9.0)) == 1  # the one before is late
    schedule.settle(first, schedule.arrived(first, 9.1))
    assert len(schedule.assign("sybil", 9.2)) >= 2  # it gave something good


def test_who_trickles_keeps_others_from_being_asked_for_a_while() -> None:
    schedule = Schedule(Random(1), budget_bytes=4 * PIECE)
    schedule.add_blob(BLOB, size=100 * PIECE, piece_length=PIECE, missing=PieceSet.full(100))
    held = PieceSet.full(100) - some(100, 0)
    for name in ("a", "b", "honest"):
        join(schedule, name, held)
    assert len(schedule.assign("a", 0.0)) == len(schedule.assign("b", 0.0)) == 2
    assert schedule.assign("honest", 0.0) == []
    assert not schedule.is_late("a", 4.9)
    assert schedule.is_late("a", 5.1)
    assert schedule.is_missed("a")
    schedule.silence("a")
    assert len(schedule.assign("honest", 5.1)) == 2
    for name in ("a", "b", "honest"):
        schedule.remove_peer(name)
    join(schedule, "slow", held)
    assert len(schedule.assign("slow", 9.0)) == 2
    assert not schedule.is_missed("slow")  # nobody else waits


def test_what_a_peer_has_and_nobody_was_asked_for_lasts_by_its_rate() -> None:
    schedule = schedule_of(100)
    join(schedule, "a", some(100, *range(50)), proved=False)
    assert schedule.supply_s("a", BLOB) == 0.0  # its rate is not known
    asked = schedule.assign("a", 0.0)
    schedule.settle(asked[0], schedule.arrived(asked[0], 0.5))
    left = 50 - sum(len(each.pieces) for each in asked)
    seconds_each = 0.5 / len(asked[0].pieces)
    assert schedule.supply_s("a", BLOB) == pytest.approx(left * seconds_each)
    schedule.remove_blob(BLOB)
    assert schedule.supply_s("a", BLOB) == 0.0


def test_of_many_who_come_near_at_once_few_are_put_in_order() -> None:
    count = 16_384
    schedule = schedule_of(count)
    join(schedule, "far", PieceSet.full(count), near=False)
    for number in range(40):
        join(schedule, f"stranger{number}", some(count))
    turns = schedule._turns[BLOB]
    left = [allowed_from_afar(schedule, now) for now in (0.0, 0.5, 1.0, 1.5)]
    assert len(turns._before) in range(
        16, 24
    )  # a quarter of a million hashes at once, then 50,000 in a second
    assert 0 < left[-1] < left[0] < count / 16


def test_whoever_was_near_and_is_gone_is_forgotten_in_the_end() -> None:
    schedule = schedule_of(100)
    join(schedule, "far", PieceSet.full(100), near=False)
    for number in range(2000):
        join(schedule, f"stranger{number}", some(100))
        allowed_from_afar(schedule, number / 10)
        schedule.remove_peer(f"stranger{number}")
    assert len(schedule._turns[BLOB]._before) < 300
