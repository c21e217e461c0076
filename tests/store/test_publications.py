from __future__ import annotations

import threading
from pathlib import Path

import pytest

from p2pboot.store.errors import CounterTaken
from p2pboot.store.publications import Publications
from p2pboot.store.store import Store

SIGNERS = ("ed25519:aa", "ed25519:bb")
STREAM = (SIGNERS, "stable", "arm64")


def record(publications: Publications, version: int, digest: str, raw: bytes = b"raw") -> None:
    publications.record(
        raw, signers=SIGNERS, channel="stable", arch="arm64", manifest_version=version, digest=digest
    )


def test_a_new_stream_starts_at_nothing(store: Store) -> None:
    assert store.publications.counter(*STREAM) == 0
    assert store.publications.last(*STREAM) is None


def test_what_was_published_is_remembered_durably(state: Path) -> None:
    with Store.open(state) as store:
        record(store.publications, 1, "a", b"first")
        record(store.publications, 2, "b", b"second")
    with Store.open(state) as store:
        assert store.publications.counter(*STREAM) == 2
        assert store.publications.last(*STREAM) == b"second"


def test_the_counter_belongs_to_the_set_of_signers_the_channel_and_the_arch(store: Store) -> None:
    record(store.publications, 5, "a")
    assert store.publications.counter(reversed(SIGNERS), "stable", "arm64") == 5
    for stream in (
        (SIGNERS[:1], "stable", "arm64"),
        (SIGNERS, "testing", "arm64"),
        (SIGNERS, "stable", "x86_64"),
    ):
        assert store.publications.counter(*stream) == 0


@pytest.mark.parametrize("version", [4, 5])
def test_a_number_is_never_used_for_other_content(store: Store, version: int) -> None:
    record(store.publications, 5, "a", b"published")
    with pytest.raises(CounterTaken) as caught:
        record(store.publications, version, "b", b"other")
    assert caught.value.counter == 5
    assert store.publications.last(*STREAM) == b"published"


def test_the_same_content_may_be_recorded_again_with_more_signatures(store: Store) -> None:
    record(store.publications, 5, "a", b"unsigned")
    record(store.publications, 5, "a", b"signed")
    assert store.publications.last(*STREAM) == b"signed"


def test_a_number_used_elsewhere_raises_the_counter_and_is_not_ours_to_use(store: Store) -> None:
    record(store.publications, 5, "a", b"mine")
    store.publications.raise_counter(*STREAM, 9)
    store.publications.raise_counter(*STREAM, 7)
    assert store.publications.counter(*STREAM) == 9
    assert store.publications.last(*STREAM) == b"mine"
    for digest in ("a", "b"):
        with pytest.raises(CounterTaken):
            record(store.publications, 9, digest)
    record(store.publications, 10, "c")


def test_a_counter_can_be_raised_before_anything_was_published(store: Store) -> None:
    store.publications.raise_counter(*STREAM, 3)
    assert store.publications.counter(*STREAM) == 3
    assert store.publications.last(*STREAM) is None


def test_publishers_at_once_never_share_a_number(state: Path) -> None:
    stores = [Store.open(state) for _ in range(3)]  # a connection each, as processes have
    published: list[tuple[int, str]] = []
    barrier = threading.Barrier(len(stores))

    def publish(store: Store, name: str) -> None:
        barrier.wait()
        for number in range(8):
            while True:
                version = store.publications.counter(*STREAM) + 1
                try:
                    record(store.publications, version, f"{name}{number}")
                except CounterTaken:
                    continue
                published.append((version, f"{name}{number}"))
                break

    threads = [threading.Thread(target=publish, args=pair) for pair in zip(stores, "abc", strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(version for version, _ in published) == list(range(1, 25))
    for store in stores:
        store.close()
