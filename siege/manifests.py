"""Manifests: the honest publisher's, and others that are made up."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import lru_cache

from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Artifact, compose, sign
from p2pboot.testing.artifacts import artifact_of
from siege.target import ARCH, CHANNEL

_DAY_S = 86_400


def signed(key: SecretKey, version: int, artifacts: Iterable[Artifact], *, channel: str = CHANNEL) -> bytes:
    """A manifest of now."""
    now = int(time.time())
    body = compose(
        version=f"siege-{version}",
        manifest_version=version,
        channel=channel,
        arch=ARCH,
        created_at=now,
        expires_at=now + _DAY_S,
        artifacts=artifacts,
        provider_peer_id=key.public.peer_id,
        provider_name="siege",
        signers=[key.public.keyid],
    )
    return sign(body, [key])


def made_up(key: SecretKey, version: int) -> bytes:
    """A manifest of the honest publisher's channel, by somebody else."""
    return signed(key, version, _small())


@lru_cache
def _small() -> tuple[Artifact, ...]:
    return tuple(artifact_of(name, channel=CHANNEL, arch=ARCH) for name in ("kernel", "initramfs"))
