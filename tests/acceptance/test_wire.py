"""The protocols of a running `serve`, byte by byte."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from p2pboot.testing.waiting import HANG_S
from tests.acceptance.conftest import Key
from tests.acceptance.program import LOOPBACK, Program, Running, write_image
from tests.acceptance.wire import ARTIFACT, SYNC, Wire, dialled, frame, varint

MIB = 1 << 20
PIECE = 64 << 10
ROOTFS = 17 * MIB + 12_345  # 273 pieces: 35 bytes of bitmap, with padding
NOWHERE = "0" * 64
BAD = {"status": "bad_request"}


@dataclass(frozen=True)
class Served:
    """A running publisher and what it publishes."""

    node: Running
    address: str
    rootfs: bytes
    sha256: str
    key: Key


@pytest.fixture(scope="module")
def served(_program: Program, alice: Key, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served")
    image = write_image(directory / "image", rootfs=0)
    rootfs = b"".join(hashlib.shake_256(b"%d" % block).digest(MIB) for block in range(18))[:ROOTFS]
    (image / "rootfs.squashfs").write_bytes(rootfs)
    args = ("serve", image, "--channel", "stable", "--arch", "arm64", "--key", alice.path)
    node = _program.start(*args, "--state", directory / "state", "--no-mdns", "--listen", LOOPBACK)
    address = node.first_line()
    node.wait_for_log("publishing version")
    yield Served(node, address, rootfs, hashlib.sha256(rootfs).hexdigest(), alice)
    # Whatever was said to it, it still serves, and said nothing strange.
    where = ("--channel", "stable", "--arch", "arm64", "--trust", alice.keyid, "--no-mdns")
    _program.ok("fetch", *where, "--bootstrap", address, "-o", directory / "out")
    assert (directory / "out" / "rootfs").read_bytes() == rootfs
    log = node.err.read_text()
    assert "Traceback" not in log
    assert "ERROR" not in log
    node.signal(15)
    assert node.wait().status == 0


def is_bad(header: dict[str, Any]) -> bool:
    return {**header, **BAD} == header and "length" not in header


NO_REQUESTS: list[bytes] = [
    b"",
    b"{",
    b"[]",
    b"1",
    b"null",
    b'{"op":"heads"}x',
    b'{"op":"heads"',
    b'{"op":"heads","op":"heads"}',
    b'\xef\xbb\xbf{"op":"heads"}',
    b'{"op":"heads","x":"\xff"}',
    b'{"op":"heads","x":NaN}',
    b'{"op":1}',
    b'{"op":null}',
    b"{}",
    b'{"op":"reboot"}',
    b'{"op":"read"}',
    b'{"op":"heads","channel":1}',
    b'{"op":"heads","channel":"UPPER"}',
    b'{"op":"heads","arch":"aarch64"}',
    b'{"op":"manifest"}',
    b'{"op":"manifest","digest":"' + b"A" * 64 + b'"}',
    b'{"op":"manifest","digest":"' + b"a" * 63 + b'"}',
    b'{"op":"manifest","digest":"sha256:' + b"a" * 64 + b'"}',
    b'{"op":"manifest","digest":[]}',
    b"[" * 4_000,
    b" " * 4_096,
]


async def test_what_is_no_request_is_answered_and_the_stream_goes_on(served: Served) -> None:
    async with dialled(served.address) as (transport, connection):
        wire = await Wire.open(transport, connection, SYNC)
        for payload in NO_REQUESTS:
            header, _ = await wire.ask(payload)
            assert is_bad(header), payload
        assert await wire.ok({"op": "heads"}) != b"[]"


async def test_numbers_that_are_none(served: Served) -> None:
    async with dialled(served.address) as (transport, connection):
        wire = await Wire.open(transport, connection, ARTIFACT)
        for number in (
            "-1",
            "true",
            "1.0",
            "1e3",
            "-0",
            "null",
            '"1"',
            "[]",
            str(2**53),
            "1" * 3_000,
            "1e999",
        ):
            for offset, length in ((number, "1"), ("0", number)):
                payload = f'{{"op":"read","sha256":"{served.sha256}","offset":{offset},"length":{length}}}'
                header, _ = await wire.ask(payload.encode())
                assert is_bad(header), payload
        for document in (
            {"op": "read", "sha256": served.sha256.upper(), "offset": 0, "length": 1},
            {"op": "read", "sha256": served.sha256, "offset": 0, "length": 0},
            {"op": "read", "sha256": served.sha256, "offset": 0, "length": 16 * MIB + 1},
            {"op": "heads"},
            {"op": "pieces", "sha256": served.sha256[:-1]},
            {"op": "have"},
        ):
            header, _ = await wire.ask(document)
            assert is_bad(header), document
        assert len(await wire.ok({"op": "have", "sha256": served.sha256, "unknown": {"a": [1.5]}})) == 35


BROKEN = ["8000", "8500", "808001", "ffffffff0f", "8120", "ff7f", "81a0" + "01"]


@pytest.mark.parametrize("prefix", BROKEN)
async def test_broken_frame_resets_the_stream_and_nothing_else(served: Served, prefix: str) -> None:
    async with dialled(served.address) as (transport, connection):
        wire = await Wire.open(transport, connection, SYNC)
        other = await Wire.open(transport, connection, SYNC)
        assert json.loads(await wire.ok({"op": "heads"}))
        await wire.send(bytes.fromhex(prefix))
        assert await wire.end() == "reset"
        assert await other.ok({"op": "heads"})


async def test_largest_frame_byte_by_byte_and_one_that_is_cut_off(served: Served) -> None:
    async with dialled(served.address) as (transport, connection):
        wire = await Wire.open(transport, connection, SYNC)
        largest = b'{"op":"heads","x":"' + b"y" * (4_096 - 21) + b'"}'
        assert len(largest) == 4_096
        assert await wire.ok(largest)
        for number in frame({"op": "heads"}) * 2:
            await wire.send(bytes([number]))
        for _ in range(2):
            assert (await wire.reply())[0]["status"] == "ok"
        await wire.send(varint(100) + b"{")
        await wire.stream.close_write()
        assert await wire.end() == "reset"


async def test_pipelined_requests_are_answered_in_order_and_then_the_stream_ends(served: Served) -> None:
    offsets = [(number * 7_919_111) % (ROOTFS - 100) for number in range(64)]
    async with dialled(served.address) as (transport, connection):
        wire = await Wire.open(transport, connection, ARTIFACT)
        requests = [
            {"op": "read", "sha256": served.sha256, "offset": offset, "length": 100} for offset in offsets
        ]
        await wire.send(b"".join(map(frame, requests)) + frame(b"nonsense"))
        await wire.stream.close_write()
        for offset in offsets:
            header, body = await wire.reply()
            assert header == {"status": "ok", "length": 100}
            assert body == served.rootfs[offset : offset + 100]
        assert is_bad((await wire.reply())[0])
        assert await wire.end() == "eof"


async def test_reads_at_every_limit(served: Served) -> None:
    def read(offset: int, length: int) -> dict[str, Any]:
        return {"op": "read", "sha256": served.sha256, "offset": offset, "length": length}

    async with dialled(served.address) as (transport, connection):
        wire = await Wire.open(transport, connection, ARTIFACT)
        for offset, length in (
            (0, 1),
            (ROOTFS - 1, 1),
            (MIB - 1, 2),
            (MIB - 1, 2 * MIB + 2),
            (17 * MIB, 12_345),
            (0, 16 * MIB),
            (ROOTFS - 16 * MIB, 16 * MIB),
        ):
            assert await wire.ok(read(offset, length)) == served.rootfs[offset : offset + length]
        for offset, length in ((ROOTFS, 1), (ROOTFS - 1, 2), (2**53 - 1, 1), (2**53 - 1, 16 * MIB)):
            assert await wire.ask(read(offset, length)) == ({"status": "range"}, b"")
        unknown = {"op": "read", "sha256": NOWHERE, "offset": 0, "length": 1}
        assert await wire.ask(unknown) == ({"status": "not_found"}, b"")


async def test_pieces_and_have(served: Served) -> None:
    async with dialled(served.address) as (transport, connection):
        wire = await Wire.open(transport, connection, ARTIFACT)
        table = await wire.ok({"op": "pieces", "sha256": served.sha256})
        pieces = [served.rootfs[start : start + PIECE] for start in range(0, ROOTFS, PIECE)]
        assert table == b"".join(blake3(piece).digest() for piece in pieces)
        digest, bitmap = blake3(table).hexdigest(), b"\xff" * 34 + b"\x80"
        assert await wire.ok({"op": "have", "sha256": served.sha256}) == bitmap
        assert await wire.ok({"op": "have", "sha256": served.sha256, "table": digest}) == bitmap
        assert await wire.ok({"op": "pieces", "sha256": served.sha256, "table": digest}) == table
        for op in ("pieces", "have"):
            assert await wire.ask({"op": op, "sha256": NOWHERE}) == ({"status": "not_found"}, b"")
            other = {"op": op, "sha256": served.sha256, "table": NOWHERE}
            assert await wire.ask(other) == ({"status": "not_found"}, b"")
        sync = await Wire.open(transport, connection, SYNC)
        head = json.loads(await sync.ok({"op": "heads"}))[0]
        manifest = json.loads(await sync.ok({"op": "manifest", "digest": head["digest"]}))
        stated = manifest["artifacts"]["rootfs"]["pieces"]
        assert stated == {"length": PIECE, "hash": f"blake3:{digest}"}


async def test_heads_manifest_and_peers(served: Served) -> None:
    async with dialled(served.address) as (transport, connection):
        wire = await Wire.open(transport, connection, SYNC)
        (head,) = json.loads(await wire.ok({"op": "heads", "channel": "stable", "arch": "arm64"}))
        assert head.keys() == {"channel", "arch", "signers", "manifest_version", "digest", "size"}
        assert (head["channel"], head["arch"], head["manifest_version"]) == ("stable", "arm64", 1)
        assert head["signers"] == [served.key.keyid]
        assert json.loads(await wire.ok({"op": "heads", "channel": None})) == [head]
        assert await wire.ok({"op": "heads", "channel": "other"}) == b"[]"
        assert await wire.ok({"op": "heads", "arch": "x86_64"}) == b"[]"
        header, raw = await wire.ask({"op": "manifest", "digest": head["digest"]})
        assert len(raw) == head["size"] == header["length"]
        data = base64.b64decode(json.loads(raw)["signed"]["data"])
        assert hashlib.sha256(data).hexdigest() == head["digest"]
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(served.key.keyid[8:]))
        key.verify(base64.b64decode(header["detached"].strip(), validate=True), raw)
        assert await wire.ask({"op": "manifest", "digest": NOWHERE}) == ({"status": "not_found"}, b"")
        records = json.loads(await wire.ok({"op": "peers", "channel": "stable"}))
        assert isinstance(records, list)
        assert len(records) <= 32
        assert all(0 < len(base64.b64decode(record, validate=True)) <= 4_096 for record in records)


def test_plaintext_is_refused(served: Served) -> None:
    """Multistream-select on the raw connection: noise is offered, plaintext is not."""
    port = int(served.address.split("/")[4])
    for protocol, answer in ((b"/plaintext/2.0.0", b"na"), (b"/noise", b"/noise")):
        with socket.create_connection(("127.0.0.1", port), HANG_S) as connection:
            for line in (b"/multistream/1.0.0", protocol):
                connection.sendall(varint(len(line) + 1) + line + b"\n")
            received = b""
            while received.count(b"\n") < 2 and (chunk := connection.recv(1_000)):
                received += chunk
        assert received.split(b"\n")[1][1:] == answer
