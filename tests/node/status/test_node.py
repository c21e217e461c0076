"""What nodes that run say of their peers, of bytes, of what they fetch and of who boots; on the network in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pboot.core.manifest import Manifest
from p2pboot.core.pieces import MIN_PIECE
from p2pboot.fetch.asking.requests import requests_to
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.progress import NoProgress
from p2pboot.fetch.receiving.artifacts import fetch_artifacts
from p2pboot.fetch.receiving.swarm import Network
from p2pboot.node.status.acquaintance import MAX_HOLDS, MAX_NAME
from p2pboot.protocol.client import ask_read
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, Head
from p2pboot.protocol.swarm import SWARM_PROTOCOL
from p2pboot.serving.accounts import Serving
from p2pboot.serving.contents import Contents
from p2pboot.serving.swarm import SwarmServer
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import content
from p2pboot.testing.manifests import key_of
from p2pboot.transport.interface import Connection, Gossip, PeerSource, Stream
from p2pboot.transport.nearness import Nearness
from p2pboot.transport.traffic import HTTP, SENT
from p2pboot.wire.identify import IDENTIFY_PROTOCOL, Identity, encode_identify
from p2pboot.wire.ping import PING_PROTOCOL
from tests.node.world import PAIR, Mesh, Running, trusting, until

TRUST = trusting("publisher", channels=("stable",), archs=("x86_64",))


@pytest.fixture(autouse=True)
def no_subnets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever subnets the machine is in: who is near, a test says by sites."""
    monkeypatch.setattr(Nearness, "near_address", lambda _self, _address: False)


def peer_id_of(name: str) -> str:
    return key_of(name).public.peer_id


def to(*others: Running, **changes: Any) -> dict[str, Any]:
    return {"bootstrap": tuple(other.address for other in others), **changes}


async def peer_of(node: Running, other: Running | Gossip) -> dict[str, Any]:
    peer_id = other.peer_id if not isinstance(other, Running) else other.transport.peer_id
    (peer,) = [one for one in (await node.status())["peers"] if one["peer_id"] == peer_id]
    return dict(peer)


@asynccontextmanager
async def mirrored(mesh: Mesh, **network: Any) -> AsyncIterator[tuple[Running, Running]]:
    """A publisher, and a mirror that holds what it publishes."""
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher, **network)) as mirror,
    ):
        await until(lambda: mirror.version() == 1)
        yield publisher, mirror


async def test_who_a_node_is(mesh: Mesh, autojump_clock: None) -> None:
    async with mirrored(mesh) as (publisher, mirror):
        said = await publisher.status()
        assert (said["role"], said["name"], said["admin"]) == ("publisher", "test", None)
        assert said["now"] == "2027-01-15T08:00:00Z"
        said = await mirror.status()
        assert said["role"] == "mirror"
        mirror.node.admin = "http://127.0.0.1:4080"
        assert (await mirror.status())["admin"] == "http://127.0.0.1:4080"


async def test_a_publisher_is_called_what_its_manifest_calls_it(mesh: Mesh, autojump_clock: None) -> None:
    async with mirrored(mesh) as (publisher, mirror):
        await trio.sleep(1)
        peer = await peer_of(mirror, publisher)
        assert (peer["name"], peer["publisher"], peer["path"]) == ("test", True, "bootstrap")
        peer = await peer_of(publisher, mirror)
        assert (peer["name"], peer["publisher"], peer["path"]) == (None, False, "incoming")


@pytest.mark.parametrize(
    ("source", "path"),
    [
        (PeerSource.BOOTSTRAP, "bootstrap"),
        (PeerSource.LAN, "lan"),
        (PeerSource.DHT, "dht"),
        (PeerSource.PEERS, "mesh"),
        (PeerSource.ADDRESS_BOOK, "mesh"),
        (None, "mesh"),
    ],
)
async def test_the_path_is_how_a_peer_was_found(
    mesh: Mesh, autojump_clock: None, source: PeerSource | None, path: str
) -> None:
    async with mesh.node("mirror") as mirror, mesh.node("other") as other:
        await mirror.transport.dial(other.address, source)
        peer = await peer_of(mirror, other)
        assert (peer["path"], peer["near"]) == (path, False)


