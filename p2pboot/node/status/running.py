"""What only the running node knows, as values: collected in the event loop, and described in a thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.problems import Problem
from p2pboot.core.trust import Pair
from p2pboot.dht.member import DhtCounts
from p2pboot.fetch.receiving.view import ArtifactOnItsWay
from p2pboot.node.lag import Lag
from p2pboot.node.status.boots import Boot
from p2pboot.node.status.flows import FlowsFacts
from p2pboot.publish.scan import Tree
from p2pboot.transport.interface import PeerSource

MAX_PEERS: Final = 256
"""Peers of which anything is told; how many there are is told of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFacts:
    """One connected peer.

    Args:
        peer_id: proven.
        addresses: at which it was dialled or says that it listens.
        sources: how it was found, the first way first.
        name: what its operator or its program calls it, by its own word, made safe to show; None: it says nothing.
        near: whether nothing that is scarce lies between.
        is_publisher: whether it is one of those whose manifests are held or followed.
        rtt_s: the round trip, seconds; None: not measured yet, or it answers no pings.
        sent, received: bytes since the start, while it is remembered.
        rate_sent, rate_received: bytes per second lately.
        holds: what it said that it has, a line each; hearsay.
        numbers: the same as manifest versions, by channel and arch.
    """

    peer_id: str
    addresses: Sequence[str] = ()
    sources: Sequence[PeerSource] = ()
    name: str | None = None
    near: bool = False
    is_publisher: bool = False
    rtt_s: float | None = None
    sent: int = 0
    received: int = 0
    rate_sent: float = 0.0
    rate_received: float = 0.0
    holds: Sequence[str] = ()
    numbers: Mapping[Pair, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotsFacts:
    """The snapshots that a node has: how many, their bytes, and whether it follows others'."""

    held: int
    size_bytes: int
    follows: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningNode:
    """What only the running node knows, as it is at one moment; the rest is in the store.

    Args:
        peer_id: its own.
        name: what its operator calls it.
        role: "publisher", "mirror" or "snapshots".
        admin: the URL of its status page; None: it has none.
        addresses: its own, dialable.
        peers: the connected peers, with the addresses of those that are shown.
        shown: of these at most `MAX_PEERS`, with all that is known of them.
        uptime_s: seconds since it began.
        flows: bytes by class; None before the first look.
        on_their_way: the artifacts that are being fetched, by SHA-256.
        boots: machines that booted lately, the latest first; bounded.
        scrub: how far the reading of what is held is, as plain values; None: it is not told.
        snapshots: what it has of them; None: it has no part in them.
        transferred: bytes exchanged with peers by (protocol, "sent" or "received").
        traffic: the same by peer, and what went to HTTP clients by address; bounded, see `Traffic.by_peer`.
        bytes_sent: what was served, by protocol.
        refused: manifests by reason.
        refused_pieces: by the peer that sent them; bounded.
        poisonings: how often any peer sent what was not signed, since the start.
        poisoners: how many peers did in the last day; bounded.
        dropped_peers: who lied lately, and about what.
        problems: what is wrong now.
        mesh: the fingerprint of its swarm key, where the mesh is private.
        dht: its part in the hash table; None: it has none.
        http: beginnings of the URLs under which it serves artifacts.
        trees: what lies in the directory that it publishes.
        lag: how late its event loop is; None: nobody measures.
        watchdog: how often a service manager wants to hear of the loop, seconds, and how often it did; None: never.
        tries: how fetching releases came out.
        begun: how many machines began to boot, by "http" or "p2p".
    """

    peer_id: str
    name: str = ""
    role: str = "mirror"
    admin: str | None = None
    addresses: Sequence[str] = ()
    peers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    shown: Sequence[PeerFacts] = ()
    uptime_s: float
    flows: FlowsFacts | None = None
    on_their_way: Mapping[str, ArtifactOnItsWay] = field(default_factory=dict)
    boots: Sequence[Boot] = ()
    scrub: Mapping[str, Any] | None = None
    snapshots: SnapshotsFacts | None = None
    transferred: Mapping[tuple[str, str], int] = field(default_factory=dict)
    traffic: Mapping[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    bytes_sent: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    refused_pieces: Mapping[str, int] = field(default_factory=dict)
    poisonings: int = 0
    poisoners: int = 0
    dropped_peers: Mapping[str, str] = field(default_factory=dict)
    problems: Sequence[Problem] = ()
    mesh: str | None = None
    dht: DhtCounts | None = None
    http: Sequence[str] = ()
    trees: Sequence[Tree] = ()
    lag: Lag | None = None
    watchdog: tuple[float, int] | None = None
    tries: Mapping[str, int] = field(default_factory=dict)
    begun: Mapping[str, int] = field(default_factory=dict)
