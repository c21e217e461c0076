"""What somebody can do who has, or had, a key: no more than docs/security.md says."""

from __future__ import annotations

import pytest

from p2pboot.core.clock import MAX_AHEAD_S
from p2pboot.core.manifest import content_digest
from p2pboot.core.trustdocs.yank import MAX_YANKS
from p2pboot.store.store import Store
from p2pboot.store.trustgate import Fate
from p2pboot.testing.manifests import DAY_S, NOW
from p2pboot.testing.trustdocs import root_body, signed_root, statement_of, yank_of
from tests.store.test_offering import PAIR, PUBLISHER, SECOND, Desk, role


def test_who_has_a_freshness_key_dates_ahead_once_and_not_step_by_step(store: Store) -> None:
    desk = Desk(store)
    made = desk.hold(1)

    def fate_of(created_at: int) -> Fate:
        raw = statement_of(made, desk.root, created_at=created_at).raw
        return desk.trust_gate.take_freshness(raw, source="thief").fate

    assert fate_of(NOW + MAX_AHEAD_S) is Fate.NEWS
    assert [fate_of(NOW + MAX_AHEAD_S + later) for later in (1, MAX_AHEAD_S, 300 * DAY_S)] == [Fate.EARLY] * 3
    clock = desk.catalogue.clock()
    assert (clock.now, clock.trusted) == (NOW + MAX_AHEAD_S, True)


def test_what_stands_in_the_wrong_place_on_the_disk_does_not_count(store: Store) -> None:
    """Who had the disk puts documents that were rightly signed where others were."""
    desk = Desk(store)
    made = desk.hold(1)
    elsewhere = [
        yank_of(made, desk.root, channel="edge"),
        yank_of(made, desk.root, arch="arm64"),
        yank_of(made, None),
    ]
    for number, yank in enumerate(elsewhere):
        with store.documents._database.transaction() as sql:
            row = (desk.root.digest, *PAIR, yank.body.content, NOW + number, yank.raw)
            sql.execute("INSERT OR REPLACE INTO yanks VALUES (?, ?, ?, ?, ?, ?)", row)
        assert desk.catalogue.yanks(*PAIR) == {}
        assert desk.offered == [1]
    said = statement_of(made, None)
    with store.documents._database.transaction() as sql:
        kept = (desk.root.digest, *PAIR, NOW, said.digest, said.raw)
        sql.execute("INSERT OR REPLACE INTO statements VALUES (?, ?, ?, ?, ?, ?)", kept)
    assert desk.catalogue.statement(*PAIR) is None


@pytest.mark.parametrize("filled", [False, True], ids=["the same content", "all places"])
def test_yanks_by_a_key_that_was_removed_are_in_nobodys_way(store: Store, *, filled: bool) -> None:
    desk = Desk(store, signed_root(root_body(publish=(role("publisher", "second"),))))
    made = desk.hold(1, signer="second")
    contents = [f"{number:064x}" for number in range(MAX_YANKS)] if filled else [content_digest(made)]
    for content in contents:
        raw = yank_of(made, desk.root, [PUBLISHER], content=content).raw
        fates = [desk.trust_gate.take_yank(raw, source="thief").fate for _ in range(2)]
        assert fates == [Fate.NEWS, Fate.KNOWN]
    other = yank_of(made, desk.root, [PUBLISHER], content=contents[0], reason="one of any number").raw
    assert desk.trust_gate.take_yank(other, source="thief").fate is Fate.OLDER, "it is passed on by nobody"
    again = yank_of(made, desk.root, [SECOND], reason="it is bad all the same")
    if filled:
        assert desk.trust_gate.take_yank(again.raw, source="owner").fate is Fate.OLDER  # no place
    desk.succeed(publish=(role("second"),))
    assert desk.offered == [1]
    assert desk.trust_gate.take_yank(again.raw, source="owner").fate is Fate.NEWS
    assert desk.offered == []
    assert desk.catalogue.yanks(*PAIR) == {content_digest(made): again}
