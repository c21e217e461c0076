from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pboot.core.clock import AcceptedTime
from p2pboot.core.identity import SecretKey
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.core.rollback import AcceptedHead
from p2pboot.errors import Malformed, StoreError
from p2pboot.store import truststate
from p2pboot.store.store import Store
from p2pboot.store.truststate import MAX_COSIGNERS, MAX_EQUIVOCATIONS, MAX_TIMES, RememberedHead
from p2pboot.testing.manifests import ALICE, BOB
from tests.store.samples import manifest


def versions(store: Store, channel: str = "stable") -> list[int]:
    return sorted(head.manifest_version for head in store.trust.heads_of(channel, "arm64"))


def of(*keys: SecretKey, threshold: int = 1) -> Publisher:
    return Publisher(tuple(key.public.keyid for key in keys), threshold)


def anybody(_channel: str, _arch: str, _signers: tuple[str, ...]) -> bool:
    return True


def newest(store: Store, accepts: Callable[[str, str, tuple[str, ...]], bool] = anybody) -> int | None:
    time = store.trust.newest_created_at(accepts)
    return None if time is None else time.created_at


def test_nothing_is_remembered_at_first(store: Store) -> None:
    assert store.trust.heads_of("stable", "arm64") == ()
    assert newest(store) is None
    assert store.trust.equivocations() == []


def test_what_was_accepted_is_remembered_durably(state: Path) -> None:
    made = manifest(7, keys=(ALICE, BOB))
    with Store.open(state) as store:
        assert store.trust.accept(made)
    with Store.open(state) as store:
        assert store.trust.heads_of("stable", "arm64") == (AcceptedHead(7, made.digest, made.signers),)
        assert newest(store) == made.created_at


def test_the_head_never_moves_back_or_aside(store: Store) -> None:
    made = manifest(7, created_at=1000)
    assert store.trust.accept(made)
    assert store.trust.accept(made)
    for refused in (manifest(6, created_at=5000), manifest(7, text="another", created_at=5000)):
        assert not store.trust.accept(refused)
        assert not store.trust.accept(refused, of(ALICE, BOB))
    assert store.trust.heads_of("stable", "arm64") == (AcceptedHead.of(made),)
    assert newest(store) == 1000
    assert store.trust.accept(manifest(8, created_at=2000))
    assert versions(store) == [8]


def test_the_time_never_moves_back(store: Store) -> None:
    store.trust.accept(manifest(1, created_at=2000))
    store.trust.accept(manifest(2, created_at=1000))
    assert (versions(store), newest(store)) == ([2], 2000)


def test_only_those_who_are_trusted_now_tell_the_time(store: Store) -> None:
    store.trust.accept(manifest(1, created_at=1000))
    store.trust.accept(manifest(1, channel="testing", created_at=3000))
    store.trust.accept(manifest(1, channel="beta", created_at=2000, keys=(ALICE, BOB)))
    store.trust.accept(manifest(1, channel="nightly", created_at=4000, keys=(BOB,)))

    def by(*keys: SecretKey, threshold: int = 1, channels: tuple[str, ...] | None = None) -> int | None:
        publisher = Publisher(tuple(key.public.keyid for key in keys), threshold, channels)
        return newest(store, TrustPolicy((publisher,)).accepts)

    assert by(ALICE) == 3000
    assert by(ALICE, channels=("stable",)) == 1000
    assert by(ALICE, BOB) == 4000
    assert by(ALICE, BOB, threshold=2) == 2000
    assert newest(store, TrustPolicy().accepts) is None


def test_a_key_that_is_trusted_no_more_takes_its_date_along(store: Store) -> None:
    store.trust.accept(manifest(7, created_at=9000))
    store.trust.accept(manifest(1, created_at=1000, keys=(BOB,)), of(BOB))
    assert newest(store, TrustPolicy((Publisher((BOB.public.keyid,)),)).accepts) == 1000
    assert newest(store, TrustPolicy((Publisher((ALICE.public.keyid,)),)).accepts) == 9000


def test_a_date_says_whose_it_is_and_where_it_is_kept(store: Store, state: Path) -> None:
    made = manifest(7, keys=(ALICE, BOB))
    store.trust.accept(made)
    assert store.trust.newest_created_at(anybody) == AcceptedTime(
        made.created_at, "stable", "arm64", made.signers, str(state)
    )


def test_a_key_that_makes_up_channels_pushes_out_only_its_own_oldest_dates(store: Store) -> None:
    store.trust.accept(manifest(1, created_at=1, keys=(BOB,)))
    for number in range(MAX_TIMES + 3):
        store.trust.accept(manifest(1, channel=f"made-up-{number}", created_at=1000 + number))
    dates = sorted(time.created_at for time in store.trust.times())
    assert dates == [1, *range(1003, 1000 + MAX_TIMES + 3)]


def test_a_key_that_makes_up_cosigners_is_bounded_too(store: Store) -> None:
    for number in range(1, MAX_TIMES + 3):
        stranger = SecretKey(number.to_bytes(32, "big"))
        store.trust.accept(manifest(number, created_at=1000 + number, keys=(ALICE, stranger)), of(ALICE))
    assert len(store.trust.times()) == MAX_TIMES
    assert newest(store) == 1000 + MAX_TIMES + 2
    assert versions(store) == list(range(MAX_TIMES + 3 - MAX_COSIGNERS, MAX_TIMES + 3))


