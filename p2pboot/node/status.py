"""What a node says of itself on its control socket: plain values for JSON, for people and for monitoring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from p2pboot import __version__
from p2pboot.core.manifest import Candidate, Manifest
from p2pboot.core.manifest.facts import facts
from p2pboot.core.problems import Problem
from p2pboot.core.timestamps import format_time
from p2pboot.core.withheld import Withheld
from p2pboot.errors import Malformed
from p2pboot.publish.scan import Tree
from p2pboot.store.manifests import HeadRow
from p2pboot.store.store import Store


@dataclass(frozen=True, slots=True)
class Running:
    """What only the running node knows; the rest is in the store.

    Args:
        peer_id: its own.
        addresses: its own, dialable.
        peers: addresses of the connected peers.
        now: unix seconds, by which manifests expire.
        uptime_s: seconds since it began.
        refused: manifests by reason.
        dropped_peers: who lied lately, and about what.
        problems: what is wrong now.
        withheld: what is known and not offered, and why.
        bytes_sent: by protocol.
        http: beginnings of the URLs under which it serves artifacts.
        ignored: what lies in the published directories and is not published.
    """

    peer_id: str
    addresses: tuple[str, ...]
    peers: Mapping[str, tuple[str, ...]]
    now: int
    uptime_s: float
    refused: Counter[str]
    dropped_peers: Mapping[str, str]
    problems: Sequence[Problem]
    withheld: Sequence[Withheld]
    bytes_sent: Counter[str]
    http: tuple[str, ...]
    ignored: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """What a node counted since its start.

    Args:
        uptime_s: seconds.
        peers: connected now.
        transferred: bytes on streams by (protocol, "sent" or "received").
        refused: manifests by reason.
        refused_pieces: by the peer that sent them; bounded.
        problems: what is wrong now.
    """

    uptime_s: float
    peers: frozenset[str]
    transferred: Mapping[tuple[str, str], int]
    refused: Mapping[str, int]
    refused_pieces: Mapping[str, int]
    problems: Sequence[Problem] = ()


def describe_node(store: Store, running: Running) -> dict[str, Any]:
    """The whole status; reads the store, so it is called in a thread."""
    return {
        "version": __version__,
        "peer_id": running.peer_id,
        "addresses": list(running.addresses),
        "uptime_s": round(running.uptime_s),
        "peers": [
            {"peer_id": peer_id, "addresses": list(addresses)}
            for peer_id, addresses in sorted(running.peers.items())
        ],
        "heads": [_describe_row(store, row, running.now) for row in store.manifests.heads()],
        "fetching": [_describe_row(store, row, running.now) for row in store.manifests.pending()],
        "equivocations": len(store.trust.equivocations()),
        "refused": dict(running.refused),
        "dropped_peers": dict(running.dropped_peers),
        "withheld": [
            {"channel": one.channel, "arch": one.arch, "reason": one.why.value, "text": one.text}
            for one in running.withheld
        ],
        "problems": [problem.to_json() for problem in running.problems],
        "bytes_sent": dict(running.bytes_sent),
        "http": list(running.http),
        "ignored": [dict(one) for one in running.ignored],
    }


def _describe_row(store: Store, row: HeadRow, now: int) -> dict[str, Any]:
    return {
        "channel": row.channel,
        "arch": row.arch,
        "version": _version(store, row),
        "manifest_version": row.manifest_version,
        "digest": row.digest,
        "signers": list(row.signers),
        "expires_at": format_time(row.expires_at),
        "expired": row.expires_at <= now,  # then it is not offered any more
    }


def _version(store: Store, row: HeadRow) -> str:
    stored = store.manifests.get(row.digest)
    try:
        return "" if stored is None else Candidate.decode(stored.raw).claims.version
    except Malformed:  # the disk damaged it: the rest of the status is all the more of interest
        return ""


def describe_ignored(trees: Iterable[Tree]) -> list[dict[str, str]]:
    """What lies in published directories and is not published, and why."""
    return [
        {"channel": tree.channel, "arch": tree.arch, "path": str(one.path), "why": one.why}
        for tree in trees
        for one in tree.ignored
    ]


def describe_manifest(manifest: Manifest) -> dict[str, Any]:
    """One manifest that was published."""
    return facts(manifest, "channel", "arch", "version", "manifest_version", "digest", "expires_at")
