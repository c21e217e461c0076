from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from p2pboot.dht.member import DhtCounts
from p2pboot.store.store import Store
from p2pboot.testing.manifests import NOW
from tests.fetch.world import FILES, KEY, manifest_of
from tests.gateway.world import OfferingNode, Running, gateway_settings, put, serving


async def scrape(gateway: Running) -> dict[tuple[str, tuple[str, ...]], float]:
    reply = await gateway.get("/metrics")
    assert reply.status == 200
    assert reply["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }


async def test_everything_that_can_alarm_is_there(gateway: Running, store: Store) -> None:
    store.trust.record_equivocation(manifest_of(version=1).raw, manifest_of(version=1, cmdline="other").raw)
    gateway.node.counted = replace(
        gateway.node.counted,
        transferred={("/p2pboot/artifact/1", "sent"): 7, ("gossip", "received"): 8},
        refused=Counter({"signature": 2}),
        refused_pieces=Counter({'peer"\n': 3}),
        dht=DhtCounts(5, 6, 7, requests={"get_value": 8}, refused={"quota": 9}),
    )
    await gateway.get("/kernel")
    samples = await scrape(gateway)
    publisher = ("x86_64", "stable", KEY.public.keyid)
    assert samples["p2pboot_manifest_expires_in_seconds", publisher] == 86_400
    assert samples["p2pboot_manifest_version", publisher] == 1
    assert samples["p2pboot_manifests_refused_total", ("signature",)] == 2
    assert samples["p2pboot_equivocations", ()] == 1
    assert samples["p2pboot_peer_bytes_total", ("sent", "/p2pboot/artifact/1")] == 7
    assert samples["p2pboot_peer_bytes_total", ("received", "gossip")] == 8
    assert samples["p2pboot_pieces_refused_total", ('peer"\n',)] == 3
    assert samples["p2pboot_dht_peers", ()] == 5
    assert samples["p2pboot_dht_records", ("value",)] == 6
    assert samples["p2pboot_dht_records", ("provider",)] == 7
    assert samples["p2pboot_dht_requests_total", ("get_value",)] == 8
    assert samples["p2pboot_dht_refused_total", ("quota",)] == 9
    assert samples["p2pboot_http_requests_total", ("artifact", "200")] == 1
    assert samples["p2pboot_http_bytes_total", ()] > len(FILES["kernel"])
    assert samples["p2pboot_store_bytes", ()] == sum(map(len, FILES.values()))


async def test_expiry_is_told_after_it_happened(store: Store, tmp_path: Path) -> None:
    put(store)
    node = OfferingNode(store, now=NOW + 2 * 86_400)
    async with serving(node, gateway_settings(tmp_path)) as gateway:
        samples = await scrape(gateway)
    assert samples["p2pboot_manifest_expires_in_seconds", ("x86_64", "stable", KEY.public.keyid)] == -86_400


async def test_strangers_words_are_no_labels(gateway: Running) -> None:
    for path in ("/a", "/b", "/c/d"):
        await gateway.get(path)
    samples = await scrape(gateway)
    assert samples["p2pboot_http_requests_total", ("other", "404")] == 3
