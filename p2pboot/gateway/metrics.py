"""The metrics, in Prometheus' text form. Names and meaning are documented in docs/gateway.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from p2pboot import __version__
from p2pboot.dht.member import DhtCounts
from p2pboot.gateway.counters import GatewayCounters
from p2pboot.gateway.slots import Slots
from p2pboot.node.status import RunningNode
from p2pboot.store.store import Store
from p2pboot.transport.traffic import HTTP, SENT, Traffic

L = TypeVar("L", bound=tuple[str, ...])  # what the labels of one sample say


class _Once(tuple[Metric, ...]):
    """What one scrape gets; nothing is remembered between two."""

    __slots__ = ()

    def collect(self) -> Iterable[Metric]:
        """As the library asks for it."""
        return self


def exposition(metrics: Iterable[Metric]) -> tuple[bytes, str]:
    """The text, and its media type."""
    return generate_latest(_Once(metrics)), CONTENT_TYPE_LATEST


def of_store(store: Store, now: int) -> Iterable[Metric]:
    """What a node holds; blocking. `now` in unix seconds."""
    # Expired ones too: an alarm that ends with the expiry would be no alarm.
    heads = {(row.channel, row.arch, ",".join(row.signers)): row for row in store.manifests.heads()}
    labels = ("channel", "arch", "publisher")
    yield _gauge(
        "p2pboot_manifest_expires_in_seconds",
        "Until a manifest expires; negative afterwards.",
        labels,
        {where: row.expires_at - now for where, row in heads.items()},
    )
    numbers = {where: row.manifest_version for where, row in heads.items()}
    yield _gauge("p2pboot_manifest_version", "Its counter, manifest_version.", labels, numbers)
    kept = "Pairs of contradicting manifests that are kept as evidence."
    yield GaugeMetricFamily("p2pboot_equivocations", kept, value=len(store.trust.equivocations()))
    used = store.blobs.used_bytes()
    yield GaugeMetricFamily("p2pboot_store_bytes", "What fetched artifacts take up.", value=used)


def of_node(node: RunningNode) -> Iterable[Metric]:
    """What a node counted, and what is wrong now."""
    yield _gauge("p2pboot_info", "Always 1.", ("version",), {(__version__,): 1})
    yield GaugeMetricFamily("p2pboot_uptime_seconds", "Since the node started.", value=node.uptime_s)
    yield GaugeMetricFamily("p2pboot_peers", "Connected peers.", value=len(node.peers))
    yield _counter(
        "p2pboot_manifests_refused",
        "Manifests from peers that were not taken.",
        ("reason",),
        {(reason,): count for reason, count in node.refused.items()},
    )
    exchanged = "Bytes exchanged with peers on streams."
    yield _counter("p2pboot_peer_bytes", exchanged, ("protocol", "direction"), node.transferred)
    yield _counter(
        "p2pboot_pieces_refused",
        "Pieces from a peer that were not what was signed.",
        ("peer",),
        {(peer_id,): count for peer_id, count in node.refused_pieces.items()},
    )
    if node.dht is not None:
        yield from _of_dht(node.dht)
    wrong = {(problem.code.value, problem.subject): 1 for problem in node.problems}
    yield _gauge("p2pboot_problem", "1 for everything that is wrong now.", ("code", "subject"), wrong)


def _of_dht(counts: DhtCounts) -> Iterable[Metric]:
    known = "Peers in the hash table's routing table."
    yield GaugeMetricFamily("p2pboot_dht_peers", known, value=counts.peers)
    kept = {("value",): counts.values, ("provider",): counts.providers}
    yield _gauge("p2pboot_dht_records", "Records of others that are kept.", ("kind",), kept)
    requests = {(kind,): count for kind, count in counts.requests.items()}
    yield _counter("p2pboot_dht_requests", "Requests answered.", ("type",), requests)
    refused = {(reason,): count for reason, count in counts.refused.items()}
    yield _counter("p2pboot_dht_refused", "Requests, records and streams refused.", ("reason",), refused)


def of_gateway(counters: GatewayCounters, slots: Slots, traffic: Traffic) -> Iterable[Metric]:
    """What a gateway counted."""
    yield CounterMetricFamily("p2pboot_http_bytes", "Bytes sent over HTTP.", value=traffic[HTTP, SENT])
    requests = {(kind, str(status)): count for (kind, status), count in counters.requests.items()}
    yield _counter("p2pboot_http_requests", "Requests answered.", ("route", "status"), requests)
    yield CounterMetricFamily(
        "p2pboot_http_failures", "Requests that failed by a fault of ours.", value=counters.failures
    )
    yield GaugeMetricFamily("p2pboot_http_connections", "Open connections.", value=len(slots))
    yield CounterMetricFamily(
        "p2pboot_http_connections_cut", "Connections that had to make room.", value=slots.cut
    )
    yield CounterMetricFamily(
        "p2pboot_http_connections_refused", "Connections without a slot.", value=slots.refused
    )


def _gauge(name: str, about: str, labels: Sequence[str], values: Mapping[L, float]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=labels)
    for where, value in values.items():
        family.add_metric(where, value)
    return family


def _counter(name: str, about: str, labels: Sequence[str], values: Mapping[L, float]) -> Metric:
    family = CounterMetricFamily(name, about, labels=labels)
    for where, value in sorted(values.items()):
        family.add_metric(where, value)
    return family
