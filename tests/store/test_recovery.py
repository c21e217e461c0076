from __future__ import annotations

from pathlib import Path

import pytest

from p2pboot import RELEASE_DATE
from p2pboot.core.verify import MAX_AHEAD_S
from p2pboot.errors import MachineError, UsageError
from p2pboot.store.filenames import DATABASE_NAME
from p2pboot.store.recovery import Examined, examine, open_existing
from p2pboot.store.store import Store
from p2pboot.testing.manifests import ALICE
from tests.store.samples import manifest

NOW = RELEASE_DATE + 1000
YEARS_S = 5 * 365 * 86_400


def mend(examined: Examined) -> list[str]:
    mended = []
    for finding in examined.findings:
        if finding.repair is not None:
            finding.repair.mend()
            mended.append(finding.subject)
    return mended


def test_what_is_remembered_is_shown_and_a_good_state_has_no_findings(store: Store) -> None:
    made = manifest(7, created_at=NOW - 5)
    store.manifests.put(made, None)
    store.trust.accept(made)
    store.publications.record(
        made.raw, signers=made.signers, channel="stable", arch="arm64", manifest_version=7, digest=made.digest
    )
    store.publications.raise_counter([ALICE.public.keyid], "testing", "arm64", 4)
    seen = examine(store, NOW)
    assert [(head.manifest_version, head.created_at) for head in seen.heads] == [(7, NOW - 5)]
    assert [time.created_at for time in seen.times] == [NOW - 5]
    assert [(one.channel, one.counter, one.created_at) for one in seen.published] == [
        ("stable", 7, NOW - 5),
        ("testing", 4, None),
    ]
    assert seen.findings == ()


@pytest.mark.parametrize(("ahead_s", "found"), [(0, 0), (MAX_AHEAD_S, 0), (MAX_AHEAD_S + 1, 1), (YEARS_S, 1)])
def test_a_date_is_wrong_when_it_is_further_ahead_than_clocks_differ(
    store: Store, ahead_s: int, found: int
) -> None:
    store.trust.accept(manifest(1, created_at=NOW + ahead_s))
    assert len(examine(store, NOW).findings) == found


def test_mending_cuts_what_lies_in_the_future_and_nothing_else(store: Store) -> None:
    store.trust.accept(manifest(7, created_at=NOW + YEARS_S))
    store.trust.accept(manifest(2, channel="testing", created_at=NOW - 100))
    assert mend(examine(store, NOW)) == ["stable/arm64"]
    after = examine(store, NOW)
    assert [time.channel for time in after.times] == ["testing"]
    assert [head.manifest_version for head in after.heads] == [7, 2]  # nothing older is taken
    assert after.findings == ()


def test_a_date_that_came_between_looking_and_mending_stays(store: Store) -> None:
    store.trust.accept(manifest(7, created_at=NOW + YEARS_S))
    seen = examine(store, NOW)
    store.trust.accept(manifest(8, created_at=NOW + YEARS_S + 1))
    mend(seen)
    assert [time.created_at for time in store.trust.times()] == [NOW + YEARS_S + 1]


def test_a_publication_dated_in_the_future_is_shown_and_left_alone(store: Store) -> None:
    made = manifest(7, created_at=NOW + YEARS_S)
    store.publications.record(
        made.raw, signers=made.signers, channel="stable", arch="arm64", manifest_version=7, digest=made.digest
    )
    seen = examine(store, NOW)
    assert [finding.code for finding in seen.findings] == ["future-publication"]
    assert mend(seen) == []
    assert store.publications.counter(made.signers, "stable", "arm64") == 7


@pytest.mark.parametrize("now", [0, -1, RELEASE_DATE - 1])
def test_a_clock_that_is_wrong_itself_can_judge_nothing(store: Store, now: int) -> None:
    store.trust.accept(manifest(7, created_at=RELEASE_DATE))
    with pytest.raises(MachineError, match="before this program was released") as caught:
        examine(store, now)
    assert "set the clock" in str(caught.value.remedy)
    assert len(store.trust.times()) == 1


@pytest.mark.parametrize("content", [None, b"", b"SQLite format 4", b"something else that is no database"])
def test_what_is_no_state_directory_stays_as_it_is(tmp_path: Path, content: bytes | None) -> None:
    directory = tmp_path / "some"
    directory.mkdir()
    if content is not None:
        (directory / DATABASE_NAME).write_bytes(content)
    before = {path: path.read_bytes() for path in directory.iterdir()}
    for path in (directory, tmp_path / "nothing", tmp_path / "some" / DATABASE_NAME):
        with pytest.raises(UsageError, match="is no state directory"):
            open_existing(path)
    assert {path: path.read_bytes() for path in directory.iterdir()} == before
    assert not (tmp_path / "nothing").exists()
