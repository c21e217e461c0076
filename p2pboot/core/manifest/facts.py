"""What a manifest states, as plain values for a JSON document: one form for each fact, whoever tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from p2pboot.core.manifest.candidate import Manifest
from p2pboot.core.timestamps import format_time

_FACTS: Final[Mapping[str, Callable[[Manifest], object]]] = {
    "version": lambda manifest: manifest.version,
    "manifest_version": lambda manifest: manifest.manifest_version,
    "channel": lambda manifest: manifest.channel,
    "arch": lambda manifest: manifest.arch,
    "digest": lambda manifest: manifest.digest,
    "created_at": lambda manifest: format_time(manifest.created_at),
    "expires_at": lambda manifest: format_time(manifest.expires_at),
    "signers": lambda manifest: list(manifest.signers),
    "provider": lambda manifest: {"peer_id": manifest.provider_peer_id, "name": manifest.provider_name},
    "artifacts": lambda manifest: {
        key: {"sha256": artifact.sha256, "size": artifact.size}
        for key, artifact in manifest.artifacts.items()
    },
}


def facts(manifest: Manifest, *names: str) -> dict[str, object]:
    """Return these facts of a manifest, in this order.

    Args:
        manifest: verified or not.
        names: of `version`, `manifest_version`, `channel`, `arch`, `digest`, `created_at`, `expires_at`, `signers`,
            `provider`, `artifacts` (SHA-256 and size by key).

    Raises:
        KeyError: another name.
    """
    return {name: _FACTS[name](manifest) for name in names}
