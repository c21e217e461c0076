from __future__ import annotations

from random import Random

import pytest

from p2pboot.core.pieces import KIB, PieceSet
from p2pboot.serving.dealing import CREDIT, OWED, REPORTED_S, Deal, Dealing, Wait

PIECE = 64 * KIB


def dealing_for(*clients: str, count: int = 20) -> Dealing:
    """With each client at an address of its own."""
    dealing = Dealing(count, PIECE, Random(1))
    for client in clients:
        dealing.join(client, f"address of {client}", 0.0)
    return dealing


def deal(
    dealing: Dealing, client: str, now: float, *, most: int = 1, count: int = 20, took_s: float = 0.1
) -> range:
    """What a client gets that wants everything."""
    chosen = dealing.choose(client, PieceSet.full(count), most, now)
    assert isinstance(chosen, Deal)
    dealing.sent(client, chosen.first, chosen.count, now + took_s)
    return range(chosen.first, chosen.first + chosen.count)


def hold(dealing: Dealing, client: str, *pieces: int, now: float = 0.0) -> None:
    dealing.hear(client, [range(piece, piece + 1) for piece in pieces], [], now)


def test_each_piece_is_dealt_once_in_order() -> None:
    dealing = dealing_for("a", "b")
    assert [deal(dealing, client, 0.0).start for client in "abab"] == [0, 1, 2, 3]


def test_a_client_alone_gets_as_much_at_once_as_it_takes() -> None:
    dealing = dealing_for("a")
    assert deal(dealing, "a", 0.0, most=16) == range(16)


def test_of_several_clients_a_quick_one_gets_what_takes_a_moment() -> None:
    dealing = dealing_for("a", "b", count=1000)
    assert deal(dealing, "a", 0.0, most=32, count=1000, took_s=0.025) == range(1)
    assert deal(dealing, "a", 1.0, most=32, count=1000) == range(1, 13)


def test_what_a_client_has_is_not_dealt_to_it() -> None:
    dealing = dealing_for("a")
    dealing.hear_bitmap("a", PieceSet.of(20, range(10)), 0.0)
    assert deal(dealing, "a", 0.0, most=20) == range(10, 20)


def test_what_nobody_has_is_dealt_even_if_it_was_not_asked_for_and_what_somebody_has_is_not() -> None:
    dealing = dealing_for("a", "b", count=2)
    hold(dealing, "b", 0)
    assert dealing.choose("a", PieceSet(2), 2, 0.0) == Deal(1, 1)
    assert isinstance(dealing.choose("a", PieceSet(2), 2, 0.0), Wait)


def test_one_address_that_claims_everything_keeps_nobody_from_anything() -> None:
    dealing = dealing_for("a", "liar")
    dealing.hear_bitmap("liar", PieceSet.full(20), 0.0)
    assert [deal(dealing, "a", 0.0).start for _ in range(20)] == list(range(20))


def test_what_two_addresses_report_counts_as_dealt() -> None:
    dealing = dealing_for("a", "b", "c", count=3)
    hold(dealing, "a", 0)
    hold(dealing, "b", 0)
    assert [deal(dealing, "c", 0.0, count=3).start for _ in range(3)] == [1, 2, 0]


def test_two_peers_of_one_address_count_once_where_there_are_others() -> None:
    dealing = dealing_for("a", count=2)
    for liar in ("x", "y"):
        dealing.join(liar, "one address", 0.0)
        hold(dealing, liar, 0)
    later = REPORTED_S  # until then the other's report is waited for
    assert [deal(dealing, "a", later, count=2).start for _ in range(2)] == [1, 0]
    dealing.leave("a")
    dealing.join("z", "one address", later)
    assert [deal(dealing, "z", later, count=2).start for _ in range(2)] == [1, 0]


def test_a_deal_whose_connection_ended_never_happened() -> None:
    dealing = dealing_for("a", "b")
    assert deal(dealing, "a", 0.0).start == 0
    assert deal(dealing, "b", 0.0).start == 1
    dealing.leave("a")
    hold(dealing, "b", 1)
    assert {deal(dealing, "b", 0.0).start for _ in range(3)} == {0, 2, 3}


def test_a_deal_that_failed_never_happened() -> None:
    dealing = dealing_for("a")
    assert dealing.choose("a", PieceSet.full(20), 1, 0.0) == Deal(0, 1)
    dealing.failed("a", 0, 1, 0.1)
    assert deal(dealing, "a", 0.1).start == 0


@pytest.mark.parametrize(("took_s", "good_time_s"), [(0.1, REPORTED_S), (4.0, 8.0)])
def test_what_nobody_else_reports_in_good_time_is_undealt_again(took_s: float, good_time_s: float) -> None:
    dealing = dealing_for("a", "b", count=3)
    deal(dealing, "a", 0.0, count=3, took_s=took_s)
    deal(dealing, "a", 0.0, count=3, took_s=took_s)
    hold(dealing, "a", 0, 1)
    hold(dealing, "b", 1)
    assert deal(dealing, "b", took_s + good_time_s - 0.1, count=3, took_s=0.0).start == 2
    assert dealing.choose("b", PieceSet(3), 1, took_s + good_time_s - 0.1) == Wait(0.3, ())
    assert deal(dealing, "b", took_s + good_time_s, count=3).start == 0


