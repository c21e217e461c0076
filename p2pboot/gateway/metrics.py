"""A scrape: what was counted, in the forms that Prometheus reads. What each metric is, is declared in `measures`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import product
from math import inf
from typing import Any, TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector

from p2pboot import __version__
from p2pboot.core.manifest import Candidate
from p2pboot.core.timestamps import parse_time
from p2pboot.dht.member import DhtCounts
from p2pboot.errors import Malformed
from p2pboot.gateway import measures
from p2pboot.gateway.counters import GatewayCounters
from p2pboot.gateway.measures import Measure
from p2pboot.gateway.slots import Slots
from p2pboot.node.lag import Lag
from p2pboot.node.status import PATHS, RunningNode, path_of
from p2pboot.node.status.flows import CLASSES
from p2pboot.store.manifests import HeadRow
from p2pboot.store.store import Store
from p2pboot.transport.traffic import HTTP, RECEIVED, SENT, Traffic

L = TypeVar("L", bound=tuple[str, ...])  # what the labels of one sample say


class _Once(tuple[Metric, ...]):
    """What one scrape gets; nothing is remembered between two."""

    __slots__ = ()

    def collect(self) -> Iterable[Metric]:
        """As the library asks for it."""
        return self


def exposition(metrics: Iterable[Metric], accept: str = "") -> tuple[bytes, str]:
    """The text, and its media type.

    Args:
        metrics: all that is to be told.
        accept: the header field of the request; OpenMetrics is given to who asks for it, the older form to others.
    """
    encode, media_type = choose_encoder(accept)
    return encode(_Once(metrics)), media_type


def of_process() -> Iterable[Metric]:
    """What this process takes of the machine; blocking, as it reads /proc."""
    return _collector().collect()


@lru_cache(maxsize=1)
def _collector() -> ProcessCollector:
    return ProcessCollector(registry=None)


def of_store(store: Store, limit_bytes: int | None, keep: int) -> Iterable[Metric]:
    """What a node holds; blocking.

    Args:
        store: its own.
        limit_bytes: how much artifacts may take up; None for no limit.
        keep: how many versions of an image it keeps.
    """
    # Expired ones too: an alarm that ends with the expiry would be no alarm.
    heads = {(row.channel, row.arch, ",".join(row.signers)): row for row in store.manifests.heads()}
    versions = {(*where, _image_version(store, row)): 1 for where, row in heads.items()}
    yield _family(measures.MANIFEST_INFO, versions)
    numbers = {where: row.manifest_version for where, row in heads.items()}
    yield _family(measures.MANIFEST_VERSION, numbers)
    yield _family(measures.MANIFEST_CREATED, {where: row.created_at for where, row in heads.items()})
    yield _family(measures.MANIFEST_EXPIRY, {where: row.expires_at for where, row in heads.items()})
    yield _single(measures.EQUIVOCATIONS, len(store.trust.equivocations()))
    disk = os.statvfs(store.path)
    yield _single(measures.STORE_USED, store.blobs.used_bytes())
    yield _maybe(measures.STORE_LIMIT, limit_bytes)
    yield _single(measures.STORE_FREE, disk.f_bavail * disk.f_frsize)
    yield _single(measures.STORE_SIZE, disk.f_blocks * disk.f_frsize)
    yield _single(measures.STORE_KEPT, keep)


def _image_version(store: Store, row: HeadRow) -> str:
    stored = store.manifests.get(row.digest)
    try:
        return "" if stored is None else Candidate.decode(stored.raw).claims.version
    except Malformed:  # the disk damaged it: what else there is to tell is all the more of interest
        return ""


def of_fetching(fetching: Iterable[Mapping[str, Any]]) -> Iterable[Metric]:
    """How far is what is being fetched, as the status document tells of it."""
    found = {(one["channel"], one["arch"], ",".join(one["signers"])): one for one in fetching}
    yield _family(measures.FETCH_DONE, {where: one["bytes_done"] for where, one in found.items()})
    yield _family(measures.FETCH_SIZE, {where: one["bytes_total"] for where, one in found.items()})
    waiting = {
        where: min(
            (item["waiting_s"] or 0 for item in one["artifacts"] if item["done"] < item["size"]), default=0
        )
        for where, one in found.items()
    }
    yield _family(measures.FETCH_WAITING, waiting)


def of_trust(trust: Mapping[str, Any]) -> Iterable[Metric]:
    """What roots, freshness statements and yanks say, as the status document tells of it in `trust`."""
    roots = {
        (one["name"] or "", one["fleet"] or ""): one for one in trust["roots"] if one["version"] is not None
    }
    yield _family(measures.ROOT_VERSION, {where: one["version"] for where, one in roots.items()})
    expiries = {
        where: parse_time(one["expires_at"]) for where, one in roots.items() if one["expires_at"] is not None
    }
    yield _family(measures.ROOT_EXPIRY, expiries)
    pairs = {(one["channel"], one["arch"]): one for one in trust["pairs"]}
    statements = {where: one["statement"] for where, one in pairs.items() if one["statement"] is not None}
    created = {where: parse_time(one["created_at"]) for where, one in statements.items()}
    yield _family(measures.FRESHNESS_CREATED, created)
    yield _family(measures.FRESHNESS_MINIMUM, {where: one["minimum"] for where, one in statements.items()})
    yield _family(measures.YANKS, {where: one["yanks"] for where, one in pairs.items()})
    on = {
        (one["into"], one["arch"]): one["fraction"]
        for one in trust["rollouts"]
        if one["fraction"] is not None
    }
    yield _family(measures.ROLLOUT, on)
    yield _single(measures.EVIDENCE, trust["evidence"])


def of_node(node: RunningNode, *, is_ready: bool) -> Iterable[Metric]:
    """What a node counted, what is wrong now, and whether it offers anything."""
    yield _family(measures.INFO, {(__version__, node.peer_id, node.role, node.name): 1})
    yield _single(measures.READY, is_ready)
    wrong = {(one.code.value, one.subject, one.severity.value): 1 for one in node.problems}
    yield _family(measures.PROBLEM, wrong)
    yield _histogram(measures.LAG, node.lag)
    yield _maybe(measures.WATCHDOG_INTERVAL, None if node.watchdog is None else node.watchdog[0])
    yield _maybe(measures.WATCHDOG_BEATS, None if node.watchdog is None else node.watchdog[1])
    paths = Counter(dict.fromkeys(PATHS.values(), 0))
    paths.update(map(path_of, node.shown))
    yield _family(measures.PEERS, {(path,): count for path, count in paths.items()})
    totals = {} if node.flows is None else node.flows.totals
    exchanged = {
        (kind, direction): totals.get(direction, {}).get(kind, 0)
        for kind in CLASSES
        for direction in (SENT, RECEIVED)
    }
    yield _family(measures.TRAFFIC, exchanged)
    yield _family(measures.PEER_BYTES, node.transferred)
    refused = {(reason,): count for reason, count in node.refused.items()}
    yield _family(measures.MANIFESTS_REFUSED, refused)
    yield _single(measures.POISONINGS, node.poisonings)
    yield _single(measures.POISONERS, node.poisoners)
    yield _family(measures.FETCHES, {(result,): count for result, count in node.tries.items()})
    yield _family(measures.BOOTED, {(via,): count for via, count in node.begun.items()})
    recent = Counter(dict.fromkeys(product(("http", "p2p"), ("true", "false")), 0))
    recent.update((one.via, "true" if one.done else "false") for one in node.boots)
    yield _family(measures.RECENT, recent)
    yield _maybe(measures.SNAPSHOTS, None if node.snapshots is None else node.snapshots.held)
    yield _maybe(measures.SNAPSHOTS_SIZE, None if node.snapshots is None else node.snapshots.size_bytes)
    yield from _of_scrubbing(node.scrub)
    yield from _of_dht(node.dht)


def _of_scrubbing(scrub: Mapping[str, Any] | None) -> Iterable[Metric]:
    said = scrub or {}
    finished = said.get("last_finished_at")
    yield _maybe(measures.SCRUB_RUNNING, said.get("running"))
    yield _maybe(measures.SCRUB_READ, said.get("read_bytes"))
    yield _maybe(measures.SCRUB_SIZE, said.get("total_bytes"))
    yield _maybe(measures.SCRUB_FINISHED, None if finished is None else parse_time(finished))
    yield _maybe(measures.DAMAGED, said.get("damaged"))
    yield _maybe(measures.MENDED, said.get("mended"))


def _of_dht(counts: DhtCounts | None) -> Iterable[Metric]:
    """Without a series where the node has no part in it: 0 would say that it found nobody."""
    yield _maybe(measures.DHT_PEERS, None if counts is None else counts.peers)
    kept = {} if counts is None else {("value",): counts.values, ("provider",): counts.providers}
    yield _family(measures.DHT_RECORDS, kept)
    requests = {} if counts is None else {(kind,): count for kind, count in counts.requests.items()}
    yield _family(measures.DHT_REQUESTS, requests)
    refused = {} if counts is None else {(reason,): count for reason, count in counts.refused.items()}
    yield _family(measures.DHT_REFUSED, refused)


def of_gateway(counters: GatewayCounters, slots: Slots, traffic: Traffic) -> Iterable[Metric]:
    """What a gateway counted."""
    requests = {(kind, str(status)): count for (kind, status), count in counters.requests.items()}
    yield _family(measures.HTTP_REQUESTS, requests)
    exchanged = {(direction,): traffic[HTTP, direction] for direction in (SENT, RECEIVED)}
    yield _family(measures.HTTP_BYTES, exchanged)
    yield _single(measures.HTTP_FAILURES, counters.failures)
    yield _single(measures.HTTP_CONNECTIONS, len(slots))
    yield _single(measures.HTTP_CUT, slots.cut)
    yield _single(measures.HTTP_REFUSED, slots.refused)


def of_admin(counters: GatewayCounters, streams: int) -> Iterable[Metric]:
    """What the admin address counted, and how many event streams there are."""
    requests = {(kind, str(status)): count for (kind, status), count in counters.requests.items()}
    yield _family(measures.ADMIN_REQUESTS, requests)
    yield _single(measures.ADMIN_FAILURES, counters.failures)
    yield _single(measures.EVENT_STREAMS, streams)


def _maybe(measure: Measure, value: float | None) -> Metric:
    """A metric without labels that has a series only where there is something to tell."""
    return _family(measure, {} if value is None else {(): value})


def _single(measure: Measure, value: float) -> Metric:
    return _family(measure, {(): value})


def _family(measure: Measure, values: Mapping[L, float]) -> Metric:
    """One metric with its series, by what their labels say; it is named in the scrape also where there are none."""
    kind = CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily
    family = kind(measure.name, measure.help, labels=measure.labels)
    for where, value in sorted(values.items()):
        if len(where) != len(measure.labels):
            raise ValueError(f"{measure.name} has the labels {measure.labels}, not {where}")
        family.add_metric(where, value)
    return family


def _histogram(measure: Measure, lag: Lag | None) -> Metric:
    family = HistogramMetricFamily(measure.name, measure.help)
    if lag is not None:
        buckets = [("+Inf" if bound == inf else str(bound), count) for bound, count in lag.buckets()]
        family.add_metric((), buckets, lag.sum_s)
    return family
