from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from p2pboot import __version__
from p2pboot.core.problems import Code, Problem
from p2pboot.dht.member import DhtCounts
from p2pboot.gateway.measures import Measure, measures
from p2pboot.node.lag import Lag
from p2pboot.store.store import Store
from p2pboot.testing.manifests import NOW
from scripts.document import METRICS
from tests.fetch.world import FILES, KEY, manifest_of
from tests.gateway.world import OfferingNode, Running, gateway_settings, put, serving
from tests.node.status.filled import FLEET, PEER, filled

PAGE = METRICS.read_text()
ROWS = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)


async def scrape_text(gateway: Running, accept: str = "") -> str:
    reply = await gateway.report("/metrics", {"Accept": accept} if accept else {})
    assert reply.status == 200
    expected = "application/openmetrics-text; version=" if accept else "text/plain; version="
    assert reply["Content-Type"].startswith(expected)
    return reply.body.decode()


def samples_of(families: Iterable[Metric]) -> dict[tuple[str, tuple[str, ...]], float]:
    """By name and the labels' values, in the order of the labels' names."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


async def scrape(gateway: Running) -> dict[tuple[str, tuple[str, ...]], float]:
    return samples_of(text_string_to_metric_families(await scrape_text(gateway)))


@pytest.fixture
async def busy(tmp_path: Path) -> AsyncIterator[Running]:
    """A node of which there is something to tell under each name."""
    counted, store, catalogue = filled(tmp_path / "held")
    first, other = (manifest_of(version=3, cmdline=cmdline).raw for cmdline in ("one", "other"))
    store.trust.record_equivocation(first, other)
    store.blobs.quota_bytes = 1 << 40
    lag = Lag()
    lag.note(0.3)
    node = OfferingNode(store, trust=catalogue.trust)
    node.counted = replace(
        counted,
        transferred={("/p2pboot/artifact/1", "sent"): 7, ("gossip", "received"): 8},
        refused=Counter({"signature": 2}),
        poisonings=3,
        poisoners=1,
        dht=DhtCounts(5, 6, 7, requests={"get_value": 8}, refused={"quota": 9}),
        problems=(Problem(Code.QUOTA, 'a"\n\\', "too little"),),
        lag=lag,
        watchdog=(15.0, 4),
        tries={"completed": 1, "failed": 2, "unusable": 0},
        begun={"http": 3, "p2p": 0},
        scrub={
            "running": True,
            "begun_at": None,
            "last_finished_at": "2025-11-26T17:27:49Z",
            "read_bytes": 5,
            "total_bytes": 6,
            "damaged": 2,
            "mended": 1,
        },
    )
    with store:
        async with serving(node, gateway_settings(tmp_path)) as gateway:
            await gateway.get("/stable/x86_64/kernel")
            await scrape_text(gateway)
            yield gateway


async def test_what_roots_and_statements_say_is_there(busy: Running) -> None:
    samples = await scrape(busy)
    release = ("x86_64", "stable")
    assert samples["p2pboot_root_version", (FLEET, "ops")] == 1
    assert samples["p2pboot_root_expiry_timestamp_seconds", (FLEET, "ops")] == NOW + 3600
    assert samples["p2pboot_freshness_created_timestamp_seconds", release] == NOW - 60
    assert samples["p2pboot_freshness_minimum", release] == 1
    assert samples["p2pboot_yanks", release] == 0
    assert samples["p2pboot_evidence", ()] == 0
    assert samples["p2pboot_rollout_ratio", release] == 0.25


async def test_everything_that_can_alarm_is_there(busy: Running) -> None:
    samples = await scrape(busy)
    release = ("x86_64", "stable", KEY.public.keyid)
    assert samples["p2pboot_info", ("boot-1", PEER, "mirror", __version__)] == 1
    assert samples["p2pboot_ready", ()] == 1
    assert samples["p2pboot_manifest_info", (*release, manifest_of().version)] == 1
    assert samples["p2pboot_manifest_version", release] == 1
    assert samples["p2pboot_manifest_expiry_timestamp_seconds", release] == NOW + 86_400
    assert samples["p2pboot_manifest_created_timestamp_seconds", release] <= NOW
    assert samples["p2pboot_manifests_refused_total", ("signature",)] == 2
    assert samples["p2pboot_equivocations", ()] == 1
    assert samples["p2pboot_peers", ("dht",)] == 1
    assert samples["p2pboot_peers", ("lan",)] == 0
    assert samples["p2pboot_traffic_bytes_total", ("publisher", "sent")] == 1
    assert samples["p2pboot_fetch_done_bytes", release] == 1
    assert samples["p2pboot_fetch_size_bytes", release] == sum(map(len, FILES.values()))
    assert samples["p2pboot_fetch_waiting_seconds", release] == 0
    assert samples["p2pboot_fetches_total", ("failed",)] == 2
    assert samples["p2pboot_clients_total", ("http",)] == 3
    assert samples["p2pboot_recent_clients", ("true", "http")] == 1
    assert samples["p2pboot_recent_clients", ("false", "p2p")] == 0
    assert samples["p2pboot_watchdog_interval_seconds", ()] == 15
    assert samples["p2pboot_watchdog_beats_total", ()] == 4
    assert samples["p2pboot_scrub_running", ()] == 1
    assert samples["p2pboot_scrub_last_finished_timestamp_seconds", ()] == 1_764_178_069
    assert samples["p2pboot_scrub_damaged_total", ()] == 2
    assert samples["p2pboot_scrub_mended_total", ()] == 1
    assert samples["p2pboot_snapshots", ()] == 1
    assert samples["p2pboot_event_streams", ()] == 0
    assert samples["p2pboot_peer_bytes_total", ("sent", "/p2pboot/artifact/1")] == 7
    assert samples["p2pboot_peer_bytes_total", ("received", "gossip")] == 8
    assert samples["p2pboot_poisonings_total", ()] == 3
    assert samples["p2pboot_poisoners", ()] == 1
    assert samples["p2pboot_problem", ("quota", "warning", 'a"\n\\')] == 1
    assert samples["p2pboot_dht_peers", ()] == 5
    assert samples["p2pboot_dht_records", ("value",)] == 6
    assert samples["p2pboot_dht_records", ("provider",)] == 7
    assert samples["p2pboot_dht_requests_total", ("get_value",)] == 8
    assert samples["p2pboot_dht_refused_total", ("quota",)] == 9
    assert samples["p2pboot_http_requests_total", ("artifact", "200")] == 1
    assert samples["p2pboot_http_bytes_total", ("sent",)] > len(FILES["kernel"])
    assert samples["p2pboot_http_bytes_total", ("received",)] > 0
    assert samples["p2pboot_store_used_bytes", ()] == sum(map(len, FILES.values()))
    assert samples["p2pboot_store_limit_bytes", ()] == 1 << 40
    assert samples["p2pboot_store_free_bytes", ()] <= samples["p2pboot_store_size_bytes", ()]
    assert samples["p2pboot_event_loop_lag_seconds_bucket", ("0.25",)] == 0
    assert samples["p2pboot_event_loop_lag_seconds_bucket", ("0.5",)] == 1
    assert samples["p2pboot_event_loop_lag_seconds_bucket", ("+Inf",)] == 1
    assert samples["p2pboot_event_loop_lag_seconds_sum", ()] == 0.3
    assert samples["process_resident_memory_bytes", ()] > 0


async def test_expiry_is_told_after_it_happened(store: Store, tmp_path: Path) -> None:
    put(store)
    node = OfferingNode(store, now=NOW + 2 * 86_400)
    async with serving(node, gateway_settings(tmp_path)) as gateway:
        samples = await scrape(gateway)
    release = ("x86_64", "stable", KEY.public.keyid)
    assert samples["p2pboot_manifest_expiry_timestamp_seconds", release] == node.now - 86_400


async def test_strangers_words_are_no_labels(gateway: Running) -> None:
    for path in ("/a", "/b", "/c/d"):
        await gateway.get(path)
    samples = await scrape(gateway)
    assert samples["p2pboot_http_requests_total", ("other", "404")] == 3


async def test_without_a_hash_table_nobody_is_said_to_be_missing_in_it(gateway: Running) -> None:
    samples = await scrape(gateway)
    assert not [name for name, _ in samples if "dht" in name]


async def test_openmetrics_says_the_same_to_who_asks_for_it(busy: Running) -> None:
    await scrape(busy)  # from here on a scrape is among what is counted
    text = await scrape_text(busy, "application/openmetrics-text; version=1.0.0, text/plain;q=0.5")
    assert text.endswith("# EOF\n")
    said = samples_of(parse_openmetrics(text))  # type: ignore[no-untyped-call]
    assert said.keys() == (await scrape(busy)).keys()


def documented() -> dict[str, tuple[str, tuple[str, ...], str]]:
    """Of each metric in the page its type, its labels and what it is."""
    return {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)), meaning)
        for name, kind, labels, meaning, _ in ROWS
    }


async def test_a_scrape_and_the_page_of_the_metrics_agree(busy: Running) -> None:
    pages = documented()
    assert len(pages) == len(ROWS)
    text = await scrape_text(busy)
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    helps = dict(re.findall(r"^# HELP (\w+) (.+)$", text, re.MULTILINE))
    assert kinds == {name: kind for name, (kind, _, _) in pages.items()}
    assert helps.keys() == pages.keys()
    for name, (_, _, meaning) in pages.items():
        assert meaning.startswith(helps[name])
    for family in text_string_to_metric_families(text):
        assert family.samples, f"nothing is told of {family.name}"
        for sample in family.samples:
            name = sample.name if sample.name in pages else family.name
            _, labels, _ = pages[name]
            assert {*sample.labels} - {"le"} == {*labels}


@pytest.mark.parametrize("measure", [*measures()], ids=lambda one: one.name)
def test_each_metric_is_said_to_be_bounded(measure: Measure) -> None:
    assert measure.text.endswith(".")
    assert (measure.bound == "1") == (not measure.labels and measure.kind != "histogram")


async def test_promtool_finds_nothing_to_say(busy: Running) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    text = await scrape_text(busy)
    checked = await trio.run_process(
        [promtool, "check", "metrics"],
        stdin=text.encode(),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
