"""What changed: the ring that others follow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.changes import MAX_CHANGES, Change, ChangeRing, Form


def held(index: int) -> Change:
    return Change(Form.HELD, range(index, index + 1))


@given(batches=st.lists(st.integers(0, 700), max_size=6), behind=st.integers(0, 3000))
def test_a_follower_is_told_what_it_missed_or_that_it_missed_too_much(
    batches: list[int], behind: int
) -> None:
    ring = ChangeRing(5)
    every: list[Change] = []
    for size in batches:
        batch = [held(len(every) + number) for number in range(size)]
        every += batch
        ring.append(batch)
    assert ring.at == 5 + len(every)
    told = ring.since(ring.at - behind)
    if behind <= min(len(every), MAX_CHANGES):
        assert told == tuple(every[len(every) - behind :])
    else:
        assert told is None


def test_serials_of_another_run_are_nothing() -> None:
    ring = ChangeRing(100)
    ring.append([held(0)])
    assert ring.since(102) is None
    assert ring.since(0) is None
    assert ring.since(101) == ()


def test_listeners_are_told_once_for_each_batch_and_of_nothing_never() -> None:
    ring, told = ChangeRing(1), []

    def listener() -> None:
        told.append(ring.at)

    ring.listen(listener)
    ring.append([held(0), held(1)])
    ring.append([])
    assert told == [3]