def test_second_copies_are_of_what_fewest_have_and_within_what_is_wanted() -> None:
    dealing = dealing_for("a", "b", "c", count=4)
    for client, pieces in (("a", (0, 1, 2, 3)), ("b", (0, 1, 3)), ("c", (3,))):
        hold(dealing, client, *pieces)
    dealing.choose("c", PieceSet.of(4, [2]), 1, 2.0)
    assert dealing.choose("c", PieceSet.of(4, [0]), 1, 2.0) == Deal(0, 1)
    assert isinstance(dealing.choose("c", PieceSet.of(4, [0, 3]), 1, 2.0), Wait)


def supplied(dealing: Dealing, *, took_s: float = 0.1) -> None:
    """Every piece is dealt to b, by default at 10 a second, and a gets 9 a second from others."""
    for number in range(20):
        deal(dealing, "b", number * 0.1, took_s=took_s)
    hold(dealing, "b", *range(20))
    hold(dealing, "c", *range(20))
    hold(dealing, "a", *range(18), now=2.0)


def test_a_client_that_others_supply_gets_no_second_copies_while_something_is_on_its_way() -> None:
    dealing = dealing_for("a", "b", "c", "d", "e")
    supplied(dealing)
    something_on_its_way = PieceSet.of(20, [18])
    chosen = dealing.choose("a", something_on_its_way, 1, 2.1)
    assert chosen == Wait(0.3, ("b", "c"))


def test_a_client_that_gets_nearly_all_from_others_is_supplied_however_quick_this_node_is() -> None:
    dealing = dealing_for("a", "b", "c", "d", "e")
    supplied(dealing, took_s=0.01)
    assert dealing.choose("a", PieceSet.of(20, [18]), 1, 2.1) == Wait(0.3, ("b", "c"))


def test_a_client_that_others_supply_gets_second_copies_when_nothing_is_on_its_way() -> None:
    dealing = dealing_for("a", "b", "c", "d", "e")
    supplied(dealing)
    assert dealing.choose("a", PieceSet.of(20, [18, 19]), 1, 2.1) == Deal(18, 1)


def test_a_client_that_others_do_not_supply_gets_second_copies() -> None:
    dealing = dealing_for("a", "b", "c", "d", "e")
    supplied(dealing)
    assert dealing.choose("a", PieceSet.of(20, [18]), 1, 4.1) == Deal(18, 1)


def test_who_keeps_what_he_was_dealt_comes_after_the_others() -> None:
    dealing = dealing_for("a", "x", "y", count=100)
    for number in range(CREDIT):
        deal(dealing, "x", number * 0.1, count=100)
        deal(dealing, "y", number * 0.1, count=100)
    deal(dealing, "y", 1.0, count=100)  # there was no time yet
    assert isinstance(dealing.choose("a", PieceSet.full(100), 1, 1.9), Deal)
    assert isinstance(dealing.choose("x", PieceSet.full(100), 1, 2.0), Deal)  # one at a time
    assert dealing.choose("y", PieceSet.full(100), 1, 2.0) == Wait(0.3, ())
    assert isinstance(dealing.choose("a", PieceSet.full(100), 1, 2.0), Deal)
    hold(dealing, "a", 1, 3, now=2.1)  # the first that y was dealt
    assert isinstance(dealing.choose("y", PieceSet.full(100), 1, 2.1), Deal)


def test_where_all_keep_what_they_were_dealt_nobody_waits() -> None:
    dealing = dealing_for("x", "y", count=100)
    for number in range(2 * CREDIT):
        deal(dealing, "x", number * 0.1, count=100)
        deal(dealing, "y", number * 0.1, count=100)


def test_nothing_is_left_of_clients_that_went() -> None:
    dealing = dealing_for("a", "b")
    deal(dealing, "a", 0.0)
    dealing.hear("b", [range(3, 6)], [range(7, 9)], 0.0)
    dealing.leave("a")
    dealing.leave("b")
    dealing.join("c", "address", 100.0)
    assert deal(dealing, "c", 100.0, most=20, took_s=0.0) == range(20)


def test_of_one_that_takes_and_tells_for_a_day_little_is_kept_in_mind() -> None:
    dealing, now = dealing_for("x"), 0.0
    for _ in range(10):
        for number in range(20):
            now += 0.3
            deal(dealing, "x", now, took_s=0.0)
            dealing.hear_bitmap("x", PieceSet(20), now)
            hold(dealing, "x", number, now=now)
            dealing.hear_bitmap("x", PieceSet(20), now)
    about = dealing._clients["x"]
    assert len(about.waiting) <= OWED
    assert len(about.gained) < 10
    assert len(dealing._deadlines) < 60


def test_what_is_told_does_not_wait_for_somebody_to_ask() -> None:
    dealing = dealing_for("x", count=2000)
    for piece in range(2000):
        hold(dealing, "x", piece, now=piece / 5)
    assert len(dealing._deadlines) < 30
    assert len(dealing._clients["x"].gained) < 15
