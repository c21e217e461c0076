"""What each route answers, over a real socket and from a real store."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from p2pboot.core.manifest import check_detached
from p2pboot.core.names import ARCH_ALIASES, ARCHS
from p2pboot.errors import MachineError
from p2pboot.gateway import reports
from p2pboot.gateway.slots import Slots
from p2pboot.node.awaiting import Awaited
from p2pboot.node.status import SnapshotsFacts
from p2pboot.node.status.boots import Boots
from p2pboot.node.status.known import Release
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, content
from p2pboot.testing.manifests import NOW
from tests.core.phase_verify import phase_verify
from tests.fetch.world import FILES, KEY
from tests.gateway.phase_clients import boot_image_script, phase_fetch
from tests.gateway.world import PAIR, OfferingNode, Running, gateway_settings, put, put_arm64, serving

KERNEL = FILES["kernel"]
SHA256 = hashlib.sha256(KERNEL).hexdigest()


# --- artifacts


@pytest.mark.parametrize("key", sorted(FILES))
@pytest.mark.parametrize("prefix", ["", PAIR, f"/phase{PAIR}"])
async def test_artifacts_have_the_publishers_bytes(gateway: Running, prefix: str, key: str) -> None:
    reply = await gateway.get(f"{prefix}/{key}")
    assert (reply.status, reply.body) == (200, FILES[key])
    digest = hashlib.sha256(FILES[key]).hexdigest()
    assert reply["Content-Length"] == str(len(FILES[key]))
    assert reply["Content-Type"] == "application/octet-stream"
    assert reply["ETag"] == f'"{digest}"'
    assert reply["X-Artifact-Hash"] == f"sha256:{digest}"
    assert reply["X-Manifest-Version"] == "v1"
    assert reply["X-Manifest-Counter"] == "1"
    assert reply["X-Manifest-Channel"] == "stable"
    assert reply["X-Manifest-Arch"] == "x86_64"
    assert reply["Accept-Ranges"] == "bytes"
    assert reply["Cache-Control"] == "no-cache, no-transform"


@pytest.mark.parametrize("path", [f"/blobs/{SHA256}", f"/blobs/{SHA256[:2]}/{SHA256}.bin"])
async def test_blobs_are_immutable(gateway: Running, path: str) -> None:
    reply = await gateway.get(path)
    assert (reply.status, reply.body) == (200, KERNEL)
    assert "immutable" in reply["Cache-Control"]


async def test_head_says_what_get_would(gateway: Running) -> None:
    for path in ("/kernel", "/manifest.json", "/boot.ipxe", f"/blobs/{SHA256}", "/nothing"):
        got, head = await gateway.get(path), await gateway.get(path, method="HEAD")
        assert head.body == b""
        assert head.status == got.status
        assert {**head.headers, "date": ""} == {**got.headers, "date": ""}


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        (f"bytes={PIECE - 1}-{PIECE}", PIECE - 1, PIECE + 1),
        (f"bytes={PIECE}-", PIECE, len(KERNEL)),
        ("bytes=-1", len(KERNEL) - 1, len(KERNEL)),
        (f"bytes=-{2 * PIECE}", len(KERNEL) - 2 * PIECE, len(KERNEL)),
        ("bytes=0-", 0, len(KERNEL)),
    ],
)
async def test_ranges(gateway: Running, wanted: str, start: int, end: int) -> None:
    reply = await gateway.get("/kernel", {"Range": wanted})
    assert reply.status == 206
    assert reply.body == KERNEL[start:end]
    assert reply["Content-Range"] == f"bytes {start}-{end - 1}/{len(KERNEL)}"
    assert reply["Content-Length"] == str(end - start)


async def test_range_behind_the_end_says_the_size(gateway: Running) -> None:
    reply = await gateway.get("/kernel", {"Range": f"bytes={len(KERNEL)}-"})
    assert reply.status == 416
    assert reply["Content-Range"] == f"bytes */{len(KERNEL)}"


async def test_several_ranges_get_the_whole(gateway: Running) -> None:
    reply = await gateway.get("/kernel", {"Range": "bytes=0-1,5-6"})
    assert (reply.status, reply.body) == (200, KERNEL)


async def test_conditions(gateway: Running) -> None:
    known = {"If-None-Match": f'"{SHA256}"'}
    reply = await gateway.get("/kernel", known)
    assert (reply.status, reply.body, reply["ETag"]) == (304, b"", f'"{SHA256}"')
    assert (await gateway.get("/initramfs", known)).status == 200
    resumed = {"Range": "bytes=5-", "If-Range": f'"{SHA256}"'}
    assert (await gateway.get("/kernel", resumed)).status == 206
    assert (await gateway.get("/initramfs", resumed)).status == 200
    assert (await gateway.get("/initramfs", {"If-Match": f'"{SHA256}"'})).status == 412


async def test_nothing_is_compressed(gateway: Running) -> None:
    for path in ("/kernel", "/manifest.json"):
        reply = await gateway.get(path, {"Accept-Encoding": "gzip, br, zstd"})
        assert "content-encoding" not in reply.headers
        assert reply["Content-Length"] == str(len(reply.body))


# --- names


async def test_arm64_and_aarch64_are_the_same(store: Store, tmp_path: Path) -> None:
    manifest, samples = put_arm64(store)
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        for arch in ("arm64", "aarch64"):
            assert (await gateway.get(f"/stable/{arch}/kernel")).body == samples["kernel"].data
            assert (await gateway.get(f"/stable/{arch}/dtbs/board-4")).body == samples["dtbs/board-4"].data
            assert (await gateway.get(f"/phase/stable/{arch}/dtbs/board-4")).body == samples[
                "dtbs/board-4"
            ].data
            assert (await gateway.get(f"/stable/{arch}/manifest.json")).body == manifest.raw
            view = json.loads((await gateway.get(f"/phase/stable/{arch}/manifest.json")).body)
            assert view["artifacts"]["dtbs"]["board-4"]["download_url"] == "/dtbs/board-4"
        assert (await gateway.get("/stable/arm64/manifest.json.sig")).status == 404  # it came without


@pytest.mark.parametrize("name", [*ARCHS, *ARCH_ALIASES])
async def test_every_name_of_an_arch_is_taken_in_any_case(store: Store, tmp_path: Path, name: str) -> None:
    put(store)
    _, samples = put_arm64(store)
    held = {"x86_64": KERNEL, "arm64": samples["kernel"].data}.get(ARCH_ALIASES.get(name, name))
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        for spelling in (name, name.upper(), name.capitalize()):
            reply = await gateway.get(f"/stable/{spelling}/kernel")
            assert reply.status == (404 if held is None else 200), spelling
            assert held is None or reply.body == held
        assert (await gateway.get(f"/stable/{name}x/kernel")).status == 404


async def test_short_names_mean_the_only_pair_or_the_operators(store: Store, tmp_path: Path) -> None:
    put(store)
    _, samples = put_arm64(store)
    node = OfferingNode(store)
    async with serving(node, gateway_settings(tmp_path)) as gateway:
        reply = await gateway.get("/kernel")
        assert reply.status == 404
        assert b"/stable/arm64, /stable/x86_64" in reply.body
        node.default = ("stable", "arm64")
        assert (await gateway.get("/kernel")).body == samples["kernel"].data
        node.default = (None, "x86_64")
        assert (await gateway.get("/kernel")).body == KERNEL


async def test_what_the_manifest_does_not_name_is_not_found(gateway: Running, store: Store) -> None:
    (store.path / "blobs" / "kernel2").write_bytes(b"on the disk")
    names = ["state.sqlite3", "kernel2", "dtbs", "manifest", "nothing", "kernel.", "kernel/", "blobs", "lock"]
    for name in names:
        assert (await gateway.get(f"{PAIR}/{name}")).status == 404, name
    for path in (
        "/stable",
        "/stable/",
        PAIR,
        f"{PAIR}/",
        "/stable/mips/kernel",
        "/testing/x86_64/kernel",
        "/blobs",
        "/blobs/",
    ):
        assert (await gateway.get(path)).status == 404, path
    for path in (
        f"/blobs/{SHA256.upper()}",
        "/blobs/" + "0" * 64,
        f"/blobs/00/{SHA256}.bin",
        f"/blobs/{SHA256}.bin",
    ):
        assert (await gateway.get(path)).status == 404, path


async def test_former_blobs_stay_reachable_during_an_update(gateway: Running, store: Store) -> None:
    script = (await gateway.get("/boot.ipxe")).body.decode()
    newer = {**FILES, "kernel": content("kernel 2", 3 * PIECE)}
    put(store, newer, version=2)
    assert (await gateway.get("/kernel")).body == newer["kernel"]
    assert (await gateway.get("/kernel"))["X-Manifest-Counter"] == "2"
    urls = [word for word in script.split() if word.startswith("http://")]
    assert [(await gateway.get("/" + url.split("/", 3)[3])).body for url in urls] == [
        KERNEL,
        FILES["initramfs"],
    ]


async def test_damaged_artifact_is_not_sent(gateway: Running, store: Store) -> None:
    path = store.blobs.path(SHA256)
    whole = path.read_bytes()
    stat = path.stat()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (await gateway.get(f"/blobs/{SHA256}")).status == 503
    assert (await gateway.get("/kernel")).status == 503


async def test_damage_further_on_ends_the_connection_short(gateway: Running, store: Store) -> None:
    digest = hashlib.sha256(FILES["rootfs"]).hexdigest()
    path = store.blobs.path(digest)
    with path.open("r+b") as file:
        file.seek(40 * PIECE)
        byte = file.read(1)
        file.seek(40 * PIECE)
        file.write(bytes([byte[0] ^ 1]))
    received = await gateway.raw(f"GET /blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert FILES["rootfs"].startswith(body)
    assert len(body) <= 40 * PIECE


# --- manifests and scripts


@pytest.mark.parametrize("prefix", ["", PAIR])
async def test_manifest_and_signature_are_as_published(gateway: Running, prefix: str) -> None:
    reply = await gateway.get(f"{prefix}/manifest.json")
    assert reply["Content-Type"] == "application/json"
    assert phase_verify(reply.body, KEY.public.raw)["channel"] == "stable"
    signature = await gateway.get(f"{prefix}/manifest.json.sig")
    assert check_detached(reply.body, signature.body.decode(), [KEY.public.keyid]) == KEY.public.keyid
    again = await gateway.get(f"{prefix}/manifest.json", {"If-None-Match": reply["ETag"]})
    assert again.status == 304
    part = await gateway.get(f"{prefix}/manifest.json", {"Range": "bytes=-4"})
    assert (part.status, part.body) == (206, reply.body[-4:])


@pytest.mark.parametrize("host", ["boot.example:8080", "[fd00::1]:81", "10.0.2.2"])
async def test_scripts_use_the_address_by_which_the_client_came(gateway: Running, host: str) -> None:
    script = (await gateway.get("/boot.ipxe", {"Host": host})).body.decode()
    assert f"kernel --name kernel http://{host}/blobs/{SHA256} initrd=initrd quiet\n" in script
    view = json.loads((await gateway.get(f"/phase{PAIR}/manifest.json", {"Host": host})).body)
    assert view["artifacts"]["kernel"]["urls"] == [f"http://{host}/blobs/{SHA256}"]


async def test_http_1_0_client_without_host_gets_our_own_address(gateway: Running) -> None:
    reply = await gateway.raw(b"GET /boot.ipxe HTTP/1.0\r\n\r\n")
    assert f"http://127.0.0.1:{gateway.port}/blobs/{SHA256}".encode() in reply


async def test_absolute_form_is_understood(gateway: Running) -> None:
    request = b"GET http://boot.example/boot.ipxe HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n"
    assert f"http://boot.example/blobs/{SHA256}".encode() in await gateway.raw(request)


async def test_unspeakable_command_line_is_no_script(store: Store, tmp_path: Path) -> None:
    put(store, cmdline="a=${b}")
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        reply = await gateway.get("/boot.ipxe")
    assert reply.status == 404
    assert b"command line" in reply.body


async def test_phases_fetcher_gets_every_artifact(gateway: Running) -> None:
    view = json.loads((await gateway.get(f"/phase{PAIR}/manifest.json")).body)
    for key, artifact in view["artifacts"].items():
        assert await trio.to_thread.run_sync(phase_fetch, artifact) == FILES[key]


async def test_phases_boot_image_gets_kernel_and_initramfs(gateway: Running) -> None:
    base = f"http://127.0.0.1:{gateway.port}/phase{PAIR}"
    found = await trio.to_thread.run_sync(boot_image_script, base)
    assert found == {"kernel": KERNEL, "initramfs": FILES["initramfs"]}


@pytest.mark.parametrize("place", [f"/phase{PAIR}", "/phase", "//phase//"])
async def test_phases_boot_image_finds_the_only_image(gateway: Running, place: str) -> None:
    base = f"http://127.0.0.1:{gateway.port}{place.rstrip('/')}"
    found = await trio.to_thread.run_sync(boot_image_script, base)
    assert found == {"kernel": KERNEL, "initramfs": FILES["initramfs"]}


async def test_phases_boot_image_needs_a_name_where_there_are_several(store: Store, tmp_path: Path) -> None:
    put(store)
    _, samples = put_arm64(store)
    node = OfferingNode(store)
    async with serving(node, gateway_settings(tmp_path)) as gateway:
        reply = await gateway.get("/phase/manifest.json")
        assert reply.status == 404
        assert b"/stable/arm64, /stable/x86_64" in reply.body
        node.default = ("stable", "arm64")
        found = await trio.to_thread.run_sync(boot_image_script, f"http://127.0.0.1:{gateway.port}/phase")
    assert found["kernel"] == samples["kernel"].data


# --- unified kernel images


async def test_unified_kernel_image_has_routes_of_its_own(store: Store, tmp_path: Path) -> None:
    manifest = put(store, {"uki": KERNEL})
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        for prefix in ("", PAIR, "/phase", f"/phase{PAIR}"):
            reply = await gateway.get(f"{prefix}/uki")
            assert (reply.status, reply.body) == (200, KERNEL)
            assert reply["Content-Type"] == "application/efi"
            for name in ("kernel", "initramfs"):
                absent = await gateway.get(f"{prefix}/{name}")
                assert absent.status == 404
                assert b"uki" in absent.body
        script = (await gateway.get("/boot.ipxe")).body.decode()
        assert script.count("/blobs/") == script.count("kernel --name= ") == 1
        assert "initrd" not in script
        view = json.loads((await gateway.get("/phase/manifest.json")).body)
        assert phase_verify((await gateway.get("/manifest.json")).body, KEY.public.raw)["channel"] == "stable"
    assert list(view["artifacts"]) == ["uki"]
    assert view["artifacts"]["uki"]["hash"] == manifest.artifacts["uki"].sha256


async def test_image_of_kernel_and_initramfs_has_no_uki(gateway: Running) -> None:
    assert (await gateway.get("/uki")).status == 404


# --- reports


async def test_health(gateway: Running, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = await gateway.get("/health")
    assert (reply.status, reply.body) == (200, b"ok\n")
    with monkeypatch.context() as patch:
        patch.setattr(reports, "FULL_BYTES", 1 << 62)
        reply = await gateway.get("/health")
        assert (reply.status, reply.body) == (503, b"the disk is full\n")
    (store.path / "blobs").rename(store.path / "away")
    assert (await gateway.get("/health")).status == 503
    (store.path / "away").rename(store.path / "blobs")
    assert (await gateway.get("/health")).status == 200


async def test_ready_as_soon_as_something_is_offered(store: Store, tmp_path: Path) -> None:
    waiting = Awaited("stable", "x86_64", "stable/x86_64 is still being brought in", 2)
    node = OfferingNode(store)
    async with serving(node, gateway_settings(tmp_path)) as gateway:
        for ask in (gateway.get, gateway.report):
            node.expected = []
            nothing = await ask("/ready")
            assert (nothing.status, nothing.body) == (503, b"nothing is offered here yet\n")
            assert nothing["Retry-After"] == "5"
            node.expected = [waiting]
            awaited = await ask("/ready")
            assert (awaited.status, awaited.body) == (503, f"{waiting.text}\n".encode())
            assert awaited["Retry-After"] == "2"
            assert (await ask("/health")).status == 200
        put(store)
        for ask in (gateway.get, gateway.report):
            assert (await ask("/ready")).body == b"ready\n"
        node.now = NOW + 100 * 86_400
        expired = await gateway.get("/ready")
        assert expired.status == 503
        assert b"expired" in expired.body
        node.counted = replace(node.counted, snapshots=SnapshotsFacts(held=1, size_bytes=1, follows=False))
        assert (await gateway.get("/ready")).body == b"ready\n"
        assert b"\np2pboot_ready 1.0\n" in (await gateway.report("/metrics")).body


async def test_whoever_asks_whether_it_is_ready_has_nothing_counted(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All peers are looked at for that: strangers ask as often as they like."""
    monkeypatch.setattr(OfferingNode, "running", None)
    put(store)
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        assert (await gateway.get("/ready")).status == 200


