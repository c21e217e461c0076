"""Which of two connections stays, by when they began and were secured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pboot.core.dataclass import dataclass
from p2pboot.transport.tcp.crossing import gives_way, same_process

LOW, HIGH = "12D3KooWA", "12D3KooWB"


@dataclass(frozen=True)
class One:
    """A connection."""

    dialled: bool
    began: float
    secured_at: float
    peer_id: str = HIGH
    instance: bytes = b"process"
    quiet_since: float = 0.0


def who_leaves(own: str, dialled: One, accepted: One, now: float = 2.0) -> str | None:
    """Which of the two, whichever is the newer one."""
    peer = HIGH if own == LOW else LOW
    dialled, accepted = replace(dialled, peer_id=peer), replace(accepted, peer_id=peer)
    found = {gives_way(own, new, [old], now) for new, old in ((dialled, accepted), (accepted, dialled))}
    (pair,) = found
    if pair is None:
        return None
    assert set(pair) == {dialled, accepted}
    return "dialled" if pair[0] is dialled else "accepted"


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
    assert gives_way(LOW, one, [other], 1.0) is None
    assert same_process(one, [one, other]) is None
    assert same_process(one, [one, other, twin := One(True, 5.0, 6.0)]) is twin


def test_two_in_one_direction_are_meant() -> None:
    assert gives_way(LOW, One(True, 0.0, 1.0), [One(True, 0.0, 1.0)], 1.0) is None


def test_one_in_use_is_not_taken_away() -> None:
    dialled, accepted = One(True, 0.0, 9.0), One(False, 0.0, 1.0)
    assert who_leaves(LOW, dialled, accepted, now=9.0) == "accepted"
    assert who_leaves(LOW, dialled, replace(accepted, quiet_since=8.9), now=9.0) is None
    assert who_leaves(LOW, dialled, replace(accepted, quiet_since=8.9), now=3.0) == "accepted"
