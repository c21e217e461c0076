"""Trust documents on their way by gossip: who passes them on, who asks for what is missing, and whom nobody hears."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import trio

from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import TrustedRoot
from p2pboot.core.trustdocs.chain import Anchor
from p2pboot.core.trustdocs.rootbody import NO_FLEET, FreshnessRule
from p2pboot.protocol.messages import freshness_topic, manifest_topic, roots_topic, yanks_topic
from p2pboot.store.trustgate import Fate
from p2pboot.testing.manifests import NOW, key_of
from p2pboot.testing.stores import offer
from p2pboot.testing.trustdocs import FRESH, ROOT_KEYS, chain_of, next_root, statement_of, yank_of
from p2pboot.transport.interface import Forwarding
from tests.node.world import PAIR, Mesh, Running, files_of, signed, trusting, until

GOSSIP_ONLY: dict[str, Any] = {"sync": False, "announce_interval_s": 150.0}
WITH_FRESHNESS = trusting(
    "publisher", channels=(PAIR[0],), archs=(PAIR[1],), freshness=FreshnessRule((FRESH.public.keyid,))
)


def published(node: Running) -> Manifest:
    head = node.head()
    assert head is not None
    return node.node.catalogue.manifest(head.digest)


def version_of(node: Running) -> int:
    newest = node.node.catalogue.trust.roots[0].newest
    return 0 if newest is None else newest.version


async def hear(node: Running, topic: str, raw: bytes, sender: str = "somebody") -> Forwarding:
    """What a node makes of a message."""
    validators = node.transport.validators  # type: ignore[attr-defined]
    forwarding: Forwarding = await validators[topic](key_of(sender).public.peer_id, raw)
    return forwarding


async def test_statements_and_yanks_reach_a_mirror_of_a_mirror_by_gossip_alone(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with AsyncExitStack() as stack:

        async def node(name: str, *bootstrap: str) -> Running:
            network = {**GOSSIP_ONLY, "bootstrap": bootstrap}
            return await stack.enter_async_context(mesh.node(name, trust=WITH_FRESHNESS, network=network))

        publisher = await stack.enter_async_context(
            mesh.publisher(
                provider={"channel": PAIR[0], "arch": PAIR[1]}, trust=WITH_FRESHNESS, network=GOSSIP_ONLY
            )
        )
        await until(lambda: publisher.version() == 1)
        manifest = published(publisher)
        statement, yank = statement_of(manifest), yank_of(manifest, content="a" * 64)
        assert publisher.node.trust_gate.take_freshness(statement.raw, source="a file").fate is Fate.NEWS
        first = await node("first", publisher.address)
        second = await node("second", first.address)
        await until(lambda: second.version() == 1, within_s=600)
        await until(lambda: second.node.documents.freshness(*PAIR) == [statement.raw], within_s=600)
        assert publisher.node.trust_gate.take_yank(yank.raw, source="a file").fate is Fate.NEWS
        await until(lambda: second.node.documents.yanks(*PAIR) == [yank.raw])


async def test_a_new_root_goes_round_at_once_and_a_gap_is_filled_by_sync(
    mesh: Mesh, autojump_clock: None
) -> None:
    chain = chain_of(4)
    trust = (TrustedRoot(Anchor(chain[0].digest)),)
    network: dict[str, Any] = {"sync_interval_s": 3600.0, "announce_interval_s": 150.0}
    async with (
        mesh.node("first", roots=trust, network=network) as first,
        mesh.node("second", roots=trust, network={**network, "bootstrap": (first.address,)}) as second,
    ):
        await trio.sleep(30)  # one round, in which nobody had anything
        first.node.trust_gate.take_roots([root.raw for root in chain[:1]], source="a file")
        await until(lambda: version_of(second) == 1)
        first.node.trust_gate.take_roots([root.raw for root in chain], source="a file")
        await until(lambda: version_of(second) == 4)
        assert second.node.documents.roots(chain[0].digest, 0) == [root.raw for root in chain]


async def test_what_becomes_of_a_root_that_is_heard(mesh: Mesh, autojump_clock: None) -> None:
    chain = chain_of(4)
    topic = roots_topic(chain[0].digest)
    async with mesh.node("node", roots=(TrustedRoot(Anchor.of_root(chain[0])),)) as node:
        assert await hear(node, topic, chain[0].raw) is Forwarding.ACCEPT
        assert await hear(node, topic, chain[2].raw) is Forwarding.IGNORE
        assert await hear(node, topic, chain[1].raw) is Forwarding.ACCEPT
        other = next_root(chain[0], name="another")
        assert await hear(node, topic, other.raw) is Forwarding.IGNORE
        assert len(node.store.documents.evidence()) == 1
        alone = next_root(chain[1], keys=[key_of("root 1")])
        assert await hear(node, topic, alone.raw) is Forwarding.REJECT
        assert await hear(node, topic, chain[1].raw) is Forwarding.ACCEPT
        for raw in (
            chain[0].raw,
            next_root(chain[0], ROOT_KEYS[1:], created_at=chain[1].body.created_at).raw,
        ):
            assert await hear(node, topic, raw) is Forwarding.IGNORE
        assert await hear(node, topic, b"{}") is Forwarding.REJECT
        assert version_of(node) == 2


async def test_a_statement_before_its_manifest_is_asked_for_again_once_that_is_here(
    mesh: Mesh, autojump_clock: None
) -> None:
    network: dict[str, Any] = {"sync_interval_s": 36_000.0, "announce_interval_s": 36_000.0}
    manifest = signed(1)
    statement = statement_of(manifest)
    async with (
        mesh.node("source", trust=WITH_FRESHNESS, network={**network, "gossip": False}) as source,
        mesh.node("mirror", trust=WITH_FRESHNESS, network=network) as mirror,
    ):
        await mirror.transport.dial(source.address)
        await trio.sleep(30)  # one round, in which nobody had anything
        offer(source.store, manifest, files_of("image"))
        assert source.node.trust_gate.take_freshness(statement.raw, source="a file").fate is Fate.NEWS
        topic = freshness_topic(NO_FLEET, *PAIR)
        assert await hear(mirror, topic, statement.raw) is Forwarding.IGNORE
        await trio.sleep(30)
        assert mirror.node.documents.freshness(*PAIR) == []
        assert await hear(mirror, manifest_topic(*PAIR), manifest.raw) is Forwarding.ACCEPT
        await until(lambda: mirror.node.documents.freshness(*PAIR) == [statement.raw])


async def test_what_becomes_of_statements_and_yanks_that_are_heard(mesh: Mesh, autojump_clock: None) -> None:
    manifest = signed(1)
    topic, yanks = freshness_topic(NO_FLEET, *PAIR), yanks_topic(NO_FLEET, *PAIR)
    async with mesh.node("mirror", trust=WITH_FRESHNESS) as mirror:
        offer(mirror.store, manifest, files_of("image"))
        newest, older = statement_of(manifest), statement_of(manifest, created_at=NOW - 600)
        for raw, forwarding in (
            (newest.raw, Forwarding.ACCEPT),
            (newest.raw, Forwarding.ACCEPT),
            (older.raw, Forwarding.IGNORE),
            (statement_of(manifest, created_at=NOW + 3600).raw, Forwarding.IGNORE),
            (statement_of(manifest, keys=[key_of("publisher")]).raw, Forwarding.IGNORE),
            (statement_of(manifest, channel="testing").raw, Forwarding.REJECT),
            (newest.raw[:-2] + b"}}", Forwarding.REJECT),
        ):
            assert await hear(mirror, topic, raw) is forwarding, raw
        forged = yank_of(manifest, keys=[key_of("nobody")])
        assert await hear(mirror, yanks, forged.raw) is Forwarding.IGNORE
        assert mirror.node.documents.yanks(*PAIR) == []
        yank = yank_of(manifest)
        assert [await hear(mirror, yanks, yank.raw) for _ in range(2)] == [Forwarding.ACCEPT] * 2
        assert mirror.node.documents.yanks(*PAIR) == [yank.raw]
