import pytest

from p2pboot import RELEASE_DATE
from p2pboot.core.clock import Clock, effective_now
from p2pboot.core.timestamps import MAX_TIME

RELEASE = 1000


@pytest.mark.parametrize(
    ("wall", "newest", "expected"),
    [
        (5000, None, Clock(5000, trusted=True)),
        (5000, 4000, Clock(5000, trusted=True)),
        (5000, 5000, Clock(5000, trusted=True)),
        (1000, None, Clock(1000, trusted=True)),
        (0, None, Clock(1000, trusted=False)),
        (999, 500, Clock(1000, trusted=False)),
        (4999, 5000, Clock(5000, trusted=False)),
        (-5, 5000, Clock(5000, trusted=False)),
        (MAX_TIME * 5, None, Clock(MAX_TIME, trusted=True)),
    ],
)
def test_time_never_runs_before_what_is_known_to_have_happened(
    wall: int, newest: int | None, expected: Clock
) -> None:
    assert effective_now(wall, newest, RELEASE) == expected


def test_the_release_date_is_the_floor_of_a_machine_without_memory() -> None:
    assert effective_now(0, None) == Clock(RELEASE_DATE, trusted=False)
    assert effective_now(RELEASE_DATE - 1, RELEASE_DATE - 5) == Clock(RELEASE_DATE, trusted=False)
