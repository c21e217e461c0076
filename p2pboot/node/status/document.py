"""The status document: one form for the control socket, the page and terminals. Described in ``docs/status.md``.

Everything in it is bounded, whoever is connected and whatever they say: `p2pboot.node.control.MAX_ANSWER` holds it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from p2pboot import __version__
from p2pboot.core.estimate import left_s
from p2pboot.core.headway import WAITING_S, source_of
from p2pboot.core.manifest import Artifact, Statement
from p2pboot.core.pieces import piece_count
from p2pboot.core.timestamps import clock_text, format_time
from p2pboot.core.trust import Pair
from p2pboot.dht.member import DhtCounts
from p2pboot.fetch.receiving.view import ArtifactOnItsWay
from p2pboot.node.status.boots import Boot
from p2pboot.node.status.flows import CLASSES, INTERVAL_S, LAN, MESH, PUBLISHER, FlowsFacts
from p2pboot.node.status.pieces import run_lengths
from p2pboot.node.status.running import MAX_PEERS, PeerFacts, RunningNode
from p2pboot.node.status.trust import describe_trust
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.manifests import HeadRow
from p2pboot.store.store import Store
from p2pboot.transport.interface import PeerSource
from p2pboot.transport.traffic import RECEIVED, SENT

SCHEMA: Final = 1
"""Raised when a key changes its meaning or goes; a key that is added does not raise it."""

MAX_ARTIFACTS: Final = 4096
"""Artifacts that are listed, of all heads together and of all that is fetched: what has more says how many it has."""

MAX_GIVERS: Final = 16
"""Peers that are named for one artifact that is fetched."""

PATHS: Final[Mapping[PeerSource, str]] = {
    PeerSource.BOOTSTRAP: "bootstrap",
    PeerSource.LAN: "lan",
    PeerSource.DHT: "dht",
    PeerSource.PEERS: "mesh",
    PeerSource.ADDRESS_BOOK: "mesh",
    PeerSource.INCOMING: "incoming",
}


def describe_node(node: RunningNode, store: Store, catalogue: Catalogue) -> dict[str, Any]:
    """Make the whole status; reads the store's tables, so it is called in a thread.

    With 256 peers, 60 intervals and 64 clients it takes 7 ms of a thread, after 2 to 8 ms of the event loop for
    `Node.running` (`benchmarks/status.py`): whoever shows it to many makes it once for all.

    Args:
        node: as `Node.running` gives it, in the event loop.
        store: the node's.
        catalogue: of that store.

    Returns:
        Plain values, as ``docs/status.md`` names them.

    Raises:
        StoreError, MachineError: the store can not be read.
    """
    now = catalogue.quick_clock().now
    releases = _Releases(node, store, catalogue, now)
    return {
        "schema": SCHEMA,
        "version": __version__,
        "name": node.name,
        "role": node.role,
        "peer_id": node.peer_id,
        "now": clock_text(now),
        "started_at": clock_text(now - node.uptime_s),
        "uptime_s": round(node.uptime_s),
        "admin": node.admin,
        "addresses": list(node.addresses),
        "mesh": {"private": node.mesh is not None, "swarm_key_fingerprint": node.mesh},
        "dht": describe_dht(node.dht),
        "peers": [
            _describe_peer(peer, releases.newest)
            for peer in sorted(_shown(node), key=lambda one: one.peer_id)
        ],
        "peers_total": len(node.peers),
        "heads": releases.heads(),
        "fetching": releases.fetching(),
        "flows": _describe_flows(node.flows, now),
        "clients": [_describe_boot(boot) for boot in node.boots],
        "store": _describe_room(store, catalogue),
        "scrub": None if node.scrub is None else dict(node.scrub),
        "snapshots": None
        if node.snapshots is None
        else {
            "held": node.snapshots.held,
            "bytes": node.snapshots.size_bytes,
            "follows": node.snapshots.follows,
        },
        "trust": describe_trust(store, catalogue),
        "equivocations": len(store.trust.equivocations()),
        "refused": dict(node.refused),
        "dropped_peers": dict(node.dropped_peers),
        "withheld": [one.to_json() for one in catalogue.withheld()],
        "problems": [one.to_json() for one in sorted(node.problems, key=lambda one: one.order)],
        "bytes_sent": dict(node.bytes_sent),
        "traffic": [
            {"peer": peer, "kind": kind, "sent": counts[kind, SENT], "received": counts[kind, RECEIVED]}
            for peer, counts in sorted(node.traffic.items())
            for kind in sorted({kind for kind, _ in counts})
        ],
        "http": list(node.http),
        "ignored": [
            {"channel": tree.channel, "arch": tree.arch, "path": str(one.path), "why": one.why}
            for tree in node.trees
            for one in tree.ignored
        ],
    }


def describe_fetching(node: RunningNode, store: Store, catalogue: Catalogue) -> list[dict[str, Any]]:
    """Of the document `fetching` alone; blocking, with the arguments and errors of `describe_node`."""
    return _Releases(node, store, catalogue, catalogue.quick_clock().now).fetching()


def describe_dht(counts: DhtCounts | None) -> dict[str, Any] | None:
    """A node's part in the hash table; None: it has none."""
    return None if counts is None else asdict(counts)


