from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot import RELEASE_DATE
from p2pboot.core.clock import MAX_AHEAD_S, AcceptedTime, Clock, effective_now, latest
from p2pboot.core.timestamps import MAX_TIME

RELEASE = 1000


def accepted(created_at: int) -> AcceptedTime:
    return AcceptedTime(created_at, "stable", "x86_64", ("ed25519:" + "0" * 64,), "/var/lib/p2pboot")


@pytest.mark.parametrize(
    ("wall", "newest", "now"),
    [
        (5000, None, 5000),
        (5000, 4000, 5000),
        (5000, 5000, 5000),
        (1000, None, 1000),
        (MAX_TIME * 5, None, MAX_TIME),
    ],
)
def test_a_clock_that_is_not_behind_is_believed(wall: int, newest: int | None, now: int) -> None:
    assert effective_now(wall, None if newest is None else accepted(newest), RELEASE) == Clock(now)


@pytest.mark.parametrize(("wall", "newest"), [(0, None), (999, 500), (999, 1000), (-5, None)])
def test_a_clock_behind_the_release_is_held_by_it(wall: int, newest: int | None) -> None:
    known = None if newest is None else accepted(newest)
    assert effective_now(wall, known, RELEASE) == Clock(RELEASE, trusted=False, wall=wall)


@pytest.mark.parametrize(("wall", "newest"), [(5000, 5600), (1000, 1001), (4999, 5000)])
def test_a_clock_that_is_behind_a_document_by_no_more_than_clocks_differ_is_believed(
    wall: int, newest: int
) -> None:
    clock = effective_now(wall, accepted(newest), RELEASE)
    assert clock == Clock(newest, wall=wall)
    # What comes next is measured by the same clock, or each document could be dated later than the one before.
    assert [clock.is_ahead(wall + MAX_AHEAD_S + more) for more in (0, 1)] == [False, True]


@pytest.mark.parametrize(("wall", "newest"), [(4399, 5000), (-5, 5000), (999, 1001), (5, MAX_TIME * 2)])
def test_a_clock_behind_a_manifest_is_held_by_that_manifest(wall: int, newest: int) -> None:
    clock = effective_now(wall, accepted(newest), RELEASE)
    assert clock == Clock(min(newest, MAX_TIME), trusted=False, wall=wall, held_by=accepted(newest))


def test_the_release_date_is_the_floor_of_a_machine_without_memory() -> None:
    assert effective_now(0, None).now == RELEASE_DATE
    assert effective_now(RELEASE_DATE - 1, accepted(RELEASE_DATE - 5)).now == RELEASE_DATE


def document(created_at: int, until: int | None) -> AcceptedTime:
    return replace(accepted(created_at), until=until)


TIMES = st.integers(-1000, 2 * MAX_TIME)
DOCUMENTS = st.lists(st.builds(document, st.integers(0, MAX_TIME), st.none() | st.integers(0, MAX_TIME)))


@given(TIMES, DOCUMENTS)
def test_time_never_runs_before_the_clock_the_release_or_a_document_and_never_past_what_vouches(
    wall: int, known: list[AcceptedTime]
) -> None:
    clock = effective_now(wall, latest(known), RELEASE)
    assert clock.now >= min(max(wall, RELEASE), MAX_TIME)
    assert all(clock.now >= min(one.created_at, one.until or MAX_TIME) for one in known if one.until != 0)
    floor = max([RELEASE, *(one.at for one in known)])
    assert clock.now == min(max(wall, floor), MAX_TIME)
    assert clock.trusted == (clock.held_by is None and (clock.wall is None or clock.wall >= RELEASE))


@given(TIMES, DOCUMENTS, st.integers(0, 1000))
def test_who_is_removed_takes_no_more_along_than_it_brought(
    wall: int, known: list[AcceptedTime], index: int
) -> None:
    left = known[: index % (len(known) + 1)]
    before, after = (effective_now(wall, latest(some), RELEASE) for some in (known, left))
    assert after.now <= before.now
    assert after == effective_now(wall, latest(left), RELEASE)  # of the removed ones nothing is remembered


@given(TIMES, DOCUMENTS)
def test_a_clock_is_in_doubt_only_when_it_is_further_behind_than_clocks_differ(
    wall: int, known: list[AcceptedTime]
) -> None:
    clock = effective_now(wall, latest(known), RELEASE)
    assert clock.trusted == (wall >= RELEASE and wall >= max([0, *(one.at for one in known)]) - MAX_AHEAD_S)
