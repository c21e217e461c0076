"""The manifest format, a second time, for the vectors: no code of p2pboot is used here.

Canonical JSON, base64, SHA-256, peer ids and Ed25519 (the `cryptography` package) are put together once
more, so that the vectors check p2pboot and not the other way round. Keys are seeds of 32 equal bytes, times
are fixed, artifacts are counted out. The keys are known to everyone: trust none of them.
"""

import base64
import functools
import hashlib
import json
from typing import Any

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KIB = 1024
MIB = 1024 * KIB
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

Json = dict[str, Any]


class Key:
    """The Ed25519 key whose seed is 32 times one byte."""

    def __init__(self, byte: int) -> None:
        self.seed = bytes([byte]) * 32
        self.secret = Ed25519PrivateKey.from_private_bytes(self.seed)
        self.public = self.secret.public_key().public_bytes_raw()
        self.keyid = "ed25519:" + self.public.hex()

    @property
    def peer_id(self) -> str:
        number = int.from_bytes(bytes.fromhex("002408011220") + self.public, "big")
        digits = ""
        while number:
            number, digit = divmod(number, 58)
            digits = BASE58[digit] + digits
        return "1" + digits  # one leading zero byte


A, B, STRANGER = Key(1), Key(2), Key(9)


def canonical(value: Any) -> bytes:
    """RFC 8785 for what these documents contain."""

    def in_order(value: Any) -> Any:
        if isinstance(value, dict):
            names = sorted(value, key=lambda name: name.encode("utf-16-be"))
            return {name: in_order(value[name]) for name in names}
        return [in_order(item) for item in value] if isinstance(value, list) else value

    return json.dumps(in_order(value), separators=(",", ":"), ensure_ascii=False).encode()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def signature(key: Key, data: bytes) -> Json:
    return {"keyid": key.keyid, "sig": b64(key.secret.sign(hashlib.sha256(data).digest()))}


def sealed(body: Json, *keys: Key, data: bytes | None = None) -> Json:
    """The document of a body; `data` replaces the bytes that are signed."""
    data = canonical(body) if data is None else data
    in_order = sorted(keys, key=lambda key: key.keyid)
    return body | {"signed": {"data": b64(data)}, "signatures": [signature(key, data) for key in in_order]}


def manifest(body: Json, *keys: Key) -> bytes:
    return canonical(sealed(body, *keys))


def content(key: str, size: int) -> bytes:
    """Byte number i of an artifact is (i + length of its key) mod 251."""
    start = len(key)
    cycle = bytes((i + start) % 251 for i in range(251))
    return (cycle * (size // 251 + 1))[:size]


@functools.cache
def hashed(key: str, size: int, piece: int) -> tuple[str, str, str]:
    """SHA-256, CID and BLAKE3 of the piece table, as a manifest states them."""
    data = content(key, size)
    digest = hashlib.sha256(data).digest()
    table = b"".join(blake3(data[at : at + piece]).digest() for at in range(0, size, piece))
    cid = "b" + base64.b32encode(b"\x01\x55\x12\x20" + digest).decode().rstrip("=").lower()
    return f"sha256:{digest.hex()}", cid, f"blake3:{blake3(table).hexdigest()}"


def artifact(channel: str, arch: str, key: str, size: int, piece: int, urls: int) -> Json:
    sha256, cid, table = hashed(key, size, piece)
    return {
        "hash": sha256,
        "size": size,
        "path": f"/{channel}/{arch}/{key}",
        "urls": [f"http://192.0.2.{7 + i}:8080/blobs/{sha256[7:]}" for i in range(urls)],
        "pieces": {"length": piece, "hash": table},
        "cid": cid,
    }


def body(
    *keys: Key,
    channel: str = "stable",
    arch: str = "x86_64",
    sizes: dict[str, int],
    piece: int = 64 * KIB,
    urls: int = 0,
) -> Json:
    artifacts: Json = {}
    for key, size in sizes.items():
        target = artifacts.setdefault("dtbs", {}) if key.startswith("dtbs/") else artifacts
        target[key.removeprefix("dtbs/")] = artifact(channel, arch, key, size, piece, urls)
    return {
        "spec": "p2pboot-manifest/1",
        "version": "2025.11.26",
        "manifest_version": 7,
        "channel": channel,
        "arch": arch,
        "created_at": "2025-11-26T12:00:00Z",
        "expires_at": "2025-12-26T12:00:00Z",
        "artifacts": artifacts,
        "provider": {"peer_id": keys[0].peer_id, "name": "my-provider"},
        "signers": sorted(key.keyid for key in keys),
    }


SMALL = {"kernel": 200_000, "initramfs": 65_536}
EXAMPLE = {"kernel": 8 * MIB, "initramfs": 4 * MIB + 1, "rootfs": 16 * MIB - 1}


def small(*keys: Key) -> Json:
    return body(*(keys or (A,)), sizes=SMALL)


def of_size(size: int) -> bytes:
    """A manifest of exactly `size` bytes, which must leave 0, 1 or 6 when divided by 7.

    A byte more of content is one byte outside and 4/3 in base64, and a signer more is 357 = 7 * 51 bytes: so
    no manifest has exactly 65,536 bytes, and 65,535 is the most.
    """
    base = small()
    start = (size - len(MINIMAL)) * 3 // 7 - 20
    for padding in range(start, start + 20):
        raw = manifest(base | {"padding": "x" * padding}, A)
        if len(raw) == size:
            return raw
    raise AssertionError(f"no manifest has {size} bytes")


MINIMAL = manifest(small(), A)
