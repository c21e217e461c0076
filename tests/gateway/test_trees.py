"""Device trees by the names they have on a disk: artifacts of their own, and out of the one archive of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from p2pboot.core.devicetrees import Archive, ReadRange, end, header, layout, padding
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, content
from tests.fetch.world import FILES
from tests.gateway.world import PAIR, OfferingNode, gateway_settings, put, put_arm64, serving

TREES: Mapping[str, bytes] = {
    "board.dtb": content("board", 700),
    "qcom/sm8250-mtp.dtb": content("sm8250", 2 * PIECE + 5),
    "qcom/SM8250,v2@1+x.dtb": content("upper", 512),
    "overlays/i2c.dtbo": content("overlay", 1),
    "a/b/c/deep.dtb": content("deep", 3000),
}


def archive_of(files: Mapping[str, bytes]) -> bytes:
    members = layout((name, len(data)) for name, data in files.items())
    parts = [header(one) + files[one.name] + padding(one.size) for one in members]
    return b"".join(parts) + end()


def with_archive(files: Mapping[str, bytes] = TREES) -> dict[str, bytes]:
    return {**FILES, "dtbs.tar": archive_of(files)}


@pytest.mark.parametrize("prefix", [PAIR, "", f"/phase{PAIR}", "/phase"])
async def test_trees_of_an_archive_have_their_names(store: Store, tmp_path: Path, prefix: str) -> None:
    put(store, with_archive())
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        for name, data in TREES.items():
            reply = await gateway.get(f"{prefix}/dtbs/{name}")
            assert (reply.status, reply.body) == (200, data), name
            assert reply["Content-Length"] == str(len(data))
            assert reply["Content-Type"] == "application/octet-stream"
            assert reply["X-Manifest-Channel"] == "stable"
        assert (await gateway.get(f"{prefix}/dtbs/qcom/sm8250-mtp")).body == TREES["qcom/sm8250-mtp.dtb"]
        assert (await gateway.get(f"{prefix}/dtbs.tar")).status == (200 if prefix else 404)


@pytest.mark.parametrize(
    "name",
    [
        "nothing.dtb",
        "qcom",
        "qcom/",
        "QCOM/sm8250-mtp.dtb",
        "sm8250-mtp.dtb",
        "qcom/sm8250-mtp.dtbo",
        "overlays/i2c",
        "overlays/i2c.dtb",
        "board.dtb/",
        "board.dtb.dtb",
        "a/../board.dtb",
        "a/%2e%2e/board.dtb",
        "qcom%2fsm8250-mtp.dtb",
        "x/" * 12 + "y.dtb",
        ".dtb",
        "",
    ],
)
async def test_other_names_are_not_found(store: Store, tmp_path: Path, name: str) -> None:
    put(store, with_archive())
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        assert (await gateway.get(f"{PAIR}/dtbs/{name}")).status == 404


@pytest.mark.parametrize(
    "path", ["qcom/SM8250%2Cv2%401%2Bx.dtb", "/qcom//SM8250,v2@1+x.dtb", "./qcom/SM8250,v2@1+x.dtb"]
)
async def test_other_spellings_of_a_name(store: Store, tmp_path: Path, path: str) -> None:
    put(store, with_archive())
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        assert (await gateway.get(f"{PAIR}/dtbs/{path}")).body == TREES["qcom/SM8250,v2@1+x.dtb"]


async def test_parts_of_a_tree(store: Store, tmp_path: Path) -> None:
    put(store, with_archive())
    data = TREES["qcom/sm8250-mtp.dtb"]
    path = f"{PAIR}/dtbs/qcom/sm8250-mtp.dtb"
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        whole = await gateway.get(path)
        end_of_it = len(data) - 1
        for wanted, start, last in (
            ("0-0", 0, 0),
            (f"{PIECE - 1}-", PIECE - 1, end_of_it),
            ("-1", end_of_it, end_of_it),
        ):
            part = await gateway.get(path, {"Range": f"bytes={wanted}", "If-Range": whole["ETag"]})
            assert (part.status, part.body) == (206, data[start : last + 1])
            assert part["Content-Range"] == f"bytes {start}-{last}/{len(data)}"
        behind = await gateway.get(path, {"Range": f"bytes={len(data)}-"})
        assert (behind.status, behind["Content-Range"]) == (416, f"bytes */{len(data)}")
        assert (await gateway.get(path, {"If-None-Match": whole["ETag"]})).status == 304
        head = await gateway.get(path, method="HEAD")
        assert (head.body, head["Content-Length"]) == (b"", str(len(data)))


async def test_tags_tell_trees_and_versions_apart(store: Store, tmp_path: Path) -> None:
    put(store, with_archive())
    changed = {**TREES, "board.dtb": content("board 2", 700)}
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        tags = [(await gateway.get(f"{PAIR}/dtbs/{name}"))["ETag"] for name in TREES]
        tags.append((await gateway.get(f"{PAIR}/dtbs.tar"))["ETag"])
        assert len(set(tags)) == len(tags)
        assert (await gateway.get(f"{PAIR}/dtbs/board"))["ETag"] == tags[0]
        put(store, with_archive(changed), version=2)
        reply = await gateway.get(f"{PAIR}/dtbs/board.dtb", {"If-None-Match": tags[0]})
        assert (reply.status, reply.body) == (200, changed["board.dtb"])


async def test_archive_is_read_once(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, with_archive())
    reads: list[int] = []

    read = Archive.read

    def counted(read_range: ReadRange, size: int) -> Archive:
        reads.append(size)
        return read(read_range, size)

    monkeypatch.setattr(Archive, "read", counted)
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        for name in (*TREES, "nothing.dtb", "nothing-else.dtb"):
            await gateway.get(f"{PAIR}/dtbs/{name}")
    assert reads == [len(with_archive()["dtbs.tar"])]


async def test_archive_that_is_none_is_said_to_be_none(store: Store, tmp_path: Path) -> None:
    put(store, {**FILES, "dtbs.tar": content("no archive", 3 * PIECE)})
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        reply = await gateway.get(f"{PAIR}/dtbs/board.dtb")
        assert (reply.status, reply.body) == (
            404,
            b"dtbs.tar of the current manifest is no archive of device trees\n",
        )
        assert (await gateway.get(f"{PAIR}/dtbs.tar")).status == 200


async def test_damaged_archive_is_unavailable(store: Store, tmp_path: Path) -> None:
    manifest = put(store, with_archive())
    file = store.blobs.path(manifest.artifacts["dtbs.tar"].sha256)
    with file.open("r+b") as opened:
        opened.seek(600)
        opened.write(b"\xff\xff")
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        reply = await gateway.get(f"{PAIR}/dtbs/board.dtb")
    assert reply.status == 503
    assert "retry-after" in reply.headers


@pytest.mark.parametrize("arch", ["arm64", "aarch64", "AArch64"])
@pytest.mark.parametrize("prefix", ["/stable/{arch}", "/phase/stable/{arch}", "", "/phase"])
async def test_tree_that_is_an_artifact_has_its_name_on_the_disk_too(
    store: Store, tmp_path: Path, prefix: str, arch: str
) -> None:
    _, samples = put_arm64(store)
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        for name in ("board-4", "board-4.dtb"):
            reply = await gateway.get(f"{prefix.format(arch=arch)}/dtbs/{name}")
            assert reply.body == samples["dtbs/board-4"].data
            assert reply["X-Artifact-Hash"] == f"sha256:{samples['dtbs/board-4'].sha256}"
        for name in ("board-4.dtbo", "vendor/board-4.dtb", "board-4.dtb.dtb"):
            assert (await gateway.get(f"{prefix.format(arch=arch)}/dtbs/{name}")).status == 404


async def test_channel_may_be_called_like_a_route(store: Store, tmp_path: Path) -> None:
    put(store, channel="dtbs")
    put(store, channel="phase")
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        for channel in ("dtbs", "phase"):
            assert (await gateway.get(f"/{channel}/x86_64/kernel"))["X-Manifest-Channel"] == channel
            assert (await gateway.get(f"/phase/{channel}/x86_64/kernel"))["X-Manifest-Channel"] == channel
