"""The metrics, in Prometheus' text form. Names and meaning are documented in docs/gateway.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from p2pboot.gateway.counters import GatewayCounters
from p2pboot.gateway.slots import Slots
from p2pboot.node.status import Measured
from p2pboot.store.manifests import HeadRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Everything that is exposed, as it is at one moment; `now` in unix seconds."""

    version: str
    now: int
    manifests: Sequence[HeadRow]
    used_bytes: int
    equivocations: int
    measured: Measured
    gateway: GatewayCounters
    slots: Slots


def exposition(readings: Readings) -> tuple[bytes, str]:
    """The text, and its media type. A registry for one use: nothing is remembered between two scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(readings))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Once(Collector):
    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        readings = self._readings
        yield from _of_manifests(readings)
        yield from _of_node(readings)
        yield from _of_gateway(readings.gateway, readings.slots)


def _of_manifests(readings: Readings) -> Iterable[Metric]:
    labels = ("channel", "arch", "publisher")
    expires = GaugeMetricFamily(
        "p2pboot_manifest_expires_in_seconds", "Until a manifest expires; negative afterwards.", labels=labels
    )
    counter = GaugeMetricFamily("p2pboot_manifest_version", "Its counter, manifest_version.", labels=labels)
    for row in readings.manifests:
        where = (row.channel, row.arch, ",".join(row.signers))
        expires.add_metric(where, row.expires_at - readings.now)
        counter.add_metric(where, row.manifest_version)
    refused = CounterMetricFamily(
        "p2pboot_manifests_refused", "Manifests from peers that were not taken.", labels=("reason",)
    )
    for reason, count in sorted(readings.measured.refused.items()):
        refused.add_metric((reason,), count)
    yield from (expires, counter, refused)
    yield GaugeMetricFamily(
        "p2pboot_equivocations",
        "Pairs of contradicting manifests that are kept as evidence.",
        value=readings.equivocations,
    )


def _of_node(readings: Readings) -> Iterable[Metric]:
    measured = readings.measured
    info = GaugeMetricFamily("p2pboot_info", "Always 1.", labels=("version",))
    info.add_metric((readings.version,), 1)
    yield info
    yield GaugeMetricFamily("p2pboot_uptime_seconds", "Since the node started.", value=measured.uptime_s)
    yield GaugeMetricFamily("p2pboot_peers", "Connected peers.", value=len(measured.peers))
    yield GaugeMetricFamily(
        "p2pboot_store_bytes", "What fetched artifacts take up.", value=readings.used_bytes
    )
    transferred = CounterMetricFamily(
        "p2pboot_peer_bytes", "Bytes exchanged with peers on streams.", labels=("protocol", "direction")
    )
    for labels, size in sorted(measured.transferred.items()):
        transferred.add_metric(labels, size)
    refused = CounterMetricFamily(
        "p2pboot_pieces_refused", "Pieces from a peer that were not what was signed.", labels=("peer",)
    )
    for peer_id, count in sorted(measured.refused_pieces.items()):
        refused.add_metric((peer_id,), count)
    problems = GaugeMetricFamily(
        "p2pboot_problem", "1 for everything that is wrong now.", labels=("code", "subject")
    )
    for problem in measured.problems:
        problems.add_metric((problem.code.value, problem.subject), 1)
    yield from (transferred, refused, problems)


def _of_gateway(counters: GatewayCounters, slots: Slots) -> Iterable[Metric]:
    yield CounterMetricFamily("p2pboot_http_bytes", "Bytes sent over HTTP.", value=counters.bytes_sent)
    requests = CounterMetricFamily("p2pboot_http_requests", "Requests answered.", labels=("route", "status"))
    for (kind, status), count in sorted(counters.requests.items()):
        requests.add_metric((kind, str(status)), count)
    yield requests
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