def _shown(node: RunningNode) -> Iterable[PeerFacts]:
    if node.shown:
        return node.shown[:MAX_PEERS]
    first = itertools.islice(node.peers.items(), MAX_PEERS)
    return [PeerFacts(peer_id=peer_id, addresses=told) for peer_id, told in first]


def _describe_peer(peer: PeerFacts, newest: Mapping[Pair, int]) -> dict[str, Any]:
    return {
        "peer_id": peer.peer_id,
        "name": peer.name,
        "path": path_of(peer),
        "near": peer.near,
        "publisher": peer.is_publisher,
        "rtt_ms": None if peer.rtt_s is None else round(1000 * peer.rtt_s, 1),
        "sent": peer.sent,
        "received": peer.received,
        "rate_sent": round(peer.rate_sent),
        "rate_received": round(peer.rate_received),
        "holds": list(peer.holds),
        "behind": sum(
            number < newest.get((channel, arch), 0) for (channel, arch), number in peer.numbers.items()
        ),
        "addresses": list(peer.addresses),
        "sources": [source.value for source in peer.sources],
    }


def class_of(peer: PeerFacts) -> str:
    """Whose bytes a peer's are, as `flows` counts them."""
    return source_of(is_publisher=peer.is_publisher, near=lambda: peer.near)


def path_of(peer: PeerFacts) -> str:
    """The way that bytes take: a peer in the own subnet is reached there, whoever told of it."""
    if peer.near:
        return "lan"
    return PATHS[peer.sources[0]] if peer.sources else "mesh"


def _describe_flows(flows: FlowsFacts | None, now: float) -> dict[str, Any]:
    if flows is None:
        nothing: dict[str, list[int]] = {one: [] for one in CLASSES}
        none = dict.fromkeys(CLASSES, 0)
        return {
            "interval_s": INTERVAL_S,
            "samples": 0,
            "ends_at": None,
            "received": nothing,
            "sent": nothing,
            "totals": {RECEIVED: none, SENT: none},
        }
    return {
        "interval_s": flows.interval_s,
        "samples": max(map(len, flows.sent.values()), default=0),
        "ends_at": clock_text(now - flows.ended_s),
        "received": {one: list(sizes) for one, sizes in flows.received.items()},
        "sent": {one: list(sizes) for one, sizes in flows.sent.items()},
        "totals": {direction: dict(sizes) for direction, sizes in flows.totals.items()},
    }


def _describe_boot(boot: Boot) -> dict[str, Any]:
    return {
        "address": boot.address,
        "peer_id": boot.peer_id,
        "via": boot.via,
        "channel": boot.channel,
        "arch": boot.arch,
        "version": boot.version,
        "began_at": clock_text(boot.began_at),
        "last_at": clock_text(boot.last_at),
        "bytes": boot.sent_bytes,
        "done": boot.done,
    }


def _describe_room(store: Store, catalogue: Catalogue) -> dict[str, Any]:
    """In bytes; a limit of None is none."""
    return {
        "used": store.blobs.used_bytes(),
        "limit": store.blobs.room.limit_bytes(),
        "quota": store.blobs.quota_bytes,
        "keep": catalogue.keep,
        "publishers": [
            {
                "publisher": publisher.shown,
                "used": sum(catalogue.taken(publisher).values()),
                "limit": catalogue.share(publisher),
            }
            for publisher in catalogue.trust.configured.publishers
        ],
    }


