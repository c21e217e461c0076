"""Which of several connections stays, by when they began and were secured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pboot.core.dataclass import dataclass
from p2pboot.transport.tcp.crossing import same_process, settle

LOW, HIGH = "12D3KooWA", "12D3KooWB"


@dataclass(frozen=True, eq=False)
class One:
    """A connection."""

    dialled: bool
    began: float
    secured_at: float
    peer_id: str = HIGH
    instance: bytes = b"process"


def who_leaves(own: str, dialled: One, accepted: One) -> str | None:
    """Which of the two, whichever is the newer one."""
    peer = HIGH if own == LOW else LOW
    dialled, accepted = replace(dialled, peer_id=peer), replace(accepted, peer_id=peer)
    found = set()
    for new, old in ((dialled, accepted), (accepted, dialled)):
        leaving, stays = settle(own, new, [old])
        assert stays not in leaving
        assert stays is new or leaving == [new]
        found.add(tuple("dialled" if one is dialled else "accepted" for one in leaving))
    (left,) = found
    return left[0] if left else None


@pytest.mark.parametrize(
    ("dialled", "accepted", "overlap"),
    [
        (One(True, 0.0, 1.0), One(False, 0.5, 1.5), True),
        (One(True, 0.5, 1.5), One(False, 0.0, 1.0), True),
        (One(True, 0.0, 1.5), One(False, 0.5, 1.0), True),
        (One(True, 0.5, 1.0), One(False, 0.0, 1.5), True),
        (One(True, 0.0, 1.0), One(False, 1.1, 1.5), False),  # it may have been connected when it dialled
        (One(True, 1.1, 1.5), One(False, 0.0, 1.0), False),  # we were
    ],
)
def test_only_dials_that_overlap_count(dialled: One, accepted: One, overlap: bool) -> None:
    assert who_leaves(LOW, dialled, accepted) == ("accepted" if overlap else None)
    assert who_leaves(HIGH, dialled, accepted) == ("dialled" if overlap else None)


def test_another_process_with_the_same_key_is_somebody_else() -> None:
    one, other = One(True, 0.0, 1.0), One(False, 0.0, 1.0, instance=b"other")
    assert settle(LOW, one, [other]) == ([], one)
    assert same_process(one, [one, other]) == []
    assert same_process(one, [one, other, twin := One(True, 5.0, 6.0)]) == [twin]


def test_of_two_dials_in_one_direction_the_first_stays_as_the_dialler_says() -> None:
    first, second = One(True, 0.0, 1.0), One(True, 0.0, 2.0)
    assert settle(LOW, second, [first]) == ([second], first)
    assert settle(LOW, second, [replace(first, began=-2.0, secured_at=-1.0)]) == ([], second)  # it was meant
    first, second = One(False, 0.0, 1.0), One(False, 0.0, 2.0)
    assert settle(LOW, second, [first]) == ([], second)


def test_all_that_the_higher_peer_dialled_leave() -> None:
    accepted = [One(False, 0.0, 1.0), One(False, 0.0, 1.2)]
    assert settle(LOW, one := One(True, 0.0, 1.5), accepted) == (accepted, one)
