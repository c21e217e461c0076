"""Manifests of which only the names of their artifacts matter."""

from collections.abc import Sequence
from typing import Any

from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Manifest, ManifestBody, sign
from p2pboot.core.timestamps import parse_time
from p2pboot.testing.artifacts import artifact_of
from p2pboot.testing.manifests import ALICE, DAY_S, manifest_body

CREATED = parse_time("2025-11-26T12:00:00Z")
EXPIRES = CREATED + 30 * DAY_S


def body(
    signed_by: Sequence[SecretKey] = (ALICE,),
    *,
    keys: Sequence[str] = ("kernel", "initramfs"),
    channel: str = "stable",
    arch: str = "x86_64",
    **changes: Any,
) -> ManifestBody:
    artifacts = changes.pop("artifacts", None) or [
        artifact_of(key, channel=channel, arch=arch) for key in keys
    ]
    facts: dict[str, Any] = {
        "manifest_version": 7,
        "channel": channel,
        "arch": arch,
        "created_at": CREATED,
        "expires_at": EXPIRES,
        "provider_name": "my-provider",
    }
    return manifest_body(artifacts, signed_by, **(facts | changes))


def manifest(signers: Sequence[SecretKey] = (ALICE,), **changes: Any) -> Manifest:
    return Manifest.parse(sign(body(signers, **changes), signers))
