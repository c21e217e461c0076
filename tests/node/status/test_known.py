"""What the manifests that are here say of others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pboot.core.policy import TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.node.status.known import Known
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.store import Store
from p2pboot.testing.manifests import ALICE, NOW
from tests.fetch.world import FILES, KEY
from tests.gateway.world import TRUST, put


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as opened:
        yield opened


def known(store: Store, trust: Trust = TRUST) -> Known:
    return Known(store, Catalogue(store, trust, lambda: NOW))


async def test_an_artifact_is_of_every_release_that_names_it_the_newest_first(
    store: Store, inline_threads: None
) -> None:
    old, new = put(store, version=1), put(store, {**FILES, "kernel": b"another"}, 2, head=False)
    known_here = known(store)
    await known_here.reconcile()
    shared = new.artifacts["initramfs"].sha256
    assert [(one.version, key) for one, key in known_here.releases_of(shared)] == [
        ("v2", "initramfs"),
        ("v1", "initramfs"),
    ]
    ((release, key),) = known_here.releases_of(old.artifacts["kernel"].sha256)
    assert (release.digest, key) == (old.digest, "kernel")
    assert release.sizes == {name: len(data) for name, data in FILES.items()}
    assert known_here.releases_of("00" * 32) == ()


async def test_providers_are_called_as_trusted_manifests_call_them(
    store: Store, inline_threads: None
) -> None:
    manifest = put(store)
    known_here = known(store)
    assert known_here.providers == {}
    await known_here.reconcile()
    assert known_here.providers == {manifest.provider_peer_id: manifest.provider_name}
    assert known_here.publishers == {KEY.public.peer_id, ALICE.public.peer_id, manifest.provider_peer_id}


async def test_what_nobody_trusts_any_more_says_nothing(store: Store, inline_threads: None) -> None:
    manifest = put(store)
    known_here = known(store, Trust(TrustPolicy()))
    await known_here.reconcile()
    assert known_here.providers == {}
    assert known_here.publishers == frozenset()
    assert known_here.releases_of(manifest.artifacts["kernel"].sha256) == ()


async def test_a_damaged_row_costs_only_what_it_said(store: Store, inline_threads: None) -> None:
    manifest = put(store)
    with store.manifests._database.transaction() as sql:
        sql.execute("UPDATE manifests SET raw = ? WHERE digest = ?", (b"{}", manifest.digest))
    known_here = known(store)
    await known_here.reconcile()
    assert known_here.providers == {}
