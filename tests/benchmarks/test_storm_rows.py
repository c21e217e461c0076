import pytest

from benchmarks.storm.rows import ROWS, least_time


@pytest.mark.parametrize(
    ("clients", "up", "holders", "bound"),
    [
        (8, 50, 1, 1.0),
        (8, 5, 1, 8 * 50 / 90),  # what the uplinks carry together
        (8, 0, 1, 8.0),  # one web server
        (8, 0, 4, 2.0),
        (8, 50, 2, 1.0),  # a client's link is the limit
    ],
)
def test_the_bound_is_the_narrowest_of_three(clients: int, up: float, holders: int, bound: float) -> None:
    assert least_time(clients, 50, 50, up, holders) == pytest.approx(bound)


def test_the_bound_is_at_least_what_the_holder_needs_for_one_copy() -> None:
    assert least_time(8, 10, 50, 50) == pytest.approx(5.0)


def test_half_the_rate_keeps_the_bound_and_doubles_the_unit() -> None:
    row = ROWS["uplinks"]
    half = row.at_half_rate()
    assert half.bound == pytest.approx(row.bound)
    assert half.unit_s == pytest.approx(2 * row.unit_s)
    assert half.size == row.size


def test_machines_of_holders_and_clients_are_apart() -> None:
    row = ROWS["two-holders"]
    assert [*row.holder_numbers, *row.client_numbers] == list(range(1, 11))


def test_others_take_part_where_they_can_do_the_same() -> None:
    assert {row.name for row in ROWS.values() if row.competes} == {
        *("n4", "n8", "n8-large", "n16", "n16-slow", "uplinks", "staggered")
    }
