"""What `discover` finds out, on a network in memory."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2pboot.cli.discover import nothing_found
from p2pboot.core.addressbook import Entry, KnownAddress
from p2pboot.core.withheld import Why, Withheld
from p2pboot.fetch.asking.survey import WATCH_S, Survey, Surveyor
from p2pboot.fetch.asking.wider import WiderSearch
from p2pboot.fetch.progress import NoProgress
from p2pboot.store.manifests import StoredManifest
from p2pboot.store.store import Store
from p2pboot.testing.stores import offer
from p2pboot.transport.interface import PeerSource
from p2pboot.wire.ping import PING_PROTOCOL
from tests.fetch.test_wider import join, keepers
from tests.fetch.world import FILES, OTHER_KEY, World, manifest_of
from tests.transport.conftest import echo

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


def hints_of(*addresses: str) -> AsyncIterable[str]:
    """What discovery on the local network finds."""
    send, hints = trio.open_memory_channel[str](len(addresses))
    for address in addresses:
        send.send_nowait(address)
    return hints


async def test_it_is_known_how_each_peer_was_found(
    autojump_clock: MockClock, world: World, store: Store
) -> None:
    async with (
        world.provider(manifest_of(), introduces=True) as named,
        world.provider(manifest_of()) as told_of,
        world.provider(manifest_of()) as neighbour,
        world.provider(manifest_of()) as remembered,
        world.network.open(world.new_peer_id()) as transport,
    ):
        for known in (told_of, neighbour):
            await named.transport.dial(known.address)
        store.peers_of(None).save([Entry(remembered.peer_id, (KnownAddress(remembered.address, 1),))], [])
        surveyor = Surveyor(transport, None, None, NoProgress(), book=store.peers_of(None))
        found = await surveyor.run([named.address], hints_of(neighbour.address), LONG_S)
    assert {peer_id: peer.sources[0] for peer_id, peer in found.providers.items()} == {
        named.peer_id: PeerSource.BOOTSTRAP,
        told_of.peer_id: PeerSource.PEERS,
        neighbour.peer_id: PeerSource.LAN,
        remembered.peer_id: PeerSource.ADDRESS_BOOK,
    }
    assert found.peers[neighbour.peer_id].sources == (PeerSource.LAN, PeerSource.PEERS)


async def test_whoever_is_given_a_book_waits_until_it_was_followed(
    autojump_clock: MockClock, world: World, store: Store
) -> None:
    async with world.provider() as named, world.provider() as remembered, world.provider() as gone:
        known = [(peer.peer_id, KnownAddress(peer.address, 1)) for peer in (remembered, gone)]
        store.peers_of(None).save([Entry(peer_id, (address,)) for peer_id, address in known], [])
        world.network.freeze(gone.peer_id)
        async with world.network.open(world.new_peer_id()) as transport:
            surveyor = Surveyor(transport, None, None, NoProgress(), book=store.peers_of(None))
            began = trio.current_time()
            found = await surveyor.run([named.address], None, LONG_S)
            assert trio.current_time() - began < LONG_S
    assert set(found.providers) == {named.peer_id, remembered.peer_id}


async def test_whom_the_hash_table_tells_of_was_found_there(autojump_clock: MockClock, world: World) -> None:
    async with (
        keepers(world, 3) as there,
        world.provider(manifest_of()) as provider,
        trio.open_nursery() as nursery,
        world.network.open(world.new_peer_id()) as transport,
    ):
        await join(nursery, provider, there[0])
        pair = ("stable", "x86_64")
        surveyor = Surveyor(transport, *pair, NoProgress(), WiderSearch(transport, pair))
        found = await surveyor.run(there[2].addresses(), None, 10)
        nursery.cancel_scope.cancel()
    assert found.peers[provider.peer_id].sources == (PeerSource.DHT,)
    keeper = found.peers[there[2].peer_id]  # which speaks nothing else
    assert keeper.sources == (PeerSource.BOOTSTRAP,)
    assert keeper.failure is not None
    assert set(found.providers) == {provider.peer_id}


async def test_round_trip_is_measured_where_pings_are_answered(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.provider(manifest_of()) as one, world.provider(manifest_of()) as other:
        one.transport.handle(PING_PROTOCOL, echo)
        found = await survey(world, one.address, other.address)
    assert found.peers[one.peer_id].round_trip_s == 0  # no time passes here
    assert found.peers[other.peer_id].round_trip_s is None


class Watching:
    """The surveys that a watch shows."""

    def __init__(self) -> None:
        self.shown: list[Survey] = []
        self.why_nobody: list[Survey] = []

    @property
    def offered(self) -> dict[str, tuple[str, ...]]:
        return {peer_id: peer.offers for peer_id, peer in self.shown[-1].peers.items()}


@asynccontextmanager
async def watching(world: World, *addresses: str) -> AsyncIterator[Watching]:
    seen = Watching()
    async with world.network.open(world.new_peer_id()) as transport, trio.open_nursery() as nursery:
        surveyor = Surveyor(transport, None, None, NoProgress())
        nursery.start_soon(surveyor.watch, addresses, None, seen.shown.append, seen.why_nobody.append)
        yield seen
        nursery.cancel_scope.cancel()


async def test_a_watch_sees_who_comes_what_changes_and_who_goes(
    autojump_clock: MockClock, world: World
) -> None:
    first, second = manifest_of(version=1), manifest_of(version=2)
    async with world.provider(first) as provider, watching(world, provider.address) as seen:
        await trio.sleep(1)
        assert seen.offered == {provider.peer_id: (first.digest,)}
        offer(provider.store, second, FILES, None)
        await trio.sleep(WATCH_S + 1)
        assert seen.offered == {provider.peer_id: (second.digest,)}
        assert set(seen.shown[-1].manifests) == {second.digest}  # what nobody offers is not kept
        watcher = next(iter(provider.transport.peers()))
        world.network.cut(provider.peer_id, watcher)
        await trio.sleep(2)
        assert seen.offered == {}
        world.network.heal(provider.peer_id, watcher)
        await trio.sleep(10)
        assert seen.offered == {provider.peer_id: (second.digest,)}
        assert seen.why_nobody == []


async def test_a_watched_peer_that_does_not_answer_any_more_is_still_there(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.provider(manifest_of()) as provider, watching(world, provider.address) as seen:
        await trio.sleep(1)
        world.network.freeze(provider.peer_id)
        await trio.sleep(2 * WATCH_S + 10)
        peer = seen.shown[-1].peers[provider.peer_id]
        assert peer.failure is not None
        assert "no answer" in peer.failure
        world.network.thaw(provider.peer_id)
        await trio.sleep(2 * WATCH_S)
        assert seen.shown[-1].peers[provider.peer_id].failure is None


async def test_of_a_watched_twin_that_goes_nothing_is_left_but_the_other(
    autojump_clock: MockClock, world: World
) -> None:
    one_has, other_has = manifest_of(version=1), manifest_of(channel="testing")
    async with (
        world.provider(one_has) as one,
        world.provider(other_has, twin_of=one) as other,
        watching(world, one.address, other.address) as seen,
    ):
        await trio.sleep(1)
        assert set(seen.offered[one.peer_id]) == {one_has.digest, other_has.digest}
        world.network.cut(other.address, next(iter(one.transport.peers())))
        await trio.sleep(1)
        assert seen.offered == {one.peer_id: (one_has.digest,)}


async def test_a_watch_that_has_lost_all_looks_in_the_hash_table_again(
    autojump_clock: MockClock, world: World
) -> None:
    pair = ("stable", "x86_64")
    async with (
        keepers(world, 3) as there,
        world.provider(manifest_of()) as one,
        world.provider(manifest_of()) as other,
        trio.open_nursery() as nursery,
        world.network.open(world.new_peer_id()) as transport,
    ):
        seen: list[Survey] = []
        surveyor = Surveyor(transport, *pair, NoProgress(), WiderSearch(transport, pair))
        nursery.start_soon(surveyor.watch, there[2].addresses(), None, seen.append, seen.append)
        await join(nursery, one, there[0])
        assert set(seen[-1].providers) == {one.peer_id}
        world.network.cut(one.peer_id, transport.peer_id)
        await trio.sleep(1)
        assert set(seen[-1].providers) == set()
        await join(nursery, other, there[0])
        assert seen[-1].providers[other.peer_id].sources == (PeerSource.DHT,)
        nursery.cancel_scope.cancel()


async def test_a_watch_says_once_that_nobody_is_there_and_goes_on(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.provider(manifest_of()) as provider:
        world.network.freeze(provider.peer_id)
        async with watching(world, provider.address) as seen:
            await trio.sleep(60)
            assert [list(each.unreached) for each in seen.why_nobody] == [[provider.address]]
            world.network.thaw(provider.peer_id)
            await trio.sleep(10)
            assert set(seen.offered) == {provider.peer_id}


async def test_every_provider_is_listed_with_what_it_offers(autojump_clock: MockClock, world: World) -> None:
    stable, testing = manifest_of(), manifest_of(channel="testing", key=OTHER_KEY)
    async with (
        world.provider(stable) as one,
        world.provider(stable) as other,
        world.provider(testing) as third,
    ):
        found = await survey(world, one.address, other.address, third.address)
    assert {peer: provider.offers for peer, provider in found.providers.items()} == {
        one.peer_id: (stable.digest,),
        other.peer_id: (stable.digest,),
        third.peer_id: (testing.digest,),
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
        known.peer_id: (),
        **{peer.peer_id: (manifest.digest,) for peer in (one, other, further)},
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
    assert found.providers[one.peer_id].offers == ()


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
    assert alone.remedy is not None
    assert alone.remedy.startswith(
        "check that a provider runs on this network, or name one: --bootstrap MULTIADDR"
    )
    assert "`p2pboot doctor`" in alone.remedy
    named = nothing_found(nobody, None, None, ["/ip4/192.0.2.1/tcp/4001"])
    assert named.remedy is not None
    assert named.remedy.startswith("check the bootstrap addresses")