class _Releases:
    """Manifests that are held, and those that are brought in, as far as there is room for their artifacts."""

    def __init__(self, node: RunningNode, store: Store, catalogue: Catalogue, now: int) -> None:
        self._node, self._store, self._catalogue, self._now = node, store, catalogue, now
        self._peers = {peer.peer_id: peer for peer in node.shown}
        self._offered = {row.digest for row in catalogue.offered()}
        self.newest: dict[Pair, int] = {}
        """The highest number that is known of each pair, here or on its way."""
        for row in store.manifests.known():
            if row.fault is None and catalogue.trust.takes(row):
                self.newest[row.pair] = max(self.newest.get(row.pair, 0), row.manifest_version)

    def heads(self) -> list[dict[str, Any]]:
        left, described = MAX_ARTIFACTS, []
        for row in self._store.manifests.heads():
            claims = self._store.manifests.claims(row.digest)
            artifacts = _artifacts(claims, left)
            left -= len(artifacts)
            described.append(
                {
                    **self._describe(row, claims),
                    "artifacts": [
                        {"name": one.key, "size": one.size, "sha256": one.sha256} for one in artifacts
                    ],
                }
            )
        return described

    def fetching(self) -> list[dict[str, Any]]:
        left, described = MAX_ARTIFACTS, []
        for row in self._store.manifests.pending():
            claims = self._store.manifests.claims(row.digest)
            artifacts = [self._progress(one) for one in _artifacts(claims, left)]
            left -= len(artifacts)
            described.append(
                {
                    **self._describe(row, claims),
                    "artifacts": artifacts,
                    "bytes_done": sum(one["done"] for one in artifacts),
                    "bytes_total": sum(one["size"] for one in artifacts),
                    "sources": self._sources(artifacts),
                }
            )
        return described

    def _describe(self, row: HeadRow, claims: Statement | None) -> dict[str, Any]:
        publisher = self._catalogue.trust.publisher_for(row.channel, row.arch)
        if publisher is not None and not publisher.is_met_by(row.signers):
            publisher = None  # whoever is believed now: these signers are not
        return {
            "channel": row.channel,
            "arch": row.arch,
            "version": "" if claims is None else claims.version,
            "manifest_version": row.manifest_version,
            "digest": row.digest,
            "signers": list(row.signers),
            "publisher": None if publisher is None else publisher.shown,
            "threshold": None if publisher is None else publisher.threshold,
            "provider": None
            if claims is None
            else {"peer_id": claims.provider_peer_id, "name": claims.provider_name},
            "created_at": format_time(row.created_at),
            "age_s": max(0, self._now - row.created_at),
            "expires_at": format_time(row.expires_at),
            "expires_in_s": row.expires_at - self._now,
            "expired": row.expires_at <= self._now,  # then it is not offered any more
            "offered": row.digest in self._offered,
            "artifacts_total": 0 if claims is None else len(claims.artifacts),
        }

    def _sources(self, artifacts: Iterable[Mapping[str, Any]]) -> dict[str, int]:
        """Bytes by class of who gave them; of whom nothing is known any more, he is of the mesh."""
        sources = dict.fromkeys((LAN, MESH, PUBLISHER), 0)
        ways = (self._node.on_their_way.get(one["sha256"]) for one in artifacts)
        for one in itertools.chain.from_iterable(way.given for way in ways if way is not None):
            peer = self._peers.get(one.peer_id)
            sources[MESH if peer is None else class_of(peer)] += one.given_bytes
        return sources

    def _progress(self, artifact: Artifact) -> dict[str, Any]:
        """How far the fetch of one artifact is; what is not on its way is here, or not begun."""
        pieces = piece_count(artifact.size, artifact.piece_length)
        way = self._node.on_their_way.get(artifact.sha256)
        if way is None:
            whole = self._store.blobs.holds(artifact.sha256, artifact.table_digest)
            way = ArtifactOnItsWay(
                sha256=artifact.sha256,
                done_bytes=artifact.size if whole else 0,
                held=None,
                rate=0.0,
                idle_s=0.0,
            )
        left = artifact.size - way.done_bytes
        waits = left > 0 and way.idle_s >= WAITING_S
        return {
            "name": artifact.key,
            "sha256": artifact.sha256,
            "size": artifact.size,
            "done": way.done_bytes,
            "pieces": pieces,
            **run_lengths(way.held, pieces, is_whole=left <= 0),
            "rate": 0 if waits else round(way.rate),
            "left_s": left_s(left, 0.0 if waits else way.rate),
            "waiting_s": round(way.idle_s) if waits else None,
            "from": [
                {
                    "peer_id": one.peer_id,
                    "name": None if one.peer_id not in self._peers else self._peers[one.peer_id].name,
                    "bytes": one.given_bytes,
                    "rate": round(one.rate),
                }
                for one in way.given[:MAX_GIVERS]
            ],
        }


def _artifacts(claims: Statement | None, at_most: int) -> Sequence[Artifact]:
    return () if claims is None else tuple(claims.artifacts.values())[:at_most]