async def test_the_path_to_a_peer_at_the_same_site_is_the_lan(mesh: Mesh, autojump_clock: None) -> None:
    async with (
        mesh.publisher(network={"site": "rack"}) as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher, site="rack")) as mirror,
    ):
        await until(lambda: mirror.version() == 1)
        await trio.sleep(60)
        assert (await peer_of(mirror, publisher))["path"] == "lan"
        assert (await peer_of(publisher, mirror))["path"] == "lan"


async def test_what_a_peer_holds_is_what_it_says(mesh: Mesh, autojump_clock: None) -> None:
    async with mirrored(mesh) as (publisher, mirror):
        assert (await peer_of(mirror, publisher))["holds"] == ["stable/x86_64 #1"]


async def test_what_a_peer_says_that_it_holds_is_bounded(mesh: Mesh, autojump_clock: None) -> None:
    async with (
        mesh.node("mirror") as mirror,
        mesh.network.open(peer_id_of("stranger"), is_client=True) as stranger,
    ):
        await stranger.dial(mirror.address)
        heads = [Head("c\n" * 500, "<b>", (), 1 << 60, "d", 1)] * 5000
        mirror.node._collector.acquaintance.note_heads(stranger.peer_id, heads)
        holds = (await peer_of(mirror, stranger))["holds"]
        assert len(holds) == MAX_HOLDS
        assert all(len(line) <= 160 and line.isprintable() for line in holds)


# -- names and round trips, asked for while somebody looks


@asynccontextmanager
async def answering(
    mesh: Mesh, mirror: Running, agent: str, *, takes_s: float = 0.0
) -> AsyncIterator[Gossip]:
    """A peer that answers pings and identify."""

    async def pong(stream: Stream) -> None:
        while data := await stream.read(32):
            await trio.sleep(takes_s)
            await stream.write(data)

    async def identify(stream: Stream) -> None:
        await stream.write(encode_identify(Identity(agent_version=agent)))

    async with mesh.network.open(peer_id_of("talker")) as talker:
        talker.handle(PING_PROTOCOL, pong)
        talker.handle(IDENTIFY_PROTOCOL, identify)
        await talker.dial(mirror.address)
        yield talker


async def asked(mirror: Running, peer: Gossip) -> dict[str, Any]:
    """What is told of a peer some seconds after somebody looked."""
    await peer_of(mirror, peer)
    await trio.sleep(10)
    return await peer_of(mirror, peer)


