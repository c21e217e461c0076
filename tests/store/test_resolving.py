"""A state in doubt goes on as an operator says, and never by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from p2pboot.errors import MachineError, UsageError
from p2pboot.store.filenames import DATABASE_NAME, RECORD_NAME
from p2pboot.store.resolving import Difference, InDoubt, Way, find_doubt, go_on
from p2pboot.store.store import Store
from tests.store.samples import manifest
from tests.store.test_record import DAMAGES, A, publish, remembered, spoil_pages


@pytest.fixture
def used(state: Path) -> Path:
    """A state whose database is put back from a backup: the record has a higher number, and a channel more."""
    with Store.open(state) as store:
        publish(store, 3)
        store.trust.accept(manifest(5))
    backup = (state / DATABASE_NAME).read_bytes()
    with Store.open(state) as store:
        publish(store, 7)
        store.trust.accept(manifest(2, channel="testing"))
    (state / DATABASE_NAME).write_bytes(backup)
    return state


def doubt(state: Path) -> InDoubt:
    found = find_doubt(state)
    assert found is not None
    return found


def names(state: Path) -> set[str]:
    return {path.name for path in state.iterdir() if path.is_file() and path.name != "lock"}


def test_a_good_state_is_in_no_doubt_and_a_new_one_neither(state: Path) -> None:
    assert find_doubt(state) is None
    with Store.open(state) as store:
        publish(store, 1)
    assert find_doubt(state) is None


def test_the_differences_are_shown(used: Path) -> None:
    found = doubt(used)
    assert found.differences() == (
        Difference("accepted", "testing/arm64", A, None, 2),
        Difference("published", "stable/arm64", A, 3, 7),
    )
    assert found.ways() == tuple(Way)


@pytest.mark.parametrize(
    ("way", "expected"), [(Way.TRUST_RECORD, (7, [5], [2])), (Way.TRUST_DATABASE, (3, [5], []))]
)
def test_an_older_database_goes_on_above_the_record_or_below_it(
    used: Path, way: Way, expected: tuple[int, list[int], list[int]]
) -> None:
    go_on(used, doubt(used), way)
    assert find_doubt(used) is None
    with Store.open(used) as store:
        testing = [head.manifest_version for head in store.trust.heads_of("testing", "arm64")]
        assert (*remembered(store), testing) == expected
        publish(store, 8)
    assert find_doubt(used) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: (state / DATABASE_NAME).write_bytes(b""),
        lambda state: (state / DATABASE_NAME).unlink(),
        lambda state: spoil_pages(state / DATABASE_NAME),
    ],
    ids=["empty", "gone", "damaged"],
)
def test_a_lost_database_is_made_anew_from_the_record(used: Path, damage: Callable[[Path], object]) -> None:
    damage(used)
    left = (used / DATABASE_NAME).read_bytes() if (used / DATABASE_NAME).exists() else None
    found = doubt(used)
    assert found.ways() == (Way.TRUST_RECORD, Way.START_OVER)
    with pytest.raises(UsageError, match="can not be believed"):
        go_on(used, found, Way.TRUST_DATABASE)
    go_on(used, found, Way.TRUST_RECORD)
    with Store.open(used) as store:
        assert remembered(store) == (7, [5])
        assert not store.trust.accept(manifest(4))
        assert store.trust.accept(manifest(5))  # what was accepted is taken again
    if left is not None:  # nothing is removed
        assert (used / f"{DATABASE_NAME}.aside-1").read_bytes() == left


def test_a_lost_record_is_written_anew_from_the_database(state: Path) -> None:
    with Store.open(state) as store:
        publish(store, 3)
        publish(store, 4)
    for name in ("record deleted", "record cut to nothing", "record of another form", "record of zeros"):
        DAMAGES[name][0](state)
        go_on(state, doubt(state), Way.TRUST_DATABASE)
        assert find_doubt(state) is None
    with Store.open(state) as store:
        assert store.publications.counter((A,), "stable", "arm64") == 4


def test_starting_over_sets_both_aside(used: Path) -> None:
    for _ in range(2):
        go_on(used, doubt(used), Way.START_OVER)
        assert find_doubt(used) is None
        with Store.open(used) as store:
            assert remembered(store) == (0, [])
            publish(store, 1)
        (used / DATABASE_NAME).write_bytes(b"")
    aside = {f"{name}.aside-{number}" for name in (DATABASE_NAME, RECORD_NAME) for number in (1, 2)}
    assert names(used) == {DATABASE_NAME, RECORD_NAME, *aside}


def test_a_running_node_is_not_robbed_of_its_state(used: Path) -> None:
    found = doubt(used)
    with Store.open(used, tolerant=True) as node:
        node.lock()
        with pytest.raises(MachineError, match="in use by process"):
            go_on(used, found, Way.TRUST_RECORD)
    assert find_doubt(used) is not None
