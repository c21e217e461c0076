"""What `discover` finds out, on a network in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p2pboot.cli.survey import Survey, Surveyor
from p2pboot.fetch.progress import NoProgress
from p2pboot.store.manifests import StoredManifest
from tests.fetch.world import FILES, OTHER_KEY, World, manifest_of

LONG_S = 30.0  # never reached: a survey without discovery ends when everybody answered


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def survey(
    world: World,
    *addresses: str,
    channel: str | None = None,
    arch: str | None = None,
    timeout_s: float = LONG_S,
) -> Survey:
    async with world.network.open(world.new_peer_id()) as transport:
        return await Surveyor(transport, channel, arch, NoProgress()).run(addresses, None, timeout_s)


async def test_every_provider_is_listed_with_what_it_offers(world: World) -> None:
    stable, testing = manifest_of(), manifest_of(channel="testing", key=OTHER_KEY)
    async with (
        world.provider(stable) as one,
        world.provider(stable) as other,
        world.provider(testing) as third,
    ):
        found = await survey(world, one.address, other.address, third.address)
    assert {peer: provider.offers for peer, provider in found.providers.items()} == {
        one.peer_id: [stable.digest],
        other.peer_id: [stable.digest],
        third.peer_id: [testing.digest],
    }
    assert found.manifests == {stable.digest: stable, testing.digest: testing}
    assert found.dropped == {}


async def test_only_what_was_asked_for_is_listed(world: World) -> None:
    testing = manifest_of(channel="testing")
    async with world.provider(manifest_of()) as one, world.provider(testing) as other:
        found = await survey(world, one.address, other.address, channel="testing")
    assert set(found.manifests) == {testing.digest}
    assert found.providers[one.peer_id].offers == []


async def test_peer_with_a_manifest_of_another_number_is_dropped_and_named(world: World) -> None:
    class Lying:
        """Lists one manifest, and sends another one for it."""

        def __init__(self, catalogue: Any) -> None:
            self._catalogue = catalogue

        def __getattr__(self, name: str) -> Any:
            return getattr(self._catalogue, name)

        def get(self, _digest: str) -> StoredManifest:
            return StoredManifest(manifest_of(version=9).raw, None)

    honest = manifest_of()
    async with world.provider(honest, catalogue=Lying) as liar, world.provider(honest) as other:
        found = await survey(world, liar.address, other.address)
    assert set(found.dropped) == {liar.peer_id}
    assert "sent another" in found.dropped[liar.peer_id]
    assert set(found.providers) == {other.peer_id}
    assert set(found.manifests) == {honest.digest}


async def test_address_where_nobody_is_gets_a_reason(world: World) -> None:
    async with world.provider(manifest_of(), FILES) as provider:
        gone = provider.address
    found = await survey(world, gone, timeout_s=0.05)
    assert found.providers == {}
    assert set(found.unreached) == {gone}
