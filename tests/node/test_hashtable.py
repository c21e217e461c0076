"""What a node puts into the hash table, and whom it finds there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from p2pboot.dht.addresses import AddressPolicy
from p2pboot.dht.client import DhtClient
from p2pboot.dht.keys import content_key, manifest_key, pair_key
from p2pboot.dht.member import DhtMember
from p2pboot.dht.table import Contact
from p2pboot.errors import ProtocolError
from p2pboot.testing.manifests import key_of
from p2pboot.transport.interface import Transport
from p2pboot.wire.kad import KAD_PROTOCOL, Record
from tests.node.world import Mesh, Running, trusting, until

ARM = ("stable", "arm64")
BASES = ["http://10.0.0.7:8080"]


@asynccontextmanager
async def asking(mesh: Mesh, node: Running) -> AsyncIterator[tuple[Transport, DhtClient]]:
    async with mesh.network.open(key_of("client").public.peer_id, is_client=True) as transport:
        await transport.dial(node.address)
        yield transport, DhtClient(transport, AddressPolicy())


async def values(mesh: Mesh, node: Running, key: bytes) -> list[str]:
    found: list[bytes] = []
    async with asking(mesh, node) as (_, client):
        await client.find_values(key, found.append)
    return [value.decode() for value in found]


async def providers(mesh: Mesh, node: Running, key: bytes) -> set[str]:
    found: list[Contact] = []
    async with asking(mesh, node) as (_, client):
        await client.find_providers(key, found.append)
    return {contact.peer_id for contact in found}


async def test_the_manifests_url_is_where_phase_looks(mesh: Mesh, autojump_clock: MockClock) -> None:
    bases = BASES[:]
    tree = mesh.tree("publisher", pair=ARM)
    async with mesh.node("other") as other:
        changes = {"provider": {"directory": tree}, "network": {"bootstrap": (other.address,)}}
        async with mesh.node("publisher", urls=lambda: bases, **changes) as publisher:
            await until(lambda: publisher.version(ARM))
            await trio.sleep(20)
            for node in (publisher, other):  # on the other one it was put
                for name in ("arm64", "aarch64"):
                    url = f"{BASES[0]}/phase/stable/{name}/manifest.json"
                    assert await values(mesh, node, manifest_key("stable", name)) == [url]
                assert await values(mesh, node, manifest_key("stable", "armv8")) == []
            bases[0] = "http://10.0.0.8:8080"
            publisher.node.urls_changed()
            await trio.sleep(20)
            url = "http://10.0.0.8:8080/phase/stable/arm64/manifest.json"
            assert await values(mesh, other, manifest_key(*ARM)) == [url]


async def test_whoever_has_something_is_its_provider(mesh: Mesh, autojump_clock: MockClock) -> None:
    async with mesh.node("other") as other:
        network = {"bootstrap": (other.address,)}
        async with mesh.publisher(network=network) as publisher:
            await until(publisher.version)
            await trio.sleep(20)
            head = publisher.head()
            assert head is not None
            artifacts = publisher.node.catalogue.manifest(head.digest).artifacts.values()
            keys = [pair_key("stable", "x86_64"), *(content_key(one.sha256) for one in artifacts)]
            for key in keys:
                assert await providers(mesh, other, key) == {publisher.transport.peer_id}
            assert await providers(mesh, other, pair_key("testing", "x86_64")) == set()
            # Without a gateway there is no URL.
            assert await values(mesh, other, manifest_key("stable", "x86_64")) == []


@pytest.mark.parametrize(("mode", "finds"), [("server", True), ("client", True), ("off", False)])
async def test_a_mirror_finds_its_publisher_through_whoever_keeps_the_table(
    mesh: Mesh, autojump_clock: MockClock, mode: str, finds: bool
) -> None:
    async with (
        mesh.network.open(key_of("between").public.peer_id) as between,  # speaks nothing else
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(DhtMember(between, AddressPolicy(), serves=True).run)
        network = {"bootstrap": between.addresses()}
        async with mesh.publisher(network=network) as publisher:
            await until(publisher.version)
            changes = {"trust": trusting("publisher"), "network": {**network, "dht": mode}}
            async with mesh.node("mirror", **changes) as mirror:
                await trio.sleep(60)
                assert bool(mirror.version()) is finds
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("mode", ["client", "off"])
async def test_who_is_no_server_answers_nobody(mesh: Mesh, autojump_clock: MockClock, mode: str) -> None:
    async with mesh.node("node", network={"dht": mode}) as node, asking(mesh, node) as (transport, _):
        (connection,) = transport.connections()
        with pytest.raises(ProtocolError):
            await transport.open_stream(connection, KAD_PROTOCOL)


@pytest.mark.parametrize(("mode", "is_put"), [("client", True), ("off", False)])
async def test_a_client_puts_on_others(
    mesh: Mesh, autojump_clock: MockClock, mode: str, is_put: bool
) -> None:
    async with mesh.node("other") as other:
        network = {"bootstrap": (other.address,), "dht": mode}
        async with mesh.publisher(network=network) as publisher:
            await until(publisher.version)
            await trio.sleep(20)
            found = await providers(mesh, other, pair_key("stable", "x86_64"))
            assert found == ({publisher.transport.peer_id} if is_put else set())


async def test_whom_the_operator_did_not_list_is_answered_and_puts_nothing(
    mesh: Mesh, autojump_clock: MockClock, tmp_path: Path
) -> None:
    other = key_of("other").public.peer_id
    network = {"allow_peers": (other,), "swarm_key_path": tmp_path / "swarm.key"}
    async with mesh.node("server", network=network) as server, asking(mesh, server) as (transport, client):
        (connection,) = transport.connections()
        assert await client.greet(connection)
        assert not await client.put(connection, [Record(b"key", b"value")])
