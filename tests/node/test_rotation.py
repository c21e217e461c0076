"""A newer root comes into force in running nodes: keys go, keys come, and the fleet goes on."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pboot.core.jsonform import MAX_INTEGER
from p2pboot.core.manifest import Artifact
from p2pboot.core.policy import TrustedRoot, TrustPolicy, check_apart
from p2pboot.core.problems import Code
from p2pboot.core.trustdocs.chain import Anchor, begin
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import Floor, PublishRole, Role
from p2pboot.core.withheld import Why
from p2pboot.errors import ConfigError
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.node import enforcing, observing
from p2pboot.node.enforcing import snapshot_signers
from p2pboot.protocol.client import PeerLacks, Query, ask_read
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, SYNC_PROTOCOL
from p2pboot.protocol.swarm import SWARM_PROTOCOL
from p2pboot.protocol.swarm_client import ask_some_pieces
from p2pboot.serving.contents import KNOWN_S
from p2pboot.store.trustgate import Fate, TrustGate
from p2pboot.testing.manifests import key_of
from p2pboot.testing.trustdocs import ROOT_KEYS, next_root, root_body, signed_root, yank_of
from p2pboot.transport.interface import Transport
from tests.connections import connection_with
from tests.node.world import PAIR, Mesh, Running, Wall, signed, trusting, until, write_tree


def role(*names: str) -> PublishRole:
    keys = tuple(sorted(key_of(name).public.keyid for name in names))
    return PublishRole(keys, 1, ("stable",), ("x86_64",))


FIRST = signed_root(root_body(publish=(role("publisher"),)))


def under(root: Root) -> tuple[TrustedRoot, ...]:
    anchor = Anchor.of_root(root)
    return (TrustedRoot(anchor, begin(anchor)),)


async def bring(running: Running, *roots: Root) -> None:
    """Have a running node hear of roots."""
    gate = TrustGate(running.store, running.node.catalogue)

    def take() -> Fate:
        return gate.take_roots([one.raw for one in roots], source="test").fate

    assert await trio.to_thread.run_sync(take) is Fate.NEWS


def offered(running: Running) -> list[int]:
    return [row.manifest_version for row in running.node.catalogue.offered()]


def sent(running: Running) -> int:
    """Bytes of artifacts that it gave to peers."""
    counted = running.node.running().bytes_sent
    return sum(size for protocol, size in counted.items() if protocol != SYNC_PROTOCOL)


def codes(running: Running) -> set[Code]:
    return {problem.code for problem in running.node.problems.all()}


@pytest.fixture
def mesh(tmp_path: Path, autojump_clock: None) -> Mesh:
    return Mesh(tmp_path, Wall())


async def test_a_stolen_key_that_signed_the_highest_number_is_removed_and_the_mesh_boots_again(
    mesh: Mesh,
) -> None:
    second = next_root(FIRST, publish=(role("second"),), floors=(Floor(*PAIR, 3),))
    async with mesh.node("mirror", roots=under(FIRST)) as mirror:
        bootstrap = {"bootstrap": (mirror.address,)}
        async with mesh.publisher(roots=under(FIRST), network=bootstrap):
            await until(lambda: offered(mirror) == [1])
            stolen = signed(MAX_INTEGER, "publisher", seed="evil")
            verdict = await mirror.node._intake.hear(PAIR, "12D3KooWthief", stolen.raw)
            assert verdict.name == "ACCEPT"
            assert [head.manifest_version for head in mirror.node.catalogue.accepted(*PAIR)] == [MAX_INTEGER]
        # On another machine, with another key: the root comes with it, and nobody touches the mirror.
        async with mesh.publisher("new", key="second", roots=under(second), network=bootstrap) as publisher:
            await until(lambda: offered(publisher) == [3])  # it begins at the floor
            await until(lambda: offered(mirror) == [3])
            assert mirror.node.catalogue.trust.roots[0].newest == second
            assert [head.manifest_version for head in mirror.node.catalogue.accepted(*PAIR)] == [3]
    async with mesh.node("mirror", roots=under(FIRST)) as mirror:  # it is remembered over a restart
        assert offered(mirror) == [3]
        assert (await mirror.node._intake.hear(PAIR, "12D3KooWthief", stolen.raw)).name == "IGNORE"


async def test_a_release_that_is_signed_anew_after_a_rotation_is_not_transferred_again(mesh: Mesh) -> None:
    second = next_root(FIRST, publish=(role("second"),))
    async with mesh.publisher(roots=under(FIRST)) as publisher:
        bootstrap = {"bootstrap": (publisher.address,)}
        async with mesh.node("mirror", roots=under(FIRST), network=bootstrap) as mirror:
            await until(lambda: offered(mirror) == [1])
            assert sent(publisher) >= 200_000  # so that the other figure says something
            await bring(mirror, second)
            assert [one.why for one in mirror.node.catalogue.withheld()] == [Why.UNTRUSTED]
    async with mesh.publisher(key="second", roots=under(second)) as publisher:
        bootstrap = {"bootstrap": (publisher.address,)}
        async with mesh.node("mirror", roots=under(FIRST), network=bootstrap) as mirror:
            await until(lambda: offered(mirror) == [1])
            assert mirror.head().signers == (key_of("second").public.keyid,)  # type: ignore[union-attr]
            assert sent(publisher) == 0


async def test_a_publisher_that_the_root_revokes_publishes_nothing_until_it_is_named_again(
    mesh: Mesh,
) -> None:
    second = next_root(FIRST, publish=(role("second"),))
    third = next_root(second, publish=(role("publisher", "second"),))
    async with mesh.publisher(roots=under(FIRST)) as publisher:
        await until(lambda: offered(publisher) == [1])
        assert Code.PUBLISHER_REVOKED not in codes(publisher)
        await bring(publisher, second)
        assert offered(publisher) == []
        await until(lambda: Code.PUBLISHER_REVOKED in codes(publisher))
        write_tree(mesh.directory / "publisher" / "artifacts", "newer")
        answer = await publisher.ask(op="publish")
        assert not answer["ok"]
        assert "does not let" in str(answer["error"])
        counted = publisher.store.publications.counter((key_of("publisher").public.keyid,), *PAIR)
        assert counted == 1  # no number was used up
        await bring(publisher, third)
        await until(lambda: offered(publisher) == [2])
        await until(lambda: Code.PUBLISHER_REVOKED not in codes(publisher))


async def test_a_newer_root_changes_what_a_mirror_follows_and_whom_it_prefers(mesh: Mesh) -> None:
    def of_testing(*names: str) -> PublishRole:
        keys = tuple(sorted(key_of(name).public.keyid for name in names))
        return PublishRole(keys, 1, ("testing",), ("x86_64",))

    second = next_root(FIRST, publish=(role("second"), of_testing("publisher")))
    async with mesh.publisher(roots=under(FIRST)) as publisher:
        bootstrap = {"bootstrap": (publisher.address,)}
        async with mesh.node("mirror", roots=under(FIRST), network=bootstrap) as mirror:
            assert [one.channel for one in mirror.node.awaited()] == ["stable"]
            await bring(mirror, second)
            await until(
                lambda: key_of("second").public.peer_id in mirror.node._neighbourhood.peering.preferred
            )
            assert {one.channel for one in mirror.node.awaited()} == {"stable", "testing"}


def test_no_node_has_a_root_key_for_its_own() -> None:
    policy = TrustPolicy.of((), under(FIRST))
    check_apart(policy, {"identity.key": key_of("publisher").public.keyid})
    own = ROOT_KEYS[2].public.keyid  # of which no signature is needed
    with pytest.raises(ConfigError, match=r"identity\.signing_key: ed25519:.* is a root key of 'test fleet'"):
        check_apart(policy, {"identity.key": key_of("mirror").public.keyid, "identity.signing_key": own})


def test_who_signs_snapshots_is_the_roots_to_say_where_it_says_so(mesh: Mesh) -> None:
    settings = mesh.settings("mirror", snapshots={"trust": (key_of("named").public.keyid,)}).snapshots
    assert snapshot_signers(TrustPolicy.of((), under(FIRST)), settings) == settings.trusted
    says = signed_root(root_body(snapshots=Role((key_of("snapshots").public.keyid,), 1)))
    found = snapshot_signers(TrustPolicy.of((), under(says)), settings)
    assert found is not None
    assert found.keys == (key_of("snapshots").public.keyid,)


async def test_a_root_that_nobody_has_is_a_problem_until_somebody_brings_it(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enforcing, "PATIENCE_S", 1.0)
    monkeypatch.setattr(observing, "OBSERVE_S", 0.2)
    bare = (TrustedRoot(Anchor(FIRST.digest)),)
    async with mesh.node("mirror", roots=bare) as mirror:
        began = trio.current_time()
        await until(lambda: Code.ROOT_MISSING in codes(mirror))
        assert trio.current_time() - began >= 1  # a first peer would have brought it
        assert mirror.node.awaited() == []
        await bring(mirror, FIRST)
        await until(lambda: Code.ROOT_MISSING not in codes(mirror))
        assert [one.channel for one in mirror.node.awaited()] == ["stable"]


async def test_settings_that_name_a_root_in_place_of_keys_take_it_up_without_a_restart(mesh: Mesh) -> None:
    async with mesh.publisher() as publisher:
        bootstrap = {"bootstrap": (publisher.address,)}
        keys = trusting("second", channels=("stable",), archs=("x86_64",))
        async with mesh.node("mirror", trust=keys, network=bootstrap) as mirror:
            await mirror.node.apply(replace(mirror.settings, trust=(), roots=under(FIRST)))
            await until(lambda: offered(mirror) == [1])
            await mirror.node.apply(mirror.settings)  # and back: what the operator took away goes at once
            assert mirror.store.manifests.all() == []


async def given(asker: Transport, holder: Running, artifact: Artifact) -> list[bool]:
    """Whether a peer gives the first piece of an artifact by either protocol."""
    connection, found = connection_with(asker, holder.transport), []
    questions: list[tuple[str, Query[Any]]] = [
        (ARTIFACT_PROTOCOL, ask_read(artifact.sha256, 0, 100)),
        (SWARM_PROTOCOL, ask_some_pieces(artifact.table_digest, ((0, 1),), artifact.piece_length)),
    ]
    for protocol, question in questions:
        async with RequestStream(await asker.open_stream(connection, protocol)) as requests:
            try:
                await requests.ask(question)
            except PeerLacks:
                found.append(False)
            else:
                found.append(True)
    return found


async def test_by_digest_nothing_is_given_of_what_was_yanked(mesh: Mesh) -> None:
    async with mesh.publisher(roots=under(FIRST)) as publisher:
        await until(lambda: offered(publisher) == [1])
        manifest = publisher.node.catalogue.manifest(publisher.node.catalogue.offered()[0].digest)
        async with mesh.network.open(key_of("asker").public.peer_id) as asker:
            await asker.dial(publisher.address)
            assert await given(asker, publisher, manifest.artifacts["kernel"]) == [True, True]
            yank = yank_of(manifest, FIRST)
            gate = TrustGate(publisher.store, publisher.node.catalogue)
            await trio.to_thread.run_sync(partial(gate.take_yank, yank.raw, source="test"))
            await trio.sleep(KNOWN_S * 2)
            assert await given(asker, publisher, manifest.artifacts["kernel"]) == [False, False]


async def test_a_newer_root_that_names_a_nodes_key_among_its_own_is_a_problem_before_the_next_start(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "OBSERVE_S", 0.2)
    keys = (*ROOT_KEYS, key_of("mirror"))
    role_of_root = Role(tuple(sorted(key.public.keyid for key in keys)), 2)
    second = signed_root(replace(FIRST.body, version=2, fleet=FIRST.digest, root=role_of_root))
    async with mesh.node("mirror", roots=under(FIRST)) as mirror:
        await bring(mirror, second)
        await until(lambda: Code.ROOT_KEY in codes(mirror))


async def test_settings_that_contradict_a_root_that_is_known_change_nothing(mesh: Mesh) -> None:
    async with mesh.node("mirror", roots=under(FIRST)) as mirror:
        keys = trusting("second", channels=("stable",), archs=("x86_64",))
        with pytest.raises(ConfigError, match="two publishers"):
            await mirror.node.apply(replace(mirror.settings, trust=keys))
        assert [one.channel for one in mirror.node.awaited()] == ["stable"]
        assert mirror.node.catalogue.trust.configured.named == ()
