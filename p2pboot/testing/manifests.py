"""Publishers, and manifests that they sign: fixed keys, fixed times, and every field at the caller's choice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Artifact, Manifest, ManifestBody, compose, sign
from p2pboot.testing.artifacts import PIECE, artifact_of

ALICE, BOB, CAROL, STRANGER = (SecretKey(bytes([number]) * 32) for number in (1, 2, 3, 9))
DAY_S: Final = 86_400
NOW: Final = 1_800_000_000  # later than any release, which is the floor of a verifier's clock
CREATED: Final = NOW - 3600
EXPIRES: Final = NOW + 30 * DAY_S

Artifacts = Mapping[str, bytes] | Iterable[Artifact]


def key_of(name: str) -> SecretKey:
    """Return the key of a made-up node or publisher, the same for the same name."""
    return SecretKey(hashlib.sha256(name.encode()).digest())


def manifest_body(
    artifacts: Artifacts, keys: Sequence[SecretKey] = (ALICE,), *, piece_length: int = PIECE, **said: Any
) -> ManifestBody:
    """Compose a manifest.

    Args:
        artifacts: their content by key, or, where more has to be said of them, the artifacts themselves.
        keys: of those who will sign, the provider first.
        piece_length: bytes a piece, of artifacts that are given by their content.
        said: fields as `compose` takes them, in place of the usual.
    """
    facts: dict[str, Any] = {
        "version": "2025.11.26",
        "manifest_version": 1,
        "channel": "stable",
        "arch": "x86_64",
        "created_at": CREATED,
        "expires_at": EXPIRES,
        "provider_peer_id": keys[0].public.peer_id,
        "provider_name": "test",
        "signers": [key.public.keyid for key in keys],
        **said,
    }
    if isinstance(artifacts, Mapping):
        place = {"channel": facts["channel"], "arch": facts["arch"], "piece_length": piece_length}
        artifacts = [artifact_of(key, data, **place) for key, data in artifacts.items()]
    return compose(artifacts=artifacts, **facts)


def signed_manifest(artifacts: Artifacts, keys: Sequence[SecretKey] = (ALICE,), **said: Any) -> Manifest:
    """Compose a manifest as `manifest_body` does, and have all of them sign it."""
    return Manifest.parse(sign(manifest_body(artifacts, keys, **said), keys))
