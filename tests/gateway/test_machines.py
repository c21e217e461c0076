"""Boot scripts for machines that say what they are called, while something is rolled out."""

from __future__ import annotations

import logging
from pathlib import Path
from urllib.parse import quote

import pytest

from p2pboot.core.manifest import Manifest, Rollout, content_digest
from p2pboot.core.rollouts import place_of
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import content
from p2pboot.testing.manifests import NOW
from tests.fetch.world import FILES
from tests.gateway.world import PAIR, OfferingNode, Running, gateway_settings, put, serving

DAY = 86_400
NEWER = {**FILES, "kernel": content("newer", 70_000)}
UUIDS = [f"{number:08x}-1234-5678-9abc-def012345678" for number in range(20)]
FIRST, *_, LAST = sorted(UUIDS, key=lambda uuid: place_of("salt", uuid))


def roll_out(store: Store, over: Manifest, *, version: int = 1) -> Manifest:
    plan = Rollout("stable", content_digest(over), NOW - DAY, 2 * DAY, 100, "salt")
    return put(store, NEWER, version, channel="stable.next", rollout=plan)


async def taken(gateway: Running, path: str) -> str:
    reply = await gateway.get(path)
    assert reply.status == 200, reply.body
    return reply["x-manifest-channel"]


@pytest.mark.parametrize("path", ["/boot.ipxe", f"{PAIR}/boot.ipxe"])
async def test_a_machine_gets_what_the_plan_says_and_others_what_the_channel_has(
    store: Store, tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    into = put(store)
    roll_out(store, into)
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        assert await taken(gateway, path) == "stable"
        assert await taken(gateway, f"{path}?machine={FIRST}") == "stable.next"
        assert await taken(gateway, f"{path}?x=1&machine={quote(FIRST.upper())}") == "stable.next"
        assert await taken(gateway, f"{path}?machine={LAST}") == "stable"
        assert await taken(gateway, f"{path}?machine=") == "stable"
        assert await taken(gateway, f"{path}?machine=00000000-0000-0000-0000-000000000000") == "stable"
        script = (await gateway.get(f"{path}?machine={FIRST}")).body.decode()
        assert "echo stable.next/x86_64, manifest version 1" in script
        put(store, {**FILES, "kernel": content("hotfix", 70_000)}, 2)
        assert await taken(gateway, f"{path}?machine={FIRST}") == "stable"
    assert FIRST not in caplog.text
    assert LAST not in caplog.text


async def test_what_a_machine_gets_is_for_no_cache(store: Store, tmp_path: Path) -> None:
    roll_out(store, put(store))
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        for machine in (FIRST, LAST):
            reply = await gateway.get(f"/boot.ipxe?machine={machine}")
            assert reply["cache-control"] == "no-store"
            assert machine not in str(reply.headers)
            assert machine not in reply.body.decode()
        for nobody in ("", "00000000-0000-0000-0000-000000000000"):
            assert (await gateway.get(f"/boot.ipxe?machine={nobody}"))["cache-control"] == "no-store"
        assert (await gateway.get("/boot.ipxe"))["cache-control"] == "no-cache, no-transform"


@pytest.mark.parametrize("name", ["x" * 65, "a b", "a/b", "%00", "%C3%A4", "a&machine=b"])
async def test_what_is_no_name_is_refused_and_not_repeated(store: Store, tmp_path: Path, name: str) -> None:
    put(store)
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        reply = await gateway.get(f"/boot.ipxe?machine={name.replace(' ', '+')}")
        assert reply.status == 400
        assert name not in reply.body.decode()
        assert reply["cache-control"] == "no-store"
        assert (await gateway.get(f"/kernel?machine={name.replace(' ', '+')}")).status == 200


async def test_a_roll_out_into_what_is_not_offered_gives_nobody_anything(
    store: Store, tmp_path: Path
) -> None:
    into = put(store)
    roll_out(store, into)
    store.manifests.drop(lambda row: row.channel == "stable")
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        reply = await gateway.get(f"{PAIR}/boot.ipxe?machine={FIRST}")
        assert reply.status == 404
