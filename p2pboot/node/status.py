"""What a running node says of itself: on its control socket, in its metrics, and on the gateway's page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from typing import Any

from p2pboot import __version__
from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Candidate
from p2pboot.core.problems import Problem
from p2pboot.core.timestamps import format_time
from p2pboot.dht.member import DhtCounts
from p2pboot.errors import Malformed
from p2pboot.publish.scan import Tree
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.manifests import HeadRow
from p2pboot.store.store import Store
from p2pboot.transport.interface import PeerSource
from p2pboot.transport.traffic import RECEIVED, SENT


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningNode:
    """What only the running node knows, as it is at one moment; the rest is in the store.

    Args:
        peer_id: its own.
        addresses: its own, dialable.
        peers: addresses of the connected peers.
        sources: how they were found, the first way first.
        uptime_s: seconds since it began.
        transferred: bytes exchanged with peers by (protocol, "sent" or "received").
        traffic: the same by peer, and what went to HTTP clients by address; bounded, see `Traffic.by_peer`.
        bytes_sent: what was served, by protocol.
        refused: manifests by reason.
        refused_pieces: by the peer that sent them; bounded.
        dropped_peers: who lied lately, and about what.
        problems: what is wrong now.
        mesh: the fingerprint of its swarm key, where the mesh is private.
        dht: its part in the hash table; None: it has none.
        http: beginnings of the URLs under which it serves artifacts.
        trees: what lies in the directory that it publishes.
    """

    peer_id: str
    addresses: Sequence[str] = ()
    peers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sources: Mapping[str, Sequence[PeerSource]] = field(default_factory=dict)
    uptime_s: float
    transferred: Mapping[tuple[str, str], int] = field(default_factory=dict)
    traffic: Mapping[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    bytes_sent: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    refused_pieces: Mapping[str, int] = field(default_factory=dict)
    dropped_peers: Mapping[str, str] = field(default_factory=dict)
    problems: Sequence[Problem] = ()
    mesh: str | None = None
    dht: DhtCounts | None = None
    http: Sequence[str] = ()
    trees: Sequence[Tree] = ()


def describe_node(node: RunningNode, store: Store, catalogue: Catalogue) -> dict[str, Any]:
    """The whole status; reads the store, so it is called in a thread."""
    now = catalogue.quick_clock().now
    return {
        "version": __version__,
        "peer_id": node.peer_id,
        "addresses": list(node.addresses),
        "mesh": {"private": node.mesh is not None, "swarm_key_fingerprint": node.mesh},
        "dht": describe_dht(node.dht),
        "uptime_s": round(node.uptime_s),
        "peers": [
            {
                "peer_id": peer_id,
                "addresses": list(addresses),
                "sources": [source.value for source in node.sources.get(peer_id, ())],
            }
            for peer_id, addresses in sorted(node.peers.items())
        ],
        "heads": [_describe_row(store, row, now) for row in store.manifests.heads()],
        "fetching": [_describe_row(store, row, now) for row in store.manifests.pending()],
        "store": _describe_room(store, catalogue),
        "equivocations": len(store.trust.equivocations()),
        "refused": dict(node.refused),
        "dropped_peers": dict(node.dropped_peers),
        "withheld": [one.to_json() for one in catalogue.withheld()],
        "problems": [problem.to_json() for problem in node.problems],
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


def describe_dht(counts: DhtCounts | None) -> dict[str, Any] | None:
    """A node's part in the hash table; None: it has none."""
    return None if counts is None else asdict(counts)


def _describe_room(store: Store, catalogue: Catalogue) -> dict[str, Any]:
    """In bytes; a limit of None is none."""
    return {
        "used": store.blobs.used_bytes(),
        "limit": store.blobs.room.limit_bytes(),
        "quota": store.blobs.quota_bytes,
        "keep": catalogue.keep,
        "publishers": [
            {
                "publisher": publisher.name or publisher.keys[0],
                "used": sum(catalogue.taken(publisher).values()),
                "limit": catalogue.share(publisher),
            }
            for publisher in catalogue.trust.configured.publishers
        ],
    }


def _describe_row(store: Store, row: HeadRow, now: int) -> dict[str, Any]:
    return {
        "channel": row.channel,
        "arch": row.arch,
        "version": _version(store, row),
        "manifest_version": row.manifest_version,
        "digest": row.digest,
        "signers": list(row.signers),
        "created_at": format_time(row.created_at),
        "age_s": max(0, now - row.created_at),
        "expires_at": format_time(row.expires_at),
        "expired": row.expires_at <= now,  # then it is not offered any more
    }


def _version(store: Store, row: HeadRow) -> str:
    stored = store.manifests.get(row.digest)
    try:
        return "" if stored is None else Candidate.decode(stored.raw).claims.version
    except Malformed:  # the disk damaged it: the rest of the status is all the more of interest
        return ""
