"""What is looked up by which key, and how far keys and peers are from each other.

Spec: https://github.com/libp2p/specs/blob/master/kad-dht/README.md#distance. Key and peer id are hashed by SHA-256, and
the distance is the exclusive or of that.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from p2pboot.core import base58
from p2pboot.core.digests import check_digest

BITS: Final = 256

_SHA256_MULTIHASH: Final = bytes.fromhex("1220")
_OTHER_NAMES: Final = {"arm64": ("aarch64",)}  # by which Phase's machines call themselves


def position(key: bytes) -> int:
    """Where a key is, in the space in which distances are measured."""
    return int.from_bytes(hashlib.sha256(key).digest(), "big")


@lru_cache(maxsize=4096)
def position_of_peer(peer_id: str) -> int:
    """Where a peer is."""
    return position(peer_id_bytes(peer_id))


@lru_cache(maxsize=4096)
def peer_id_bytes(peer_id: str) -> bytes:
    """A peer id in its binary form."""
    return base58.decode(peer_id)


def names_of(arch: str) -> tuple[str, ...]:
    """What an architecture is called in keys; the canonical name first."""
    return (arch, *_OTHER_NAMES.get(arch, ()))


def manifest_key(channel: str, arch: str) -> bytes:
    """Under which the URL of a manifest is, as Phase's tools look it up.

    Args:
        channel: a name.
        arch: one of `names_of`.
    """
    return f"/phase/{channel}/{arch}/manifest".encode()


def manifest_url(base: str, channel: str, arch: str) -> bytes:
    """What is there: the bare URL of a gateway's manifest.

    Args:
        base: beginning of the gateway's URLs, `http://host:port`.
        channel: a name.
        arch: one of `names_of`.
    """
    return f"{base}/phase/{channel}/{arch}/manifest.json".encode()


def pair_key(channel: str, arch: str) -> bytes:
    """Under which those are providers who have a manifest of a channel and arch: the multihash of its `manifest_key`.

    Args:
        channel: a name.
        arch: canonical.
    """
    return _SHA256_MULTIHASH + hashlib.sha256(manifest_key(channel, arch)).digest()


def content_key(sha256: str) -> bytes:
    """Under which those are providers who have content: the multihash in its CID.

    Args:
        sha256: of the content, 64 lowercase hex digits.
    """
    return _SHA256_MULTIHASH + bytes.fromhex(check_digest(sha256))
