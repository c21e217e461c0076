"""A node of which there is something to tell under every key, at the bounds where a test wants that."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from p2pboot.core.ignored import Reason
from p2pboot.core.manifest import Manifest, Rollout, content_digest, sign_detached
from p2pboot.core.pieces import PieceSet
from p2pboot.core.policy import TrustedRoot, TrustPolicy
from p2pboot.core.problems import Code, Problem
from p2pboot.core.trust import Trust
from p2pboot.core.trustdocs.chain import Anchor, begin
from p2pboot.core.trustdocs.envelope import add_signature
from p2pboot.core.trustdocs.freshness import Freshness, FreshnessBody
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import FreshnessRule, PublishRole, Role, RootBody
from p2pboot.dht.member import DhtCounts
from p2pboot.fetch.receiving.view import ArtifactOnItsWay, PeerGave
from p2pboot.node.status import PeerFacts, RunningNode, SnapshotsFacts
from p2pboot.node.status.boots import Boot
from p2pboot.node.status.flows import CLASSES, INTERVAL_S, INTERVALS, FlowsFacts
from p2pboot.publish.layout import Ignored
from p2pboot.publish.tree import Tree
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.store import Store
from p2pboot.testing.manifests import NOW, key_of
from p2pboot.testing.stores import hold_all
from p2pboot.transport.interface import PeerSource
from tests.fetch.world import FILES, KEY, manifest_of

PEER = KEY.public.peer_id
FRESH = key_of("freshness")


def rooted() -> Trust:
    """Whom a root names: the publisher, and who vouches for what is new."""
    rule = FreshnessRule((FRESH.public.keyid,))
    role = PublishRole(
        (KEY.public.keyid,), channels=("old", "stable"), archs=("arm64", "x86_64"), freshness=rule
    )
    body = RootBody(
        name="ops",
        version=1,
        created_at=NOW - 60,
        expires_at=NOW + 3600,
        root=Role((key_of("root").public.keyid,)),
        publish=(role,),
    )
    anchor = Anchor.of_root(Root.parse(add_signature(body.document(), key_of("root"))))
    return Trust(TrustPolicy.of((), (TrustedRoot(anchor, begin(anchor)),)))


TRUST = rooted()
FLEET = TRUST.roots[0].anchor.digest


def statement_of(manifest: Manifest) -> Freshness:
    """That it is the newest."""
    body = FreshnessBody(
        fleet=FLEET,
        root_version=1,
        channel=manifest.channel,
        arch=manifest.arch,
        created_at=NOW - 60,
        valid_until=NOW + 3600,
        head_version=manifest.manifest_version,
        head_digest=manifest.digest,
        minimum=1,
        signers=(FRESH.public.keyid,),
    )
    return Freshness.parse(add_signature(body.document(), FRESH))


def filled(path: Path) -> tuple[RunningNode, Store, Catalogue]:
    """A mirror with one release that is held, one that comes in, and one that is expired."""
    store = Store.open(path)
    held = manifest_of(FILES, 1)
    store.manifests.put(held, sign_detached(held.raw, KEY))
    hold_all(store, held, FILES)
    store.manifests.set_head(held.digest)
    store.documents.put_statement(statement_of(held))
    coming = manifest_of({key: data[::-1] for key, data in FILES.items()}, 2)
    store.manifests.put(coming, None)
    plan = Rollout("stable", content_digest(held), NOW - 50, 100, 50, "salt")
    staged = manifest_of(FILES, 1, channel="stable.next", rollout=plan, cmdline="new")
    store.manifests.put(staged, None)
    store.manifests.set_head(staged.digest)
    old = manifest_of(FILES, 1, channel="old", created_at=NOW - 200, expires_at=NOW - 100)
    store.manifests.put(old, None)
    store.manifests.set_head(old.digest)
    return running(ways_of(coming)), store, Catalogue(store, TRUST, lambda: NOW)


def ways_of(manifest: Any) -> dict[str, ArtifactOnItsWay]:
    artifact = next(iter(manifest.artifacts.values()))
    return {
        artifact.sha256: ArtifactOnItsWay(
            sha256=artifact.sha256,
            done_bytes=1,
            held=PieceSet.of(-(-artifact.size // artifact.piece_length), [0]),
            rate=10.0,
            idle_s=0.0,
            given=[PeerGave(peer_id=PEER, given_bytes=1, rate=10.0)],
        )
    }


def running(ways: dict[str, ArtifactOnItsWay], peers: int = 1, clients: int = 1) -> RunningNode:
    """So many peers and clients, and five minutes of flows."""
    names = [f"{PEER}{number:04}" for number in range(peers)]
    intervals = dict.fromkeys(CLASSES, (1000000,) * INTERVALS)
    return RunningNode(
        peer_id=PEER,
        name="boot-1",
        role="mirror",
        admin="http://127.0.0.1:4080",
        addresses=["/ip4/192.0.2.1/tcp/4001"],
        peers={name: ["/ip4/192.0.2.2/tcp/4001"] for name in names},
        shown=[
            PeerFacts(
                peer_id=name,
                addresses=["/ip4/192.0.2.2/tcp/4001"],
                sources=[PeerSource.DHT],
                name="somebody",
                rtt_s=0.0123,
                sent=1,
                received=2,
                rate_sent=3,
                rate_received=4,
                holds=["stable/x86_64 #7"] * 8,
            )
            for name in names
        ],
        uptime_s=5000.0,
        flows=FlowsFacts(
            interval_s=INTERVAL_S,
            ended_s=1.0,
            received=intervals,
            sent=intervals,
            totals={"received": dict.fromkeys(CLASSES, 1), "sent": dict.fromkeys(CLASSES, 1)},
        ),
        on_their_way=ways,
        boots=[
            Boot(
                address="192.0.2.9",
                peer_id=None,
                via="http",
                channel="stable",
                arch="x86_64",
                version="2026.1",
                began_at=NOW - 60,
                last_at=NOW - 50,
                sent_bytes=100,
                done=True,
            )
        ]
        * clients,
        scrub={
            **{"running": True, "begun_at": "2027-01-15T08:00:00Z", "last_finished_at": None},
            **{"read_bytes": 1, "total_bytes": 2, "damaged": 1, "mended": 0},
        },
        snapshots=SnapshotsFacts(held=1, size_bytes=2, follows=True),
        traffic={name: Counter({("gossip", "sent"): 1}) for name in names},
        bytes_sent={"/p2pboot/artifact/1": 1},
        refused={"expired": 1},
        dropped_peers={PEER: "it lied"},
        problems=[Problem(Code.CLOCK, "clock", "it is wrong", "set it")],
        mesh="ab" * 32,
        dht=DhtCounts(1, requests={"get": 1}, refused={"quota": 1}),
        http=["http://192.0.2.1:8080"],
        trees=[
            Tree(
                *("stable", "x86_64", Path("/srv"), {}, None),
                ignored=(Ignored(Path("notes.txt"), Reason.COMPANION),),
            )
        ],
    )
