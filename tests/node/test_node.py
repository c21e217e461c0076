"""Whole nodes: how a manifest gets from a directory to everybody, and what stands in its way."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
import trio

from p2pboot.core.manifest import Manifest, check_detached
from p2pboot.core.problems import Code, Problem
from p2pboot.core.rollback import AcceptedHead
from p2pboot.core.trustdocs.rootbody import NO_FLEET
from p2pboot.errors import StoreError
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.node import quiet
from p2pboot.node.announcing import AFTER_CONNECT_S, BETWEEN_S
from p2pboot.node.observing import DAMAGE_S
from p2pboot.protocol.client import ask_heads
from p2pboot.protocol.messages import (
    ARTIFACT_PROTOCOL,
    SYNC_PROTOCOL,
    Reply,
    Request,
    Status,
    manifest_topic,
    yanks_topic,
)
from p2pboot.protocol.swarm import SWARM_PROTOCOL
from p2pboot.serving.accounts import Serving
from p2pboot.serving.artifacts import ArtifactServer
from p2pboot.serving.conversation import Reserve, serve_stream
from p2pboot.store.blobs import BlobStore
from p2pboot.testing.manifests import DAY_S, NOW, key_of
from p2pboot.testing.stores import is_intact
from p2pboot.transport.bandwidth import Rates
from p2pboot.transport.interface import Forwarding, Stream
from p2pboot.transport.traffic import HTTP, SENT
from tests.connections import connection_with
from tests.node.world import PAIR, Mesh, Running, Wall, files_of, never, signed, trusting, until, write_tree

TRUST = trusting("publisher", channels=("stable",), archs=("x86_64",))
GOSSIP_ONLY = {"gossip": True, "sync": False}
SYNC_ONLY = {"gossip": False, "sync": True}


def to(*nodes: Running, **network: object) -> dict[str, object]:
    return {"bootstrap": tuple(node.address for node in nodes), **network}


async def heads_offered(asker: Running, peer: Running) -> list[int]:
    stream = await asker.transport.open_stream(
        connection_with(asker.transport, peer.transport), SYNC_PROTOCOL
    )
    async with RequestStream(stream) as requests:
        return [head.manifest_version for head in (await requests.ask(ask_heads())).heads]


def in_force(node: Running) -> Manifest:
    head = node.head()
    assert head is not None
    stored = node.store.manifests.get(head.digest)
    assert stored is not None
    return Manifest.parse(stored.raw)


def republish(node: Running, seed: str) -> None:
    directory = node.settings.provider.directory
    assert directory is not None
    write_tree(directory, seed)


# -- from the publisher to everybody


@pytest.mark.parametrize("network", [GOSSIP_ONLY, SYNC_ONLY], ids=["gossip", "sync"])
async def test_gossip_and_sync_each_carry_the_load_alone(
    mesh: Mesh, autojump_clock: None, network: dict[str, bool]
) -> None:
    async with mesh.publisher(network=network) as publisher:
        await until(lambda: publisher.version() == 1)
        async with mesh.node("mirror", trust=TRUST, network=to(publisher, **network)) as mirror:
            await until(lambda: mirror.version() == 1)  # a late joiner
            republish(publisher, "second")
            await publisher.ask(op="publish")
            await until(lambda: mirror.version() == 2)
            manifest = in_force(mirror)
            for name, data in files_of("second").items():
                assert mirror.store.blobs.read(manifest.artifacts[name].sha256, 0, len(data)) == data
            assert manifest.raw == in_force(publisher).raw


async def test_mirrors_that_know_only_the_publisher_know_each_other_before_it_publishes(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.publisher() as publisher, AsyncExitStack() as stack:
        mirrors = [
            await stack.enter_async_context(
                mesh.node(f"mirror {number}", trust=TRUST, network=to(publisher, site=f"rack-{number % 2}"))
            )
            for number in range(5)
        ]
        await until(lambda: all(len(mirror.transport.connections()) == 5 for mirror in mirrors))
        mates = [connection_with(mirrors[0].transport, other.transport) for other in (mirrors[2], mirrors[4])]
        await until(lambda: all(map(mirrors[0].node._neighbourhood.nearness.near, mates)))


async def test_a_node_that_knows_only_a_mirror_gets_manifest_artifacts_and_detached_signature(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.node("mirror", trust=TRUST) as mirror:
        async with mesh.publisher(network=to(mirror)) as publisher:
            await until(lambda: mirror.version() == 1)
            expected = in_force(publisher)
        async with mesh.node("second", trust=TRUST, network=to(mirror)) as second:
            await until(lambda: second.version() == 1)
            stored = second.store.manifests.get(expected.digest)
            assert stored is not None
            assert stored.raw == expected.raw
            assert stored.detached is not None
            check_detached(stored.raw, stored.detached, expected.signers)


async def test_what_gossip_brought_gets_its_detached_signature_by_asking(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.publisher() as publisher:
        network = to(publisher, sync_interval_s=10_000)
        async with mesh.node("mirror", trust=TRUST, network=network) as mirror:
            await until(lambda: mirror.version() == 1)
            republish(publisher, "second")
            await publisher.ask(op="publish")
            await until(lambda: mirror.version() == 2)
            stored = mirror.store.manifests.get(in_force(publisher).digest)
            assert stored is not None
            assert stored.detached is not None


async def test_a_mute_peer_does_not_hold_the_head_back_for_long(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.publisher() as publisher, mesh.node("mute") as mute:
        network = to(publisher, mute, sync_interval_s=10_000)
        async with mesh.node("mirror", trust=TRUST, network=network) as mirror:
            await until(lambda: mirror.version() == 1)
            mesh.network.freeze(mute.transport.peer_id)
            republish(publisher, "second")
            await publisher.ask(op="publish")
            began = trio.current_time()
            await until(lambda: mirror.version() == 2)
            assert trio.current_time() - began < 5
            mesh.network.thaw(mute.transport.peer_id)


async def test_heads_are_announced_again_and_again(mesh: Mesh, autojump_clock: None) -> None:
    heard: list[float] = []

    async def listen(_peer_id: str, _payload: bytes) -> Forwarding:
        heard.append(trio.current_time())
        return Forwarding.ACCEPT

    async with mesh.publisher(network=GOSSIP_ONLY) as publisher:
        await until(lambda: publisher.version() == 1)
        async with mesh.network.open(key_of("listener").public.peer_id) as listener:
            await listener.subscribe(manifest_topic(*PAIR), listen)
            await listener.dial(publisher.address)
            began = trio.current_time()
            await trio.sleep(1000)
    waits = [after - before for before, after in zip([began, *heard], heard, strict=False)]
    assert waits[0] <= AFTER_CONNECT_S + BETWEEN_S + 1
    assert len(heard) == 4
    assert all(300 <= wait <= 300 + BETWEEN_S for wait in waits[1:])


async def test_an_expired_head_is_neither_offered_nor_announced(mesh: Mesh, autojump_clock: None) -> None:
    heard: list[bytes] = []

    async def listen(_peer_id: str, payload: bytes) -> Forwarding:
        heard.append(payload)
        return Forwarding.IGNORE

    async with mesh.publisher() as publisher:
        async with mesh.node("mirror", trust=TRUST, network=to(publisher)) as mirror:
            await until(lambda: mirror.version() == 1)
        expires = in_force(publisher).expires_at
    async with mesh.node("mirror", trust=TRUST) as mirror, mesh.node("asker") as asker:
        await asker.transport.dial(mirror.address)
        assert await heads_offered(asker, mirror) == [1]
        mesh.wall.now = expires
        assert await heads_offered(asker, mirror) == []
        assert (await mirror.status())["heads"][0]["expired"]
        await asker.transport.subscribe(manifest_topic(*PAIR), listen)
        await trio.sleep(1000)
    assert not heard


# -- what a mirror does with it


async def test_a_newer_manifest_supersedes_one_that_nobody_has(mesh: Mesh, autojump_clock: None) -> None:
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher)) as mirror,
    ):
        await until(lambda: mirror.version() == 1)
        ghost = signed(2, seed="nobody has it")
        mesh.network.freeze(publisher.transport.peer_id)
        async with mesh.network.open(key_of("peer").public.peer_id) as peer:
            await peer.dial(mirror.address)
            await peer.publish(manifest_topic(*PAIR), ghost.raw)
            await until(mirror.store.manifests.pending)
            assert mirror.version() == 1  # served on meanwhile
            assert [row["manifest_version"] for row in (await mirror.status())["fetching"]] == [2]
        mesh.network.thaw(publisher.transport.peer_id)
        # The publisher hears of version 2 of its own key, which it never made, and goes above it.
        await until(lambda: mirror.version() == 3)
        assert not mirror.store.manifests.pending()


async def test_superseded_manifests_leave_their_room(mesh: Mesh, autojump_clock: None) -> None:
    """Else a publisher that does not wait for its mirrors fills their quotas with beginnings."""
    image = sum(len(data) for data in files_of("image").values())
    async with mesh.publisher() as publisher:
        store = {"quota_bytes": 2 * image + 1000}
        async with mesh.node("mirror", trust=TRUST, network=to(publisher), store=store) as mirror:
            await until(lambda: mirror.version() == 1)
            mesh.network.limit_upload(publisher.transport.peer_id, 2000)
            for number in range(2, 6):
                republish(publisher, f"image {number}")
                await publisher.ask(op="publish")
                await trio.sleep(20)
                assert [row.manifest_version for row in mirror.store.manifests.pending()] == [number]
                problems = (await mirror.status())["problems"]  # it is slow, and may say so
                assert not any("quota" in problem["text"] for problem in problems)
            mesh.network.limit_upload(publisher.transport.peer_id, 1e9)
            await until(lambda: mirror.version() == 5)


async def test_a_mirror_goes_on_after_a_restart_with_what_was_pending(
    mesh: Mesh, autojump_clock: None
) -> None:
    alone = {"gossip": False, "sync": False}
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        async with mesh.node("mirror", trust=TRUST) as mirror:
            mesh.network.cut(publisher.transport.peer_id, mirror.transport.peer_id)
            async with mesh.network.open(key_of("peer").public.peer_id) as peer:
                await peer.dial(mirror.address)
                await peer.publish(manifest_topic(*PAIR), in_force(publisher).raw)
                await trio.sleep(1)
            assert mirror.version() == 0
            assert mirror.store.manifests.pending()
            mesh.network.heal(publisher.transport.peer_id, mirror.transport.peer_id)
        async with mesh.node("mirror", trust=TRUST, network=to(publisher, **alone)) as mirror:
            await until(lambda: mirror.version() == 1)


async def test_a_liar_that_is_the_only_peer_is_asked_again_when_it_has_mended(
    mesh: Mesh, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = BlobStore.read
    lying = True

    def read(self: BlobStore, sha256: str, offset: int, length: int) -> bytes:
        data = honest(self, sha256, offset, length)
        return bytes(len(data)) if lying else data

    monkeypatch.setattr(BlobStore, "read", read)
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher)) as mirror,
    ):
        await until(lambda: mirror.node._images.dropped)
        await trio.sleep(30)
        status = await mirror.status()
        assert publisher.transport.peer_id in status["dropped_peers"]
        poisoned, problem = status["problems"]
        assert (problem["code"], problem["subject"]) == ("not-mirrored", "stable/x86_64")
        assert "no peer delivers" in problem["text"]
        assert poisoned["code"] == "poisoners"
        assert f"1 peer sent what is not what was signed: {publisher.transport.peer_id} (" in poisoned["text"]
        lying = False
        await until(lambda: mirror.version() == 1)
        left = (await mirror.status())["problems"]
        assert [problem["code"] for problem in left] == ["poisoners"]  # for a day


async def test_a_damaged_blob_on_a_mirror_is_fetched_again(mesh: Mesh, autojump_clock: None) -> None:
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher, **GOSSIP_ONLY)) as mirror,
    ):
        await until(lambda: mirror.version() == 1)
        artifact = in_force(mirror).artifacts["kernel"]
        path = mirror.store.blobs.path(artifact.sha256)
        path.chmod(0o600)
        damaged = bytearray(path.read_bytes())
        damaged[100] ^= 1
        path.write_bytes(damaged)
        assert not is_intact(mirror.store.blobs, artifact.sha256)
        assert mirror.version() == 0
        await until(lambda: mirror.version() == 1, within_s=2 * DAMAGE_S)
        assert is_intact(mirror.store.blobs, artifact.sha256)


async def test_a_blob_that_is_lost_while_the_mirror_is_down_is_fetched_again(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.publisher() as publisher:
        async with mesh.node("mirror", trust=TRUST, network=to(publisher)) as mirror:
            await until(lambda: mirror.version() == 1)
            artifact = in_force(mirror).artifacts["kernel"]
            mirror.store.blobs.path(artifact.sha256).unlink()
        silent = to(publisher, gossip=False, sync=False)
        async with mesh.node("mirror", trust=TRUST, network=silent) as mirror:
            await until(lambda: mirror.version() == 1)


async def test_a_publisher_that_changes_its_keys_leaves_nothing_behind(
    mesh: Mesh, autojump_clock: None
) -> None:
    trust = trusting("publisher", "second")
    provider = {"directory": mesh.tree("publisher")}
    async with mesh.node("mirror", trust=trust) as mirror:
        for version in (1, 2):
            async with mesh.publisher(seed=f"a{version}", network=to(mirror)):
                await until(lambda version=version: mirror.version() == version)  # type: ignore[misc]
        async with mesh.node(
            "publisher", key="second", trust=trust, provider=provider, network=to(mirror)
        ) as other:
            for version in (3, 4):
                republish(other, f"b{version}")
                await other.ask(op="publish")
                await until(lambda version=version: mirror.version() == version)  # type: ignore[misc]
        rows = mirror.store.manifests.current()
        assert [row.signers for row in rows] == [(key_of("second").public.keyid,)]


# -- own manifests that come back from the mesh


@asynccontextmanager
async def meshed_publisher(mesh: Mesh) -> AsyncIterator[tuple[Running, Running]]:
    """A publisher, and a mirror that holds its version 1."""
    async with mesh.node("mirror", trust=TRUST) as mirror, mesh.publisher(network=to(mirror)) as publisher:
        await until(lambda: mirror.version() == 1)
        yield publisher, mirror


async def test_own_manifest_coming_back_makes_no_new_version(mesh: Mesh, autojump_clock: None) -> None:
    async with meshed_publisher(mesh) as (publisher, _mirror):
        await never(lambda: publisher.version() != 1, within_s=1000)


async def test_a_higher_one_of_the_own_key_is_outbid_for_good(
    mesh: Mesh, autojump_clock: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with meshed_publisher(mesh) as (publisher, mirror):
        await mirror.transport.publish(manifest_topic(*PAIR), signed(7, seed="elsewhere").raw)
        await until(lambda: publisher.version() == 8)
        await until(lambda: mirror.version() == 8)
        assert "the mesh knows version 7" in caplog.text
        assert publisher.store.publications.counter([key_of("publisher").public.keyid], *PAIR) == 8


async def test_a_number_that_was_seen_in_use_is_remembered_over_a_restart(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with meshed_publisher(mesh) as (publisher, mirror):
        (publisher.settings.provider.directory / "stable/x86_64/kernel").unlink()  # type: ignore[operator]
        await mirror.transport.publish(manifest_topic(*PAIR), signed(7, seed="elsewhere").raw)
        counter = publisher.store.publications.counter
        await until(lambda: counter([key_of("publisher").public.keyid], *PAIR) == 7)
    async with mesh.publisher() as publisher:  # alone: nobody tells it again
        await until(lambda: publisher.version() == 8)


async def test_equivocation_of_a_lost_state_ends_with_a_higher_version(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.node("mirror", trust=TRUST) as mirror:
        async with mesh.publisher(network=to(mirror)):
            await until(lambda: mirror.version() == 1)
        mesh.directory.joinpath("publisher/state").rename(mesh.directory / "lost")
        alone = mesh.publisher(seed="after the loss", network={"bootstrap": ()})
        async with alone as publisher:  # nobody to ask: version 1 again, with other content
            await until(lambda: publisher.version() == 1)
            await publisher.transport.dial(mirror.address)
            await until(lambda: publisher.version() == 2)
            await until(lambda: mirror.version() == 2)
            assert (await publisher.status())["equivocations"] + (await mirror.status())["equivocations"] >= 1


async def test_a_key_without_state_asks_the_mesh_first(
    mesh: Mesh, autojump_clock: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with mesh.node("mirror", trust=TRUST) as mirror:
        async with mesh.publisher(network=to(mirror)) as publisher:
            await until(lambda: mirror.version() == 1)
            republish(publisher, "second")
            await publisher.ask(op="publish")
            await until(lambda: mirror.version() == 2)
        mesh.directory.joinpath("publisher/state").rename(mesh.directory / "lost")
        caplog.clear()
        async with mesh.publisher(seed="third", network=to(mirror)) as publisher:
            await until(lambda: publisher.version() > 0)
            assert publisher.version() == 3
            assert "(manifest_version 1," not in caplog.text  # not for a moment
            await until(lambda: mirror.version() == 3)


async def test_it_asks_also_when_it_trusts_somebody_else_for_everything(
    mesh: Mesh, autojump_clock: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with mesh.node("mirror", trust=TRUST) as mirror:
        async with mesh.publisher(network=to(mirror)):
            await until(lambda: mirror.version() == 1)
        mesh.directory.joinpath("publisher/state").rename(mesh.directory / "lost")
        caplog.clear()
        other = trusting("other")
        async with mesh.publisher(seed="second", network=to(mirror), trust=other) as publisher:
            await until(lambda: publisher.version() > 0)
            assert publisher.version() == 2
            assert "(manifest_version 1," not in caplog.text


async def test_a_mesh_that_does_not_answer_holds_a_new_key_up_for_five_seconds(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.node("mute") as mute:
        mesh.network.freeze(mute.transport.peer_id)
        async with mesh.publisher(network=to(mute)) as publisher:
            began = trio.current_time()
            await until(lambda: publisher.version() == 1)
            assert 4 < trio.current_time() - began < 6
        mesh.network.thaw(mute.transport.peer_id)


async def test_two_nodes_that_sign_with_one_key_do_not_outbid_each_other_without_end(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.publisher() as one:
        await until(lambda: one.version() == 1)
        twin = {"directory": mesh.tree("twin", "another image")}
        async with mesh.node("twin", key="publisher", provider=twin, network=to(one)) as other:
            await trio.sleep(3600)
            assert max(one.version(), other.version()) < 40


# -- the own directory


async def test_a_manifest_is_renewed_when_a_third_of_its_validity_is_left(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        first = in_force(publisher)
        mesh.wall.now = NOW + 20 * DAY_S - 1
        await never(lambda: publisher.version() != 1, within_s=700)
        mesh.wall.now += 1
        await until(lambda: publisher.version() == 2, within_s=301)
        second = in_force(publisher)
        assert second.artifacts == first.artifacts
        assert second.version == first.version
        assert second.expires_at == mesh.wall.now + 30 * DAY_S


async def test_a_short_validity_is_renewed_in_time(mesh: Mesh, autojump_clock: None) -> None:
    async def tick() -> None:
        while True:
            await trio.sleep(1)
            mesh.wall.now += 1

    async with mesh.publisher(provider={"expires_in_s": 60}) as publisher:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick)
            await until(lambda: publisher.version() == 1)
            for _ in range(200):
                await trio.sleep(1)
                assert in_force(publisher).expires_at > mesh.wall.now
            nursery.cancel_scope.cancel()
        assert 4 <= publisher.version() <= 7


async def test_a_damaged_file_of_the_publisher_is_hashed_and_published_again(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        kernel = publisher.settings.provider.directory / "stable/x86_64/kernel"
        artifact = in_force(publisher).artifacts["kernel"]
        kernel.write_bytes(b"written in place, and nobody watched")
        with pytest.raises(StoreError):
            publisher.store.blobs.read(artifact.sha256, 0, 100)
        await until(lambda: publisher.version() == 2, within_s=2 * DAMAGE_S)
        new = in_force(publisher).artifacts["kernel"]
        assert new.sha256 == hashlib.sha256(kernel.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["vanishes", "loses its kernel"])
async def test_a_directory_that_can_not_be_published_any_more_shows_in_the_status(
    mesh: Mesh, autojump_clock: None, kind: str
) -> None:
    async with meshed_publisher(mesh) as (publisher, mirror):
        directory = publisher.settings.provider.directory
        assert directory is not None
        gone = directory if kind == "vanishes" else directory / "stable/x86_64/kernel"
        gone.rename(mesh.directory / "aside")
        await until(publisher.node.problems.all, within_s=400)
        (problem,) = (await publisher.status())["problems"]
        subject, code = (
            (str(directory), "directory") if kind == "vanishes" else ("stable/x86_64", "unpublishable")
        )
        assert (problem["code"], problem["subject"]) == (code, subject)
        refused = await publisher.ask(op="publish")
        assert not refused["ok"]
        assert str(directory) in refused["error"]
        assert publisher.store.manifests.current()[0].manifest_version == 1  # in force
        assert await heads_offered(publisher, mirror) == [1]
        (mesh.directory / "aside").rename(gone)
        (again,) = (await publisher.ask(op="publish"))["published"]
        assert again["unchanged"]
        assert publisher.version() == 1
        assert not (await publisher.status())["problems"]


async def test_a_presigned_manifest_is_served_and_its_return_is_no_news(
    mesh: Mesh, autojump_clock: None, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = signed(41, "fleet", "second")
    tree = mesh.tree("publisher")
    (tree / "stable/x86_64/manifest.json").write_bytes(fleet.raw)
    trust = trusting("fleet", "second", threshold=2)
    async with mesh.node("mirror", trust=trust) as mirror:
        async with mesh.publisher(network=to(mirror)) as publisher:
            await until(lambda: mirror.version() == 41)
            assert in_force(mirror).raw == fleet.raw
            await publisher.node._intake.hear(PAIR, mirror.transport.peer_id, fleet.raw)
            await trio.sleep(700)
            assert "the mesh knows" not in caplog.text
            assert publisher.store.blobs.used_bytes() == 0  # served where it lies, not mirrored from itself
        async with mesh.publisher(network=to(mirror)) as publisher:  # nor after a restart
            await until(lambda: publisher.version() == 41)
            await trio.sleep(100)
            assert publisher.store.blobs.used_bytes() == 0


async def test_an_older_presigned_manifest_is_not_put_into_force(mesh: Mesh, autojump_clock: None) -> None:
    leaf = mesh.tree("publisher") / "stable/x86_64"
    (leaf / "manifest.json").write_bytes(signed(5, "fleet").raw)
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 5)
        for older in (signed(4, "fleet"), signed(5, "fleet", provider_name="another")):
            (leaf / "manifest.json").write_bytes(older.raw)
            refused = await publisher.ask(op="publish")
            assert "not newer" in refused["error"]
            assert publisher.version() == 5
        (leaf / "manifest.json").write_bytes(signed(6, "fleet").raw)
        assert (await publisher.ask(op="publish"))["ok"]
        assert publisher.version() == 6


async def test_a_presigned_manifest_that_expired_is_refused_and_said_so(
    mesh: Mesh, autojump_clock: None
) -> None:
    leaf = mesh.tree("publisher") / "stable/x86_64"
    (leaf / "manifest.json").write_bytes(signed(5, "fleet", expires_at=NOW).raw)
    async with mesh.publisher() as publisher:
        await until(publisher.node.problems.all)
        assert "expired" in (await publisher.status())["problems"][0]["text"]
        assert publisher.version() == 0


# -- reloading


async def test_a_change_of_trust_drops_strangers_and_takes_up_others(
    mesh: Mesh, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: set[str] = set()
    forgot: list[bool] = []
    async with (
        mesh.publisher() as publisher,
        mesh.publisher("other", "other image") as other,
        mesh.node(
            "mirror",
            trust=trusting("publisher", channels=("stable",)),
            network={"sync_interval_s": 10_000},  # the change itself begins a round
        ) as mirror,
    ):
        memory = mirror.transport
        forget = memory.forget_seen

        def note() -> None:
            forgot.append(True)
            forget()

        monkeypatch.setattr(memory, "forget_seen", note)
        joined = memory.validators  # type: ignore[attr-defined]
        for peer in (publisher, other):
            await memory.dial(peer.address)
        await until(lambda: mirror.version() == 1)
        kernel = in_force(mirror).artifacts["kernel"].sha256
        assert manifest_topic(*PAIR) in joined
        await trio.sleep(60)  # nobody announces anything for the next minutes

        trust = trusting("other", channels=("stable", "testing"), archs=("x86_64",))
        await mirror.node.apply(replace(mirror.settings, trust=trust))
        assert not mirror.store.blobs.holds(kernel)
        assert forgot == [True]
        channels = ("stable", "testing")
        assert set(joined) == {
            *(manifest_topic(one, "x86_64") for channel in channels for one in (channel, f"{channel}.next")),
            *(yanks_topic(NO_FLEET, channel, "x86_64") for channel in channels),
        }
        await until(lambda: mirror.version() == 1)
        assert in_force(mirror).signers == (key_of("other").public.keyid,)

        await mirror.node.apply(replace(mirror.settings, trust=()))
        assert mirror.version() == 0
        assert not joined
        await never(mirror.version, within_s=400)
        assert mirror.store.blobs.used_bytes() == 0


async def test_what_is_being_fetched_for_a_stranger_is_given_up(mesh: Mesh, autojump_clock: None) -> None:
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher)) as mirror,
    ):
        mesh.network.limit_upload(publisher.transport.peer_id, 10_000)
        await until(lambda: list((mirror.settings.store.state / "partial").iterdir()))
        await mirror.node.apply(replace(mirror.settings, trust=()))
        assert not list((mirror.settings.store.state / "partial").iterdir())
        assert mirror.store.manifests.pending() == []
        await never(mirror.version, within_s=100)


async def test_limits_and_provider_are_taken_over_and_the_rest_waits_for_a_restart(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.publisher(network=SYNC_ONLY) as publisher:
        await until(lambda: publisher.version() == 1)
        settings = publisher.settings
        changed = replace(
            settings,
            provider=replace(settings.provider, name="renamed", directory=mesh.directory / "elsewhere"),
            network=replace(settings.network, gossip=True, max_upload=12_345),
            store=replace(settings.store, quota_bytes=77, max_artifact_bytes=88),
        )
        await publisher.node.apply(changed)
        node = publisher.node
        assert node.bandwidth.rates == Rates(upload=12_345)
        assert publisher.store.blobs.quota_bytes == 77
        assert node._images.max_artifact_bytes == 88
        await until(lambda: publisher.version() == 2)
        assert in_force(publisher).provider_name == "renamed"
        assert not publisher.transport.validators  # gossip needs a restart


@pytest.mark.parametrize(("who", "limit"), [("mirror", "max_download"), ("publisher", "max_upload_per_peer")])
async def test_a_nodes_limits_hold_and_change_while_it_runs(
    mesh: Mesh, autojump_clock: None, who: str, limit: str
) -> None:
    image = sum(len(data) for data in files_of("image").values())
    limits = {who: {limit: image // 20}}
    async with (
        mesh.publisher(network=limits.get("publisher", {})) as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher, **limits.get("mirror", {}))) as mirror,
    ):
        began = trio.current_time()
        await until(lambda: list((mirror.settings.store.state / "partial").iterdir()))
        await never(mirror.version, within_s=10)
        limited = {"publisher": publisher, "mirror": mirror}[who]
        network = replace(limited.settings.network, **{limit: None})
        await limited.node.apply(replace(limited.settings, network=network))
        await until(lambda: mirror.version() == 1)
        assert trio.current_time() - began < 16
        rows = {(row["peer"], row["kind"]): row for row in (await mirror.status())["traffic"]}
        row = rows[publisher.transport.peer_id, SWARM_PROTOCOL]
        assert row["received"] > image > row["sent"] > 0


async def test_what_went_over_http_is_not_what_went_to_peers(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.publisher() as publisher:
        publisher.node.bandwidth.meter("192.0.2.7", HTTP).sent(5)
        running = publisher.node.running()
    assert not any(kind == HTTP for kind, _ in running.transferred)
    assert running.traffic["192.0.2.7"] == {(HTTP, SENT): 5}


async def test_what_the_node_publishes_itself_is_never_a_stranger(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.publisher(trust=trusting("other")) as publisher:
        await until(lambda: publisher.version() == 1)
        await publisher.node.apply(publisher.settings)
        assert publisher.version() == 1


# -- what else an operator may ask


async def test_publishing_on_demand_looks_at_the_directory_that_is_named(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.publisher() as publisher, mesh.node("mirror", trust=TRUST) as mirror:
        directory = publisher.settings.provider.directory
        assert (await publisher.ask(op="publish", directory=f"{directory}/stable/.."))["ok"]
        for odd in ("/elsewhere", "a\0b", "\ud800", 5, [1]):
            refused = await publisher.ask(op="publish", directory=odd)
            assert "publishes" in refused["error"]
            assert refused["remedy"]
        assert "mirror" in (await mirror.ask(op="publish"))["error"]
        assert not (await mirror.ask(op=["publish"]))["ok"]


async def test_the_status_says_what_an_operator_asks(mesh: Mesh, autojump_clock: None) -> None:
    async with meshed_publisher(mesh) as (publisher, mirror):
        status = await mirror.status()
        assert status["ok"]
        assert status["peer_id"] == mirror.transport.peer_id
        assert status["addresses"] == [mirror.address]
        (peer,) = status["peers"]
        assert peer == peer | {
            "peer_id": publisher.transport.peer_id,
            "addresses": [publisher.address],
            "sources": ["incoming"],
        }
        (other,) = (await publisher.status())["peers"]
        assert other["sources"] == ["bootstrap"]
        (head,) = status["heads"]
        manifest = in_force(publisher)
        assert head == head | {
            "channel": "stable",
            "arch": "x86_64",
            "version": manifest.version,
            "manifest_version": 1,
            "digest": manifest.digest,
            "signers": list(manifest.signers),
            "created_at": "2027-01-15T08:00:00Z",
            "age_s": 0,
            "expires_at": "2027-02-14T08:00:00Z",
            "expired": False,
        }
        assert (status["fetching"], status["problems"], status["equivocations"]) == ([], [], 0)
        assert status["dht"]["peers"] == 1


# -- a disk that fails


async def test_a_disk_that_fails_for_a_while_does_not_end_the_node(
    mesh: Mesh, autojump_clock: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with meshed_publisher(mesh) as (publisher, mirror):

        def fail(*_args: object) -> AcceptedHead:
            raise StoreError("the database does not answer")

        with monkeypatch.context() as patch:
            for part, method in (
                (mirror.store.manifests, "heads"),
                (mirror.store.trust, "heads_of"),
                (mirror.store.trust, "newest_created_at"),
                (publisher.store.manifests, "heads"),
            ):
                patch.setattr(part, method, fail)
            republish(publisher, "second")
            await publisher.ask(op="publish")
            await trio.sleep(1000)
            assert [one for one in caplog.records if one.levelno == logging.ERROR]
        await until(lambda: mirror.version() == 2, within_s=1000)


# -- peers told by peers


async def test_two_mirrors_of_one_publisher_find_each_other(mesh: Mesh, autojump_clock: None) -> None:
    async with (
        mesh.publisher() as publisher,
        mesh.node("one", trust=TRUST, network=to(publisher)) as one,
        mesh.node("two", trust=TRUST, network=to(publisher)) as two,
    ):
        await until(lambda: two.transport.peer_id in one.transport.peers())


async def test_nobody_is_dialled_in_one_mesh_who_was_met_in_another(
    mesh: Mesh, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with mesh.network.open(key_of("other").public.peer_id) as other:
        async with mesh.node("one", network={"bootstrap": other.addresses()}) as one:
            await until(one.transport.peers)
            await trio.sleep(30)
        with monkeypatch.context() as private:
            private.setattr(type(other), "mesh", "00ff")
            async with mesh.node("one") as one:
                await never(one.transport.peers)
        async with mesh.node("one") as one:
            await until(one.transport.peers)


async def test_a_building_directory_is_left_alone_until_it_is_quiet(
    mesh: Mesh, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = True
    monkeypatch.setattr(quiet, "recently_changed", lambda *_: busy)
    async with mesh.publisher() as publisher:
        await never(publisher.version, within_s=1000)
        busy = False
        await until(lambda: publisher.version() == 1, within_s=5)
        busy = True
        republish(publisher, "second")
        await publisher.node.apply(publisher.settings)  # a reload is no reason to publish half a copy
        await never(lambda: publisher.store.manifests.current()[0].manifest_version != 1, within_s=1000)
        assert (await publisher.ask(op="publish"))["ok"]  # the operator's word is
        assert publisher.version() == 2


# -- what it says when something does not come, or is over


async def test_mirror_that_gets_nothing_says_of_whom_and_why_until_it_goes_on(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher)) as mirror,
    ):
        await until(lambda: mirror.version() == 1)
        peer_id = publisher.transport.peer_id
        publisher.transport.handle(ARTIFACT_PROTOCOL, refuse)
        republish(publisher, "image 2")
        await publisher.ask(op="publish")

        with trio.fail_after(120):
            while not (status := await mirror.status())["problems"]:  # noqa: ASYNC110 - it is another's list
                await trio.sleep(1)
        (told,) = status["problems"]
        assert (told["code"], told["subject"]) == ("not-mirrored", "stable/x86_64")
        assert f"peer {peer_id}: does not have these pieces (moved to /srv)" in told["text"]
        assert [one["reason"] for one in status["withheld"]] == []  # the former version is offered meanwhile
        publisher.transport.handle(ARTIFACT_PROTOCOL, ArtifactServer(publisher.store.blobs, Serving()).handle)
        mesh.network.cut(peer_id, mirror.transport.peer_id)  # the stream to the one that refused is open
        mesh.network.heal(peer_id, mirror.transport.peer_id)
        await until(lambda: mirror.version() == 2)
        assert not (await mirror.status())["problems"]


async def refuse(stream: Stream) -> None:
    """Serve artifacts without having any."""

    async def answer(_request: Request, _reserve: Reserve) -> Reply:
        return Reply.refusal(Status.NOT_FOUND, "moved to /srv")

    await serve_stream(stream, ARTIFACT_PROTOCOL, answer, Serving())


async def test_mirror_whose_manifest_expired_says_so_to_whoever_asks(
    mesh: Mesh, autojump_clock: None, wall: Wall
) -> None:
    async with mesh.node("mirror", trust=TRUST) as mirror:
        async with mesh.publisher(network=to(mirror)):
            await until(lambda: mirror.version() == 1)
        wall.now += 31 * DAY_S
        async with mesh.network.open(key_of("asker").public.peer_id) as asker:
            await asker.dial(mirror.address)
            stream = await asker.open_stream(connection_with(asker, mirror.transport), SYNC_PROTOCOL)
            async with RequestStream(stream) as requests:
                for filters in ((), ("stable",), ("stable", "x86_64")):
                    reply = await requests.ask(ask_heads(*filters))
                    (one,) = reply.withheld
                    assert (one.channel, one.arch, one.reason) == ("stable", "x86_64", "expired")
                    assert "manifest version 1 expired at" in one.text
                assert await requests.ask(ask_heads("testing")) == ((), ())


# -- what is to be here


async def test_what_is_followed_or_to_be_published_is_awaited(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.node("mirror", trust=TRUST) as mirror, mesh.publisher() as publisher:
        (awaited,) = mirror.node.awaited()
        assert (awaited.channel, awaited.arch) == PAIR
        assert awaited.text == "no manifest of stable/x86_64 is complete here yet"
        assert awaited.retry_after_s
        assert [(one.channel, one.arch) for one in publisher.node.awaited()] == [PAIR]


async def test_channel_without_an_arch_is_awaited_as_it_was_said(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.node("mirror", trust=trusting("publisher", channels=("stable",))) as mirror:
        (awaited,) = mirror.node.awaited()
    assert (awaited.channel, awaited.arch) == ("stable", None)
    assert awaited.text == "no manifest of stable is complete here yet"


async def test_what_can_not_be_published_is_awaited_in_vain(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.publisher() as publisher:
        publisher.node.problems.report(
            "test",
            [
                Problem(Code.UNPUBLISHABLE, "testing/x86_64", "/srv/secret has no kernel"),
                Problem(Code.STILL_CHANGING, "testing/arm64", "/srv/secret changes"),
                Problem(Code.WITHDRAWN, "former/arm64", "/srv/secret is gone"),
                Problem(Code.UNKNOWN_DIRECTORY, "nightly/arm64", "what is it"),
                Problem(Code.UNPUBLISHABLE, "/srv/secret/images", "nothing in it"),
            ],
        )
        awaited = {(one.channel, one.arch): one for one in publisher.node.awaited()}
    assert set(awaited) == {PAIR, ("testing", "x86_64"), ("testing", "arm64")}  # what was taken back is not
    assert awaited["testing", "x86_64"].retry_after_s is None
    assert awaited["testing", "arm64"].retry_after_s
    assert not [one for one in awaited.values() if "secret" in one.text]


async def test_other_urls_are_signed_when_they_change_and_each_once(mesh: Mesh, autojump_clock: None) -> None:
    urls: list[str] = []  # no network yet: it is published all the same
    async with mesh.publisher(urls=lambda: urls) as publisher:
        await until(lambda: publisher.version() == 1)
        assert in_force(publisher).artifacts["kernel"].urls == ()
        urls.append("http://192.168.77.1:8080")
        publisher.node.publish_soon()
        await until(lambda: publisher.version() == 2)
        (url,) = in_force(publisher).artifacts["kernel"].urls
        assert url.startswith("http://192.168.77.1:8080/blobs/")
        assert (await publisher.status())["http"] == urls
        publisher.node.publish_soon()
        await never(lambda: publisher.version() > 2)


async def test_a_mirror_has_no_urls_to_sign(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.node("mirror") as mirror:
        mirror.node.publish_soon()
        assert (await mirror.status())["http"] == []
