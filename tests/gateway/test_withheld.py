"""What the node knows of and does not offer is 503 with the reason; only what it knows nothing of is 404."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.node.awaiting import Awaited
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, content, table_of
from p2pboot.testing.manifests import NOW
from p2pboot.testing.stores import hold_all
from tests.fetch.world import FILES, manifest_of
from tests.gateway.world import PAIR, OfferingNode, Reply, Running, gateway_settings, put, put_arm64, serving

SHA256 = hashlib.sha256(FILES["kernel"]).hexdigest()
OF_PAIR = (
    "kernel",
    "manifest.json",
    "manifest.json.sig",
    "boot.ipxe",
    "rootfs",
    "uki",
    "nothing",
    "dtbs/x.dtb",
)
SHORT = (
    "kernel",
    "initramfs",
    "rootfs",
    "uki",
    "manifest.json",
    "manifest.json.sig",
    "boot.ipxe",
    "dtbs/a/x.dtb",
)
PHASE = ("manifest.json", "kernel", "dtbs/x.dtb")
ROUTES = (
    *(f"{PAIR}/{name}" for name in OF_PAIR),
    *(f"/{name}" for name in SHORT),
    *(f"/phase{PAIR}/{name}" for name in PHASE),
    *(f"/phase/{name}" for name in PHASE),
)


async def unavailable(gateway: Running, path: str) -> Reply:
    """The answer to a path, which has to be 503 in one line, the same for HEAD, and not for any cache."""
    reply, head = await gateway.get(path), await gateway.get(path, method="HEAD")
    assert reply.status == head.status == 503, path
    assert head.body == b""
    assert head.headers.get("retry-after") == reply.headers.get("retry-after")
    assert reply.body.decode().endswith("\n")
    assert len(reply.body.splitlines()) == 1
    assert reply["Cache-Control"] == "no-store"
    return reply


@pytest.mark.parametrize("path", ROUTES)
async def test_expired_manifest_is_withheld_with_the_date(gateway: Running, path: str) -> None:
    gateway.node.now = NOW + 100 * 86_400
    reply = await unavailable(gateway, path)
    assert reply.body.startswith(b"stable/x86_64: manifest version 1 expired at 20")
    assert "retry-after" not in reply.headers  # it does not pass by itself


async def test_blobs_of_an_expired_manifest_are_not_given_and_come_back_with_the_clock(
    gateway: Running,
) -> None:
    assert (await gateway.get(f"/blobs/{SHA256}")).status == 200
    gateway.node.now = NOW + 100 * 86_400
    assert b"expired at" in (await unavailable(gateway, f"/blobs/{SHA256}")).body
    gateway.node.now = NOW
    assert (await gateway.get(f"/blobs/{SHA256}")).status == 200


def put_incomplete(store: Store, version: int = 1) -> Manifest:
    """A manifest that is on its way, with the first piece of its kernel."""
    manifest = manifest_of(version=version)
    store.manifests.put(manifest, None)
    partial = store.blobs.begin(manifest.artifacts["kernel"].sha256, table_of(FILES["kernel"]))
    assert partial is not None
    partial.write(0, FILES["kernel"][:PIECE])
    partial.close()
    return manifest


@pytest.mark.parametrize("path", [*ROUTES, f"/blobs/{SHA256}", f"/blobs/{SHA256[:2]}/{SHA256}.bin"])
async def test_what_is_on_its_way_is_worth_waiting_for(store: Store, tmp_path: Path, path: str) -> None:
    put_incomplete(store)
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        reply = await unavailable(gateway, path)
    assert b"stable/x86_64" in reply.body
    assert b"not complete here" in reply.body
    assert 1 <= int(reply["Retry-After"]) <= 60


async def test_what_is_on_its_way_comes(store: Store, tmp_path: Path) -> None:
    manifest = put_incomplete(store)
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        assert (await gateway.get("/kernel")).status == 503
        hold_all(store, manifest, FILES)
        store.manifests.set_head(manifest.digest)
        assert (await gateway.get("/kernel")).body == FILES["kernel"]
        assert (await gateway.get("/nothing")).status == 404


async def test_former_version_is_offered_while_the_next_is_on_its_way(store: Store, tmp_path: Path) -> None:
    put(store)
    newer = {**FILES, "kernel": content("kernel 2", 3 * PIECE)}
    store.manifests.put(manifest_of(newer, 2), None)
    coming = hashlib.sha256(newer["kernel"]).hexdigest()
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        assert (await gateway.get("/kernel")).body == FILES["kernel"]
        assert "retry-after" in (await unavailable(gateway, f"/blobs/{coming}")).headers


@pytest.mark.parametrize("path", ["/kernel", f"{PAIR}/kernel", f"/blobs/{SHA256}", "/boot.ipxe"])
async def test_damaged_artifact_is_withheld_until_it_is_mended(
    gateway: Running, store: Store, path: str
) -> None:
    file = store.blobs.path(SHA256)
    stat, whole = file.stat(), file.read_bytes()
    file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (await gateway.get("/kernel")).status == 503  # noticed while it is read
    reply = await unavailable(gateway, path)
    assert b"not complete here" in reply.body
    assert str(store.path).encode() not in reply.body
    assert "retry-after" in reply.headers


async def test_what_only_a_former_version_named_does_not_come_back(store: Store, tmp_path: Path) -> None:
    put(store)
    put(store, {**FILES, "kernel": content("kernel 2", 3 * PIECE)}, version=2)
    store.blobs.path(SHA256).unlink()  # as when a publisher's file is overwritten in place
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        assert "retry-after" not in (await unavailable(gateway, f"/blobs/{SHA256}")).headers


async def test_unknown_is_not_found(gateway: Running) -> None:
    gateway.node.now = NOW + 100 * 86_400  # whatever is withheld beside it
    unknown = hashlib.sha256(b"unknown").hexdigest()
    for path in (
        f"/blobs/{unknown}",
        f"/blobs/{unknown[:2]}/{unknown}.bin",
        "/testing/x86_64/kernel",
        "/testing/x86_64/boot.ipxe",
        "/stable/arm64/manifest.json",
        "/stable/mips/kernel",
        "/phase/testing/x86_64/manifest.json",
        "/nothing",
    ):
        reply = await gateway.get(path)
        assert reply.status == 404, path
        assert "retry-after" not in reply.headers


async def test_manifest_of_a_stranger_is_nothing_known(store: Store, tmp_path: Path) -> None:
    put_incomplete(store)
    node = OfferingNode(store, trust=Trust(TrustPolicy()))
    async with serving(node, gateway_settings(tmp_path)) as gateway:
        for path in ("/kernel", f"{PAIR}/kernel", f"/blobs/{SHA256}"):
            assert (await gateway.get(path)).status == 404


async def test_short_names_say_what_is_withheld_of_several(store: Store, tmp_path: Path) -> None:
    put(store)
    put_arm64(store)
    node = OfferingNode(store, now=NOW + 100 * 86_400)
    async with serving(node, gateway_settings(tmp_path)) as gateway:
        reply = await unavailable(gateway, "/boot.ipxe")
        assert b"stable/arm64: " in reply.body
        assert b"; stable/x86_64: " in reply.body
        node.default = (None, "arm64")
        assert (await gateway.get("/boot.ipxe")).body.count(b"stable/") == 1
        node.default = ("testing", None)
        assert (await gateway.get("/boot.ipxe")).status == 404


async def test_short_names_mean_what_is_offered_beside_what_is_not(store: Store, tmp_path: Path) -> None:
    put(store, expires_at=NOW + 10)
    _, samples = put_arm64(store)
    async with serving(OfferingNode(store, now=NOW + 10), gateway_settings(tmp_path)) as gateway:
        assert (await gateway.get("/kernel")).body == samples["kernel"].data
        assert (await unavailable(gateway, "/stable/x86_64/kernel")).body.startswith(b"stable/x86_64: ")


# --- what the operator wants to have, and nothing is there of yet


WAITING = Awaited("stable", "x86_64", "no manifest of stable/x86_64 is complete here yet")
ANY_ARCH = Awaited("stable", None, "no manifest of stable is complete here yet")
STUCK = Awaited("testing", "x86_64", "testing/x86_64 can not be published as it is", retry_after_s=None)


@pytest.mark.parametrize(
    "path", ["/kernel", "/boot.ipxe", f"{PAIR}/boot.ipxe", f"/phase{PAIR}/manifest.json"]
)
@pytest.mark.parametrize("awaited", [WAITING, ANY_ARCH])
async def test_mirror_that_has_nothing_yet_is_worth_waiting_for(
    store: Store, tmp_path: Path, path: str, awaited: Awaited
) -> None:
    async with serving(OfferingNode(store, expected=[awaited]), gateway_settings(tmp_path)) as gateway:
        reply = await unavailable(gateway, path)
        assert reply.body.decode() == f"{awaited.text}\n"
        assert "retry-after" in reply.headers
        assert (await gateway.get("/testing/x86_64/kernel")).status == 404
        assert (await gateway.get("/stable/arm64/kernel")).status == (503 if awaited is ANY_ARCH else 404)


async def test_other_archs_are_unknown_once_there_is_one_of_a_channel(gateway: Running) -> None:
    gateway.node.expected = [ANY_ARCH]
    assert (await gateway.get("/kernel")).status == 200
    assert (await gateway.get("/stable/arm64/kernel")).status == 404


async def test_what_can_not_be_published_does_not_pass_by_itself(gateway: Running) -> None:
    gateway.node.expected = [STUCK]
    assert (await gateway.get("/kernel")).status == 200
    reply = await unavailable(gateway, "/testing/x86_64/kernel")
    assert "retry-after" not in reply.headers


@pytest.mark.parametrize("path", ["/kernel", f"{PAIR}/boot.ipxe", f"/blobs/{SHA256}"])
async def test_nobody_waits_for_what_can_not_be_published_again(
    store: Store, tmp_path: Path, path: str
) -> None:
    put_incomplete(store)
    node = OfferingNode(store)
    async with serving(node, gateway_settings(tmp_path)) as gateway:
        assert "retry-after" in (await unavailable(gateway, path)).headers
        node.expected = [Awaited("stable", "x86_64", "stable/x86_64 is not published here any more", None)]
        reply = await unavailable(gateway, path)
        assert b"not complete here" in reply.body
        assert "retry-after" not in reply.headers
        node.expected = [STUCK]  # of another pair
        assert "retry-after" in (await unavailable(gateway, path)).headers


async def test_short_names_of_another_pair_than_is_awaited_are_unknown(store: Store, tmp_path: Path) -> None:
    node = OfferingNode(store, expected=[WAITING, STUCK], default=("nightly", None))
    async with serving(node, gateway_settings(tmp_path)) as gateway:
        assert (await gateway.get("/kernel")).status == 404


# --- what else says it


async def test_status_names_what_is_withheld(gateway: Running) -> None:
    gateway.node.now = NOW + 100 * 86_400
    status = json.loads((await gateway.report("/status")).body)
    (withheld,) = status["withheld"]
    assert (withheld["channel"], withheld["arch"], withheld["reason"]) == ("stable", "x86_64", "expired")
    assert "version 1 expired" in withheld["text"]
    assert (await gateway.get("/health")).status == 200  # nothing is wrong with the node


async def test_damaged_catalogue_is_503_and_no_fault(
    gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = gateway.node.store.manifests.get(gateway.node.catalogue.offered()[0].digest)
    assert stored is not None
    rotten = stored._replace(raw=stored.raw.replace(b'"kernel"', b'"kernal"'))
    monkeypatch.setattr(type(gateway.node.store.manifests), "get", lambda *_arguments: rotten)
    assert (await gateway.get("/kernel")).status == 503
