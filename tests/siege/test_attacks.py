"""Each attack of `siege/` can be begun and ended, so that they are there when somebody lays siege to a node."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from p2pboot.core.identity import SecretKey
from p2pboot.core.swarmkey import SwarmKey
from p2pboot.dht.addresses import AddressPolicy
from p2pboot.dht.member import DhtMember
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, SYNC_PROTOCOL
from p2pboot.protocol.swarm import SWARM_PROTOCOL
from p2pboot.serving.accounts import Serving
from p2pboot.serving.artifacts import ArtifactServer
from p2pboot.serving.contents import Contents
from p2pboot.serving.heads import SyncServer
from p2pboot.serving.swarm import SwarmServer
from p2pboot.store.store import Store
from p2pboot.testing.waiting import HANG_S
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.libp2p import open_libp2p
from siege import rpc
from siege.attacks import ATTACKS
from siege.report import described
from siege.target import OPEN, PRIVATE, Target
from tests.gateway.world import PAIR, OfferingNode, gateway_settings, put, serving

LISTEN = ("/ip4/127.0.0.1/tcp/0",)


def test_the_page_on_security_tells_of_each_attack() -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    assert described(ATTACKS.values()) in page  # what `python -m siege --list` prints


async def test_each_attack_does_what_it_says(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, a connection each, against little."""
    monkeypatch.setattr(rpc, "MAX_RPC", 20_000)
    manifest = put(store, {"kernel": bytes(5000), "initramfs": bytes(1000)})
    node, accounts = OfferingNode(store), Serving()
    async with (
        serving(node, gateway_settings(tmp_path)) as gateway,
        open_libp2p(SecretKey(b"n" * 32), LISTEN) as transport,
        open_libp2p(SecretKey(b"p" * 32), LISTEN, swarm_key=SwarmKey(b"k" * 32)) as private,
        trio.open_nursery() as keeping,
    ):
        keeping.start_soon(DhtMember(transport, AddressPolicy(), serves=True).run)
        transport.handle(ARTIFACT_PROTOCOL, ArtifactServer(store.blobs, accounts).handle)
        heads = SyncServer(
            store.manifests, transport.peer_records, lambda: node.now, accounts, node.catalogue.withheld
        )
        transport.handle(SYNC_PROTOCOL, heads.handle)
        contents = Contents()
        contents.add(store.blobs)
        transport.handle(SWARM_PROTOCOL, SwarmServer(transport, accounts, contents).handle)
        ports = {
            kind: parse_address(one.addresses()[0]).port
            for kind, one in ((OPEN, transport), (PRIVATE, private))
        }
        name, smallest = min(manifest.artifacts.items(), key=lambda item: item[1].size)
        target = Target(
            host="127.0.0.1",
            port=ports[OPEN],
            peer_id=transport.peer_id,
            http=("127.0.0.1", gateway.port),
            path=f"{PAIR}/{name}",
            sha256=smallest.sha256,
            size=smallest.size,
            table=smallest.table_digest,
            piece_length=smallest.piece_length,
            second_seed="07" * 32,
            fleet="01" * 32,
            vouching_seed="08" * 32,
            head_version=manifest.manifest_version,
            head_digest=manifest.digest,
        )
        for number, kind in enumerate(ATTACKS.values(), start=1):
            attack = kind(replace(target, port=ports.get(kind.room, ports[OPEN])), number)
            attack.connections = 1  # type: ignore[misc]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(attack.run)
                with trio.fail_after(HANG_S):
                    await attack.shown.wait()
                nursery.cancel_scope.cancel()
        keeping.cancel_scope.cancel()
