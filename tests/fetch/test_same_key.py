"""Two servers with one key: the client's network has a connection with one of them, and both are heard."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest
import trio
from trio.testing import MockClock

from p2pboot.core.verify import Refused
from p2pboot.errors import UsageError
from p2pboot.fetch.asking.same_key import SharedKeyServers, ambiguous_addresses
from p2pboot.fetch.client import fetch
from p2pboot.testing.manifests import NOW
from p2pboot.transport.interface import Transport
from tests.fetch.world import KEY, OTHER_KEY, QUESTION, Provider, Search, World, manifest_of

V1, V2 = manifest_of(version=1), manifest_of(version=2)
V1_AGAIN = manifest_of(version=1, cmdline="other")


@pytest.fixture
def elsewhere(world: World) -> World:
    """A second network. Its first node has the peer id and the host of the first one's first node."""
    return World(world.directory / "elsewhere")


def addresses_of(peer: Provider) -> tuple[str, str]:
    """Hosts count in memory, ports do not: both lead to the one node with the host in either network."""
    return peer.address, peer.address.replace("/tcp/4001", "/tcp/4002")


def opener(elsewhere: World, opened: list[str]) -> AbstractAsyncContextManager[Transport]:
    peer_id = elsewhere.new_peer_id()
    opened.append(peer_id)
    return elsewhere.network.open(peer_id)


def search(world: World, elsewhere: World, transport: Transport, addresses: tuple[str, ...]) -> Search:
    search = Search(world, transport)
    search.shared = SharedKeyServers(lambda: opener(elsewhere, []), addresses, search.ledger)
    return search


async def test_what_only_the_twin_has_is_found_and_where(
    autojump_clock: MockClock, world: World, elsewhere: World
) -> None:
    async with (
        world.provider(V1) as one,
        elsewhere.provider(V2) as twin,
        world.client() as (transport, _),
    ):
        assert one.peer_id == twin.peer_id
        await transport.dial(one.address)
        found = await search(world, elsewhere, transport, addresses_of(one)).run()
    chosen = found.choose(QUESTION)
    assert chosen.manifest == V2
    assert chosen.peers == set()
    assert chosen.asked_apart == dict.fromkeys(addresses_of(one), one.peer_id)
    assert chosen.offered_by == {one.peer_id}
    assert [offer.peers for offer in found.offers if offer.manifest == V1] == [{one.peer_id}]


async def test_a_twin_is_heard_when_the_first_server_has_nothing(
    autojump_clock: MockClock, world: World, elsewhere: World
) -> None:
    async with world.provider() as one, elsewhere.provider(V2), world.client() as (transport, _):
        await transport.dial(one.address)
        found = await search(world, elsewhere, transport, addresses_of(one)).run()
        assert found.choose(QUESTION).manifest == V2
        assert trio.current_time() < 3


async def test_twins_that_contradict_each_other_are_refused(
    autojump_clock: MockClock, world: World, elsewhere: World
) -> None:
    opened: list[str] = []
    async with (
        world.provider(V1) as one,
        elsewhere.provider(V1_AGAIN),
        world.client() as (transport, store),
    ):
        order = world.order(bootstrap=addresses_of(one))
        with pytest.raises(Refused) as refused:
            await fetch(
                order,
                transport=transport,
                store=store,
                progress=world.watcher,
                wall=lambda: NOW,
                open_another=lambda: opener(elsewhere, opened),
            )
        assert len(store.trust.equivocations()) == 1
    assert refused.value.verdict.reason == "equivocation"
    for manifest in (V1, V1_AGAIN):
        assert manifest.digest in refused.value.message
    assert len(set(opened)) == 2


async def test_a_mute_twin_costs_a_short_grace(
    autojump_clock: MockClock, world: World, elsewhere: World
) -> None:
    async with (
        world.provider(V1) as one,
        elsewhere.provider(V2) as twin,
        world.client() as (transport, _),
    ):
        elsewhere.network.freeze(twin.peer_id)
        await transport.dial(one.address)
        found = await search(world, elsewhere, transport, addresses_of(one)).run()
        assert found.choose(QUESTION).manifest == V1
        assert trio.current_time() < 3


def test_only_addresses_that_may_be_twins_are_asked_apart() -> None:
    one, other = "/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/1"
    p, q = (f"/p2p/{key.public.peer_id}" for key in (KEY, OTHER_KEY))
    assert ambiguous_addresses([one]) == ()
    assert ambiguous_addresses([one + p, one + p]) == ()
    assert ambiguous_addresses([one + p, other + q]) == ()
    assert ambiguous_addresses([one + p, other + p, other + q]) == (one + p, other + p)
    assert ambiguous_addresses([one + p, other]) == (other,)
    with pytest.raises(UsageError, match="nonsense"):
        ambiguous_addresses(["nonsense"])
