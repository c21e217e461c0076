"""Manifests for arm64, of samples."""

from __future__ import annotations

from dataclasses import replace

from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Manifest
from p2pboot.core.names import artifact_path
from p2pboot.testing.artifacts import Sample, sample
from p2pboot.testing.manifests import ALICE, CREATED, DAY_S, signed_manifest


def manifest(
    version: int,
    *samples: Sample,
    keys: tuple[SecretKey, ...] = (ALICE,),
    channel: str = "stable",
    created_at: int = CREATED,
    text: str = "2025.11.26",
) -> Manifest:
    """Sign a manifest; kernel and initramfs are made up when no samples are given."""
    chosen = [one.artifact for one in samples or (sample(1, seed=1), sample(2, seed=2, key="initramfs"))]
    return signed_manifest(
        [replace(one, path=artifact_path(channel, "arm64", one.key)) for one in chosen],
        keys,
        version=text,
        manifest_version=version,
        channel=channel,
        arch="arm64",
        created_at=created_at,
        expires_at=created_at + 30 * DAY_S,
    )
