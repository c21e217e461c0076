"""The announcements that a store holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pboot.store.snapshots.announcements import KEPT_PER_SIGNER, AnnouncementShelf
from tests.core.timetoke.samples import ALICE, BOB, announce, payload_of


@pytest.fixture
def shelf(tmp_path: Path) -> AnnouncementShelf:
    return AnnouncementShelf(tmp_path / "announcements")


def test_an_empty_shelf_has_nothing(shelf: AnnouncementShelf) -> None:
    assert shelf.all() == ()
    assert shelf.last_sequence() == 0
    assert shelf.get(ALICE.public.keyid, "00" * 32) is None


def test_announcements_survive_and_are_found(shelf: AnnouncementShelf, tmp_path: Path) -> None:
    one, other = announce(payload_of(1), ALICE, 1), announce(payload_of(2), BOB, 2)
    shelf.put(one)
    shelf.put(other)
    again = AnnouncementShelf(tmp_path / "announcements")
    assert again.all() == (other, one)
    assert again.get(one.signer, one.root) == one
    assert again.of_root(other.root) == (other,)
    assert again.last_sequence() == 2


def test_a_newer_sequence_of_the_same_snapshot_replaces_the_older_never_the_other_way(
    shelf: AnnouncementShelf,
) -> None:
    for sequence in (2, 5, 3):
        shelf.put(announce(payload_of(1), ALICE, sequence))
    assert [one.sequence for one in shelf.all()] == [5]


def test_what_is_no_announcement_is_not_offered(shelf: AnnouncementShelf, tmp_path: Path) -> None:
    good = announce(payload_of(1))
    shelf.put(good)
    name = f"{good.root}.{'0' * 64}.json"
    (tmp_path / "announcements" / name).write_bytes(b"{}")
    other = announce(payload_of(2))
    (tmp_path / "announcements" / name.replace("0", "1", 1)).write_bytes(other.raw)  # not under its own name
    assert shelf.all() == (good,)


def test_the_oldest_of_a_signer_go(shelf: AnnouncementShelf) -> None:
    for number in range(KEPT_PER_SIGNER + 3):
        shelf.put(announce(payload_of(number), ALICE, number + 1))
    assert [one.sequence for one in shelf.all()] == list(range(KEPT_PER_SIGNER + 3, 3, -1))
