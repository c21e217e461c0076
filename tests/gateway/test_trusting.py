"""Trust documents by HTTP, byte for byte."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from p2pboot.core.policy import Publisher, TrustedRoot, TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.core.trustdocs.chain import Anchor
from p2pboot.core.trustdocs.rootbody import FreshnessRule
from p2pboot.store.store import Store
from p2pboot.store.trustgate import Fate, TrustGate
from p2pboot.testing.manifests import key_of
from p2pboot.testing.trustdocs import FRESH, chain_of, root_body, statement_of, yank_of
from tests.fetch.world import KEY
from tests.gateway.world import PAIR, OfferingNode, gateway_settings, put, serving

PUBLISH = replace(root_body().publish[0], keys=(KEY.public.keyid,))
CHAIN = chain_of(3, root_body(publish=(PUBLISH,)))
OTHER_KEYS = [key_of("other root 1"), key_of("other root 2")]
OTHER = chain_of(1, root_body(keys=OTHER_KEYS, publish=(replace(PUBLISH, channels=("edge",)),)), OTHER_KEYS)


def rooted(store: Store, *anchors: Anchor) -> OfferingNode:
    return OfferingNode(store, trust=Trust(TrustPolicy.of((), (TrustedRoot(one) for one in anchors))))


def taking(node: OfferingNode, *chain: bytes) -> TrustGate:
    gate = TrustGate(node.store, node.catalogue)
    gate.keep_roots()
    if chain:
        assert gate.take_roots(chain, source="a file").fate is Fate.NEWS
    return gate


async def test_the_root_and_its_versions(store: Store, tmp_path: Path) -> None:
    node = rooted(store, Anchor.of_root(CHAIN[0]))
    taking(node, *(root.raw for root in CHAIN))
    async with serving(node, gateway_settings(tmp_path)) as gateway:
        newest = await gateway.get("/root.json")
        assert (newest.status, newest.body) == (200, CHAIN[2].raw)
        assert newest["Content-Type"] == "application/json"
        assert "no-cache" in newest["Cache-Control"]
        assert (await gateway.get("/root.json", {"If-None-Match": newest["ETag"]})).status == 304
        for root in CHAIN:
            assert (await gateway.get(f"/root/{root.version}.json")).body == root.raw
        missing = await gateway.get("/root/4.json")
        assert (missing.status, missing.body) == (
            404,
            b"root version 4 is not here; the newest is version 3\n",
        )
        for path in ("/root/0.json", "/root/01.json", "/root/x.json", f"/root/{2**53}.json"):
            assert (await gateway.get(path)).status == 404, path


async def test_of_several_fleets_one_is_named(store: Store, tmp_path: Path) -> None:
    node = rooted(store, Anchor.of_root(CHAIN[0]), Anchor(OTHER[0].digest))
    taking(node)
    mine, other = CHAIN[0].digest, OTHER[0].digest
    async with serving(node, gateway_settings(tmp_path)) as gateway:
        which = await gateway.get("/root.json")
        assert which.status == 404
        assert f"?fleet={mine}" in which.body.decode()
        assert (await gateway.get(f"/root.json?fleet={mine}")).body == CHAIN[0].raw
        assert (await gateway.get(f"/root/1.json?fleet={mine}")).body == CHAIN[0].raw
        later = await gateway.get(f"/root.json?fleet={other}")
        assert (later.status, "Retry-After".lower() in later.headers) == (503, True)
        taking(node, OTHER[0].raw)
        assert (await gateway.get(f"/root.json?fleet={other}")).body == OTHER[0].raw
        for query in (
            "fleet=x",
            f"fleet={'0' * 64}",
            f"fleet={mine}&fleet={other}",
            "fleet=x&" * 20,
        ):
            assert (await gateway.get(f"/root.json?{query}")).status == 404, query


async def test_statements_and_yanks(store: Store, tmp_path: Path) -> None:
    node = rooted(store, Anchor.of_root(CHAIN[0]))
    gate = taking(node)
    manifest = put(store)
    put(store, channel="stable.next")  # which has no part in short names
    async with serving(node, gateway_settings(tmp_path)) as gateway:
        early = await gateway.get(f"{PAIR}/freshness.json")
        assert (early.status, early.body) == (
            503,
            b"stable/x86_64: no freshness statement is known here yet\n",
        )
        assert (await gateway.get(f"{PAIR}/yanks.json")).body == b"[]"
        statement = statement_of(manifest, CHAIN[0])
        yanks = [
            yank_of(manifest, CHAIN[0], [KEY], content=digit * 64, created_at=1_799_999_000 + number)
            for number, digit in enumerate("ab")
        ]
        assert gate.take_freshness(statement.raw, source="a file").fate is Fate.NEWS
        for yank in yanks:
            assert gate.take_yank(yank.raw, source="a file").fate is Fate.NEWS
        for prefix in (PAIR, "/stable/AMD64", ""):
            found = await gateway.get(f"{prefix}/freshness.json")
            assert (found.status, found.body) == (200, statement.raw), prefix
            body = (await gateway.get(f"{prefix}/yanks.json")).body
            assert body == b"[" + yanks[1].raw + b"," + yanks[0].raw + b"]"
            assert [one["content"] for one in json.loads(body)] == ["b" * 64, "a" * 64]
            for after, rest in (("b" * 64, [yanks[0].body.content]), ("a" * 64, []), ("c" * 64, [])):
                body = (await gateway.get(f"{prefix}/yanks.json?after={after}")).body
                assert [one["content"] for one in json.loads(body)] == rest
            for query in ("after=x", f"after={'a' * 64}&after={'b' * 64}", "x=1&" * 20):
                assert (await gateway.get(f"{prefix}/yanks.json?{query}")).status == 404, query
        for path in ("/testing/x86_64/freshness.json", "/testing/x86_64/yanks.json"):
            reply = await gateway.get(path)
            assert (reply.status, reply.body) == (404, b"nothing is known here of testing/x86_64\n")
        assert (await gateway.get(f"/phase{PAIR}/freshness.json")).status == 404


async def test_without_a_root(store: Store, tmp_path: Path) -> None:
    plain = OfferingNode(store)
    manifest = put(store)
    async with serving(plain, gateway_settings(tmp_path)) as gateway:
        reply = await gateway.get("/root.json")
        assert (reply.status, reply.body) == (404, b"no root is believed here\n")
        reply = await gateway.get(f"{PAIR}/freshness.json")
        assert (reply.status, b"nobody is named" in reply.body) == (404, True)
        assert (await gateway.get(f"{PAIR}/yanks.json")).body == b"[]"
    publisher = Publisher((KEY.public.keyid,), freshness=FreshnessRule((FRESH.public.keyid,)))
    named = OfferingNode(store, trust=Trust(TrustPolicy((publisher,))))
    statement = statement_of(manifest)
    TrustGate(store, named.catalogue).take_freshness(statement.raw, source="a file")
    async with serving(named, gateway_settings(tmp_path)) as gateway:
        assert (await gateway.get("/freshness.json")).body == statement.raw
