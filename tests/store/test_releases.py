"""What was published, to go back to; and what is in force instead of what a directory holds."""

from __future__ import annotations

from pathlib import Path

from p2pboot.core.manifest import Manifest, content_digest
from p2pboot.store.held import Held
from p2pboot.store.releases import MAX_CONTENTS, MAX_RENEWALS
from p2pboot.store.store import Store
from p2pboot.testing.manifests import key_of, signed_manifest

PAIR = ("stable", "arm64")
SIGNERS = (key_of("publisher").public.keyid,)


def published(number: int, seed: int, channel: str = "stable") -> Manifest:
    files = {"kernel": b"kernel %d" % seed, "initramfs": b"initramfs"}
    return signed_manifest(
        files, [key_of("publisher")], manifest_version=number, channel=channel, arch="arm64"
    )


def numbers(store: Store) -> list[int]:
    return [one.manifest_version for one in store.releases.of(SIGNERS, *PAIR)]


def test_the_newest_contents_are_kept_each_with_its_newest_renewals(store: Store) -> None:
    for number in range(1, MAX_RENEWALS + 6):
        store.releases.record(published(number, 0))
    assert numbers(store) == list(range(MAX_RENEWALS + 5, 5, -1))
    first = MAX_RENEWALS + 6
    for seed in range(1, MAX_CONTENTS):
        store.releases.record(published(first + seed, seed))
    assert {one.content for one in store.releases.of(SIGNERS, *PAIR)} >= {content_digest(published(1, 0))}
    store.releases.record(published(1000, 1000))
    kept = store.releases.of(SIGNERS, *PAIR)
    assert len({one.content for one in kept}) == MAX_CONTENTS
    assert content_digest(published(1, 0)) not in {one.content for one in kept}
    store.releases.record(published(1001, 1))  # gone back to: it is the newest again
    assert numbers(store)[0] == 1001


def test_a_release_is_recorded_once_and_by_its_series(store: Store) -> None:
    for _ in range(3):
        store.releases.record(published(1, 0))
    store.releases.record(published(1, 0, channel="testing"))
    (one,) = store.releases.of(SIGNERS, *PAIR)
    assert Manifest.parse(one.raw) == published(1, 0)
    assert not store.releases.of([key_of("other").public.keyid], *PAIR)


def test_what_is_held_outlasts_a_restart_and_what_the_disk_changed_does_not_count(state: Path) -> None:
    with Store.open(state) as store:
        store.held.put(Held(PAIR, "a" * 64, published(1, 0)))
        store.held.put(Held(("testing", "arm64"), "b" * 64, None))
    with Store.open(state) as store:
        assert store.held.pairs() == {PAIR, ("testing", "arm64")}
        held = store.held.get(PAIR)
        assert held is not None
        assert held.content == content_digest(published(7, 0))
        nothing = store.held.get(("testing", "arm64"))
        assert nothing is not None
        assert nothing.content is None
        with store._database.transaction() as sql:
            sql.execute("UPDATE held SET raw = ? WHERE channel = 'stable'", (b"{}",))
        assert store.held.get(PAIR) is None
        store.held.drop(PAIR)
        store.held.drop(PAIR)
        assert store.held.pairs() == {("testing", "arm64")}
