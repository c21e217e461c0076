"""What `discover` finds out, on a network in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2pboot.cli.discover import nothing_found
from p2pboot.core.withheld import Why, Withheld
from p2pboot.fetch.asking.survey import Survey, Surveyor
from p2pboot.fetch.progress import NoProgress
from p2pboot.store.manifests import StoredManifest
from tests.fetch.world import FILES, OTHER_KEY, World, manifest_of

LONG_S = 30.0  # never reached: a survey without discovery ends when everybody answered


@pytest.fixture
def world(tmp_path: Path, inline_threads: None) -> World:
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


async def test_every_provider_is_listed_with_what_it_offers(autojump_clock: MockClock, world: World) -> None:
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


async def test_whom_a_known_peer_knows_is_asked_too_and_who_is_gone_not_waited_for(
    autojump_clock: MockClock, world: World
) -> None:
    manifest = manifest_of()
    async with (
        world.provider(introduces=True) as known,
        world.provider(manifest) as one,
        world.provider(manifest, introduces=True) as other,
        world.provider(manifest) as further,
        world.provider(manifest) as mute,
    ):
        for peer in (one, other, mute):
            await known.transport.dial(peer.address)
        await other.transport.dial(further.address)
        world.network.freeze(mute.peer_id)
        began = trio.current_time()
        found = await survey(world, known.address)
        assert trio.current_time() - began < LONG_S
    assert {peer: provider.offers for peer, provider in found.providers.items()} == {
        known.peer_id: [],
        **{peer.peer_id: [manifest.digest] for peer in (one, other, further)},
    }


async def test_of_two_servers_with_one_key_both_are_asked(autojump_clock: MockClock, world: World) -> None:
    one_has, other_has = manifest_of(version=1), manifest_of(channel="testing")
    async with world.provider(one_has) as one, world.provider(other_has, twin_of=one) as other:
        found = await survey(world, one.address, other.address)
    assert set(found.providers) == {one.peer_id}
    assert set(found.providers[one.peer_id].offers) == {one_has.digest, other_has.digest}


async def test_only_what_was_asked_for_is_listed(autojump_clock: MockClock, world: World) -> None:
    testing = manifest_of(channel="testing")
    async with world.provider(manifest_of()) as one, world.provider(testing) as other:
        found = await survey(world, one.address, other.address, channel="testing")
    assert set(found.manifests) == {testing.digest}
    assert found.providers[one.peer_id].offers == []


async def test_peer_with_a_manifest_of_another_number_is_dropped_and_named(
    autojump_clock: MockClock, world: World
) -> None:
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


async def test_address_where_nobody_is_gets_a_reason(autojump_clock: MockClock, world: World) -> None:
    async with world.provider(manifest_of(), FILES) as provider:
        gone = provider.address
    found = await survey(world, gone, timeout_s=0.05)
    assert found.providers == {}
    assert set(found.unreached) == {gone}


EXPIRED = Withheld("stable", "x86_64", Why.EXPIRED, "manifest version 7 expired at 2026-01-01T00:00:00Z")


async def test_what_is_withheld_is_listed_beside_what_is_offered(world: World) -> None:
    async with (
        world.provider(manifest_of(channel="testing"), withheld=lambda *_: [EXPIRED]) as one,
        world.provider(manifest_of()) as other,
    ):
        found = await survey(world, one.address, other.address)
    (told,) = found.providers[one.peer_id].word.withheld
    assert (told.channel, told.arch, told.reason, told.text) == ("stable", "x86_64", "expired", EXPIRED.text)
    assert found.providers[other.peer_id].word.withheld == ()
    assert len(found.manifests) == 2


@pytest.mark.parametrize(
    ("channel", "arch", "asked", "given"),
    [
        (None, None, "", ()),
        ("stable", None, " for stable/any", ("--channel",)),
        (None, "arm64", " for any/arm64", ("--arch",)),
        ("stable", "arm64", " for stable/arm64", ("--channel", "--arch")),
    ],
)
async def test_only_options_that_were_given_are_to_be_left_out(
    world: World, channel: str | None, arch: str | None, asked: str, given: tuple[str, ...]
) -> None:
    async with world.provider() as empty:
        found = await survey(world, empty.address, channel=channel, arch=arch)
    error = nothing_found(found, channel, arch, [empty.address])
    assert error.message == f"none of 1 peers offers a manifest{asked}"
    assert error.remedy is not None
    assert [option for option in ("--channel", "--arch") if option in error.remedy] == list(given)


async def test_survey_that_finds_only_what_is_withheld_says_who_withholds_it_and_why(world: World) -> None:
    async with (
        world.provider(withheld=lambda *_: [EXPIRED]) as mirror,
        world.provider(manifest_of(channel="testing")) as other,
    ):
        found = await survey(world, mirror.address, other.address, channel="stable")
    error = nothing_found(found, "stable", None, [])
    assert f"peer {mirror.peer_id} knows stable/x86_64 but does not offer it: {EXPIRED.text}" in error.message
    assert f"peer {other.peer_id} has testing/x86_64" in error.message
    assert error.remedy is not None
    assert "--channel" not in error.remedy


async def test_without_addresses_nobody_is_told_to_check_them(world: World) -> None:
    nobody = Survey({}, {}, {}, {}, {})
    alone = nothing_found(nobody, None, None, [])
    assert alone.message == "no provider answered"
    assert alone.remedy == "check that a provider runs on this network, or name one: --bootstrap MULTIADDR"
    named = nothing_found(nobody, None, None, ["/ip4/192.0.2.1/tcp/4001"])
    assert named.remedy is not None
    assert named.remedy.startswith("check the bootstrap addresses")