async def test_round_trip_and_name_are_there_at_the_first_look(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.node("mirror") as mirror, answering(mesh, mirror, "kubo/0.9", takes_s=0.0125) as peer:
        await trio.sleep(100)
        assert mirror.transport.traffic[PING_PROTOCOL, SENT] == 0
        told = await peer_of(mirror, peer)
        assert (told["name"], told["rtt_ms"]) == ("kubo/0.9", 12.5)


async def test_who_looks_does_not_wait_for_who_is_slow(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.node("mirror") as mirror, answering(mesh, mirror, "kubo/0.9", takes_s=0.4) as peer:
        began = trio.current_time()
        first = await peer_of(mirror, peer)
        assert trio.current_time() - began < 1
        assert (first["name"], first["rtt_ms"]) == (None, None)
        later = await asked(mirror, peer)
        assert (later["name"], later["rtt_ms"]) == ("kubo/0.9", 400.0)


async def test_nobody_is_asked_anything_while_nobody_looks(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.node("mirror") as mirror, answering(mesh, mirror, "kubo") as peer:
        await asked(mirror, peer)
        await trio.sleep(100)
        before = mirror.transport.traffic[PING_PROTOCOL, SENT]
        await trio.sleep(1000)
        assert mirror.transport.traffic[PING_PROTOCOL, SENT] == before


async def test_who_only_reads_numbers_has_nobody_asked(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.node("mirror") as mirror, answering(mesh, mirror, "kubo"):
        for _ in range(3):  # as Prometheus and the service manager's line do
            mirror.node.running()
            await mirror.node.status(watched=False)
            await trio.sleep(2)
        assert mirror.transport.traffic[PING_PROTOCOL, SENT] == 0
        await mirror.node.status()
        await trio.sleep(2)
        assert mirror.transport.traffic[PING_PROTOCOL, SENT] > 0


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("", None),
        ("\x1b[31mred\x07\r\nnext\u202eline", "[31mred next line"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("x" * 256, "x" * MAX_NAME),
        ("x" * 1_000_000, None),  # more than identify may have
    ],
)
async def test_names_of_strangers_are_one_short_line(
    mesh: Mesh, autojump_clock: None, agent: str, name: str | None
) -> None:
    async with mesh.node("mirror") as mirror, answering(mesh, mirror, agent) as peer:
        told = await asked(mirror, peer)
        assert told["name"] == name
        assert told["rtt_ms"] == 0


async def test_a_peer_that_answers_nothing_costs_nobody_else_his_answer(
    mesh: Mesh, autojump_clock: None
) -> None:
    async def silence(_stream: Stream) -> None:
        await trio.sleep_forever()

    async with (
        mesh.node("mirror") as mirror,
        answering(mesh, mirror, "kubo") as peer,
        mesh.network.open(peer_id_of("mute")) as mute,
    ):
        mute.handle(PING_PROTOCOL, silence)
        mute.handle(IDENTIFY_PROTOCOL, silence)
        await mute.dial(mirror.address)
        assert (await asked(mirror, peer))["name"] == "kubo"
        told = await peer_of(mirror, mute)
        assert (told["name"], told["rtt_ms"]) == (None, None)


async def test_of_very_many_peers_those_that_matter_are_told(mesh: Mesh, autojump_clock: None) -> None:
    async with mirrored(mesh) as (publisher, mirror), trio.open_nursery() as nursery:

        async def stranger(name: str, task_status: Any) -> None:
            async with mesh.network.open(peer_id_of(name), is_client=True) as transport:
                await transport.dial(mirror.address)
                task_status.started()
                await trio.sleep_forever()

        for number in range(300):
            await nursery.start(stranger, f"0{number:04}")
        said = await mirror.status()
        assert said["peers_total"] == 301
        assert len(said["peers"]) == 256
        for _ in range(8):  # addresses are looked at in turns
            said = await mirror.status()
        assert all(one["addresses"] for one in said["peers"])
        assert publisher.transport.peer_id in [one["peer_id"] for one in said["peers"]]
        nursery.cancel_scope.cancel()


# -- bytes


async def test_bytes_are_told_by_class_and_by_peer(mesh: Mesh, autojump_clock: None) -> None:
    async with mirrored(mesh, site="rack") as (publisher, mirror):
        network = to(mirror, site="rack")
        async with mesh.node("neighbour", trust=TRUST, network=network) as neighbour:
            await until(lambda: neighbour.version() == 1)
            mirror.node.bandwidth.traffic.count("192.0.2.7", HTTP, SENT, 4321)
            await trio.sleep(10)
            flows = (await mirror.status())["flows"]
            assert sum(flows["received"]["publisher"]) > 200_000
            assert sum(flows["sent"]["http"]) == 4321
            assert sum(flows["sent"]["lan"]) + sum(flows["sent"]["mesh"]) > 1000
            assert flows["totals"]["received"]["publisher"] == sum(flows["received"]["publisher"])
            assert "2027-01-15T07:59:54Z" < flows["ends_at"] <= "2027-01-15T08:00:00Z"
            peer = await peer_of(mirror, publisher)
            assert peer["received"] > 200_000
            assert peer["sent"] > 0


async def test_who_is_gone_within_an_interval_counts_as_what_he_was(
    mesh: Mesh, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with mirrored(mesh) as (_publisher, mirror):
        monkeypatch.setattr(Nearness, "near_address", lambda _self, _address: True)
        await trio.sleep(6)
        before = (await mirror.status())["flows"]["totals"]["sent"]
        head = mirror.head()
        assert head is not None
        manifest = mirror.node.catalogue.manifest(head.digest)
        async with mesh.network.open(peer_id_of("client"), is_client=True) as client:
            await take_all(client, await client.dial(mirror.address), manifest)
        await trio.sleep(6)
        after = (await mirror.status())["flows"]["totals"]["sent"]
        assert after["lan"] - before["lan"] >= sum(one.size for one in manifest.artifacts.values())


async def test_a_rate_is_there_while_bytes_pass_and_gone_soon_after(mesh: Mesh, autojump_clock: None) -> None:
    async with mirrored(mesh) as (publisher, mirror):
        assert (await peer_of(mirror, publisher))["rate_received"] > 0
        await trio.sleep(20)
        assert (await peer_of(mirror, publisher))["rate_received"] < 1000


# -- what is being fetched


@asynccontextmanager
async def fetching(mesh: Mesh, piece_length: int = MIN_PIECE) -> AsyncIterator[tuple[Running, Running]]:
    """A mirror that has just begun to fetch 2 MiB over a thin line."""
    directory = mesh.tree("publisher")
    (directory.joinpath(*PAIR) / "rootfs").write_bytes(content("rootfs", 32 * MIN_PIECE))
    provider = {"directory": directory, "piece_length": piece_length}
    async with mesh.node("publisher", provider=provider) as publisher:
        await until(lambda: publisher.version() == 1)
        mesh.network.limit_upload(publisher.transport.peer_id, 100_000)
        async with mesh.node("mirror", trust=TRUST, network=to(publisher)) as mirror:
            yield publisher, mirror


def rootfs_of(said: dict[str, Any]) -> dict[str, Any]:
    (release,) = said["fetching"]
    (rootfs,) = [one for one in release["artifacts"] if one["name"] == "rootfs"]
    return dict(rootfs)


async def test_progress_is_told_per_artifact_with_pieces_and_givers(mesh: Mesh, autojump_clock: None) -> None:
    async with fetching(mesh) as (publisher, mirror):
        await trio.sleep(15)
        said = await mirror.status()
        (release,) = said["fetching"]
        rootfs = rootfs_of(said)
        assert 0 < release["bytes_done"] < release["bytes_total"]
        assert release["bytes_done"] == sum(one["done"] for one in release["artifacts"])
        assert 0 < rootfs["done"] < rootfs["size"] == 32 * MIN_PIECE
        assert rootfs["pieces"] == sum(rootfs["held"]) == 32
        assert sum(rootfs["held"][1::2]) * MIN_PIECE == rootfs["done"]
        assert 50_000 < rootfs["rate"] < 200_000
        assert rootfs["left_s"] == pytest.approx((rootfs["size"] - rootfs["done"]) / rootfs["rate"], abs=1)
        assert rootfs["waiting_s"] is None
        (giver,) = rootfs["from"]
        assert (giver["peer_id"], giver["name"]) == (publisher.transport.peer_id, "test")
        assert giver["bytes"] >= rootfs["done"]
        assert giver["rate"] > 0
        assert set(release["sources"]) == {"lan", "mesh", "publisher"}
        given = [one["bytes"] for each in release["artifacts"] for one in each["from"]]
        assert release["sources"]["publisher"] == sum(given)
        await until(lambda: mirror.version() == 1)
        assert (await mirror.status())["fetching"] == []


async def test_when_nothing_comes_it_is_said_since_when(mesh: Mesh, autojump_clock: None) -> None:
    async with fetching(mesh) as (publisher, mirror):
        await trio.sleep(15)
        mesh.network.freeze(publisher.transport.peer_id)
        await trio.sleep(12)
        rootfs = rootfs_of(await mirror.status())
        assert 8 <= rootfs["waiting_s"] <= 14
        assert (rootfs["rate"], rootfs["left_s"]) == (0, None)
        assert rootfs["done"] > 0
        mesh.network.thaw(publisher.transport.peer_id)
        await until(lambda: mirror.version() == 1)


async def test_slow_bytes_are_bytes(mesh: Mesh, autojump_clock: None) -> None:
    """A piece takes ten seconds on such a line, and all the time it comes."""
    async with fetching(mesh, piece_length=16 * MIN_PIECE) as (_publisher, mirror):
        await trio.sleep(5)
        told = []
        for _ in range(6):
            told.append(rootfs_of(await mirror.status()))
            await trio.sleep(1.5)
        assert [one["waiting_s"] for one in told] == [None] * 6
        assert told[2]["done"] == 0


# -- who boots


async def test_a_client_that_fetches_boots_and_a_mirror_does_not(mesh: Mesh, autojump_clock: None) -> None:
    async with mirrored(mesh) as (publisher, mirror):
        assert (await publisher.status())["clients"] == []
        (head,) = mirror.store.manifests.heads()
        manifest = mirror.node.catalogue.manifest(head.digest)
        async with mesh.network.open(peer_id_of("client"), is_client=True) as client:
            connection = await client.dial(mirror.address)
            await trio.sleep(1)
            await take_all(client, connection, manifest)
            (boot,) = (await mirror.status())["clients"]
        sizes = {key: artifact.size for key, artifact in manifest.artifacts.items()}
        assert boot == boot | {
            "peer_id": peer_id_of("client"),
            "via": "p2p",
            "channel": "stable",
            "arch": "x86_64",
            "version": manifest.version,
            "bytes": sum(sizes.values()),
            "done": True,
            "began_at": "2027-01-15T08:00:00Z",
        }
        assert boot["address"].startswith("10.0.")


async def test_a_client_that_fetches_from_two_is_done_by_its_own_word(
    mesh: Mesh, autojump_clock: None, tmp_path: Path
) -> None:
    leaf = mesh.tree("large").joinpath(*PAIR)
    for name in ("kernel", "initramfs"):
        (leaf / name).write_bytes(content(name, 16 * MIN_PIECE))
    async with (
        mesh.node(
            "publisher", provider={"directory": leaf.parent.parent, "piece_length": MIN_PIECE}
        ) as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher)) as mirror,
    ):
        await until(lambda: mirror.version() == 1)
        head = mirror.head()
        assert head is not None
        manifest = mirror.node.catalogue.manifest(head.digest)
        for node in (publisher, mirror):
            mesh.network.limit_upload(node.transport.peer_id, 50_000)
        async with mesh.network.open(peer_id_of("client"), is_client=True) as client:
            with Store.open(tmp_path / "client") as store:
                contents = Contents()
                contents.add(store.blobs)
                client.handle(SWARM_PROTOCOL, SwarmServer(client, Serving(), contents).handle)
                for node in (publisher, mirror):
                    await client.dial(node.address)
                store.manifests.put(manifest, None)
                await fetch_artifacts(
                    manifest.artifacts.values(), store.blobs, Network(client, Ledger(NoProgress()))
                )
                await trio.sleep(10)
                boots = [boot for node in (publisher, mirror) for boot in (await node.status())["clients"]]
        size = sum(one.size for one in manifest.artifacts.values())
        assert [boot["done"] for boot in boots] == [True, True]
        assert all(0 < boot["bytes"] < size for boot in boots)


async def take_all(client: Gossip, connection: Connection, manifest: Manifest) -> None:
    async with requests_to(client, connection, ARTIFACT_PROTOCOL, 60) as requests:
        for artifact in manifest.artifacts.values():
            for offset in range(0, artifact.size, MIN_PIECE):
                length = min(MIN_PIECE, artifact.size - offset)
                await requests.ask(ask_read(artifact.sha256, offset, length))