def test_a_forgotten_date_leaves_the_version_and_what_came_later(store: Store) -> None:
    store.trust.accept(manifest(7, created_at=9000))
    (wrong,) = store.trust.times()
    store.trust.forget_time(wrong)
    assert (newest(store), versions(store)) == (None, [7])
    assert not store.trust.accept(manifest(6, created_at=5000))
    store.trust.accept(manifest(8, created_at=5000))
    store.trust.forget_time(wrong)
    assert newest(store) == 5000


def test_heads_are_listed_with_the_date_of_what_is_kept(store: Store) -> None:
    kept, lost = manifest(7), manifest(2, channel="testing")
    store.manifests.put(kept, None)
    for each in (kept, lost):
        store.trust.accept(each)
    assert store.trust.heads() == [
        RememberedHead("stable", "arm64", 7, kept.digest, kept.signers, kept.created_at),
        RememberedHead("testing", "arm64", 2, lost.digest, lost.signers, None),
    ]


def test_channels_have_heads_of_their_own(store: Store) -> None:
    store.trust.accept(manifest(7))
    store.trust.accept(manifest(2, channel="testing"))
    assert (versions(store), versions(store, "testing")) == ([7], [2])


def test_what_another_publisher_reached_neither_binds_nor_lowers(store: Store) -> None:
    assert store.trust.accept(manifest(7), of(ALICE))
    assert not store.trust.accept(manifest(1, keys=(BOB,)), of(ALICE, BOB))
    assert store.trust.accept(manifest(1, keys=(BOB,)), of(BOB))
    assert versions(store) == [1, 7]
    assert not store.trust.accept(manifest(6), of(ALICE))
    assert not store.trust.accept(manifest(2, keys=(BOB,)), of(ALICE, BOB))
    assert store.trust.accept(manifest(2, keys=(ALICE, BOB)), of(ALICE, BOB, threshold=2))
    assert versions(store) == [2, 7]  # whoever believes BOB believes both, and that is higher
    assert not store.trust.accept(manifest(1, keys=(BOB,)), of(BOB))


def test_made_up_cosigners_push_out_nothing_that_others_reached(store: Store) -> None:
    store.trust.accept(manifest(3, keys=(ALICE, BOB)), of(ALICE, BOB, threshold=2))
    for number in range(1, MAX_COSIGNERS + 3):
        stranger = SecretKey(number.to_bytes(32, "big"))
        store.trust.accept(manifest(10 + number, keys=(ALICE, stranger)), of(ALICE, BOB))
    assert not store.trust.accept(manifest(2, keys=(ALICE, BOB)), of(ALICE, BOB, threshold=2))


def test_more_channels_than_are_remembered_are_refused_and_none_is_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(truststate, "MAX_HEADS", 2)
    for channel in ("one", "two"):
        assert store.trust.accept(manifest(2, channel=channel))
    with pytest.raises(StoreError, match="no more are remembered"):
        store.trust.accept(manifest(1, channel="three"))
    assert store.trust.accept(manifest(1, channel="three", keys=(BOB,)))
    assert store.trust.accept(manifest(3, channel="one"))
    assert [len(store.trust.heads_of(one, "arm64")) for one in ("one", "two", "three")] == [1, 1, 1]


def test_of_many_that_accept_at_once_the_highest_version_wins(state: Path) -> None:
    stores = [Store.open(state) for _ in range(3)]  # a connection each, as processes have
    made = [manifest(version) for version in range(1, 13)]

    def accept_all(store: Store, seed: int) -> None:
        for each in random.Random(seed).sample(made, len(made)):
            store.trust.accept(each)
            assert versions(store) >= [each.manifest_version]

    failures: list[object] = []
    threads = [
        threading.Thread(target=_collecting(accept_all, failures), args=(store, seed))
        for seed, store in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert versions(stores[0]) == [12]
    for store in stores:
        store.close()


def _collecting(work: Callable[[Store, int], None], failures: list[object]) -> Callable[[Store, int], None]:
    def run(store: Store, seed: int) -> None:
        try:
            work(store, seed)
        except BaseException as error:
            failures.append(error)

    return run


def test_both_sides_of_an_equivocation_are_kept_once(state: Path) -> None:
    first, second = manifest(7), manifest(7, text="another")
    with Store.open(state) as store:
        assert store.trust.record_equivocation(first.raw, second.raw)
        assert not store.trust.record_equivocation(first.raw, second.raw)
        assert not store.trust.record_equivocation(second.raw, first.raw)
    with Store.open(state) as store:
        (evidence,) = store.trust.equivocations()
        assert (evidence.first, evidence.second) == (first.raw, second.raw)
        assert (evidence.channel, evidence.arch, evidence.manifest_version) == ("stable", "arm64", 7)


def test_what_does_not_contradict_is_no_evidence(store: Store) -> None:
    first = manifest(7)
    for other in (first, manifest(8), manifest(7, channel="testing")):
        with pytest.raises(ValueError, match="do not contradict"):
            store.trust.record_equivocation(first.raw, other.raw)
    with pytest.raises(Malformed):
        store.trust.record_equivocation(first.raw, b"{}")
    assert store.trust.equivocations() == []


def test_evidence_is_bounded_and_the_first_stays(store: Store) -> None:
    first = manifest(7)
    kept = [
        store.trust.record_equivocation(first.raw, manifest(7, text=f"other {number}").raw)
        for number in range(MAX_EQUIVOCATIONS + 2)
    ]
    assert kept == [True] * MAX_EQUIVOCATIONS + [False, False]
    assert store.trust.equivocations()[0].second == manifest(7, text="other 0").raw
    elsewhere = [manifest(7, channel="testing", text=text).raw for text in "ab"]
    assert store.trust.record_equivocation(*elsewhere)
