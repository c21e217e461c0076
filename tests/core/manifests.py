"""Manifests for tests: fixed keys, fixed times, everything else at choice."""

import hashlib
from collections.abc import Sequence
from typing import Any

from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Artifact, Manifest, ManifestBody, compose, sign
from p2pboot.core.timestamps import parse_time

ALICE, BOB, CAROL, STRANGER = (SecretKey.from_seed(bytes([byte]) * 32) for byte in (1, 2, 3, 9))
DAY = 86_400
CREATED = parse_time("2025-11-26T12:00:00Z")
EXPIRES = CREATED + 30 * DAY


def artifact(key: str, *, channel: str = "stable", arch: str = "x86_64", **changes: Any) -> Artifact:
    facts: dict[str, Any] = {
        "sha256": hashlib.sha256(key.encode()).hexdigest(),
        "size": 1000,
        "piece_length": 65_536,
        "table_digest": "ab" * 32,
    }
    return Artifact.describe(key, channel=channel, arch=arch, **(facts | changes))


def body(
    signed_by: Sequence[SecretKey] = (ALICE,),
    *,
    keys: Sequence[str] = ("kernel", "initramfs"),
    channel: str = "stable",
    arch: str = "x86_64",
    **changes: Any,
) -> ManifestBody:
    facts: dict[str, Any] = {
        "version": "2025.11.26",
        "manifest_version": 7,
        "channel": channel,
        "arch": arch,
        "created_at": CREATED,
        "expires_at": EXPIRES,
        "artifacts": [artifact(key, channel=channel, arch=arch) for key in keys],
        "provider_peer_id": signed_by[0].public.peer_id,
        "provider_name": "my-provider",
        "signers": [key.public.keyid for key in signed_by],
    }
    return compose(**(facts | changes))


def manifest(signers: Sequence[SecretKey] = (ALICE,), **changes: Any) -> Manifest:
    return Manifest.parse(sign(body(signers, **changes), signers))