async def test_a_snapshot_is_something_that_is_offered(store: Store, tmp_path: Path) -> None:
    node = OfferingNode(store)
    async with serving(node, gateway_settings(tmp_path)) as gateway:
        node.counted = replace(node.counted, snapshots=SnapshotsFacts(held=0, size_bytes=0, follows=True))
        assert (await gateway.get("/ready")).status == 503
        node.counted = replace(node.counted, snapshots=SnapshotsFacts(held=1, size_bytes=9, follows=True))
        assert (await gateway.get("/ready")).status == 200


@pytest.mark.parametrize("path", ["/", "/status", "/metrics", "/events"])
async def test_what_the_node_says_of_itself_is_not_at_the_boot_port(gateway: Running, path: str) -> None:
    reply = await gateway.get(path)
    assert reply.status == 404
    assert b"admin address" in reply.body


async def test_store_that_fails_is_503_everywhere(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise MachineError("cannot read /srv/secret: Input/output error")

    monkeypatch.setattr(gateway.node.catalogue, "offered", fail)
    for path in ("/kernel", "/health", "/ready", "/manifest.json"):
        reply = await gateway.get(path)
        assert reply.status == 503
        assert b"secret" not in reply.body


async def test_fault_of_ours_is_500_and_counted(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.node.catalogue, "offered", lambda *_arguments: 1 / 0)
    assert (await gateway.get("/kernel")).status == 500
    monkeypatch.undo()
    assert (await gateway.get("/kernel")).status == 200
    assert b"p2pboot_http_failures_total 1.0" in (await gateway.report("/metrics")).body


async def test_slots_are_given_back(store: Store, tmp_path: Path) -> None:
    put(store)
    async with serving(OfferingNode(store), gateway_settings(tmp_path), slots=Slots(2)) as gateway:
        for _ in range(10):
            assert (await gateway.get("/kernel")).status == 200


async def test_who_takes_what_a_machine_boots_from_is_noted(gateway: Running) -> None:
    node = gateway.node
    manifest = put(node.store)
    release = Release(
        manifest.digest, "stable", "x86_64", "v1", {k: a.size for k, a in manifest.artifacts.items()}
    )
    named = {artifact.sha256: [(release, key)] for key, artifact in manifest.artifacts.items()}
    node.boots = Boots(lambda sha256: named.get(sha256, ()), lambda: node.now)
    assert (await gateway.get(f"{PAIR}/kernel", method="HEAD")).status == 200
    await gateway.get(f"{PAIR}/manifest.json")
    assert node.boots.lately() == []
    forged = {"X-Forwarded-For": "198.51.100.1"}
    assert (await gateway.get(f"{PAIR}/kernel", {"Range": "bytes=0-9", **forged})).status == 206
    (boot,) = node.boots.lately()
    assert (boot.address, boot.via, boot.sent_bytes, boot.done) == ("127.0.0.1", "http", 10, False)
    await gateway.get(f"{PAIR}/kernel")
    await gateway.get(f"/blobs/{manifest.artifacts['initramfs'].sha256}")
    (boot,) = node.boots.lately()
    assert boot.done
    assert boot.sent_bytes == 10 + manifest.artifacts["kernel"].size + manifest.artifacts["initramfs"].size
